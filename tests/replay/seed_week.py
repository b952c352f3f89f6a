"""Plays the week of a small portal through the demo: its block shows 4, 63, 495 and 1.373.876, whatever is lost.

    python -m tests.replay.seed_week [--listen 127.0.0.1:8080]

Four days of a week are counted by `footfall serve --embedded --demo`, whose clock is moved from day to day, so that it
can be played on any day of the week. Then the service restarts, Redis loses everything, and PostgreSQL's dump is
restored for another Footfall; after each the block must show the same four numbers. Then it serves until Ctrl-C.
"""

import argparse
import asyncio
import os
import re
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from html import unescape
from pathlib import Path
from zoneinfo import ZoneInfo

import aiohttp
from redis.asyncio import Redis

from footfall.embedded.servers import running_servers, servers
from footfall.errors import Stop
from footfall.http.assets import DEMO_ARTICLES
from footfall.settings.settings import DEMO_NAME
from tests.replay.moved_clock import CLOCK_FILE, set_ahead
from tests.support.own_footfall import running
from tests.support.postgres_programs import run_program
from tests.support.project import PROJECT

SITE = "portal"
ZONE = ZoneInfo("Asia/Ho_Chi_Minh")
"""The time zone of the demo portal."""
MOVED = (sys.executable, "-m", "tests.replay.moved_clock")
BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"

DAYS = (range(150), range(130, 290), range(270, 440), range(432, 495))
"""The visitors of Monday to Thursday, by number; some come on two days."""
PRESENT = DAYS[-1][-4:]
"""Those whose pages stay open."""
OLD_COUNTER = 1_373_876 - sum(map(len, DAYS))
BLOCK = ("4", "63", "495", "1.373.876")

PAGES = ("/", *(path for _, path, _ in DEMO_ARTICLES))

PING_EVERY_S = 60
PATIENCE_S = 60
POLL_S = 0.1
AT_ONCE = 8
DAY = timedelta(days=1)


class WrongNumbers(Exception):
    """The block shows something else."""


def thursday_after(now: datetime) -> datetime:
    """Return the next Thursday noon: never before `now`, so that no store drops by its own clock what is shown.

    >>> thursday_after(datetime(2026, 11, 26, 12, 1)).isoformat()
    '2026-12-03T12:00:00'
    """
    noon = now.replace(hour=12, minute=0, second=0, microsecond=0)
    thursday = noon + (3 - now.weekday()) % 7 * DAY
    return thursday if thursday >= now else thursday + 7 * DAY


def address_of(visitor: int) -> str:
    """Return the address of a visitor, of the range that is for tests of networks."""
    return f"198.18.{visitor // 250}.{visitor % 250 + 1}"


def block_lines(html: str) -> Iterator[str]:
    r"""Yield the block's lines that have a number, as a person reads them.

    >>> list(block_lines('<p>\n  <i>Hôm nay: <b class="footfall-today" data-count="today">63</b></i>\n</p>'))
    ['Hôm nay: 63']
    """
    for line in html.splitlines():
        if "data-count=" in line:
            yield unescape(re.sub("<[^>]*>", "", line)).strip()


@dataclass(frozen=True, slots=True)
class Demo:
    """A Footfall that runs, seen as pages see it."""

    url: str
    http: aiohttp.ClientSession
    patience_s: float = PATIENCE_S
    """For how long it may answer otherwise than expected."""

    async def send(self, visitor: int, kind: str) -> None:
        """Send a beacon of a visitor until it is counted; a 503 counted zero times, as while Redis is filled again."""
        body = {"site": SITE, "page": PAGES[visitor % len(PAGES)], "kind": kind}
        headers = {"Origin": self.url, "User-Agent": BROWSER, "X-Forwarded-For": address_of(visitor)}
        async with asyncio.timeout(self.patience_s):
            while True:
                async with self.http.post(f"{self.url}/seen", json=body, headers=headers) as answer:
                    text = await answer.text()
                if answer.status == 200 and "Footfall-Ignored" not in answer.headers:
                    return
                if answer.status not in (202, 503):
                    raise Stop(f"{self.url} does not count a visitor: {answer.status} {text}")
                await asyncio.sleep(POLL_S)

    async def play(self, visitors: Sequence[int], kind: str = "view") -> None:
        """Let visitors come, some at once."""
        for first in range(0, len(visitors), AT_ONCE):
            await asyncio.gather(*(self.send(visitor, kind) for visitor in visitors[first : first + AT_ONCE]))

    async def look(self, moment: str) -> str:
        """Let the open pages report, and return the block; raise WrongNumbers unless it shows the seed's numbers.

        What pages share may be a second old, so it looks again for some seconds.
        """
        await self.play(PRESENT, "ping")
        lines: list[str] = []
        try:
            async with asyncio.timeout(self.patience_s):
                while tuple(line.rpartition(" ")[2] for line in lines) != BLOCK:
                    await asyncio.sleep(POLL_S if lines else 0)
                    async with self.http.get(f"{self.url}/counts.html", params={"site": SITE}) as answer:
                        lines = list(block_lines(await answer.text()))
        except TimeoutError:
            raise WrongNumbers(f"{moment}: {' · '.join(lines)}; expected {' · '.join(BLOCK)}") from None
        say(f"{moment}: {' · '.join(lines)}")
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Play:
    """The folder of the demo, and its clock."""

    folder: Path
    listen: str

    @property
    def clock(self) -> Path:
        """Return the file that moves the clock."""
        return self.folder / "clock"

    def environ(self, name: str, listen: str) -> dict[str, str]:
        """Return the variables of a Footfall with its data under that name; those of the caller do not apply."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("FOOTFALL_")}
        return inherited | {
            CLOCK_FILE: str(self.clock),
            "FOOTFALL_CONFIG": str(self.settings),
            "FOOTFALL_DATA_DIR": str(self.folder / name),
            "FOOTFALL_LISTEN": listen,
            "FOOTFALL_OPS_LISTEN": "127.0.0.1:0",
            "FOOTFALL_TRUSTED_PROXIES": "127.0.0.1/32",
            "PYTHONUNBUFFERED": "1",
        }

    @property
    def settings(self) -> Path:
        """Return the file that has the demo portal."""
        return self.folder / "footfall.toml"

    def prepare(self) -> None:
        """Write the settings, and let PostgreSQL's account pass through the folder where it is another one."""
        self.folder.chmod(0o711)
        self.settings.write_text(f'[sites.{SITE}]\nname = "{DEMO_NAME}"\nhosts = ["127.0.0.1", "localhost"]\n')

    def move_clock(self, moment: datetime) -> None:
        """Let the Footfalls of this play believe that it is `moment`."""
        set_ahead(self.clock, (moment - datetime.now(ZONE)).total_seconds())

    @asynccontextmanager
    async def serving(self, name: str, listen: str) -> AsyncIterator[Demo]:
        """Run the demo with its data under that name."""
        command = (*MOVED, "serve", "--embedded", "--demo", "--workers", "1")
        async with running(*command, environ=self.environ(name, listen)) as url, aiohttp.ClientSession() as http:
            yield Demo(url, http)

    async def run(self, name: str, *arguments: str) -> None:
        """Run another command of Footfall beside the demo of that name."""
        process = await asyncio.create_subprocess_exec(
            *MOVED, *arguments, cwd=PROJECT, env=self.environ(name, self.listen),
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        output, _ = await process.communicate()
        if process.returncode != 0:
            raise Stop(f"footfall {' '.join(arguments)} failed: {output.decode(errors='replace')}")

    async def play(self) -> None:
        """Play the week, then lose what can be lost, and look at the block each time; then serve until cancelled."""
        thursday = thursday_after(datetime.now(ZONE))
        say(f"Four days are played, up to {thursday:%A %Y-%m-%d}: the clock of this Footfall alone is moved.")
        self.move_clock(thursday - 3 * DAY)
        async with self.serving("demo", self.listen) as demo:
            for number, visitors in enumerate(DAYS):
                self.move_clock(thursday + (number - 3) * DAY)
                await demo.play(visitors)
                say(f"{thursday + (number - 3) * DAY:%A}: {len(visitors)} visitors.")
            say(f"{len(set().union(*DAYS))} visitors in the week, some on two days.")
            await self.run(
                "demo", "adjust", SITE, "--embedded",
                "--add", str(OLD_COUNTER), "--reason", "the number of the old counter", "--id", "old-counter",
            )  # fmt: skip
            say(f"The old counter's {OLD_COUNTER:,} are added with footfall adjust.")
            async with self.redis() as redis:
                await redis.delete(f"ff1:{{{SITE}}}:online")
            say("All pages but four are closed; who is online is forgotten at once and not after five minutes.")
            await demo.look("The week")
        async with self.serving("demo", self.listen) as demo:
            await demo.look("After a restart")
            async with self.redis() as redis:
                await redis.flushall()
            block = await demo.look("After FLUSHALL, once the four open pages have reported again")
            await self.restore_elsewhere()
            say(f"\n{block}\n")
            await self.stay(demo)

    @asynccontextmanager
    async def redis(self) -> AsyncIterator[Redis]:
        """Open the Valkey of the demo."""
        async with Redis.from_url(running_servers(self.folder / "demo").redis) as redis:
            yield redis

    async def restore_elsewhere(self) -> None:
        """Restore PostgreSQL's dump into the empty database of another Footfall, and look at its block.

        The dump is whole. A file of deploy/backup.sh lacks the keys of the visitor hash: it brings the same numbers,
        but then the four open pages would be of new visitors.
        """
        dump, elsewhere = self.folder / "footfall.dump", self.folder / "elsewhere"
        saved = running_servers(self.folder / "demo").postgres
        await run_program(saved, "pg_dump", "--format=custom", "--schema=footfall", f"--file={dump}")
        async with servers(elsewhere) as urls:
            await run_program(urls.postgres, "pg_restore", "--single-transaction", "--exit-on-error", str(dump))
        async with self.serving("elsewhere", "127.0.0.1:0") as demo:
            await demo.look("From PostgreSQL's dump, elsewhere")

    async def stay(self, demo: Demo) -> None:
        """Keep the four pages open until cancelled."""
        say(f"Without counting you: {demo.url}/counts.svg?site={SITE}")
        say(f"The demo portal, which counts you as one more: {demo.url}/")
        say("Ctrl-C stops it.")
        while True:
            await asyncio.sleep(PING_EVERY_S)
            await demo.play(PRESENT, "ping")


def say(sentence: str) -> None:
    """Print a sentence at once."""
    print(sentence, flush=True)


def main(arguments: Sequence[str]) -> int:
    """Return 0 if the block showed the four numbers each time, 1 if it did not, 2 if the week could not be played."""
    parser = argparse.ArgumentParser(prog="python -m tests.replay.seed_week", description=__doc__.partition("\n")[0])
    parser.add_argument("--listen", default="127.0.0.1:8080", help="address of the demo (default: 127.0.0.1:8080)")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="footfall-week-", ignore_cleanup_errors=True) as name:
        play = Play(Path(name), given.listen)
        play.prepare()
        try:
            asyncio.run(play.play())
        except WrongNumbers as wrong:
            print(f"The block is wrong. {wrong}", file=sys.stderr)
            return 1
        except Stop as stop:
            print(stop, file=sys.stderr)
            return stop.status
        except KeyboardInterrupt:
            say("Stopped.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
