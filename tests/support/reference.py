"""deploy/SETTINGS.md and deploy/METRICS.md, made from the declarations, and the alerts as Kubernetes takes them.

python -m tests.support.reference        writes these files again; `make reference` is this
"""

import re
import textwrap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path

from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase
from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from footfall.metrics.metrics import Metrics
from footfall.settings.settings import FILE_VARIABLES, VARIABLES, Limits, Settings, Site
from footfall.settings.sources import CONFIG_VARIABLE
from tests.support.project import PROJECT

SETTINGS_FILE = PROJECT / "deploy" / "SETTINGS.md"
METRICS_FILE = PROJECT / "deploy" / "METRICS.md"
ALERTS_FILE = PROJECT / "deploy" / "prometheus-alerts.yaml"
RULE_FILE = PROJECT / "deploy" / "kubernetes" / "monitoring" / "prometheus-rule.yaml"

SETTINGS_HEAD = f"""\
# Settings

`make reference` writes this page from the declarations in `service/footfall/settings/`. Edit them, not this page.
[Installing](README.md#with-your-own-redis-and-postgresql) says where the files belong.

Settings come from the environment and from the file that `{CONFIG_VARIABLE}` names (default: `footfall.toml` in the
current folder). A variable wins over the key of the same name. Keys stand above the first table of the file.
[`footfall.toml`](footfall.toml) and [`footfall.env.example`](footfall.env.example) are files to copy.

Footfall reports all problems at once, each as a sentence, and does not start with a variable that it does not know.
Secrets can come from files: {", ".join(f"`{name}`" for name in FILE_VARIABLES)}.
`kill -HUP` makes a running Footfall read its settings again. Listeners and the data folder wait for the next start.
"""

SITES_HEAD = """\
## Portals

Every portal is a table `[sites.<id>]`. The id is part of the stored keys: never rename it.
"""

LIMITS_HEAD = """\
## Limits

The table `[limits]` says what one network (an IPv4 address, an IPv6 /64) may do in each worker.
[Limits and connections](README.md#limits-and-connections) explains them.
"""

METRICS_HEAD = """\
# Metrics and alerts

`make reference` writes this page from the declarations in `service/footfall/metrics/` and from
[`prometheus-alerts.yaml`](prometheus-alerts.yaml). Edit them, not this page.

`/metrics` on the ops listener shows the metrics in Prometheus' text format. Any worker answers for all workers.
Labels come from closed sets: no client can add a value.
"""

RULE_HEAD = """\
# The alerts of deploy/prometheus-alerts.yaml, from which `make reference` writes this file. Edit that one.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: footfall
  labels:
    app.kubernetes.io/name: footfall
    app.kubernetes.io/component: monitoring
spec:
"""

ALERTS_HEAD = """\
## Alerts

A page is for a person now, a ticket for the next working day.
"""


@dataclass(frozen=True, slots=True)
class Declared:
    """A metric as Prometheus shows it."""

    name: str
    labels: tuple[str, ...]
    kind: str
    text: str


def declared_metrics() -> list[Declared]:
    """Return every metric in the order of its declaration."""
    metrics = vars(Metrics(CollectorRegistry())).values()
    return [
        Declared(
            family.name + ("_total" if family.type == "counter" else ""),
            tuple(metric._labelnames),  # noqa: SLF001 - the library offers no public way to read them
            family.type,
            family.documentation,
        )
        for metric in metrics
        if isinstance(metric, MetricWrapperBase)
        for family in metric.describe()
    ]


def default_text(default: object) -> str:
    """Return a default as the documents write it.

    >>> [default_text(default) for default in (PydanticUndefined, SecretStr(""), None, {}, False, 10.0, ("a", "b"))]
    ['required', 'required', '', '', 'false', '10', 'a,b']
    """
    if default is PydanticUndefined or isinstance(default, SecretStr):
        return "required"
    match default:
        case None | {}:
            return ""
        case bool():
            return str(default).lower()
        case float():
            return f"{default:g}"
        case tuple():
            return ",".join(map(str, default))
        case _:
            return str(default)


def settings_page() -> str:
    """Return deploy/SETTINGS.md."""
    return "\n".join(
        (
            SETTINGS_HEAD,
            *_table(
                ("setting", "default", "meaning"),
                (
                    (f"`{variable}` / `{name}`", *_default_and_meaning(Settings, name))
                    for variable, name in VARIABLES.items()
                ),
            ),
            "",
            SITES_HEAD,
            *_keys(Site),
            "",
            LIMITS_HEAD,
            *_keys(Limits),
            "",
        )
    )


def metrics_page() -> str:
    """Return deploy/METRICS.md."""
    return "\n".join(
        (
            METRICS_HEAD,
            *_table(
                ("metric", "meaning", "type"),
                (
                    (f"`{metric.name}{{{','.join(metric.labels)}}}`".replace("{}", ""), metric.text, metric.kind)
                    for metric in declared_metrics()
                ),
            ),
            "",
            ALERTS_HEAD,
            *_table(("alert", "severity", "what to do"), _alerts(ALERTS_FILE.read_text("utf-8"))),
            "",
        )
    )


def prometheus_rule() -> str:
    """Return the resource with the alerts for the Prometheus Operator."""
    _, groups, rules = ALERTS_FILE.read_text("utf-8").partition("groups:\n")
    return RULE_HEAD + textwrap.indent(groups + rules, "  ")


def pages() -> Mapping[Path, str]:
    """Return the generated files with their contents."""
    return {SETTINGS_FILE: settings_page(), METRICS_FILE: metrics_page(), RULE_FILE: prometheus_rule()}


keys_of: Callable[[type[Settings | Site | Limits]], Mapping[str, FieldInfo]] = attrgetter("__pydantic_fields__")
"""The keys of a table, each with its default and its meaning."""


def _keys(model: type[Site | Limits]) -> Iterator[str]:
    rows = ((f"`{name}`", *_default_and_meaning(model, name)) for name in keys_of(model) if name != "id")
    return _table(("key", "default", "meaning"), rows)


def _default_and_meaning(model: type[Settings | Site | Limits], name: str) -> tuple[str, str]:
    field = keys_of(model)[name]
    default = default_text(field.get_default(call_default_factory=True))
    return f"`{default}`" if default else "", field.description or ""


def _alerts(text: str) -> Iterator[tuple[str, ...]]:
    """Read the name, the severity and the action of each alert."""
    for alert in text.split("- alert: ")[1:]:
        found = re.search(r"severity: (\w+).*?^ +action: ([^\n]+)", alert, flags=re.MULTILINE | re.DOTALL)
        assert found, alert
        yield f"`{alert.split()[0]}`", *found.groups()


def _table(heads: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> Iterator[str]:
    yield f"| {' | '.join(heads)} |"
    yield f"|{'---|' * len(heads)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"


if __name__ == "__main__":
    for file, text in pages().items():
        file.write_text(text, "utf-8")
        print(f"wrote {file.relative_to(PROJECT)}")
