"""How one measured quantity moves: cycles, drift and noise around a level that has inertia.

Time is process time in seconds; every draw comes from the generator that is passed in, so a signal
is a pure function of its seed and of when it is looked at.
"""

import math
from dataclasses import dataclass
from random import Random
from typing import Final

#: Process time in which drift forgets half of itself, roughly.
DRIFT_MEMORY_S: Final = 3600.0
DAY_S: Final = 86_400.0

GOOD: Final = 192
UNCERTAIN: Final = 64
BAD: Final = 0


@dataclass(frozen=True, slots=True)
class SignalSpec:
    """A quantity of a kind of machine, in its unit."""

    name: str
    running: float
    """Level at work."""
    idle: float
    """Level at rest."""
    noise: float
    """Standard deviation between one measurement and the next."""
    drift: float = 0.0
    """Standard deviation of the slow wandering."""
    daily: float = 0.0
    """Amplitude over the day."""
    wave: float = 0.0
    """Amplitude of the short cycle."""
    wave_s: float = 600.0
    """Period of the short cycle."""
    lag_s: float = 30.0
    """Time in which two thirds of a change have come through."""
    low: float = 0.0
    high: float = math.inf
    decimals: int = 2


class Signal:
    """One quantity of one machine."""

    def __init__(self, spec: SignalSpec, rng: Random) -> None:
        self.spec = spec
        self.offset = 0.0
        """What a disturbance adds to the level."""
        self.quality = GOOD
        self._at_s = 0.0
        self._level = spec.running * (1 + 0.02 * rng.gauss(0, 1))
        self._wander = 0.0
        self._day_phase = rng.uniform(0, 0.6)
        self._wave_phase = rng.uniform(0, math.tau)
        self._dip_left = 0
        self._last = self._rounded(self._level)

    def measure(self, at_s: float, *, running: bool, rng: Random) -> float:
        """The value at a process time not before the last one; `quality` goes with it."""
        passed_s = max(at_s - self._at_s, 0.0)
        self._at_s = at_s
        self._level += (self._target(at_s, running=running) - self._level) * (
            1 - math.exp(-passed_s / self.spec.lag_s)
        )
        self._drift(passed_s, rng)
        self._dip(rng)
        if self.quality == BAD:
            return self._last
        noise = self.spec.noise * (4.0 if self.quality == UNCERTAIN else 1.0)
        wander = self._wander if running else 0.0
        self._last = self._rounded(self._level + wander + noise * rng.gauss(0, 1))
        return self._last

    def _target(self, at_s: float, *, running: bool) -> float:
        spec = self.spec
        if not running:
            return spec.idle
        day = math.sin(math.tau * (at_s / DAY_S + self._day_phase))
        wave = math.sin(math.tau * at_s / spec.wave_s + self._wave_phase)
        return spec.running + spec.daily * day + spec.wave * wave + self.offset

    def _drift(self, passed_s: float, rng: Random) -> None:
        """Wander with a pull back to zero (an Ornstein-Uhlenbeck step)."""
        keep = math.exp(-passed_s / DRIFT_MEMORY_S)
        spread = self.spec.drift * math.sqrt(1 - keep * keep)
        self._wander = self._wander * keep + spread * rng.gauss(0, 1)

    def _dip(self, rng: Random) -> None:
        """Now and then a sensor is uncertain or dead for some measurements."""
        if self._dip_left:
            self._dip_left -= 1
            if not self._dip_left:
                self.quality = GOOD
        elif rng.random() < 0.003:
            self.quality = BAD if rng.random() < 0.3 else UNCERTAIN
            self._dip_left = rng.randint(2, 8)

    def _rounded(self, value: float) -> float:
        spec = self.spec
        return round(min(max(value, spec.low), spec.high), spec.decimals)


@dataclass(frozen=True, slots=True)
class LimitSpec:
    """An alarm: beyond `limit` it is raised, back by `deadband` it is cleared."""

    variable: str
    alarm: str
    limit: float
    deadband: float
    above: bool = True
    severity: str = "warning"
    trips: bool = False
    """Whether it stops the machine."""


class Limit:
    """Watches one quantity of one machine."""

    def __init__(self, spec: LimitSpec) -> None:
        self.spec = spec
        self.active = False

    def judge(self, value: float) -> bool | None:
        """True when the alarm is raised by this value, False when cleared, None for no change."""
        spec = self.spec
        beyond = value - spec.limit if spec.above else spec.limit - value
        if not self.active and beyond > 0:
            self.active = True
            return True
        if self.active and beyond < -spec.deadband:
            self.active = False
            return False
        return None
