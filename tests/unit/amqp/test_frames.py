"""Frames as bytes: fields filled up, batches noticed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from proton import Message

from hotpath.amqp.conditions import Condition
from hotpath.amqp.frames import (
    BATCH_MARK,
    FIELD_COUNTS,
    BatchMarks,
    FrameRewriter,
    complete_close,
    fill,
)
from hotpath.amqp.workarounds import needs_all_fields
from hotpath.wire.types import Described, Symbol, UInt, ULong, encode
from tests.support.wire import (
    AMQP_HEADER,
    EMPTY_FRAME,
    Peer,
    frame,
    performative,
    read_performative,
    split_frames,
)

FAILURE = Condition("amqp:connection:framing-error", "quoted: \ufffd")
PAYLOAD = b"\x00\x53\x75\xa0\x03abc"


@pytest.mark.parametrize("code", FIELD_COUNTS)
@pytest.mark.parametrize("given_fields", [0, 1])
def test_missing_fields_are_filled_with_nulls(code, given_fields):
    short = frame(performative(code, *["x"] * given_fields), channel=3)

    filled = fill(short)

    value = read_performative(filled)
    assert value.descriptor == code
    assert value.value == ["x"] * given_fields + [None] * (FIELD_COUNTS[code] - given_fields)
    assert int.from_bytes(filled[:4], "big") == len(filled)
    assert filled[4:8] == short[4:8]


def test_the_payload_of_a_transfer_stays():
    short = frame(performative(0x14, UInt(0), UInt(1), b"tag", UInt(0)) + PAYLOAD)

    filled = fill(short)

    assert filled.endswith(PAYLOAD)
    assert len(read_performative(filled).value) == 11


def test_a_large_list_is_filled_too():
    short = frame(performative(0x10, "c" * 300, "host"))

    assert read_performative(fill(short)).value[:2] == ["c" * 300, "host"]
    assert len(read_performative(fill(short)).value) == 10


@pytest.mark.parametrize(
    "other",
    [
        EMPTY_FRAME,
        frame(performative(0x18, None)),
        frame(performative(0x40, "x"), kind=1),
        frame(b"\xff"),
        frame(b"\x00\x80\x00\x00"),
    ],
    ids=["empty", "complete", "sasl", "noise", "long descriptor"],
)
def test_other_frames_stay_as_they_are(other):
    assert fill(other) == other


@given(st.integers(1, 40))
def test_frames_are_filled_however_they_are_cut(step):
    frames = [EMPTY_FRAME, frame(performative(0x18)), frame(performative(0x17))]
    stream = AMQP_HEADER + b"".join(frames)
    rewrite = FrameRewriter(fill, header_first=True)

    out = b"".join(rewrite(stream[at : at + step]) for at in range(0, len(stream), step))

    assert split_frames(out) == [AMQP_HEADER, *map(fill, frames)]


@pytest.mark.parametrize(
    ("properties", "expected"),
    [
        ({"product": "azsdk-python-servicebus", "version": "7.12.3"}, True),
        ({"product": "azsdk-python-servicebus", "version": "7.14.3"}, True),
        ({"product": "azsdk-python-servicebus", "version": "7.15.0"}, False),
        ({"product": "azsdk-python-servicebus", "version": "8.0"}, False),
        ({"product": "azsdk-python-servicebus"}, True),
        ({"product": "azsdk-python-servicebus", "version": 7}, True),
        ({"product": "MSJSClient", "version": "7.9.5"}, False),
        ({"product": 3}, False),
        ({}, False),
    ],
    ids=["7.12", "7.14", "7.15", "8", "unknown", "number", "node", "type", "none"],
)
def test_which_clients_need_all_fields(properties, expected):
    assert needs_all_fields(properties) is expected


def transfer(tag: bytes, message_format: int) -> bytes:
    fields = (UInt(0), UInt(1), tag, UInt(message_format))
    return frame(performative(0x14, *fields) + PAYLOAD)


@given(st.lists(st.binary(min_size=1, max_size=32), min_size=1, max_size=8), st.integers(1, 100))
def test_the_tags_of_batches_are_noticed_however_the_stream_is_cut(tags, step):
    stream = b"".join(transfer(tag, 0x80013700) for tag in tags)
    marks = BatchMarks()

    for at in range(0, len(stream), step):
        chunk = stream[at : at + step]
        marks.see(chunk, len(chunk))

    if step > 50:
        assert set(tags) <= marks.tags


def test_a_batch_over_two_reads_is_noticed():
    stream = transfer(b"t" * 32, 0x80013700)
    for cut in range(1, len(stream)):
        marks = BatchMarks()
        for chunk in (stream[:cut], stream[cut:]):
            marks.see(chunk, len(chunk))
        assert b"t" * 32 in marks.tags, cut


def test_plain_messages_leave_no_mark():
    marks = BatchMarks()
    stream = transfer(b"tag", 0) * 100

    marks.see(stream, len(stream))

    assert marks.tags == set()


def test_marks_are_bounded():
    marks = BatchMarks()
    for number in range(30_000):
        chunk = b"\xa0\x04" + number.to_bytes(4, "big") + BATCH_MARK
        marks.see(chunk, len(chunk))

    assert len(marks.tags) <= 10_100


def test_a_real_peers_frames_are_understood_after_filling():
    """What Proton sends, filled, is taken by Proton."""
    one, other = Peer(), Peer()
    one.open()
    link = one.sender("here")
    rewrite = FrameRewriter(fill, header_first=True)

    other.input(rewrite(one.output()))
    other.connection.open()
    one.input(other.output())
    one.send(link, Message(body="x"))
    other.input(rewrite(one.output()))

    assert other.transport.condition is None
    assert other.connection.remote_container == "tester"


def test_a_close_of_protons_own_gets_an_info_map():
    error = Described(ULong(0x1D), [Symbol("amqp:resource-limit-exceeded"), "too silent"])

    completed = complete_close(frame(performative(0x18, error)), condition=FAILURE)

    [told] = read_performative(completed).value
    assert told.value[:2] == ["amqp:resource-limit-exceeded", "too silent"]
    assert isinstance(told.value[2], dict)
    assert int.from_bytes(completed[:4], "big") == len(completed)


@pytest.mark.parametrize(
    "other",
    [EMPTY_FRAME, frame(performative(0x18)), frame(performative(0x18, None)), frame(b"\x00\x53")],
    ids=["empty", "no error", "null error", "cut"],
)
def test_a_close_without_an_error_stays(other):
    assert complete_close(other, condition=FAILURE) == other


def test_a_close_of_protons_own_that_quotes_bytes_says_the_same_as_text():
    error = encode(Described(ULong(0x1D), [Symbol("amqp:x"), "no link ??"]))
    close = b"\x00\x53\x18\xc0" + bytes((len(error) + 1, 1)) + error.replace(b"??", b"\xff\xfe")

    completed = complete_close(frame(close), condition=FAILURE)

    [told] = read_performative(completed).value
    assert told.value == [FAILURE.name, FAILURE.description, {"condition": FAILURE.name}]
