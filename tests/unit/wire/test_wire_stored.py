"""What the broker reads from a stored message: schedule and expiry."""

import datetime

import proton
import pytest

from hotpath.wire.message import (
    due_ms,
    expires_ms,
    is_plain,
    normalise,
    stored_parts,
    without_schedule,
)
from hotpath.wire.types import Symbol, Timestamp, ULong, WireError, decode_exact, encode
from tests.unit.wire.wire_messages import FIVE, annotated, published

DUE = 1_800_000_000_000
NOW = 1_760_000_000_000


def scheduled(**more: object) -> bytes:
    pairs = {"x-opt-scheduled-enqueue-time": proton.timestamp(DUE), **more}
    return normalise(annotated(pairs, properties=FIVE))


def test_scheduled_time_is_read_from_the_annotation():
    assert due_ms(scheduled()) == DUE
    assert due_ms(scheduled(mine=1)) == DUE


@pytest.mark.parametrize(
    "stored",
    [
        normalise(published(properties=FIVE)),
        normalise(published(ttl=5)),
        normalise(annotated({"mine": 1})),
        normalise(annotated({"x-opt-scheduled-enqueue-time": "tomorrow"})),
        normalise(annotated({"x-opt-scheduled-enqueue-time": None})),
    ],
    ids=["plain", "ttl only", "other annotation", "text", "null"],
)
def test_message_without_a_scheduled_time_is_due_at_once(stored):
    assert due_ms(stored) is None


def test_schedule_is_taken_away_and_the_rest_stays():
    both = without_schedule(scheduled(mine=1))
    alone = without_schedule(scheduled())

    assert decode_exact(stored_parts(both).annotations or b"") == {Symbol("mine"): 1}
    assert is_plain(alone)
    assert both.endswith(alone)


def test_schedule_of_a_message_with_ttl_is_taken_away_and_the_ttl_stays():
    pairs = {"x-opt-scheduled-enqueue-time": proton.timestamp(DUE)}
    stored = normalise(annotated(pairs, ttl=60.0))

    after = without_schedule(stored)

    assert due_ms(after) is None
    assert stored_parts(after)[:3] == (60_000, None, None)


@pytest.mark.parametrize("raw", [published(), annotated({"mine": 1}), published(ttl=1)])
def test_message_without_a_schedule_stays_the_same(raw):
    stored = normalise(raw)

    assert without_schedule(stored) is stored


def test_ttl_counts_from_the_enqueued_time():
    assert expires_ms(normalise(published(ttl=60.0)), NOW) == NOW + 60_000


def test_ttl_comes_before_absolute_expiry_time():
    stored = normalise(published(ttl=60.0, expiry_time=(NOW + 5000) / 1000))

    assert expires_ms(stored, NOW) == NOW + 60_000


@pytest.mark.parametrize("more", [{}, {"priority": 9}, {"group_sequence": 5, "group_id": "g"}])
def test_absolute_expiry_time_is_read_from_the_properties(more):
    stored = normalise(published(expiry_time=(NOW + 5000) / 1000, subject="s", **more))

    assert expires_ms(stored, NOW) == NOW + 5000


def fields(count: int, *, wide: bool = False, descriptor: bytes = b"\x53\x73") -> bytes:
    """Properties with absolute-expiry-time DUE as their ninth field, cut to `count`."""
    values = [
        ULong(7),
        b"me",
        "x" * 300,
        "s",
        None,
        None,
        Symbol("a/b"),
        None,
        Timestamp(DUE),
        None,
    ]
    body = b"".join(map(encode, values[:count]))
    if wide or len(body) > 254:
        size = (len(body) + 4).to_bytes(4, "big") + count.to_bytes(4, "big")
        return b"\x00" + descriptor + b"\xd0" + size + body
    return b"\x00" + descriptor + bytes((0xC0, len(body) + 1, count)) + body


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        (fields(10), DUE),
        (fields(9), DUE),
        (fields(8), None),
        (fields(9, descriptor=b"\x80" + bytes(7) + b"\x73"), DUE),
        (fields(9, descriptor=b"\xa3\x14amqp:properties:list"), DUE),
        (fields(1, wide=True), None),
        (bytes.fromhex("00537345"), None),
        (bytes.fromhex("005373c01209" + "40" * 8 + "83") + NOW.to_bytes(8, "big"), NOW),
        (bytes.fromhex("005373d00000001500000009" + "40" * 8 + "83") + NOW.to_bytes(8, "big"), NOW),
        (bytes.fromhex("005373c00b09" + "40" * 8 + "5505"), None),
    ],
)  # fmt: skip
def test_expiry_is_found_in_any_encoding_of_the_properties(section, expected):
    assert expires_ms(section + bytes.fromhex("005375a000"), NOW) == expected


def test_message_that_names_no_expiry_never_expires():
    never = published(properties=FIVE, creation_time=5.0)
    zero = bytes.fromhex("005370c0080340407000000000005375a000")

    assert expires_ms(normalise(never), NOW) is None
    assert expires_ms(normalise(zero), NOW) is None
    assert expires_ms(normalise(bytes.fromhex("005375a000")), NOW) is None


@pytest.mark.parametrize("text", ["", "00", "005370", "005370c0ff", "005372c1ff", "005372c103024040",
                                  "005372a000", "005373c003ff4040", "005370c0020150005375a000"])  # fmt: skip
def test_damaged_bytes_have_no_schedule_and_no_expiry(text):
    stored = bytes.fromhex(text)

    assert due_ms(stored) is None
    assert expires_ms(stored, NOW) is None


@pytest.mark.parametrize("text", ["005370", "005370c0ff", "005372c1ff", "005370c0020150005375a000"])
def test_damage_in_front_of_the_bare_message_is_told(text):
    with pytest.raises(WireError):
        stored_parts(bytes.fromhex(text))


def test_ttl_is_in_milliseconds():
    minute = datetime.timedelta(minutes=1)

    stored = normalise(published(ttl=minute.total_seconds()))

    assert stored_parts(stored).ttl_ms == minute // datetime.timedelta(milliseconds=1) == 60_000


@pytest.mark.parametrize(
    "annotations", ["a000", "c1020140", "c10402a0ff41", "c10402404041", "c1020341"]
)
def test_damaged_annotations_are_told_when_the_schedule_is_taken_away(annotations):
    stored = bytes.fromhex("005372" + annotations + "005375a000")

    assert due_ms(stored) is None
    with pytest.raises(WireError):
        without_schedule(stored)


def test_more_annotations_than_the_broker_walks_through_are_refused():
    pairs = b"\x40\x40" * 4097
    size = (len(pairs) + 4).to_bytes(4, "big") + len(pairs).to_bytes(4, "big")

    with pytest.raises(WireError, match="more than 8192"):
        without_schedule(b"\x00\x53\x72\xd1" + size + pairs)
