"""The requests of access logs: files of any of the common formats, packed or not, one line at a time."""

import bz2
import csv
import gzip
import io
import json
import lzma
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any, NamedTuple

from footfall.errors import Stop
from footfall.imports.log_format import NAMED, LineFormat, format_of, unescaped

LINES_TRIED = 50
"""Lines from which a format is found."""
LINE_MAX_CHARS = 65_536
PACKED: Sequence[tuple[bytes, Callable[[IO[bytes]], Any]]] = (
    (b"\x1f\x8b", lambda file: gzip.GzipFile(fileobj=file)),
    (b"BZh", bz2.BZ2File),
    (b"\xfd7zXZ", lzma.LZMAFile),
)
"""How a file begins that is packed, and what unpacks it."""
UTF16 = (b"\xff\xfe", b"\xfe\xff")
FORMATS = (*NAMED, "w3c", "json", "goatcounter")


class Request(NamedTuple):
    """A request as a log has it; None for what the log does not say."""

    time: str
    """As it is written: of a day in a zone, or seconds since the epoch."""
    address: str
    forwarded: str | None
    method: str
    target: str
    status: str
    host: str | None
    agent: str | None
    session: str | None = None
    """Another counter's name for the visitor, in place of address and user agent."""


class Unread(NamedTuple):
    """A line that was not understood, and why."""

    file: Path
    line: int
    why: str


class Broken(Exception):
    """A line is no request; the sentence says why."""


Read = Callable[[str], Request | None]
"""Returns the request of a line, or None for a line that holds none; raises Broken, or whatever a
broken line makes of its parts."""


@dataclass(slots=True)
class OpenLog:
    """A log that is being read: what of the file is behind, and its lines with their numbers."""

    path: Path
    file: IO[bytes]
    text: IO[str]
    read: Read
    lines: Iterator[tuple[int, str]]

    @property
    def bytes_read(self) -> int:
        """Return how far the file is read, packed as it is."""
        return self.path.stat().st_size if self.file.closed else self.file.tell()

    def close(self) -> None:
        """Close the file."""
        self.text.close()
        self.file.close()

    def requests(self) -> Iterator[tuple[int, Request | Unread]]:
        """Yield the number of each line, with its request or with why it has none; lines without meaning are left out.

        Raises Stop where the file breaks off in the middle of what is packed.
        """
        try:
            for number, line in self.lines:
                try:
                    request = self.read(line)
                except (Broken, ValueError, KeyError, TypeError, AttributeError) as error:
                    yield number, Unread(self.path, number, str(error) if isinstance(error, Broken) else "is broken")
                else:
                    if request is not None:
                        yield number, request
        except (EOFError, OSError, lzma.LZMAError) as error:
            raise Stop(f"{self.path} cannot be unpacked to its end: {error}; is it still being written?") from None
        finally:
            self.close()


def open_log(path: Path, format_name: str = "") -> OpenLog:
    """Open a log, and find its format where none is given; raises Stop where that fails."""
    try:
        file = path.open("rb")
    except OSError as error:
        raise Stop(f"{path} cannot be read: {error.strerror}") from error
    try:
        return _open(file, path, format_name)
    except BaseException:
        file.close()
        raise


def _open(file: IO[bytes], path: Path, format_name: str) -> OpenLog:
    start = file.read(6)
    file.seek(0)
    unpack = next((unpack for mark, unpack in PACKED if start.startswith(mark)), None)
    content = unpack(file) if unpack else file
    try:
        first = content.read(3)
        if first.startswith(UTF16):
            raise Stop(f"{path} is in UTF-16: convert it first, iconv -f UTF-16 -t UTF-8 {path.name} > new.log")
        content.seek(3 if first == b"\xef\xbb\xbf" else 0)
        # A byte that is no UTF-8 stays, so that two names that differ in it stay two.
        text = io.TextIOWrapper(content, encoding="utf-8", errors="surrogateescape", newline="\n")
        lines = _numbered(text)
        some = list(islice(lines, LINES_TRIED))
    except (EOFError, OSError, lzma.LZMAError) as error:
        raise Stop(f"{path} cannot be unpacked: {error}") from None
    return OpenLog(path, file, text, _reader(format_name, [line for _, line in some], path), chain(some, lines))


def _numbered(text: IO[str]) -> Iterator[tuple[int, str]]:
    number = 0
    while line := text.readline(LINE_MAX_CHARS):
        number += 1
        if len(line) == LINE_MAX_CHARS and not line.endswith("\n"):  # no server writes such a line
            while (rest := text.readline(LINE_MAX_CHARS)) and not rest.endswith("\n"):
                pass
        if stripped := line.rstrip("\r\n"):
            yield number, stripped


def _reader(format_name: str, lines: Sequence[str], path: Path) -> Read:
    name = format_name or _format_name(lines, path)
    match name:
        case "w3c":
            return _W3c().read
        case "json":
            return _read_json
        case "goatcounter":
            return _GoatCounter().read
        case _:
            return _Lines(format_of(name)).read


def _format_name(lines: Sequence[str], path: Path) -> str:
    """Find the format of a log by its first lines."""
    first = lines[0] if lines else ""
    if first.startswith("{"):
        return "json"
    if any(line.startswith("#Fields:") for line in lines):
        return "w3c"
    if ",Title,Event," in first:
        return "goatcounter"
    # The longer format comes first: a line in combined format is one in common format, with more behind it.
    for name in reversed([*NAMED]):
        if 2 * sum(map(bool, map(format_of(name).line.fullmatch, lines))) >= len(lines):
            return name
    raise Stop(
        f"{path}: the format of these lines is not known. Give it as the configuration of nginx or Apache writes"
        " it: --format '$remote_addr - $remote_user [$time_local] \"$request\" $status …', or one of "
        f"{', '.join(FORMATS)}. The first line is: {lines[0][:200]}"
    )


class _Lines:
    """Lines of a format of Apache or nginx."""

    def __init__(self, line_format: LineFormat) -> None:
        self._line = line_format.line
        self._has_agent = "agent" in line_format.fields

    def read(self, line: str) -> Request | None:
        match = self._line.fullmatch(line)
        if match is None:
            raise Broken("has another form than the format")
        found = match.groupdict()
        method, target = found.get("method") or "", found.get("target") or found.get("path") or ""
        if "request" in found:
            method, _, rest = unescaped(found["request"]).partition(" ")
            target = rest.rpartition(" ")[0] if " HTTP/" in rest else rest
        elif "path" in found:
            target += found.get("query") or (f"?{found['arguments']}" if found.get("arguments", "-") != "-" else "")
        agent = unescaped(found["agent"]).strip(" \t") if self._has_agent else None
        forwarded = found.get("forwarded")
        return Request(
            found["time"].strip("[]"),
            found.get("address") or "",
            None if forwarded in (None, "-", "") else forwarded,
            method or "GET",
            target,
            found["status"],
            found.get("host"),
            "" if agent == "-" else agent,
        )


class _W3c:
    """Lines of IIS: the columns stand in the file itself, and may change within it."""

    def __init__(self) -> None:
        self._columns: Sequence[str] = ()

    def read(self, line: str) -> Request | None:
        if line.startswith("#"):
            if line.startswith("#Fields:"):
                self._columns = [name.lower() for name in line.split()[1:]]
            return None
        values = line.split(" ")
        if len(values) != len(self._columns):
            raise Broken(f"has {len(values)} columns, and #Fields names {len(self._columns)}")
        found = {name: value for name, value in zip(self._columns, values, strict=True) if value != "-"}
        if not {"date", "time", "c-ip"} <= found.keys():
            raise Broken("lacks date, time or c-ip: have IIS write these columns")
        query, agent = found.get("cs-uri-query"), found.get("cs(user-agent)", "")
        has_agent = "cs(user-agent)" in self._columns
        return Request(
            f"{found['date']}T{found['time']}+00:00",  # IIS writes UTC
            found["c-ip"],
            found.get("x-forwarded-for"),
            found.get("cs-method", "GET"),
            found.get("cs-uri-stem", "") + (f"?{query}" if query else ""),
            found.get("sc-status", ""),
            found.get("cs-host"),
            agent.replace("+", " ") if has_agent else None,
        )


def _read_json(line: str) -> Request:
    entry: dict[str, Any] = json.loads(line)
    if "request" in entry:  # Caddy
        request = entry["request"]
        headers = {name.lower(): values for name, values in request.get("headers", {}).items()}
        address = request.get("client_ip") or request.get("remote_ip") or request["remote_addr"].rpartition(":")[0]
        return Request(
            str(entry["ts"]),
            address.strip("[]"),
            None,
            request["method"],
            request["uri"],
            str(entry["status"]),
            request.get("host"),
            " ".join(headers.get("user-agent", [])) if "headers" in request else None,
        )
    if "RequestPath" in entry:  # Traefik
        return Request(
            entry.get("StartUTC") or entry["time"],
            entry["ClientHost"],
            entry.get("request_X-Forwarded-For"),
            entry["RequestMethod"],
            entry["RequestPath"],
            str(entry.get("DownstreamStatus") or entry["OriginStatus"]),
            entry.get("RequestHost"),
            entry.get("request_User-Agent"),
        )
    raise Broken("is no request of Caddy or Traefik")


class _GoatCounter:
    """Lines of GoatCounter's export: one for each view, with a session for each visitor of a day."""

    def __init__(self) -> None:
        self._columns: Sequence[str] = ()

    def read(self, line: str) -> Request | None:
        (values,) = csv.reader([line])
        if not self._columns:
            self._columns = [name.lstrip("0123456789").lower() for name in values]
            return None
        found = dict(zip(self._columns, values, strict=True))
        if found["event"].lower() in ("true", "1"):
            return None
        is_robot = found["bot"] not in ("", "0", "false")
        return Request(
            found["date"], "", None, "GET", found["path"], "200", None, "" if is_robot else None, found["session"]
        )
