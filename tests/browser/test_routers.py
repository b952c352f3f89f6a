"""Pages that a program loads and puts in place: real Turbo, htmx, React Router and Vue Router."""

from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from footfall.display.block import snippet
from footfall.model.site_id import SiteId
from footfall.settings.settings import Site
from tests.browser.conftest import ReadCounts
from tests.browser.pages import settle
from tests.browser.portal import Portal, html
from tests.browser.relay import Relay

LOADERS = {
    "turbo": ("@hotwired/turbo/dist/turbo.es2017-umd.js", ""),
    "htmx": ("htmx.org/dist/htmx.min.js", 'hx-boost="true"'),
}
PATHS = ("/1", "/2", "/3", "/4")
LINKS = "".join(f'<a href="{path}">{path}</a> ' for path in PATHS)


@pytest.fixture
def pasted(relay: Relay, site: str) -> str:
    """Return what the webmaster pasted."""
    return snippet(Site(id=SiteId(site), name="Portal", hosts=("localhost",)), relay.url)


@pytest.mark.parametrize("loader", LOADERS)
async def test_a_page_that_a_program_fetches_and_puts_in_place_is_one_view(  # noqa: PLR0913 (fixtures)
    page: Page,
    portal: Portal,
    relay: Relay,
    counts: ReadCounts,
    npm_packages: Path,
    pasted: str,
    site: str,
    loader: str,
) -> None:
    """Without script a parser makes elements of what is in noscript, and a pixel there would count too."""
    file, attribute = LOADERS[loader]
    portal.put("/loader.js", (npm_packages / file).read_text())
    head = '<script src="/loader.js"></script>'
    for path in PATHS:
        portal.put(path, html(f"<div {attribute}>{LINKS}</div><h1>{path}</h1>", pasted, head=head))
    await page.goto(portal.url + PATHS[0])
    await relay.passed(1)
    for views, path in enumerate(PATHS[1:], start=2):
        await page.click(f'a[href="{path}"]')
        await expect(page.locator("h1")).to_have_text(path)
        await relay.passed(views)
    await settle(page, relay)
    assert portal.asked.count("/loader.js") == 1, "no page was loaded by the browser"
    assert [(beacon.kind, beacon.body["page"]) for beacon in relay.beacons] == [("view", path) for path in PATHS]
    assert (await counts(site))["views_today"] == len(PATHS)


@pytest.mark.parametrize(
    "how",
    [
        pytest.param("template.innerHTML = text; document.body.append(template.content)", id="template"),
        pytest.param(
            "document.body.append(...new DOMParser().parseFromString(text, 'text/html').body.childNodes)", id="parser"
        ),
    ],
)
async def test_the_pasted_lines_in_markup_that_is_parsed_without_script_count_nothing(
    page: Page, portal: Portal, relay: Relay, pasted: str, how: str
) -> None:
    """Frameworks of many kinds do this; a script that arrives so does not run, and neither may the image."""
    await page.goto(portal.put("*", html("<p>Text</p>")))
    await page.evaluate(f"text => {{ const template = document.createElement('template'); {how} }}", pasted)
    assert await page.locator("noscript img").count() == 1, "the image became an element of the page"
    await page.evaluate("scrollTo(0, document.body.scrollHeight)")
    await settle(page, relay)
    assert relay.kinds == []


ROUTERS = {
    "vue": (
        ("vue/dist/vue.global.prod.js", "vue-router/dist/vue-router.global.prod.js"),
        """const at = path => ({ path, component: { render: () => Vue.h('h1', path) } });
        const history = VueRouter.createWebHistory();
        const router = VueRouter.createRouter({ history, routes: ['/1', '/2', '/3', '/4'].map(at) });
        Vue.createApp({ render: () => Vue.h(Vue.resolveComponent('RouterView')) }).use(router).mount('#app');
        window.go = path => router.push(path);""",
    ),
    "react": (
        (
            "react/umd/react.production.min.js",
            "react-dom/umd/react-dom.production.min.js",
            "@remix-run/router/dist/router.umd.min.js",
            "react-router/dist/umd/react-router.production.min.js",
            "react-router-dom/dist/umd/react-router-dom.production.min.js",
        ),
        """const at = path => ({ path, element: React.createElement('h1', null, path) });
        const router = ReactRouterDOM.createBrowserRouter(['/1', '/2', '/3', '/4'].map(at));
        const app = React.createElement(ReactRouterDOM.RouterProvider, { router });
        ReactDOM.createRoot(document.getElementById('app')).render(app);
        window.go = path => router.navigate(path);""",
    ),
    "htmx": (
        ("htmx.org/dist/htmx.min.js",),
        "window.go = path => document.querySelector(`a[href='${path}']`).click();",
    ),
}


@pytest.mark.parametrize("with_navigation", [True, False], ids=["navigation", "history only"])
@pytest.mark.parametrize("router", ROUTERS)
async def test_each_route_of_a_real_router_is_one_view_on_the_way_back_too(  # noqa: PLR0913 (fixtures)
    page: Page, portal: Portal, relay: Relay, npm_packages: Path, pasted: str, router: str, with_navigation: bool
) -> None:
    """Routers replace states before, after and while they move."""
    files, start = ROUTERS[router]
    portal.put("/routers.js", "\n".join((npm_packages / file).read_text() for file in files))
    content = f'<div hx-boost="true">{LINKS}</div>' if router == "htmx" else '<div id="app"></div>'
    head = '<script src="/routers.js"></script>'
    for path in PATHS:
        title = f"<h1>{path}</h1>" if router == "htmx" else ""
        portal.put(path, html(content, title, f"<script>{{{start}}}</script>", pasted, head=head))
    if not with_navigation:
        await page.add_init_script("Object.defineProperty(window, 'navigation', { value: undefined })")
    await page.goto(portal.url + PATHS[0])
    await relay.passed(1)
    for views, path in enumerate(PATHS[1:3], start=2):
        await page.evaluate("path => { go(path) }", path)
        await expect(page.locator("h1")).to_have_text(path)
        await relay.passed(views)
    for views, path in ((4, "/2"), (5, "/1")):
        await page.evaluate("history.back()")
        await expect(page.locator("h1")).to_have_text(path)
        await relay.passed(views)
    await settle(page, relay)
    assert [(beacon.kind, beacon.body["page"]) for beacon in relay.beacons] == [
        ("view", path) for path in ("/1", "/2", "/3", "/2", "/1")
    ]
