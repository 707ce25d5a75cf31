"""Deliveries of several sessions and links, and what a peer is answered about them."""

import pytest

from hotpath.amqp import capi
from hotpath.amqp.conditions import Condition
from hotpath.amqp.outcomes import ENCODED, rejection
from hotpath.wire.types import encode
from tests.support.receiver import (
    END,
    RELEASED,
    accepted,
    begin,
    detach,
    send,
    told,
)
from tests.support.wire import read_performative

# Sessions and links


def test_each_session_has_delivery_ids_of_its_own(server):
    server.open(channel=5)
    server.receive(begin(3))
    server.sent()
    (_, one), (_, other) = server.feed(channel=5), server.feed(channel=3)
    send(one, 10, 11)
    send(other, 20)
    server.sent()

    server.receive(told(0, channel=3))
    assert (accepted(one), accepted(other)) == (([], 0), ([20], 0))
    server.receive(told(0, 1, channel=5, settled=False))
    assert accepted(one) == ([10, 11], 2)
    one.confirm(2)
    [(channel, first, last, _)] = server.told()
    assert (channel, first, last) == (0, 0, 1)


def test_links_of_one_session_share_its_delivery_ids(server):
    server.open()
    ends = [server.feed(handle=handle) for handle in range(3)]
    for turn in range(4):
        for at, (_, twin) in enumerate(ends):
            send(twin, 100 * at + turn)
        server.sent()

    server.receive(told(2, 9))

    expected = [[1, 2, 3], [101, 102], [200, 201, 202]]
    assert [accepted(twin)[0] for _, twin in ends] == expected
    assert sorted(map(id, server.filled)) == sorted(id(end) for end, _ in ends)


def test_outcomes_for_a_session_that_was_ended_are_none_of_the_next_one(in_c):
    end, twin = in_c.open().feed()
    send(twin, 10)
    in_c.sent()

    in_c.receive(END + begin() + told(0))

    assert (accepted(twin), end.is_lost, in_c.failures) == (([], 0), True, [])


def test_outcomes_before_the_end_of_a_session_count(server):
    end, twin = server.open().feed()
    send(twin, 10)
    server.sent()

    server.receive(told(0) + END)

    assert (accepted(twin), end.is_lost) == (([10], 0), True)


def test_a_session_begun_again_on_its_channel_has_its_own_deliveries(server):
    _, before = server.open().feed()
    send(before, 10)
    server.sent()
    server.receive(END)
    before.clear()
    server.receive(begin())
    server.sent()
    _, after = server.feed()
    send(after, 20, 21)
    server.sent()

    server.receive(told(0, settled=False))

    assert (accepted(before), accepted(after)) == (([], 0), ([20], 1))
    after.confirm(1)
    [(_, first, last, _)] = server.told()
    assert (first, last, len(after)) == (0, 0, 1)


def test_a_link_attached_again_on_its_handle_has_its_own_deliveries(server):
    _, before = server.open().feed()
    send(before, 10)
    server.sent()
    server.receive(told(0, settled=False) + detach())
    assert accepted(before) == ([10], 1)
    before.clear()
    server.engine.finish(server.links[-1], closed=True)
    _, after = server.feed()
    send(after, 20)
    server.sent()

    server.receive(told(0, 1))
    before.confirm(1)

    assert (accepted(after), server.told()) == (([20], 0), [])


# Answers


def test_answers_are_ranges_with_each_delivery_once(in_c):
    _, twin = in_c.open().feed()
    send(twin, *range(10, 20))
    in_c.sent()

    twin.answer([0, 1, 2], ENCODED[capi.ACCEPTED])
    twin.answer([3], ENCODED[capi.ACCEPTED])
    twin.answer([5, 6], ENCODED[capi.ACCEPTED])
    twin.answer([7, 8], ENCODED[capi.MODIFIED])
    twin.answer([9], rejection(Condition("a:b", "why")))

    assert in_c.told() == [
        (0, 0, 3, 0x24), (0, 5, 6, 0x24), (0, 7, 8, 0x27), (0, 9, 9, 0x25),
    ]  # fmt: skip
    assert in_c.told() == []


def test_what_is_told_in_any_order_is_answered_with_a_range(server):
    _, twin = server.open().feed()
    send(twin, *range(10, 16))
    server.sent()
    server.receive(b"".join(told(at, settled=False) for at in (4, 2, 0, 3, 1)))

    assert accepted(twin) == ([10, 11, 12, 13, 14], 5)
    twin.confirm(5)

    assert server.told() == [(0, 0, 4, 0x24)]


def test_answers_stand_before_what_proton_says(in_c):
    _, twin = in_c.open().feed()
    send(twin, 10)
    in_c.sent()
    twin.answer([0], ENCODED[capi.ACCEPTED])
    send(twin, 11)
    in_c.engine.close(None)

    codes = [read_performative(raw).descriptor for raw in in_c.sent()]

    assert codes[0] == 0x15
    assert codes[-1] == 0x18


def test_nothing_is_answered_behind_a_close(server):
    _, twin = server.open().feed()
    send(twin, 10)
    server.sent()
    server.receive(told(0, settled=False))
    accepted(twin)
    server.engine.close(Condition("a:b", "enough"))
    server.sent()

    twin.confirm(1)

    assert server.sent() == []


def test_an_answer_fits_the_smallest_frame(server):
    _, twin = server.open(max_frame=512).feed()
    send(twin, 10)
    server.sent()
    server.receive(told(0, None, RELEASED, settled=False))
    [end] = server.engine.links.values()
    [(reference, _, _)] = end.outcomes

    twin.answer([reference], rejection(Condition("a:b", "é" * 5_000, {"key": "v" * 100})))

    [raw] = server.sent()
    error = read_performative(raw).value[4].value[0].value
    assert len(raw) <= 512
    assert (error[0], error[1][:3], error[2]) == ("a:b", "ééé", {"key": "v" * 100})


def test_an_outcome_that_fits_no_frame_is_refused(in_c):
    _, twin = in_c.open().feed()
    send(twin, 10)
    in_c.sent()

    with pytest.raises(ValueError, match="512"):
        twin.answer([0], encode("x" * 600))
    assert in_c.told() == []
