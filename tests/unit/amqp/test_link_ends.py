"""The hot loops of link ends, in C and in Python: the same deliveries, tags and outcomes."""

from types import SimpleNamespace

import pytest
from proton import Delivery

from hotpath.amqp import capi, plain_ends
from hotpath.wire.jsonbody import encode_json
from tests.support.wire import Peer

OPENING = b"\x00\x53\x72opening"
PLAIN = [encode_json(b"{}", {"n": n}) for n in range(8)]
NOT_PLAIN = b"\x00\x53\x70\x45" + PLAIN[0]
LOCKED = object()
NAMES = ("Ends", "Handles", "Inlet", "Outlet", "output")


def implementation(kind: str) -> SimpleNamespace:
    """One of the two, with what makes its references of pointers and back."""
    if kind == "python":
        own = {"refer": lambda pointer: pointer, "delivery_of": lambda reference: reference}
        return SimpleNamespace(**{name: getattr(plain_ends, name) for name in NAMES}, **own)
    helper = pytest.importorskip("hotpath.native._native", reason="the C helper is not built")
    table = capi.helper_table()
    assert table is not None
    helper.bind(table)
    own = {"refer": capi.address_of, "delivery_of": capi.delivery_at}
    return SimpleNamespace(**{name: getattr(helper, name) for name in NAMES}, **own)


class Holding:
    """A lock, or what was one."""

    def __init__(self, serial: int, state: object = LOCKED) -> None:
        self.serial = serial
        self.state = state


def complete(twin, unsettled):
    """What the twin takes out of a table: the numbers, deliveries that are late, who waits."""
    done: list[int] = []
    late: list[object] = []
    waiting = twin.complete(unsettled, LOCKED, done, late)
    return done, late, waiting


class End:
    """A link end that only has a name."""


class Server:
    """An engine with one link, driven by hand, and its client."""

    def __init__(self, kind: str, *, max_frame: int = 0) -> None:
        self.impl = implementation(kind)
        self.peer = Peer(max_frame=max_frame).open()
        self.collector = capi.collector_new()
        self.connection = capi.connection_new()
        capi.connection_collect(self.connection, self.collector)
        self.transport = capi.transport_new()
        capi.transport_set_server(self.transport)
        capi.transport_bind(self.transport, self.connection)
        self.ends = self.impl.Ends(self.impl.refer(self.collector))
        self.filled: list[object] = []
        self.left: list[tuple[int, object]] = []
        self.end = End()
        self.links: list[capi.LinkPtr] = []

    def exchange(self, *, careful: bool = False) -> None:
        """Carry bytes both ways until nothing moves."""
        for _ in range(6):
            data = self.peer.output()
            while data:
                taken = capi.transport_push(self.transport, capi.borrow(data), len(data))
                data = data[taken:]
            self.drain(careful=careful)
            out, _ = self.impl.output(self.impl.refer(self.transport))
            self.peer.input(out)

    def drain(self, *, careful: bool = False) -> None:
        """Take in events, and note what is left."""
        while self.ends.drain(self.filled, careful):
            event = capi.collector_peek(self.collector)
            kind = capi.event_type(event)
            if kind == capi.CONNECTION_REMOTE_OPEN:
                capi.connection_open(self.connection)
            elif kind == capi.SESSION_REMOTE_OPEN:
                capi.session_open(capi.event_session(event))
            elif kind == capi.LINK_REMOTE_OPEN:
                self.links.append(capi.event_link(event))
            elif kind == capi.DELIVERY:
                self.left.append((kind, capi.event_delivery(event)))
            elif kind == capi.LINK_FLOW:
                self.left.append((kind, None))
            capi.collector_pop(self.collector)

    def open(self) -> capi.LinkPtr:
        """Open everything that the peer has opened; its last link."""
        self.exchange()
        link = self.links[-1]
        terminus = capi.link_remote_source(link)
        capi.terminus_copy(capi.link_source(link), terminus)
        capi.link_open(link)
        self.exchange()
        return link

    def told(self) -> list[object]:
        """The deliveries whose events were left."""
        return [delivery for kind, delivery in self.left if kind == capi.DELIVERY]

    def close(self) -> None:
        """Give everything back."""
        self.ends.clear()
        capi.transport_unbind(self.transport)
        capi.collector_release(self.collector)
        capi.connection_release(self.connection)
        capi.decref(self.connection)
        capi.decref(self.transport)
        capi.collector_free(self.collector)


@pytest.fixture(params=["c", "python"])
def server(request):
    """A server with nothing attached yet."""
    made = Server(request.param)
    yield made
    made.close()


def outlet(server, *, credit=100, **modes):
    """A receiving client and our end of its link."""
    receiver = server.peer.receiver("feed", credit=credit, **modes)
    link = server.open()
    twin = server.impl.Outlet(server.impl.refer(link))
    twin.watch(credit, False)
    server.ends.add(server.impl.refer(link), server.end, twin)
    server.left.clear()
    return receiver, twin


def inlet(server, *, bytes_max=1_000_000):
    """A publishing client and our end of its link."""
    sender = server.peer.sender("topic")
    link = server.open()
    twin = server.impl.Inlet(server.impl.refer(link), bytes_max)
    server.ends.add(server.impl.refer(link), server.end, twin)
    capi.link_flow(link, 100)
    server.exchange()
    server.left.clear()
    return sender, twin


def test_a_run_goes_out_as_opening_number_and_message(server):
    receiver, twin = outlet(server)

    at, sent = twin.send(OPENING, [11, 12, 14], 0, 10, 7, PLAIN, 1 << 20)
    server.exchange()

    expected = [OPENING + seq.to_bytes(8, "big") + PLAIN[seq - 10] for seq in (11, 12, 14)]
    assert (at, sent, len(twin)) == (3, sum(map(len, expected)), 3)
    assert server.peer.raws(receiver) == expected
    # A tag is the sequence number and the serial of the lock.
    tags = [bytes(delivery.tag, "utf-8") for delivery in server.peer.deliveries(receiver)]
    assert tags == [seq.to_bytes(8, "big") + (7).to_bytes(8, "big") for seq in (11, 12, 14)]


def test_without_a_lock_messages_are_settled_at_once(server):
    receiver, twin = outlet(server)

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
    receiver, twin = outlet(server)

    at, sent = twin.send(OPENING, seqs, 0, 10, 7, payloads, room)
    server.exchange()

    assert at == stopped_at
    assert sent == sum(map(len, server.peer.raws(receiver)))
    assert len(server.peer.raws(receiver)) == stopped_at


def test_a_message_larger_than_any_buffer_is_sent_whole(server):
    receiver, twin = outlet(server)
    large = encode_json(b"x" * 300_000, {})

    twin.send(OPENING, [1], 0, 1, 7, [large], 1 << 20)
    twin.send_one(2, 7, large)
    server.exchange()

    assert server.peer.raws(receiver) == [OPENING + (1).to_bytes(8, "big") + large, large]


def test_what_was_accepted_is_taken_out_and_confirmed_in_order(server):
    receiver, twin = outlet(server, rcv=1)
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
    assert server.told() == []


def test_what_was_accepted_comes_in_runs_and_is_echoed_in_order(server):
    receiver, twin = outlet(server, rcv=1)
    twin.send(OPENING, [10, 11, 12], 0, 10, 7, PLAIN, 1 << 20)
    twin.send(OPENING, [13, 14], 0, 10, 8, PLAIN, 1 << 20)
    server.exchange()
    for delivery in reversed(server.peer.deliveries(receiver)):
        delivery.update(Delivery.ACCEPTED)
    server.exchange()

    runs, echo = twin.take()

    assert server.filled == [server.end]
    assert runs == [(7, [10, 11, 12]), (8, [13, 14])]
    assert (echo.seqs(), len(echo), len(twin)) == ([10, 11, 12, 13, 14], 5, 0)
    assert twin.take() is None

    echo.settle(capi.ACCEPTED)
    server.exchange()
    assert len(echo) == 0
    assert all(delivery.settled for delivery in server.peer.deliveries(receiver))
    assert server.told() == []


def test_a_lost_lock_is_told_apart_for_who_waits(server):
    receiver, twin = outlet(server, rcv=1)
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
    tags = [capi.delivery_tag(server.impl.delivery_of(each)) for each in late]
    assert [int.from_bytes(tag[:8], "big") for tag in tags] == [11, 12]


def test_nothing_is_confirmed_on_a_link_that_was_left(server):
    receiver, twin = outlet(server, rcv=1)
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
    receiver, twin = outlet(server)
    twin.send(OPENING, [10, 11], 0, 10, 7, PLAIN, 1 << 20)
    server.exchange()
    for delivery in server.peer.deliveries(receiver):
        server.peer.settle(delivery)
    server.exchange()
    held = Holding(7)

    assert complete(twin, {10: held, 11: held}) == ([10, 11], [], 0)
    assert server.told() == []


@pytest.mark.parametrize("state", [Delivery.REJECTED, Delivery.RELEASED, Delivery.MODIFIED, None])
def test_other_outcomes_are_left_with_their_delivery(server, state):
    receiver, twin = outlet(server)
    twin.send(OPENING, [10, 11], 0, 10, 7, PLAIN, 1 << 20)
    server.exchange()
    server.peer.settle(server.peer.deliveries(receiver)[1], state)
    server.exchange()

    [delivery] = server.told()
    assert twin.pop(server.impl.refer(delivery)) == (11, 7)
    assert twin.pop(server.impl.refer(delivery)) is None
    assert complete(twin, {10: Holding(7), 11: Holding(7)}) == ([], [], 0)
    assert (len(twin), server.filled) == (1, [])


def test_an_outcome_of_a_forgotten_delivery_is_passed_over(server):
    receiver, twin = outlet(server)
    twin.send(OPENING, [10], 0, 10, 7, PLAIN, 1 << 20)
    server.exchange()
    twin.clear()
    server.peer.settle(server.peer.deliveries(receiver)[0])
    server.exchange()

    assert complete(twin, {10: Holding(7)}) == ([], [], 0)
    assert (server.told(), server.filled) == ([], [])


@pytest.mark.parametrize(
    ("seen", "unsent", "told"),
    [(100, False, 0), (99, False, 1), (100, True, 1)],
    ids=["as before", "another credit", "something unsent"],
)
def test_flow_is_told_when_it_may_matter(server, seen, unsent, told):
    receiver, twin = outlet(server, credit=99)
    twin.watch(seen, unsent)
    receiver.flow(1)
    server.exchange()

    assert [kind for kind, _ in server.left] == [capi.LINK_FLOW] * told


def test_sending_watches_the_credit_that_is_left(server):
    receiver, twin = outlet(server, credit=5)
    twin.send(OPENING, [10, 11], 0, 10, 7, PLAIN, 1 << 20)
    server.exchange()
    receiver.flow(0)
    server.exchange()
    assert server.left == []

    twin.send(OPENING, [12, 13], 0, 10, 7, PLAIN, 1)
    server.exchange()
    receiver.flow(0)
    server.exchange()
    assert [kind for kind, _ in server.left] == [capi.LINK_FLOW]


@pytest.mark.parametrize(
    ("bytes_max", "drains", "allowed"),
    [(1, False, -1), (1 << 20, False, 4), (1 << 20, True, -1)],
    ids=["much waits for the session", "credit", "drain"],
)
def test_the_credit_that_may_be_used_without_a_look(server, bytes_max, drains, allowed):
    receiver, twin = outlet(server, credit=5)
    if drains:
        receiver.drain(0)
        server.exchange()
    twin.send(OPENING, [10], 0, 10, 7, PLAIN, 1 << 20)

    assert twin.allowance(bytes_max) == allowed


def test_drain_is_always_told(server):
    receiver, twin = outlet(server, credit=5)
    assert (twin.credit(), twin.draining()) == (5, False)
    receiver.drain(0)
    server.exchange()
    assert (twin.credit(), twin.draining()) == (5, True)

    assert capi.LINK_FLOW in [kind for kind, _ in server.left]


def test_thousands_of_deliveries_are_told_apart(server):
    receiver, twin = outlet(server, credit=3000)
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
    sender, twin = inlet(server)
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
    sender, twin = inlet(server)
    raws = [PLAIN[0], b"no message", encode_json(b"[{}]", {}), NOT_PLAIN]
    for raw in raws:
        server.peer.send(sender, raw)
    server.exchange(careful=careful)

    payloads, _, odd = twin.take()

    assert {1, 2} <= set(odd)
    assert [payloads[index] for index in odd] == [raws[index] for index in odd]
    assert not careful or odd == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "size", [0, 2_001, 200_000], ids=["empty", "over the limit", "beyond one read"]
)
def test_unusual_sizes_are_left_unread(server, size):
    sender, twin = inlet(server, bytes_max=2_000 if size < 100_000 else 1_000_000)
    server.peer.send(sender, b"x" * size)
    server.exchange()

    assert twin.take() is None
    assert capi.delivery_pending(server.told()[-1]) == size


def test_a_delivery_in_pieces_is_left_until_it_is_added(server):
    sender, twin = inlet(server)
    sender.delivery("tag")
    sender.send(b"first half ")
    server.exchange()
    assert server.told()
    twin.suspended = True
    sender.send(PLAIN[0])
    sender.advance()
    server.exchange()
    twin.add(server.impl.refer(server.told()[-1]), b"whole")
    twin.suspended = False

    payloads, handles, odd = twin.take()

    assert (payloads, len(handles), odd) == ([b"whole"], 1, [0])


def test_events_of_a_link_without_an_end_are_settled(server):
    receiver, twin = outlet(server)
    twin.send(OPENING, [10], 0, 10, 7, PLAIN, 1 << 20)
    server.exchange()
    server.ends.remove(server.impl.refer(server.links[-1]))
    server.ends.remove(server.impl.refer(server.links[-1]))
    server.peer.deliveries(receiver)[0].update(Delivery.ACCEPTED)
    server.exchange()

    assert server.told() == []
    assert server.peer.deliveries(receiver)[0].settled


def test_an_end_without_a_twin_is_told_everything(server):
    sender = server.peer.sender("$cbs")
    link = server.open()
    server.ends.add(server.impl.refer(link), server.end, None)
    capi.link_flow(link, 10)
    server.exchange()
    server.peer.send(sender, b"request")
    server.exchange()

    assert capi.DELIVERY in [kind for kind, _ in server.left]
