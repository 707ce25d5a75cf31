"""The AMQP 1.0 type system: each encoding by its literal bytes."""

from uuid import UUID

import pytest

from hotpath.wire.types import (
    Array,
    Byte,
    Char,
    DecimalBits,
    Described,
    Float32,
    Int,
    Long,
    Short,
    Symbol,
    Timestamp,
    UByte,
    UInt,
    ULong,
    UShort,
    WireError,
    decode,
    decode_exact,
    encode,
    skip,
)

GUID = UUID("00112233-4455-6677-8899-aabbccddeeff")

#: hex, value; every constructor of amqp-core-types-v1.0 §1.6
ENCODINGS = [
    ("40", None),
    ("41", True),
    ("42", False),
    ("5600", False),
    ("5601", True),
    ("50ff", UByte(255)),
    ("60ffff", UShort(65535)),
    ("43", UInt(0)),
    ("5200", UInt(0)),
    ("52ff", UInt(255)),
    ("70ffffffff", UInt(4294967295)),
    ("44", ULong(0)),
    ("53ff", ULong(255)),
    ("80ffffffffffffffff", ULong(2**64 - 1)),
    ("5180", Byte(-128)),
    ("618000", Short(-32768)),
    ("5480", Int(-128)),
    ("7180000000", Int(-(2**31))),
    ("5580", Long(-128)),
    ("818000000000000000", Long(-(2**63))),
    ("723fc00000", Float32(1.5)),
    ("823ff8000000000000", 1.5),
    ("7422500001", DecimalBits(bytes.fromhex("22500001"))),
    ("842234000000000001", DecimalBits(bytes.fromhex("2234000000000001"))),
    ("94" + "22080000000000000000000000000001", DecimalBits(b"\x22\x08" + bytes(13) + b"\x01")),
    ("730001f600", Char("\U0001f600")),
    ("8300000199c82cc000", Timestamp(1760000000000)),
    ("83ffffffffffffffff", Timestamp(-1)),
    ("98" + GUID.hex, GUID),
    ("a003000102", b"\x00\x01\x02"),
    ("b000000003000102", b"\x00\x01\x02"),
    ("a102c3a9", "é"),
    ("b100000002c3a9", "é"),
    ("a3036b6579", Symbol("key")),
    ("b3000000036b6579", Symbol("key")),
    ("45", []),
    ("c00100", []),
    ("c0040241a100", [True, ""]),
    ("d0000000070000000241a100", [True, ""]),
    ("c10100", {}),
    ("c10602a3016b5501", {Symbol("k"): Long(1)}),
    ("d10000000900000002a3016b5501", {Symbol("k"): Long(1)}),
    ("e0040254ff01", Array(0x54, (Int(-1), Int(1)))),
    ("f0000000070000000254ff01", Array(0x54, (Int(-1), Int(1)))),
    ("e0020040", Array(0x40, ())),
    ("e0020340", Array(0x40, (None, None, None))),
    ("e00602a101610162", Array(0xA1, ("a", "b"))),
    ("e00602c001000100", Array(0xC0, ([], []))),
    ("e00702005305560001", Array(0x56, (False, True), (ULong(5),))),
    ("00531045", Described(ULong(16), [])),
    ("0080000000000000001045", Described(ULong(16), [])),
    ("00a3016100a3016241", Described(Symbol("a"), Described(Symbol("b"), True))),
]


def same(left: object, right: object) -> bool:
    """Equal, and of the same types to the innermost element."""
    if type(left) is not type(right):
        return False
    match left:
        case list() | tuple():
            return len(left) == len(right) and all(map(same, left, right))
        case dict():
            return same(list(left), list(right)) and same([*left.values()], [*right.values()])
        case Described():
            return same(left.descriptor, right.descriptor) and same(left.value, right.value)
        case Array():
            return left == right and same(left.items, right.items)
        case _:
            return left == right


@pytest.mark.parametrize(("text", "value"), ENCODINGS, ids=[row[0] for row in ENCODINGS])
class TestEveryEncoding:
    def test_is_decoded_to_its_value_and_type(self, text, value):
        raw = bytes.fromhex(text)

        decoded, end = decode(raw)

        assert same(decoded, value), (decoded, value)
        assert end == len(raw)

    def test_is_skipped_to_its_end(self, text, value):
        raw = bytes.fromhex(text)

        assert skip(b"\x40" + raw + b"\x41", 1) == len(raw) + 1

    def test_is_read_at_an_offset_and_from_a_memoryview(self, text, value):
        raw = bytes.fromhex("40" + text + "41")

        decoded, end = decode(memoryview(raw), 1)

        assert same(decoded, value)
        assert end == len(raw) - 1

    def test_cut_off_anywhere_is_refused(self, text, value):
        raw = bytes.fromhex(text)

        for length in range(len(raw)):
            with pytest.raises(WireError):
                decode(raw[:length])

    def test_value_encodes_to_something_that_decodes_to_it(self, text, value):
        assert same(decode_exact(encode(value)), value)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "40"),
        (True, "41"),
        (False, "42"),
        (0, "5500"),
        (-129, "81ffffffffffffff7f"),
        (UInt(0), "43"),
        (UInt(255), "52ff"),
        (UInt(256), "7000000100"),
        (ULong(0), "44"),
        (ULong(256), "800000000000000100"),
        (Int(127), "547f"),
        (Int(128), "7100000080"),
        (1.5, "823ff8000000000000"),
        (Float32(1.5), "723fc00000"),
        ("é", "a102c3a9"),
        (Symbol("a"), "a30161"),
        (b"a", "a00161"),
        (bytearray(b"a"), "a00161"),
        (memoryview(b"a"), "a00161"),
        ([], "45"),
        ((True,), "c0020141"),
        ({}, "c10100"),
        ({"a": UByte(1)}, "c10602a101615001"),
        (Array(0x98, (GUID,)), "e0120198" + GUID.hex),
        (Array(0x71, (1, 2)), "e00a02710000000100000002"),
        (Array(0x83, (5,)), "e00a01830000000000000005"),
        (Array(0x56, (True, False)), "e00402560100"),
        (Array(0xB1, ("ab",)), "e00801b1000000026162"),
        (Array(0xD0, ([True],)), "e00b01d0000000050000000141"),
        (Array(0xC0, ([],)), "e00401c00100"),
        (Array(0x45, ([], [])), "e0020245"),
        (Array(0x41, (True,), (ULong(5),)), "e0050100530541"),
    ],
    ids=lambda value: "memoryview" if isinstance(value, memoryview) else repr(value),
)
def test_value_has_its_shortest_encoding(value, text):
    assert encode(value).hex() == text


def test_array_of_described_values_keeps_its_descriptor():
    array = Array(0x71, (Int(7),), (ULong(5),))

    assert decode_exact(encode(array)) == array


@pytest.mark.parametrize("size", [0, 1, 253, 254, 255, 256, 30_000])
@pytest.mark.parametrize(
    "make",
    [bytes, lambda n: "x" * n, lambda n: Symbol("x" * n), lambda n: [None] * n,
     lambda n: Array(0x50, (UByte(1),) * n), lambda n: {str(i): None for i in range(n)}],
    ids=["binary", "string", "symbol", "list", "array", "map"],
)  # fmt: skip
def test_sizes_around_the_8_bit_limit_round_trip(make, size):
    value = make(size)

    assert same(decode_exact(encode(value)), value)


@pytest.mark.parametrize(
    ("text", "detail"),
    [
        ("", "cut off"),
        ("46", "unknown constructor 0x46"),
        ("ff", "unknown constructor 0xff"),
        ("5602", "boolean of value 2"),
        ("a101ff", "text is no utf-8"),
        ("a301e9", "text is no ascii"),
        ("730000d800", "text is no utf-32-be"),
        ("7300110000", "text is no utf-32-be"),
        ("c000", "no room for its count"),
        ("d000000003000000", "no room for its count"),
        ("c0020241", "cannot be in"),
        ("c0030241a1", "cut off"),
        ("c003014141", "do not fill"),
        ("d000000004ffffffff", "cannot be in"),
        ("c1020141", "key without a value"),
        ("c103024541", "key is a list or map"),
        ("c1050441414141", "same key twice"),
        ("f000000005ffffffff40", "more than 65536 values"),
        ("f000000005ffffffff71", "cannot be in"),
        ("f000000005ffffffffa1", "cannot be in"),
        ("e0060271000000", "cut off"),
        ("e0030146", "cut off"),
        ("e003014600", "unknown constructor 0x46"),
        ("e00401500041", "do not fill their array"),
        ("e00100", "cut off"),
        ("00", "cut off"),
        ("0040", "cut off"),
    ],
)
def test_malformed_bytes_are_refused(text, detail):
    with pytest.raises(WireError, match=detail):
        decode(bytes.fromhex(text))


@pytest.mark.parametrize(
    "piece",
    [Array(0x40, (None,) * 16_383), [True] * 16_383, dict.fromkeys(range(8191))],
    ids=["array without bytes", "list", "map"],
)
def test_elements_of_all_compounds_together_are_bounded(piece):
    decode(encode([piece] * 4))
    with pytest.raises(WireError, match="more than 65536 values"):
        decode(encode([piece] * 5))


@pytest.mark.parametrize(
    "open_level",
    [lambda inner: [inner], lambda inner: {"k": inner}, lambda inner: Described(1, inner),
     lambda inner: Array(0xD0, ([inner],))],
    ids=["list", "map", "described", "array"],
)  # fmt: skip
def test_nesting_is_bounded_both_ways(open_level):
    value: object = True
    for _ in range(32):
        value = open_level(value)
    assert decode_exact(encode(value)) == value

    for _ in range(40):
        value = open_level(value)
    with pytest.raises(WireError, match="deeper than 64"):
        encode(value)


def test_deep_nesting_in_bytes_is_refused():
    raw = b"\x41"
    for _ in range(2000):
        raw = b"\xd0" + (len(raw) + 4).to_bytes(4, "big") + b"\x00\x00\x00\x01" + raw

    with pytest.raises(WireError, match="deeper than 64"):
        decode(raw)


def test_chain_of_descriptors_is_followed_to_a_depth():
    raw = b"\x00\x41" * 60 + b"\x41"

    assert decode(raw)[1] == skip(raw) == len(raw)


@pytest.mark.parametrize("read", [skip, decode])
@pytest.mark.parametrize("count", [65, 100_000])
def test_longer_chain_of_descriptors_is_refused(read, count):
    with pytest.raises(WireError):
        read(b"\x00\x41" * count + b"\x41")


@pytest.mark.parametrize("read", [skip, decode])
def test_chain_of_described_descriptors_is_refused(read):
    with pytest.raises(WireError):
        read(b"\x00" * 100_000 + b"\x41")


@pytest.mark.parametrize(
    "value",
    [
        2**63, -(2**63) - 1, 10**5000, UByte(256), UByte(-1), Byte(128), UShort(65536), Short(-32769),
        UInt(2**32), UInt(-1), ULong(2**64), ULong(-1), Int(2**31), Timestamp(2**63), Float32(1e39),
        Char(""), Char("ab"), Char("\ud800"), "\ud800", Symbol("é"), DecimalBits(b"123"), object(),
        {1, 2}, 1j, [object()], {"a": {"b": object()}}, Described(1, object()),
        Array(0x50, (256,)), Array(0x50, ("a",)), Array(0xA1, (b"a",)), Array(0xC0, ({},)),
        Array(0xA1, ("a" * 256,)), Array(0xC0, ([None] * 300,)), Array(0x46, (1,)), Array(0x41, (False,)),
        Array(0xA1, (Described(1, "a"),)), Array(0x98, ("a",)),
    ],
    ids=lambda value: f"{type(value).__name__}",
)  # fmt: skip
def test_value_without_an_encoding_is_refused(value):
    with pytest.raises(WireError):
        encode(value)


def test_bytes_after_the_value_are_refused_when_one_value_is_wanted():
    with pytest.raises(WireError, match="after the value"):
        decode_exact(b"\x41\x41")


def test_error_tells_where():
    with pytest.raises(WireError) as caught:
        decode(bytes.fromhex("c0030241ff"))

    assert caught.value.offset == 4
    assert str(caught.value) == "unknown constructor 0xff (at byte 4)"


def test_array_with_too_many_descriptors_is_refused():
    head = b"\x00\x41" * 65 + b"\x40"

    with pytest.raises(WireError, match="descriptors"):
        decode(b"\xe0" + bytes((len(head) + 1, 0)) + head)
