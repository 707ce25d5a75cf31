"""How an endpoint fares: status and circuit."""

import pytest

from hotpath.model.stream import StreamStatus
from hotpath.webhooks.breaker import PAUSE_MAX_MS, Breaker, Circuit
from hotpath.webhooks.retry import read_steps

STEPS = read_steps("5,30,120,600")
DAY_MS = 86_400_000


def breaker(**options):
    return Breaker(**{"steps_ms": STEPS, "disable_after_ms": 5 * DAY_MS, **options})


def fail(tested, count, *, now_ms=0, wall_ms=0):
    for _ in range(count):
        tested.failed(now_ms, wall_ms=wall_ms)


@pytest.mark.parametrize(("failures", "status"), [(0, "active"), (2, "active"), (3, "failing")])
def test_three_failed_attempts_in_a_row_make_it_failing(failures, status):
    tested = breaker()

    fail(tested, failures)

    assert tested.status.value == status


def test_one_success_makes_it_active_again():
    tested = breaker()
    fail(tested, 3)

    came_back = tested.succeeded()

    assert came_back
    assert tested.status is StreamStatus.ACTIVE
    assert not tested.succeeded()


def test_failures_that_are_not_in_a_row_do_not_add_up():
    tested = breaker()
    for _ in range(10):
        fail(tested, 2)
        tested.succeeded()

    assert tested.status is StreamStatus.ACTIVE
    assert tested.circuit(0) is Circuit.CLOSED


def test_the_circuit_opens_after_five_and_then_lets_one_through_at_a_time():
    tested = breaker()

    fail(tested, 4)
    assert tested.width(0, full=16) == 16
    fail(tested, 1)

    assert tested.circuit(0) is Circuit.OPEN
    assert tested.width(0, full=16) == 0
    assert tested.opens_at(0) == 4_000
    assert tested.circuit(4_000) is Circuit.HALF_OPEN
    assert tested.width(4_000, full=16) == 1
    assert tested.opens_at(4_000) is None


def test_pauses_grow_with_each_failed_probe_up_to_a_bound():
    tested, pauses, now_ms = breaker(), [], 0
    fail(tested, 5)
    for _ in range(5):
        opens_ms = tested.opens_at(now_ms)
        pauses.append(opens_ms - now_ms)
        now_ms = opens_ms
        fail(tested, 1, now_ms=now_ms)

    assert pauses == [4_000, 24_000, PAUSE_MAX_MS, PAUSE_MAX_MS, PAUSE_MAX_MS]


def test_late_failures_of_an_open_circuit_do_not_lengthen_its_pause():
    tested = breaker()

    fail(tested, 16)

    assert tested.opens_at(0) == 4_000


def test_a_pause_is_never_longer_than_the_delay_of_the_single_event_that_failed():
    tested, now_ms = breaker(), 0
    for step_ms in STEPS:
        fail(tested, 1, now_ms=now_ms)
        now_ms += round(step_ms * 0.8)

        assert tested.opens_at(now_ms) is None


def test_a_success_closes_the_circuit():
    tested = breaker()
    fail(tested, 5)

    tested.succeeded()

    assert tested.width(0, full=16) == 16


def test_an_endpoint_may_ask_to_be_left_alone():
    tested = breaker()

    tested.hold(10_000)
    tested.hold(5_000)

    assert tested.width(9_999, full=16) == 0
    assert tested.opens_at(0) == 10_000
    assert tested.width(10_000, full=16) == 16


def test_gone_disables_for_good():
    tested = breaker()

    tested.gone()
    tested.succeeded()

    assert tested.status is StreamStatus.DISABLED
    assert tested.width(10**12, full=16) == 0
    assert tested.opens_at(0) is None


def test_five_days_of_failing_disable():
    tested = breaker()
    fail(tested, 3, wall_ms=1_000)

    assert not tested.overdue(1_000 + 5 * DAY_MS - 1)
    assert tested.status is StreamStatus.FAILING
    assert tested.overdue(1_000 + 5 * DAY_MS)
    assert tested.status is StreamStatus.DISABLED
    assert not tested.overdue(10**14)


def test_a_success_in_between_begins_the_days_anew():
    tested = breaker()
    fail(tested, 3, wall_ms=0)
    tested.succeeded()
    fail(tested, 3, wall_ms=4 * DAY_MS)

    assert not tested.overdue(6 * DAY_MS)


def test_a_restart_does_not_make_a_stream_healthy():
    failing = breaker(status=StreamStatus.FAILING, since_ms=1_000)
    disabled = breaker(status=StreamStatus.DISABLED)

    assert failing.status is StreamStatus.FAILING
    assert failing.overdue(1_000 + 5 * DAY_MS)
    assert disabled.width(0, full=16) == 0


def test_it_can_be_enabled_again():
    tested = breaker()
    fail(tested, 9)
    tested.gone()

    tested.enable()

    assert tested.status is StreamStatus.ACTIVE
    assert tested.width(0, full=16) == 16
    assert tested.failures == 0


def test_without_a_schedule_there_is_no_pause():
    tested = breaker(steps_ms=())

    fail(tested, 20)

    assert tested.width(0, full=16) == 1
