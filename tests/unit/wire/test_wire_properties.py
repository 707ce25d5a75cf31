"""Reading the properties that filters name."""

import json
import math
from uuid import UUID

import pytest

from hotpath.wire.encoder import encode_map
from hotpath.wire.message import normalise
from hotpath.wire.plain import STRUCTURE_BYTES_MAX
from hotpath.wire.properties import Puller, pull
from hotpath.wire.types import (
    Array,
    Byte,
    Char,
    DecimalBits,
    Described,
    Float32,
    Int,
    Short,
    Symbol,
    Timestamp,
    UByte,
    UInt,
    ULong,
    UShort,
    encode,
)
from qel import DateTime
from tests.unit.wire.wire_messages import FIVE, MODEL, annotated, published

GUID = UUID("00112233-4455-6677-8899-aabbccddeeff")


def paths(*names: str) -> frozenset[tuple[str, ...]]:
    return frozenset(tuple(name.split(".")) for name in names)


def with_properties(pairs: dict[object, object], body: bytes = b"") -> bytes:
    """A stored message encoded by this package, for types that Proton's dict cannot hold."""
    entries = [encode(part) for pair in pairs.items() for part in pair]
    return b"\x00\x53\x74" + encode_map(entries) + b"\x00\x53\x75" + encode(body)


def exact(value: object) -> object:
    """A value with its type, so that 1, True and 1.0 differ."""
    if isinstance(value, dict):
        return {key: exact(item) for key, item in value.items()}
    if isinstance(value, list):
        return [exact(item) for item in value]
    return type(value), value


def test_only_wanted_properties_are_read():
    stored = normalise(published(properties=FIVE, content_type="application/json"))

    found = pull(stored, paths("objectId", "timestamp", "quality", "missing"))

    assert found == {"objectId": MODEL, "timestamp": 1760000000000 * 1_000_000, "quality": 1}
    assert type(found["timestamp"]) is DateTime


def test_nothing_wanted_is_nothing_read():
    assert pull(normalise(published(properties=FIVE)), frozenset()) == {}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None), (True, True), (False, False), (UByte(255), 255), (UShort(65535), 65535),
        (UInt(0), 0), (UInt(7), 7), (UInt(2**32 - 1), 2**32 - 1), (ULong(0), 0), (ULong(2**64 - 1), 2**64 - 1),
        (Byte(-1), -1), (Short(-300), -300), (Int(-1), -1), (Int(-70000), -70000), (5, 5), (-(2**63), -(2**63)),
        (Float32(1.5), 1.5), (2.5, 2.5), (Char("x"), "x"), ("text", "text"), ("é" * 200, "é" * 200), ("", ""),
        (Symbol("sym"), "sym"), (Symbol("s" * 300), "s" * 300), (GUID, str(GUID)), (b"raw", b"raw"),
        (Timestamp(-5), DateTime(-5_000_000)), (DecimalBits(b"1234"), b"1234"), ([1, "a"], [1, "a"]),
        ({"a": Timestamp(1), Symbol("b"): [Symbol("c")], 5: 6}, {"a": DateTime(1_000_000), "b": ["c"]}),
        (Array(0xA1, ("a", "b")), ["a", "b"]), (Described(Symbol("d"), UInt(5)), 5), ([1] * 300, [1] * 300),
        (float("inf"), float("inf")),
    ],
    ids=lambda value: f"{type(value).__name__}-{str(value)[:12]}",
)  # fmt: skip
def test_each_type_becomes_plain_python(value, expected):
    stored = with_properties({"before": 1, "p": value, "after": "x"})

    found = pull(stored, paths("p", "after"))

    assert exact(found) == exact({"p": expected, "after": "x"})


def test_boolean_in_one_byte_is_read():
    stored = bytes.fromhex("005374c10602a101615601" + "005375a000")

    assert pull(stored, paths("a")) == {"a": True}


@pytest.mark.parametrize("key", [Symbol("p"), "p"], ids=["symbol", "string"])
def test_key_may_be_string_or_symbol(key):
    assert pull(with_properties({key: 1}), paths("p")) == {"p": 1}


@pytest.mark.parametrize("name", ["p" * 255, "p" * 256, "é" * 200, "a.b", "\U0001f600", ""])
def test_name_may_be_any_text(name):
    wanted = frozenset([(name,)])

    assert pull(with_properties({name: 1, "q": 2}), wanted) == {name: 1}
    assert pull(normalise(published(json.dumps({name: 2}).encode())), wanted) == {name: 2}


def test_keys_of_other_types_are_passed_over():
    stored = with_properties({1: "p", b"p": 2, None: 3, ULong(2**60): 4, "p": 5})

    assert pull(stored, paths("p")) == {"p": 5}


@pytest.mark.parametrize("more", [{}, {"long": "x" * 300}], ids=["short way", "careful way"])
def test_key_that_is_no_text_is_not_the_empty_name(more):
    assert pull(with_properties({None: 1, 5: 2, **more}), frozenset([("",)])) == {}


def test_text_of_a_key_inside_a_value_is_no_key():
    stored = with_properties({"a": "\xa1\x01p\x41", "b": b"\xa1\x01p\x41"})

    assert pull(stored, paths("p")) == {}


@pytest.mark.parametrize(
    "raw",
    [
        published(properties=FIVE, ttl=5.0, priority=9),
        annotated({"mine": "x"}, properties=FIVE),
        annotated({"mine": "x" * 300}, properties=FIVE, ttl=1),
        published(properties={**FIVE, "long": "x" * 300}, subject="y" * 300),
        published(["sequence"], properties=FIVE),
        published(None, properties=FIVE),
        bytes.fromhex("00a310616d71703a686561646572" + "3a6c69737445") + published(properties=FIVE)[4:],
    ],
    ids=["ttl", "annotations", "long annotations", "long values", "list body", "no body", "symbol"],
)  # fmt: skip
def test_properties_are_found_behind_whatever_is_in_front(raw):
    found = pull(normalise(raw), paths("objectId", "quality"))

    assert found == {"objectId": MODEL, "quality": 1}


BODY = {"objectId": "o", "value": {"x": [1, {"y": None}]}, "n": None, 'q"uo\\te': 1, "é": 2.5}

BODIES = {
    "data8": published(json.dumps(BODY).encode()),
    "data32": published(json.dumps({**BODY, "pad": "x" * 300}).encode()),
    "not ascii": published(json.dumps(BODY, ensure_ascii=False).encode()),
    "blanks": published(b" \r\n\t" + json.dumps(BODY, indent=2).encode()),
    "byte order mark": published(b"\xef\xbb\xbf" + json.dumps(BODY).encode()),
    "string": published(json.dumps(BODY)),
    "long string": published(json.dumps({**BODY, "pad": "x" * 300})),
    "map": published(BODY),
    "several data": b"".join(
        b"\x00\x53\x75" + encode(part.encode()) for part in json.dumps(BODY).partition('"value"')
    ),
    "footer": b"\x00\x53\x75" + encode(json.dumps(BODY).encode()) + bytes.fromhex("005378c10100"),
    "binary value": b"\x00\x53\x77" + encode(json.dumps(BODY).encode()),
}


@pytest.mark.parametrize("raw", BODIES.values(), ids=BODIES)
def test_what_application_properties_do_not_have_comes_from_the_body(raw):
    wanted = frozenset([("objectId",), ("value", "x"), ("n",), ('q"uo\\te',), ("é",), ("missing",)])

    assert pull(normalise(raw), wanted) == BODY


@pytest.mark.parametrize("raw", [BODIES["data8"], BODIES["map"], BODIES["string"]])
def test_application_property_comes_before_the_member_of_the_body(raw):
    stored = normalise(raw)
    front = b"\x00\x53\x74" + encode({"objectId": None, "value": 5})
    stored = front + stored.removeprefix(bytes.fromhex("00537345"))

    assert pull(stored, paths("objectId", "value", "n")) == {
        "objectId": None,
        "value": 5,
        "n": None,
    }


@pytest.mark.parametrize("text", [r'{"\u0076alue": 1}', r'{"v\u0061lue": 1}'])
def test_member_with_an_escaped_name_is_found(text):
    assert pull(normalise(published(text.encode())), paths("value")) == {"value": 1}


def test_dot_in_the_name_of_a_member_is_no_path():
    stored = normalise(published(b'{"a.b": {"c": 1}}'))

    assert pull(stored, frozenset([("a.b", "c")])) == {"a.b": {"c": 1}}
    assert pull(stored, frozenset([("a", "b")])) == {}


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b'[{"p": 1}]', b"1", b'"p"', b"null", b"{", b'{"p": }', b'{"p": 1}x', b"\xff\xfe{",
     b'{"p": "\xff"}', b'{"p":' + b"[" * 100_000, b'{"q":' * 5000 + b"1" + b"}" * 5000,
     '{"p": 1}'.encode("utf-16"), b"<p/>"],
    ids=lambda body: repr(body[:12]),
)  # fmt: skip
def test_body_that_is_no_json_object_has_no_properties(body):
    assert pull(normalise(published(body)), paths("p")) == {}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("NaN", float("nan")),
        ("-Infinity", float("-inf")),
        ("1e999", float("inf")),
        ("18446744073709551616", 2**64),
        ("9" * 4000, int("9" * 4000)),
        ("9" * 5000, float("inf")),
        ("-" + "9" * 5000, float("-inf")),
        ('"\\ud800"', "\ud800"),
        ("0.1", 0.1),
        ("-0", 0),
        ("[1, 2.0]", [1, 2.0]),
    ],
    ids=lambda value: str(value)[:10] if isinstance(value, str) else "",
)
def test_any_number_of_a_json_body_is_read(text, expected):
    value = pull(normalise(published(b'{"p": ' + text.encode() + b"}")), paths("p"))["p"]

    if isinstance(expected, float) and math.isnan(expected):
        assert isinstance(value, float)
        assert math.isnan(value)
    else:
        assert exact(value) == exact(expected)


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        ("a10170" + "a101ff", {"after": 1}),
        ("a10170" + "5602", {"after": 1}),
        ("a10170" + "c00241ff", {"after": 1}),
        ("a10170" + "a301e9", {"after": 1}),
        ("a10170" + "46", {}),
        ("a10170" + "a1ff", {}),
    ],
)
def test_damaged_value_is_left_out(damage, expected):
    entries = bytes.fromhex(damage) + encode("after") + encode(1)
    section = b"\x00\x53\x74\xc1" + bytes((len(entries) + 1, 4)) + entries

    assert pull(section + bytes.fromhex("005375a000"), paths("p", "after")) == expected


def test_structures_are_decoded_up_to_a_size():
    fits, large = [True] * 1000, [True] * STRUCTURE_BYTES_MAX

    stored = with_properties({"fits": fits, "large": large, "text": "x" * 100_000})

    assert pull(stored, paths("fits", "large", "text")) == {"fits": fits, "text": "x" * 100_000}


def test_structures_of_one_message_share_their_size():
    third = [True] * (STRUCTURE_BYTES_MAX // 3)

    stored = with_properties({"a": third, "b": third, "c": third, "d": 1})

    assert pull(stored, paths("a", "b", "c", "d")) == {"a": third, "b": third, "d": 1}


def test_last_of_several_entries_with_one_name_counts():
    entries = [encode(part) for part in ("p", 1, "p", 2)]
    stored = b"\x00\x53\x74" + encode_map(entries) + bytes.fromhex("005375a000")

    assert pull(stored, paths("p")) == {"p": 2}


@pytest.mark.parametrize(("count", "expected"), [(4096, {"n7": 7}), (4097, {})])
def test_map_of_a_body_is_read_up_to_a_number_of_members(count, expected):
    stored = b"\x00\x53\x77" + encode({f"n{number}": number for number in range(count)})

    assert pull(stored, paths("n7")) == expected


def test_one_puller_serves_many_messages():
    puller = Puller(paths("objectId", "value.x"))

    first = puller.pull(normalise(published(b'{"value": {"x": 1}}', properties=FIVE)))
    second = puller.pull(normalise(published(b"")))

    assert puller.names == {"objectId", "value"}
    assert first == {"objectId": MODEL, "value": {"x": 1}}
    assert second == {}
