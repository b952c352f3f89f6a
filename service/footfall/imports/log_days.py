"""The days of an access log: visitors, views and pages by the rules of a beacon, whatever the order of the lines.

Visitors are hashed as those of a beacon, under a key that exists in this object alone: once it is gone, nothing leads
from a hash to an address. Hashes and pages are in a temporary file without a name, which SQLite makes and the system
removes whatever happens; so memory does not grow with the log, and the visitors of a day are counted one by one.
"""

import secrets
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import UTC, date, datetime
from functools import lru_cache
from zoneinfo import ZoneInfo

from footfall.imports.log_requests import Request
from footfall.ingest.admission import SiteRules
from footfall.ingest.client_address import AddressResolver, Client
from footfall.ingest.pages import normalise_page
from footfall.ingest.rate_limits import NetworkLimits
from footfall.ingest.robots import Robots
from footfall.ingest.visitor import visitor_id
from footfall.model.imported import ImportedDay
from footfall.model.pages import OTHER
from footfall.model.salt import SALT_BYTES
from footfall.settings.settings import Settings, Site

ROWS_AT_ONCE = 20_000
CACHE_KIB = 16_384
SHOWN = frozenset({"200", "304"})
# Endings of files that a page loads or links to. Any other ending (.html, .php, .aspx, none) is a page.
ENDINGS = """
    css js mjs map wasm png jpg jpeg gif ico svg webp avif bmp tif tiff woff woff2 ttf otf eot
    mp3 mp4 m4a m4v webm ogg ogv wav avi mov flv swf
    xml xsl rss atom json webmanifest txt csv log md pdf doc docx xls xlsx ppt pptx odt ods rtf tex
    zip gz tgz bz2 xz 7z rar tar jar war gem deb rpm apk exe msi dmg iso bin
    c h cpp java py pyc rb lua sh conf patch diff
"""
ASSETS = frozenset(ENDINGS.split())
TABLES = f"""
    PRAGMA journal_mode = OFF;
    PRAGMA synchronous = OFF;
    PRAGMA cache_size = -{CACHE_KIB};
    CREATE TABLE seen (day INTEGER, visitor BLOB, PRIMARY KEY (day, visitor)) WITHOUT ROWID;
    CREATE TABLE page (day INTEGER, page TEXT, views INTEGER, PRIMARY KEY (day, page)) WITHOUT ROWID;
"""
SEEN = "INSERT OR IGNORE INTO seen VALUES (?, ?)"
VIEWED = "INSERT INTO page VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET views = views + excluded.views"
VISITORS = "SELECT count(*) FROM seen WHERE day = ?"
PAGES = "SELECT page, views FROM page WHERE day = ? ORDER BY views DESC, page"


class LogDays:
    """Adds up the requests of one site's logs."""

    def __init__(self, settings: Settings, site: Site) -> None:
        self._site = site
        self._key = secrets.token_bytes(SALT_BYTES)
        self._robots = Robots()
        self._rules = SiteRules(site, 0, NetworkLimits(settings.limits))
        self._resolver = AddressResolver(settings)
        self._client = lru_cache(10_000)(self._resolve)
        self._is_own_host = lru_cache(1000)(self._accepts_host)
        self._views: Counter[int] = Counter()
        self._seen: set[tuple[int, bytes]] = set()
        self._viewed: Counter[tuple[int, str]] = Counter()
        self._tables = sqlite3.connect("")
        self._tables.executescript(TABLES)
        self.left_out: Counter[str] = Counter()
        """Requests that are no view of a person, by the reason."""
        self.lacks_agents = False
        """Some lines do not say the user agent: their robots are counted, and an address is one visitor."""

    def add(self, request: Request) -> bool:
        """Count a request where it is a view of a page, and return whether it is; raises ValueError for no time."""
        if reason := self._why_not(request):
            self.left_out[reason] += 1
            return False
        page = normalise_page(request.target, self._site)
        day = day_of(request.time, self._site).toordinal()
        self._views[day] += 1
        self._seen.add((day, self._visitor(request)))
        if page is not None:
            self._viewed[day, page] += 1
        if len(self._seen) + len(self._viewed) >= ROWS_AT_ONCE:
            self._flush()
        return True

    def __len__(self) -> int:
        """Return the number of days."""
        return len(self._views)

    def __iter__(self) -> Iterator[ImportedDay]:
        """Yield each day with its visitors, views and pages, the earliest first."""
        self._flush()
        for day in sorted(self._views):
            (visitors,) = self._tables.execute(VISITORS, (day,)).fetchone()
            pages: dict[str, int] = defaultdict(int)
            for number, (page, views) in enumerate(self._tables.execute(PAGES, (day,))):
                pages[page if number < self._site.pages_max else OTHER] += views
            yield ImportedDay(date.fromordinal(day), visitors, self._views[day], exact=True, pages=dict(pages))

    def close(self) -> None:
        """Throw the key away, and with it the hashes."""
        self._key = b""
        self._tables.close()

    def _why_not(self, request: Request) -> str:
        """Return why a request is no view of a person; empty where it is one. The cheapest question comes first."""
        if request.method != "GET":
            return "not GET"
        if request.status not in SHOWN:
            return "not status 200 or 304"
        if is_asset(request.target.partition("?")[0]):
            return "no page, but a file of one"
        if request.host is not None and not self._is_own_host(request.host):
            return "of another host"
        if request.agent is None:
            self.lacks_agents = self.lacks_agents or request.session is None
        elif self._robots.is_robot(request.agent):
            return "robot"
        if request.session is None:
            client = self._client(request.address, request.forwarded)
            if not client.address:
                return "no address of a client"
            if self._rules.excludes(client):
                return "of an excluded network"
        return ""

    def _visitor(self, request: Request) -> bytes:
        client = self._client(request.address, request.forwarded)
        return visitor_id(self._key, client, request.agent or "", request.session)

    def _resolve(self, address: str, forwarded: str | None) -> Client:
        return self._resolver.resolve(address or None, [forwarded] if forwarded else [])

    def _accepts_host(self, host: str) -> bool:
        origin = host if "://" in host else f"https://{host.removesuffix(':443').removesuffix(':80')}"
        return self._rules.origins.accepts(origin) or self._rules.origins.accepts(f"https://{host.partition(':')[0]}")

    def _flush(self) -> None:
        # In the order of the key, which SQLite writes much faster.
        self._tables.executemany(SEEN, sorted(self._seen))
        self._tables.executemany(VIEWED, [(day, page, views) for (day, page), views in sorted(self._viewed.items())])
        self._tables.commit()
        self._seen.clear()
        self._viewed.clear()


def is_asset(path: str) -> bool:
    """Return whether the path ends like a file that no visitor opens as a page."""
    _, dot, ending = path.rpartition("/")[2].rpartition(".")
    return bool(dot) and ending.lower() in ASSETS


def day_of(time: str, site: Site) -> date:
    """Return the day of a moment in the site's zone; raises ValueError.

    >>> portal = Site(id="portal", name="Portal", hosts=["portal.example.vn"])
    >>> str(day_of("23/Nov/2026:18:00:00 +0000", portal)), str(day_of("1795456800.5", portal))
    ('2026-11-24', '2026-11-24')
    """
    if time[2:3] == "/":  # without its seconds: a day begins with a minute in every zone
        return _day_of_common(time[:17], time[20:], site.zone)
    if time[:1].isdigit() and time.replace(".", "", 1).isdigit():
        return datetime.fromtimestamp(float(time), site.zone).date()
    return _day_of_iso(time[:16], time[19:], site.zone)


@lru_cache(10_000)
def _day_of_common(minute: str, offset: str, zone: ZoneInfo) -> date:
    return datetime.strptime(f"{minute}{offset}", "%d/%b/%Y:%H:%M %z").astimezone(zone).date()


@lru_cache(10_000)
def _day_of_iso(minute: str, rest: str, zone: ZoneInfo) -> date:
    offset = rest.lstrip(".0123456789,")
    moment = datetime.fromisoformat(f"{minute}{offset or '+00:00'}")
    return moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(zone).date()
