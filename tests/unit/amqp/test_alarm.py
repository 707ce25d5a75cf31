"""One timer for many deadlines."""

from hotpath.amqp.alarm import Alarm
from tests.support.clock import ManualClock


async def test_it_rings_once_at_the_earliest_deadline():
    clock, rung = ManualClock(ticks_ms=0), []
    alarm = Alarm(clock, lambda: rung.append(clock.ticks_ms()))

    for deadline in (500, 300, 900, 400):
        alarm.set_by(deadline)
    await clock.advance(2_000)

    assert rung == [300]
    assert clock.pending() == 0


async def test_it_may_be_set_again_while_it_rings():
    clock, rung = ManualClock(ticks_ms=0), []

    def ring() -> None:
        rung.append(clock.ticks_ms())
        if len(rung) < 3:
            alarm.set_by(clock.ticks_ms() + 100)

    alarm = Alarm(clock, ring)
    alarm.set_by(100)
    await clock.advance(1_000)

    assert rung == [100, 200, 300]


async def test_wall_clock_deadlines_are_taken_as_the_clocks_stand():
    clock, rung = ManualClock(), []
    start = clock.ticks_ms()
    alarm = Alarm(clock, lambda: rung.append(clock.ticks_ms() - start))

    alarm.set_by_wall(clock.now_ms() + 70)
    await clock.advance(100)
    alarm.set_by_wall(clock.now_ms() - 50)
    await clock.advance(1)

    assert rung[0] == 70
    assert rung[1] in (100, 101)


async def test_cancelled_it_does_not_ring():
    clock, rung = ManualClock(), []
    alarm = Alarm(clock, lambda: rung.append(1))

    alarm.set_by(clock.ticks_ms() + 10)
    alarm.cancel()
    await clock.advance(100)

    assert rung == []
