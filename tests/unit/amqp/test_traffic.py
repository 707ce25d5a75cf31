"""Deliveries by their frames: of a peer that is answered byte by byte."""

import tracemalloc

import pytest

from hotpath.amqp import capi
from hotpath.amqp.conditions import DECODE_ERROR, Condition, Refused
from hotpath.wire.types import Described, Symbol, UInt, ULong, UShort
from tests.support.link_ends import OPENING, PLAIN
from tests.support.receiver import (
    ACCEPTED,
    RELEASED,
    Raw,
    accepted,
    begin,
    flow,
    send,
    token,
    told,
    transfers,
)
from tests.support.wire import AMQP_HEADER, frame, performative, read_performative

# Out


def test_a_message_under_a_lock_goes_out_unsettled_with_its_token(server):
    _, twin = server.open().feed()
    send(twin, 10, 2**64 - 2, serial=2**63)

    [first, second] = transfers(server.sent())

    assert first in ((0, token(10, 2**63), False), (0, token(10, 2**63), None))
    assert second[:2] == (1, token(2**64 - 2, 2**63))
    assert not second[2]
    assert len(twin) == 2


def test_under_a_lock_nothing_is_sent_on_a_link_that_nobody_follows(in_c):
    in_c.open().feed()
    alone = in_c.impl.Outlet(in_c.impl.refer(in_c.links[-1]))

    with pytest.raises(RuntimeError, match="none of a connection"):
        send(alone, 10)


def test_without_a_lock_nothing_is_kept(server):
    _, twin = server.open().feed(settled=True)
    send(twin, 10, serial=0)

    assert transfers(server.sent()) == [(0, token(10, 0), True)]
    server.receive(told(0))
    assert (len(twin), accepted(twin)) == (0, ([], 0))


def test_every_frame_of_a_message_tells_the_same(server):
    _, twin = server.open(max_frame=512).feed()
    twin.send_one(10, 7, b"x" * 2_000)
    send(twin, 11)

    sent = transfers(server.sent())

    assert [each[0] for each in sent] == [0] * (len(sent) - 1) + [1]
    assert len(sent) > 4
    assert {each[1] for each in sent[:-1]} == {token(10)}
    assert not any(each[2] for each in sent)
    assert len(twin) == 2
    server.receive(told(0, 1))
    assert accepted(twin) == ([10, 11], 0)


def test_what_a_closed_window_holds_back_is_told_apart_when_it_goes(server):
    _, twin = server.open(window=1).feed(window=1)
    send(twin, 10, 11)

    assert transfers(server.sent())[0][:2] == (0, token(10))
    server.receive(told(0, 1))
    assert (accepted(twin), len(twin)) == (([10], 0), 1)
    server.receive(flow(100, window=5, seen=1))
    assert transfers(server.sent())[0][:2] == (1, token(11))
    server.receive(told(1))
    assert accepted(twin) == ([11], 0)


def test_a_message_settled_while_it_is_written_is_settled_once(server):
    _, twin = server.open(max_frame=512, window=1).feed(window=1)
    twin.send_one(10, 7, b"x" * 1_200)
    assert len(transfers(server.sent())) == 1

    server.receive(told(0))
    server.receive(flow(100, window=9, seen=1))
    assert len(transfers(server.sent())) == 2
    server.receive(told(0))

    assert (accepted(twin), len(twin)) == (([10], 0), 0)


def test_what_was_left_before_it_was_written_is_neither_settled_nor_known(in_c):
    end, twin = in_c.open(window=1).feed(window=1)
    send(twin, 10, 11)
    in_c.sent()

    twin.clear()
    in_c.engine.close_link(in_c.links[-1], Condition("a:b", "gone"))
    in_c.receive(flow(100, window=5, seen=1))

    [(number, tag, settled)] = transfers(in_c.sent())
    assert (number, settled, tag not in (token(10), token(11))) == (1, False, True)
    in_c.receive(told(0, 1, RELEASED))
    assert (end.outcomes, len(twin)) == ([], 0)


def test_messages_sent_after_a_clearing_are_known_by_their_own_tokens(server):
    _, twin = server.open(window=0).feed(window=0)
    send(twin, 10)
    server.sent()
    twin.clear()
    send(twin, 11)
    server.receive(flow(100, window=5))

    assert transfers(server.sent())[1][:2] == (1, token(11))
    server.receive(told(0, 1))
    assert accepted(twin) == ([11], 0)


def test_spilled_transfers_are_complete(server):
    _, twin = server.open().feed()
    send(twin, 10)
    server.engine._ends.spill()
    send(twin, 11)

    assert [each[:2] for each in transfers(server.sent())] == [(0, token(10)), (1, token(11))]


# In

RANGES = {
    "one": ((3, None), [13]),
    "one as a range": ((3, 3), [13]),
    "several": ((2, 5), [12, 13, 14, 15]),
    "all": ((0, 9), list(range(10, 20))),
    "more than there are": ((8, 5_000), [18, 19]),
    "as large as can be": ((0, 2**31 - 1), list(range(10, 20))),
    "over the wrap": ((2**32 - 3, 2), [10, 11, 12]),
    "as large as can be, over the wrap": ((2**31 + 5, 4), [10, 11, 12, 13, 14]),
    "unknown": ((10, 20), []),
    "far away": ((2**31, None), []),
}


@pytest.mark.parametrize(("ids", "expected"), RANGES.values(), ids=RANGES.keys())
def test_a_disposition_is_about_the_deliveries_of_its_range(server, ids, expected):
    _, twin = server.open().feed()
    send(twin, *range(10, 20))
    server.sent()

    server.receive(told(*ids))

    assert accepted(twin) == (expected, 0)
    assert (len(twin), server.failures) == (10 - len(expected), [])


@pytest.mark.parametrize("ids", [(3, 2), (0, 2**32 - 1), (5, 2**31 + 5)])
def test_a_range_that_is_none_fails(server, ids):
    _, twin = server.open().feed()
    send(twin, *range(10, 20))
    server.sent()

    server.receive(told(*ids))

    assert (accepted(twin), bool(server.failures)) == (([], 0), True)


def test_ranges_find_what_is_left_in_any_order(server):
    _, twin = server.open().feed(credit=900)
    send(twin, *range(900))
    server.sent()
    for at in (0, 899, *range(3, 890, 7)):
        server.receive(told(at))
    sparse = len(accepted(twin)[0])

    server.receive(told(100, 300) + told(0, 899))

    assert (sparse + len(accepted(twin)[0]), len(twin)) == (900, 0)


@pytest.mark.parametrize("settled", [True, False, None], ids=["settled", "waits", "says nothing"])
def test_outcomes_may_be_cut_anywhere(kind, monkeypatch, settled):
    modified = Described(ULong(0x27), [True, True, {Symbol("key"): "value"}])
    error = Described(ULong(0x1D), [Symbol("a:b"), "why", {Symbol("key"): 1}])
    stream = (
        told(0, 1, settled=settled)
        + told(2, None, modified, settled=settled)
        + told(3, 3, Described(ULong(0x25), [error]), settled=settled)
        + told(4, settled=settled)
    )
    for cut in range(1, len(stream)):
        server = Raw(kind, monkeypatch)
        end, twin = server.open().feed()
        send(twin, 10, 11, 12, 13, 14)
        server.sent()

        server.receive(stream[:cut])
        server.receive(stream[cut:])

        assert accepted(twin) == ([10, 11, 14], 0 if settled else 3)
        [(_, first, modification), (_, second, rejected)] = end.outcomes
        assert (first, second) == ((12, 7), (13, 7))
        assert modification.settled is bool(settled)
        assert (modification.undeliverable, modification.annotations) == (True, {"key": "value"})
        assert rejected.error == Condition("a:b", "why", {"key": 1})
        server.engine.free()


def test_an_outcome_that_is_told_twice_counts_once(server):
    end, twin = server.open().feed()
    send(twin, 10, 11)
    server.sent()

    for twice in (told(0, settled=False), told(0), told(1, None, RELEASED), told(0, 1)):
        server.receive(twice)

    assert accepted(twin) == ([10], 1)
    assert [held for _, held, _ in end.outcomes] == [(11, 7)]


NOTHING_YET = {
    "received": Described(ULong(0x23), [UInt(0), ULong(0)]),
    "a transaction": Described(ULong(0x34), [b"id", ACCEPTED]),
    "declared": Described(ULong(0x33), [b"id"]),
    "of the peer's own": Described(ULong(0x1234), []),
    "none": None,
}


@pytest.mark.parametrize("state", NOTHING_YET.values(), ids=NOTHING_YET.keys())
def test_a_state_that_is_no_outcome_changes_nothing_until_it_is_settled(server, state):
    end, twin = server.open().feed()
    send(twin, 10)
    server.sent()

    server.receive(told(0, None, state, settled=False))
    assert (end.outcomes, len(twin)) == ([], 1)
    server.receive(told(0, None, state))

    [(_, held, outcome)] = end.outcomes
    assert (held, outcome.settled, outcome.state != capi.ACCEPTED) == ((10, 7), True, True)
    assert (accepted(twin), len(twin)) == (([], 0), 0)


def test_dispositions_of_publishers_are_none_of_receivers(server):
    _, twin = server.open().feed()
    send(twin, 10)
    server.sent()

    server.receive(told(0, role=False) + told(0, None, None, role=False))

    assert (accepted(twin), len(twin)) == (([], 0), 1)


def head(body: bytes) -> bytes:
    return frame(b"\x00\x53\x15" + body)


BROKEN = {
    "no list": head(b"\xa1\x01x"),
    "no fields": head(b"\x45"),
    "cut off": head(b"\xc0\x20\x05\x41\x43"),
    "a list larger than its frame": head(b"\xd0\x00\x00\x01\x00\x00\x00\x00\x02\x41\x43"),
    "more fields than bytes": head(b"\xc0\x03\x05\x41\x43"),
    "no role": head(b"\xc0\x04\x02\x40\x52\x00"),
    "no first": head(b"\xc0\x03\x02\x41\x40"),
    "first is text": frame(performative(0x15, True, "x")),
    "first is too large": frame(performative(0x15, True, ULong(2**32))),
    "last is negative": frame(performative(0x15, True, UInt(0), -1)),
    "settled is a number": frame(performative(0x15, True, UInt(0), None, UInt(1))),
    "an unknown constructor": head(b"\xc0\x05\x03\x41\x43\x43\xff"),
    "a state that is cut off": head(b"\xc0\x0b\x05\x41\x43\x40\x41\x00\x53\x27\xc0\x7f\x09"),
}


@pytest.mark.parametrize("raw", BROKEN.values(), ids=BROKEN.keys())
def test_a_disposition_that_cannot_be_decoded_ends_the_connection(server, raw):
    _, twin = server.open().feed()
    send(twin, 10)
    server.sent()

    with pytest.raises(Refused) as refused:
        server.receive(told(0) + raw + told(0))

    assert refused.value.condition.name == DECODE_ERROR
    assert server.gate.take(told(0), 10, server.engine) == (b"", 0)


# Bounds


def test_an_open_delivery_takes_less_than_a_hundred_bytes(in_c):
    count = 20_000
    _, twin = in_c.open(window=2**31 - 1).feed(credit=count, window=2**31 - 1)
    payloads = [PLAIN[0]] * count
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()

    at = 0
    while at < count:
        at, _ = twin.send(OPENING, range(count), at, 0, 7, payloads, 30_000)
        in_c.output()
    taken = tracemalloc.get_traced_memory()[0] - before
    assert len(twin) == count
    in_c.receive(told(0, count))
    accepted(twin)
    left = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()

    assert taken < 100 * count
    assert (len(twin), left < 200_000) == (0, True)


def test_a_begin_of_ours_names_the_peers_channel(server):
    server.receive(AMQP_HEADER + frame(performative(0x10, "peer")) + begin(9))

    begun = [read_performative(raw) for raw in server.sent()]

    assert [value.value[0] for value in begun if value and value.descriptor == 0x11] == [UShort(9)]
