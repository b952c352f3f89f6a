"""The page of the demo portal that shows every style of the block, and builds the lines to paste."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from html import escape
from types import MappingProxyType

from aiohttp import web

from footfall.display.block import STYLES, Preset, block, snippet
from footfall.display.labels import labels_of, languages_of
from footfall.http.choices import chosen, color_in, language_in, numbers_in
from footfall.http.responses import Reply, lines
from footfall.model.counts import NUMBERS
from footfall.settings.settings import DEMO_SITE, Settings, Site

HEADINGS = ("0", "2", "3", "4", "5", "6")
WORDS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "vi": {
            "plain": "Chữ thường, không cần tệp kiểu",
            "list": "Danh sách",
            "line": "Một dòng",
            "cards": "Thẻ",
            "digits": "Ô số",
            "image": "Ảnh, không cần mã",
            "result": "Những dòng để dán",
            "result_id": "ket-qua",
            "bold": "chữ đậm",
        },
        "en": {
            "plain": "Plain text, without a style sheet",
            "list": "List",
            "line": "One line",
            "cards": "Cards",
            "digits": "Boxes of digits",
            "image": "Image, without a script",
            "result": "The lines to paste",
            "result_id": "result",
            "bold": "bold text",
        },
    }
)


@dataclass(frozen=True, slots=True)
class StylesPage:
    """The page in one language: `render` gives the whole page around the parts that it names."""

    settings: Settings
    language: str
    render: Callable[[Mapping[str, str]], str]
    head: Mapping[str, str]

    def handler(self) -> Callable[[web.Request], Awaitable[Reply]]:
        """Return the handler of its route."""
        head = lines({"Content-Type": "text/html; charset=utf-8", **self.head})

        async def get_styles(request: web.Request) -> Reply:
            """Return the gallery and, where the form was sent, what it asks for."""
            return Reply(200, head, self.render(self._parts(request)).encode())

        return get_styles

    def _parts(self, request: web.Request) -> Mapping[str, str]:
        """Return the parts of the page; raises Refused(BAD_FIELD) for a choice that the form does not offer."""
        words, sites = WORDS[self.language], self.settings.sites
        site = sites[chosen(request, "site", (DEMO_SITE, *sites))]
        asked = Preset(
            chosen(request, "style", ("list", *STYLES)),
            language_in(request, site) if request.query else self.language,
            numbers_in(request),
            int(chosen(request, "heading", HEADINGS)),
            color_in(request),
        )
        label = labels_of(sites[DEMO_SITE], self.language)
        shown = asked.show or site.show
        return {
            "sites": _options({name: name for name in sites}, site.id),
            "languages": _options({name: name for name in languages_of(site)}, asked.language),
            "styles": _options({style: words[style] for style in STYLES}, asked.style),
            "headings": _options({"0": words["bold"], **{n: f"h{n}" for n in HEADINGS[1:]}}, str(asked.heading)),
            "numbers": " ".join(
                f'<label><input type="checkbox" name="show" value="{name}"{" checked" * (name in shown)}> '
                f"{escape(label[name])}</label>"
                for name in NUMBERS
            ),
            "color": asked.color,
            "result": self._sample(words["result_id"], words["result"], site, asked) if request.query else "",
            "gallery": "\n".join(
                self._sample(style, words[style], sites[DEMO_SITE], Preset(style, self.language)) for style in STYLES
            ),
        }

    def _sample(self, name: str, title: str, site: Site, preset: Preset) -> str:
        """Return a block on white and on navy, filled by the script of this page, and the lines that make it."""
        looks = "".join(
            f'<div class="sample {ground}">{_shown(self.settings.sites[DEMO_SITE], preset)}</div>'
            for ground in ("white", "navy")
        )
        code = snippet(site, site.public_url or self.settings.public_url, preset)
        return (
            f'      <section aria-labelledby="{name}">\n        <h2 id="{name}">{escape(title)}</h2>\n'
            f'        <div class="samples">{looks}</div>\n'
            f'        <textarea class="code" rows="{code.count(chr(10))}" readonly spellcheck="false" wrap="off"'
            f' aria-label="{escape(title)}: HTML">{escape(code)}</textarea>\n      </section>'
        )


def _shown(site: Site, preset: Preset) -> str:
    """Return what of a snippet is shown; the view of this page is counted by the script in its foot."""
    if preset.style == "image":
        return snippet(site, "", preset).replace("&amp;count=1", "", 1)
    shown = block(site, preset)
    # This page has the style sheet, which the plain lines are to look right without.
    return shown.replace('class="footfall"', 'class="without-sheet"') if preset.style == "plain" else shown


def _options(texts: Mapping[str, str], chosen_one: str) -> str:
    return "".join(
        f'<option value="{escape(value)}"{" selected" * (value == chosen_one)}>{escape(text)}</option>'
        for value, text in texts.items()
    )
