"""Many links at once, in C and one after the other in Python: the same to clients and inside.

A history is a seed: what happens next is drawn from it, so that a failure is run again by naming
it. Each runs twice, and after every step what the clients have been sent and told, and what the
service knows of its subscriptions, must be the same.
"""

import random

import pytest
from proton import Delivery

from hotpath.core.locks import State
from hotpath.model.names import TenantId, Topic, TopicKey
from hotpath.wire.jsonbody import encode_json
from hotpath.wire.message import normalise
from tests.support.broker import running_broker
from tests.support.twins import needs_helper, run_in_python
from tests.support.wire import MemoryPeer, plain

pytestmark = needs_helper

SEEDS = range(16)
STEPS = 40
FILTERS = ("value >= 0", "value >= 0", "value > 2", "value < 2", "value = 4")
KEY = TopicKey(TenantId("acme"), Topic.VARIABLES)
#: A header with a time to live of 700 ms, and one with a priority alone.
HEADERS = (
    b"",
    b"",
    b"",
    b"\x00\x53\x70\xc0\x08\x03\x40\x40\x70\x00\x00\x02\xbc",
    b"\x00\x53\x70\xc0\x04\x02\x40\x50\x07",
)
OUTCOMES = (
    Delivery.ACCEPTED,
    Delivery.ACCEPTED,
    Delivery.RELEASED,
    Delivery.MODIFIED,
    Delivery.REJECTED,
)


class World:
    """One run of a history."""

    def __init__(self, seed: int, broker) -> None:
        self.random = random.Random(seed)
        self.broker = broker
        self.links: dict[str, tuple[MemoryPeer, object, int]] = {}
        self.trace: list[object] = []
        self.names = 0

    async def begin(self) -> None:
        self.subscriptions = [await self.broker.subscribe(text) for text in FILTERS]
        self.peers = [await self.connect() for _ in range(2)]
        if self.random.random() < 0.3:
            # So many that a few are woken at a time.
            for _ in range(20):
                await self.attach(0)

    async def connect(self) -> MemoryPeer:
        peer = MemoryPeer(self.broker)
        await peer.login(plain("any", self.broker.jwt()))
        peer.open()
        await peer.pump()
        return peer

    async def run(self) -> list[object]:
        await self.begin()
        steps = {
            self.attach: 4,
            self.publish: 10,
            self.settle: 12,
            self.credit: 3,
            self.detach: 1,
            self.pass_time: 2,
            self.stall: 1,
            self.delete: 0.2,
        }
        for _ in range(STEPS):
            (step,) = self.random.choices(list(steps), list(steps.values()))
            await step()
            await self.pump()
            self.trace.append((step.__name__, self.seen(), self.known()))
        return self.trace

    async def pump(self) -> None:
        for _ in range(2):
            for peer in self.peers:
                await peer.pump(6)

    # What happens

    async def attach(self, index: int | None = None) -> None:
        number = self.random.randrange(2)
        index = self.random.randrange(len(FILTERS)) if index is None else index
        settled = self.random.random() < 0.15
        credit = self.random.choice([0, 1, 3, 50])
        path = f"variables/Subscriptions/{self.subscriptions[index].spec.id}"
        self.names += 1
        name = f"link-{self.names}"
        modes = {"snd": 1} if settled else {"rcv": self.random.randrange(2)}
        link = self.peers[number].receiver(path, credit=credit, name=name, **modes)
        self.links[name] = (self.peers[number], link, index)

    async def publish(self) -> None:
        payloads = []
        for _ in range(self.random.choice([1, 1, 2, 5, 40])):
            value = self.random.randrange(6)
            body = encode_json(b"{}", {"value": value})
            payloads.append(normalise(self.random.choice(HEADERS) + body))
        await self.broker.core.publishing.publish(KEY, payloads, via="test")

    async def settle(self) -> None:
        """Give some open deliveries an outcome, in any order."""
        for peer, link, _ in self.links.values():
            open_ones = [
                each for each in peer.deliveries(link) if not each.settled and not each.local_state
            ]
            self.random.shuffle(open_ones)
            for delivery in open_ones[: self.random.choice([0, 1, 2, 50])]:
                outcome = self.random.choice(OUTCOMES)
                delivery.update(outcome)
                if self.random.random() < 0.4:
                    delivery.settle()

    async def credit(self) -> None:
        for _, link, _ in self.links.values():
            if self.random.random() < 0.5:
                link.flow(self.random.choice([1, 5, 30]))
            elif self.random.random() < 0.1:
                link.drain(2)

    async def detach(self) -> None:
        """Leave, and in the same read give outcomes."""
        if self.links:
            name = self.random.choice(sorted(self.links))
            _, link, _ = self.links.pop(name)
            await self.settle()
            await self.broker.publish(self.random.randrange(6))
            link.close()

    async def pass_time(self) -> None:
        await self.broker.manual.advance(self.random.choice([100, 800, 1_100]))

    async def stall(self) -> None:
        """A client reads nothing, or again."""
        peer = self.random.choice(self.peers)
        peer.sink.stuck = not peer.sink.stuck
        if not peer.sink.stuck:
            await peer.pump(6)
            peer.edge_connection.writable()

    async def delete(self) -> None:
        """A subscription goes while messages are on their way."""
        index = self.random.randrange(len(FILTERS))
        await self.broker.publish(*range(6))
        await self.broker.delete(self.subscriptions[index])
        self.subscriptions[index] = await self.broker.subscribe(FILTERS[index])

    # What is compared

    def seen(self) -> object:
        received = [
            (name, [raw for _, raw in peer.received[name]])
            for peer in self.peers
            for name in sorted(peer.received)
        ]
        told = [
            [(each[0].link.name, int(each[1]), each[2]) for each in peer.updates]
            for peer in self.peers
        ]
        detached = [sorted(peer.detached) for peer in self.peers]
        return received, told, detached

    def known(self) -> object:
        topics, metrics = self.broker.core.topics, self.broker.core.metrics
        routed_to = topics.get(KEY).routed_to
        known = []
        for each in self.subscriptions:
            locks = each.locks
            held = [
                (seq, one.state is State.LOCKED, list(one.seqs), one.until_ms)
                for seq, one in locks.unsettled.items()
            ]
            counted = (
                each.matched_total,
                each.settled_total,
                each.delivered_total,
                each.ready_count,
            )
            stands = (each.behind_at, each.active_ms, each.missing, each.full, each.receivers)
            progress = each.cursor(routed_to), each.backlog(routed_to), locks.locked
            known.append(
                (held, counted, stands, progress, dict(locks.counts), list(locks.returned))
            )
        counters = (metrics.deliveries, metrics.settlements, metrics.locks_expired)
        values = [
            sample.value
            for one in counters
            for found in one.collect()
            for sample in found.samples
            if sample.name.endswith("_total")
        ]
        return known, values


async def history(seed: int, directory, **options) -> list[object]:
    async with running_broker(
        directory,
        lock_seconds=1.0,
        locks_max=6,
        ready_max=100,
        max_deliveries=3,
        output_bytes_max=16_384,
        **options,
    ) as broker:
        return await World(seed, broker).run()


@pytest.mark.parametrize("seed", SEEDS)
async def test_clients_and_the_service_see_the_same_either_way(seed, tmp_path, monkeypatch):
    usual = await history(seed, tmp_path / "usual")
    run_in_python(monkeypatch)
    one_by_one = await history(seed, tmp_path / "plain")

    for step, (left, right) in enumerate(zip(usual, one_by_one, strict=True)):
        assert left == right, f"seed {seed}, step {step}"
