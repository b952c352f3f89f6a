"""The command line: `footfall`, also `python -m service`."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Annotated, Any

import typer
from prometheus_client import CollectorRegistry
from pydantic import SecretStr

from service import __version__, doctor, render, sql_folder
from service.config import Listen, Settings, Site, load_settings, parse_listen, settings_file
from service.embedded import servers
from service.errors import Stop, StoreUnavailable
from service.metrics import Metrics
from service.migrations import migrate as apply_migrations
from service.postgres_store import PostgresStore, open_postgres
from service.redis_store import open_redis
from service.rollup import Rollup
from service.salts import Salts
from service.supervisor import Supervisor, listen, start_logging

app = typer.Typer(
    help="Footfall: the visitor counter behind a portal's footer (online, today, this week, all time).",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

SiteArgument = Annotated[str, typer.Argument(metavar="SITE", help="Id of a configured site, such as portal.")]


def main() -> None:
    """Run a command; what it cannot do is one sentence on standard error and an exit status, never a traceback."""
    try:
        app()
    except Stop as stop:
        print(f"footfall: {stop}", file=sys.stderr)
        sys.exit(stop.status)
    except StoreUnavailable as error:
        print(f"footfall: {error}", file=sys.stderr)
        sys.exit(1)


@app.command()
def serve(
    embedded: Annotated[
        bool,
        typer.Option(
            "--embedded", help="Start an own Valkey and PostgreSQL, with their data in FOOTFALL_DATA_DIR."
        ),
    ] = False,
    demo: Annotated[bool, typer.Option("--demo", help="Serve the demo portal at /, site id portal.")] = False,
    workers: Annotated[
        int, typer.Option(min=1, max=64, help="Worker processes; one per core is enough.")
    ] = 1,
) -> None:
    """Count beacons and serve the numbers, until Ctrl-C or SIGTERM. SIGHUP reads the settings again."""
    start_logging()
    asyncio.run(_serve(embedded=embedded, demo=demo, workers=workers))


@app.command()
def migrate() -> None:
    """Create or update the tables in PostgreSQL, as the role that owns them (FOOTFALL_MIGRATE_URL)."""
    settings = _settings()
    url = (settings.migrate_url or settings.postgres_url).get_secret_value()
    applied = asyncio.run(apply_migrations(url, sql_folder()))
    for name in applied:
        print(f"applied {name}")
    if not applied:
        print("The schema is up to date.")


@app.command()
def rollup() -> None:
    """Copy what changed from Redis to PostgreSQL now, all sites, and print a line for each."""

    async def run() -> None:
        async with _open_rollup(_settings()) as (step, _):
            done = await step.step(everything=True)
            for site in done:
                print(f"{site.site}: {site.saved} days saved, {site.joined_back} joined back into Redis")
            if len(done) < len(_settings().sites):
                raise Stop(
                    "Not every site was rolled up; the lines above say why. `footfall doctor` checks the stores.",
                    1,
                )

    start_logging()
    _run(run())


@app.command()
def adjust(
    site: SiteArgument,
    add: Annotated[
        int | None, typer.Option(help="Number to add to the all-time total; may be negative.")
    ] = None,
    reason: Annotated[str, typer.Option(help="Why, for the journal.")] = "",
    adjustment_id: Annotated[
        str, typer.Option("--id", help="Your name for this correction; the same one counts once.")
    ] = "",
    show: Annotated[bool, typer.Option("--list", help="Show the journal of corrections.")] = False,
) -> None:
    """Correct a site's all-time total, for example by the old counter's number, or show the corrections."""
    settings = _settings()
    configured = _site(settings, site)
    if show:
        _run(_list_adjustments(settings, configured))
        return
    if add is None or not reason.strip() or not adjustment_id.strip():
        raise Stop(
            f'Say what to add, why, and under which name: footfall adjust {site} --add 1373876 --reason "…" --id old-counter'
        )
    if not -(2**53) < add < 2**53:
        raise Stop("--add must lie between -2^53 and 2^53.")
    _run(_adjust(settings, configured, adjustment_id.strip(), add, reason.strip()))


@app.command()
def snippet(site: SiteArgument) -> None:
    """Print the lines to paste into the pages of a site."""
    settings = _settings()
    print(render.snippet(_site(settings, site), settings.public_url))


@app.command("doctor")
def check() -> None:
    """Check what operators get wrong: stores, versions, persistence, clocks, zones, the script. Exit status 1 on failure."""
    checks = asyncio.run(doctor.examine(_settings()))
    for line in checks:
        print(line)
    if any(line.failed for line in checks):
        sys.exit(1)


@app.command()
def version() -> None:
    """Print the version."""
    print(__version__)


async def _serve(*, embedded: bool, demo: bool, workers: int) -> None:
    def load() -> Settings:
        return load_settings(settings_file(os.environ), os.environ, embedded=embedded, demo=demo)

    settings = load()
    async with AsyncExitStack() as stack:
        public = stack.enter_context(await listen(settings.listen))
        ops = stack.enter_context(await listen(settings.ops_listen))
        stores: dict[str, SecretStr] = {}
        if embedded:
            print("Footfall is starting its Valkey and PostgreSQL ...", flush=True)
            urls = await stack.enter_async_context(servers(settings.data_dir))
            stores = {"redis_url": SecretStr(urls.redis), "postgres_url": SecretStr(urls.postgres)}
            await apply_migrations(urls.postgres, sql_folder())

        def load_with_stores() -> Settings:
            return load().model_copy(update=stores)

        def announce() -> None:
            where = parse_listen(settings.listen)
            ops_where = parse_listen(settings.ops_listen)
            print(f"Footfall is ready: {_url(where, public.getsockname())}")
            print(f"Metrics: {_url(ops_where, ops.getsockname())}/metrics", flush=True)

        supervisor = Supervisor(settings.model_copy(update=stores), workers, public, ops)
        await supervisor.run(load_with_stores, announce)
    print("Footfall has stopped.", flush=True)


def _url(where: object, bound: Any) -> str:
    if not isinstance(where, Listen):
        return f"unix:{where}"
    host = "127.0.0.1" if where.host in ("0.0.0.0", "::") else where.host  # noqa: S104
    return f"http://{Listen(host, bound[1])}"


@asynccontextmanager
async def _open_rollup(settings: Settings) -> AsyncIterator[tuple[Rollup, PostgresStore]]:
    """The stores and the join between them, without a worker."""
    async with (
        open_redis(settings.redis_url.get_secret_value(), settings.redis_timeout_s) as redis,
        open_postgres(settings.postgres_url.get_secret_value()) as postgres,
    ):
        metrics = Metrics(CollectorRegistry())
        yield Rollup(settings, redis, postgres, Salts(metrics), metrics), postgres


async def _adjust(settings: Settings, site: Site, adjustment_id: str, amount: int, reason: str) -> None:
    async with _open_rollup(settings) as (step, postgres):
        if not await postgres.adjust(site.id, adjustment_id, amount, reason):
            print(f"{adjustment_id} is in the journal of {site.id} already; nothing changed.")
            return
        print(f"Added {amount:+d} to the total of {site.id} as {adjustment_id}.")
        if not await step.step():
            print("Redis could not be told; the running service shows it after its next rollup.")


async def _list_adjustments(settings: Settings, site: Site) -> None:
    async with open_postgres(settings.postgres_url.get_secret_value()) as postgres:
        journal = await postgres.adjustments(site.id)
    for entry in journal:
        print(
            f"{entry.made_at:%Y-%m-%d %H:%M}  {entry.amount:+15d}  {entry.id}  {entry.reason}  ({entry.made_by})"
        )
    print(f"{len(journal)} corrections, {sum(entry.amount for entry in journal):+d} in all")


def _run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)


def _settings() -> Settings:
    return load_settings(settings_file(os.environ), os.environ)


def _site(settings: Settings, site_id: str) -> Site:
    if site_id not in settings.sites:
        raise Stop(f"No site is called {site_id}; configured are: {', '.join(sorted(settings.sites))}.")
    return settings.sites[site_id]


if __name__ == "__main__":
    main()
