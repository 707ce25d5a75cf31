"""Walking the sections of a message."""

import pytest

from hotpath.wire.sections import body_offset, walk
from hotpath.wire.types import WireError

HEADER = "005370c0020141"
DELIVERY = "005371c10100"
ANNOTATIONS = "005372c10100"
PROPERTIES = "005373c0020140"
APPLICATION = "005374c10100"
DATA = "005375a00161"
SEQUENCE = "00537645"
VALUE = "00537740"
FOOTER = "005378c10100"


def codes(text: str) -> list[int]:
    return [section.code - 0x70 for section in walk(bytes.fromhex(text))]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (DATA, [5]),
        (DATA + DATA + DATA, [5, 5, 5]),
        (SEQUENCE + SEQUENCE, [6, 6]),
        (VALUE, [7]),
        (HEADER + VALUE, [0, 7]),
        (
            HEADER + DELIVERY + ANNOTATIONS + PROPERTIES + APPLICATION + DATA + FOOTER,
            [0, 1, 2, 3, 4, 5, 8],
        ),
        (APPLICATION + VALUE + FOOTER, [4, 7, 8]),
        (HEADER + PROPERTIES, [0, 3]),
        (APPLICATION, [4]),
    ],
)
def test_sections_are_found_in_order(text, expected):
    assert codes(text) == expected


@pytest.mark.parametrize(
    ("symbol", "rest", "code"),
    [
        ("amqp:header:list", "45", 0),
        ("amqp:delivery-annotations:map", "c10100", 1),
        ("amqp:message-annotations:map", "c10100", 2),
        ("amqp:properties:list", "45", 3),
        ("amqp:application-properties:map", "c10100", 4),
        ("amqp:data:binary", "a000", 5),
        ("amqp:amqp-sequence:list", "45", 6),
        ("amqp:amqp-value:*", "a000", 7),
    ],
)
@pytest.mark.parametrize("form", ["smallulong", "ulong", "sym8", "sym32"])
def test_descriptor_may_have_any_form(symbol, rest, code, form):
    name = symbol.encode()
    descriptor = {
        "smallulong": bytes((0x53, 0x70 + code)),
        "ulong": b"\x80" + bytes(7) + bytes((0x70 + code,)),
        "sym8": bytes((0xA3, len(name))) + name,
        "sym32": b"\xb3" + len(name).to_bytes(4, "big") + name,
    }[form]
    body = "" if code >= 5 else VALUE

    found = walk(b"\x00" + descriptor + bytes.fromhex(rest + body))

    assert found[0].code == 0x70 + code


@pytest.mark.parametrize(
    ("text", "detail"),
    [
        ("", "without properties and body"),
        (HEADER, "without properties and body"),
        (HEADER + ANNOTATIONS + FOOTER, "without properties and body"),
        (DATA + FOOTER + FOOTER, "section 0x78 after 0x78"),
        (HEADER + HEADER + DATA, "section 0x70 after 0x70"),
        (APPLICATION + PROPERTIES + DATA, "section 0x73 after 0x74"),
        (VALUE + VALUE, "section 0x77 after 0x77"),
        (DATA + SEQUENCE, "more than one kind"),
        (DATA + VALUE, "more than one kind"),
        (SEQUENCE + VALUE, "more than one kind"),
        (FOOTER + DATA, "section 0x75 after 0x78"),
        (DATA + "00", "section expected"),
        (DATA + "41", "section expected"),
        (DATA + "deadbeef", "section expected"),
        ("005375", "cut off"),
        ("005375a0", "cut off"),
        ("005375a005", "cut off"),
        ("005375a10161", "value of type 0xa1"),
        ("005374c00100" + DATA, "value of type 0xc0"),
        ("005373c10100" + DATA, "value of type 0xc1"),
        ("005373005301" + "45" + DATA, "value of type 0x00"),
        ("00536fa00161", "no message section"),
        ("005379a00161", "no message section"),
        ("0080ffffffffffffff75a000", "no message section"),
        ("00800000000000", "section expected"),
        ("00a303666f6fa000", "no message section"),
        ("00a3ff666f", "cut off"),
        ("0043a000", "section expected"),
        ("005374c10402404040" + DATA, "does not hold the 2 elements"),
        ("005374c1020140" + DATA, "key without a value"),
        ("005374c103034041" + DATA, "cannot be in|does not hold"),
        ("005374c10502a1056140" + DATA, "does not hold|unknown constructor"),
        ("005373c00f0e" + "40" * 14 + DATA, "properties of 14 fields"),
        ("005372c1020140" + DATA, "key without a value"),
    ],
)
def test_what_is_no_message_is_refused(text, detail):
    with pytest.raises(WireError, match=detail):
        walk(bytes.fromhex(text))


def test_body_offset_passes_over_what_is_before_the_body():
    assert body_offset(bytes.fromhex(PROPERTIES + APPLICATION + DATA)) == 13
    with pytest.raises(WireError, match="without a body"):
        body_offset(bytes.fromhex(PROPERTIES))
