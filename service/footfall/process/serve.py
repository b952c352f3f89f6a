"""`footfall serve`: opens the listeners, the embedded servers and the workers; closes them in reverse order."""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from footfall import sql_folder
from footfall.embedded.servers import ServerUrls, servers
from footfall.log_lines import logs_json, start_logging, write_at_once
from footfall.metrics.slots import metrics_folder
from footfall.model.clocks import WALL_CLOCK
from footfall.model.retention import Retention
from footfall.process.sockets import listening, url_of
from footfall.process.supervisor import Supervisor
from footfall.process.systemd import READY, STOPPING, inherited_socket, notify
from footfall.settings.settings import DEMO_SITE, Settings, Site, load_settings, settings_file

logger = logging.getLogger(__name__)

TERMINAL = Path("/dev/tty")


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says of a service."""

    environ: Callable[[], Mapping[str, str]]
    """Reads the variables, at the start and at each SIGHUP."""
    embedded: bool = False
    demo: bool = False
    demo_history: bool = False
    """Whether the demo portal gets a made year at its first start."""
    workers: int | None = None
    """None is what the settings say."""

    def load(self) -> Settings:
        """Return the checked settings; raises SettingsError."""
        environ = self.environ()
        return load_settings(settings_file(environ), environ, embedded=self.embedded, demo=self.demo)


async def serve(options: Options) -> None:
    """Serve until SIGINT or SIGTERM; SIGHUP reads the settings again. Raises Stop where Footfall cannot start."""
    reload = asyncio.Event()
    await _run_until_signal(_serve(options, reload), reload)
    _tell("Footfall has stopped.")


def with_stores(settings: Settings, urls: ServerUrls | None) -> Settings:
    """Return `settings` with the embedded servers as stores; without `urls`, return them unchanged."""
    if urls is None:
        return settings
    return settings.model_copy(
        update={"redis_url": SecretStr(urls.redis), "postgres_url": SecretStr(urls.postgres), "migrate_url": None}
    )


async def _serve(options: Options, reload: asyncio.Event) -> None:
    def load() -> Settings:
        settings = options.load()
        start_logging(settings.log_format, settings.log_level)
        return with_stores(settings, urls)

    urls: ServerUrls | None = None
    settings = load()
    async with AsyncExitStack() as stack:
        public = inherited_socket(os.environ)
        if public is None:
            public = await stack.enter_async_context(listening(settings.listen, "FOOTFALL_LISTEN"))
        ops = await stack.enter_async_context(listening(settings.ops_listen, "FOOTFALL_OPS_LISTEN"))
        folder = stack.enter_context(metrics_folder())
        if options.embedded:
            _tell("Footfall is starting its Valkey and PostgreSQL ...")
            urls = await stack.enter_async_context(servers(settings.data_dir))
            settings = with_stores(settings, urls)
            await _fill(urls.postgres, settings.sites[DEMO_SITE] if options.demo_history else None)

        workers = options.workers or settings.workers

        def announce() -> None:
            notify(READY, f"STATUS=Serving on {url_of(public)}, worker processes: {workers}")
            _tell(f"Footfall is ready: {url_of(public)}")
            _tell(f"Metrics: {url_of(ops)}/metrics")

        await Supervisor(settings, workers, public, ops, folder).run(load, reload, announce)


async def _fill(postgres_url: str, demo: Site | None) -> None:
    """Create or update the tables of the embedded PostgreSQL; give `demo`, if it is new there, a made year."""
    # Without embedded servers a parent speaks to no store.
    from footfall.imports.demo_history import import_demo_history  # noqa: PLC0415
    from footfall.stores.migrations import migrate  # noqa: PLC0415

    await migrate(postgres_url, sql_folder())
    if demo is not None:
        through = Retention.at(WALL_CLOCK(), demo.zone).closed_through
        if days := await import_demo_history(postgres_url, demo.id, through):
            _tell(f"The demo portal has {days} made days of history now: they are demo data.")


def _tell(sentence: str) -> None:
    """Print a sentence for the person who started Footfall; where programs read the log, log it."""
    if logs_json():
        logger.info("%s", sentence)
        return
    with suppress(OSError):  # the terminal may be closed
        write_at_once(f"{sentence}\n", sys.stdout)


async def _run_until_signal(work: Coroutine[None, None, None], reload: asyncio.Event) -> None:
    """Run `work`. The first SIGINT or SIGTERM cancels `work`; later ones do not disturb its unwinding.

    SIGHUP sets `reload`. When the terminal that started Footfall was closed, SIGHUP stops Footfall instead.
    """
    loop = asyncio.get_running_loop()
    task = asyncio.create_task(work)
    stopping = False
    ends_with_terminal = signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN and _has_terminal()  # nohup ignores it

    def stop() -> None:
        nonlocal stopping
        if not stopping:
            stopping = True
            notify(STOPPING)
            task.cancel()

    def hang_up() -> None:
        if ends_with_terminal and not _has_terminal():
            stop()
        else:
            reload.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    loop.add_signal_handler(signal.SIGHUP, hang_up)
    try:
        await task
    except asyncio.CancelledError:
        if not stopping:
            raise


def _has_terminal() -> bool:
    try:
        os.close(os.open(TERMINAL, os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True
