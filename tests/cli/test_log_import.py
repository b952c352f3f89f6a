"""Access logs at the command line: several files at once become days of the portal, each by the rules of a beacon."""

import gzip
import re
from datetime import datetime, timedelta
from pathlib import Path

import asyncpg
import pytest

from footfall.cli.log_import import import_log
from footfall.errors import Stop
from footfall.settings.settings import Settings
from tests.support.footfall import BROWSER, SITE, VIETNAM, FakeClock, running

DAY = datetime.now(VIETNAM).replace(hour=12, minute=0, second=0, microsecond=0) - timedelta(400)


def line(at: datetime, page: str = "/", address: str = "192.0.2.1", agent: str = BROWSER) -> str:
    """Return a line of nginx."""
    return f'{address} - - [{at:%d/%b/%Y:%H:%M:%S %z}] "GET {page} HTTP/1.1" 200 512 "-" "{agent}"\n'


async def test_rotated_logs_become_days(
    settings: Settings, postgres_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A day stands in two files, one of them packed, and the newer one is named first; today is not over."""
    older, newer = tmp_path / "access.log.2.gz", tmp_path / "access.log.1"
    next_day, today = DAY + timedelta(1), datetime.now(VIETNAM)
    older.write_bytes(gzip.compress((line(DAY, "/tin/1") + line(next_day, "/tin/1")).encode()))
    robot = line(next_day, agent="Googlebot/2.1")
    newer.write_text(
        line(next_day, "/tin/2", "192.0.2.2") + "broken\n" + robot + line(next_day, "/tin/2/") + line(today)
    )
    async with running(settings, clock=FakeClock(today)) as footfall:
        await footfall.see()
        for is_dry_run, done in (
            (True, "would be written: 2 days"),
            (False, "written: 2 days"),
            (False, "written: 0 days"),
        ):
            await import_log(settings, settings.sites[SITE], [newer, older], "", is_dry_run=is_dry_run)
            said = capsys.readouterr()
            assert re.match(r"7 lines in \d+\.\d s, [\d,]+ lines/s: 5 page views, 1 lines not understood\n", said.out)
            assert "left out          1  robot\n" in said.out
            assert f"2 days from {DAY.date()} to {next_day.date()} with 3 visitors and 4 views; {done}" in said.out
            assert re.search(r"Memory at its highest: \d+ MiB", said.out)
            assert said.err.splitlines() == [
                f"footfall: {newer} line 2: has another form than the format",
                f"footfall: {today.date()} is left out: it is not over, or was over less than two hours ago",
            ]
        await footfall.services.rollup.step()
        footfall.clock.advance(60)
        assert (await footfall.counts())["total"] == 4
    connection = await asyncpg.connect(postgres_url)
    rows = await connection.fetch("SELECT day, visitors, views, exact FROM footfall.site_day ORDER BY day LIMIT 2")
    assert [tuple(row) for row in rows] == [(DAY.date(), 1, 1, True), (next_day.date(), 2, 3, True)]
    pages = await connection.fetch("SELECT day, page, views FROM footfall.report_page_day ORDER BY day, page")
    assert [tuple(row) for row in pages if row["day"] != today.date()] == [
        (DAY.date(), "/tin/1", 1),
        (next_day.date(), "/tin/1", 1),
        (next_day.date(), "/tin/2", 2),
    ]
    await connection.close()


async def test_a_log_without_a_page_view_is_no_success(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The log of another portal, or of robots alone: the reasons stand above the sentence."""
    log = tmp_path / "access.log"
    log.write_text(line(DAY, agent="Googlebot/2.1"))
    with pytest.raises(Stop, match="no line is a page view of portal; nothing was imported"):
        await import_log(settings, settings.sites[SITE], [log], "", is_dry_run=False)
    assert "left out          1  robot" in capsys.readouterr().out
