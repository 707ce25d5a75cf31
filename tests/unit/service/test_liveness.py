"""Activity in service time, and what of it a crash leaves."""

import pytest

from hotpath.service.liveness import BEAT_MS, MARK_MS
from tests.support.clock import settle
from tests.unit.service.rig import Rig

MINUTE_MS = 60_000


def idle_ms(rig: Rig, subscription) -> int:
    return rig.core.liveness.idle_since_ms(subscription)


async def test_a_match_is_activity_and_no_match_is_none(rig):
    subscription = await rig.create("value > 10")
    await rig.clock.advance(MINUTE_MS)
    await rig.publish(1)
    assert idle_ms(rig, subscription) == MINUTE_MS
    await rig.publish(11)
    assert idle_ms(rig, subscription) == 0


@pytest.mark.parametrize("dead", [False, True], ids=["feed", "dead letters"])
async def test_an_attached_client_is_activity_up_to_now(rig, dead):
    subscription = await rig.create()
    reader = rig.read(subscription, dead=dead)
    await rig.clock.advance(10 * MINUTE_MS)
    assert idle_ms(rig, subscription) == 0
    reader.detach()
    await rig.clock.advance(MINUTE_MS)
    assert idle_ms(rig, subscription) == MINUTE_MS


async def test_asking_for_figures_is_no_activity(rig):
    subscription = await rig.create()
    await rig.clock.advance(MINUTE_MS)
    figures = rig.figures(subscription)
    assert figures.last_activity_ms == rig.clock.now_ms() - MINUTE_MS
    assert figures.expires_ms == figures.last_activity_ms + 60 * MINUTE_MS
    assert idle_ms(rig, subscription) == MINUTE_MS


async def test_a_jump_of_the_wall_clock_changes_no_idle_time(rig):
    subscription = await rig.create()
    await rig.clock.advance(MINUTE_MS)
    rig.clock.jump_wall(86_400_000)
    assert idle_ms(rig, subscription) == MINUTE_MS


async def test_times_that_did_not_change_are_told_the_same_each_time(rig):
    """Two clocks of whole milliseconds do not go on at the same moment."""
    subscription = await rig.create()
    told = rig.figures(subscription)
    for swing_ms in (1, -1, -1, 1):
        rig.clock.jump_wall(swing_ms)
        await rig.clock.advance(1_000)
        assert rig.figures(subscription) == told


async def test_times_are_told_by_the_wall_clock_as_it_is_set_now(rig):
    subscription = await rig.create()
    told = rig.figures(subscription)
    rig.clock.jump_wall(86_400_000)
    figures = rig.figures(subscription)
    assert figures.last_activity_ms == told.last_activity_ms + 86_400_000
    assert figures.expires_ms == told.expires_ms + 86_400_000


async def check_crash(rig: Rig, subscription, last_active_ticks: int) -> None:
    """A crash now: the idle time is not shortened and grows by less than a minute."""
    true_idle_ms = rig.clock.ticks_ms() - last_active_ticks
    await settle()
    await rig.crash()
    await settle(100)
    seen = idle_ms(rig, rig.again(subscription))
    # Less idle than true is a longer life; more idle than true would be a shorter one.
    assert true_idle_ms - 60_000 < seen <= true_idle_ms


@pytest.mark.parametrize("uptime_ms", [0, 5_000, 24_999, 47_000, 59_999, 600_001])
@pytest.mark.parametrize("idle_for_ms", [0, 1, 19_999, 61_000, 300_000])
async def test_after_a_crash_an_idle_time_is_kept_to_a_minute(start, uptime_ms, idle_for_ms):
    rig = await start()
    subscription = await rig.create()
    await rig.clock.advance(uptime_ms)
    await rig.publish(1)
    active = rig.clock.ticks_ms()
    await rig.clock.advance(idle_for_ms)
    await check_crash(rig, subscription, active)


@pytest.mark.parametrize("attached_ms", [1_000, 19_000, 39_000, 59_000, 3_600_000])
async def test_a_client_that_was_attached_at_the_crash_was_active_then(start, attached_ms):
    rig = await start()
    subscription = await rig.create()
    rig.read(subscription)
    await rig.clock.advance(attached_ms)
    await check_crash(rig, subscription, rig.clock.ticks_ms())


async def test_a_client_that_reads_nothing_of_its_backlog_is_active_all_the_same(start):
    rig = await start(ready_max=100)
    subscription = await rig.create()
    for _ in range(3):
        await rig.publish(*range(100))
    rig.read(subscription)
    await rig.clock.advance(10 * MINUTE_MS + 59_000)
    await check_crash(rig, subscription, rig.clock.ticks_ms())


async def test_matches_of_an_unread_subscription_count_up_to_the_crash(rig):
    subscription = await rig.create()
    for _ in range(30):
        await rig.publish(1)
        await rig.clock.advance(13_000)
    await rig.publish(1)
    await check_crash(rig, subscription, rig.clock.ticks_ms())


async def test_an_old_match_of_a_subscription_that_is_behind_is_not_taken_for_a_new_one(start):
    rig = await start(ready_max=100)
    subscription = await rig.create()
    for _ in range(3):
        await rig.publish(*range(100))
    assert subscription.behind_at is not None
    active = rig.clock.ticks_ms()
    await rig.clock.advance(10 * MINUTE_MS)
    await check_crash(rig, subscription, active)


async def test_time_in_which_the_service_is_down_is_not_idle_time(rig):
    subscription = await rig.create()
    await rig.clock.advance(5 * MINUTE_MS)
    await rig.abandon()
    rig.clock._move_to(rig.clock.ticks_ms() + 86_400_000)
    await rig.crash()
    assert idle_ms(rig, rig.again(subscription)) <= 5 * MINUTE_MS


async def test_marks_are_made_durable_at_a_bounded_rate(rig):
    await rig.create()
    await rig.core.committer.settled()
    marks = []
    touch = rig.core.liveness.on_mark
    rig.core.liveness.on_mark = lambda one: (marks.append(one), touch(one))
    for _ in range(1_000):
        await rig.publish(1)
        rig.clock._move_to(rig.clock.ticks_ms() + 100)
    assert len(marks) == 99_900 // MARK_MS
    assert BEAT_MS + MARK_MS < 60_000
