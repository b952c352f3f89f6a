"""HyperLogLog sketches as Redis stores them: what may be handed back to Redis. Pure."""

import hashlib
from operator import ge

REGISTERS = 16384
DENSE_BYTES = 12304
HEADER_BYTES = 16
DENSE, SPARSE = 0, 1
REGISTER_MAX = 51
"""The largest value of a register: 14 of the hash's 64 bits choose the register, and 50 zeros may follow."""


def checksum(sketch: bytes) -> bytes:
    """Return 16 bytes that tell a damaged sketch from the one that was saved."""
    return hashlib.blake2b(sketch, digest_size=16).digest()


def is_sound(sketch: bytes) -> bool:
    """Tell whether Redis may be given these bytes.

    Redis believes a sketch's encoding and run lengths, and crafted ones have been a way to run code in it
    (CVE-2025-32023): so the magic, the encoding, the dense length, and the sum of the sparse runs are checked. It
    believes the registers too: values that no hash can have make it answer -2^63 visitors. A sparse opcode has five
    bits for a value, at most 32, so only dense registers can be impossible.

    >>> is_sound(b"HYLL" + bytes([SPARSE]) + bytes(11) + bytes([0x7F, 0xFF]))  # one run of 16384 empty registers
    True
    >>> is_sound(b"HYLL" + bytes([SPARSE]) + bytes(11) + bytes([0x7F, 0xFF, 0x00]))  # one register too many
    False
    """
    if len(sketch) < HEADER_BYTES or sketch[:4] != b"HYLL":
        return False
    if sketch[4] == DENSE:
        return len(sketch) == DENSE_BYTES and not _has_impossible_registers(sketch[HEADER_BYTES:])
    return sketch[4] == SPARSE and _sparse_registers(sketch[HEADER_BYTES:]) == REGISTERS


_LOWEST_BITS = int.from_bytes(b"\x41\x10\x04" * (REGISTERS // 4), "little")
"""The lowest bit of each of the 6-bit registers."""


def _has_impossible_registers(packed: bytes) -> bool:
    """Tell whether any of the 6-bit registers is above 51, that is 11x1xx or 111xxx in binary."""
    # All registers in a few operations on one large number: a loop over 16,384 takes milliseconds.
    bits = int.from_bytes(packed, "little")
    return bool(bits >> 5 & bits >> 4 & (bits >> 3 | bits >> 2) & _LOWEST_BITS)


def covers(sketch: bytes, other: bytes) -> bool:
    """Tell whether `sketch` has seen all that `other` has: no register of it is lower. Both must be sound.

    >>> empty = b"HYLL" + bytes([SPARSE]) + bytes(11) + bytes([0x7F, 0xFF])
    >>> one = b"HYLL" + bytes([SPARSE]) + bytes(11) + bytes([0x80, 0x7F, 0xFE])  # the first register is 1
    >>> covers(one, empty), covers(empty, one)
    (True, False)
    """
    return all(map(ge, _registers(sketch), _registers(other)))


def _registers(sketch: bytes) -> bytes:
    """Return the value of each of the 16,384 registers, one byte each."""
    packed = sketch[HEADER_BYTES:]
    values = bytearray()
    if sketch[4] == DENSE:
        for at in range(0, len(packed), 3):
            four = int.from_bytes(packed[at : at + 3], "little")
            values += bytes((four & 63, four >> 6 & 63, four >> 12 & 63, four >> 18))
        return bytes(values)
    opcodes = iter(packed)
    for opcode in opcodes:
        if opcode & 0x80:
            values += bytes([(opcode >> 2 & 0x1F) + 1]) * ((opcode & 0x03) + 1)
        elif opcode & 0x40:
            values += bytes(((opcode & 0x3F) << 8 | next(opcodes)) + 1)
        else:
            values += bytes(opcode + 1)
    return bytes(values)


def _sparse_registers(runs: bytes) -> int:
    """Sum the registers that the opcodes describe; -1 where an opcode is cut off.

    Opcodes (`hyperloglog.c`): 00xxxxxx = 1-64 empty registers, 01xxxxxx yyyyyyyy = 1-16384 empty ones,
    1vvvvvxx = 1-4 registers of one value.
    """
    registers = at = 0
    while at < len(runs):
        opcode = runs[at]
        if opcode & 0x80:
            registers += (opcode & 0x03) + 1
        elif opcode & 0x40:
            if at + 1 == len(runs):
                return -1
            registers += ((opcode & 0x3F) << 8 | runs[at + 1]) + 1
            at += 1
        else:
            registers += opcode + 1
        at += 1
    return registers
