"""The hot loops of link ends, in C and in Python: the same deliveries, tags and outcomes."""

import pytest
from proton import Condition, Delivery, symbol

from hotpath.amqp import capi
from hotpath.amqp.conditions import lock_lost
from hotpath.amqp.outcomes import ENCODED, rejection
from hotpath.wire.jsonbody import encode_json
from tests.support.link_ends import OPENING, PLAIN, Holding, Pair, complete

NOT_PLAIN = b"\x00\x53\x70\x45" + PLAIN[0]


@pytest.fixture(params=["c", "python"])
def server(request, monkeypatch):
    """A server with nothing attached yet."""
    made = Pair(request.param, monkeypatch)
    yield made
    made.engine.free()


def test_a_run_goes_out_as_opening_number_and_message(server):
    receiver, twin = server.outlet()

    at, sent = twin.send(OPENING, [11, 12, 14], 0, 10, 7, PLAIN, 1 << 20)
    server.exchange()

    expected = [OPENING + seq.to_bytes(8, "big") + PLAIN[seq - 10] for seq in (11, 12, 14)]
    assert (at, sent, len(twin)) == (3, sum(map(len, expected)), 3)
    assert server.peer.raws(receiver) == expected
    # A tag is the sequence number and the serial of the lock.
    tags = [bytes(delivery.tag, "utf-8") for delivery in server.peer.deliveries(receiver)]
    assert tags == [seq.to_bytes(8, "big") + (7).to_bytes(8, "big") for seq in (11, 12, 14)]


def test_without_a_lock_messages_are_settled_at_once(server):
    receiver, twin = server.outlet()

    twin.send(OPENING, [10], 0, 10, 0, PLAIN, 1 << 20)
    server.exchange()

    assert [delivery.settled for delivery in server.peer.deliveries(receiver)] == [True]
    assert len(twin) == 0


@pytest.mark.parametrize(
    ("seqs", "payloads", "room", "stopped_at"),
    [
        ([10, 11, 12], PLAIN, 1, 1),
        ([10, 11, 12], [PLAIN[0], NOT_PLAIN, PLAIN[0]], 1 << 20, 1),
        ([10, 19, 12], PLAIN, 1 << 20, 1),
        ([10, 9, 12], PLAIN, 1 << 20, 1),
        ([], PLAIN, 1 << 20, 0),
        ([10], (), 1 << 20, 0),
    ],
    ids=["no room", "not plain", "beyond the batch", "before the batch", "nothing", "released"],
)
def test_sending_stops_where_somebody_else_must_look(server, seqs, payloads, room, stopped_at):
    receiver, twin = server.outlet()

    at, sent = twin.send(OPENING, seqs, 0, 10, 7, payloads, room)
    server.exchange()

    assert at == stopped_at
    assert sent == sum(map(len, server.peer.raws(receiver)))
    assert len(server.peer.raws(receiver)) == stopped_at


def test_a_message_larger_than_any_buffer_is_sent_whole(server):
    receiver, twin = server.outlet()
    large = encode_json(b"x" * 300_000, {})

    twin.send(OPENING, [1], 0, 1, 7, [large], 1 << 20)
    twin.send_one(2, 7, large)
    server.exchange()

    assert server.peer.raws(receiver) == [OPENING + (1).to_bytes(8, "big") + large, large]


def test_what_was_accepted_is_taken_out_and_confirmed_in_order(server):
    receiver, twin = server.outlet(rcv=1)
    twin.send(OPENING, [10, 11, 12], 0, 10, 7, PLAIN, 1 << 20)
    twin.send(OPENING, [13, 14], 0, 10, 8, PLAIN, 1 << 20)
    server.exchange()
    for delivery in reversed(server.peer.deliveries(receiver)):
        delivery.update(Delivery.ACCEPTED)
    server.exchange()
    first, second = Holding(7), Holding(8)
    unsettled = {9: first, 10: first, 11: first, 12: first, 13: second, 14: second}

    assert complete(twin, unsettled) == ([10, 11, 12, 13, 14], [], 5)

    assert (server.filled, unsettled, len(twin)) == ([server.end], {9: first}, 0)
    assert complete(twin, unsettled) == ([], [], 0)
    twin.confirm(2)
    server.exchange()
    settled = [delivery.settled for delivery in server.peer.deliveries(receiver)]
    assert settled == [True, True, False, False, False]
    twin.confirm(3)
    twin.confirm(3)
    server.exchange()
    deliveries = server.peer.deliveries(receiver)
    assert all(delivery.settled for delivery in deliveries)
    assert {delivery.remote_state for delivery in deliveries} == {Delivery.ACCEPTED}
    assert server.end.told == []


def test_what_was_accepted_comes_in_runs_and_is_echoed_in_order(server):
    receiver, twin = server.outlet(rcv=1)
    twin.send(OPENING, [10, 11, 12], 0, 10, 7, PLAIN, 1 << 20)
    twin.send(OPENING, [13, 14], 0, 10, 8, PLAIN, 1 << 20)
    server.exchange()
    for delivery in reversed(server.peer.deliveries(receiver)):
        delivery.update(Delivery.ACCEPTED)
    server.exchange()

    runs, echo = twin.take()

    assert server.filled == [server.end]
    assert runs == [(7, [10, 11, 12]), (8, [13, 14])]
    assert (len(echo), len(twin)) == (5, 0)
    assert twin.take() is None

    twin.answer(echo, ENCODED[capi.ACCEPTED])
    server.exchange()
    assert all(delivery.settled for delivery in server.peer.deliveries(receiver))
    assert server.end.told == []


def test_a_lost_lock_is_told_apart_for_who_waits(server):
    receiver, twin = server.outlet(rcv=1)
    twin.send(OPENING, [10, 11, 12, 13], 0, 10, 7, PLAIN, 1 << 20)
    server.exchange()
    deliveries = server.peer.deliveries(receiver)
    for delivery in deliveries[1:]:
        delivery.update(Delivery.ACCEPTED)
    server.peer.settle(deliveries[0])
    server.exchange()
    # Returned and locked anew; returned; completed by its number; still as it was.
    unsettled = {10: Holding(8), 11: Holding(7, object()), 13: Holding(7)}

    done, late, waiting = complete(twin, unsettled)

    assert (done, waiting, list(unsettled)) == ([13], 1, [10, 11])
    twin.answer(late, rejection(lock_lost()))
    twin.confirm(1)
    server.exchange()
    states = [delivery.remote_state for delivery in deliveries[1:]]
    assert states == [Delivery.REJECTED, Delivery.REJECTED, Delivery.ACCEPTED]
    error = deliveries[1].remote.condition
    info = {str(key): value for key, value in error.info.items()}
    assert (error.name, info) == (lock_lost().name, lock_lost().info)


def test_nothing_is_confirmed_on_a_link_that_was_left(server):
    receiver, twin = server.outlet(rcv=1)
    twin.send(OPENING, [10], 0, 10, 7, PLAIN, 1 << 20)
    server.exchange()
    server.peer.deliveries(receiver)[0].update(Delivery.ACCEPTED)
    server.exchange()
    assert complete(twin, {10: Holding(7)}) == ([10], [], 1)

    twin.clear()
    twin.confirm(1)
    server.exchange()

    assert not server.peer.deliveries(receiver)[0].settled


def test_who_settled_alone_waits_for_nothing(server):
    receiver, twin = server.outlet()
    twin.send(OPENING, [10, 11], 0, 10, 7, PLAIN, 1 << 20)
    server.exchange()
    for delivery in server.peer.deliveries(receiver):
        server.peer.settle(delivery)
    server.exchange()
    held = Holding(7)

    assert complete(twin, {10: held, 11: held}) == ([10, 11], [], 0)
    assert server.end.told == []


@pytest.mark.parametrize("state", [Delivery.REJECTED, Delivery.RELEASED, Delivery.MODIFIED, None])
def test_other_outcomes_are_told_with_their_message(server, state):
    receiver, twin = server.outlet()
    twin.send(OPENING, [10, 11], 0, 10, 7, PLAIN, 1 << 20)
    server.exchange()
    server.peer.settle(server.peer.deliveries(receiver)[1], state)
    server.exchange()

    [(_, held, outcome)] = server.end.outcomes
    assert (held, outcome.state, outcome.settled) == ((11, 7), int(state or 0), True)
    assert complete(twin, {10: Holding(7), 11: Holding(7)}) == ([], [], 0)
    assert (len(twin), server.filled) == (1, [])


def test_what_a_receiver_says_with_an_outcome_is_told(server):
    receiver, twin = server.outlet(rcv=1)
    twin.send(OPENING, [10, 11], 0, 10, 7, PLAIN, 1 << 20)
    server.exchange()
    first, second = server.peer.deliveries(receiver)
    first.local.condition = Condition("a:reason", "a description", {symbol("key"): "value"})
    first.update(Delivery.REJECTED)
    second.local.undeliverable = True
    second.local.annotations = {symbol("note"): "kept"}
    second.update(Delivery.MODIFIED)
    server.exchange()

    [(reference, _, rejected), (_, _, modified)] = server.end.outcomes
    error = rejected.error
    assert (error.name, error.description) == ("a:reason", "a description")
    assert (dict(error.info), rejected.settled) == ({"key": "value"}, False)
    assert (modified.undeliverable, dict(modified.annotations)) == (True, {"note": "kept"})

    twin.answer([reference], ENCODED[capi.REJECTED])
    server.exchange()
    assert (first.settled, second.settled) == (True, False)
    assert first.remote.condition is None


def test_an_outcome_of_a_forgotten_delivery_is_passed_over(server):
    receiver, twin = server.outlet()
    twin.send(OPENING, [10], 0, 10, 7, PLAIN, 1 << 20)
    server.exchange()
    twin.clear()
    server.peer.settle(server.peer.deliveries(receiver)[0])
    server.exchange()

    assert complete(twin, {10: Holding(7)}) == ([], [], 0)
    assert (server.end.outcomes, server.filled) == ([], [])


@pytest.mark.parametrize(
    ("seen", "unsent", "told"),
    [(100, False, 0), (99, False, 1), (100, True, 1)],
    ids=["as before", "another credit", "something unsent"],
)
def test_flow_is_told_when_it_may_matter(server, seen, unsent, told):
    receiver, twin = server.outlet(credit=99)
    twin.watch(seen, unsent)
    receiver.flow(1)
    server.exchange()

    assert server.end.flows == told


def test_sending_watches_the_credit_that_is_left(server):
    receiver, twin = server.outlet(credit=5)
    twin.send(OPENING, [10, 11], 0, 10, 7, PLAIN, 1 << 20)
    server.exchange()
    receiver.flow(0)
    server.exchange()
    assert server.end.flows == 0

    twin.send(OPENING, [12, 13], 0, 10, 7, PLAIN, 1)
    server.exchange()
    receiver.flow(0)
    server.exchange()
    assert server.end.flows == 1


@pytest.mark.parametrize(
    ("bytes_max", "drains", "allowed"),
    [(1, False, -1), (1 << 20, False, 4), (1 << 20, True, -1)],
    ids=["much waits for the session", "credit", "drain"],
)
def test_the_credit_that_may_be_used_without_a_look(server, bytes_max, drains, allowed):
    receiver, twin = server.outlet(credit=5)
    if drains:
        receiver.drain(0)
        server.exchange()
    twin.send(OPENING, [10], 0, 10, 7, PLAIN, 1 << 20)

    assert twin.allowance(bytes_max) == allowed


def test_drain_is_always_told(server):
    receiver, twin = server.outlet(credit=5)
    assert (twin.credit(), twin.draining()) == (5, False)
    receiver.drain(0)
    server.exchange()
    assert (twin.credit(), twin.draining()) == (5, True)

    assert server.end.flows


def test_thousands_of_deliveries_are_told_apart(server):
    receiver, twin = server.outlet(credit=3000)
    count = 3000
    twin.send(OPENING, list(range(count)), 0, 0, 7, [PLAIN[0]] * count, 1 << 30)
    server.exchange()
    deliveries = server.peer.deliveries(receiver)
    for delivery in deliveries[::3] + deliveries[1::3] + deliveries[2::3]:
        server.peer.settle(delivery)
    server.exchange()

    done, late, waiting = complete(twin, dict.fromkeys(range(count), Holding(7)))

    assert (sorted(done), late, waiting) == (list(range(count)), [], 0)
    assert len(twin) == 0


def test_deliveries_of_one_frame_are_taken_in(server):
    sender, twin = server.inlet()
    for raw in PLAIN[:3]:
        server.peer.send(sender, raw)
    server.exchange()

    payloads, handles, odd = twin.take()

    assert payloads == PLAIN[:3]
    assert odd in ([], [0, 1, 2])
    assert (len(handles), server.filled, twin.take()) == (3, [server.end], None)

    handles.settle(capi.ACCEPTED)
    server.exchange()
    assert [state for _, state, _ in server.peer.updates] == [Delivery.ACCEPTED] * 3


@pytest.mark.parametrize("careful", [False, True])
def test_what_is_no_usual_message_is_marked_and_kept_as_it_was(server, careful):
    sender, twin = server.inlet()
    raws = [PLAIN[0], b"no message", encode_json(b"[{}]", {}), NOT_PLAIN]
    for raw in raws:
        server.peer.send(sender, raw)
    server.careful = careful
    server.exchange()

    payloads, _, odd = twin.take()

    assert {1, 2} <= set(odd)
    assert [payloads[index] for index in odd] == [raws[index] for index in odd]
    assert not careful or odd == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "size", [0, 2_001, 200_000], ids=["empty", "over the limit", "beyond one read"]
)
def test_unusual_sizes_are_left_unread(server, size):
    sender, twin = server.inlet(bytes_max=2_000 if size < 100_000 else 1_000_000)
    server.peer.send(sender, b"x" * size)
    server.exchange()

    assert twin.take() is None
    assert capi.delivery_pending(server.end.told[-1]) == size


def test_a_delivery_in_pieces_is_left_until_it_is_added(server):
    sender, twin = server.inlet()
    sender.delivery("tag")
    sender.send(b"first half ")
    server.exchange()
    assert server.end.told
    twin.suspended = True
    sender.send(PLAIN[0])
    sender.advance()
    server.exchange()
    twin.add(server.impl.refer(server.end.told[-1]), b"whole")
    twin.suspended = False

    payloads, handles, odd = twin.take()

    assert (payloads, len(handles), odd) == ([b"whole"], 1, [0])


def test_an_outcome_on_a_link_without_an_end_is_passed_over(server):
    receiver, twin = server.outlet()
    twin.send(OPENING, [10], 0, 10, 7, PLAIN, 1 << 20)
    server.exchange()
    server.engine.close_link(server.links[-1], lock_lost())
    server.peer.deliveries(receiver)[0].update(Delivery.ACCEPTED)
    server.exchange()

    assert (server.end.outcomes, server.filled) == ([], [])


def test_an_end_without_a_twin_is_told_everything(server):
    sender = server.peer.sender("$cbs")
    server.open(None)
    capi.link_flow(server.links[-1], 10)
    server.exchange()
    server.peer.send(sender, b"request")
    server.exchange()

    assert server.end.told
