"""Formats of access logs, as servers are configured to write them."""

import pytest

from footfall.errors import Stop
from footfall.imports.log_format import format_of

AGENT = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Firefox/140.0"
TIME = "23/Nov/2026:08:00:00 +0700"
COMMON = f'192.0.2.1 - an [{TIME}] "GET /tin/1?id=2 HTTP/1.1" 200 512'
FOUND = {"address": "192.0.2.1", "request": "GET /tin/1?id=2 HTTP/1.1", "status": "200"}


@pytest.mark.parametrize(
    ("name", "line", "more"),
    [
        pytest.param("common", COMMON, {}, id="common"),
        pytest.param("combined", f'{COMMON} "-" "{AGENT}"', {"agent": AGENT}, id="combined"),
        pytest.param("combined", f'{COMMON} "-" "{AGENT}" "-" 0.004', {"agent": AGENT}, id="combined with more"),
        pytest.param("vhost_combined", f'x.vn:443 {COMMON} "-" "{AGENT}"', {"host": "x.vn"}, id="vhost_combined"),
        pytest.param(
            '$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer"'
            ' "$http_user_agent" "$http_x_forwarded_for" rt=$request_time',
            f'{COMMON} "-" "{AGENT}" "203.0.113.9, 10.0.0.1" rt=0.002',
            {"agent": AGENT, "forwarded": "203.0.113.9, 10.0.0.1"},
            id="nginx with its proxies",
        ),
        pytest.param(
            '%v %{X-Forwarded-For}i|%a|%t|"%r"|%>s|%D|"%{User-Agent}i"',
            f'x.vn 203.0.113.9|192.0.2.1|[{TIME}]|"GET /tin/1?id=2 HTTP/1.1"|200|1834|"{AGENT}"',
            {"host": "x.vn", "forwarded": "203.0.113.9"},
            id="Apache with other signs between",
        ),
        pytest.param(
            "combined", f'{COMMON.replace(" an ", " an binh ")} "-" "a \\"b\\""', {"agent": 'a \\"b\\"'}, id="odd"
        ),
    ],
)
def test_a_line_is_read_by_its_format(name: str, line: str, more: dict[str, str]) -> None:
    """An administrator copies the format from the configuration of the server."""
    found = format_of(name).read(line) or {}
    assert found["time"].strip("[]") == TIME
    assert {key: found[key] for key in FOUND | more} == FOUND | more


def test_method_path_and_query_may_stand_apart() -> None:
    """Some write no whole request line."""
    line_format = format_of('$remote_addr $msec $request_method "$host$request_uri" $status')
    found = line_format.read('192.0.2.1 1795456800.123 GET "x.vn/tin/1" 200') or {}
    assert (found["time"], found["method"], found["host"]) == ("1795456800.123", "GET", "x.vn/tin/1")
    apache = format_of("%h %t %m %U%q %s").read(f"192.0.2.1 [{TIME}] GET /tin/1?id=2 200") or {}
    assert (apache["path"], apache["query"]) == ("/tin/1", "?id=2")


def test_a_format_without_what_is_needed_is_refused() -> None:
    """The sentence names what lacks, and the formats that have a name."""
    with pytest.raises(Stop, match=r"lacks the client's address, the time, the request, the status: give common"):
        format_of("combind")
    with pytest.raises(Stop, match="lacks the status"):
        format_of('$remote_addr [$time_local] "$request"')
    with pytest.raises(Stop, match="%t alone is read"):
        format_of('%h %{%s}t "%r" %s')


@pytest.mark.timeout(60)
def test_a_line_that_does_not_fit_costs_no_more_than_its_length() -> None:
    """A client chooses its request and its user agent: no line may keep the expression busy for minutes."""
    for name in ("common", "combined", "vhost_combined"):
        for text in ('" ' * 30_000, "[ " * 30_000, "- " * 30_000, '\\"' * 30_000):
            assert format_of(name).read(f"192.0.2.1 - {text}") is None
