"""Seeded workloads: filter texts, and messages that are biased to hit them.

A workload is made for a number of filters, and keeps the number of matches a message (or, by
name, the part of all filters that match) the same at every size.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from qel import DateTime

Message: TypeAlias = dict[str, object]
Random: TypeAlias = random.Random

MODELS = tuple(f"model-{number:02}" for number in range(20))
VARIABLES = ("temperature", "pressure", "flow", "level", "speed", "current", "voltage", "torque")
STREETS = ("JEFFERSON", "BEACH", "LINCOLN", "MARKET", "MISSION", "UNION", "VALLEY", "OAK", "PINE")
START_NS = 1_772_323_200_000_000_000
DAY_NS = 86_400_000_000_000


@dataclass(frozen=True, slots=True)
class Workload:
    """Filters on one topic, and messages."""

    name: str
    topic: str
    filters: tuple[str, ...]
    messages: tuple[Message, ...]


def object_id(number: int) -> str:
    """A plant's object: site, line and running number."""
    return f"site-{number % 40:02}/line-{number % 700:03}/obj-{number:08}"


def _plant_message(rng: Random, number: int) -> Message:
    return {
        "objectId": object_id(number),
        "model": MODELS[number % len(MODELS)],
        "variable": rng.choice(VARIABLES),
        "timestamp": DateTime(START_NS + rng.randrange(30 * DAY_NS)),
        "quality": rng.choice((0, 64, 192, 192, 192)),
        "value": rng.choice((rng.uniform(0, 100), rng.randrange(100), rng.random() < 0.5)),
    }


_PLANT_MIX = "QQQQQVVLTI" + "QQQQQVLRTI"
"""What each filter of twenty asks of an object: a quality, a variable, a limit, a range, a time;
I is a variable of some objects. Both halves match as often, so that ten filters match as often
as a hundred thousand."""

_PLANT_QUALITIES = (64, 192, 64, 192, 192)
_PLANT_SHARE = 5
"""Filters an object."""


def _plant_filter(rng: Random, number: int, objects: int) -> str:
    """One of what people ask for: an object, some objects, one variable, a limit, a time."""
    mine = f"objectId = '{object_id(rng.randrange(objects))}'"
    variable = rng.choice(VARIABLES)
    limit = round(rng.uniform(0, 100), 2)
    kind = _PLANT_MIX[number % len(_PLANT_MIX)]
    if kind == "Q":
        return f"{mine} AND quality >= {_PLANT_QUALITIES[number % len(_PLANT_QUALITIES)]}"
    if kind == "V":
        return f"{mine} AND variable = '{variable}'"
    if kind == "L":
        return f"{mine} AND variable = '{variable}' AND value > {limit}"
    if kind == "T":
        day = 1 + (number + 6) % 28
        return f"{mine} AND timestamp >= '2026-03-{day:02}T00:00:00Z' AND quality != 0"
    if kind == "I":
        some = rng.sample(range(objects), min(3, objects))
        listed = ", ".join(f"'{object_id(one)}'" for one in some)
        return f"objectId IN [{listed}] AND variable = '{variable}' AND value != null"
    low = round(rng.uniform(0, 99), 3)
    return f"{mine} AND value >= {low} AND value < {low + 1:.3f}"


def make_plant(size: int, messages: int, seed: int) -> Workload:
    """Selective filters: a message matches two or three of them, as many at every size."""
    rng = random.Random(seed)
    objects = max(1, size // _PLANT_SHARE)
    filters = tuple(_plant_filter(rng, number, objects) for number in range(size))
    return Workload(
        "plant",
        "variables",
        filters,
        tuple(_plant_message(rng, rng.randrange(objects)) for _ in range(messages)),
    )


def make_shared_part(percent: float) -> Callable[[int, int, int], Workload]:
    """A workload of which a message matches a part of all filters."""

    def make(size: int, messages: int, seed: int) -> Workload:
        rng = random.Random(seed)
        groups = round(100 / percent) if percent else 100
        filters = tuple(
            f"model = 'group-{number % groups}' AND quality >= {rng.choice((0, 64))} "
            f"AND value > {-rng.random():.6f}"
            for number in range(size)
        )
        first = 0 if percent else groups
        rows = []
        for _ in range(messages):
            row = _plant_message(rng, rng.randrange(1000))
            row |= {"model": f"group-{first + rng.randrange(groups)}", "quality": 192}
            rows.append(row | {"value": rng.uniform(0, 100)})
        return Workload(f"plant {percent:g} %", "variables", filters, tuple(rows))

    return make


def _street(rng: Random, number: int) -> str:
    return f"{rng.choice(STREETS)}-{number:06}-{rng.choice('NSEW')}"


def _event(rng: Random, size: int) -> Message:
    number = rng.randrange(size)
    return {
        "eventType": f"lot.{rng.choice(('changed', 'created', 'removed'))}.{number % 50}",
        "severity": rng.choice(("low", "medium", "high")),
        "street": _street(rng, number),
        "block": f"{number:06}{rng.choice('ABCD')}",
        "zone": f"zone-{number % 1000:03}",
        "lot": number,
        "latitude": rng.uniform(37.0, 38.0),
        "longitude": rng.uniform(-123.0, -122.0),
        "tags": [f"tag-{rng.randrange(size)}", f"tag-{rng.randrange(size)}", "city"],
    }


def _routing_filter(rng: Random, size: int, kind: int) -> str:
    number = rng.randrange(size)
    low = rng.uniform(37.0, 38.0)
    width = 2 / size
    shapes = (
        f"block = '{number:06}{rng.choice('ABCD')}'",
        f"street STARTS_WITH '{rng.choice(STREETS)}-{number:06}'",
        f"street ENDS_WITH '{number:06}-{rng.choice('NSEW')}'",
        f"street HAS '-{number:06}-'",
        f"'tag-{number}' IN tags",
        f"zone = 'zone-{number % 1000:03}' AND severity NOT_IN AND lot != {number}",
        f"latitude >= {low:.9f} AND latitude < {low + width:.9f}",
        f"(block = '{number:06}A' OR street HAS '{number:06}-N') AND longitude < -122.1 "
        f"AND NOT (severity = 'low' AND eventType ENDS_WITH '.7')",
    )
    return shapes[kind].replace("severity NOT_IN", f"NOT (lot IN [{number}, {number + 1}])")


ROUTING_KINDS = (
    "exact", "prefix", "suffix", "substring", "list element", "anything-but", "numeric range",
    "complex",
)  # fmt: skip


def make_routing(kinds: Sequence[int], name: str) -> Callable[[int, int, int], Workload]:
    """Event routing as public benchmarks of rule engines shape it, of one kind or mixed."""

    def make(size: int, messages: int, seed: int) -> Workload:
        rng = random.Random(seed)
        filters = tuple(
            _routing_filter(rng, size, kinds[number % len(kinds)]) for number in range(size)
        )
        return Workload(
            name, "platformEvents", filters, tuple(_event(rng, size) for _ in range(messages))
        )

    return make


MAKERS: dict[str, Callable[[int, int, int], Workload]] = {
    "plant": make_plant,
    **{f"plant-{percent:g}%": make_shared_part(percent) for percent in (0, 0.1, 1, 10)},
    "routing": make_routing(range(len(ROUTING_KINDS)), "routing"),
    **{
        f"routing-{word.replace(' ', '-')}": make_routing((kind,), f"routing {word}")
        for kind, word in enumerate(ROUTING_KINDS)
    },
}
"""Workloads by the name on the command line."""


def workloads(names: Sequence[str], sizes: Sequence[int], seed: int) -> Iterator[Workload]:
    """Make workloads one by one: they are large."""
    for name in names:
        for size in sizes:
            yield MAKERS[name](size, 2000, seed)
