"""A whole service in memory, a good client of it, and hostile connections to it.

The edge is fed directly, as a WebSocket feeds it: sockets are not what is tried here. Bounds are
set low, so that inputs reach them.
"""

import asyncio
import heapq
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from unittest.mock import patch

from cproton_ffi import lib
from proton import Delivery, Message

from hotpath.amqp.connection import Phase
from hotpath.assembly import Core
from hotpath.core.subscription import Subscription
from hotpath.model.names import Topic, TopicKey
from hotpath.ports import TimerHandle
from hotpath.wire.message import normalise
from tests.fuzz import identities, oracle
from tests.support.broker import MATCH_ALL, Broker, running_broker
from tests.support.clock import ManualClock, _run
from tests.support.wire import MemoryPeer, plain

GOOD = "good"
_ENDING = (Phase.CLOSING, Phase.LOST)
OUTPUT_BYTES_MAX = 131_072
#: What a connection may be sent for an input: twice the bound on output, and for what it asks.
ANSWER_BYTES_MAX = 4 * OUTPUT_BYTES_MAX
ANSWER_PER_BYTE = 256
SMALL = {
    "max_message_bytes": 65_536,
    "output_bytes_max": OUTPUT_BYTES_MAX,
    "max_links_per_connection": 40,
    "max_sessions_per_connection": 32,
    "publish_credit": 200,
    "pending_bytes_max": 1_048_576,
    "tail_bytes_max": 1_048_576,
    "ready_max": 400,
    "locks_max": 300,
    "scheduled_max": 200,
    "receivers_per_subscription_max": 50,
    "lock_seconds": 30,
    # All come from one address, and nobody is to be kept out.
    "strikes_max": 0,
}


class LeapingClock(ManualClock):
    """A manual clock whose timers run without the loop in between; those cancelled cost nothing."""

    def leap(self, milliseconds: int) -> None:
        """Move on, and run each timer at its time."""
        target = self.ticks_ms() + milliseconds
        while self._timers and self._timers[0][0] <= target:
            due, _, timer = heapq.heappop(self._timers)
            if timer.callback is not None:
                self._move_to(max(due, self.ticks_ms()))
                _run(timer)
        self._move_to(target)

    def call_at(self, ticks_ms: int, callback: Callable[[], None]) -> TimerHandle:
        timers = self._timers
        if len(timers) > 4_000 and sum(t.callback is None for _, _, t in timers) > 2_000:
            timers[:] = [entry for entry in timers if entry[2].callback is not None]
            heapq.heapify(timers)
        return super().call_at(ticks_ms, callback)


class HostileSink:
    """Where the bytes for a hostile client go: counted, and dropped."""

    def __init__(self, *, stuck: bool) -> None:
        self.sent = 0
        self.closed = False
        self.paused = False
        self._stuck = stuck

    def write(self, chunk: bytes) -> None:
        self.sent += len(chunk)

    def unsent(self) -> int:
        return self.sent if self._stuck else 0

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True


class Hostile:
    """A connection of a client that sends anything.

    Attributes:
        stream: All that it was fed, piece by piece; alone it does the same again.
        inputs: How many mutated sequences that were.
    """

    def __init__(self, world: "World", *, stuck: bool = False) -> None:
        self.sink = HostileSink(stuck=stuck)
        edge = world.broker.edge
        connection = edge.websocket_connection(self.sink, "192.0.2.66")
        assert connection is not None
        self._connection = connection
        self.stream: list[bytes] = []
        self.inputs = 0
        self._bytes = 0

    @property
    def done(self) -> bool:
        """Nothing more can be fed."""
        return self.sink.closed or self.sink.paused

    @property
    def ended(self) -> bool:
        """The service has said, or is about to say, that this is the end."""
        return self.sink.closed or self._connection._phase in _ENDING

    def feed(self, chunk: bytes) -> None:
        """Feed bytes, as one read from a socket; what is closed or not read gets none."""
        if not self.done:
            self.stream.append(chunk)
            self._bytes += len(chunk)
            self._connection.receive(chunk, len(chunk))

    def drop(self) -> None:
        """The socket is gone. Raises Violation when it was open and nobody listened any more."""
        connection = self._connection
        if connection._phase is Phase.RUNNING and not self.sink.paused:
            capacity = lib.pn_transport_capacity(connection.engine._transport)
            if capacity < 0:
                raise oracle.Violation("the connection stands, and takes in nothing any more")
        connection.lost()

    def check(self) -> None:
        """Raises Violation when more was answered than may be."""
        limit = ANSWER_BYTES_MAX + ANSWER_PER_BYTE * self._bytes
        if self.sink.sent > limit:
            text = f"{self.sink.sent} bytes were sent for {self._bytes}"
            raise oracle.Violation(text)


class GoodClient:
    """Publishes and receives over AMQP, as another tenant; it must not notice anything."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self._sent = 0

    async def open(self) -> None:
        """Connect."""
        broker = self._world.broker
        subscription = await broker.subscribe(tenant=GOOD)
        self._address = f"variables/Subscriptions/{subscription.spec.id}"
        self._publisher = await broker.open_publisher(tenant=GOOD)
        self._in = await self._connect(broker.sas(self._address, seconds=10**8))
        self._out = await self._connect(broker.publisher_sas(self._publisher, seconds=10**8))
        self._feed = self._in.receiver(self._address, credit=50)
        self._link = self._out.sender("variables")
        await self._pump()

    async def _connect(self, token: str) -> MemoryPeer:
        peer = MemoryPeer(self._world.broker)
        await peer.login(plain("any", token))
        peer.open()
        await peer.pump(2)
        return peer

    async def _pump(self) -> None:
        for _ in range(2):
            for peer in (self._out, self._in):
                await peer.pump(1)
            await oracle.come_to_rest()
        await self._out.pump(1)

    async def check(self) -> None:
        """A message goes through and is settled. Raises Violation."""
        self._sent += 1
        body = f'{{"value": {self._sent}}}'.encode()
        self._out.send(self._link, Message(body=body, inferred=True))
        await self._pump()
        got = self._in.messages(self._feed)
        if [bytes(message.body) for message in got] != [body]:
            raise oracle.Violation(f"the good client got {len(got)} messages for one: {got!r:.500}")
        outcomes = [state for _, state, _ in self._out.updates]
        if outcomes != [Delivery.ACCEPTED]:
            raise oracle.Violation(f"the good publisher was answered {outcomes}")
        self._out.updates.clear()
        for delivery in self._in.deliveries(self._feed):
            self._in.settle(delivery)
        self._in.received.clear()
        self._feed.flow(1)
        await self._pump()

    def drop(self) -> None:
        """Disconnect."""
        for peer in (self._in, self._out):
            peer.edge_connection.lost()


class World:
    """A running service with feeds and messages.

    Attributes:
        broker: The service.
        good: The good client.
        watch: Hears what nobody caught.
        feeds: The subscriptions that hostile clients have tokens for.
    """

    def __init__(self, broker: Broker, watch: oracle.Watch) -> None:
        self.broker = broker
        self.watch = watch
        self.good = GoodClient(self)
        self.feeds: list[Subscription] = []

    @property
    def clock(self) -> LeapingClock:
        """Its time."""
        assert isinstance(self.broker.clock, LeapingClock)
        return self.broker.clock

    async def open(self) -> None:
        """Make everything that a hostile client has tokens for."""
        self.broker.core.ring.replace([identities.KEY])
        tenant = identities.TENANT
        for number in range(1, identities.FEEDS_MAX + 1):
            topic = _TOPICS.get(number, Topic.VARIABLES)
            with _next_id(identities.feed_id(number)):
                text = _FILTERS.get(number, "") if topic is Topic.VARIABLES else _EXOTIC[topic]
                self.feeds.append(await self.broker.subscribe(text, topic=topic, tenant=tenant))
        for number in range(1, identities.PUBLISHERS_MAX + 1):
            with _next_id(identities.publisher_id(number)):
                await self.broker.open_publisher(tenant=tenant)
        await self.good.open()
        await self.refill()
        await self.good.check()
        self.watch.check()

    async def refill(self) -> None:
        """Publish more for the feeds."""
        publish = self.broker.core.publishing.publish
        for topic in (Topic.VARIABLES, Topic.EVENTS):
            await publish(TopicKey(identities.TENANT, topic), _MESSAGES, via="test")

    def locks(self) -> list[tuple[int, int]]:
        """Sequence number and serial of locks that are held, a few of each feed."""
        found = []
        for feed, count in zip(self.feeds, (6, 1), strict=False):
            held = [(seq, hold.serial) for seq, hold in feed.locks.unsettled.items()]
            found += held[:count] + held[-count:]
        return found

    def attack(self, *, stuck: bool = False) -> Hostile:
        """A new hostile connection."""
        return Hostile(self, stuck=stuck)

    async def rest(self) -> int:
        """Let everything be done. Raises Violation."""
        return await oracle.come_to_rest()

    async def check(self, *, collect: bool = False) -> None:
        """Nothing unexpected has happened, and the good client is well. Raises Violation."""
        await self.good.check()
        self.watch.check(collect=collect)

    async def check_empty(self, attackers: list[Hostile]) -> None:
        """All hostile connections are gone: so is everything of theirs. Raises Violation."""
        for attacker in attackers:
            attacker.drop()
        await self.rest()
        edge = self.broker.edge
        found = {
            "connections": len(edge) - 2,
            "places": edge.admission.total - 2,
            "places without a right": edge.admission.without_right,
            "receivers": sum(feed.receivers for feed in self.feeds),
            "tasks": len(asyncio.all_tasks()) - self._tasks,
        }
        left = {name: number for name, number in found.items() if number}
        if left:
            raise oracle.Violation(f"after all hostile connections are gone, left over: {left}")

    def settle_down(self) -> None:
        """Note what there is without hostile connections."""
        self._tasks = len(asyncio.all_tasks())


@contextmanager
def _next_id(made: str) -> Iterator[None]:
    with (
        patch("hotpath.service.admin.random_uuid", return_value=made),
        patch("hotpath.service.publishers.random_uuid", return_value=made),
    ):
        yield


@asynccontextmanager
async def running_world(directory: Path, watch: oracle.Watch) -> AsyncIterator[World]:
    """Start one; its data directory only holds keys."""
    watch.listen(asyncio.get_running_loop())
    clock = LeapingClock(wall_ms=identities.RECORDED_S * 1000)
    with patch.object(Core, "_lock_table", identities.lock_table):
        async with running_broker(directory, clock=clock, **SMALL) as broker:
            world = World(broker, watch)
            await world.open()
            await world.rest()
            world.settle_down()
            yield world
            world.good.drop()


def _message(body: object, **properties: object) -> bytes:
    message = Message(body=body, inferred=isinstance(body, bytes), properties=properties)
    return normalise(bytes(message.encode()))


_MESSAGES = [
    _message(b'{"value": 7, "objectId": "a", "variable": "temperature"}'),
    _message(b'{"value": 0}', objectId="a", variable="t", quality=3, value=7.5),
    _message("text", eventType="x", event="started"),
    _message({"value": 3, "objectId": "b"}, value=3),
    _message(b"[1, 2]", objectId="c", value=2**40),
    _message(b"x" * 3_000, value=1.5),
]
_TOPICS = {9: Topic.EVENTS, 10: Topic.EVENTS, 11: Topic.ALARMS, 12: Topic.PLATFORM_EVENTS}
_EXOTIC = {
    Topic.EVENTS: "event != null OR event = null",
    Topic.ALARMS: "objectId STARTS_WITH 'a'",
    Topic.PLATFORM_EVENTS: "severity = 'high' OR any.thing > 5",
}
_FILTERS = {
    4: "value > 5 AND objectId IN ['a', 'b', 'x']",
    5: "NOT (value.deep.er STARTS_WITH 'a' OR objectId ENDS_WITH 'z')",
    6: "timestamp >= '2026-01-01' OR quality <= 3 OR `variable` HAS 't'",
    7: MATCH_ALL,
}
