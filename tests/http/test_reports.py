"""Reports as their readers get them: the numbers of the rows, the open day from what is live, and who may read them."""

import csv
import io
from collections.abc import AsyncIterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from footfall.embedded.servers import Postgres, Valkey
from tests.support.footfall import SITE, Footfall, running, settings_for
from tests.support.history import Owner, add_days, add_week, every_day
from tests.support.storage import MONDAY, TODAY

DAY = timedelta(days=1)
YESTERDAY = TODAY - DAY


@pytest.fixture
async def footfall(redis_url: str, postgres_url: str, tmp_path: Path) -> AsyncIterator[Footfall]:
    """A worker at a Wednesday noon."""
    async with running(settings_for(redis_url, postgres_url, tmp_path)) as footfall:
        yield footfall


@pytest.fixture
async def owner(footfall: Footfall, postgres_url: str) -> AsyncIterator[Owner]:
    """A connection to the database of that worker."""
    connection = await asyncpg.connect(postgres_url)
    yield connection
    await connection.close()


async def read_json(footfall: Footfall, **query: str) -> dict[str, Any]:
    """Read the report of the portal as a program does."""
    response = await footfall.ops.get(f"/reports/{SITE}.json", params=query)
    answer: dict[str, Any] = await response.json()
    assert response.status == 200, answer
    return answer


async def read_rows(footfall: Footfall, separator: str = ",", **query: str) -> list[dict[str, str]]:
    """Read the report of the portal as a spreadsheet does."""
    response = await footfall.ops.get(f"/reports/{SITE}.csv", params=query)
    text = (await response.read()).decode("utf-8-sig")
    assert response.status == 200, text
    return list(csv.DictReader(io.StringIO(text), delimiter=separator))


def numbers(periods: list[dict[str, Any]]) -> list[tuple[str, str, int, int]]:
    """Return what is shown of each period."""
    return [(period["from"], period["to"], int(period["visitors"]), int(period["views"])) for period in periods]


async def test_the_open_day_is_what_is_live_and_is_not_finished(footfall: Footfall, owner: Owner) -> None:
    """A chief who reads the report at noon sees the morning, and sees that the day goes on."""
    await add_days(owner, [(YESTERDAY, 10, 30)])
    await footfall.see()
    await footfall.see(address="203.0.113.8")
    for copied in (False, True):
        if copied:
            await footfall.services.rollup.step()
        report = await read_json(footfall, **{"from": str(YESTERDAY)})
        assert numbers(report["periods"]) == [
            (str(YESTERDAY), str(YESTERDAY), 10, 30),
            (str(TODAY), str(TODAY), 2, 2),
        ]
        assert [(period["finished"], period["exact"]) for period in report["periods"]] == [(True, False), (False, True)]
        assert report["sum"] == {"visitors": 12, "views": 32, "exact": False, "days_counted": 2}
        assert (report["now"]["today"], report["since"]) == (2, str(YESTERDAY))


@pytest.mark.parametrize(
    ("by", "visitors", "views", "kind"), [("week", 22, 63, "union"), ("month", 21, 63, "sum"), ("year", 21, 63, "sum")]
)
async def test_what_is_live_is_in_the_period_of_today(
    footfall: Footfall, owner: Owner, by: str, visitors: int, views: int, kind: str
) -> None:
    """Every period ends with the day that goes on; a week has its union, as far as it is known."""
    await add_days(owner, every_day(MONDAY, YESTERDAY))
    await add_week(owner, MONDAY, 22)
    for _ in range(3):
        await footfall.see()
    (period,) = (await read_json(footfall, by=by, **{"from": str(MONDAY)}))["periods"]
    assert (period["visitors"], period["views"], period["visitors_are"]) == (visitors, views, kind)
    assert (period["from"], period["to"], period["days_counted"]) == (str(MONDAY), str(TODAY), 3)
    assert not period["finished"]


async def test_a_week_with_imported_days_is_the_sum_of_its_days(footfall: Footfall, owner: Owner) -> None:
    """The union has no visitor of an imported day: the week would show fewer people than one of its days."""
    weeks = MONDAY - 7 * DAY, MONDAY
    for week in weeks:
        await add_days(owner, [(week + DAY, 10, 30)])
        await add_week(owner, week, 10)
        await owner.execute(
            "INSERT INTO footfall.site_day (site, day, visitors, views, logs)"
            " VALUES ($1, $2, 50, 70, '{\"0000000000000000\": [1, 70]}')",
            SITE,
            week,
        )
    await footfall.see()
    rows = await read_rows(footfall, by="week", **{"from": str(weeks[0])})
    assert [(row["visitors"], row["views"], row["visitors_are"], row["days_imported"]) for row in rows] == [
        ("60", "100", "sum", "1"),
        ("61", "101", "sum", "1"),
    ]


async def test_the_last_copy_stands_in_for_what_is_live(
    redis_url: str, postgres_url: str, tmp_path: Path, footfall: Footfall
) -> None:
    """A worker that has not reached Redis yet has the numbers that PostgreSQL has."""
    await footfall.see()
    await footfall.services.rollup.step()
    settings = settings_for("redis://127.0.0.1:1", postgres_url, tmp_path / "other")
    async with running(settings, clock=footfall.clock) as other:
        for by in ("day", "week"):
            (period,) = (await read_json(other, by=by))["periods"]
            assert (period["visitors"], period["views"], period["finished"]) == (1, 1, False)


async def test_csv_and_json_say_the_same(footfall: Footfall, owner: Owner) -> None:
    """Each figure of a report can be recomputed from the table that is handed in with it."""
    await add_days(owner, every_day(date(2054, 1, 1), YESTERDAY, 7, 11))
    await footfall.see()
    for by in ("day", "week", "month", "year"):
        query = {"from": "2054-02-10", "to": str(TODAY), "by": by}
        rows, report = await read_rows(footfall, **query), await read_json(footfall, **query)
        assert numbers(rows) == numbers(report["periods"])
        assert sum(int(row["visitors"]) for row in rows) == report["sum"]["visitors"] or by == "week"
        assert sum(int(row["views"]) for row in rows) == report["sum"]["views"]
        assert {row["definitions"] for row in rows} == {str(report["definitions"])}
        assert [row["visitors_are"] for row in rows] == [period["visitors_are"] for period in report["periods"]]


async def test_csv_opens_in_a_vietnamese_excel_and_runs_nothing_there(
    redis_url: str, postgres_url: str, tmp_path: Path
) -> None:
    """Its list separator is the semicolon, it needs the mark for UTF-8, and a name that begins with = is a formula."""
    portal = {"name": '=HYPERLINK("https://bad.example";"Xã Sông Mây")'}
    async with running(settings_for(redis_url, postgres_url, tmp_path, portal=portal)) as footfall:
        await footfall.see()
        response = await footfall.ops.get(f"/reports/{SITE}.csv", params={"sep": ";", "bom": "1"})
        raw = await response.read()
        assert raw.startswith(b"\xef\xbb\xbfsite;name;from;to;visitors;views;")
        assert raw.count(b"\r\n") == raw.count(b"\n") == 2
        assert response.headers["Content-Type"].startswith("text/csv; charset=utf-8")
        assert f'filename="{SITE}-' in response.headers["Content-Disposition"]
        (row,) = await read_rows(footfall, ";", sep=";", bom="1")
        assert row["name"] == f"'{portal['name']}"
        assert (row["visitors"], row["views"], row["from"]) == ("1", "1", str(TODAY))
        plain = await (await footfall.ops.get(f"/reports/{SITE}.csv")).read()
        assert plain.startswith(b"site,name,")
        assert (await read_rows(footfall, "\t", sep="tab"))[0]["views"] == "1"


async def test_before_the_first_visitor_a_report_has_today_alone(footfall: Footfall) -> None:
    """The page of a new portal must open; what was before today is not known, which is null and no zero."""
    report = await read_json(footfall)
    assert numbers(report["periods"]) == [(str(TODAY), str(TODAY), 0, 0)]
    assert report["gaps"] == report["pages"] == report["events"] == report["corrections"] == []
    assert report["sum"]["views"] == 0
    assert report["before"] == {
        "from": str(TODAY - DAY),
        "to": str(TODAY - DAY),
        "visitors": None,
        "views": None,
        "exact": None,
        "days_counted": None,
    }


async def test_the_period_before_is_compared_where_it_was_counted_as_a_whole(footfall: Footfall, owner: Owner) -> None:
    """Half a quarter against a whole one would be a success that never was."""
    await add_days(owner, every_day(date(2054, 7, 1), YESTERDAY))
    quarter = await read_json(footfall, **{"from": "2054-10-01", "to": "2054-10-31", "by": "day"})
    assert (quarter["before"]["from"], quarter["before"]["to"]) == ("2054-09-01", "2054-09-30")
    assert (quarter["before"]["visitors"], quarter["before"]["views"]) == (300, 900)
    first = await read_json(footfall, **{"from": "2054-07-01", "to": "2054-09-30"})
    assert (first["before"]["from"], first["before"]["visitors"]) == ("2054-04-01", None)


async def test_days_without_numbers_are_gaps_and_no_zeros(footfall: Footfall, owner: Owner) -> None:
    """An honest report names the days on which nothing was counted."""
    await add_days(owner, [(date(2054, 11, day), 5, 6) for day in (2, 3, 7)])
    report = await read_json(footfall, **{"from": "2054-10-20", "to": "2054-11-08"})
    assert report["gaps"] == [{"from": "2054-11-04", "to": "2054-11-06"}, {"from": "2054-11-08", "to": "2054-11-08"}]
    assert [period["from"] for period in report["periods"]] == ["2054-11-02", "2054-11-03", "2054-11-07"]


async def test_a_report_names_pages_corrections_and_events(footfall: Footfall, owner: Owner) -> None:
    """Who corrected what, and why; what was lost; and what was read most."""
    for page in ("/a", "/a", "/b"):
        await footfall.see(page=page)
    await footfall.services.rollup.step()
    await footfall.services.stores.postgres.adjust(SITE, "old-counter", 1373876, "số liệu bộ đếm cũ (by Lan)")
    at = footfall.clock() - 3600
    await owner.execute(
        "INSERT INTO footfall.event (site, kind, detail, at) VALUES ($1, 'salt_lost', '2054-11-23', to_timestamp($2))",
        SITE,
        at,
    )
    report = await read_json(footfall)
    assert report["pages"] == [{"page": "/a", "views": 2}, {"page": "/b", "views": 1}]
    assert [(entry["amount"], entry["reason"]) for entry in report["corrections"]] == [
        (1373876, "số liệu bộ đếm cũ (by Lan)")
    ]
    assert [(event["kind"], event["detail"], event["at"]) for event in report["events"]] == [
        ("salt_lost", "2054-11-23", "2054-11-25T11:00:00+07:00")
    ]


async def test_what_was_done_to_pages_stands_beside_the_corrections(footfall: Footfall, owner: Owner) -> None:
    """Starting numbers and moves change what is shown of a page, so a report says who did it; no total changes."""
    await footfall.see(page="/old")
    await footfall.services.rollup.step()
    await owner.execute(
        "INSERT INTO footfall.page_import (site, id, page, views, made_at) VALUES"
        " ('portal', 'cũ', '/a', 5, '2054-11-01'), ('portal', 'cũ', '/b', 7, '2054-11-01'),"
        " ('portal', 'cũ', '/a', -1, '2054-11-02'), ('other', 'x', '/a', 1, '2054-11-01')"
    )
    for target in ("/new", "/old"):
        await owner.execute("SELECT footfall.move_page('portal', '/old', $1)", target)
        await owner.execute("UPDATE footfall.page_move SET made_at = '2054-11-03T03:00:00Z' WHERE target = '/new'")
    report = await read_json(footfall)
    role = await owner.fetchval("SELECT session_user")
    assert [(one["id"], one["pages"], one["views"], one["made_by"]) for one in report["page_imports"]] == [
        ("cũ", 1, -1, role),
        ("cũ", 2, 12, role),
    ]
    moves = [(one["page"], one["target"]) for one in report["page_moves"]]
    assert sorted(moves) == [("/old", "/new"), ("/old", "/old")]
    assert report["page_moves"][moves.index(("/old", "/new"))]["made_at"] == "2054-11-03T10:00:00+07:00"
    assert (report["corrections"], report["sum"]["views"], report["pages"]) == ([], 1, [{"page": "/old", "views": 1}])
    for language, sentences in (
        ("vi", ("Nhập số ban đầu của 2 trang: +12 lượt (cũ)", "Lượt xem của /old được tính cho /new", "/old lại được")),
        ("en", ("Starting numbers of 1 pages imported: −1 views (cũ)", "Views of /old count for /new", "by itself")),
    ):
        page = await (await footfall.ops.get(f"/reports/{SITE}?lang={language}")).text()
        assert all(sentence in page for sentence in sentences)


async def test_settings_that_change_a_meaning_are_a_sentence(footfall: Footfall) -> None:
    """What the program notes of them has names of its own, and the last change may lie before the report's days."""
    postgres = footfall.services.stores.postgres
    for detail in ("2054-11-01: time_zone=UTC measure=visitors", "2054-11-02: time_zone=UTC measure=views"):
        await postgres.record_event(SITE, "settings", detail)
    async with asyncpg.create_pool(footfall.services.settings.postgres_url.get_secret_value()) as pool:
        await pool.execute("UPDATE footfall.event SET at = split_part(detail, ':', 1)::date WHERE kind = 'settings'")
    page = await (await footfall.ops.get(f"/reports/{SITE}?from=2054-11-02&lang=vi")).text()
    assert "chân trang đếm lượt xem (trước đó: chân trang đếm khách truy cập)" in page
    assert "múi giờ UTC" not in page
    assert "measure" not in page


async def test_what_lasted_and_what_was_imported_is_told_in_words(footfall: Footfall, owner: Owner) -> None:
    """A reader of the page knows no words of the program; what was not counted here says so, day by day."""
    postgres = footfall.services.stores.postgres
    noon = footfall.clock()
    await owner.execute(
        """
        INSERT INTO footfall.event (site, kind, detail, at, began, ended) VALUES
            ('*', 'redis_away', 'x', to_timestamp($1), to_timestamp($1 - 7200), to_timestamp($1 - 3600)),
            ('*', 'redis_away', 'long ago', to_timestamp($1), to_timestamp(0), to_timestamp(1)),
            ('other', 'batches_lost', '3 batches', to_timestamp($1), NULL, NULL),
            ('portal', 'of_tomorrow', '<i>new</i>', to_timestamp($1 - 60), NULL, NULL),
            ('*', 'started', 'a', to_timestamp($1 - 99), NULL, NULL),
            ('*', 'started', 'b', to_timestamp($1 - 88), NULL, NULL)
        """,
        noon,
    )
    await owner.execute(
        """
        WITH entered AS (
            INSERT INTO footfall.day_journal (site, day, what, visitors, views)
            SELECT 'portal', DATE '2054-11-01' + n, 'days', 5, 7 FROM generate_series(0, 9) AS n RETURNING *
        )
        INSERT INTO footfall.site_day (site, day, visitors, views, logs)
        SELECT site, day, visitors, views, jsonb_build_object('0000000000000000', jsonb_build_array(entry, views))
        FROM entered
        """
    )
    assert len(await postgres.events()) == 6
    report = await read_json(footfall, **{"from": "2054-11-01"})
    assert [(event["kind"], event["began"], event["ended"]) for event in report["events"] if event["ended"]] == [
        ("redis_away", "2054-11-25T10:00:00+07:00", "2054-11-25T11:00:00+07:00")
    ]
    assert [(one["what"], one["days"], one["from"], one["to"], one["views"]) for one in report["imports"]] == [
        ("days", 10, "2054-11-01", "2054-11-10", 70)
    ]
    assert [period["days_imported"] for period in report["periods"]] == [1] * 10 + [0]
    (month,) = (await read_json(footfall, by="month", **{"from": "2054-11-01"}))["periods"]
    assert (month["days_imported"], month["days_counted"]) == (10, 11)
    page = await (await footfall.ops.get(f"/reports/{SITE}?from=2054-11-01&lang=vi")).text()
    assert "10:00 25/11/2054 – 11:00 25/11/2054" in page
    assert "Redis không nhận lượt" in page
    assert "Footfall khởi động: 2 lần" in page
    assert "of tomorrow: &lt;i&gt;new&lt;/i&gt;" in page
    assert "long ago" not in page
    assert "3 batches" not in page
    assert "bộ đếm khác" in page
    assert page.count("(nhập)") == 10
    assert "Dữ liệu trình diễn" not in page
    await owner.execute(
        "INSERT INTO footfall.day_journal (site, day, what, visitors, views) VALUES ($1, $2, 'demo', 1, 1)",
        SITE,
        MONDAY,
    )
    assert (
        '<p class="wrong">Dữ liệu trình diễn' in await (await footfall.ops.get(f"/reports/{SITE}?from={MONDAY}")).text()
    )


async def test_an_outage_is_in_the_report_while_it_lasts(own_valkey: Valkey, postgres_url: str, tmp_path: Path) -> None:
    """Who prints the report in an outage hands in what is known: an outage is noted at its beginning."""
    async with running(settings_for(own_valkey.url, postgres_url, tmp_path)) as footfall:
        own_valkey.kill()
        assert (await footfall.send()).status == 202
        footfall.clock.advance(90)
        await footfall.services.watch_redis()
        await footfall.services.repairs.events.write()
        (event,) = (await read_json(footfall))["events"]
        assert (event["kind"], event["ended"], event["running"]) == ("redis_away", None, True)
        assert event["began"] == "2054-11-25T12:00:00+07:00"
        for language, words in (
            ("vi", "từ 12:00 25/11/2054, đang còn"),
            ("en", "since 25 Nov 2054, 12:00, still running"),
        ):
            assert words in await (await footfall.ops.get(f"/reports/{SITE}?lang={language}")).text()
        await own_valkey.start()
        assert (await footfall.ops.get("/readyz")).status == 200
        assert (await footfall.send()).status == 200
        await footfall.services.watch_redis()
        await footfall.services.repairs.events.write()
        (event,) = (await read_json(footfall))["events"]
        assert (event["began"], event["ended"], event["running"]) == (
            "2054-11-25T12:00:00+07:00",
            "2054-11-25T12:01:30+07:00",
            False,
        )


WRONG_QUERIES = {
    "from must be a day": {"from": "2054-02-30"},
    "is after to": {"from": "2054-03-01", "to": "2054-02-01"},
    "future": {"from": "2055-01-01"},
    "no day before 1990": {"from": "0001-01-01"},
    "day, week, month, year": {"by": "hour"},
    "sep must be": {"sep": "|"},
    "bom must be": {"bom": "yes"},
}


async def test_a_question_that_cannot_be_answered_is_refused_in_a_sentence(footfall: Footfall) -> None:
    """Who typed the address reads what is wrong with it."""
    for words, query in WRONG_QUERIES.items():
        response = await footfall.ops.get(f"/reports/{SITE}.csv", params=query)
        answer = await response.json()
        assert (response.status, answer["error"]) == (400, "bad_field")
        assert words in answer["message"]
    response = await footfall.ops.get("/reports/nobody.csv")
    assert (response.status, (await response.json())["error"]) == (404, "unknown_site")


async def test_without_postgres_the_answer_says_to_come_again(
    redis_url: str, own_postgres: Postgres, tmp_path: Path
) -> None:
    """The history is in PostgreSQL alone; the service counts on."""
    async with running(settings_for(redis_url, own_postgres.url, tmp_path)) as footfall:
        own_postgres.kill()
        for form in ("csv", "json"):
            response = await footfall.ops.get(f"/reports/{SITE}.{form}")
            assert (response.status, (await response.json())["error"]) == (503, "not_ready")
            assert response.headers["Retry-After"]
        await footfall.see()
