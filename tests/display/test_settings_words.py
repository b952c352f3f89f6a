"""Settings that change a meaning, as a report says them: no name and no value of the program's."""

from datetime import UTC, datetime
from typing import Any

import pytest

from footfall.display.report_words import LANGUAGES
from footfall.display.settings_words import KIND, details_before, settings_sentence
from footfall.model.event import Event
from footfall.model.site_id import SiteId
from footfall.process.app import MEANING, meaning_of
from footfall.settings.settings import Site

SITE = SiteId("portal")


def site(**settings: Any) -> Site:
    """A portal with these settings."""
    return Site(**{"id": SITE, "name": "Cổng", "hosts": ["portal.example.vn"], **settings})


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize(
    "settings", [{}, {"measure": "views", "visitor_id": "browser", "exact_up_to": 0, "page_query": ["id", "trang"]}]
)
def test_every_setting_has_its_sentence(language: str, settings: dict[str, object]) -> None:
    """A webmaster reads the report, and knows no settings file."""
    sentence = settings_sentence(f"2054-11-25: {meaning_of(site(**settings))}", "", language)
    assert sentence.count("; ") == 6
    assert not any(sign in sentence for sign in (*MEANING, "=", "(", "["))


def test_only_what_changed_is_named_with_what_was_before() -> None:
    """The reader wants to know from when a number means something else, and what it meant."""
    before = f"2054-11-25: {meaning_of(site(hosts=['a.example.vn', 'b.example.vn'], page_query=['id']))}"
    now = f"2054-11-27: {meaning_of(site(hosts=['a.example.vn'], page_query=['id']))}"
    assert settings_sentence(now, before, "en") == (
        "From here on the meaning of the numbers is another one: only pages of a.example.vn are counted"
        " (before: only pages of a.example.vn, b.example.vn are counted)."
    )


def test_a_setting_of_a_newer_footfall_is_named_as_it_is() -> None:
    """A report must not hide what it cannot say."""
    assert settings_sentence("2054-11-27: of_tomorrow=yes", "2054-11-25: x=1", "vi").endswith("of_tomorrow: yes.")


def test_each_event_is_compared_with_the_one_before_it() -> None:
    """Lists have the newest first; the oldest of them follows one from before the report."""
    at = datetime(2054, 11, 25, tzinfo=UTC)
    events = [
        Event(kind, detail, at, None, None, SITE) for kind, detail in ((KIND, "c"), ("started", "x"), (KIND, "b"))
    ]
    assert details_before(events, "a") == {"c": "b", "b": "a"}
