"""Words and numbers of the block, as people read them."""

import re

import pytest

from footfall.display.labels import LABELS, format_number, labels_of
from footfall.http.assets import STATIC
from footfall.model.site_id import SiteId
from footfall.settings.settings import Site


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


def test_the_script_has_the_same_words() -> None:
    """The block is written here or there, and a reader must not see which."""
    script = (STATIC / "footfall.js").read_text(encoding="utf-8")
    for language, labels in LABELS.items():
        words = re.search(rf"\b{language}: {{(.*?)}}", script, re.DOTALL)
        assert words is not None
        assert dict(re.findall(r'(\w+): "([^"]+)"', words[1])) == labels
