"""Sets of filters made to be dear, and messages made to hit them."""

import random
from collections.abc import Callable, Iterator

from bench.index.workloads import Message, Workload

SEED = 7


def _nested(number: int) -> str:
    """As deep as the language allows: AND and OR in turn."""
    text = f"quality = {number}"
    for level in range(60):
        sign = "OR" if level % 2 else "AND"
        text = f"(value {'<' if level % 2 else '>'} {level - number} {sign} {text})"
    return text


def _wide(number: int) -> str:
    return " OR ".join(f"value={(number * 256 + leaf) % 100_000}" for leaf in range(256))


def _two_bounds(rng: random.Random) -> str:
    return f"value > {rng.uniform(0, 100):.6f} AND quality < {rng.uniform(0, 100):.6f}"


def _messages(**fixed: object) -> tuple[Message, ...]:
    rng = random.Random(SEED)
    return tuple(
        {
            "objectId": f"obj-{rng.randrange(1000):05}",
            "model": "".join(rng.choice("abcdefgh") for _ in range(20)),
            "variable": "temperature",
            "quality": rng.uniform(0, 100),
            "value": rng.uniform(0, 100),
        }
        | fixed
        for _ in range(50)
    )


def _filters(size: int) -> Iterator[tuple[str, str, Callable[[int], str], Message]]:
    rng = random.Random(SEED)
    random_word: Callable[[], str] = lambda: "".join(rng.choice("abcdefgh") for _ in range(6))  # noqa: E731
    yield "deep nesting", "variables", _nested, {"quality": 3}
    yield "all NOT", "variables", lambda n: f"NOT (objectId = 'obj-{n:05}')", {}
    yield "all HAS, none fits", "variables", lambda _: f"model HAS '{random_word()}'", {}
    yield "all HAS, one character", "variables", lambda n: f"model HAS '{chr(200 + n % 500)}'", {}
    yield "one-character prefixes", "variables", lambda n: (
        f"model STARTS_WITH '{'abcdefgh'[n % 8]}' AND value > {n}.5"
    ), {"value": size * 0.999}  # fmt: skip
    yield "256 OR leaves", "variables", _wide, {"value": 1000}
    yield "the same filter", "variables", lambda _: "value > 1000 AND quality >= 0", {}
    yield "the same filter, matching", "variables", lambda _: "value >= 0 AND quality >= 0", {}
    yield "a bound each, a tenth matches", "variables", lambda _: (
        f"value > {rng.uniform(0, 100):.6f}"
    ), {"value": 10.0}  # fmt: skip
    yield "bounds that hold, ruled out by another", "variables", lambda _: (
        f"value > {rng.uniform(0, 100):.6f} AND model = '{random_word()}'"
    ), {"value": 100.0}  # fmt: skip
    yield "two bounds on two properties", "variables", lambda _: _two_bounds(rng), {"value": 50.0}
    yield "ranges around one value", "variables", lambda _: (
        f"value > {rng.uniform(0, 49):.6f} AND value < {rng.uniform(51, 100):.6f}"
    ), {"value": 99.9}  # fmt: skip
    yield "properties compared", "platformEvents", lambda n: f"left{n % 50} < right{n}", {}
    yield "a property each", "platformEvents", lambda n: f"property{n} = 1", {}


def adversarial(size: int) -> Iterator[Workload]:
    """Make the sets one by one, each with at most so many filters."""
    for name, topic, make, fixed in _filters(size):
        # These are a hundred times as large as others.
        count = max(2, size // 50) if name in ("deep nesting", "256 OR leaves") else size
        filters = tuple(make(number) for number in range(count))
        yield Workload(name, topic, filters, _messages(**fixed))
