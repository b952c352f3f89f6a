"""Whose address counts behind proxies, and what one place is."""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from footfall.ingest.client_address import PEERS_MAX, AddressResolver, Client, parse_address

LOOPBACK = (ip_network("127.0.0.0/8"), ip_network("::1"))


@dataclass(frozen=True)
class Trust:
    """The settings that the resolver reads."""

    trusted_proxies: tuple[IPv4Network | IPv6Network | Literal["unix"], ...] = (*LOOPBACK, "unix")
    forwarded_header: str = "X-Forwarded-For"
    translation_prefixes: tuple[IPv6Network, ...] = ()


DEFAULT = Trust()
CHAIN = Trust((ip_network("10.0.0.0/8"), ip_network("2001:db8:aaaa::/48")))
RFC7239 = Trust(forwarded_header="Forwarded")


def address_of(trust: Trust, peer: str | None, *lines: str) -> str | None:
    address = AddressResolver(trust).resolve(peer, lines).address
    return str(ip_address(address)) if address else None


@pytest.mark.parametrize(
    ("trust", "peer", "lines", "address"),
    [
        pytest.param(DEFAULT, "198.51.100.7", ["203.0.113.9"], "198.51.100.7", id="a stranger's header"),
        pytest.param(DEFAULT, "198.51.100.7", [], "198.51.100.7", id="no header"),
        pytest.param(DEFAULT, "127.0.0.1", ["203.0.113.9"], "203.0.113.9", id="a proxy's header"),
        pytest.param(DEFAULT, "::ffff:127.0.0.1", ["203.0.113.9"], "203.0.113.9", id="a mapped proxy"),
        pytest.param(DEFAULT, None, ["203.0.113.9"], "203.0.113.9", id="a proxy on a unix socket"),
        pytest.param(Trust(LOOPBACK), None, ["203.0.113.9"], None, id="an untrusted unix socket"),
        pytest.param(Trust(("unix",)), "127.0.0.1", ["203.0.113.9"], "127.0.0.1", id="a TCP forwarder on loopback"),
        pytest.param(DEFAULT, "127.0.0.1", ["1.1.1.1, 203.0.113.9"], "203.0.113.9", id="forged on the left"),
        pytest.param(DEFAULT, "127.0.0.1", ["127.0.0.1, 203.0.113.9"], "203.0.113.9", id="a forged proxy"),
        pytest.param(DEFAULT, "127.0.0.1", ["1.1.1.1", "203.0.113.9"], "203.0.113.9", id="forged in a line"),
        pytest.param(DEFAULT, "127.0.0.1", ["x" * 9000 + ", 203.0.113.9"], "203.0.113.9", id="a long forgery"),
        pytest.param(DEFAULT, "127.0.0.1", ["," * 9000 + "203.0.113.9"], "203.0.113.9", id="many commas"),
        pytest.param(CHAIN, "10.0.0.1", ["9.9.9.9, 203.0.113.9, 10.0.0.2"], "203.0.113.9", id="two proxies"),
        pytest.param(
            CHAIN, "10.0.0.1", ["203.0.113.9, [2001:db8:aaaa::5]:443"], "203.0.113.9", id="a v6 proxy between"
        ),
        pytest.param(CHAIN, "10.0.0.1", ["10.7.0.9, 10.0.0.2"], "10.7.0.9", id="the left-most of our own"),
        pytest.param(CHAIN, "10.0.0.1", ["203.0.113.9" + ", 10.0.0.2" * 9], "203.0.113.9", id="the tenth hop is read"),
        pytest.param(CHAIN, "10.0.0.1", ["203.0.113.9" + ", 10.0.0.2" * 10], "10.0.0.1", id="the eleventh is not"),
        pytest.param(CHAIN, "10.0.0.1", ["3.0.113.9" + " " * 3000 + ", 10.0.0.2"], "10.0.0.1", id="cut in the middle"),
        pytest.param(DEFAULT, "127.0.0.1", ["203.0.113.9, unknown"], "127.0.0.1", id="a word on the right"),
        pytest.param(DEFAULT, "127.0.0.1", ["203.0.113.9,"], "127.0.0.1", id="nothing on the right"),
        pytest.param(DEFAULT, "127.0.0.1", [""], "127.0.0.1", id="an empty header"),
        pytest.param(DEFAULT, "127.0.0.1", ["fe80::1%eth0"], "127.0.0.1", id="a zone id"),
        pytest.param(DEFAULT, "127.0.0.1", ["203.0.113.9:55"], "203.0.113.9", id="with a port"),
        pytest.param(DEFAULT, "127.0.0.1", ["[2001:db8::9]:55"], "2001:db8::9", id="v6 with a port"),
        pytest.param(DEFAULT, "127.0.0.1", ["::ffff:203.0.113.9"], "203.0.113.9", id="mapped"),
        pytest.param(DEFAULT, "127.0.0.1", ["for=203.0.113.9"], "127.0.0.1", id="the other header's form"),
        pytest.param(DEFAULT, "fe80::1%eth0", [], "fe80::1", id="a peer with a scope"),
        pytest.param(RFC7239, "127.0.0.1", ["for=203.0.113.9"], "203.0.113.9", id="Forwarded"),
        pytest.param(
            RFC7239,
            "127.0.0.1",
            ['For="[2001:db8::9]:55";proto=https;by=_x'],
            "2001:db8::9",
            id="Forwarded v6",
        ),
        pytest.param(
            RFC7239,
            "127.0.0.1",
            ["for=1.1.1.1, by=9.9.9.9; for=203.0.113.9"],
            "203.0.113.9",
            id="Forwarded list",
        ),
        pytest.param(
            RFC7239,
            "127.0.0.1",
            ['for="1.1.1.1, for=203.0.113.9'],
            "203.0.113.9",
            id="Forwarded, a quote left open",
        ),
        pytest.param(RFC7239, "127.0.0.1", ["for=unknown"], "127.0.0.1", id="Forwarded unknown"),
        pytest.param(RFC7239, "127.0.0.1", ["for=_hidden"], "127.0.0.1", id="Forwarded hidden"),
        pytest.param(RFC7239, "127.0.0.1", ["proto=https"], "127.0.0.1", id="Forwarded without for"),
        pytest.param(RFC7239, "127.0.0.1", ["for=1.1.1.1;for=2.2.2.2"], "127.0.0.1", id="Forwarded for twice"),
        pytest.param(RFC7239, "127.0.0.1", ["203.0.113.9"], "127.0.0.1", id="Forwarded, a bare address"),
    ],
)
def test_the_client_is_the_right_most_hop_that_is_not_trusted(
    trust: Trust, peer: str | None, lines: list[str], address: str | None
) -> None:
    """What stands further left was written by the client, who may write anything."""
    assert address_of(trust, peer, *lines) == address


@pytest.mark.parametrize(
    ("trust", "peer", "lines", "is_proxy"),
    [
        pytest.param(DEFAULT, "127.0.0.1", [], True, id="a proxy without header"),
        pytest.param(DEFAULT, "127.0.0.1", ["unknown"], True, id="a proxy with an odd header"),
        pytest.param(DEFAULT, "127.0.0.1", ["203.0.113.9"], False, id="a client behind it"),
        pytest.param(DEFAULT, "127.0.0.1", ["127.0.0.5"], True, id="a proxy behind it"),
        pytest.param(DEFAULT, "203.0.113.9", ["127.0.0.1"], False, id="a client who says he is one"),
        pytest.param(DEFAULT, None, [], True, id="a unix socket"),
        pytest.param(Trust(LOOPBACK), None, ["127.0.0.1"], False, id="an untrusted unix socket"),
        pytest.param(DEFAULT, "not an address", ["127.0.0.1"], False, id="a peer of no kind"),
    ],
)
def test_only_a_trusted_address_is_a_proxy(trust: Trust, peer: str | None, lines: list[str], is_proxy: bool) -> None:
    """A proxy has higher limits, so no client may become one by a header."""
    assert AddressResolver(trust).resolve(peer, lines).is_proxy is is_proxy


def test_one_place_is_an_ipv4_address_or_an_ipv6_64() -> None:
    """Privacy addresses change daily inside a /64; a subscriber may own a whole /48."""
    resolve = AddressResolver(DEFAULT).resolve
    v4 = resolve("203.0.113.9", [])
    assert (v4.network, v4.wide_network) == (bytes([203, 0, 113, 9]), bytes([203, 0, 113, 9]))
    v6 = resolve("2001:db8:1:2:aaaa::1", [])
    assert (v6.network, v6.wide_network) == (bytes.fromhex("20010db800010002"), bytes.fromhex("20010db80001"))
    assert resolve("2001:db8:1:2:bbbb:1:2:3", []).network == v6.network
    assert resolve("2001:db8:1:3::1", []).network != v6.network
    unknown = resolve(None, [])
    assert unknown == Client(b"", b"", b"", is_proxy=True)


def test_remembered_answers_are_bounded() -> None:
    """Where clients connect directly there are as many peers as clients."""
    resolver = AddressResolver(DEFAULT)
    for number in range(PEERS_MAX + 1000):
        resolver.resolve(f"10.{number >> 8 & 255}.{number & 255}.1", [])
    assert resolver._peer_cached.cache_info().currsize == PEERS_MAX  # noqa: SLF001


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "unknown", "_hidden", "1.2.3", "1.2.3.4.5", "256.1.1.1", "01.2.3.4", "1.2.3.4:", "1.2.3.4:x",
        "1.2.3.4:123456", "1.2.3.4:٣", "[1.2.3.4]", "[::1", "::1]", "[::1]x", "[::1]:", "[::1%eth0]",
        "::1%lo", "1.2.3.4/8", "1.2.3.4 5", "0x7f000001", "2130706433", "1.2.3.4\x00", "١.2.3.4",
    ],
)  # fmt: skip
def test_what_is_no_address_is_empty(text: str) -> None:
    """An address that two programs read differently is a way around a limit."""
    assert parse_address(text) == b""


@given(
    st.ip_addresses(),
    st.sampled_from(["{}", "[{}]", "{}:{port}", "[{}]:{port}"]),
    st.integers(0, 99_999),
)
def test_every_written_form_of_an_address_is_that_address(
    address: IPv4Address | IPv6Address, form: str, port: int
) -> None:
    """Proxies write ports and brackets as they like; brackets belong to IPv6 alone."""
    read = parse_address(form.format(address, port=port))
    if ("[" in form) == (address.version == 6) or form == "{}":
        assert read == (getattr(address, "ipv4_mapped", None) or address).packed
    elif address.version == 4:
        assert read == b""


@given(st.text(max_size=60) | st.text(alphabet='0123456789abcdef.:[]%," =for;', max_size=80))
def test_any_header_gives_a_client(header: str) -> None:
    """A header that raises would be a 500 for everyone behind that proxy."""
    for trust in (DEFAULT, RFC7239):
        client = AddressResolver(trust).resolve("127.0.0.1", [header])
        assert len(client.network) in {4, 8}
        assert client.is_proxy == (
            bool(client.address)
            and any(ip_address(client.address) in network for network in trust.trusted_proxies if network != "unix")
        )


@given(
    st.lists(st.text(alphabet=st.characters(exclude_characters=","), max_size=30), max_size=12),
    st.ip_addresses(v=4, network="203.0.113.0/24"),
)
def test_nothing_that_a_client_writes_hides_its_address(forged: list[str], real: IPv4Address) -> None:
    """The proxy appends the address that it sees: what stands before that address must not matter."""
    header = ",".join([*forged, f" {real}"])
    assert AddressResolver(DEFAULT).resolve("127.0.0.1", [header]).address == real.packed


@pytest.mark.parametrize(
    ("prefix", "written", "address"),
    [
        pytest.param(None, "64:ff9b::203.0.113.9", "203.0.113.9", id="the well-known prefix"),
        pytest.param(None, "64:ff9b:1::203.0.113.9", "64:ff9b:1::cb00:7109", id="not its neighbour"),
        # The examples of RFC 6052, 2.4.
        pytest.param("2001:db8::/32", "2001:db8:c000:221::", "192.0.2.33", id="/32"),
        pytest.param("2001:db8:100::/40", "2001:db8:1c0:2:21::", "192.0.2.33", id="/40"),
        pytest.param("2001:db8:122::/48", "2001:db8:122:c000:2:2100::", "192.0.2.33", id="/48"),
        pytest.param("2001:db8:122:300::/56", "2001:db8:122:3c0:0:221::", "192.0.2.33", id="/56"),
        pytest.param("2001:db8:122:344::/64", "2001:db8:122:344:c0:2:2100::", "192.0.2.33", id="/64"),
        pytest.param("2001:db8:122:344::/96", "2001:db8:122:344::192.0.2.33", "192.0.2.33", id="/96"),
        pytest.param("2001:db8:122::/48", "2001:db8:122:c000:102:2100::", "2001:db8:122:c000:102:2100::", id="no form"),
        pytest.param("2001:db8:122::/48", "2001:db8:123:c000:2:2100::", "2001:db8:123:c000:2:2100::", id="elsewhere"),
    ],
)
def test_behind_nat64_the_client_is_the_ipv4_address_inside(prefix: str | None, written: str, address: str) -> None:
    """All IPv4 readers of an IPv6-only network would otherwise be one visitor with one budget."""
    trust = Trust(translation_prefixes=() if prefix is None else (IPv6Network(prefix),))
    for client in (
        AddressResolver(trust).resolve(written, ()),
        AddressResolver(trust).resolve("127.0.0.1", [f"[{written}]:443"]),
    ):
        assert str(ip_address(client.address)) == address
        if "." in address:
            assert client.network == client.wide_network == client.address


def test_an_address_inside_nat64_is_never_a_trusted_proxy() -> None:
    """A client that can choose the inside of its address must not pass for this host or for a proxy."""
    client = AddressResolver(CHAIN).resolve("64:ff9b::10.0.0.1", ["203.0.113.9"])
    assert (client.address, client.is_proxy) == (bytes([10, 0, 0, 1]), False)
    assert address_of(CHAIN, "10.0.0.1", "203.0.113.9, 64:ff9b::10.0.0.2") == "10.0.0.2"
