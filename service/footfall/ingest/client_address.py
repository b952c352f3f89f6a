"""Who sent a request, as far as the network shows: the client's address and network, behind any proxies."""

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address
from socket import AF_INET, inet_pton
from typing import Literal, NamedTuple, Protocol

from multidict import istr

HOPS_MAX = 10
# Room for ten of the longest entries: quoted, with brackets, ports and Forwarded's other parameters.
HEADER_MAX_CHARS = 1024
PEERS_MAX = 10_000
IPV4_BYTES, IPV6_BYTES = 4, 16
NAT64 = IPv6Network("64:ff9b::/96")
"""The prefix that RFC 6052 sets apart for IPv4 clients whose network speaks only IPv6."""


class ProxySettings(Protocol):
    """The settings that say which proxies to believe about an address."""

    @property
    def trusted_proxies(self) -> tuple[IPv4Network | IPv6Network | Literal["unix"], ...]: ...
    @property
    def forwarded_header(self) -> str: ...
    @property
    def translation_prefixes(self) -> tuple[IPv6Network, ...]: ...


class Client(NamedTuple):
    """The sender of a request, as far as the network shows.

    All three addresses are empty for a unix socket whose proxy sent no usable header.
    """

    address: bytes
    """The IP address, packed (4 or 16 bytes): an object would cost more than all that is done with it."""
    network: bytes
    """What counts as one place: the IPv4 address (4 bytes) or the IPv6 /64 (8 bytes). The privacy addresses of one
    computer lie in one /64, and are one visitor."""
    wide_network: bytes
    """The IPv4 address, or the IPv6 /48 (6 bytes): one subscriber may own a whole /48."""
    is_proxy: bool
    """The address is a trusted proxy's own. It stands for unknown clients, so its limits are higher."""


class AddressResolver:
    """Finds the client's address from the socket and the one configured forwarding header."""

    def __init__(self, settings: ProxySettings) -> None:
        networks = [net for net in settings.trusted_proxies if not isinstance(net, str)]
        self._trusted = {
            length: [
                (int(net.network_address), int(net.netmask)) for net in networks if net.max_prefixlen == 8 * length
            ]
            for length in (IPV4_BYTES, IPV6_BYTES)
        }
        self._trusts_unix = "unix" in settings.trusted_proxies
        prefixes = {NAT64, *settings.translation_prefixes}
        self._nat64 = [net.network_address.packed[: net.prefixlen // 8] for net in prefixes]
        self.header = istr(settings.forwarded_header)
        """The only header that may name an address."""
        self._is_rfc7239 = settings.forwarded_header.lower() == "forwarded"
        # Peers are remembered, being few behind proxies; what their headers name is not: clients are ever new.
        self._peer_cached = lru_cache(PEERS_MAX)(self._peer)

    def resolve(self, peer: str | None, forwarded: Sequence[str]) -> Client:
        """Return the client of a request from `peer` (None: a unix socket) with these lines of the header.

        Only a trusted proxy's header is believed. It is read from its right end, past trusted proxies, for at most
        ten hops: what the client wrote stands left of what the proxies added, and is never reached. If anything in
        between is malformed, the peer is the client.
        """
        client = self._peer_cached(peer)
        if not forwarded or not client.is_proxy:
            return client
        # Cut at the left, where the client may have written as much as it likes.
        return self._read(",".join(forwarded)[-HEADER_MAX_CHARS:]) or client

    def _peer(self, peer: str | None) -> Client:
        # The scope of a peer (fe80::1%eth0) is real; a scope in a header means nothing on this host.
        own = b"" if peer is None else parse_address(peer.partition("%")[0])
        return self._client(own, self._trusts_unix if peer is None else self._is_trusted(own))

    def _read(self, header: str) -> Client | None:
        """Return the client at the right-most address that is not trusted, else at the left-most; None if malformed."""
        # Also at commas within quotes: a quote that the client opened on the left must not swallow the element that
        # the proxy added on the right.
        entries = header.rsplit(",", HOPS_MAX)
        # If not, the left-most entry may be half an address, or more than ten hops away.
        complete = len(header) < HEADER_MAX_CHARS and len(entries) <= HOPS_MAX
        address = b""
        for entry in reversed(entries if complete else entries[1:]):
            address = parse_address(_for_parameter(entry) if self._is_rfc7239 else entry.strip())
            if not address:
                return None
            if not self._is_trusted(address):
                return self._client(address, is_proxy=False)
        return self._client(address, is_proxy=True) if complete else None

    def _is_trusted(self, address: bytes) -> bool:
        if not address:
            return False
        number = int.from_bytes(address)
        for network, mask in self._trusted[len(address)]:  # noqa: SIM110 (`any` of a generator costs thrice as much)
            if number & mask == network:
                return True
        return False

    def _client(self, address: bytes, is_proxy: bool) -> Client:
        if len(address) == IPV6_BYTES:
            # Only here, after the trust was decided: 64:ff9b::7f00:1 must not pass for this host.
            for prefix in self._nat64:
                if address.startswith(prefix) and (inner := _embedded_ipv4(address, len(prefix))):
                    return Client(inner, inner, inner, is_proxy)
            return Client(address, address[:8], address[:6], is_proxy)
        values = (address, address, address, is_proxy)
        return tuple.__new__(Client, values)  # `Client(...)` is one more call in Python, for every request


def _embedded_ipv4(address: bytes, prefix_bytes: int) -> bytes:
    """Return the IPv4 address behind a prefix of 4 to 8 or 12 bytes (RFC 6052, 2.2); empty if the form is another."""
    if address[8] and prefix_bytes < 9:  # the ninth byte stays 0, and no part of the IPv4 address stands in it
        return b""
    return (address[prefix_bytes:8] + address[max(prefix_bytes, 9) :])[:IPV4_BYTES]


def parse_address(text: str) -> bytes:
    r"""Return an address as proxies write it, packed (4 or 16 bytes); empty for anything else.

    Brackets and a port may be there. An IPv4-mapped IPv6 address is that IPv4 address. Zone ids are refused.

    >>> parse_address("192.0.2.7:55"), parse_address("::ffff:192.0.2.7"), parse_address("unknown")
    (b'\xc0\x00\x02\x07', b'\xc0\x00\x02\x07', b'')
    """
    try:
        return inet_pton(AF_INET, text)  # the usual case, five times as fast as `ip_address`
    except (OSError, ValueError):
        host, port = text, ""
    if text.startswith("["):
        host, bracket, port = text[1:].partition("]")
        if not bracket or ":" not in host:
            return b""
    elif text.count(":") == 1:
        host, colon, port = text.partition(":")
        port = colon + port
    if port and not (port[0] == ":" and port[1:].isascii() and port[1:].isdigit() and len(port) <= 6):
        return b""
    if "%" in host:
        return b""
    try:
        address = ip_address(host)
    except ValueError:
        return b""
    return (getattr(address, "ipv4_mapped", None) or address).packed


def _for_parameter(element: str) -> str:
    """Return the unquoted value of `for=` in one element of an RFC 7239 header; "" unless there is exactly one."""
    values = [
        value.strip()
        for name, _, value in (pair.partition("=") for pair in element.split(";"))
        if name.strip().lower() == "for"
    ]
    if len(values) != 1:
        return ""
    value = values[0]
    if len(value) >= 2 and value[0] == value[-1] == '"':
        return value[1:-1]
    return value
