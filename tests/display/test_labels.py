"""Words and numbers of the block, as people read them."""

import json
import re

import pytest

from footfall.display.labels import LABELS, OF_THE_SCRIPT, format_number, labels_for_script, labels_of, words_for_script
from footfall.display.report_words import languages_of_report
from footfall.http.assets import STATIC, load_assets
from footfall.model.site_id import SiteId
from footfall.settings.settings import LANGUAGES, Site


@pytest.mark.parametrize(
    ("number", "vi", "en"),
    [
        (0, "0", "0"),
        (999, "999", "999"),
        (1373, "1.373", "1,373"),
        (2**53 - 1, "9.007.199.254.740.991", "9,007,199,254,740,991"),
        (-500, "-500", "-500"),
        (None, "–", "–"),
    ],
)
def test_numbers_are_written_as_people_read_them(number: int | None, vi: str, en: str) -> None:
    """The same digits as the script writes; unknown is never 0."""
    assert (format_number(number, "vi"), format_number(number, "en")) == (vi, en)


def test_a_sites_own_words_are_used_in_its_own_language_only() -> None:
    """Settings hold one wording; an English page must not get the Vietnamese one."""
    site = Site(id=SiteId("a"), name="A", hosts=("a.vn",), labels={"today": "Khách hôm nay"})
    assert labels_of(site, "vi") == {**LABELS["vi"], "today": "Khách hôm nay"}
    assert labels_of(site, "en") == LABELS["en"]


def test_every_language_has_every_word() -> None:
    """A portal in Lao must not have one English line."""
    assert tuple(LABELS) == LANGUAGES
    assert {frozenset(labels) for labels in LABELS.values()} == {frozenset(LABELS["vi"])}
    assert all(len(set(labels.values())) == len(labels) for labels in LABELS.values())


def test_other_languages_write_thousands_with_their_own_sign() -> None:
    """The script lets the browser do it; the image and the fragment must look the same."""
    written = [format_number(1_373_876, language) for language in ("zh", "lo", "km", "fr", "de")]
    assert written == ["1,373,876", "1.373.876", "1,373,876", "1\u202f373\u202f876", "1\u202f373\u202f876"]


def test_a_site_may_speak_any_language_with_words_of_its_own() -> None:
    """`labels_in` is for pages in another language than the site's; what it leaves out is built in, or English."""
    site = Site(
        id=SiteId("a"),
        name="A",
        hosts=("a.vn",),
        language="zh",
        labels={"today": "今天"},
        labels_in={"de": {"today": "Heute"}},
    )
    assert labels_of(site, "zh") == {**LABELS["zh"], "today": "今天"}
    assert labels_of(site, "de") == {**LABELS["en"], "today": "Heute"}
    assert labels_for_script(site) == labels_of(site, "zh")
    assert words_for_script(site) == {"de": labels_of(site, "de")}
    assert labels_for_script(Site(id=SiteId("a"), name="A", hosts=("a.vn",))) == {}


def test_the_script_gets_the_same_words() -> None:
    """The block is written here or there, and a reader must not see which."""
    assert json.loads(load_assets()["/footfall-words.json"].body) == {name: LABELS[name] for name in OF_THE_SCRIPT}
    script = (STATIC / "footfall.js").read_text(encoding="utf-8")
    names = re.search(r"const names = \((.*?)\)\.split", script, re.DOTALL)
    assert names is not None
    assert ["heading", *"".join(re.findall('"(.*?)"', names[1])).split()] == list(LABELS["en"])


def test_a_report_of_a_site_in_another_language_is_in_english() -> None:
    """Reports speak Vietnamese and English; their words for a third language are not there to be shown."""
    sites = [Site(id=SiteId("a"), name="A", hosts=("a.vn",), language=language) for language in ("vi", "zh")]
    assert [languages_of_report(site) for site in sites] == [("vi", "en"), ("en", "vi")]
