"""The reports of all sites for operators: their sum, that of each group, and what they cost."""

import csv
import gzip
import io
import json
from collections import Counter
from collections.abc import AsyncIterator
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from footfall.display.report_page import View
from footfall.display.sites_page import sites_csv, sites_json, sites_page
from footfall.display.sites_report import AskedSites, read_sites_report
from footfall.model.report_period import By, Days
from footfall.model.site_id import SiteId
from footfall.stores import history, sites_history
from footfall.stores.history import open_report_connections
from footfall.stores.page_journal import TOP_OF_DAYS
from tests.support.footfall import HOST, SITE, VIETNAM, Footfall, running, settings_for
from tests.support.history import Owner, add_days, every_day
from tests.support.storage import TODAY

DAY = timedelta(days=1)
YESTERDAY = TODAY - DAY
SITES = {
    SITE: {"name": "Xã Sông Mây", "hosts": [HOST], "group": "xa"},
    "commune": {"name": "Xã Núi Xanh", "hosts": ["b.example.vn"], "group": "xa"},
    "health": {"name": "Sở Y tế", "hosts": ["c.example.vn"], "group": "so-y-te"},
    "alone": {"name": "=Trang riêng", "hosts": ["d.example.vn"]},
}
ANSWER_MAX_BYTES = 1_000_000


@pytest.fixture
async def footfall(redis_url: str, postgres_url: str, tmp_path: Path) -> AsyncIterator[Footfall]:
    """A worker with four sites, three of them in groups."""
    async with running(settings_for(redis_url, postgres_url, tmp_path, sites=SITES)) as footfall:
        yield footfall


@pytest.fixture
async def owner(footfall: Footfall, postgres_url: str) -> AsyncIterator[Owner]:
    """A connection to the database of that worker."""
    connection = await asyncpg.connect(postgres_url)
    yield connection
    await connection.close()


async def read(footfall: Footfall, **query: str) -> dict[str, Any]:
    """Read the report of all sites as a program does."""
    response = await footfall.ops.get("/reports.json", params=query)
    answer: dict[str, Any] = await response.json()
    assert response.status == 200, answer
    return answer


async def test_the_sum_is_that_of_the_sites_and_today_is_live(footfall: Footfall, owner: Owner) -> None:
    """An administrator hands in three portals with their sum, and each figure is in the table of its portal."""
    for number, site in enumerate(SITES, 1):
        await add_days(owner, every_day(date(2054, 10, 1), YESTERDAY, number, 10 * number), site=site)
    await footfall.see()
    report = await read(footfall, **{"from": "2054-10-01", "by": "month"})
    october, november = report["periods"]
    assert (october["visitors"], october["views"]) == (31 * 10, 31 * 100)
    assert (november["visitors"], november["views"]) == (24 * 10 + 1, 24 * 100 + 1)
    assert (report["sum"]["visitors"], report["sum"]["views"]) == (55 * 10 + 1, 55 * 100 + 1)
    for site in report["sites"]:
        own = await (await footfall.ops.get(f"/reports/{site['site']}.json?from=2054-10-01&by=day")).json()
        assert (site["visitors"], site["views"]) == (own["sum"]["visitors"], own["sum"]["views"])
        assert (sum(day["views"] for day in own["periods"]), site["since"]) == (site["views"], "2054-10-01")
    assert {group["group"]: (group["sites"], group["visitors"]) for group in report["groups"]} == {
        "so-y-te": (1, 55 * 3),
        "xa": (2, 55 * 3 + 1),
        None: (1, 55 * 4),
    }


async def test_a_group_has_a_report_of_its_own(footfall: Footfall, owner: Owner) -> None:
    """The health department sees its units, and their comparison with the month before."""
    for site in SITES:
        await add_days(owner, every_day(date(2054, 9, 1), date(2054, 10, 31)), site=site)
    await add_days(owner, [(date(2054, 8, 1), 1, 1)], site="health")
    report = await read(footfall, group="xa", **{"from": "2054-10-01", "to": "2054-10-31"})
    assert [site["site"] for site in report["sites"]] == [SITE, "commune"]
    assert (report["sum"]["visitors"], report["before"]["visitors"]) == (620, 600)
    earlier = await read(footfall, **{"from": "2054-09-01", "to": "2054-09-30"})
    assert [site["visitors_before"] for site in earlier["sites"]] == [None, None, 1, None]
    assert earlier["before"]["visitors"] is None
    page = await (await footfall.ops.get("/reports?group=xa&lang=vi")).text()
    assert "Xã Sông Mây" in page
    assert "Sở Y tế" not in page
    unknown = await footfall.ops.get("/reports.json?group=none")
    assert (unknown.status, "so-y-te, xa" in (await unknown.json())["message"]) == (400, True)


async def test_the_table_of_all_sites_is_for_spreadsheets(footfall: Footfall) -> None:
    """A line a site, with its group; a name that is a formula is text."""
    response = await footfall.ops.get("/reports.csv", params={"sep": ";", "bom": "1"})
    text = (await response.read()).decode("utf-8-sig")
    rows = {row["site"]: row for row in csv.DictReader(io.StringIO(text), delimiter=";")}
    assert rows.keys() == SITES.keys()
    assert (rows["alone"]["name"], rows["health"]["group"]) == ("'=Trang riêng", "so-y-te")
    assert rows["alone"]["visitors_before"] == ""


async def test_days_of_all_sites_are_bounded(footfall: Footfall) -> None:
    """Ten years of days of a thousand portals are millions of rows; months are kept summed up."""
    refused = await footfall.ops.get("/reports.json", params={"from": "2044-01-01", "by": "day"})
    assert (refused.status, "by month or by year" in (await refused.json())["message"]) == (400, True)
    assert (await read(footfall, **{"from": "2044-01-01"}))["by"] == "month"


async def test_months_stay_the_sum_of_their_days_whatever_happens_to_them(owner: Owner) -> None:
    """Copies, corrections by hand, moves to another site, and deletions: the months follow by difference."""
    sums = """
        SELECT site, date_trunc('month', day)::date, count(*), count(*) FILTER (WHERE exact), sum(visitors), sum(views)
        FROM footfall.site_day GROUP BY 1, 2 ORDER BY 1, 2
    """
    kept = "SELECT site, month, days, exact_days, visitors, views FROM footfall.site_month WHERE days > 0 ORDER BY 1, 2"
    statements = (
        "UPDATE footfall.site_day SET visitors = visitors + 5, views = views * 2 WHERE day > '2026-02-20'",
        "UPDATE footfall.site_day SET exact = true WHERE site = 'b'",
        "UPDATE footfall.site_day SET logs = logs",
        "UPDATE footfall.site_day SET site = 'c' WHERE site = 'b' AND day > '2026-02-10'",
        "UPDATE footfall.site_day SET day = day + 40 WHERE site = 'a' AND day = '2026-03-05'",
        "DELETE FROM footfall.site_day WHERE day BETWEEN '2026-01-20' AND '2026-02-05'",
        """INSERT INTO footfall.site_day (site, day, visitors, views, logs) VALUES ('a', '2026-01-01', 99, 100, '{}'),
           ('d', '2026-01-01', 1, 1, '{}') ON CONFLICT (site, day) DO UPDATE SET visitors = 99, views = 100""",
        "DELETE FROM footfall.site_day",
    )
    for site in ("a", "b"):
        await add_days(owner, every_day(date(2026, 1, 1), date(2026, 3, 5)), site=site)
    for statement in ("SELECT 1", *statements):
        await owner.execute(statement)
        assert [tuple(row) for row in await owner.fetch(kept)] == [tuple(row) for row in await owner.fetch(sums)], (
            statement
        )


async def test_a_large_report_is_found_by_indexes_and_stays_below_a_megabyte(
    redis_url: str, postgres_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ten years, a thousand sites in the sum, ten thousand pages in a day; prints how long PostgreSQL takes."""
    sites = {
        f"site-{n}": {"name": f"Cổng thông tin điện tử số {n}", "hosts": [f"s{n}.example.vn"]} for n in range(1000)
    }
    ten_years, one_day = Days(TODAY - timedelta(days=3652), TODAY), Days(YESTERDAY, YESTERDAY)
    async with running(settings_for(redis_url, postgres_url, tmp_path, sites={SITE: SITES[SITE]})) as footfall:
        owner = await asyncpg.connect(postgres_url)
        # Of the other sites the months alone: a day more or less of each changes nothing of what is read.
        await owner.execute(
            """
            INSERT INTO footfall.site_month (site, month, days, exact_days, visitors, views)
            SELECT 'site-' || n, m::date, 30, 0, 123456, 1234567
            FROM generate_series(0, 999) AS n, generate_series($1::timestamp, $2::timestamp, '1 month') AS m
            """,
            ten_years.first.replace(day=1),
            YESTERDAY.replace(day=1),
        )
        await owner.execute(
            "INSERT INTO footfall.site_day (site, day, visitors, views, logs)"
            " SELECT 'site-' || n, $1, 4000, 40000, '{}' FROM generate_series(0, 999) AS n",
            YESTERDAY,
        )
        await add_days(owner, every_day(ten_years.first, YESTERDAY, 29_999_999, 99_999_999))
        await owner.execute(
            """
            INSERT INTO footfall.page_day (site, page, day, views, logs)
            SELECT $1, '/tin-tuc/bai-viet-so-' || n, $2, 1 + n % 97, '{"a": 1}' FROM generate_series(1, 10000) AS n
            """,
            SITE,
            YESTERDAY,
        )
        await owner.execute("ANALYZE")
        ids = [SiteId(site) for site in sites]
        months = ten_years.whole_months()
        statements = {
            "10 years by day": (history.PERIODS, (SITE, *ten_years, "day")),
            "10 years by month": (history.PERIODS, (SITE, *ten_years, "month")),
            "10,000 pages of a day": (TOP_OF_DAYS, (SITE, *one_day, 20)),
            "10 years of 1,000 sites": (sites_history.SUMS_AND_PERIODS, (ids, *ten_years, *months, "month")),
            "the 10 years before": (sites_history.SUMS, (ids, *ten_years.before(), *ten_years.before().whole_months())),
            "their first days": (sites_history.SINCE, (ids,)),
        }
        for name, (statement, arguments) in statements.items():
            time_ms, read = await explained(owner, statement, *arguments)
            with capsys.disabled():
                print(f"\n{name}: {time_ms:.1f} ms", end="")
            assert read["site_day"] <= ten_years.number + len(sites), (name, read)
            assert read["page_day"] <= 10_000, (name, read)
            assert read["site_month"] <= 121 * len(sites), (name, read)
        await owner.close()
        for path in (f"/reports/{SITE}", f"/reports/{SITE}.csv", f"/reports/{SITE}.json"):
            await is_small(footfall, path, **{"from": str(ten_years.first), "by": "day"})
    settings = settings_for(redis_url, postgres_url, tmp_path, sites=sites)
    made_at = datetime.combine(TODAY, time(12), VIETNAM)
    asked = AskedSites(list(settings.sites.values()), ten_years, By.MONTH, "", made_at, {})
    async with open_report_connections(postgres_url) as connections:
        report = await read_sites_report(sites_history.SitesHistory(connections), asked)
    assert report.sum.visitors >= 119 * 1000 * 123_456
    page = sites_page(report, View("vi"))
    for text in (page, "".join(sites_csv(report, ",", has_bom=False)), "".join(sites_json(report))):
        assert 50_000 < len(text.encode()) < ANSWER_MAX_BYTES


async def explained(owner: Owner, statement: str, *arguments: object) -> tuple[float, Counter[str]]:
    """Return how long PostgreSQL took for a statement, in ms, and how many rows it took from each table."""
    (row,) = await owner.fetch(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", *arguments)
    (plan,) = json.loads(row[0])
    read: Counter[str] = Counter()
    nodes = [plan["Plan"]]
    while nodes:
        node = nodes.pop()
        nodes += node.get("Plans", [])
        read[node.get("Relation Name", "")] += node["Actual Rows"] * node["Actual Loops"]
    return plan["Execution Time"], read


async def is_small(footfall: Footfall, path: str, **query: str) -> None:
    """Assert that an answer is a whole one, below a megabyte, and packed where the client takes that."""
    response = await footfall.ops.get(path, params=query, headers={"Accept-Encoding": "identity"})
    body = await response.read()
    assert response.status == 200
    assert 50_000 < len(body) < ANSWER_MAX_BYTES, (path, len(body))
    assert "Content-Encoding" not in response.headers
    raw = await footfall.ops.get(path, params=query, headers={"Accept-Encoding": "gzip"})
    assert raw.headers["Content-Encoding"] == "gzip"
    assert int(raw.headers["Content-Length"]) < len(body) / 3
    assert len(gzip.compress(body)) < len(body)
