"""What an honest report must mention: what `footfall events` lists."""

from datetime import UTC, datetime

from footfall.cli.terminal import say, say_rows
from footfall.model.event import Event
from footfall.plain_text import one_line
from footfall.settings.settings import Settings, Site
from footfall.stores.postgres_store import open_postgres
from footfall.sync.event_book import EVERY_SITE, KINDS


async def print_events(settings: Settings, site: Site | None, *, as_csv: bool) -> None:
    """Print the events of a site and those of every site, or all of them, the oldest first."""
    async with open_postgres(settings.postgres_url.get_secret_value()) as postgres:
        events = await (postgres.events(site.id, EVERY_SITE) if site else postgres.events())
    now = datetime.now(UTC)
    if as_csv:
        heading = ["site", "kind", "detail", "recorded_at", "began", "ended", "running"]
        say_rows([heading, *(_row(event, now) for event in events)])
        return
    for event in events:
        say(_line(event, now))
    if not events:
        say(f"No events{f' of {site.id}' if site else ''}: nothing happened that a report must mention.")


def _row(event: Event, now: datetime) -> list[object]:
    ended = None if event.goes_on(now) else event.ended
    moments = (moment and moment.isoformat(timespec="seconds") for moment in (event.at, event.began, ended))
    return [event.site_id, event.kind, event.detail, *(moment or "" for moment in moments), event.goes_on(now)]


def _line(event: Event, now: datetime) -> str:
    site = "every site" if event.site_id == EVERY_SITE else event.site_id
    what = KINDS.get(event.kind, "An event of a newer Footfall")
    if event.began and event.goes_on(now):
        return f"since {_moment(event.began)}, still running  {site}  {event.kind}: {what}"
    if event.began and event.ended:
        lasted = f" to {_moment(event.ended)} ({(event.ended - event.began).total_seconds():,.0f} s)"
        return f"{_moment(event.began)}{lasted}  {site}  {event.kind}: {what}"
    return f"{_moment(event.at)}  {site}  {event.kind}: {what}; {one_line(event.detail)}"


def _moment(moment: datetime) -> str:
    return f"{moment.astimezone():%Y-%m-%d %H:%M %Z}"
