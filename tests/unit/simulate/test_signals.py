"""Limits with hysteresis, and quantities that stay where physics lets them."""

from random import Random

import pytest

from hotpath.simulate.signals import Limit, LimitSpec, Signal, SignalSpec

HIGH = LimitSpec("level", "highLevel", 80.0, 5.0)
LOW = LimitSpec("level", "lowLevel", 20.0, 5.0, above=False)


@pytest.mark.parametrize(
    ("spec", "values", "changes"),
    [
        pytest.param(HIGH, [79, 81], [None, True], id="raised beyond the limit"),
        pytest.param(HIGH, [80], [None], id="not at the limit"),
        pytest.param(HIGH, [81, 85], [True, None], id="raised once"),
        pytest.param(HIGH, [81, 79, 76], [True, None, None], id="not cleared in the deadband"),
        pytest.param(HIGH, [81, 74], [True, False], id="cleared below the deadband"),
        pytest.param(HIGH, [81, 74, 79, 81], [True, False, None, True], id="raised again"),
        pytest.param(LOW, [21, 19], [None, True], id="low limit raised below"),
        pytest.param(LOW, [19, 24, 26], [True, None, False], id="low limit cleared above"),
    ],
)
def test_limit_with_hysteresis(spec, values, changes):
    limit = Limit(spec)

    assert [limit.judge(value) for value in values] == changes


def measured(spec, count=500, *, running=True, seed=1):
    rng = Random(seed)
    signal = Signal(spec, rng)
    return [signal.measure(60.0 * n, running=running, rng=rng) for n in range(count)]


def test_signal_stays_within_its_bounds():
    values = measured(SignalSpec("level", 95.0, 0.0, 5.0, drift=10.0, low=0.0, high=100.0))

    assert min(values) >= 0
    assert max(values) == 100.0


def test_signal_comes_to_rest_at_its_idle_level():
    values = measured(SignalSpec("speed", 3000.0, 0.0, 0.5, lag_s=10), running=False)

    assert values[-1] == pytest.approx(0, abs=5)


def test_signal_has_its_decimals_and_is_a_float():
    values = measured(SignalSpec("speed", 3.14159, 0.0, 0.01, decimals=1))

    assert all(isinstance(value, float) and value == round(value, 1) for value in values)


def test_disturbance_shifts_the_level_after_its_lag():
    rng = Random(1)
    signal = Signal(SignalSpec("temperature", 50.0, 20.0, 0.0, lag_s=100), rng)
    signal.measure(0, running=True, rng=rng)
    signal.offset = 30.0

    soon = signal.measure(10, running=True, rng=rng)
    late = signal.measure(1000, running=True, rng=rng)

    assert 50 < soon < 58
    assert late == pytest.approx(80, abs=1)
