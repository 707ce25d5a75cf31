"""Encoded AMQP values that parsers have reason to stumble over."""

import struct
from uuid import UUID

from hotpath.wire.types import Array, Described, Symbol, Timestamp, UInt, ULong, encode
from tests.fuzz import identities

_INTEGERS = (0, 1, -1, 2, 4, 7, 127, 128, 255, 256, 2047, 2048, 65535, 65536, 2**31 - 1, 2**31)
_WIDTHS = {0x52: "B", 0x53: "B", 0x54: "b", 0x60: "H", 0x70: "I", 0x71: "i", 0x80: "Q", 0x81: "q"}


def _fitting() -> list[bytes]:
    found = []
    for code, form in _WIDTHS.items():
        for number in (*_INTEGERS, 2**32 - 1, 2**63 - 1, 2**64 - 1, -(2**31), -(2**63)):
            try:
                found.append(bytes((code,)) + struct.pack(">" + form, number))
            except struct.error:
                continue
    return found


def nested(depth: int, code: int) -> bytes:
    """A compound in a compound, many times."""
    value = b"\x45"
    for _ in range(depth):
        count = 2 if code == 0xD1 else 1
        inner = (b"\x40" if count == 2 else b"") + value
        value = bytes((code,)) + struct.pack(">II", len(inner) + 4, count) + inner
    return value


def _texts() -> list[bytes]:
    texts = [b"", b"a", b"\x00", b"a\x00b", b"\xff\xfe", b"\xed\xa0\x80", "é".encode(), b"x" * 255]
    long = [b"x" * 300, b"\x00" * 600, b"/" * 2_000, b"%" * 3_000, b"a" * 9_000]
    found = []
    for text in texts:
        found += [bytes((code, len(text))) + text for code in (0xA0, 0xA1, 0xA3)]
    for text in long:
        found += [bytes((c,)) + struct.pack(">I", len(text)) + text for c in (0xB0, 0xB1, 0xB3)]
    return found


def _odd() -> list[bytes]:
    """Wrong sizes, wrong counts, unknown constructors; types that nobody sends."""
    return [
        b"\x3e", b"\x46", b"\xff", b"\x00", b"\x00\x00\x00\x40", b"\x00" * 80 + b"\x40",
        b"\xa1\xff", b"\xa1\xffabc", b"\xb1\xff\xff\xff\xff", b"\xb0\x7f\xff\xff\xffabc",
        b"\xc0\x00\x00", b"\xc0\x00", b"\xc0\x01\xff", b"\xc0\x03\x05\x40\x40", b"\xc1\x02\x01\x40",
        b"\xd0\x00\x00\x00\x00\x00\x00\x00\x00", b"\xd0\x00\x00\x00\x04\xff\xff\xff\xff",
        b"\xd0\xff\xff\xff\xff\x00\x00\x00\x01", b"\xd1\x00\x00\x00\x05\x00\x00\x00\x01\x40",
        b"\xe0\x02\x00\x40", b"\xe0\x02\xff\x40", b"\xe0\x04\x02\xa1\x00\x00",
        b"\xf0\x00\x00\x00\x05\xff\xff\xff\xff\x40", b"\xf0\x00\x00\x00\x05\x7f\xff\xff\xff\x45",
        b"\xf0\x00\x00\x00\x06\x00\x00\x00\x01\x00\x40", b"\xe0\x03\x01\xc0\x00",
        b"\x56\x02", b"\x56\x01", b"\x73\x00\x11\x00\x00", b"\x73\x00\x00\xd8\x00", b"\x73\0\0\0a",
        b"\x72\x7f\xc0\x00\x00", b"\x82\x7f\xf8" + bytes(6), b"\x82\xff\xf0" + bytes(6),
        b"\x74" + bytes(4), b"\x84" + b"\xff" * 8, b"\x94" + b"\x7f" * 16, b"\x98" + bytes(16),
        b"\x83" + b"\x7f" + b"\xff" * 7, b"\x83\x80" + bytes(7), b"\x51\x80", b"\x61\x80\x00",
        nested(10, 0xD0), nested(63, 0xD1), nested(66, 0xD0), nested(200, 0xD0),
        b"\xc1\x05\x04\x40\x40\x40\x41", b"\xc1\x07\x02\xc0\x01\x00\xa1\x01x",
    ]  # fmt: skip


def _meant() -> list[bytes]:
    """Values that mean something to this service in some place."""
    lock = UUID("00000000-0000-0000-0000-000000000001")
    things: list[object] = [
        None, True, False, [], {}, lock, Timestamp(0), Timestamp(identities.RECORDED_S * 1000),
        Array(0x98, (lock, lock)), Array(0x81, (1, 2, 3)), Array(0xA3, (Symbol("a"),)), [1, 2, 3],
        {"a": 1}, {Symbol("x"): None}, Symbol("amqp:accepted:list"), "renew-lock", "put-token",
        *(Described(ULong(code), []) for code in (0x23, 0x24, 0x25, 0x26, 0x27, 0x28, 0x29, 0x30)),
        Described(ULong(0x25), [Described(ULong(0x1D), [Symbol("com.microsoft:dead-letter"), "x"])]),
        Described(ULong(0x27), [True, True, {Symbol("a"): 1}]),
        Described(ULong(0x34), [b"txn", Described(ULong(0x24), [])]),
        Described(Symbol("apache.org:selector-filter:string"), "value > 1"), UInt(2147563264),
    ]  # fmt: skip
    return [encode(thing) for thing in things]


#: All of them, those that mean something twice.
VALUES: tuple[bytes, ...] = (*_fitting(), *_texts(), *_odd(), *_meant(), *_meant(), *_meant())

ADDRESSES = (
    identities.feed(1), identities.feed(1), identities.feed(2), identities.feed(3),
    identities.feed(1) + "/$DeadLetterQueue", identities.feed(1) + "/$management",
    identities.feed(1) + "/$DeadLetterQueue/$management", "variables", "variables/$management",
    "events", "$cbs", "$cbs", "$management", "", None, "nothing/like/it", "amqp://localhost/variables",
    identities.feed(99), "VARIABLES/subscriptions/" + identities.feed_id(1).upper(), "points",
    "variables/Subscriptions", "/" * 300, "%76ariables", "x" * 5_000, "a\x00b", "\ud7ff",
)  # fmt: skip
