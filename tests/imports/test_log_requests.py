"""Lines of logs in all formats: small ones of our own in the shapes that servers write."""

import bz2
import gzip
import json
import lzma
from collections.abc import Callable
from pathlib import Path

import pytest

from footfall.errors import Stop
from footfall.imports.log_requests import Request, Unread, open_log

AGENT = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
TIME = "23/Nov/2026:08:00:00 +0700"
COMBINED = f'192.0.2.1 - - [{TIME}] "GET /tin/1?id=2 HTTP/1.1" 200 512 "-" "{AGENT}"'
EXPECTED = Request(TIME, "192.0.2.1", None, "GET", "/tin/1?id=2", "200", None, AGENT)
CADDY = {
    "level": "info",
    "ts": 1795456800.25,
    "logger": "http.log.access",
    "request": {
        "remote_ip": "10.0.0.1",
        "client_ip": "192.0.2.1",
        "proto": "HTTP/2.0",
        "method": "GET",
        "host": "portal.example.vn",
        "uri": "/tin/1?id=2",
        "headers": {"User-Agent": [AGENT]},
    },
    "status": 200,
}
TRAEFIK = {
    "ClientHost": "192.0.2.1",
    "DownstreamStatus": 200,
    "RequestHost": "portal.example.vn",
    "RequestMethod": "GET",
    "RequestPath": "/tin/1?id=2",
    "StartUTC": "2026-11-23T01:00:00.123456789Z",
    "request_User-Agent": AGENT,
}
IIS = f"""#Software: Microsoft Internet Information Services 10.0
#Fields: date time s-ip cs-method cs-uri-stem cs-uri-query s-port cs-username c-ip cs(User-Agent) sc-status time-taken
2026-11-23 01:00:00 10.0.0.1 GET /tin/1 id=2 443 - 192.0.2.1 {AGENT.replace(" ", "+")} 200 15
#Fields: date time c-ip cs-method cs-uri-stem sc-status
2026-11-23 01:00:01 192.0.2.1 GET /tin/2 200
2026-11-23 01:00:01 192.0.2.1 GET
"""
LAST = "Screen size,Location,FirstVisit,Date"
GOATCOUNTER = f"""2Path,Title,Event,UserAgent,Browser,System,Session,Bot,Referrer,Referrer scheme,{LAST}
/tin/1,"Tin, một",false,,Firefox 140,Linux,s1,0,,,"1920,1080,1",VN,true,2026-11-23T01:00:00Z
bam-nut,,true,,Firefox 140,Linux,s1,0,,,,VN,false,2026-11-23T01:00:02Z
/tin/2,,false,,Bot,Linux,s2,7,,,,VN,true,2026-11-23T01:00:03Z
"""


def read(folder: Path, content: str | bytes, format_name: str = "") -> list[Request | Unread]:
    """Write a log and read it."""
    path = folder / "access.log"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return [request for _, request in open_log(path, format_name).requests()]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        pytest.param(COMBINED + "\n", EXPECTED, id="combined"),
        pytest.param(f"\ufeff{COMBINED}\r\n", EXPECTED, id="a mark, and line ends of Windows"),
        pytest.param(COMBINED.partition(' "-"')[0], EXPECTED._replace(agent=None), id="common, no last line end"),
        pytest.param(
            f"portal.example.vn:443 {COMBINED}", EXPECTED._replace(host="portal.example.vn"), id="vhost_combined"
        ),
        pytest.param(COMBINED.replace(AGENT, r"a \"b\""), EXPECTED._replace(agent='a "b"'), id="quotes within"),
        pytest.param(COMBINED.replace(AGENT, "-"), EXPECTED._replace(agent=""), id="no user agent was sent"),
        pytest.param(
            json.dumps(CADDY),
            EXPECTED._replace(time="1795456800.25", host="portal.example.vn"),
            id="Caddy",
        ),
        pytest.param(
            json.dumps(TRAEFIK),
            EXPECTED._replace(time="2026-11-23T01:00:00.123456789Z", host="portal.example.vn"),
            id="Traefik",
        ),
    ],
)
def test_a_format_is_known_by_its_lines(tmp_path: Path, content: str, expected: Request) -> None:
    """An administrator names the files, and nothing else."""
    assert read(tmp_path, content) == [expected]


def test_iis_says_its_columns_in_the_file(tmp_path: Path) -> None:
    """They change where an administrator chooses others; a line with other columns is not guessed at."""
    first, second, broken = read(tmp_path, IIS)
    assert first == EXPECTED._replace(time="2026-11-23T01:00:00+00:00")
    assert second == Request("2026-11-23T01:00:01+00:00", "192.0.2.1", None, "GET", "/tin/2", "200", None, None)
    assert broken == Unread(tmp_path / "access.log", 6, "has 4 columns, and #Fields names 6")


def test_goatcounter_has_a_session_in_place_of_an_address(tmp_path: Path) -> None:
    """Its export names no address; events are no views, and its robots are robots."""
    view, robot = read(tmp_path, GOATCOUNTER)
    assert view == Request("2026-11-23T01:00:00Z", "", None, "GET", "/tin/1", "200", None, None, "s1")
    assert isinstance(robot, Request)
    assert robot.agent == ""


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_packed_logs_are_read_as_they_are(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    """Rotated logs are packed, and unpacking a year of them needs a disk."""
    packed = pack((COMBINED + "\n").encode() * 1000)
    assert read(tmp_path, packed) == [EXPECTED] * 1000
    with pytest.raises(Stop, match=r"access\.log cannot be unpacked"):
        read(tmp_path, packed[: len(packed) // 2])


def test_bytes_that_are_no_utf8_stay_apart(tmp_path: Path) -> None:
    """An old server writes Latin-1; two names that differ in one such byte are two."""
    lines = [COMBINED.replace("/tin/1", path).encode("latin-1") for path in ("/caf\xe9", "/caf\xe8")]
    one, other = read(tmp_path, b"\n".join(lines))
    assert isinstance(one, Request)
    assert isinstance(other, Request)
    assert one.target != other.target


def test_what_cannot_be_read_is_said_in_a_sentence(tmp_path: Path) -> None:
    """Each says what to do."""
    with pytest.raises(Stop, match=r"is in UTF-16: convert it first, iconv -f UTF-16 -t UTF-8 access\.log"):
        read(tmp_path, COMBINED.encode("utf-16"))
    with pytest.raises(Stop, match=r"(?s)the format of these lines is not known\. Give it as .*first line is: a;b;c"):
        read(tmp_path, "a;b;c\n" * 5)
    with pytest.raises(Stop, match="No such file"):
        open_log(tmp_path / "nowhere.log")
    assert read(tmp_path, "") == []


def test_lines_that_are_no_requests_are_named_by_their_number(tmp_path: Path) -> None:
    """One broken line must not stop a million others, and none is left out silently."""
    found = read(tmp_path, f"{COMBINED}\n\n{COMBINED[:-1]}\n{COMBINED}\n{'x' * 200_000}\n{COMBINED}\n")
    assert [one.line for one in found if isinstance(one, Unread)] == [3, 5]
    assert found.count(EXPECTED) == 3
    found = read(tmp_path, f"{json.dumps(CADDY)}\n{{\n[]\n{{}}\n")
    assert [one.why for one in found[1:] if isinstance(one, Unread)] == [
        "is broken",
        "is no request of Caddy or Traefik",
        "is no request of Caddy or Traefik",
    ]
