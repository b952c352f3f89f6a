"""Which bytes Redis may be given as a sketch: all that Redis makes itself, and none that it reads wrongly."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis.exceptions import ResponseError

from footfall.model.sketch import (
    DENSE,
    DENSE_BYTES,
    HEADER_BYTES,
    REGISTER_MAX,
    REGISTERS,
    SPARSE,
    checksum,
    covers,
    is_sound,
)
from tests.support.storage import RawRedis

EMPTY = b"HYLL" + bytes([SPARSE]) + bytes(11) + bytes([0x7F, 0xFF])


def sparse(runs: bytes) -> bytes:
    """Return a sparse sketch of these runs."""
    return b"HYLL" + bytes([SPARSE]) + bytes(11) + runs


def encoded(runs: list[tuple[str, int]]) -> tuple[bytes, int]:
    """Encode runs as Redis does; return them with the number of registers that they describe."""
    packed, registers = bytearray(), 0
    for kind, length in runs:
        registers += length
        if kind == "short":
            packed.append(length - 1)
        elif kind == "long":
            packed += bytes([0x40 | (length - 1) >> 8, (length - 1) & 0xFF])
        else:
            packed.append(0x80 | length - 1)
    return bytes(packed), registers


RUNS = st.lists(
    st.tuples(st.just("short"), st.integers(1, 64))
    | st.tuples(st.just("long"), st.integers(1, REGISTERS))
    | st.tuples(st.just("value"), st.integers(1, 4)),
    max_size=40,
)


@pytest.mark.parametrize("visitors", [0, 1, 10, 1000, 1700, 3000, 50_000])
async def test_every_sketch_that_redis_makes_is_sound(redis: RawRedis, visitors: int) -> None:
    """A check that refused a good sketch would lose its day."""
    await redis.pfadd("day")
    for first in range(0, visitors, 1000):
        await redis.pfadd("day", *range(first, min(first + 1000, visitors)))
    sketch = await redis.get("day")
    assert is_sound(sketch)
    assert (sketch[4] == DENSE) is (len(sketch) == DENSE_BYTES)


@given(RUNS)
def test_sparse_runs_must_cover_the_registers_and_no_more(runs: list[tuple[str, int]]) -> None:
    """Runs that sum beyond the last register have made Redis write behind the end of memory."""
    packed, registers = encoded(runs)
    assert is_sound(sparse(packed)) is (registers == REGISTERS)
    missing = REGISTERS - registers
    if missing > 0:
        assert is_sound(sparse(packed + encoded([("long", missing)])[0]))


@given(st.binary(max_size=200))
def test_no_bytes_make_the_check_fail(noise: bytes) -> None:
    """It reads what a damaged disk returns: for any bytes the answer is yes or no."""
    assert is_sound(noise) is False
    assert isinstance(is_sound(sparse(noise)), bool)


@given(st.integers(0, DENSE_BYTES + 20))
def test_a_dense_sketch_has_one_length(length: int) -> None:
    """Redis reads 12 KB of it, also where it is shorter."""
    sketch = (b"HYLL" + bytes([DENSE]) + bytes(DENSE_BYTES * 2))[:length]
    assert is_sound(sketch) is (length == DENSE_BYTES)


@pytest.mark.parametrize("encoding", [2, 3, 127, 255])
def test_unknown_encodings_are_refused(encoding: int) -> None:
    """A later Redis may have more of them; this program cannot check an encoding that it does not know."""
    assert not is_sound(EMPTY[:4] + bytes([encoding]) + EMPTY[5:])


@pytest.mark.parametrize("cut", range(HEADER_BYTES + 2))
def test_a_cut_sketch_is_refused(cut: int) -> None:
    """At every length of the header, and without any byte."""
    assert not is_sound(EMPTY[:cut])


@settings(max_examples=60, deadline=None)
@given(at=st.integers(0, DENSE_BYTES - 1), bit=st.integers(0, 7))
def test_every_flipped_bit_changes_the_checksum(at: int, bit: int) -> None:
    """Most flips leave a sketch sound, but it then counts other visitors."""
    sketch = bytearray(b"HYLL" + bytes(DENSE_BYTES - 4))
    before = checksum(bytes(sketch))
    sketch[at] ^= 1 << bit
    assert checksum(bytes(sketch)) != before
    assert len(before) == 16


def dense(registers: dict[int, int]) -> bytes:
    """Return a dense sketch in which some registers have a value."""
    packed = sum(value << 6 * register for register, value in registers.items())
    return b"HYLL" + bytes([DENSE]) + bytes(11) + packed.to_bytes(DENSE_BYTES - HEADER_BYTES, "little")


@given(st.integers(0, REGISTERS - 1), st.integers(0, 63))
def test_a_register_holds_what_a_hash_can_have(register: int, value: int) -> None:
    """At most 51: 50 zeros after the 14 bits that choose the register, and one; in each of the 16,384 places."""
    others = dict.fromkeys({0, register - 1, register + 1, REGISTERS - 1} & set(range(REGISTERS)), REGISTER_MAX)
    assert is_sound(dense(others | {register: value})) is (value <= REGISTER_MAX)


def test_every_value_of_a_sparse_opcode_is_possible() -> None:
    """It has five bits, for 1 to 32."""
    for opcode in range(0x80, 0x100):
        packed, registers = bytes([opcode]), (opcode & 3) + 1
        assert is_sound(sparse(packed + encoded([("long", REGISTERS - registers)])[0]))


@pytest.mark.parametrize("visitors", [1, 60, 1500, 5000])
async def test_a_sketch_covers_what_it_was_made_from(redis: RawRedis, visitors: int) -> None:
    """Sparse and dense; one more visitor of many may be hidden behind others, half of them never are."""
    for first in range(0, visitors, 1000):
        await redis.pfadd("all", *range(first, min(first + 1000, visitors)))
    await redis.pfadd("some", *range(visitors // 2, min(visitors, visitors // 2 + 1000)))
    whole, some = await redis.get("all"), await redis.get("some")
    assert covers(whole, some)
    assert covers(whole, whole)
    assert covers(some, whole) is (visitors == 1)


async def test_redis_believes_impossible_registers(redis: RawRedis) -> None:
    """The check exists because Redis answers the smallest of all numbers for them."""
    impossible = dense(dict.fromkeys(range(REGISTERS), REGISTER_MAX + 1))
    await redis.set("impossible", impossible[:8] + bytes(7) + b"\x80" + impossible[16:])
    assert await redis.pfcount("impossible") < 0
    assert not is_sound(impossible)


async def test_redis_believes_what_this_check_refuses(redis: RawRedis) -> None:
    """The check exists because Redis itself notices an overrun late or never."""
    overrun = sparse(encoded([("long", REGISTERS), ("value", 4)])[0])
    assert not is_sound(overrun)
    await redis.set("overrun", overrun)
    with pytest.raises(ResponseError, match="INVALIDOBJ"):
        await redis.pfmerge("union", "overrun")
