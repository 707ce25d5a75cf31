"""Every parser that the network reaches ends in a result or a declared error, with bounded work.

The whole corpus and all regressions, then seeded mutations of them; `make fuzz-guided` looks
further, led by coverage.
"""

import random

import pytest

from tests.fuzz import mutate, oracle
from tests.fuzz.seeds import regressions, seeds
from tests.fuzz.targets import TARGETS

SEED = 20261122
MUTATIONS = {"qel": 150, "sasl": 150, "messages": 250}
MUTATIONS_OTHERWISE = 500
#: Calls that a target may make, besides those for each byte of its input.
CALLS_MAX = 40_000
CALLS_PER_BYTE = 60
TEXT = {"sas", "jwt", "qel", "bodies", "addresses"}


def within_bounds(target: str, given: bytes) -> None:
    with oracle.calls_counted() as calls:
        oracle.cpu_bounded(TARGETS[target], given)
        made = calls()
    assert made <= CALLS_MAX + CALLS_PER_BYTE * len(given), f"{made} calls, {len(given)} bytes"


@pytest.mark.parametrize("target", TARGETS)
def test_the_corpus_is_read(target, watch):
    for given in seeds(target):
        within_bounds(target, given)


@pytest.mark.parametrize(
    ("target", "given"),
    [
        pytest.param(target, given, id=f"{target}-{name}")
        for target in TARGETS
        for name, given in regressions(target)
    ],
)
def test_what_was_mended_stays_so(target, given, watch):
    within_bounds(target, given)


@pytest.mark.parametrize("target", TARGETS)
def test_mutations_end_in_a_result_or_a_declared_error(target, watch):
    print("seed", SEED)
    rng = random.Random(f"{SEED}/{target}")
    for _ in range(MUTATIONS.get(target, MUTATIONS_OTHERWISE)):
        given = mutated(rng, target)
        try:
            within_bounds(target, given)
        except Exception as error:
            error.add_note(f"input: {given!r}")
            raise


def mutated(rng: random.Random, target: str) -> bytes:
    given = rng.choice(seeds(target))
    if target in TEXT and rng.random() < 0.5:
        given = mutate.json_text(rng, given)
    elif target not in TEXT and rng.random() < 0.5:
        given = mutate.exchange_in(rng, given, rng.choice(mutate.VALUES))
    return mutate.havoc(rng, given, 5) if rng.random() < 0.6 else given


@pytest.mark.parametrize(
    ("target", "unit"),
    [
        ("values", b"\xc0\x02\x01"), ("values", b"\x00\x40"), ("messages", b"\x00\x53\x75\xa0\x01a"),
        ("properties", b"\x00\x53\x74\xc1\x01\x00"), ("requests", b"\x00\x53\x77\x40"),
        ("qel", b"NOT "), ("qel", b"a = 1 AND "), ("qel", b"("), ("bodies", b"["), ("bodies", b'{"a":'),
        ("bodies", b"[1],"), ("bodies", b"\n"), ("sas", b"&"), ("jwt", b"."), ("addresses", b"%25/"),
    ],
)  # fmt: skip
def test_twice_the_bytes_are_twice_the_work_at_most(target, unit, watch):
    made = []
    for times in (400, 800):
        with oracle.calls_counted() as calls:
            TARGETS[target](unit * times)
            made.append(calls())

    assert made[1] <= 2.2 * made[0] + 200
