"""What a test does to a page: look at a number, wait for its requests, let time pass, hide it."""

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
    """The number called `name` in the block that tests paste."""
    return page.locator(f'[data-count="{name}"]')


async def settle(page: Page, relay: Relay) -> None:
    """Whatever the page had sent has arrived, and its answers have come back: a request behind them all has."""
    for _ in range(2):
        await page.evaluate(LOAD_IMAGE, f"{relay.url}/{NOTHING}?")
        await relay.idle()


async def let_pass(page: Page, relay: Relay, seconds: int) -> None:
    """Move the page's clock on, in steps that are short beside the script's patience with the network."""
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
    """Change what time the page believes it is, while its timers go on as before."""
    now_s = await page.evaluate("Date.now() / 1000")
    await page.clock.set_system_time(now_s + seconds)


async def layout_shift(page: Page) -> float:
    """How much the page has moved under its reader so far; the page must have a real clock."""
    return float(await page.evaluate(SHIFT))
