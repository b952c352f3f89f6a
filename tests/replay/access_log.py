"""An access log in combined format, read as page views: who opened which page with what."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from footfall.errors import Stop
from footfall.imports.log_days import SHOWN, is_asset
from footfall.imports.log_format import format_of
from footfall.ingest.visitor import USER_AGENT_MAX_CHARS

PAGE_MAX_CHARS = 500

COMBINED = format_of("combined")


@dataclass(frozen=True, slots=True)
class View:
    """One page view of the log: address, user agent and page."""

    address: str
    user_agent: str
    page: str

    @property
    def visitor(self) -> tuple[bytes, str]:
        """Return network (IPv4 address or IPv6 /64) and user agent: what distinguishes visitors in Footfall."""
        address = ip_address(self.address)
        address = getattr(address, "ipv4_mapped", None) or address
        return address.packed[:8], self.user_agent[:USER_AGENT_MAX_CHARS]


@dataclass(frozen=True, slots=True)
class Log:
    """The content of a log."""

    lines: int
    unparseable: int
    views: tuple[View, ...]


def open_log(path: Path) -> Log:
    """Return the log of that name; raise Stop if there is none, or if it has no page view."""
    try:
        # A byte that is no UTF-8 stays visible, so that two user agents that differ in it stay two.
        with path.open(encoding="utf-8", errors="backslashreplace", newline="\n") as lines:
            log = read_log(lines)
    except OSError as error:
        raise Stop(f"{path} cannot be read ({error.strerror}): name an access log.") from None
    if not log.views:
        raise Stop(f"{path} has no page view in {log.lines} lines: is it in combined format?")
    return log


def read_log(lines: Iterable[str]) -> Log:
    """Sort the lines into page views, other requests, and broken lines."""
    parsed = [parse_line(line) for line in lines]
    views = tuple(line for line in parsed if isinstance(line, View))
    return Log(len(parsed), parsed.count(None), views)


def parse_line(line: str) -> View | str | None:
    """Return the page view of one line; the request if it is none; None if the line is broken."""
    found = COMBINED.read(line.rstrip("\r\n"))
    if found is None or not _is_address(found["address"]):
        return None
    request, status, user_agent = found["request"], found["status"], found["agent"]
    method, _, target = request.partition(" ")
    page = re.split(r"[ ?#]", target, maxsplit=1)[0]
    if method != "GET" or status not in SHOWN or is_asset(page):
        return request
    # Servers log a missing header as "-", and strip the spaces around a value.
    return View(found["address"], "" if user_agent == "-" else user_agent.strip(" \t"), page[:PAGE_MAX_CHARS])


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return "%" not in text
