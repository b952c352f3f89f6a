"""The report at the command line, and the token that opens it."""

import csv
import io
import json
from collections.abc import AsyncIterator
from datetime import date, datetime, timedelta
from pathlib import Path

import asyncpg
import pytest

from footfall.cli.report import ReportChoices, make_report, make_token, revoke_token
from footfall.display.report_words import day_name
from footfall.errors import Stop
from footfall.model.report_period import By
from footfall.settings.settings import Settings, Site
from tests.cli.conftest import Type
from tests.support.footfall import SITE, VIETNAM, FakeClock, Footfall, running, settings_for
from tests.support.history import add_days, every_day

TODAY = datetime.now(VIETNAM).date()
MONTH_AGO = TODAY - timedelta(days=29)
YESTERDAY = TODAY - timedelta(days=1)


@pytest.fixture
def settings(redis_url: str, postgres_url: str, tmp_path: Path) -> Settings:
    """The settings of the worker and of the commands."""
    return settings_for(redis_url, postgres_url, tmp_path, portal={"reports": "token"})


@pytest.fixture
async def footfall(settings: Settings, postgres_url: str) -> AsyncIterator[Footfall]:
    """A worker at the time of the commands, with a month behind it."""
    async with running(settings, clock=FakeClock(datetime.now(VIETNAM))) as footfall:
        connection = await asyncpg.connect(postgres_url)
        await add_days(connection, every_day(MONTH_AGO, YESTERDAY, 10, 1234))
        await connection.close()
        yield footfall


async def test_the_screen_has_a_line_a_day_with_a_bar_and_what_redis_alone_has(
    footfall: Footfall,
    settings: Settings,
    site: Site,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Who has a terminal only sees the curve too; the open day is copied before."""
    monkeypatch.setenv("COLUMNS", "120")
    await footfall.see(page="/tin/1")
    await footfall.see(address="203.0.113.8", page="/tin/1")
    await make_report(settings, site, ReportChoices())
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Cổng thử (portal)"
    assert lines[1].endswith(f"by day, counted since {MONTH_AGO}")
    rows = [line for line in lines if "█" in line or "▌" in line or "▏" in line]
    assert len(rows) == 30
    assert rows[0].split()[:5] == [str(MONTH_AGO.day), f"{MONTH_AGO:%b}", str(MONTH_AGO.year), "≈", "10"]
    assert rows[-1].split()[3:5] == ["2", "2"]
    assert rows[0].count("█") > 4 * rows[-1].count("█")
    assert [line.split() for line in lines if line.startswith("sum")] == [
        ["sum", "of", "the", "days", "≈", "292", f"{29 * 1234 + 2:,d}"]
    ]
    assert "           2  /tin/1" in lines


async def test_csv_and_json_are_those_of_the_service(
    footfall: Footfall, settings: Settings, site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    """A script in the night reads what the page shows."""
    await footfall.see()
    await make_report(settings, site, ReportChoices(MONTH_AGO, YESTERDAY, By.YEAR, as_csv=True))
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert sum(int(row["views"]) for row in rows) == 29 * 1234
    await make_report(settings, site, ReportChoices(by=By.MONTH, first=MONTH_AGO, as_json=True))
    report = json.loads(capsys.readouterr().out)
    assert report["sum"]["views"] == sum(period["views"] for period in report["periods"]) == 29 * 1234 + 1
    assert (report["now"]["today"], report["now"]["online"]) == (1, None)


async def test_the_page_is_one_file_without_links(
    footfall: Footfall, settings: Settings, site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is handed in as an attachment: a link in it would lead nowhere."""
    page = tmp_path / "report.html"
    await make_report(settings, site, ReportChoices(page=page))
    html = page.read_text(encoding="utf-8")
    assert "<h1>Cổng thử</h1>" in html
    assert not any(word in html for word in ('href="?', "<form", "<script", "<nav"))
    assert str(page) in capsys.readouterr().out
    with pytest.raises(Stop, match="cannot be written"):
        await make_report(settings, site, ReportChoices(page=tmp_path / "no" / "folder.html"))


async def test_days_that_cannot_be_are_named(footfall: Footfall, settings: Settings, site: Site) -> None:
    """Nothing was read before."""
    with pytest.raises(Stop, match="is after to"):
        await make_report(settings, site, ReportChoices(date(2026, 3, 1), date(2026, 2, 1)))


async def test_a_portal_without_numbers_says_so(
    settings: Settings, site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    """An empty table would look like a defect."""
    async with running(settings, clock=FakeClock(datetime.now(VIETNAM))):
        await make_report(settings, site, ReportChoices())
    output = capsys.readouterr().out
    assert "There are no numbers in these days." in output
    assert "No numbers:" not in output


async def test_the_day_that_goes_on_is_no_gap(
    footfall: Footfall, settings: Settings, site: Site, postgres_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the night nothing of it is known yet; a day that is over and has no numbers is one."""
    connection = await asyncpg.connect(postgres_url)
    await connection.execute("DELETE FROM footfall.site_day WHERE day = $1", YESTERDAY - timedelta(days=3))
    await connection.close()
    await make_report(settings, site, ReportChoices())
    gaps = [line for line in capsys.readouterr().out.splitlines() if line.endswith(": No numbers")]
    assert gaps == [f"{day_name(YESTERDAY - timedelta(days=3), 'en')}: No numbers"]


async def test_a_token_is_shown_once_replaces_the_former_and_can_be_revoked(
    footfall: Footfall, settings: Settings, site: Site, postgres_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The stores keep its hash alone, so who reads the database cannot open the report in another's name."""

    async def status(token: str) -> int:
        answer = await footfall.public.get(f"/reports/{SITE}.csv", headers={"Authorization": f"Bearer {token}"})
        return answer.status

    tokens = []
    for _ in range(2):
        await make_token(settings, site)
        tokens.append(capsys.readouterr().out.strip())
    assert [await status(token) for token in tokens] == [401, 200]
    connection = await asyncpg.connect(postgres_url)
    stored = await connection.fetch("SELECT * FROM footfall.report_token")
    await connection.close()
    assert len(stored) == 1
    assert tokens[1] not in str(stored)
    for words in ("opens nothing any more", "has no token"):
        await revoke_token(settings, site)
        assert words in capsys.readouterr().out
        assert await status(tokens[1]) == 401


def test_the_commands_are_typed(typed: Type, environ: dict[str, str]) -> None:
    """What the help text promises is what is read."""
    status, output = typed("report", "portal", "--from", "2026-01-01", "--by", "month", environ=environ)
    assert (status, "There are no numbers" in output) == (0, True)
    status, output = typed("report", "portal", "--csv", "--json", environ=environ)
    assert (status, "choose one of --csv, --json and --html" in output) == (2, True)
    status, output = typed("report-token", "portal", environ=environ)
    assert status == 0
    assert 'set reports = "token"' in output
    assert typed("report-token", "portal", "--revoke", environ=environ)[0] == 0
    assert typed("report", "nobody", environ=environ)[0] == 2
