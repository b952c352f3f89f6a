"""The running service on one screen: what `footfall status` shows of the answer of `/status`."""

import asyncio
import json
from datetime import datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from footfall.cli.ops_listener import ask_service
from footfall.cli.terminal import say, show, whole_screen
from footfall.errors import Stop
from footfall.plain_text import one_line
from footfall.settings.settings import Settings

WATCH_EVERY_S = 2.0
SITES_SHOWN = ("online", "today", "week", "month", "total", "views_today")
"""The numbers that have a column, where the service gives them."""
STYLES = {"ok": "bold green", "degraded": "bold yellow", "unavailable": "bold red"}
LISTED_MAX = 10
FIELDS = {
    *("status", "version", "now", "sites", "stores", "spool_bytes", "spool_max_bytes", "copied"),
    *("workers", "problems", "refused"),
}

Status = dict[str, Any]


async def print_status(settings: Settings, *, as_json: bool) -> None:
    """Print the status once; raises Stop where no service answers."""
    status = await _ask(settings)
    if as_json:
        say(json.dumps(status, ensure_ascii=False, indent=2))
    else:
        show(screen(status))


async def watch_status(settings: Settings) -> None:
    """Show the status, read again every two seconds, until Ctrl-C; while no service answers, say so."""
    with whole_screen() as live:
        while True:
            try:
                live.update(screen(await _ask(settings)), refresh=True)
            except Stop as stop:
                live.update(Text(one_line(str(stop)), style="bold red"), refresh=True)
            await asyncio.sleep(WATCH_EVERY_S)


def screen(status: Status) -> RenderableType:
    """Return the status as a person reads it: what is wrong first, then the sites."""
    problems = [f"since {_local(problem['since'])}: {problem['what']}" for problem in status["problems"]]
    refused = [
        f"{page['origin'] or 'no origin'} as site {page['site']}, {page['times']} times: {page['advice']}"
        for page in status["refused"]
    ]
    parts: list[RenderableType] = [_head(status), _stores(status)]
    parts += [_list("Problems", problems, "red"), Text(""), _sites(status["sites"])]
    parts += [Text(""), _list("Pages that were refused in the last hour", refused, "yellow")] if refused else []
    return Group(*parts)


async def _ask(settings: Settings) -> Status:
    answer = await ask_service(settings, "/status")
    try:
        status: Status = json.loads(answer)
        error = status.get("error")
    except (ValueError, AttributeError):
        raise Stop(
            f"no Footfall answers at {settings.ops_listen}: does it run, and is FOOTFALL_OPS_LISTEN the same here"
            " (footfall --env-file /etc/footfall/footfall.env status)?",
            1,
        ) from None
    if error:
        raise Stop(f"the service at {settings.ops_listen} refuses: {error}; is FOOTFALL_OPS_TOKEN the same here?", 1)
    if not status.keys() >= FIELDS:
        raise Stop(f"what answers at {settings.ops_listen} is not this version of Footfall", 1)
    return status


def _head(status: Status) -> Text:
    workers, configured = len(status["workers"]), status.get("workers_configured", 0)
    word = one_line(str(status["status"]))
    return Text.assemble(
        f"Footfall {one_line(str(status['version']))}  ",
        (word, STYLES.get(word, "")),
        "  ",
        (f"{workers} of {configured} workers", "bold red")
        if workers < configured
        else f"{workers} worker{'s' if workers != 1 else ''}",
        f"  {_local(status['now'])}",
    )


def _stores(status: Status) -> Text:
    words: list[str | tuple[str, str]] = []
    for store, is_up in status["stores"].items():
        words += [f"{one_line(store)} ", ("up", "green") if is_up else ("away", "bold red"), "  "]
    spool_mib, max_mib = status["spool_bytes"] / (1 << 20), status["spool_max_bytes"] / (1 << 20)
    copied = f"copied to PostgreSQL {_ago(status)}" if status["copied"] else "nothing copied to PostgreSQL yet"
    return Text.assemble(*words, f"{spool_mib:,.1f} of {max_mib:,.0f} MiB in the spool  {copied}")


def _sites(sites: list[Status]) -> Table:
    shown = [name for name in SITES_SHOWN if any(name in site for site in sites)]
    table = Table("site", "name", box=None, pad_edge=False, header_style="bold")
    for name in shown:
        table.add_column(name.replace("_", " "), justify="right")
    table.add_column("")
    for site in sites:
        numbers = [_number(site.get(name)) for name in shown]
        names = [Text(one_line(str(site[key])), overflow="ellipsis") for key in ("id", "name")]
        table.add_row(*names, *numbers, Text("last known" if site["stale"] else "", style="yellow"))
    return table


def _number(number: int | None) -> str:
    return "-" if number is None else f"{number:,d}"


def _list(heading: str, items: list[str], style: str) -> Text:
    """Return a heading with its items below, or the word none."""
    if not items:
        return Text(f"{heading}: none")
    more = [f"and {len(items) - LISTED_MAX} more; --json has all"] if len(items) > LISTED_MAX else []
    lines = [f"  {one_line(item)}" for item in [*items[:LISTED_MAX], *more]]
    return Text.assemble((heading, "bold"), ("\n" + "\n".join(lines), style))


def _ago(status: Status) -> str:
    seconds = (datetime.fromisoformat(status["now"]) - datetime.fromisoformat(status["copied"])).total_seconds()
    return f"{max(0, round(seconds))} s ago" if seconds < 120 else f"at {_local(status['copied'])}"


def _local(moment: str) -> str:
    return f"{datetime.fromisoformat(moment).astimezone():%Y-%m-%d %H:%M:%S %Z}"
