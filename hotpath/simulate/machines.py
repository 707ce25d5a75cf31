"""A machine of the plant: measures, raises alarms, trips, comes back, finishes batches."""

from collections.abc import Iterator
from random import Random
from typing import Final

from hotpath.model.names import Topic
from hotpath.simulate.catalogue import OPERATORS, Kind
from hotpath.simulate.signals import BAD, GOOD, Limit, Signal

#: What a machine says: a topic and the members that follow from it, without identity and time.
Saying = tuple[Topic, dict[str, object]]

#: Chance per measurement that something begins to go wrong.
FAULT_CHANCE: Final = 0.004
#: Process time that a fault, a stop and a batch last, seconds: shortest and longest.
FAULT_S: Final = (900.0, 3600.0)
STOP_S: Final = (300.0, 1200.0)
BATCH_S: Final = (1800.0, 5400.0)


class Machine:
    """One object; `report` gives the next measurement and all that follows from it."""

    def __init__(self, kind: Kind, name: str, rng: Random) -> None:
        self.kind = kind
        self.name = name
        self.running = True
        self._signals = [Signal(spec, rng) for spec in kind.signals]
        self._limits = [Limit(spec) for spec in kind.limits]
        self._turn = 0
        self._faulty: Signal | None = None
        self._fault_end_s = 0.0
        self._restart_s = 0.0
        self._batch = rng.randint(100, 900)
        self._batch_start_s = 0.0
        self._batch_end_s = rng.uniform(*BATCH_S) * rng.random()

    def report(self, at_s: float, rng: Random) -> Iterator[Saying]:
        """The next quantity in turn at a process time, and what becomes of it."""
        yield from self._resume(at_s, rng)
        self._disturb(at_s, rng)
        signal = self._signals[self._turn % len(self._signals)]
        self._turn += 1
        value = signal.measure(at_s, running=self.running, rng=rng)
        variable = {"variable": signal.spec.name, "value": value, "quality": signal.quality}
        yield Topic.VARIABLES, variable
        if signal.quality != BAD:
            yield from self._judge(signal, value, at_s=at_s, rng=rng)
        if self.kind.batches and self.running and at_s >= self._batch_end_s:
            yield from self._finish_batch(at_s, rng)

    def _resume(self, at_s: float, rng: Random) -> Iterator[Saying]:
        if self.running or at_s < self._restart_s:
            return
        self.running = True
        yield _event("started", {"operator": rng.choice(OPERATORS), "mode": "automatic"})

    def _disturb(self, at_s: float, rng: Random) -> None:
        """Begin or end a fault: one quantity is driven beyond one of its limits."""
        if self._faulty is not None:
            if at_s >= self._fault_end_s:
                self._faulty.offset = 0.0
                self._faulty = None
        elif self.running and rng.random() < FAULT_CHANCE:
            spec = rng.choice(self._limits).spec
            signal = next(each for each in self._signals if each.spec.name == spec.variable)
            signal.offset = (spec.limit - signal.spec.running) * rng.uniform(1.02, 1.25)
            self._faulty = signal
            self._fault_end_s = at_s + rng.uniform(*FAULT_S)

    def _judge(self, signal: Signal, value: float, *, at_s: float, rng: Random) -> Iterator[Saying]:
        for limit in self._limits:
            # A machine at rest raises nothing, but what it raised may clear.
            if limit.spec.variable != signal.spec.name or not (self.running or limit.active):
                continue
            change = limit.judge(value)
            if change is None:
                continue
            yield self._alarm(limit, value, raised=change)
            if change and limit.spec.trips:
                yield from self._trip(limit, at_s, rng)

    def _alarm(self, limit: Limit, value: float, *, raised: bool) -> Saying:
        spec = limit.spec
        detail = {
            "state": "raised" if raised else "cleared",
            "severity": spec.severity,
            "variable": spec.variable,
            "limit": spec.limit,
            "measured": value,
        }
        key = f"{self.name}/{spec.alarm}"
        return Topic.ALARMS, {
            "alarm": spec.alarm,
            "alarmKey": key,
            "quality": GOOD,
            "value": detail,
        }

    def _trip(self, limit: Limit, at_s: float, rng: Random) -> Iterator[Saying]:
        self.running = False
        self._restart_s = at_s + rng.uniform(*STOP_S)
        yield _event("stopped", {"reason": limit.spec.alarm, "mode": "tripped"})

    def _finish_batch(self, at_s: float, rng: Random) -> Iterator[Saying]:
        detail: dict[str, object] = {
            "batch": f"{self.name.upper()}-{self._batch}",
            "product": self.kind.batches,
            "amount": round(rng.gauss(1200, 60), 1),
            "durationSeconds": round(at_s - self._batch_start_s),
        }
        self._batch += 1
        self._batch_start_s = at_s
        self._batch_end_s = at_s + rng.uniform(*BATCH_S)
        yield _event("batchFinished", detail)


def _event(name: str, detail: dict[str, object]) -> Saying:
    return Topic.EVENTS, {"event": name, "quality": GOOD, "value": detail}
