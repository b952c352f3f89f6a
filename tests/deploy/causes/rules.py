"""The rules and the example files for Prometheus and Alertmanager, with all their times made shorter."""

import re
from pathlib import Path

from tests.support.project import PROJECT

DEPLOY = PROJECT / "deploy"
FASTER = 30
"""An hour of the rules is two minutes here. Footfall's own times stay as they are, so much more is not possible."""
UNIT_S = {"s": 1, "m": 60, "h": 3600}
TIMES = re.compile(r"(?:(?<=for: )|(?<=\[)|(?<=offset )|(?<=group_wait: ))(\d+)([smh])\b")
AGES = re.compile(r"(?<=> )(900|108000)\b")
"""Numbers that are seconds: of RollupLate and of RedisLogNotRewritten."""


def faster(text: str, times: int = FASTER) -> str:
    """Divide each duration of a rule file, or of Alertmanager's, by `times`.

    >>> faster("for: 1m, rate(x[5m]) and time() - y > 900")
    'for: 2000ms, rate(x[10000ms]) and time() - y > 30'
    """

    def shorter(found: re.Match[str]) -> str:
        number, unit = found.groups()
        return f"{int(number) * UNIT_S[unit] * 1000 // times}ms"

    return AGES.sub(lambda found: str(int(found[0]) // times), TIMES.sub(shorter, text))


def write_files(folder: Path, ops_url: str, alertmanager: str, webhook: str, times: int = FASTER) -> None:
    """Write what both programs read into `folder`, with all times of the rules divided by `times`."""
    (folder / "alerts.yaml").write_text(faster((DEPLOY / "prometheus-alerts.yaml").read_text(), times))
    (folder / "token").write_text("none\n")
    scrape = (DEPLOY / "prometheus.yaml").read_text()
    for place, ours in (
        ("/etc/prometheus/footfall-alerts.yaml", str(folder / "alerts.yaml")),
        ("/etc/prometheus/footfall-token", str(folder / "token")),
        ("127.0.0.1:8081", ops_url.removeprefix("http://")),
        ("127.0.0.1:9093", alertmanager),
        ("scrape_interval: 15s", "scrape_interval: 500ms\n    scrape_timeout: 500ms"),
    ):
        assert place in scrape, place
        scrape = scrape.replace(place, ours)
    (folder / "prometheus.yml").write_text(f"global:\n  evaluation_interval: 500ms\n{scrape}")
    routes = faster((DEPLOY / "alertmanager.yaml").read_text(), times)
    assert "http://127.0.0.1:9099/" in routes
    # Alertmanager's default is five minutes between two calls about alerts of one name.
    routes, times = re.subn(r"^(  group_wait: .*)$", r"\1\n  group_interval: 1s", routes, flags=re.MULTILINE)
    assert times == 1
    (folder / "alertmanager.yml").write_text(routes.replace("http://127.0.0.1:9099/", f"{webhook}/"))
