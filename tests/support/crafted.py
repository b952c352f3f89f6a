"""Visitor ids that make HyperLogLog report millions: an attacker could send such ids if Footfall did not hash them.

Redis hashes an element with MurmurHash64A under a public seed. 14 bits of the hash choose one of
16,384 registers, and the register keeps how many zeros follow them. For elements of whole 8-byte blocks every step of
the hash can be reversed, so for any hash there is an id, at no cost.
"""

import random

SEED = 0xADC83B19
REGISTERS = 16_384
ZEROS = 10
"""Zeros after the register's bits in each crafted hash, as in a set of some 20 million elements."""

_WORD = 2**64 - 1
_FACTOR = 0xC6A4A7935BD1E995
_INVERSE = pow(_FACTOR, -1, 2**64)


def crafted_id(register: int, dice: random.Random) -> bytes:
    """Return an id of 16 bytes that sets `register` as if millions of visitors had come.

    >>> hash_of(crafted_id(5, random.Random(1))) % 2**25 == 5 + (1 << 14 + ZEROS)
    True
    """
    wanted = register | 1 << 14 + ZEROS | dice.getrandbits(39) << 25
    first = dice.randbytes(8)
    before = _mixed_in(SEED ^ 16 * _FACTOR & _WORD, int.from_bytes(first, "little"))
    after = _shifted(_shifted(wanted) * _INVERSE & _WORD) * _INVERSE & _WORD
    block = _shifted((after ^ before) * _INVERSE & _WORD) * _INVERSE & _WORD
    return first + block.to_bytes(8, "little")


def hash_of(element: bytes) -> int:
    """Return MurmurHash64A with Redis' seed, of whole blocks of 8 bytes."""
    state = SEED ^ len(element) * _FACTOR & _WORD
    for at in range(0, len(element), 8):
        state = _mixed_in(state, int.from_bytes(element[at : at + 8], "little"))
    return _shifted(_shifted(state) * _FACTOR & _WORD)


def _mixed_in(state: int, block: int) -> int:
    block = _shifted(block * _FACTOR & _WORD) * _FACTOR & _WORD
    return (state ^ block) * _FACTOR & _WORD


def _shifted(word: int) -> int:
    """This step is its own inverse, because 47 is more than half of 64."""
    return word ^ word >> 47
