"""Dispositions in every encoding there is: both variants of the link ends do what the ids say."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotpath.amqp.conditions import Refused
from tests.property.test_wire_messages import many
from tests.support.link_ends import Holding, complete
from tests.support.receiver import Raw, accepted, send, told
from tests.support.wire import frame

COUNT = 12
TRUE = st.sampled_from([b"\x41", b"\x56\x01"])
FALSE = st.sampled_from([b"\x42", b"\x56\x00"])
ACCEPTED = [b"\x00\x53\x24" + rest for rest in (b"\x45", b"\xc0\x01\x00", b"\xd0\0\0\0\4\0\0\0\0")]
ACCEPTED.append(b"\x00\x80" + bytes(7) + b"\x24\x45")
RELEASED = b"\x00\x53\x26\x45"
MODIFIED = b"\x00\x53\x27\xc0\x03\x02\x41\x41"
OTHERS = [RELEASED, MODIFIED, b"\x40", b"\x00\x53\x23\x45"]
NOT_FINAL = OTHERS[2:]

ids = st.integers(0, COUNT + 3) | st.integers(2**32 - 3, 2**32 - 1) | st.just(2**31)


@st.composite
def uints(draw, value: int) -> bytes:
    forms = [b"\x70" + value.to_bytes(4, "big")]
    if value < 256:
        forms.append(b"\x52" + value.to_bytes(1, "big"))
    if value == 0:
        forms.append(b"\x43")
    return draw(st.sampled_from(forms))


@st.composite
def dispositions(draw):
    """First, last, settled, state; and the frame."""
    first, last = draw(ids), draw(st.none() | ids)
    settled, state = draw(st.booleans()), draw(st.sampled_from(ACCEPTED + OTHERS))
    fields = [draw(TRUE), draw(uints(first))]
    fields.append(b"\x40" if last is None else draw(uints(last)))
    fields += [draw(TRUE if settled else FALSE | st.just(b"\x40")), state]
    fields += draw(st.sampled_from([[], [b"\x40"], [b"\x42"]]))
    content = b"".join(fields)
    short = bytes((0xC0, len(content) + 1, len(fields))) + content
    sizes = (len(content) + 4).to_bytes(4, "big") + len(fields).to_bytes(4, "big")
    body = draw(st.sampled_from([short, b"\xd0" + sizes + content]))
    descriptor = draw(st.sampled_from([b"\x00\x53\x15", b"\x00\x80" + bytes(7) + b"\x15"]))
    ends = first if last is None else last
    return (first, ends, settled, state), frame(descriptor + body)


def opened(kind: str, patch: pytest.MonkeyPatch):
    server = Raw(kind, patch).open()
    end, twin = server.feed()
    send(twin, *range(COUNT))
    server.sent()
    return server, end, twin


def is_in(at: int, first: int, last: int) -> bool:
    return (at - first) % 2**32 <= (last - first) % 2**32


@many
@given(st.sampled_from(["c", "python"]), st.lists(dispositions(), min_size=1, max_size=4))
def test_what_is_told_of_deliveries_is_taken_by_their_ids(kind, told):
    with pytest.MonkeyPatch.context() as patch:
        server, end, twin = opened(kind, patch)
        left = set(range(COUNT))
        done, others, waiting = set(), [], 0
        for (first, last, settled, state), raw in told:
            is_range = (last - first) % 2**32 < 2**31
            about = {at for at in left if is_range and is_in(at, first, last)}
            if state in NOT_FINAL and not settled:
                about = set()
            left -= about
            server.receive(raw)
            if not is_range:
                assert server.failures
                break
            if state in ACCEPTED:
                done |= about
                waiting += 0 if settled else len(about)
            else:
                others += sorted(about)

        assert accepted(twin) == (sorted(done), waiting)
        assert sorted(held[0] for _, held, _ in end.outcomes) == sorted(others)
        assert len(twin) == len(left)
        server.engine.free()


@many
@given(st.sampled_from(["c", "python"]), dispositions(), st.data())
def test_a_damaged_disposition_is_refused_or_understood(kind, told, data):
    with pytest.MonkeyPatch.context() as patch:
        server, _, twin = opened(kind, patch)
        raw = bytearray(told[1])
        at = data.draw(st.integers(8, len(raw) - 1))
        raw[at] ^= 1 << data.draw(st.integers(0, 7))

        try:
            server.receive(bytes(raw))
        except Refused:
            assert len(twin) == COUNT
        else:
            assert len(twin) + len(accepted(twin)[0]) <= COUNT
        server.engine.free()


steps = st.lists(
    st.tuples(st.just("send"), st.integers(1, 400), st.just(0))
    | st.tuples(st.just("settle"), st.integers(0, 2_000), st.integers(0, 2_000))
    | st.tuples(st.just("each"), st.integers(0, 40), st.integers(1, 7)),
    max_size=12,
)


@many
@given(steps)
def test_what_is_open_stays_known_through_bursts_and_gaps(made):
    with pytest.MonkeyPatch.context() as patch:
        server = Raw("c", patch).open(window=2**31 - 1)
        _, twin = server.feed(credit=10_000, window=2**31 - 1)
        left, sent, done = set(), 0, set()
        for kind, first, second in made:
            if kind == "send":
                send(twin, *range(sent, sent + first))
                left |= set(range(sent, sent + first))
                sent += first
                server.output()
                continue
            apart = range(first, first + second + 1)
            about = apart if kind == "settle" else range(first, sent, second)
            raws = [told(at) for at in about] if kind == "each" else [told(first, apart[-1])]
            server.receive(b"".join(raws))
            done |= left & set(about)
            left -= set(about)
        gathered, _, _ = complete(twin, dict.fromkeys(range(sent), Holding(7)))

        assert (sorted(gathered), len(twin)) == (sorted(done), len(left))
        server.receive(told(0, sent))
        assert len(twin) == 0
        server.engine.free()
