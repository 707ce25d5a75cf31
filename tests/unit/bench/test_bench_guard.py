"""The regression guard: what counts as slower, and what is noise."""

import json
import os
import random
from pathlib import Path

import pytest

from bench import guard
from bench.cli import main
from bench.errors import RunError, UsageError
from bench.guard import Measure, check_rounds, judge, measures_of, resolve, summary, table
from bench.stats import bootstrap, percentile, sign_flip
from tests.unit.bench.results import make_result

ROUNDS = 10


def noisy(factor: float, *, seed: int, spread: float = 0.03) -> tuple[float, ...]:
    """Ten rounds of a machine whose speed wanders by some percent."""
    chance = random.Random(seed)
    return tuple(1e5 * factor * chance.uniform(1 - spread, 1 + spread) for _ in range(ROUNDS))


def rate(base: tuple[float, ...], head: tuple[float, ...]) -> Measure:
    return Measure("fan-out 1", "deliveries/s", True, base, head)


def test_a_tenth_slower_is_found_beyond_noise() -> None:
    (verdict,) = judge([rate(noisy(1, seed=1), noisy(0.9, seed=2))], tolerance=0.03)

    assert verdict.is_worse
    assert verdict.change == pytest.approx(-0.1, abs=0.03)
    assert verdict.interval.low < verdict.change < verdict.interval.high < 0
    assert summary([verdict]) == "head is slower than base, beyond noise"
    assert "SLOWER" in table([verdict])


def test_a_tenth_faster_is_no_regression() -> None:
    (verdict,) = judge([rate(noisy(1, seed=1), noisy(1.1, seed=2))], tolerance=0.03)

    assert verdict.is_beyond_noise
    assert not verdict.is_worse
    assert summary([verdict]) == "head is faster than base, beyond noise"


def test_more_processor_time_is_worse_though_the_figure_is_higher() -> None:
    cost = Measure("fan-out 1", "us/delivery", False, noisy(1, seed=1), noisy(1.1, seed=2))

    assert judge([cost], tolerance=0.03)[0].is_worse


def test_a_slow_minute_that_hits_both_sides_is_no_difference() -> None:
    slow = tuple(0.4 if index in {3, 4} else 1.0 for index in range(ROUNDS))
    base = tuple(a * b for a, b in zip(noisy(1, seed=1), slow, strict=True))
    head = tuple(a * b for a, b in zip(noisy(1, seed=2), slow, strict=True))

    (verdict,) = judge([rate(base, head)], tolerance=0.03)

    assert not verdict.is_beyond_noise
    assert summary([verdict]).startswith("no difference beyond noise; one below some ")


def test_a_difference_below_the_tolerance_never_counts() -> None:
    base = tuple(float(100_000 + index) for index in range(ROUNDS))
    head = tuple(0.98 * one for one in base)

    (verdict,) = judge([rate(base, head)], tolerance=0.03)

    assert verdict.chance < 0.01
    assert not verdict.is_beyond_noise


def test_without_a_change_a_verdict_is_seldom() -> None:
    wrong = sum(
        judge([rate(noisy(1, seed=2 * n), noisy(1, seed=2 * n + 1))], tolerance=0)[
            0
        ].is_beyond_noise
        for n in range(40)
    )

    assert wrong <= 5, "of forty runs without a change, some two may be called one"


def test_the_test_of_pairs_is_exact_for_few() -> None:
    chance = random.Random(1)

    assert sign_flip([1.0, 1.0, 1.0], chance) == 2 / 8
    assert sign_flip([1.0, -1.0], chance) == 1.0
    assert sign_flip([0.5] * 20, chance) < 0.001


def test_an_interval_holds_the_mean() -> None:
    low, high = bootstrap([1.0, 2.0, 3.0, 4.0], random.Random(1))

    assert 1.0 <= low < 2.5 < high <= 4.0


@pytest.mark.parametrize(
    ("percent", "expected"), [(0, 1.0), (50, 2.0), (75, 3.0), (99, 4.0), (100, 4.0)]
)
def test_a_percentile_is_a_value_that_was_measured(percent: float, expected: float) -> None:
    assert percentile([4.0, 2.0, 1.0, 3.0], percent) == expected


@pytest.mark.parametrize("call", [lambda: percentile([], 50), lambda: sign_flip([], random.Random(1)),
                                  lambda: bootstrap([], random.Random(1))])  # fmt: skip
def test_no_values_say_nothing(call) -> None:
    with pytest.raises(ValueError, match="nothing"):
        call()


def test_rounds_become_rates_and_costs_of_both_sides() -> None:
    label = make_result().workload.label
    found = {
        (label, "base"): [make_result(deliver_rate=100.0, broker_cpu_s=0.5)],
        (label, "head"): [make_result(deliver_rate=90.0, broker_cpu_s=0.6)],
    }

    rates, costs = measures_of(found)

    assert (rates.base, rates.head, rates.more_is_better) == ((100.0,), (90.0,), True)
    assert (costs.base, costs.head, costs.more_is_better) == ((500.0,), (600.0,), False)


def test_too_few_pairs_are_refused() -> None:
    with pytest.raises(UsageError, match="at least 8 pairs"):
        check_rounds(7, 4)
    check_rounds(8, 4)


def test_a_name_that_is_no_commit_is_refused() -> None:
    with pytest.raises(UsageError, match="no-such-commit"):
        resolve("no-such-commit")


def test_a_build_that_fails_leaves_nothing_and_says_why(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("HOTPATH_BENCH_PEERS", str(tmp_path))
    monkeypatch.setattr(guard, "_check_out", lambda _commit, place: place.mkdir())

    def fail(_command: list[str]) -> None:
        raise RunError("no compiler")

    monkeypatch.setattr(guard, "_run", fail)

    with pytest.raises(RunError, match="no compiler"):
        guard.build("0" * 40)

    assert not (tmp_path / "builds" / ("0" * 40)).exists()


def test_a_commit_is_built_once(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("HOTPATH_BENCH_PEERS", str(tmp_path))
    there = tmp_path / "builds" / ("a" * 40) / "bin" / "hotpath"
    there.parent.mkdir(parents=True)
    there.touch()

    assert guard.build("a" * 40) == there


@pytest.fixture
def stubbed(monkeypatch):
    """Both sides built; head is as fast as told, and every round notes which side it measured."""
    measured: list[str] = []
    speed = {"base": 1.0, "head": 1.0}
    chance = random.Random(1)

    def measure(_broker, workload, *, round_number, **_):
        side = os.environ["HOTPATH_BENCH_COMMAND"]
        measured.append(side)
        rate = 1e5 * speed[side] * chance.uniform(0.98, 1.02)
        return make_result(
            workload=workload, round=round_number, deliver_rate=rate, broker_cpu_s=5e4 / rate
        )

    commits = {"BASE": "base", "HEAD": "head"}
    monkeypatch.setattr(guard, "resolve", commits.__getitem__)
    monkeypatch.setattr(guard, "build", Path)
    monkeypatch.setattr(guard, "measure", measure)
    return measured, speed


def test_a_regression_is_the_exit_status(stubbed, capsys, tmp_path) -> None:
    _, speed = stubbed
    speed["head"] = 0.85

    status = main(["guard", "BASE", "--fan-out", "1", "--out", str(tmp_path / "x.json")])

    assert status == 1
    assert "head is slower than base, beyond noise" in capsys.readouterr().out
    first, second = json.loads((tmp_path / "x.json").read_text())["runs"]
    assert (first["base"], first["head"], first["is_worse"]) == ("base", "head", True)
    assert second["name"] == "us/delivery"


def test_no_regression_is_a_good_end_and_sides_take_turns(stubbed, capsys) -> None:
    measured, _ = stubbed

    assert main(["guard", "BASE", "--fan-out", "1", "--rounds", "8"]) == 0

    assert measured[:6] == ["base", "head", "head", "base", "base", "head"]
    assert measured.count("base") == measured.count("head") == 8
    assert "no difference beyond noise" in capsys.readouterr().out


def test_a_round_that_lost_something_ends_the_comparison(stubbed, monkeypatch, capsys) -> None:
    monkeypatch.setattr(guard, "measure", lambda *_, **__: make_result(received=999))

    assert main(["guard", "BASE", "--fan-out", "1"]) == 1
    assert "1 deliveries lost" in capsys.readouterr().err
