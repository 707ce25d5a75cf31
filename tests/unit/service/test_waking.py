"""Many competing receivers: a few are woken for a message, the others when those take nothing."""

from hotpath.service.waking import AT_ONCE, PATIENCE_MS, PAUSE_MS
from tests.support.clock import settle

MANY = 100


def woken(readers) -> int:
    return sum(reader.woken for reader in readers)


async def readers_of(rig, **options):
    subscription = await rig.create()
    return subscription, [rig.read(subscription, **options) for _ in range(MANY)]


async def test_a_message_wakes_a_few_of_many_receivers(rig):
    _, readers = await readers_of(rig)
    await rig.publish(1)
    assert woken(readers) == AT_ONCE
    next(reader for reader in readers if reader.woken).pull()
    await rig.clock.advance(10 * PAUSE_MS)
    assert woken(readers) == AT_ONCE


async def test_when_those_take_nothing_the_others_are_woken_each_once(rig):
    _, readers = await readers_of(rig)
    await rig.publish(1)
    await rig.clock.advance(10 * PATIENCE_MS)
    assert [reader.woken for reader in readers] == [1] * MANY


async def test_the_next_message_wakes_the_next_ones(rig):
    _, readers = await readers_of(rig)
    for _ in range(3):
        await rig.publish(1)
        max(readers, key=lambda reader: reader.woken).pull()
        await rig.clock.advance(10 * PAUSE_MS)
    assert woken(readers) == 3 * AT_ONCE
    assert max(reader.woken for reader in readers) == 1


async def test_nobody_is_woken_who_can_lock_nothing_and_all_are_when_there_is_room(rig):
    subscription, readers = await readers_of(rig)
    subscription.locks_max = 2
    await rig.publish(1, 2)
    first = next(reader for reader in readers if reader.woken)
    assert first.pull() == [1, 2]
    await rig.clock.advance(10 * PAUSE_MS)
    before = woken(readers)

    await rig.publish(3)
    await rig.clock.advance(10 * PAUSE_MS)
    assert woken(readers) == before

    first.complete(1)
    await settle()
    assert woken(readers) > before
    assert max(readers, key=lambda reader: reader.woken).pull() == [3]


async def test_as_many_are_woken_as_have_credit_for_what_there_is(rig):
    _, readers = await readers_of(rig)
    for reader in readers:
        reader.receiver.credit = lambda: 2
    await rig.publish(*range(6))
    assert woken(readers) == 3


async def test_who_has_no_credit_is_passed_over(rig):
    _, readers = await readers_of(rig)
    for number, reader in enumerate(readers):
        reader.receiver.credit = (lambda: 5) if number == 40 else (lambda: 0)
    await rig.publish(1)
    await rig.clock.advance(10 * PAUSE_MS)
    assert [number for number, reader in enumerate(readers) if reader.woken] == [40]


async def test_when_those_with_credit_take_nothing_the_others_are_woken(rig):
    _, readers = await readers_of(rig)
    for reader in readers:
        reader.receiver.credit = lambda: 1_000
    await rig.publish(1)
    assert woken(readers) == 1
    await rig.clock.advance(10 * PATIENCE_MS)
    assert [reader.woken for reader in readers] == [1] * MANY


async def test_who_goes_while_others_are_woken_is_not_looked_at_any_more(rig):
    _, readers = await readers_of(rig)
    for reader in readers:
        reader.receiver.credit = lambda: 1_000
    await rig.publish(1)
    for reader in readers[:90]:
        reader.detach()
    await rig.clock.advance(10 * PATIENCE_MS)
    assert all(reader.woken == 1 for reader in readers[90:])


async def test_while_those_that_were_woken_are_on_their_way_nobody_else_is(rig):
    _, readers = await readers_of(rig)
    for reader in readers:
        reader.receiver.credit = lambda: 1_000
    for number in range(5):
        await rig.publish(number)
        await rig.clock.advance(PAUSE_MS)
    assert woken(readers) == 1
    first = next(reader for reader in readers if reader.woken)
    assert first.pull() == [1, 2, 3, 4, 5]
    await rig.publish(6)
    await rig.clock.advance(PAUSE_MS)
    assert woken(readers) == 2
    assert first.woken == 1


async def test_who_does_not_come_is_passed_over_the_next_time(rig):
    _, readers = await readers_of(rig)
    for reader in readers:
        reader.receiver.credit = lambda: 1_000
    await rig.publish(1)
    await rig.clock.advance(20 * PATIENCE_MS)
    assert woken(readers) == MANY
    reading = readers[70]
    assert reading.pull() == [1]
    await rig.publish(2)
    await rig.clock.advance(PAUSE_MS)
    assert woken(readers) == MANY + 1
    assert reading.woken == 2


async def test_who_has_no_credit_is_asked_for_it_once_until_it_comes(rig):
    _, readers = await readers_of(rig)
    asked = []
    for number, reader in enumerate(readers):
        reader.receiver.credit = lambda number=number: asked.append(number) or 0
    for number in range(5):
        await rig.publish(number)
        await rig.clock.advance(10 * PATIENCE_MS)
    assert sorted(asked) == list(range(MANY))

    assert readers[7].pull(1) == [1]
    asked.clear()
    await rig.publish(5)
    await rig.clock.advance(10 * PATIENCE_MS)
    assert asked == [7]


async def test_who_comes_and_goes_is_not_woken_any_more(rig):
    _, readers = await readers_of(rig)
    await rig.publish(1)
    come = next(reader for reader in readers if reader.woken)
    assert come.pull() == [1]
    come.detach()
    before = come.woken
    for number in range(5):
        await rig.publish(number)
        await rig.clock.advance(10 * PATIENCE_MS)
    assert come.woken == before
