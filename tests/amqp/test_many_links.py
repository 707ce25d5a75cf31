"""Many links of one connection, each of a subscription of its own: messages, outcomes, borders.

Everything holds in C and in Python, one link after the other.
"""

import asyncio

import pytest
from proton import Delivery, Link, Message

from hotpath.amqp.conditions import RESOURCE_DELETED
from hotpath.amqp.egress import Egress
from hotpath.model.names import TenantId, Topic, TopicKey
from hotpath.service.clock import SystemClock
from hotpath.wire.jsonbody import encode_json
from hotpath.wire.message import normalise
from tests.support.broker import running_broker
from tests.support.twins import needs_helper, run_in_python
from tests.support.wire import SASL_HEADER, MemoryPeer, Peer, plain

SECOND = {"rcv": Link.RCV_SECOND}
KEY = TopicKey(TenantId("acme"), Topic.VARIABLES)


@pytest.fixture(params=[pytest.param("c", marks=needs_helper), "python"], autouse=True)
def way(request, monkeypatch):
    """Both ways in turn."""
    if request.param == "python":
        run_in_python(monkeypatch)
    return request.param


class Field:
    """Subscriptions to one value each, and a connection with a link to each."""

    def __init__(self, broker, peer) -> None:
        self.broker, self.peer = broker, peer
        self.subscriptions = []
        self.links = []

    async def add(self, count: int, *, peer=None, **options) -> None:
        """More of them."""
        for number in range(len(self.links), len(self.links) + count):
            self.subscriptions.append(await self.broker.subscribe(f"value = {number}"))
            self.attach(number, peer=peer, **options)
        await (peer or self.peer).pump()

    def attach(self, number: int, *, peer=None, name: str | None = None, **options):
        address = f"variables/Subscriptions/{self.subscriptions[number].spec.id}"
        options = {"credit": 10, **SECOND, **options}
        link = (peer or self.peer).receiver(address, name=name or f"link-{number}", **options)
        self.links.append(link)
        return link

    def values(self, number: int) -> list[int]:
        return [message.properties["value"] for message in self.peer.messages(self.links[number])]

    def counts(self) -> list[int]:
        return [len(self.peer.raws(link)) for link in self.links]

    async def publish(self, *values: int) -> None:
        await self.broker.publish(*values)
        await self.peer.pump()

    async def warm(self) -> None:
        """Let the first message of each be done with: from then on all is as usual."""
        await self.publish(*range(len(self.links)))
        await self.accept()
        for link in self.links:
            self.peer.received[link.name].clear()

    async def accept(self) -> None:
        """Accept everything that is open."""
        for link in self.links:
            for delivery in self.peer.deliveries(link):
                if not delivery.settled and not delivery.local_state:
                    delivery.update(Delivery.ACCEPTED)
        await self.peer.pump()


@pytest.fixture
async def field(broker):
    return await field_of(broker)


async def field_of(broker, *, address: str = "192.0.2.1", minutes: float = 60.0) -> Field:
    peer = MemoryPeer(broker, address=address)
    await peer.login(plain("any", broker.jwt(minutes=minutes)))
    peer.open()
    await peer.pump()
    return Field(broker, peer)


async def test_each_gets_its_own_in_one_write_and_hears_that_it_is_settled(field):
    await field.add(40)
    await field.warm()
    writes = field.peer.sink.writes

    await field.publish(*range(40), 3)

    assert field.peer.sink.writes == writes + 1
    assert field.counts() == [1, 1, 1, 2] + [1] * 36
    assert [field.values(number)[0] for number in range(40)] == list(range(40))
    field.peer.updates.clear()
    await field.accept()
    told = [(state, settled) for _, state, settled in field.peer.updates]
    assert told == [(Delivery.ACCEPTED, True)] * 41
    assert [each.backlog(0) for each in field.subscriptions] == [0] * 40
    assert [each.settled_total for each in field.subscriptions] == [2, 2, 2, 3] + [2] * 36


async def test_what_is_settled_is_told_to_the_log_with_the_next_commit(field):
    await field.add(3)
    await field.warm()
    await field.publish(0, 1, 2, 0)
    work = []
    commit = field.broker.log.commit
    field.broker.log.commit = lambda each: work.append(each) or commit(each)

    await field.accept()

    [told] = work
    told_of = dict(told.progress)
    first = told_of[field.subscriptions[0].spec.id]
    assert (first.cursor, first.settled, first.settled_total, first.delivered_total) == (
        8,
        (),
        3,
        3,
    )
    assert len(told_of) == 3


async def test_metrics_count_what_goes_this_way(field):
    await field.add(5)
    metrics = field.broker.core.metrics

    await field.warm()
    await field.publish(*range(5))
    await field.accept()

    assert metrics.deliveries.labels("variables")._value.get() == 10
    assert metrics.settlements.labels("completed")._value.get() == 10


async def test_without_credit_a_message_waits_and_is_not_locked(field):
    await field.add(3, credit=1)
    await field.warm()
    field.links[0].flow(1)
    field.links[2].flow(1)
    await field.peer.pump()

    await field.publish(0, 1, 2)

    assert field.counts() == [1, 0, 1]
    waiting = field.subscriptions[1]
    assert (waiting.ready_count, waiting.locks.locked) == (1, 0)
    field.links[1].flow(1)
    await field.peer.pump()
    assert field.counts() == [1, 1, 1]


async def test_more_messages_than_credit_come_with_more_credit(field):
    await field.add(2, credit=3)
    await field.warm()
    await field.publish(0, 0, 0, 1)
    assert field.counts() == [2, 1]

    field.links[0].flow(5)
    await field.peer.pump()

    assert field.counts() == [3, 1]


async def test_a_closed_session_window_holds_messages_back_until_it_opens(broker):
    peer = MemoryPeer(broker, max_frame=512)
    await peer.login(plain("any", broker.jwt()))
    peer.open()
    session = peer.connection.session()
    session.incoming_capacity = 2048
    session.open()
    field = Field(broker, peer)
    await field.add(30, session=session)
    await field.warm()

    await field.publish(*range(30), *range(30))

    assert field.counts() == [2] * 30


async def test_a_link_that_leaves_in_the_same_turn_gives_its_message_back(field):
    await field.add(3)
    await field.warm()
    await field.broker.publish(0, 1, 2)
    field.links[1].close()
    await field.peer.pump()

    assert field.counts()[0] == field.counts()[2] == 1
    left = field.subscriptions[1]
    assert left.locks.locked == 0
    assert left.has_ready()
    again = field.attach(1, name="again")
    await field.peer.pump()
    assert len(field.peer.raws(again)) == 1


async def test_a_subscription_that_is_deleted_before_sending_gets_nothing_more(field):
    await field.add(3)
    await field.warm()
    deleted, link = field.subscriptions[1], field.links[1]
    await field.broker.publish(0, 1, 2)
    await field.broker.delete(deleted)
    await field.peer.pump()

    assert field.peer.detached[link.name].name == RESOURCE_DELETED
    assert field.counts()[0] == field.counts()[2] == 1
    await field.publish(0, 1, 2)
    assert field.counts()[0] == field.counts()[2] == 2
    assert field.counts()[1] <= 1


async def test_at_the_limit_of_locks_the_next_comes_when_one_is_settled(tmp_path):
    async with running_broker(tmp_path, locks_max=2) as broker:
        field = await field_of(broker)
        await field.add(2)
        await field.warm()
        await field.publish(0, 0, 0, 1)
        assert field.counts() == [2, 1]

        field.peer.deliveries(field.links[0])[0].update(Delivery.ACCEPTED)
        await field.peer.pump()

        assert field.counts() == [3, 1]


async def test_two_receivers_share_what_one_subscription_has(field):
    await field.add(3)
    await field.warm()
    second = field.attach(1, name="second", credit=10)
    await field.peer.pump()

    for _ in range(6):
        await field.publish(0, 1, 2)

    first = len(field.peer.raws(field.links[1]))
    assert first + len(field.peer.raws(second)) == 6
    assert 0 < first < 6
    assert field.counts()[0] == field.counts()[2] == 6
    second.close()
    await field.peer.pump()
    await field.publish(1)
    assert len(field.peer.raws(field.links[1])) >= first + 1


async def test_of_many_competing_receivers_each_has_its_turn_again_and_again(field):
    """A few of them are woken at a time; who has come is woken again later."""
    await field.add(1)
    for number in range(29):
        field.attach(0, name=f"other-{number}", credit=20)
    await field.peer.pump()

    for _ in range(120):
        await field.publish(0)
        await field.broker.manual.advance(5)
        await field.accept()

    assert sum(field.counts()) == 120
    assert min(field.counts()) >= 2
    [receivers] = field.broker.core.delivering._receivers.values()
    assert not any(each.asked for each in receivers)


async def test_what_has_expired_is_not_delivered(field):
    await field.add(2, credit=1)
    await field.warm()
    ttl = b"\x00\x53\x70\xc0\x08\x03\x40\x40\x70\x00\x00\x01\xf4"
    mortal = normalise(ttl + encode_json(b"{}", {"value": 0}))
    lasting = normalise(encode_json(b"{}", {"value": 0}))
    await field.broker.core.publishing.publish(KEY, [mortal, lasting], via="test")
    await field.broker.manual.advance(1_000)

    field.links[0].flow(5)
    await field.peer.pump()

    [message] = field.peer.messages(field.links[0])
    assert message.annotations["x-opt-sequence-number"] == 4


async def test_a_message_with_a_header_of_its_own_goes_in_its_place(field):
    await field.add(2)
    await field.warm()
    urgent = b"\x00\x53\x70\xc0\x04\x02\x40\x50\x07"
    bodies = [encode_json(b"{}", {"value": 0, "n": n}) for n in range(4)]
    payloads = [normalise(urgent * (n == 1) + body) for n, body in enumerate(bodies)]
    await field.broker.core.publishing.publish(KEY, payloads, via="test")
    await field.peer.pump()

    messages = field.peer.messages(field.links[0])
    assert [message.properties["n"] for message in messages] == [0, 1, 2, 3]
    assert [message.priority for message in messages] == [4, 7, 4, 4]


@pytest.mark.parametrize("rcv", [Link.RCV_FIRST, Link.RCV_SECOND])
async def test_a_lock_that_has_ended_is_told_apart_among_many(field, rcv):
    await field.add(4, rcv=rcv)
    await field.warm()
    await field.publish(0, 1)
    early = [field.peer.deliveries(link)[0] for link in field.links[:2]]
    await field.broker.manual.advance(61_000)
    await field.publish(2, 3)
    settled = [each.settled_total for each in field.subscriptions]

    fresh = [field.peer.deliveries(link)[0] for link in field.links[2:]]
    for delivery in (*early, *fresh):
        delivery.update(Delivery.ACCEPTED)
        if rcv == Link.RCV_FIRST:
            delivery.settle()
    await field.peer.pump()

    assert [each.settled_total for each in field.subscriptions] == [
        before + more for before, more in zip(settled, [0, 0, 1, 1], strict=True)
    ]
    if rcv == Link.RCV_SECOND:
        assert [each.remote_state for each in early] == [Delivery.REJECTED] * 2
        assert [each.remote_state for each in fresh] == [Delivery.ACCEPTED] * 2


async def test_outcomes_of_all_kinds_in_one_read_go_to_their_own(field):
    await field.add(5)
    await field.warm()
    await field.publish(*range(5))
    outcomes = [
        Delivery.ACCEPTED,
        Delivery.RELEASED,
        Delivery.MODIFIED,
        Delivery.REJECTED,
        Delivery.ACCEPTED,
    ]

    for link, outcome in zip(field.links, outcomes, strict=True):
        field.peer.deliveries(link)[0].update(outcome)
    await field.peer.pump()

    assert [each.settled_total for each in field.subscriptions] == [2, 1, 1, 2, 2]
    assert field.counts() == [1, 2, 2, 1, 1]
    assert field.subscriptions[2].locks.counts == {8: 1}
    await field.accept()
    assert [each.settled_total for each in field.subscriptions] == [2] * 5
    assert field.subscriptions[2].locks.counts == {}


async def test_who_reads_nothing_gets_a_bound_and_the_others_go_on(tmp_path):
    async with running_broker(tmp_path, output_bytes_max=16_384) as broker:
        stuck = await field_of(broker)
        reading = await field_of(broker, address="192.0.2.2")
        await stuck.add(20, credit=500)
        for number in range(20):
            reading.subscriptions.append(stuck.subscriptions[number])
            reading.attach(number, credit=500)
        await reading.peer.pump()
        await stuck.warm()
        stuck.peer.sink.stuck = True

        for _ in range(40):
            await broker.publish(*range(20))
            await reading.peer.pump()
            await reading.accept()

        assert len(stuck.peer.sink.data) < 3 * 16_384
        got = sum(reading.counts())
        assert got > 300
        stuck.peer.sink.stuck = False
        for _ in range(40):
            await stuck.peer.pump()
            stuck.peer.edge_connection.writable()
            await reading.peer.pump()
        assert sum(stuck.counts()) + sum(reading.counts()) >= 800


async def test_a_link_whose_right_has_ended_gets_nothing_more(broker):
    """Also when the end comes by a change of the wall clock, for which no timer waits."""
    field = await field_of(broker, minutes=2.0)
    await field.add(2)
    await field.warm()
    broker.manual.jump_wall(121_000)

    await field.publish(0, 1)

    assert field.counts() == [0, 0]
    assert sorted(field.peer.detached) == ["link-0", "link-1"]
    assert [each.locks.locked for each in field.subscriptions] == [0, 0]


@needs_helper
async def test_usual_messages_are_not_asked_for_one_by_one(field, way, monkeypatch):
    await field.add(10)
    await field.warm()
    asked = []
    monkeypatch.setattr(Egress, "pump", lambda end, room: asked.append(end) or 0)
    monkeypatch.setattr(Egress, "submit", asked.append)

    await field.publish(*range(10))
    await field.accept()

    assert bool(asked) == (way == "python")
    assert field.counts() == [int(way == "c")] * 10


@needs_helper
async def test_what_credit_allows_of_a_batch_is_not_asked_for_either(field, way, monkeypatch):
    await field.add(2, credit=5)
    await field.warm()
    asked, pump = [], Egress.pump
    monkeypatch.setattr(Egress, "pump", lambda end, room: asked.append(end) or pump(end, room))

    await field.publish(0, 0, 0, 0, 0, 0, 1)
    counts = [field.counts()]
    for credit in (1, 5):
        field.links[0].flow(credit)
        await field.peer.pump()
        counts.append(field.counts())

    assert counts == [[4, 1], [5, 1], [6, 1]]
    assert bool(asked) == (way == "python")


class SocketPeer(Peer):
    """A peer at the other end of a real connection."""

    async def connect(self, port: int, token: str) -> None:
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", port)
        self.writer.write(SASL_HEADER + plain("any", token))
        preface = b""
        while not preface.endswith(b"\x00\x53\x44\xc0\x03\x01\x50\x00"):
            preface += await asyncio.wait_for(self.reader.read(4096), 10)
        self.open()

    async def until(self, check) -> None:
        """Talk until something is true."""
        async with asyncio.timeout(20):
            while True:
                self.writer.write(self.output())
                if check():
                    return
                self.input(await self.reader.read(65_536))

    async def take_turn(self, links, turn: int) -> None:
        """Wait for one message more on each link, accept it, and wait for the answer."""
        await self.until(lambda: all(len(self.raws(link)) == turn for link in links))
        for link in links:
            self.deliveries(link)[-1].update(Delivery.ACCEPTED)
        await self.until(lambda: all(self.deliveries(link)[-1].settled for link in links))


async def test_over_sockets_each_of_many_links_gets_all_of_its_own(tmp_path):
    async with running_broker(tmp_path, clock=SystemClock()) as broker:
        port = await broker.listen()
        subscriptions = [await broker.subscribe(f"value = {n}") for n in range(60)]
        peers = {SocketPeer(): [], SocketPeer(): []}
        for number, (peer, links) in enumerate(peers.items()):
            await peer.connect(port, broker.jwt())
            for each in subscriptions[number::2]:
                address = f"variables/Subscriptions/{each.spec.id}"
                links.append(peer.receiver(address, credit=5, name=each.spec.id, **SECOND))
            await peer.until(lambda last=links[-1]: last.remote_source.address)

        for turn in range(1, 6):
            await broker.publish(*range(60))
            for peer, links in peers.items():
                await peer.take_turn(links, turn)

        assert [each.settled_total for each in subscriptions] == [5] * 60
        for peer in peers:
            peer.writer.close()


async def test_a_connection_earns_by_what_it_publishes_and_by_what_it_settles(field):
    await field.add(3)
    await field.warm()
    before = field.peer.edge_connection.earned
    sender = field.peer.sender("variables", name="publishes")
    await field.peer.pump()

    for number in range(3):
        field.peer.send(sender, Message(properties={"value": number}, id=str(number)))
    await field.peer.pump()
    assert field.peer.edge_connection.earned == before + 3

    # Settled and published in one read: either counts.
    for link in field.links:
        for delivery in field.peer.deliveries(link):
            if not delivery.settled and not delivery.local_state:
                delivery.update(Delivery.ACCEPTED)
    field.peer.send(sender, Message(properties={"value": 9}, id="9"))
    await field.peer.pump()
    assert field.peer.edge_connection.earned == before + 3 + 3 + 1
