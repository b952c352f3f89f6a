"""One Footfall and one Chromium for the session; for each test a site, a portal, a relay and a context."""

import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import ClientSession
from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Page, async_playwright, expect

from tests.browser.engines import Engine, missing, running_engine
from tests.browser.portal import BLOCK, Portal, html, running_portal, script_line
from tests.browser.relay import Relay, running_relay
from tests.browser.tabs import Tabs, running_tabs
from tests.support.own_footfall import running
from tests.support.patience import PATIENCE_S

NewContext = Callable[..., Awaitable[BrowserContext]]
NewSite = Callable[[str], str]
ReadCounts = Callable[[str], Awaitable[dict[str, Any]]]

HERE = Path(__file__).parent
# A container may have a small /dev/shm, and Chromium crashes in a full one.
LAUNCH = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-dev-shm-usage"]
NOT_A_ROBOT = "--disable-blink-features=AutomationControlled"
AGENT = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36"
# Console messages of the browser itself, whatever request caused them.
OF_THE_NETWORK = ("Failed to load resource", "Content Security Policy", "net::ERR_", "blocked by CORS policy")

# Each test counts on a fresh site: kind of site -> how many sites, and their settings.
KINDS = {
    "plain": (300, ""),
    "english": (30, 'language = "en"'),
    "browser": (30, 'visitor_id = "browser"'),
    "articles": (10, 'page_query = ["id", "ItemID"]'),
    "reported": (30, 'reports = "public"'),
    "guarded": (10, 'reports = "token"'),
    "chinese": (10, 'language = "zh"\nlabels_in = { de = { today = "Heute", heading = "Besucher" } }'),
    "labelled": (30, 'labels = { today = "Khách hôm nay", heading = "Lượt truy cập" }'),
}


expect.set_options(timeout=PATIENCE_S * 1000)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All of these tests share a loop: a browser cannot move from one loop to another."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


def settings() -> str:
    """Write the operator's settings file: the demo's site and one for every test."""
    sites = ['[sites.portal]\nname = "Demo"\nhosts = ["127.0.0.1", "localhost"]\nreports = "public"']
    for kind, (number, line) in KINDS.items():
        sites += [
            f'[sites.{kind}-{i}]\nname = "{kind}"\nhosts = ["localhost", "file://"]\n{line}' for i in range(number)
        ]
    return "\n".join([*sites, "[limits]\nenabled = false\n"])


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def service_url(servers_folder: Path, chromium_path: str) -> AsyncIterator[str]:
    """Start a Footfall as an operator does, unless there is no browser; yield its URL."""
    folder = servers_folder / "browser"
    folder.mkdir()
    folder.chmod(0o711)
    file = folder / "footfall.toml"
    file.write_text(settings())
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("FOOTFALL_")}
    environ = inherited | {
        "FOOTFALL_CONFIG": str(file),
        "FOOTFALL_DATA_DIR": str(folder / "data"),
        "FOOTFALL_LISTEN": "127.0.0.1:0",
        "FOOTFALL_OPS_LISTEN": "127.0.0.1:0",
        "PYTHONUNBUFFERED": "1",
    }
    command = (sys.executable, "-m", "footfall", "serve", "--embedded", "--demo")
    async with running(*command, environ=environ) as url:
        yield url


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser(chromium_path: str) -> AsyncIterator[Browser]:
    """Start Chromium without the marks of automation, by which Footfall would take it for a robot."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=chromium_path,
            args=[*LAUNCH, NOT_A_ROBOT],
            ignore_default_args=["--disable-back-forward-cache"],
        )
        yield browser
        await browser.close()


@pytest.fixture(scope="session")
def site_numbers() -> dict[str, Iterator[int]]:
    """Return how many sites of each kind the tests have used."""
    return {kind: count() for kind in KINDS}


@pytest.fixture
def new_site(site_numbers: dict[str, Iterator[int]]) -> NewSite:
    """Return a function that gives the id of an unused site of a kind."""
    return lambda kind: f"{kind}-{next(site_numbers[kind])}"


@pytest.fixture
def site(new_site: NewSite) -> str:
    """Return the id of an unused site."""
    return new_site("plain")


@pytest_asyncio.fixture(loop_scope="session")
async def portal() -> AsyncIterator[Portal]:
    """Serve the pages."""
    async with running_portal() as portal:
        yield portal


@pytest_asyncio.fixture(loop_scope="session")
async def relay(service_url: str) -> AsyncIterator[Relay]:
    """Run the relay between browser and Footfall."""
    async with running_relay(service_url) as relay:
        yield relay


@pytest.fixture
def address(portal: Portal, relay: Relay, site: str) -> str:
    """Return the page of most tests: the block and the script line, at every path of the portal."""
    return portal.put("*", html(BLOCK, script_line(relay.url, site)))


@pytest.fixture
def counts(service_url: str) -> ReadCounts:
    """Return a function that reads Footfall's counts, past the relay."""

    async def read(site: str) -> dict[str, Any]:
        async with (
            ClientSession() as session,
            session.get(f"{service_url}/counts", params={"site": site}) as answer,
        ):
            assert answer.status == 200
            numbers: dict[str, Any] = await answer.json()
            return numbers

    return read


@pytest.fixture
def warnings() -> list[str]:
    """Return the script's warnings so far; a test that expects some takes them out."""
    return []


@pytest_asyncio.fixture(loop_scope="session")
async def new_context(browser: Browser, warnings: list[str]) -> AsyncIterator[NewContext]:
    """Return a function that makes visitors, each a browser profile; a page's error or message fails the test."""
    output: list[str] = []
    contexts: list[BrowserContext] = []

    def note(message: ConsoleMessage) -> None:
        if message.type == "warning" and message.text.startswith("Footfall: "):
            warnings.append(message.text.removeprefix("Footfall: "))
        elif not any(words in message.text for words in OF_THE_NETWORK):
            output.append(message.text)

    async def make(**options: Any) -> BrowserContext:
        context = await browser.new_context(**{"user_agent": AGENT, **options})
        context.on("console", note)
        context.on("weberror", lambda error: output.append(str(error.error)))
        contexts.append(context)
        return context

    yield make
    for context in contexts:
        await context.close()
    assert (output, warnings) == ([], [])


@pytest_asyncio.fixture(loop_scope="session")
async def context(new_context: NewContext) -> BrowserContext:
    """Return one visitor."""
    return await new_context()


@pytest_asyncio.fixture(loop_scope="session")
async def page(context: BrowserContext) -> Page:
    """Return a tab of that visitor; the test moves its clock with `page.clock`."""
    page = await context.new_page()
    await page.clock.install()
    return page


@pytest_asyncio.fixture(loop_scope="session")
async def tabs(chromium_path: str) -> AsyncIterator[Tabs]:
    """Return tabs that can be hidden and prerendered; their clock is the real one."""
    arguments = [*LAUNCH, NOT_A_ROBOT, f"--user-agent={AGENT}", "--no-first-run"]
    async with running_tabs(chromium_path, arguments) as tabs:
        yield tabs


@pytest_asyncio.fixture(scope="session", loop_scope="session", params=["firefox", "webkit"])
async def engine(request: pytest.FixtureRequest) -> AsyncIterator[Engine]:
    """Start each engine once."""
    if program := missing(request.param):
        pytest.skip(f"{program} is not installed")
    async with running_engine(request.param) as engine:
        yield engine
