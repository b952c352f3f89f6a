"""Whether an Origin or Referer belongs to a page of the site.

Only http and https pages of the site's hosts count; copies that translators and archives serve are refused.
"""

import re
from collections.abc import Iterable
from functools import lru_cache

from footfall.model.hosts import FILE, canonical_host, parse_host_rule, split_port, without_www

ORIGIN_MAX_CHARS = 300
"""Longer than any real origin: a host name has at most 253 characters."""
REMEMBERED_MAX = 1024
DEFAULT_PORTS = {"http": 80, "https": 443}


class Origins:
    """The hosts of one site, compiled once; the answer for each header value is remembered."""

    def __init__(self, hosts: Iterable[str]) -> None:
        rules = [parse_host_rule(text) for text in hosts]
        self._exact = frozenset((rule.host, rule.port) for rule in rules if not rule.below)
        self._below = tuple((f".{rule.host}", rule.port) for rule in rules if rule.below)
        self._accepts_cached = lru_cache(REMEMBERED_MAX)(self._accepts)

    def accepts(self, origin: str) -> bool:
        """Return whether this value of the Origin header is a page of the site."""
        # Before the cache, which long values would fill. Browsers send the ASCII form of a host (RFC 6454, 6.2), and
        # reading another form costs a hundred times as much, before any budget.
        return len(origin) <= ORIGIN_MAX_CHARS and origin.isascii() and self._accepts_cached(origin)

    def accepts_referer(self, referer: str) -> bool:
        """Return whether this value of the Referer header, a whole URL, is a page of the site."""
        # Only the origin is cached: a site has many URLs and few origins.
        return self.accepts(origin_of(referer))

    def _accepts(self, origin: str) -> bool:
        scheme, mark, rest = origin.partition("://")
        scheme = scheme.lower()
        if origin == "null" or scheme == "file":
            return (FILE, None) in self._exact
        if not mark or scheme not in DEFAULT_PORTS:
            return False
        name, port = split_port(rest)
        host = None if name is None else canonical_host(name)
        if host is None:
            return False
        ports = (None, port or DEFAULT_PORTS[scheme])
        plain = without_www(host)
        return any((plain, each) in self._exact for each in ports) or any(
            host.endswith(ending) and only in ports for ending, only in self._below
        )


def origin_of(referer: str) -> str:
    """Return the origin in a Referer header, a whole URL.

    >>> origin_of("https://portal.example.vn:8443/tin-tuc?id=1")
    'https://portal.example.vn:8443'
    """
    scheme, mark, rest = referer[:ORIGIN_MAX_CHARS].partition("://")
    return scheme + mark + re.split(r"[/?#\\]", rest, maxsplit=1)[0]
