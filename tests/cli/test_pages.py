"""Pages at the command line: top lists, starting numbers, renamed pages."""

import csv
import io
from datetime import date, datetime, timedelta
from pathlib import Path

import asyncpg
import pytest
from redis.asyncio import Redis

from footfall.cli.pages import Days, ImportChoices, import_pages, move_page, print_pages
from footfall.errors import Stop, StoreUnavailable
from footfall.settings.settings import Settings, Site
from footfall.stores.redis_store import ready_key
from tests.cli.conftest import Type
from tests.support.footfall import SITE, VIETNAM, Footfall

ALL = Days(None, None)
ONCE = ImportChoices()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file of starting numbers."""
    file = tmp_path / "pages.csv"
    file.write_text("Trang;Lượt xem\n/tin/1;1.000\n/tin/2/;5\nhttps://portal.example.vn/tin/2;2\n", encoding="utf-8")
    return file


async def see(footfall: Footfall, *pages: str) -> None:
    """Open pages."""
    for page in pages:
        await footfall.see(page=page)


async def test_the_list_holds_what_redis_alone_has_and_counts_it_once(
    footfall: Footfall, settings: Settings, site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    """The open day is copied before the list is read, as often as the list is asked for."""
    await see(footfall, "/tin/1", "/tin/1", "/tin/2", "/tin/1/index.html", "/đầu")
    for _ in range(2):
        await print_pages(settings, site, ALL, 20, as_csv=False)
        assert capsys.readouterr().out.splitlines() == [
            "views  page of portal, of all time",
            "    3  /tin/1",
            "    1  /tin/2",
            "    1  /đầu",
        ]
        await footfall.services.rollup.step()
    today = datetime.now(VIETNAM).date()
    await print_pages(settings, site, Days(today - timedelta(1), today), 1, as_csv=False)
    assert capsys.readouterr().out.splitlines()[1:] == ["    3  /tin/1"]
    await print_pages(settings, site, Days(None, today - timedelta(2)), 1, as_csv=False)
    assert capsys.readouterr().out == f"portal has no views of pages to {today - timedelta(2)}.\n"


async def test_csv_is_for_spreadsheets(
    footfall: Footfall, settings: Settings, site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    """A page is a text that strangers choose: no cell may begin a formula, none may break the line."""
    await see(footfall, '/a,"b"', "/=1+1", "=cmd|' /C calc'!A1")
    await print_pages(settings, site, ALL, 20, as_csv=True)
    output = capsys.readouterr().out
    rows = list(csv.reader(io.StringIO(output)))
    assert rows[0] == ["page", "views"]
    assert sorted(rows[1:]) == [["/=1+1", "1"], ["/=cmd%7C'%20/C%20calc'!A1", "1"], ["/a,%22b%22", "1"]]


async def test_redis_away_is_said_and_the_rest_is_listed(
    footfall: Footfall, settings: Settings, site: Site, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A list for the boss is wanted on the very day on which something is broken."""
    away = settings.model_copy(update={"redis_url": type(settings.redis_url)("redis://127.0.0.1:1/0")})
    await import_pages(away, site, file, ONCE)
    assert "Redis did not hear of it (redis: " in capsys.readouterr().out
    await print_pages(away, site, ALL, 20, as_csv=False)
    output = capsys.readouterr()
    assert output.out.splitlines()[1:] == ["1,000  /tin/1", "    7  /tin/2"]
    assert output.err.startswith("footfall: the newest views are missing: redis: ")
    gone = settings.model_copy(update={"postgres_url": type(settings.postgres_url)("postgresql://127.0.0.1:1/x")})
    with pytest.raises(StoreUnavailable, match="postgres"):
        await print_pages(gone, site, ALL, 20, as_csv=False)


async def test_a_file_is_imported_once(
    footfall: Footfall, settings: Settings, site: Site, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Starting numbers, as the sum of the lines that name one page, below what is counted from now on."""
    await see(footfall, "/tin/2")
    await import_pages(settings, site, file, ImportChoices(is_dry_run=True))
    said = "2 pages with 1,007 views in 3 lines"
    assert f"{said}; would be imported: 2 pages change, by +1,007 views" in capsys.readouterr().out
    for done in ("imported: 2 pages change, by +1,007 views", "nothing changed: 0 pages change, by +0 views"):
        await import_pages(settings, site, file, ONCE)
        assert f"{said}; {done}" in capsys.readouterr().out
    await print_pages(settings, site, ALL, 20, as_csv=True)
    assert capsys.readouterr().out == "page,views\n/tin/1,1000\n/tin/2,8\n"


async def test_a_corrected_file_replaces_the_first_one_by_its_id_alone(
    footfall: Footfall, settings: Settings, site: Site, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By its content it would be another file, and every page would have twice its views."""
    await import_pages(settings, site, file, ImportChoices("old"))
    file.write_text("/tin/1,900\n", encoding="utf-8")
    with pytest.raises(Stop, match=r"old with 1,007 views, .*Nothing was imported\. To replace .* give --id old;"):
        await import_pages(settings, site, file, ONCE)
    await import_pages(settings, site, file, ImportChoices("old"))
    await import_pages(settings, site, file, ImportChoices("another counter"))
    assert "by -107 views" in capsys.readouterr().out
    await print_pages(settings, site, ALL, 20, as_csv=True)
    assert capsys.readouterr().out == "page,views\n/tin/1,1800\n"


async def test_a_file_with_lines_that_are_not_understood_is_imported_only_without_them(
    footfall: Footfall, settings: Settings, site: Site, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Half an import would look whole."""
    bad = "".join(f"/{number};x\n" for number in range(30))
    file.write_text(file.read_text(encoding="utf-8") + bad, encoding="utf-8")
    with pytest.raises(Stop, match=r"^30 lines of .* were not understood; nothing was imported"):
        await import_pages(settings, site, file, ONCE)
    errors = capsys.readouterr().err.splitlines()
    assert errors[0] == "footfall: line 5: 'x' is not a number of views: a whole number, not below 0"
    assert (len(errors), errors[-1]) == (21, "footfall: and 10 lines more")
    await print_pages(settings, site, ALL, 20, as_csv=True)
    assert capsys.readouterr().out == "page,views\n"
    await import_pages(settings, site, file, ImportChoices(skips_unreadable=True))
    assert "imported: 2 pages change, by +1,007 views" in capsys.readouterr().out


async def test_a_renamed_page_takes_its_views_along(
    footfall: Footfall, settings: Settings, site: Site, redis_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also what comes later under its old name; and what Redis remembers of both is read again."""
    await see(footfall, "/old", "/old", "/new")
    await footfall.services.rollup.step()
    await move_page(settings, site, "/old/", "https://portal.example.vn/new")
    said = capsys.readouterr().out
    assert said.startswith("The views of /old are now shown as those of /new, which has 3;")
    async with Redis.from_url(redis_url) as redis:
        assert not await redis.hexists(ready_key(SITE).replace("ready", "page_totals"), "/new")
    await see(footfall, "/old")
    await print_pages(settings, site, ALL, 20, as_csv=True)
    assert capsys.readouterr().out == "page,views\n/new,4\n"
    await move_page(settings, site, "/old", "/old")
    assert capsys.readouterr().out == "/old is a page of its own again, with 3 views.\n"
    with pytest.raises(Stop, match="'javascript:x' is not a page of portal"):
        await move_page(settings, site, "/old", "javascript:x")


async def test_a_list_of_months_that_the_service_folded_names_what_it_leaves_out(
    footfall: Footfall, settings: Settings, site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    """Half of a folded month is not known, and zero would be wrong."""
    sql = await asyncpg.connect(settings.postgres_url.get_secret_value())
    try:
        for day in ("2020-01-30", "2020-02-01", "2020-02-29"):
            await sql.execute(
                "INSERT INTO footfall.page_day (site, page, day, views, logs)"
                f""" VALUES ('portal', '/tin/1', '{day}', 2, '{{"a": 2}}')"""
            )
        await footfall.services.copy()
        assert await sql.fetchval("SELECT count(*) FROM footfall.page_day") == 0
    finally:
        await sql.close()
    await print_pages(settings, site, ALL, 20, as_csv=True)
    assert capsys.readouterr() == ("page,views\n/tin/1,6\n", "")
    await print_pages(settings, site, Days(date(2020, 1, 15), date(2020, 2, 29)), 20, as_csv=True)
    shown = capsys.readouterr()
    assert shown.out == "page,views\n/tin/1,4\n"
    assert shown.err.startswith("footfall: left out: 2020-01. Of days that are older than pages_kept_days only whole")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param(["pages", "nowhere"], "no site is called nowhere", id="unknown site"),
        pytest.param(["pages", "portal", "--from", "2026-02-30"], "--from", id="no day"),
        pytest.param(["pages", "portal", "--from", "2026-02-02", "--to", "2026-02-01"], "is after --to", id="no days"),
        pytest.param(["pages", "portal", "--top", "0"], "--top", id="no pages"),
        pytest.param(["pages", "portal", "--move", "/a", "/b", "--csv"], "--move stands alone", id="two things asked"),
        pytest.param(["import", "pages", "portal", "none.csv"], "none.csv cannot be read", id="no file"),
        pytest.param(["import", "pages", "portal", "none.csv", "--id", " "], "--id must be a name", id="no id"),
    ],
)
def test_a_command_that_makes_no_sense_is_a_sentence(
    arguments: list[str], words: str, environ: dict[str, str], typed: Type
) -> None:
    """People type these commands a few times a year."""
    status, output = typed(*arguments, environ=environ)
    assert (status, words in output) == (2, True), output


def test_the_commands_work_as_they_are_typed(environ: dict[str, str], typed: Type, file: Path) -> None:
    """Options reach what they are for."""
    assert typed("import", "pages", "portal", str(file), "--id", "old", environ=environ)[0] == 0
    assert typed("pages", "portal", "--move", "/tin/2", "/tin/1", environ=environ)[0] == 0
    assert typed("pages", "portal", "--top", "1", "--csv", environ=environ) == (0, "page,views\n/tin/1,1007\n")
    first = date(2026, 1, 1)
    assert typed("pages", "portal", "--from", str(first), environ=environ) == (
        0,
        f"portal has no views of pages from {first}.\n",
    )
