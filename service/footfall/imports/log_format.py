r"""How a line of an access log is read: a format as Apache or nginx writes it, made into one regular expression.

A compiled expression reads a line in a few microseconds. Parsers that turn each directive into a value of its own take
ten times as long, and a year of a portal has a hundred million lines.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

from footfall.errors import Stop

NAMED: Mapping[str, str] = {
    "common": '%h %l %u %t "%r" %>s %b',
    "combined": '%h %l %u %t "%r" %>s %b "%{Referer}i" "%{User-Agent}i"',
    "vhost_combined": '%v:%p %h %l %u %t "%r" %>s %O "%{Referer}i" "%{User-Agent}i"',
}
"""The formats that have a name, as Apache writes them; nginx' own `combined` is the same line."""

APACHE = re.compile(r"%(?P<changes>[!\d,<>]*)(?:\{(?P<argument>[^}]*)\})?(?P<directive>\^?[A-Za-z%])")
NGINX = re.compile(r"\$(?:\{(?P<braced>\w+)\}|(?P<plain>\w+))")
APACHE_FIELDS: Mapping[str, str] = {
    "h": "address",
    "a": "address",
    "t": "time",
    "r": "request",
    "s": "status",
    "m": "method",
    "U": "path",
    "q": "query",
    "v": "host",
    "V": "host",
}
NGINX_FIELDS: Mapping[str, str] = {
    "remote_addr": "address",
    "time_local": "time",
    "time_iso8601": "time",
    "msec": "time",
    "request": "request",
    "status": "status",
    "request_method": "method",
    "request_uri": "target",
    "uri": "path",
    "args": "arguments",
    "host": "host",
    "http_host": "host",
    "server_name": "host",
    "http_user_agent": "agent",
    "http_x_forwarded_for": "forwarded",
    "http_forwarded": "forwarded",
    "http_x_real_ip": "forwarded",
}
HEADERS: Mapping[str, str] = {
    "user-agent": "agent",
    "host": "host",
    "x-forwarded-for": "forwarded",
    "forwarded": "forwarded",
    "x-real-ip": "forwarded",
}
USERS = ("%u", "$remote_user")
"""A user's name may hold spaces; it ends before the sign that follows them, usually a bracket."""
TIME = r"\[[^\]]{0,64}\]"
QUOTED = r'(?:[^"\\]|\\.)*'
ESCAPED = re.compile(r"\\(?:x([0-9A-Fa-f]{2})|(.))")
CONTROLS = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "v": "\v", "f": "\f"}


@dataclass(frozen=True, slots=True)
class LineFormat:
    """A format of lines: what a line is, and which fields of it are read."""

    line: re.Pattern[str]
    """Its groups are the fields, by name; more may follow in the line."""
    fields: frozenset[str]

    def read(self, line: str) -> dict[str, str] | None:
        """Return the fields of a line; None where it has another form.

        >>> format_of("common").read('192.0.2.1 - - [23/Nov/2026:08:00:00 +0700] "GET / HTTP/1.1" 200 5')["request"]
        'GET / HTTP/1.1'
        """
        match = self.line.fullmatch(line)
        return match.groupdict() if match else None


def format_of(name: str) -> LineFormat:
    """Return the format that has this name, or that a server's configuration writes so; raises Stop for none."""
    text = NAMED.get(name, name)
    is_nginx = "$" in text and "%" not in text
    tokens = list((NGINX if is_nginx else APACHE).finditer(text))
    between = [text[one.end() : other.start()] for one, other in pairwise(tokens)]
    last = text[tokens[-1].end() :] if tokens else ""
    before = text[: tokens[0].start()] if tokens else text
    pattern, fields = [re.escape(before)], set()
    for token, after in zip(tokens, [*between, last], strict=False):
        field = _nginx_field(token) if is_nginx else _apache_field(token)
        value = _value(token[0], before, after)
        pattern.append(f"(?P<{field}>{value})" if field and field not in fields else f"(?:{value})")
        pattern.append(re.escape(after))
        fields |= {field} - {""}
        before = after
    lacking = [
        what
        for what, names in {
            "the client's address": {"address", "forwarded"},
            "the time": {"time"},
            "the request": {"request", "target", "path"},
            "the status": {"status"},
        }.items()
        if not names & fields
    ]
    if lacking:
        names = ", ".join(NAMED)
        raise Stop(
            f"--format {name[:80]!r} lacks {', '.join(lacking)}: give {names}, w3c, json, goatcounter, or the format as"
            " the configuration of nginx or Apache writes it"
        )
    rest = r"(?:\s.*)?" if name in NAMED else ""  # servers are often set to write more at the end
    return LineFormat(re.compile("".join(pattern) + rest), frozenset(fields))


def unescaped(text: str) -> str:
    r"""Return a value as the client sent it: servers write `\"` and `\xC4` for what would end a field.

    >>> unescaped(r"a \"b\" \\ \x41")
    'a "b" \\ A'
    """
    return ESCAPED.sub(_character, text) if "\\" in text else text


def _character(escaped: re.Match[str]) -> str:
    octet, sign = escaped.groups()
    if octet:
        return bytes.fromhex(octet).decode("utf-8", "surrogateescape")
    return CONTROLS.get(sign, sign)


def _apache_field(token: re.Match[str]) -> str:
    directive, argument = token["directive"], token["argument"]
    if directive == "i":
        return HEADERS.get((argument or "").lower(), "")
    if directive == "t" and argument:
        raise Stop(f"--format has {token[0]}: of Apache's times %t alone is read")
    return APACHE_FIELDS.get(directive, "")


def _nginx_field(token: re.Match[str]) -> str:
    return NGINX_FIELDS.get(token["braced"] or token["plain"], "")


def _value(variable: str, before: str, after: str) -> str:
    """Return what a value looks like between the text before it and after it."""
    if variable == "%t":
        return TIME
    if before.endswith('"') and after.startswith('"'):
        return QUOTED
    if before.endswith("[") and after.startswith("]"):
        return r"[^\]]*"
    if variable in USERS:
        return rf"[^{re.escape(after.lstrip(' ')[:1] or '[')}]*"
    if not after:  # the next value follows at once, as in %U%q, or the line ends
        return r"[^\s?]*"
    return rf"[^{re.escape(after[0])}]*"
