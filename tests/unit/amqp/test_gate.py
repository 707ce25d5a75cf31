"""What must not reach Proton is kept from it, however it is cut; all else passes as it came."""

import random

import pytest

from hotpath.amqp.conditions import NOT_ALLOWED, Refused
from hotpath.amqp.gate import SessionGate
from hotpath.wire.types import Described, UInt, ULong, UShort
from tests.support.link_ends import implementation
from tests.support.wire import AMQP_HEADER, EMPTY_FRAME, frame, performative

OPEN = frame(performative(0x10, "container"))
TRANSFER = frame(performative(0x14, UInt(0), UInt(0), b"tag") + b"\x00\x53\x11\xc0\x02\x01\x60")


def begin(channel: int = 0, remote: object = None) -> bytes:
    return frame(performative(0x11, remote, UInt(0), UInt(9), UInt(9)), channel=channel)


def outcome(first: int, settled: object = None, *, channel: int = 0) -> bytes:
    accepted = Described(ULong(0x24), [])
    return frame(performative(0x15, True, UInt(first), None, settled, accepted), channel=channel)


def end(channel: int = 0) -> bytes:
    return frame(performative(0x17), channel=channel)


def reshaped(raw: bytes, code: int) -> bytes:
    """A frame with an extended header and a descriptor of eight bytes."""
    body = raw[8:].replace(bytes((0x53, code)), b"\x80" + bytes(7) + bytes((code,)), 1)
    return (len(body) + 16).to_bytes(4, "big") + b"\x04" + raw[5:8] + bytes(8) + body


class Listener:
    """Link ends without a link, and what else a gate tells."""

    def __init__(self, kind: str) -> None:
        ends = implementation(kind).Ends
        self._ends = ends(0, 0) if kind == "c" else ends(None, None)
        self.dispositions: list[tuple[int, bytes]] = []
        self.ended: list[int] = []

    def follow(self, chunk, pos, size):
        return self._ends.follow(chunk, pos, size, [])

    def on_disposition(self, channel, frame):
        self.dispositions.append((channel, frame))

    def on_end(self, channel):
        self.ended.append(channel)


@pytest.fixture(params=["c", "python"])
def listener(request):
    return Listener(request.param)


def passed(chunks: list[bytes], listener: Listener) -> bytes:
    gate = SessionGate(frame_bytes_max=65_536)
    out = b""
    for chunk in chunks:
        given, size = gate.take(bytearray(chunk + b"stale"), len(chunk), listener)
        out += given[:size]
    return out


def cuts(stream: bytes) -> list[list[bytes]]:
    """A stream in one piece, byte by byte, and in pieces of random sizes."""
    ways = [[stream], [stream[at : at + 1] for at in range(len(stream))]]
    generator = random.Random(3)
    for _ in range(20):
        places = sorted(generator.randrange(len(stream)) for _ in range(6))
        bounds = zip([0, *places], [*places, len(stream)], strict=True)
        ways.append([stream[start:stop] for start, stop in bounds])
    return ways


FINE = {
    "a session": AMQP_HEADER + OPEN + begin(),
    "heartbeats": AMQP_HEADER + OPEN + EMPTY_FRAME * 3 + begin() + EMPTY_FRAME,
    "two channels": AMQP_HEADER + OPEN + begin() + begin(1) + end(1) + begin(1) + end(),
    "the same bytes in a message": AMQP_HEADER + OPEN + begin() + TRANSFER * 3,
    "no fields": AMQP_HEADER + OPEN + frame(b"\x00\x53\x11\x45") + end(),
    "outcomes": AMQP_HEADER + OPEN + begin() + outcome(3, True) * 2 + outcome(4) + end(),
    "another shape": AMQP_HEADER + OPEN + reshaped(begin(), 0x11) + reshaped(end(), 0x17) + begin(),
}


@pytest.mark.parametrize("stream", FINE.values(), ids=FINE.keys())
def test_what_is_fine_passes_whole_however_it_is_cut(stream, listener):
    for chunks in cuts(stream):
        assert passed(chunks, listener) == stream


BROKEN = {
    "an answer to a session": begin(0, UShort(0)),
    "an answer to none": begin(0, UShort(77)),
    "an answer of another type": begin(0, UInt(0)),
    "in another shape": reshaped(begin(0, UShort(0)), 0x11),
    "twice": begin(5) + TRANSFER + begin(5),
    "twice in another shape": reshaped(begin(5), 0x11) + begin(5),
    "fields that are no list": frame(
        b"\x00\x53\x11\xd1" + bytes((0, 0, 0, 6, 0, 0, 0, 2, 0x60, 0))
    ),
    "fields that are cut off": frame(b"\x00\x53\x11\xd0\x00\x00"),
}


@pytest.mark.parametrize("frames", BROKEN.values(), ids=BROKEN.keys())
def test_a_begin_that_proton_does_not_survive_is_refused_however_it_is_cut(frames, listener):
    for chunks in cuts(AMQP_HEADER + OPEN + frames):
        with pytest.raises(Refused) as refused:
            passed(chunks, listener)
        assert refused.value.condition.name == NOT_ALLOWED


def test_nothing_passes_behind_what_was_refused(listener):
    gate = SessionGate(frame_bytes_max=65_536)
    stream = AMQP_HEADER + OPEN + begin(0, UShort(0))
    with pytest.raises(Refused):
        gate.take(stream, len(stream), listener)

    assert gate.take(end(), len(end()), listener) == (b"", 0)


@pytest.mark.parametrize("size", [0, 7, 65_537, 2**32 - 1])
def test_frames_of_impossible_sizes_are_left_to_proton(size, listener):
    stream = AMQP_HEADER + OPEN + size.to_bytes(4, "big") + begin()[4:] + begin(0, UShort(0))

    assert passed([stream], listener) == stream


def test_an_incomplete_begin_waits_and_nothing_else_does(listener):
    gate = SessionGate(frame_bytes_max=65_536)
    stream = AMQP_HEADER + OPEN + TRANSFER + begin()

    taken, size = gate.take(stream, len(stream) - 1, listener)
    rest, more = gate.take(stream[-1:], 1, listener)

    assert (bytes(taken[:size]), rest[:more]) == (AMQP_HEADER + OPEN + TRANSFER, begin())


def test_the_end_of_a_session_is_told(listener):
    passed([AMQP_HEADER + OPEN + begin(3) + end(3)], listener)

    assert listener.ended == [3]


ODD = {
    "another shape": reshaped(outcome(1, channel=2), 0x15),
    "cut off": frame(outcome(1)[8:-1], channel=2),
}


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD.keys())
def test_an_unusual_disposition_is_told_once_however_it_is_cut(odd, listener):
    stream = AMQP_HEADER + OPEN + begin(2) + odd + EMPTY_FRAME
    for chunks in cuts(stream):
        listener.dispositions.clear()
        assert passed(chunks, listener) == stream
        assert listener.dispositions == [(2, odd)]
