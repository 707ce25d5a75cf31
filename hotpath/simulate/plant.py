"""The plant as a whole: an endless sequence of messages, one after the other in logical time.

The n-th message is due `n / rate` seconds after the start. Process time, in which things warm up
and break, runs `speed` times as fast, so that there is something to see while one looks on. No
clock is read: the same arguments give the same messages.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Final

from hotpath.model.names import Topic
from hotpath.simulate import platform
from hotpath.simulate.catalogue import KINDS, OPERATORS, SENSOR
from hotpath.simulate.machines import Machine
from hotpath.simulate.signals import GOOD

#: Chances per measurement.
LOGIN_CHANCE: Final = 0.008
PLATFORM_CHANCE: Final = 0.02

#: Portable sensors that may be in the plant at a time.
SENSORS_MAX: Final = 5
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_TIME_NAME: Final = {Topic.PLATFORM_EVENTS: "eventTime"}


@dataclass(frozen=True, slots=True)
class Emission:
    """One message and when it is due, milliseconds since the epoch."""

    at_ms: float
    topic: Topic
    message: dict[str, object]


class Plant:
    """Machines, operators and a platform; iterate over `messages`."""

    def __init__(
        self, *, seed: int, objects: int, rate: float, start_ms: int, speed: float = 60.0
    ) -> None:
        """Args.

        seed: All randomness follows from it.
        objects: Number of machines.
        rate: Messages per second.
        start_ms: When it begins, milliseconds since the epoch; only time stamps follow from it.
        speed: Process seconds per second.
        """
        if objects < 1 or rate <= 0 or speed <= 0:
            raise ValueError("a plant needs objects, a rate and a speed above zero")
        self._rng = Random(seed)  # noqa: S311 -- a simulation, no secrets
        self._rate = rate
        self._start_ms = start_ms
        self._speed = speed
        self._machines = [
            Machine(kind, f"{kind.name}-{index // len(KINDS) + 1:02d}", self._rng)
            for index, kind in ((index, KINDS[index % len(KINDS)]) for index in range(objects))
        ]
        self._sensors: deque[Machine] = deque()
        self._sensor_count = 0
        self._versions: dict[str, int] = {}
        self._minor = 1

    @property
    def object_names(self) -> list[str]:
        """Names of the machines that are always there."""
        return [machine.name for machine in self._machines]

    def messages(self) -> Iterator[Emission]:
        """All messages, without an end."""
        for number, (topic, body) in enumerate(self._sayings()):
            due_s = number / self._rate
            at_ms = self._start_ms + due_s * 1000
            moment = _TIME_NAME.get(topic, "timestamp")
            yield Emission(at_ms, topic, {**body, moment: _iso(at_ms)})
            self._now_s = (number + 1) / self._rate * self._speed

    def _sayings(self) -> Iterator[tuple[Topic, dict[str, object]]]:
        self._now_s = 0.0
        while True:
            for machine in [*self._machines, *self._sensors]:
                if machine.kind is SENSOR and machine not in self._sensors:
                    continue  # it has left the plant during this round
                for topic, said in machine.report(self._now_s, self._rng):
                    yield topic, {"objectId": machine.name, "model": machine.kind.model, **said}
                yield from self._happenings(machine)

    def _happenings(self, machine: Machine) -> Iterator[tuple[Topic, dict[str, object]]]:
        rng = self._rng
        if rng.random() < LOGIN_CHANCE:
            yield Topic.EVENTS, self._login()
        if rng.random() < PLATFORM_CHANCE:
            yield Topic.PLATFORM_EVENTS, self._platform_event(machine)

    def _login(self) -> dict[str, object]:
        rng = self._rng
        name = rng.choice(("operatorLogin", "operatorLogin", "operatorLogout"))
        station = f"station-{rng.randint(1, 3):02d}"
        return {
            "objectId": station,
            "model": "plant.operatorStation",
            "event": name,
            "quality": GOOD,
            "value": {"operator": rng.choice(OPERATORS), "shift": rng.choice("ABC")},
        }

    def _platform_event(self, machine: Machine) -> dict[str, object]:
        rng = self._rng
        draw = rng.random()
        if draw < 0.55:
            return platform.object_updated(machine, self._next_version(machine), rng)
        if draw < 0.7:
            self._minor += 1
            return platform.type_updated(self._minor, rng)
        if (draw < 0.85 and self._sensors) or len(self._sensors) >= SENSORS_MAX:
            gone = self._sensors.popleft()
            return platform.object_deleted(gone, self._next_version(gone), rng)
        self._sensor_count += 1
        sensor = Machine(SENSOR, f"{SENSOR.name}-{self._sensor_count:02d}", rng)
        self._sensors.append(sensor)
        return platform.object_created(sensor, rng)

    def _next_version(self, machine: Machine) -> int:
        version = self._versions.get(machine.name, 1) + 1
        self._versions[machine.name] = version
        return version


def _iso(at_ms: float) -> str:
    """ISO 8601 in UTC with milliseconds."""
    moment = _EPOCH + timedelta(milliseconds=round(at_ms))
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
