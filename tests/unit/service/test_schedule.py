"""Messages that enter their log later."""

import pytest

from hotpath.model.errors import LimitReached, Unavailable
from hotpath.ports import LogFailure
from hotpath.service.schedule import HEAP_MIN, RETRY_MS, Scheduling
from tests.support.clock import settle
from tests.unit.service.rig import KEY, Rig, message


def schedule(rig: Rig, value: float, in_ms: int) -> tuple[int, list]:
    """Schedule a message; its number and what was heard."""
    heard: list = []
    number = rig.core.scheduling.schedule(
        KEY, message(value), due_ms=rig.clock.now_ms() + in_ms, done=heard.append
    )
    return number, heard


async def test_a_message_enters_the_log_when_it_is_due(rig):
    reader = rig.read(await rig.create())
    _, heard = schedule(rig, 1, 10_000)
    await settle()
    assert heard == [None]
    await rig.clock.advance(9_999)
    assert reader.pull() == []
    await rig.clock.advance(1)
    assert reader.pull() == [1]
    assert (await rig.log.open()).scheduled == []


async def test_messages_enter_in_the_order_of_their_times(rig):
    reader = rig.read(await rig.create())
    for value, in_ms in ((1, 3_000), (2, 1_000), (3, 2_000)):
        schedule(rig, value, in_ms)
    await rig.clock.advance(3_000)
    assert [reader.payload(seq) for seq in reader.pull()] == [message(v) for v in (2, 3, 1)]


async def test_a_jump_of_the_wall_clock_is_noticed(rig):
    reader = rig.read(await rig.create())
    schedule(rig, 1, 3_600_000)
    await settle()
    rig.clock.jump_wall(3_600_000)
    await rig.clock.advance(5_000)
    assert reader.pull() == [1]


async def test_a_cancelled_message_never_comes(rig):
    reader = rig.read(await rig.create())
    number, _ = schedule(rig, 1, 1_000)
    await settle()
    heard: list = []
    assert rig.core.scheduling.cancel(KEY, number, heard.append)
    assert not rig.core.scheduling.cancel(KEY, number, heard.append)
    await settle()
    assert heard == [None]
    await rig.clock.advance(2_000)
    assert reader.pull() == []
    assert (await rig.log.open()).scheduled == []


async def test_scheduled_messages_survive_a_crash(rig):
    subscription = await rig.create()
    number, _ = schedule(rig, 1, 10_000)
    await settle()
    await rig.crash()
    reader = rig.read(rig.again(subscription))
    assert schedule(rig, 2, 20_000)[0] > number
    await rig.clock.advance(10_000)
    assert await reader.read_all() == [1]


async def test_numbers_are_never_used_twice_even_when_the_clock_goes_back(rig):
    first, _ = schedule(rig, 1, 10)
    rig.clock.jump_wall(-1_000_000)
    second, _ = schedule(rig, 2, 10)
    assert second > first


async def test_a_refused_message_is_told_and_does_not_count(start):
    rig = await start(scheduled_max=1)
    rig.log.fail_next(LogFailure("broken"))
    _, heard = schedule(rig, 1, 1_000)
    await settle()
    assert isinstance(heard[0], Unavailable)
    _, heard = schedule(rig, 2, 1_000)
    await settle()
    assert heard == [None]


async def test_what_waits_for_the_log_counts_against_the_limit(start):
    rig = await start(scheduled_max=2)
    rig.log.pause()
    schedule(rig, 1, 1_000)
    schedule(rig, 2, 1_000)
    with pytest.raises(LimitReached):
        schedule(rig, 3, 1_000)
    rig.log.resume()
    await rig.clock.advance(1_000)
    schedule(rig, 3, 1_000)


async def test_the_bytes_of_a_tenants_scheduled_messages_are_bounded(start):
    size = len(message(1))
    rig = await start(scheduled_bytes_max=max(1_024, 40 * size))
    room = rig.settings.scheduled_bytes_max // size
    numbers = [schedule(rig, 1, 1_000 + n)[0] for n in range(room)]

    with pytest.raises(LimitReached, match=f"{rig.settings.scheduled_bytes_max} bytes"):
        schedule(rig, 1, 10_000)
    with pytest.raises(LimitReached):
        await rig.core.scheduling.keep(KEY, [(message(1), rig.clock.now_ms() + 10_000)])

    await settle()
    assert rig.core.scheduling.cancel(KEY, numbers[0], lambda _: None)
    schedule(rig, 1, 10_000)
    await rig.clock.advance(1_001)
    schedule(rig, 1, 10_000)


async def test_the_bytes_of_scheduled_messages_count_after_a_restart(start):
    rig = await start(scheduled_bytes_max=1_024)
    rig.core.scheduling.schedule(
        KEY, message(1, note="x" * 900), due_ms=rig.clock.now_ms() + 60_000, done=lambda _: None
    )
    await settle()
    await rig.crash()

    with pytest.raises(LimitReached):
        rig.core.scheduling.schedule(
            KEY, message(1, note="x" * 900), due_ms=rig.clock.now_ms() + 9, done=lambda _: None
        )


async def test_a_due_message_that_the_log_refuses_comes_a_little_later(rig):
    reader = rig.read(await rig.create())
    schedule(rig, 1, 1_000)
    await settle()
    rig.log.fail_next(LogFailure("full", full=True), times=2)
    await rig.clock.advance(1_000)
    assert reader.pull() == []
    await rig.clock.advance(3 * RETRY_MS)
    assert len(reader.pull()) == 1
    assert rig.core.scheduling._held == {}


async def test_cancelled_messages_leave_memory_before_they_are_due(rig):
    for _ in range(3 * HEAP_MIN):
        number, _ = schedule(rig, 1, 10**12)
        while rig.core.committer._running or rig.core.committer._has_work():
            await settle(1)
        rig.core.scheduling.cancel(KEY, number, lambda _: None)
    assert len(rig.core.scheduling._heap) <= HEAP_MIN + 1


async def test_after_the_close_nothing_becomes_due(start):
    rig = await start()
    schedule(rig, 1, 1_000)
    await settle()
    await rig.core.close()
    await rig.clock.advance(5_000)
    assert len((await rig.log.open()).scheduled) == 1


async def test_what_is_given_up_takes_no_room_and_never_comes_from_here(rig):
    reader = rig.read(await rig.create())
    _, kept = schedule(rig, 1, 1_000)
    await settle()
    _, under_way = schedule(rig, 2, 1_000)
    rig.core.scheduling.give_up(lambda topic: topic == KEY)
    await settle()

    assert kept == [None]
    assert isinstance(under_way[0], Unavailable), "whoever has the schedule now may not know of it"
    assert rig.core.scheduling._held == {}
    await rig.clock.advance(2_000)
    assert reader.pull() == []
    assert len((await rig.log.open()).scheduled) == 2, "whoever has them now finds them in the log"


async def test_what_is_given_up_while_the_log_refuses_it_is_not_tried_again(rig):
    reader = rig.read(await rig.create())
    schedule(rig, 1, 1_000)
    await settle()
    rig.log.fail_next(LogFailure("full", full=True))
    await rig.clock.advance(1_000)
    rig.core.scheduling.give_up(lambda topic: topic == KEY)
    await rig.clock.advance(3 * RETRY_MS)
    assert reader.pull() == []
    assert rig.core.scheduling._releasing == rig.core.scheduling._held == {}


@pytest.mark.parametrize("rest", [0, 3, 7])
async def test_numbers_with_a_mark_are_nobody_elses(rig, rest):
    marked = Scheduling(
        committer=rig.core.committer,
        clock=rig.clock,
        per_tenant_max=100,
        bytes_max=100_000,
        mark=(rest, 8),
    )
    later_ms = rig.clock.now_ms() + 60_000
    numbers = [
        marked.schedule(KEY, message(n), due_ms=later_ms, done=lambda _: None) for n in range(20)
    ]
    assert {number % 8 for number in numbers} == {rest}
    assert numbers == sorted(set(numbers))
    await settle()
    marked.close()
