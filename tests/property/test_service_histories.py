"""The whole service against a plain ledger, through crashes, full disks and lost memory.

A history is a seed: what happens next is drawn from it, so that a failure is run again by naming
it. The ledger knows what publishers and receivers were told, and nothing of how the service works:

- a message whose publisher was told it is accepted comes until its settlement is confirmed;
- a message whose settlement was confirmed never comes again;
- messages come for the first time in sequence order, and those that come again before later ones;
- a message that its publisher was told is refused never comes;
- without a lock no message comes twice, whatever happens.
"""

import random

import pytest

from hotpath.ports import LogFailure
from hotpath.wire.properties import Puller
from tests.support.clock import settle
from tests.unit.service.rig import KEY, Reader, Rig, message

SEEDS = range(12)
STEPS = 250


class Ledger:
    """What was told, by the value that each message carries."""

    def __init__(self) -> None:
        self.accepted: set[int] = set()
        self.refused: set[int] = set()
        self.confirmed: set[int] = set()
        self.set_aside: set[int] = set()
        # A crash may come after the commit and before the answer.
        self.unanswered: set[int] = set()
        self.seen: list[int] = []
        self.seq_of: dict[int, int] = {}


class History:
    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.rig = Rig(ready_max=100, locks_max=60, tail_bytes_max=1_048_576, segment_bytes=100_000)
        self.ledger = Ledger()
        self.next_value = 0
        self.life = 0
        self.readers: list[Reader] = []
        self.held: dict[int, tuple[Reader, int]] = {}
        self.seen_by: dict[Reader, list[int]] = {}

    async def run(self, *, lock: bool) -> None:
        self.lock = lock
        await self.rig.start()
        self.subscription = await self.rig.create("value >= 0")
        steps = {
            self.publish: 8,
            self.read: 10,
            self.complete: 8 * lock,
            self.abandon: 2 * lock,
            self.dead_letter: lock,
            self.attach: 2,
            self.detach: 1,
            self.evict: 2,
            self.disk_full: 1,
            self.slow_disk: 1,
            self.pass_time: 1,
            self.crash: 0.4,
        }
        for _ in range(STEPS):
            (step,) = self.random.choices(list(steps), list(steps.values()))
            await step()
            await settle(self.random.choice([0, 1, 2, 25]))
        await self.finish()

    # What happens

    async def publish(self) -> None:
        values = range(self.next_value, self.next_value + self.random.randint(1, 40))
        self.next_value = values.stop
        life, ledger = self.life, self.ledger

        def told(error: object) -> None:
            if life == self.life:
                (ledger.accepted if error is None else ledger.refused).update(values)

        text = "x" * self.random.choice([0, 0, 4_000])
        payloads = [message(value, text=text) for value in values]
        self.rig.core.publishing.submit(KEY, payloads, told, via="test")

    async def attach(self) -> None:
        if len(self.readers) < 3:
            self.readers.append(self.rig.read(self.subscription, lock=self.lock))

    async def detach(self) -> None:
        if self.readers:
            reader = self.readers.pop(self.random.randrange(len(self.readers)))
            reader.detach()
            self.held = {v: h for v, h in self.held.items() if h[0] is not reader}

    async def read(self) -> None:
        if self.readers:
            reader = self.random.choice(self.readers)
            self.take(reader, self.random.randint(1, 50))

    def take(self, reader: Reader, limit: int) -> int:
        given = self.rig.core.delivering.pull(reader.receiver, limit)
        reader.given += given
        for part in given:
            for seq in part.seqs:
                self.note(reader, seq, value_of(part.batch.payloads[seq - part.batch.first_seq]))
        return sum(len(part.seqs) for part in given)

    def note(self, reader: Reader, seq: int, value: int) -> None:
        ledger = self.ledger
        assert value not in ledger.confirmed, "a confirmed settlement was undone"
        assert value not in ledger.refused, "a refused message was stored"
        assert value not in self.held, "two receivers hold one message"
        assert ledger.seq_of.setdefault(value, seq) == seq
        assert self.lock or value not in ledger.seen, "without a lock a message came twice"
        if value not in ledger.seen and not self.life:
            # Without a lock each receiver waits for its own commit: in order for each of them.
            seen = ledger.seen if self.lock else self.seen_by.setdefault(reader, [])
            assert all(ledger.seq_of[each] < seq for each in seen), "out of order"
            if not self.lock:
                seen.append(value)
        ledger.seen.append(value)
        ledger.unanswered.discard(value)
        if self.lock:
            self.held[value] = (reader, seq)
        else:
            ledger.confirmed.add(value)

    def pick_held(self) -> tuple[int, Reader, int] | None:
        if not self.held:
            return None
        value = self.random.choice(list(self.held))
        return value, *self.held.pop(value)

    def confirm(self, value: int, into: set[int]) -> None:
        life, ledger = self.life, self.ledger
        ledger.unanswered.add(value)

        def durable(failure: LogFailure | None) -> None:
            if failure is None and life == self.life:
                into.add(value)
                ledger.confirmed.add(value)
                ledger.unanswered.discard(value)

        self.rig.core.committer.then(durable)

    async def complete(self) -> None:
        for _ in range(self.random.randint(1, 30)):
            picked = self.pick_held()
            if picked is None:
                return
            value, reader, seq = picked
            if not reader.complete(seq):
                self.confirm(value, set())

    async def abandon(self) -> None:
        picked = self.pick_held()
        if picked is not None:
            picked[1].abandon(picked[2], failed=self.random.random() < 0.5)
            # The service may have set it aside for good at its last delivery.

    async def dead_letter(self) -> None:
        picked = self.pick_held()
        if picked is not None and picked[1].dead_letter(picked[2]):
            self.confirm(picked[0], self.ledger.set_aside)

    async def evict(self) -> None:
        tail = self.rig.core.topics.tail
        for _ in range(self.random.randint(1, 20)):
            if tail._batches:
                tail._evict()

    async def disk_full(self) -> None:
        times = self.random.randint(1, 3)
        self.rig.log.fail_next(LogFailure("no space left", full=True), times=times)

    async def slow_disk(self) -> None:
        self.rig.log.pause()
        await self.publish()
        await self.complete()
        await settle()
        await self.read()
        self.rig.log.resume()

    async def pass_time(self) -> None:
        milliseconds = self.random.choice([500, 5_000, 45_000, 61_000])
        if milliseconds > 60_000:
            self.held = {}
        await self.rig.clock.advance(milliseconds)
        now_ms = self.rig.clock.ticks_ms()
        for value, (reader, seq) in list(self.held.items()):
            holding = self.subscription.locks.held(*reader.held(seq))
            if holding is None or holding.until_ms <= now_ms:
                del self.held[value]

    async def crash(self) -> None:
        self.life += 1
        self.readers, self.held = [], {}
        await self.rig.crash()
        self.subscription = self.rig.again(self.subscription)

    # The end

    async def finish(self) -> None:
        """Whatever was accepted and not confirmed comes, or lies among the dead letters."""
        await self.rig.clock.advance(61_000)
        self.held = {}
        for reader in self.readers:
            reader.detach()
        reader = self.rig.read(self.subscription, lock=self.lock)
        came: set[int] = set()
        idle = 0
        while idle < 3:
            before = len(self.ledger.seen)
            self.take(reader, 50)
            await settle(40)
            fresh = self.ledger.seen[before:]
            came |= set(fresh)
            idle = 0 if fresh else idle + 1
            if self.lock:
                for value in fresh:
                    reader.complete(self.held.pop(value)[1])
        figures = self.rig.figures(self.subscription)
        assert figures.backlog == 0
        letters = await self.rig.log.dead_letters(
            self.subscription.spec.id, from_seq=0, limit=10**6
        )
        dead = {value_of(letter.payload) for letter in letters}
        done = came | dead | self.ledger.confirmed | self.ledger.unanswered
        if self.lock:
            assert self.ledger.accepted <= done, "an accepted message was lost"
        assert self.ledger.set_aside <= dead
        assert not dead & came
        await self.rig.stop()


def value_of(stored: bytes) -> int:
    """The value that a message of this test carries."""
    return int(_PULLER.pull(stored)["value"])


_PULLER = Puller(frozenset({("value",)}))


@pytest.mark.slow
@pytest.mark.parametrize("lock", [True, False], ids=["peek-lock", "receive-and-delete"])
@pytest.mark.parametrize("seed", SEEDS)
async def test_what_was_promised_is_kept(seed, lock):
    await History(seed).run(lock=lock)
