"""What a report must mention, at the command line."""

import csv
import io
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from footfall import sql_folder
from footfall.cli.events import print_events
from footfall.model.site_id import SiteId
from footfall.stores.migrations import migrate
from footfall.stores.postgres_store import open_postgres
from tests.cli.conftest import Type
from tests.support.footfall import SITE, settings_for


async def test_events_are_listed_for_a_site_or_for_all(
    redis_url: str, postgres_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A site has its own events and those of the whole installation, in the order in which they began."""
    await migrate(postgres_url, sql_folder())
    settings = settings_for(redis_url, postgres_url, tmp_path)
    site = settings.sites[SITE]
    async with open_postgres(postgres_url) as postgres:
        began, ended = (datetime(2026, 11, 23, 1, minute, tzinfo=UTC) for minute in (0, 2))
        await postgres.record_lasting_event(SiteId("*"), "redis_away", began, ended)
        await postgres.record_event(SITE, "salt_lost", "2026-11-23")
        await postgres.record_event(SiteId("library"), "from_tomorrow", "\x1b[31mred")
    await print_events(settings, site, as_csv=False)
    away, lost = capsys.readouterr().out.splitlines()
    assert "every site  redis_away: Redis took no beacons" in away
    assert "(120 s)" in away
    assert "portal  salt_lost: The key of the visitor hash was lost" in lost
    assert lost.endswith("; 2026-11-23")
    await print_events(settings, None, as_csv=False)
    everything = capsys.readouterr().out
    assert len(everything.splitlines()) == 3
    assert "\x1b" not in everything
    await print_events(settings, site, as_csv=True)
    heading, first, *_ = csv.reader(io.StringIO(capsys.readouterr().out))
    assert heading == ["site", "kind", "detail", "recorded_at", "began", "ended", "running"]
    assert first[:3] == ["*", "redis_away", "2026-11-23T01:00:00Z"]
    assert first[4:] == ["2026-11-23T01:00:00+00:00", "2026-11-23T01:02:00+00:00", "False"]


async def test_what_goes_on_has_a_beginning_and_no_end(
    redis_url: str, postgres_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An operator looks during the outage, and what no worker has said for some minutes is over."""
    await migrate(postgres_url, sql_folder())
    settings = settings_for(redis_url, postgres_url, tmp_path)
    now = datetime.now(UTC)
    async with open_postgres(postgres_url) as postgres:
        await postgres.record_running_event(SITE, "redis_away", now - timedelta(minutes=9), now - timedelta(minutes=1))
        await postgres.record_running_event(SITE, "spool_full", now - timedelta(hours=2), now - timedelta(hours=1))
    await print_events(settings, settings.sites[SITE], as_csv=False)
    ended, running = capsys.readouterr().out.splitlines()
    assert "(3,600 s)" in ended
    assert running.startswith("since ")
    assert "still running  portal  redis_away" in running
    await print_events(settings, settings.sites[SITE], as_csv=True)
    assert [row[5:] for row in csv.reader(io.StringIO(capsys.readouterr().out))][2] == ["", "True"]


def test_no_events_are_good_news(environ: dict[str, str], typed: Type) -> None:
    """An empty answer would leave it open whether the command looked at all."""
    assert typed("events", "portal", environ=environ) == (
        0,
        "No events of portal: nothing happened that a report must mention.\n",
    )
    assert typed("events", "library", environ=environ)[0] == 2
