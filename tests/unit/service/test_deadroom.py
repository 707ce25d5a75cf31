"""Bounds on dead letters: nothing more is set aside, and nothing is lost by it."""

import pytest

from hotpath.model.errors import LimitReached
from hotpath.service.settle import MAX_DELIVERY_COUNT
from tests.support.clock import settle
from tests.unit.service.rig import KEY, Rig
from tests.unit.service.test_settle import dead_letters, with_ttl


async def rejected(rig: Rig, reader, *seqs: int) -> None:
    for seq in seqs:
        assert reader.dead_letter(seq)
    await settle()


async def test_at_the_bound_a_rejection_is_refused_and_the_message_stays_locked(start):
    rig = await start(dead_letters_max=2)
    subscription = await rig.create()
    reader = rig.read(subscription)
    await rig.publish(1, 2, 3)
    reader.pull()
    await rejected(rig, reader, 1, 2)

    with pytest.raises(LimitReached, match="dead letters"):
        reader.dead_letter(3)

    assert [letter.seq for letter in await dead_letters(rig, subscription)] == [1, 2]
    assert reader.pull() == []
    assert reader.complete(3) == []
    assert rig.core.metrics.dead_letters_refused._value.get() == 1


async def test_reading_a_dead_letter_makes_room(start):
    rig = await start(dead_letters_max=1)
    subscription = await rig.create()
    reader = rig.read(subscription)
    await rig.publish(1, 2)
    reader.pull()
    await rejected(rig, reader, 1)
    with pytest.raises(LimitReached):
        reader.dead_letter(2)

    undertaker = rig.read(subscription, dead=True)
    assert await undertaker.read_all() == [1]
    undertaker.complete(1)

    await rejected(rig, reader, 2)
    assert await undertaker.read_all() == [2]


async def test_copies_under_way_count(start):
    rig = await start(dead_letters_max=1)
    reader = rig.read(await rig.create())
    await rig.publish(1, 2)
    reader.pull()
    rig.log.pause()

    assert reader.dead_letter(1)
    with pytest.raises(LimitReached):
        reader.dead_letter(2)
    rig.log.resume()


@pytest.mark.parametrize("how", ["abandoned", "lock ended"])
async def test_a_message_that_failed_too_often_goes_on_coming_until_there_is_room(start, how):
    rig = await start(dead_letters_max=1, max_deliveries=2)
    subscription = await rig.create()
    reader = rig.read(subscription)
    await rig.publish(1, 2)
    reader.pull()
    await rejected(rig, reader, 1)

    for count in range(1, 5):
        if how == "abandoned":
            reader.abandon(2)
        else:
            await rig.clock.advance(60_000)
        assert await reader.read_all() == [2]
        assert reader.count(2) == count

    undertaker = rig.read(subscription, dead=True)
    await undertaker.read_all()
    undertaker.complete(1)
    reader.abandon(2)
    await settle()
    [letter] = await dead_letters(rig, subscription)
    assert (letter.seq, letter.reason) == (2, MAX_DELIVERY_COUNT)


async def test_the_bytes_of_a_tenant_are_bounded_over_all_its_subscriptions(start):
    rig = await start(dead_letter_bytes_max=1_024)
    first, second = await rig.create(), await rig.create()
    readers = [rig.read(first), rig.read(second)]
    await rig.publish(1, 2, note="x" * 600)
    for reader in readers:
        reader.pull()
    await rejected(rig, readers[0], 1, 2)

    with pytest.raises(LimitReached):
        readers[1].dead_letter(1)

    undertaker = rig.read(first, dead=True)
    await undertaker.read_all()
    undertaker.complete(1, 2)
    await rejected(rig, readers[1], 1)


async def test_the_bound_holds_over_a_restart(start):
    rig = await start(dead_letters_max=10, dead_letter_bytes_max=1_024)
    subscription = await rig.create()
    reader = rig.read(subscription)
    await rig.publish(1, 2, note="x" * 1_100)
    reader.pull()
    await rejected(rig, reader, 1)
    await rig.crash()

    again = rig.again(subscription)
    reader = rig.read(again)
    assert await reader.read_all() == [2]
    with pytest.raises(LimitReached):
        reader.dead_letter(2)


async def test_a_subscription_that_ends_takes_what_its_letters_took_along(start):
    rig = await start()
    subscription = await rig.create()
    reader = rig.read(subscription)
    await rig.publish(1)
    reader.pull()
    await rejected(rig, reader, 1)
    room = rig.core.settling._room
    assert room.bytes_of(KEY.tenant) > 0

    rig.core.settling.forget(subscription)

    assert room.bytes_of(KEY.tenant) == 0


@pytest.mark.parametrize("lock", [True, False])
async def test_without_room_an_expired_message_is_dropped(start, lock):
    rig = await start(dead_letters_max=1, expired_to_dead_letter=True)
    subscription = await rig.create()
    holder = rig.read(subscription)
    await rig.publish(1)
    holder.pull()
    await rejected(rig, holder, 1)
    holder.detach()
    await rig.core.publishing.publish(KEY, [with_ttl(2, 1_000)], via="test")
    await rig.publish(3)
    await rig.clock.advance(2_000)

    assert await rig.read(subscription, lock=lock).read_all() == [3]

    assert [letter.seq for letter in await dead_letters(rig, subscription)] == [1]
