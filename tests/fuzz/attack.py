"""One epoch of hostile inputs: a fresh service, many connections at a time, checks in between.

An *input* is one mutated byte sequence that a connection is fed. Connections are of three kinds:

    prelude     mutated bytes from the first byte on: protocol headers, SASL
    capture     a whole capture of a real client, mutated, from the first byte on: one input
    continued   a capture as it was recorded, up to some frame; then up to CONTINUED_MAX inputs,
                one a read, or several in one as a client sends them that waits for no answer

What is recorded comes in as few reads as it can without changing what becomes of it, because reads
are what takes the time; now and then frame by frame. WIDTH connections are there at any time: one
that is over makes room for the next.

An epoch depends on its seed alone, and on nothing that is measured.
"""

import random
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import count, groupby
from pathlib import Path

from tests.fuzz import grammar, mutate, oracle
from tests.fuzz.dice import Dice
from tests.fuzz.frames import split, take_apart
from tests.fuzz.world import Hostile, World, running_world

CORPUS = Path(__file__).parent / "corpus" / "amqp"
#: Connections at a time.
WIDTH = 24
#: Connections after which all have to be gone, and everything is checked.
WAVE = 8 * WIDTH
#: Turns of reads after which messages and requests are made up anew.
STEPS_PER_RENEWAL = 16
#: Connections after which there are new messages, and it is later.
CONNECTIONS_PER_REFILL = 2 * WIDTH
#: Inputs in one read of a client that waits for no answer.
HASTE_MAX = 8
#: Inputs that follow one another on a connection.
CONTINUED_MAX = 48
#: Inputs of an epoch, about; then the service is a new one.
EPOCH_INPUTS = 10_000
#: Between two checks the process may grow by no more.
GROWTH_MAX = 96 * 1_048_576
_STUCK = 0.04
#: Messages and requests made up at the beginning; requests made up anew each time.
_MADE = 40
_RENEWED = 6


def load_corpus(directory: Path = CORPUS) -> list[bytes]:
    """The captures, always in the same order."""
    return [path.read_bytes() for path in sorted(directory.glob("*.bin"))]


@dataclass(slots=True)
class Tally:
    """What has been done."""

    inputs: int = 0
    connections: int = 0
    fed_bytes: int = 0
    answered_bytes: int = 0
    turns_max: int = 0
    by_kind: dict[str, int] = field(default_factory=dict)

    def add(self, other: "Tally") -> None:
        """Sum up."""
        self.inputs += other.inputs
        self.connections += other.connections
        self.fed_bytes += other.fed_bytes
        self.answered_bytes += other.answered_bytes
        self.turns_max = max(self.turns_max, other.turns_max)
        for kind, inputs in other.by_kind.items():
            self.by_kind[kind] = self.by_kind.get(kind, 0) + inputs


@dataclass(slots=True)
class Plan:
    """What a connection will be fed, read by read; inputs are counted as they are fed."""

    kind: str
    reads: Iterator[tuple[bytes, int]]
    attacker: Hostile


class Material:
    """What inputs are made of, the same for a whole epoch."""

    def __init__(self, rng: random.Random, corpus: list[bytes]) -> None:
        self.rng = rng
        self.streams = [split(stream) for stream in corpus]
        self.frames = [raw for stream in self.streams for raw in stream]
        self.preludes = [raw for stream in self.streams for raw in stream[:3]]
        self.payloads = mutate.payloads_of(corpus)
        self.payloads += [grammar.message(rng) for _ in range(_MADE)]
        self._requests = len(self.payloads)
        known = grammar.Known()
        self.payloads += [grammar.request(rng, known) for _ in range(_MADE)]

    def renew(self, locks: list[tuple[int, int]]) -> None:
        """Make up some requests anew; they are about locks that somebody holds."""
        known = grammar.Known(locks=locks)
        for _ in range(_RENEWED):
            at = self.rng.randrange(self._requests, len(self.payloads))
            self.payloads[at] = grammar.request(self.rng, known)

    def plan(self) -> tuple[str, Iterator[tuple[bytes, int]]]:
        """The reads of a connection, each with the number of inputs that begin with it."""
        chance = self.rng.random()
        if chance < 0.15:
            return "prelude", self._prelude()
        if chance < 0.21:
            return "capture", self._capture()
        return "continued", self._continued()

    def _prelude(self) -> Iterator[tuple[bytes, int]]:
        rng = self.rng
        parts = list(rng.choice(self.streams)[: rng.randrange(1, 5)])
        at = rng.randrange(len(parts))
        parts[at] = mutate.change_frame(rng, parts[at], self.payloads)
        if rng.random() < 0.3:
            parts = [mutate.havoc(rng, b"".join(parts), 5)]
        return _as_one(mutate.pieces(rng, parts))

    def _capture(self) -> Iterator[tuple[bytes, int]]:
        rng = self.rng
        stream = rng.choice(self.streams)
        parts = mutate.capture(rng, stream, self.frames, self.payloads)
        return _as_one(mutate.pieces(rng, parts))

    def _continued(self) -> Iterator[tuple[bytes, int]]:
        rng = self.rng
        stream = rng.choice(self.streams)
        # Seldom before the session begins: there is little that is understood then.
        # Nor often to the very end, behind which nothing is.
        last = len(stream) + (rng.random() < 0.1 or not is_close(stream[-1]))
        at = rng.randrange(min(last - 1, 3 if rng.random() < 0.1 else 6), last)
        known = grammar.Known()
        for raw in stream[:at]:
            known.take(_recorded(raw))
        reads = stream[:at] if rng.random() < 0.1 else together(stream[:at])
        yield from ((read, 0) for read in reads)
        ahead = [raw for raw in stream[at:] if rng.random() < 0.9]
        haste = rng.choice((1, HASTE_MAX))
        for _ in range(CONTINUED_MAX):
            inputs = rng.randint(1, haste)
            made = [mutate.sequence(rng, ahead, self.payloads, known) for _ in range(inputs)]
            yield b"".join(made), inputs


_recorded = lru_cache(maxsize=2_048)(take_apart)


def is_close(raw: bytes) -> bool:
    """Whether a recorded frame ends its connection."""
    frame = _recorded(raw)
    return frame is not None and frame.code == 0x18


#: Before and after these the service has something to do that what follows depends on: credit
#: comes before a transfer, a delivery before its disposition, a token's answer before an attach.
_STOPS = (0x14, 0x15)


def together(stream: list[bytes]) -> list[bytes]:
    """A recorded stream in few reads, with which the same becomes of it as frame by frame."""

    def kind(raw: bytes) -> int:
        frame = _recorded(raw)
        return frame.code if frame is not None and frame.code in _STOPS else 0

    return [b"".join(group) for _, group in groupby(stream, kind)]


def _as_one(reads: list[bytes]) -> Iterator[tuple[bytes, int]]:
    for number, read in enumerate(reads):
        yield read, 0 if number else 1


class Epoch:
    """Attacks one service."""

    def __init__(self, world: World, material: Material, *, inputs: int) -> None:
        self.tally = Tally()
        self._world = world
        self._material = material
        self._inputs = inputs
        self.journal: Path | None = None
        self._attackers: list[Hostile] = []

    @property
    def under_way(self) -> list[Hostile]:
        """Connections since the last check, those that are gone too."""
        return self._attackers

    async def run(self) -> None:
        """Attack until enough has been fed. Raises Violation."""
        while self.tally.inputs < self._inputs:
            self._attackers = []
            await self._wave()

    async def _wave(self) -> None:
        """Connections that come and go, until all are gone; then everything is looked at."""
        world, rng = self._world, self._material.rng
        before = oracle.resident_bytes()
        plans = deque(self._begin() for _ in range(WIDTH))
        for step in count():
            if not plans:
                break
            if step % STEPS_PER_RENEWAL == 0:
                self._material.renew(world.locks())
            for _ in range(len(plans)):
                await self._go_on(plans)
            turns = await world.rest()
            self.tally.turns_max = max(self.tally.turns_max, turns)
        for attacker in self._attackers:
            attacker.check()
            self.tally.answered_bytes += attacker.sink.sent
        world.clock.leap(rng.choice((0, 0, 5, 1_000, 5_000, 20_000, 61_000)))
        await world.rest()
        await world.check_empty(self._attackers)
        grown = oracle.resident_bytes() - before
        if grown > GROWTH_MAX:
            raise oracle.Violation(f"the process has grown by {grown} bytes")
        await world.refill()
        await world.check()

    async def _go_on(self, plans: deque[Plan]) -> None:
        """Feed the first of all connections; when it is over, begin another."""
        plan = plans.popleft()
        if self._feed(plan):
            plans.append(plan)
            return
        world, rng = self._world, self._material.rng
        if rng.random() < 0.7:
            # What it was sent last goes to nobody; the others stay until the wave is over.
            plan.attacker.drop()
        if len(self._attackers) < WAVE:
            plans.append(self._begin())
            if len(self._attackers) % CONNECTIONS_PER_REFILL == 0:
                world.clock.leap(rng.choice((0, 0, 5, 1_000, 5_000)))
                await world.refill()

    def _begin(self) -> Plan:
        stuck = self._material.rng.random() < _STUCK
        kind, reads = self._material.plan()
        self.tally.connections += 1
        attacker = self._world.attack(stuck=stuck)
        self._attackers.append(attacker)
        return Plan(kind, reads, attacker)

    def _feed(self, plan: Plan) -> bool:
        """Feed a connection's next read; whether there may be another."""
        attacker = plan.attacker
        if attacker.done:
            return False
        read, inputs = next(plan.reads, (b"", 0))
        if not read:
            return False
        if self.journal is not None:
            with self.journal.open("a") as journal:
                journal.write(f"{id(attacker)} {read.hex()}\n")
        attacker.feed(read)
        # Of several in one read only the first is certain to be taken in when it was the last.
        inputs = min(inputs, 1) if attacker.ended else inputs
        self.tally.fed_bytes += len(read)
        self.tally.inputs += inputs
        self.tally.by_kind[plan.kind] = self.tally.by_kind.get(plan.kind, 0) + inputs
        return True


async def run_epoch(
    seed: str,
    corpus: list[bytes],
    watch: oracle.Watch,
    *,
    directory: Path,
    inputs: int,
    journal: Path | None = None,
) -> Tally:
    """Run one. Raises Found, with the streams of all connections that may have caused it.

    With a `journal`, each read is written there before it is fed, for crashes that leave nothing.
    """
    rng = Dice(seed)
    async with running_world(directory, watch) as world:
        epoch = Epoch(world, Material(rng, corpus), inputs=inputs)
        epoch.journal = journal
        try:
            await epoch.run()
            await world.check(collect=True)
        except Exception as error:
            error.add_note(f"seed {seed}")
            raise Found(str(error), [list(each.stream) for each in epoch.under_way]) from error
        return epoch.tally


class Found(oracle.Violation):
    """A violation, and what was fed before it.

    Attributes:
        streams: The reads of each connection of the last wave.
    """

    def __init__(self, text: str, streams: list[list[bytes]]) -> None:
        super().__init__(text)
        self.streams = streams


async def replay(stream: list[bytes], watch: oracle.Watch, *, directory: Path) -> Hostile:
    """Feed one connection of a fresh service. Raises Violation."""
    async with running_world(directory, watch) as world:
        attacker = world.attack()
        for read in stream:
            attacker.feed(read)
            await world.rest()
        attacker.check()
        world.clock.leap(5_000)
        await world.rest()
        await world.check_empty([attacker])
        await world.check(collect=True)
        return attacker
