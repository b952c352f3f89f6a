"""The dashboards and the alerts, asked of a real Prometheus that scrapes a real Footfall by the example's own job."""

import asyncio
import json
import re
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support.ports import free_port
from tests.support.process import fresh_connections, production, ready, see, start
from tests.support.project import PROJECT

DEPLOY = PROJECT / "deploy"
RULES = DEPLOY / "prometheus-alerts.yaml"
DASHBOARDS = {file.stem: json.loads(file.read_text("utf-8")) for file in sorted((DEPLOY / "grafana").glob("*.json"))}
UID = "footfall-prometheus"
GRAFANAS_WORDS = {"$__rate_interval": "5m", "$site": ".+"}
OF_PROMETHEUS = {"up", "ALERTS"}
NOT_YET = {
    "Age of the last complete copy",
    "Beacons that share a batch",
    "Redis' append-only file not rewritten for",
    "Refused and ignored, by reason",
    "Time for a site, 99 of 100",
}
"""Panels that may be empty in the first seconds: no rollup and no refusal has happened."""


def panels(board: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the panels of a dashboard that ask something."""
    return (panel for panel in board["panels"] if panel["type"] != "row")


def expressions() -> Iterator[tuple[str, str]]:
    """Yield every expression of the dashboards and of the alerts, with where it stands."""
    for board in DASHBOARDS.values():
        for panel in panels(board):
            for target in panel["targets"]:
                expression = target["expr"]
                for word, value in GRAFANAS_WORDS.items():
                    expression = expression.replace(word, value)
                yield panel["title"], expression
        for variable in board["templating"]["list"]:
            yield f"${variable['name']}", re.findall(r"label_values\((\w+), ", variable["query"]["query"])[0]


@asynccontextmanager
async def prometheus(ops_url: str, token: str, folder: Path) -> AsyncIterator[str]:
    """Run Prometheus with the example's job and the alerts, and yield the URL of its API."""
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("prometheus is not installed")
    (folder / "footfall-token").write_text(f"{token}\n")
    text = (DEPLOY / "prometheus.yaml").read_text()
    for place, ours in (
        ("/etc/prometheus/footfall-alerts.yaml", str(RULES)),
        ("/etc/prometheus/footfall-token", str(folder / "footfall-token")),
        ("127.0.0.1:8081", ops_url.removeprefix("http://")),
        ("scrape_interval: 15s", "scrape_interval: 500ms"),
    ):
        assert place in text
        text = text.replace(place, ours)
    (folder / "prometheus.yml").write_text(text)
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        program,
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        yield f"http://127.0.0.1:{port}/api/v1"
    finally:
        process.terminate()
        await process.wait()


class Api:
    """Prometheus' answers."""

    def __init__(self, http: aiohttp.ClientSession, url: str) -> None:
        self._http = http
        self._url = url

    async def get(self, path: str, **params: str) -> Any:
        """Return the data of an answer; fail where Prometheus says that the question is wrong."""
        async with self._http.get(f"{self._url}/{path}", params=params) as response:
            answer = await response.json()
        assert answer["status"] == "success", (params, answer)
        return answer["data"]

    async def result(self, expression: str) -> list[dict[str, Any]]:
        """Return the series of an expression, of this moment."""
        found: list[dict[str, Any]] = (await self.get("query", query=expression))["result"]
        return found

    async def until_scraped(self, times: int) -> None:
        """Wait until Prometheus has scraped Footfall so many times."""
        for _ in range(1000):
            with suppress(aiohttp.ClientError):
                found = await self.result('count_over_time(up{job="footfall"}[5m])')
                if found and int(found[0]["value"][1]) >= times:
                    return
            await asyncio.sleep(0.05)
        raise AssertionError("Prometheus has not scraped Footfall in time")


async def test_every_expression_is_answered_from_what_footfall_exports(
    redis_url: str, postgres_url: str, tmp_path: Path
) -> None:
    """A panel on a renamed metric is an empty one, and looks like a quiet night."""
    environ = await production(tmp_path, redis_url, postgres_url) | {"FOOTFALL_OPS_TOKEN": "a token"}
    async with start("serve", environ=environ) as service, fresh_connections() as http:
        public, ops = await ready(service)
        async with prometheus(ops, "a token", tmp_path) as url:
            api = Api(http, url)
            for _ in range(3):
                assert await see(http, public) == 200
            assert await see(http, public, site="nothing") == 404
            await api.until_scraped(2)
            assert await see(http, public) == 200
            await api.until_scraped(5)
            [target] = (await api.get("targets"))["activeTargets"]
            assert (target["health"], target["labels"]["job"]) == ("up", "footfall"), target
            exported = {entry["metric"] for entry in await api.get("targets/metadata")}
            loaded = [rule for group in (await api.get("rules"))["groups"] for rule in group["rules"]]
            assert {rule["name"] for rule in loaded} == set(re.findall(r"- alert: (\w+)", RULES.read_text()))
            asked = [*expressions(), *((rule["name"], rule["query"]) for rule in loaded)]
            for where, expression in asked:
                names = set(re.findall(r"\b(?:footfall|process)_[a-z_]+", expression))
                families = {re.sub("_(bucket|sum|count)$", "", name) for name in names}
                assert families <= exported | {"footfall"}, (where, families - exported)
                await api.result(expression)
            empty = [where for where, expression in expressions() if not await api.result(expression)]
            assert set(empty) <= NOT_YET
            [today] = await api.result('footfall_visitors{site="portal",period="views_today"}')
            assert today["value"][1] == "4"


@pytest.mark.parametrize("name", sorted(DASHBOARDS))
def test_a_dashboard_is_one_that_grafana_takes(name: str) -> None:
    """Grafana shows a panel with another's id in its place, and one with an unknown source as an error."""
    board = DASHBOARDS[name]
    assert board["uid"] == f"footfall-{name}"
    ids = [panel["id"] for panel in board["panels"]]
    assert len(ids) == len(set(ids))
    for panel in panels(board):
        assert panel["datasource"] == {"type": "prometheus", "uid": UID}, panel["title"]
        assert all(target["datasource"] == panel["datasource"] for target in panel["targets"])
        references = [target["refId"] for target in panel["targets"]]
        assert len(references) == len(set(references))
    places = sorted((panel["gridPos"] for panel in board["panels"]), key=lambda place: (place["y"], place["x"]))
    for one, following in pairwise(places):
        assert one["x"] + one["w"] <= 24
        beside = following["y"] == one["y"] and following["x"] >= one["x"] + one["w"]
        assert beside or following["y"] >= one["y"] + one["h"], following
    # A file that is copied is not one that was exported for a single Grafana.
    assert not {"id", "__inputs"} & board.keys()


def test_the_provisioning_names_what_the_dashboards_ask() -> None:
    """With another uid each panel says "data source not found"."""
    folder = DEPLOY / "grafana" / "provisioning"
    assert f"uid: {UID}\n" in (folder / "datasources" / "footfall.yaml").read_text()
    assert "path: /var/lib/grafana/dashboards/footfall\n" in (folder / "dashboards" / "footfall.yaml").read_text()
