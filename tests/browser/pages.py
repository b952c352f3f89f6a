"""What a test does to a page: read a number, wait for requests, let time pass, hide the page."""

from playwright.async_api import Locator, Page

from tests.browser.relay import NOTHING, Relay

STEP_S = 10
LOAD_IMAGE = """address => new Promise(done => {
  const image = document.createElement("img");
  image.onload = image.onerror = done;
  image.src = address + Math.random();
})"""

SHIFT = """() => new Promise(done => {
  let shift = 0;
  const observer = new PerformanceObserver(list => list.getEntries().forEach(entry => { shift += entry.value }));
  observer.observe({ type: "layout-shift", buffered: true });
  requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(() => done(shift), 100)));
})"""

TURN = """hidden => {
  const state = hidden ? "hidden" : "visible";
  Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
  Object.defineProperty(document, "visibilityState", { value: state, configurable: true });
  document.dispatchEvent(new Event("visibilitychange"));
}"""


def number(page: Page, name: str) -> Locator:
    """Return the number `name` of the block that tests paste."""
    return page.locator(f'[data-count="{name}"]')


async def settle(page: Page, relay: Relay) -> None:
    """Wait until Footfall has received and answered all requests of the page, by sending one more behind them."""
    for _ in range(2):
        await page.evaluate(LOAD_IMAGE, f"{relay.url}/{NOTHING}?")
        await relay.idle()


async def let_pass(page: Page, relay: Relay, seconds: int) -> None:
    """Move the page's clock on, in steps shorter than the script's patience with the network."""
    await settle(page, relay)
    while seconds > 0:
        await page.clock.run_for(1000 * min(seconds, STEP_S))
        await settle(page, relay)
        seconds -= STEP_S


async def hide(page: Page) -> None:
    """Put another tab in front."""
    await page.evaluate(TURN, True)


async def show(page: Page) -> None:
    """Bring the tab to the front again."""
    await page.evaluate(TURN, False)


async def turn_clock(page: Page, seconds: int) -> None:
    """Change the time that the page sees, while its timers continue."""
    now_s = await page.evaluate("Date.now() / 1000")
    await page.clock.set_system_time(now_s + seconds)


async def layout_shift(page: Page) -> float:
    """Return how far the page's layout has shifted so far; the page must have a real clock."""
    return float(await page.evaluate(SHIFT))
