"""Addresses that are barred, and how fast connections are accepted."""

import pytest

from hotpath.amqp.pace import Pace
from hotpath.amqp.strikes import ADDRESSES_MAX, Strikes
from hotpath.config import Settings
from tests.support.clock import ManualClock

BAD = "192.0.2.66"


def made(tmp_path, **options):
    clock = ManualClock()
    bounds = {"strikes_max": 5, "strikes_seconds": 50, "bar_seconds": 30, **options}
    return Strikes(Settings(data_dir=tmp_path, **bounds), clock), clock


def test_an_address_with_too_many_strikes_is_barred_for_its_time(tmp_path):
    strikes, clock = made(tmp_path)
    noted = [strikes.note(BAD, settled=0) for _ in range(6)]
    assert noted == [False] * 5 + [True]
    assert strikes.is_barred(BAD)
    assert not strikes.is_barred("192.0.2.1")

    clock._move_to(clock.ticks_ms() + 29_999)
    assert strikes.is_barred(BAD)
    clock._move_to(clock.ticks_ms() + 1)
    assert not strikes.is_barred(BAD)
    assert not strikes.note(BAD, settled=0)


def test_strikes_are_forgotten_at_an_even_rate(tmp_path):
    strikes, clock = made(tmp_path)
    for _ in range(100):
        clock._move_to(clock.ticks_ms() + 10_000)
        assert not strikes.note(BAD, settled=0)


def test_an_address_with_clients_that_stay_has_more_to_spend(tmp_path):
    strikes, _ = made(tmp_path)
    assert not any(strikes.note(BAD, settled=3) for _ in range(20))
    assert strikes.note(BAD, settled=3)


@pytest.mark.parametrize(
    ("options", "address"),
    [({"strikes_max": 0}, BAD), ({}, "127.0.0.1"), ({}, "::1"), ({"never_barred": BAD}, BAD)],
    ids=["off", "loopback", "loopback-6", "listed"],
)
def test_some_are_never_barred(tmp_path, options, address):
    strikes, _ = made(tmp_path, **options)
    assert not any(strikes.note(address, settled=0) for _ in range(100))
    assert not strikes.is_barred(address)


def test_so_many_addresses_are_known(tmp_path):
    strikes, _ = made(tmp_path, strikes_max=1)
    for number in range(ADDRESSES_MAX + 5):
        strikes.note(str(number), settled=0)
        strikes.note(str(number), settled=0)
    assert len(strikes) <= 2 * ADDRESSES_MAX


def test_so_many_connections_a_second_are_accepted_and_as_many_at_once():
    clock = ManualClock()
    pace = Pace(100, clock)
    waits = [pace.take() for _ in range(100)]
    assert waits[:99] == [0] * 99
    assert waits[99] >= 10
    clock._move_to(clock.ticks_ms() + 50)
    assert [pace.take() for _ in range(4)] == [0] * 4
    clock._move_to(clock.ticks_ms() + 60_000)
    assert [pace.take() for _ in range(99)] == [0] * 99
    assert pace.take() > 0
