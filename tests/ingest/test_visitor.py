"""What a visitor id is made of, and who shares one."""

from hashlib import blake2b
from ipaddress import ip_address
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from footfall.ingest.client_address import AddressResolver, Client
from footfall.ingest.visitor import visitor_id
from tests.support.footfall import settings_for

SALT = bytes(range(32))
AGENT = "Mozilla/5.0 (X11; Linux x86_64) Firefox/145.0"
V4 = Client(bytes([192, 0, 2, 7]), bytes([192, 0, 2, 7]), bytes([192, 0, 2, 7]), is_proxy=False)
V6 = Client(
    ip_address("2001:db8:1:2::1").packed,
    bytes.fromhex("20010db800010002"),
    bytes.fromhex("20010db80001"),
    is_proxy=False,
)


def test_a_visitor_id_never_changes_within_its_week() -> None:
    """Two releases that run together, or one after the other, must see the same visitors."""
    assert visitor_id(SALT, V4, AGENT, None).hex() == "7f02c4a93e9e1a0137146203d4a26123"
    assert visitor_id(SALT, V6, AGENT, "abc-DEF_123").hex() == "14c7605bb1f3a079ec5728d0d83d89d9"


def test_a_visitor_id_is_the_documented_hash() -> None:
    """The README tells a data protection officer what is hashed; this is that sentence as code."""
    agent = AGENT.encode()
    hashed = bytes([4]) + len(agent).to_bytes(2, "big") + V4.network + agent
    assert visitor_id(SALT, V4, AGENT, None) == blake2b(hashed, digest_size=16, key=SALT).digest()


def test_the_salt_changes_every_id() -> None:
    """Next week no visitor can be recognised, and no client can choose an id."""
    assert visitor_id(SALT, V4, AGENT, None) != visitor_id(SALT[::-1], V4, AGENT, None)


def test_a_changed_privacy_address_is_the_same_visitor() -> None:
    """An IPv6 computer takes a new address inside its /64 every day."""
    resolve = AddressResolver(settings_for("redis://redis", "postgresql://postgres", Path())).resolve
    one, other = resolve("2001:db8:1:2::1", []), resolve("2001:db8:1:2:ffff::9", [])
    assert visitor_id(SALT, one, AGENT, None) == visitor_id(SALT, other, AGENT, None)


def test_only_the_first_512_characters_of_a_user_agent_matter() -> None:
    """An endless user agent costs no more than a long one."""
    assert visitor_id(SALT, V4, "é" * 512, None) == visitor_id(SALT, V4, "é" * 9000, None)
    assert visitor_id(SALT, V4, "é" * 511, None) != visitor_id(SALT, V4, "é" * 512, None)


NETWORK = st.sampled_from([b"", b"1234", b"12345678", b"abcdefgh"])
WHO = st.tuples(NETWORK, st.text(st.characters(), max_size=20), st.none() | st.text(max_size=8))


@given(WHO, WHO)
def test_different_senders_have_different_ids(
    one: tuple[bytes, str, str | None], other: tuple[bytes, str, str | None]
) -> None:
    """Moving a character from one part to the next must not spell another sender."""
    ids = {
        visitor_id(SALT, Client(b"", network, network, is_proxy=False), agent, first_party)
        for network, agent, first_party in (one, other)
    }
    assert len(ids) == len({one, other})
