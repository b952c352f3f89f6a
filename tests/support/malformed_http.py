"""Requests that are no HTTP/1.1, or that two servers on their way could read in two ways."""

from collections.abc import Iterator, Mapping

from tests.support.raw_http import head

BODY = b'{"site":"portal"}'
SMUGGLED = head("GET", "/counts?site=portal")
"""Follows where one reader sees the end of the request and another reader does not."""


def _post(*lines: bytes, body: bytes = BODY + SMUGGLED) -> bytes:
    """Return a beacon with these header lines instead of its length."""
    return head().removesuffix(b"\r\n") + b"".join(line + b"\r\n" for line in lines) + b"\r\n" + body


def _chunked(body: bytes) -> bytes:
    return _post(b"Transfer-Encoding: chunked", body=body)


def _request_line(line: bytes) -> bytes:
    return line + head("GET", "/counts?site=portal").partition(b"\r\n")[1] + head().partition(b"\r\n")[2]


def _named(group: str, requests: Mapping[str, bytes]) -> Iterator[tuple[str, bytes]]:
    return ((f"{group}: {name}", request) for name, request in requests.items())


LENGTHS = {
    "length and chunks": _post(b"Content-Length: 4", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n" + SMUGGLED),
    "chunks and length": _post(b"Transfer-Encoding: chunked", b"Content-Length: 4", body=b"0\r\n\r\n" + SMUGGLED),
    "two lengths": _post(b"Content-Length: 17", b"Content-Length: 4"),
    "the same length twice": _post(b"Content-Length: 17", b"Content-Length: 17"),
    "a list of lengths": _post(b"Content-Length: 17, 17"),
    "a sign": _post(b"Content-Length: +17"),
    "a negative length": _post(b"Content-Length: -1"),
    "hexadecimal": _post(b"Content-Length: 0x11"),
    "a space inside": _post(b"Content-Length: 1 7"),
    "an underscore inside": _post(b"Content-Length: 1_7"),
    "other digits": _post("Content-Length: ١٧".encode()),
    "beyond 64 bits": _post(b"Content-Length: 99999999999999999999"),
    "beyond 4 KB": _post(b"Content-Length: 4097", body=b" " * 4097),
    "fewer bytes than announced": _post(b"Content-Length: 4000", body=BODY),
    "a space before the colon": _post(b"Content-Length : 17"),
}
ENCODINGS = {
    "unknown": _post(b"Transfer-Encoding: xchunked", body=b"0\r\n\r\n" + SMUGGLED),
    "chunks not last": _post(b"Transfer-Encoding: chunked, identity", body=b"0\r\n\r\n" + SMUGGLED),
    "chunks twice": _post(b"Transfer-Encoding: chunked, chunked", body=b"0\r\n\r\n" + SMUGGLED),
    "in two lines": _post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: x", body=b"0\r\n\r\n" + SMUGGLED),
    "a space before the colon": _post(b"Transfer-Encoding : chunked", body=b"0\r\n\r\n" + SMUGGLED),
    "a control character": _post(b"Transfer-Encoding: \x0bchunked", body=b"0\r\n\r\n" + SMUGGLED),
    "folded": _post(b"Transfer-Encoding:", b" chunked", body=b"0\r\n\r\n" + SMUGGLED),
}
CHUNKS = {
    "no number": _chunked(b"zz\r\n" + BODY + b"\r\n0\r\n\r\n"),
    "negative": _chunked(b"-11\r\n" + BODY + b"\r\n0\r\n\r\n"),
    "with 0x": _chunked(b"0x11\r\n" + BODY + b"\r\n0\r\n\r\n"),
    "with a space": _chunked(b" 11\r\n" + BODY + b"\r\n0\r\n\r\n"),
    "no size": _chunked(b"\r\n" + BODY + b"\r\n0\r\n\r\n"),
    "beyond 64 bits": _chunked(b"FFFFFFFFFFFFFFFFF\r\n" + BODY),
    "bare line feeds": _chunked(b"11\n" + BODY + b"\n0\n\n"),
    "a line feed in an extension": _chunked(b"11;a\nb\r\n" + BODY + b"\r\n0\r\n\r\n"),
    "no end after the data": _chunked(b"11\r\n" + BODY + b"0\r\n\r\n"),
    "together beyond 4 KB": _chunked(b"1000\r\n" + b" " * 4096 + b"\r\n11\r\n" + BODY + b"\r\n0\r\n\r\n"),
    "a damaged trailer": _chunked(b"11\r\n" + BODY + b"\r\n0\r\nno colon\r\n\r\n"),
    "cut off": _chunked(b"1000\r\n" + BODY),
}
FIELDS = {
    "folded": _post(b"X-Folded: one", b" two", b"Content-Length: 17"),
    "no colon": _post(b"Nothing", b"Content-Length: 17"),
    "no name": _post(b": nobody", b"Content-Length: 17"),
    "a space in the name": _post(b"A B: c", b"Content-Length: 17"),
    "a NUL in the name": _post(b"A\x00B: c", b"Content-Length: 17"),
    "a NUL in the value": _post(b"A: b\x00c", b"Content-Length: 17"),
    "a carriage return in the value": _post(b"A: b\rc", b"Content-Length: 17"),
    "a line feed in the value": _post(b"A: b\nTransfer-Encoding: chunked", b"Content-Length: 17"),
    "an expectation nobody knows": _post(b"Expect: the worst", b"Content-Length: 17"),
    "an expectation where nothing is": _post(b"Expect: the worst", b"Content-Length: 17").replace(
        b"/seen", b"/nothing"
    ),
    "a host twice": _post(b"Host: elsewhere.example", b"Content-Length: 17"),
    "2 MB": _post(b"A: " + b"b" * 2_000_000, b"Content-Length: 17"),
    "a line of 64 KB": _post(b"A: " + b"b" * 65_536, b"Content-Length: 17"),
    "a name of 64 KB": _post(b"A" * 65_536 + b": b", b"Content-Length: 17"),
    "10,000 of them": _post(*(b"X-%d: a" % n for n in range(10_000)), b"Content-Length: 17"),
}
LINES = {
    "HTTP/0.9": b"GET /counts?site=portal\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/9.9": _request_line(b"POST /seen HTTP/9.9"),
    "three numbers": _request_line(b"POST /seen HTTP/1.1.1"),
    "lower case": _request_line(b"POST /seen http/1.1"),
    "no target": _request_line(b"POST HTTP/1.1"),
    "two targets": _request_line(b"POST /seen /seen HTTP/1.1"),
    "a NUL": _request_line(b"GET /counts\x00?site=portal HTTP/1.1"),
    "64 KB": _request_line(b"GET /counts?site=" + b"a" * 65_536 + b" HTTP/1.1"),
    "an unfinished IPv6 host": _request_line(b"GET http://[::1/counts HTTP/1.1"),
    "a port beyond all": _request_line(b"GET http://a:99999999/counts HTTP/1.1"),
    "no method of HTTP": _request_line(b"G\x01T /counts?site=portal HTTP/1.1"),
    "a method of 64 KB": _request_line(b"G" * 65_536 + b" /counts?site=portal HTTP/1.1"),
    "CONNECT": _request_line(b"CONNECT elsewhere.example:443 HTTP/1.1"),
    "TRACE": _request_line(b"TRACE /counts?site=portal HTTP/1.1"),
    "a star": _request_line(b"GET * HTTP/1.1"),
    "a path upwards": _request_line(b"GET /../../etc/passwd HTTP/1.1"),
    "an encoded path upwards": _request_line(b"GET /demo/%2e%2e%2f%2e%2e%2fetc%2fpasswd HTTP/1.1"),
    "a broken escape": _request_line(b"GET /%zz%ff HTTP/1.1"),
    "bare line feeds": _post(b"Content-Length: 17").replace(b"\r\n", b"\n"),
    "bare carriage returns": _post(b"Content-Length: 17").replace(b"\r\n", b"\r"),
    "TLS": bytes.fromhex("160301020001000001fc0303") + bytes(range(256)),
    "no bytes of text": bytes(range(128, 256)) * 8,
    "only NUL": bytes(1000),
    "a Redis command": b"*1\r\n$4\r\nPING\r\n",
    "an upgrade to HTTP/2": _post(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AA"),
}

MALFORMED: Mapping[str, bytes] = {
    **dict(_named("length", LENGTHS)),
    **dict(_named("encoding", ENCODINGS)),
    **dict(_named("chunk", CHUNKS)),
    **dict(_named("field", FIELDS)),
    **dict(_named("line", LINES)),
}
