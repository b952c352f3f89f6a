"""The hosts of a site, as the settings write them and as they are compared.

A host is written in the settings as one of

    portal.example.vn         this host, with or without www., on any port
    portal.example.vn:8443    this host on that port only
    *.example.vn              every host below example.vn at any depth, but not example.vn itself
    [::1], 127.0.0.1, localhost:8000
    file://                   pages without an origin: opened from disk, or in a sandboxed frame

Names are compared without case, trailing dot and default port; cổng.example.vn and its xn-- form are one.
"""

import re
from dataclasses import dataclass
from ipaddress import IPv6Address

import idna

FILE = "file://"
NAME = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*", re.ASCII)
PORT = re.compile(r"[0-9]{1,5}", re.ASCII)


@dataclass(frozen=True, slots=True)
class HostRule:
    """One entry of a site's hosts; `host` is in its compared form, `port` None takes any."""

    host: str
    port: int | None = None
    below: bool = False


def parse_host_rule(text: str) -> HostRule:
    """Read one entry of `hosts`; raises ValueError with a sentence for the operator.

    >>> parse_host_rule("www.Portal.example.vn")
    HostRule(host='portal.example.vn', port=None, below=False)
    >>> parse_host_rule("*.example.vn:8443")
    HostRule(host='example.vn', port=8443, below=True)
    """
    if text == FILE:
        return HostRule(FILE)
    if "/" in text or "@" in text:
        raise ValueError(f"{text!r} must be only a host, such as portal.example.vn: no https://, no path")
    below = text.startswith("*.")
    name, port = split_port(text.removeprefix("*."))
    host = None if name is None else canonical_host(name)
    if host is None:
        raise ValueError(f"{text!r} is not a host: write portal.example.vn, *.example.vn or localhost:8000")
    if not below:
        return HostRule(without_www(host), port)
    if host.startswith("[") or (host != "localhost" and not re.search(r"\.\D", host)):
        raise ValueError(f"{text!r} would take in strangers: write at least two labels after the star")
    return HostRule(host, port, below=True)


def canonical_host(name: str) -> str | None:
    """The form in which hosts are compared: lower case, ASCII, no trailing dot; None if it is no host.

    >>> canonical_host("CỔNG.example.vn."), canonical_host("[0:0::1]"), canonical_host("a b")
    ('xn--cng-qmz.example.vn', '[::1]', None)
    """
    if name.startswith("["):
        try:
            return f"[{IPv6Address(name[1:-1])}]" if name.endswith("]") and "%" not in name else None
        except ValueError:
            return None
    name = name.removesuffix(".")
    if not name.isascii():
        try:
            name = idna.encode(name, uts46=True).decode()
        except UnicodeError:
            return None
    name = name.lower()
    return name if len(name) <= 253 and NAME.fullmatch(name) else None


def split_port(text: str) -> tuple[str | None, int | None]:
    """Return host and port of `host[:port]`; no host if the port is not a port."""
    name, colon, digits = text.rpartition(":")
    if not colon or digits.endswith("]"):
        return text, None
    if not PORT.fullmatch(digits) or not 0 < int(digits) <= 65535:
        return None, None
    return name, int(digits)


def without_www(host: str) -> str:
    """Return `host` without a leading `www.`, unless only a top-level domain would remain."""
    bare = host.removeprefix("www.")
    return bare if "." in bare else host
