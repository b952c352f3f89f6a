"""What the log says of an outage of Redis, of many sites."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import cast

import pytest
from prometheus_client import CollectorRegistry

from footfall.delivery.outage import SITES_NOTED_MAX, Outage
from footfall.metrics.metrics import Metrics
from footfall.model.availability import Away
from footfall.model.site_id import SiteId
from footfall.stores.postgres_store import PostgresStore
from footfall.sync.event_book import EVERY_SITE, EventBook
from tests.support.footfall import FakeClock

SITES = [SiteId(f"s{number:03}") for number in range(104)]
REFUSED = "redis: does not answer: connection refused"
FULL = "redis: is full"


@dataclass
class Log:
    """An outage that a test moves on, and the lines that it wrote."""

    caplog: pytest.LogCaptureFixture
    clock: FakeClock = field(default_factory=FakeClock)

    def __post_init__(self) -> None:
        self.metrics = Metrics(CollectorRegistry())
        self.book = EventBook(cast("PostgresStore", None), self.metrics, self.clock)
        self.outage = Outage(self.book, self.clock, self.clock.monotonic)
        self.caplog.set_level(logging.INFO, "footfall.delivery.outage")

    @property
    def noted(self) -> float:
        """How many outages a report will mention."""
        return self.metrics.registry.get_sample_value("footfall_events_total", {"kind": "redis_away"}) or 0.0

    @property
    def running(self) -> dict[SiteId, float]:
        """Which sites a report will say to be away still, and for how long."""
        return {site_id: self.clock() - since_s for (_, site_id), since_s in self.book.running.items()}

    def look(self, sites: Iterable[SiteId], why: str = REFUSED, after_s: float = 0.5) -> list[str]:
        """Let a step see these sites away; return the new lines."""
        self.caplog.clear()
        self.outage.look({site: Away(self.clock(), why) for site in sites})
        self.clock.advance(after_s)
        return [record.getMessage() for record in self.caplog.records]


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Log:
    """Return the log of a worker whose sites are well."""
    return Log(caplog)


def test_104_sites_are_one_line_when_it_begins_and_one_when_it_is_over(log: Log) -> None:
    """An operator reads the log of an outage; 208 lines hide the one that matters."""
    assert log.look([]) == []
    (line,) = log.look(SITES, after_s=30)
    ten = ",".join(SITES[:10])
    assert line == f"Redis takes no beacons; they go to the disk. sites={ten} and 94 more error={REFUSED}"
    assert log.look(SITES, after_s=90) == []
    (line,) = log.look([])
    assert line.startswith("Redis takes beacons again. sites=s000,")
    assert line.endswith(" and 94 more away_s=120 still_away=0")
    assert log.look([]) == []


def test_a_site_that_finds_out_later_belongs_to_the_same_outage(log: Log) -> None:
    """Each site notices with its own next beacon, over minutes."""
    assert len(log.look(SITES[:1], after_s=100)) == 1
    for number in range(2, 100, 7):
        assert log.look(SITES[:number], after_s=100) == []
    (line,) = log.look([])
    assert " and 83 more " in line


def test_another_cause_is_another_line_and_a_site_that_stays_away_is_counted(log: Log) -> None:
    """One stuck site must not hide behind the outage that is over."""
    assert len(log.look(SITES[:2], after_s=100)) == 1
    log.caplog.clear()
    log.outage.look({SITES[0]: Away(0, REFUSED), SITES[2]: Away(0, FULL)})
    lines = [record.getMessage() for record in log.caplog.records]
    assert lines[0].endswith("still_away=2")
    assert lines[1].endswith("sites=s002 error=redis: is full")


def test_an_outage_that_comes_and_goes_is_two_lines_a_minute(log: Log) -> None:
    """A Redis that is loading its data takes and refuses in turn."""
    lines = [line for _ in range(30) for sites in (SITES, []) for line in log.look(sites)]
    assert len(lines) == 2
    log.clock.advance(60)
    assert len(log.look(SITES)) == 1
    assert len(log.look([])) == 1


def test_the_end_of_an_outage_is_an_event_of_its_sites_or_of_all(log: Log) -> None:
    """A report of one portal must not have a thousand lines because Redis was away for all of them."""
    log.look(SITES[:3])
    assert log.noted == 0
    log.look(SITES[:1])
    assert log.noted == 2
    log.look(SITES[: SITES_NOTED_MAX + 1], after_s=30)
    log.look([])
    assert log.noted == 3
    log.look(SITES[:1])
    log.outage.close()
    assert log.noted == 4
    log.outage.close()
    assert log.noted == 4


def test_what_goes_on_is_noted_for_its_sites_or_for_all(log: Log) -> None:
    """It is noted from its beginning on, in the same way as its end."""
    log.look(SITES[:2], after_s=30)
    log.look(SITES[1:3])
    assert log.running == {SITES[1]: 30.5, SITES[2]: 0.5}
    log.look(SITES[: SITES_NOTED_MAX + 1])
    assert log.running == {EVERY_SITE: 31.0}
    log.outage.close()
    assert log.running == {}
