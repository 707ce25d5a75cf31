"""The kinds of machines in the plant: what they measure, when they alarm, what they report."""

from dataclasses import dataclass
from typing import Final

from hotpath.simulate.signals import LimitSpec, SignalSpec


@dataclass(frozen=True, slots=True)
class Kind:
    """An object model: quantities and their limits."""

    name: str
    """Stem of the objects' names."""
    model: str
    signals: tuple[SignalSpec, ...]
    limits: tuple[LimitSpec, ...]
    batches: str = ""
    """What it produces in batches; empty for continuous work."""


def _limit(variable: str, alarm: str, limit: float, deadband: float, **more: object) -> LimitSpec:
    return LimitSpec(variable, alarm, limit, deadband, **more)  # type: ignore[arg-type]  # fields


PUMP: Final = Kind(
    "pump",
    "plant.pump",
    (
        SignalSpec("flow", 118.0, 0.0, 0.8, drift=3.0, daily=6.0, wave=2.5, lag_s=8, decimals=1),
        SignalSpec("pressure", 6.4, 1.0, 0.03, drift=0.12, daily=0.2, wave=0.1, lag_s=8),
        SignalSpec("temperature", 64.0, 24.0, 0.25, drift=2.5, daily=3.0, wave=1.0, lag_s=240),
        SignalSpec("vibration", 2.1, 0.05, 0.09, drift=0.25, wave=0.1, lag_s=10),
        SignalSpec("power", 37.0, 0.4, 0.3, drift=0.8, daily=1.5, lag_s=5, decimals=1),
    ),
    (
        _limit("temperature", "highTemperature", 80.0, 4.0),
        _limit("temperature", "overheated", 92.0, 6.0, severity="critical", trips=True),
        _limit("vibration", "highVibration", 4.5, 0.8),
        _limit("pressure", "lowPressure", 4.8, 0.4, above=False),
    ),
)
TANK: Final = Kind(
    "tank",
    "plant.tank",
    (
        SignalSpec(
            "level",
            58.0,
            55.0,
            0.15,
            drift=4.0,
            daily=9.0,
            wave=14.0,
            wave_s=2400,
            high=100.0,
            lag_s=240,
        ),
        SignalSpec("temperature", 41.0, 22.0, 0.1, drift=1.0, daily=2.0, lag_s=900),
        SignalSpec("inflow", 42.0, 0.0, 0.6, drift=2.0, wave=6.0, wave_s=2400, decimals=1),
    ),
    (
        _limit("level", "highLevel", 84.0, 5.0),
        _limit("level", "overfill", 94.0, 5.0, severity="critical", trips=True),
        _limit("level", "lowLevel", 26.0, 5.0, above=False),
    ),
    batches="mixture",
)
COMPRESSOR: Final = Kind(
    "compressor",
    "plant.compressor",
    (
        SignalSpec("pressure", 8.2, 1.0, 0.04, drift=0.15, wave=0.35, wave_s=180, lag_s=12),
        SignalSpec("temperature", 88.0, 25.0, 0.4, drift=3.0, daily=4.0, wave=2.0, lag_s=180),
        SignalSpec("speed", 2975.0, 0.0, 4.0, drift=10.0, lag_s=6, decimals=0),
        SignalSpec("oilPressure", 3.1, 0.0, 0.03, drift=0.08, lag_s=6),
    ),
    (
        _limit("temperature", "highTemperature", 104.0, 5.0),
        _limit("oilPressure", "lowOilPressure", 2.4, 0.3, above=False, severity="critical"),
        _limit("pressure", "highPressure", 9.6, 0.5, severity="critical", trips=True),
    ),
)
CONVEYOR: Final = Kind(
    "conveyor",
    "plant.conveyor",
    (
        SignalSpec("speed", 1.8, 0.0, 0.01, drift=0.03, lag_s=4, decimals=3),
        SignalSpec("load", 61.0, 0.0, 2.2, drift=6.0, daily=8.0, wave=7.0, wave_s=420, decimals=1),
        SignalSpec("motorCurrent", 14.5, 0.2, 0.2, drift=0.6, wave=0.8, wave_s=420, lag_s=4),
    ),
    (
        _limit("motorCurrent", "overcurrent", 19.0, 1.5, severity="critical", trips=True),
        _limit("load", "overload", 88.0, 8.0),
        _limit("speed", "beltSlip", 1.55, 0.1, above=False),
    ),
)
BOILER: Final = Kind(
    "boiler",
    "plant.boiler",
    (
        SignalSpec("steamPressure", 12.0, 1.0, 0.05, drift=0.25, wave=0.4, wave_s=900, lag_s=60),
        SignalSpec("temperature", 187.0, 60.0, 0.3, drift=1.5, daily=2.0, lag_s=300, decimals=1),
        SignalSpec("waterLevel", 52.0, 50.0, 0.3, drift=1.6, wave=3.0, high=100.0, lag_s=60),
        SignalSpec("fuelFlow", 220.0, 0.0, 1.5, drift=5.0, daily=12.0, wave=5.0, decimals=1),
    ),
    (
        _limit("steamPressure", "highPressure", 13.6, 0.6, severity="critical", trips=True),
        _limit("waterLevel", "lowWaterLevel", 38.0, 4.0, above=False, severity="critical"),
        _limit("temperature", "highTemperature", 198.0, 4.0),
    ),
    batches="steam run",
)
SENSOR: Final = Kind(
    "sensor",
    "plant.portableSensor",
    (
        SignalSpec("temperature", 27.0, 21.0, 0.2, drift=1.5, daily=4.0, lag_s=120),
        SignalSpec("humidity", 46.0, 45.0, 0.5, drift=3.0, daily=6.0, lag_s=300, high=100.0),
    ),
    (_limit("humidity", "highHumidity", 62.0, 4.0, severity="info"),),
)

#: The fixed machines, in the order in which a plant gets them.
KINDS: Final = (PUMP, TANK, COMPRESSOR, CONVEYOR, BOILER)
OPERATORS: Final = ("a.lindqvist", "b.okafor", "c.moreau", "d.tanaka", "e.silva", "f.novak")
