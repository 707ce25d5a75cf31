"""Outcomes, lock ends, time to live, and the way to the dead letters."""

from itertools import pairwise

import pytest

from hotpath.core.locks import LockTable
from hotpath.ports import LogFailure
from hotpath.service import settle as settling
from hotpath.service.settle import DESCRIPTION, MAX_DELIVERY_COUNT, REASON, TEXT_MAX, TTL_EXPIRED
from hotpath.wire.stored import HEADER_MARK
from hotpath.wire.types import UInt, encode
from hotpath.wire.view import describe
from tests.support.clock import settle
from tests.unit.service.rig import KEY, Rig, message
from tests.unit.service.test_deliver import evict


async def dead_letters(rig: Rig, subscription) -> list:
    return await rig.log.dead_letters(subscription.spec.id, from_seq=0, limit=100)


def with_ttl(value: float, ttl_ms: int) -> bytes:
    """A stored message with a time to live."""
    fields = b"\x40\x40" + encode(UInt(ttl_ms))
    header = b"\xc0" + bytes([len(fields) + 1, 3]) + fields
    return HEADER_MARK + header + message(value)


async def test_completing_settles_for_good(rig):
    subscription = await rig.create()
    reader = rig.read(subscription)
    await rig.publish(1, 2)
    reader.pull()
    assert reader.complete(1, 2) == []
    assert reader.complete(1) == [1]
    await rig.core.committer.settled()
    await rig.crash()
    assert await rig.read(rig.again(subscription)).read_all() == []


async def test_abandoning_counts_the_delivery_and_it_comes_before_later_ones(rig):
    reader = rig.read(await rig.create())
    await rig.publish(1, 2, 3)
    assert reader.pull(2) == [1, 2]
    assert reader.abandon(2)
    assert reader.pull(1) == [2]
    assert reader.count(2) == 1
    assert reader.pull() == [3]


async def test_releasing_does_not_count(rig):
    reader = rig.read(await rig.create())
    await rig.publish(1)
    reader.pull()
    reader.abandon(1, failed=False)
    reader.pull()
    assert reader.count(1) == 0


@pytest.mark.parametrize("outcome", ["complete", "abandon", "defer", "dead_letter", "renew"])
async def test_an_outcome_after_the_lock_has_ended_is_lost(rig, outcome):
    reader = rig.read(await rig.create())
    await rig.publish(1)
    reader.pull()
    await rig.clock.advance(60_000)
    answer = getattr(reader, outcome)(1)
    assert answer in (False, None, [1])
    assert reader.pull() == [1]
    assert reader.count(1) == 1


async def test_a_lock_ends_at_its_time_and_the_reader_is_woken(rig):
    reader = rig.read(await rig.create())
    await rig.publish(1)
    reader.pull()
    await rig.clock.advance(59_999)
    assert reader.pull() == []
    woken = reader.woken
    await rig.clock.advance(1)
    assert reader.woken == woken + 1
    assert reader.pull() == [1]


async def test_very_many_locks_that_end_together_are_seen_to_a_part_at_a_time(rig, monkeypatch):
    monkeypatch.setattr(settling, "ENDED_AT_ONCE", 10)
    subscriptions = [await rig.create() for _ in range(3)]
    readers = [rig.read(subscription) for subscription in subscriptions]
    await rig.publish(*range(25))
    for reader in readers:
        for _ in range(25):
            reader.pull(1)
    locked = [75]
    expire = LockTable.expire

    def noted(table, now_ms, *, limit=None):
        dying = expire(table, now_ms, limit=limit)
        locked.append(sum(each.locks.locked for each in subscriptions))
        return dying

    monkeypatch.setattr(LockTable, "expire", noted)
    await rig.clock.advance(60_000)
    assert locked[-1] == 65
    for _ in range(7):
        await rig.clock.advance(settling.ENDED_PAUSE_MS)

    assert locked[-1] == 0
    assert max(before - after for before, after in pairwise(locked)) == 10
    for reader in readers:
        assert len(reader.pull(100)) == 25


async def test_renewing_moves_the_end_of_one_lock_alone(rig):
    reader = rig.read(await rig.create())
    await rig.publish(1, 2)
    reader.pull()
    await rig.clock.advance(30_000)
    assert reader.renew(1) == rig.clock.ticks_ms() + 60_000
    await rig.clock.advance(30_000)
    assert reader.pull() == [2]
    await rig.clock.advance(30_000)
    assert reader.pull() == [1]


async def test_after_the_last_delivery_a_message_is_dead_lettered_with_its_reason(start):
    rig = await start(max_deliveries=2)
    subscription = await rig.create()
    reader = rig.read(subscription)
    await rig.publish(1)
    for _ in range(2):
        assert reader.pull() == [1]
        reader.abandon(1)
    assert reader.pull() == []
    await rig.core.committer.settled()
    (letter,) = await dead_letters(rig, subscription)
    assert (letter.seq, letter.reason) == (1, MAX_DELIVERY_COUNT)
    shown = describe(letter.payload).application_properties
    assert shown[REASON] == MAX_DELIVERY_COUNT
    assert shown[DESCRIPTION] == "Delivered 2 times without success."
    assert shown["value"] == 1
    figures = rig.figures(subscription)
    assert (figures.dead_lettered, figures.backlog) == (1, 0)


async def test_ended_locks_count_towards_the_dead_letters_too(start):
    rig = await start(max_deliveries=2)
    subscription = await rig.create()
    reader = rig.read(subscription)
    await rig.publish(1)
    for _ in range(2):
        reader.pull()
        await rig.clock.advance(60_000)
    assert reader.pull() == []
    assert rig.figures(subscription).dead_lettered == 1


async def test_a_rejected_message_carries_what_its_receiver_said(rig):
    subscription = await rig.create()
    reader = rig.read(subscription)
    await rig.publish(1)
    reader.pull()
    reader.dead_letter(1, reason="r" * 5_000, description="because", properties={"who": "me"})
    await rig.core.committer.settled()
    (letter,) = await dead_letters(rig, subscription)
    assert letter.reason == "r" * TEXT_MAX
    shown = describe(letter.payload).application_properties
    assert (shown[DESCRIPTION], shown["who"]) == ("because", "me")


async def test_a_property_without_an_encoding_does_not_keep_a_message_from_its_copy(rig):
    subscription = await rig.create()
    reader = rig.read(subscription)
    await rig.publish(1)
    reader.pull()
    reader.dead_letter(1, properties={"odd": object()})
    await rig.core.committer.settled()
    (letter,) = await dead_letters(rig, subscription)
    assert describe(letter.payload).application_properties[REASON] == "bad"


async def test_a_message_that_cannot_take_a_reason_is_copied_as_it_is(rig):
    subscription = await rig.create()
    reader = rig.read(subscription)
    too_many = message(1, **{f"p{number}": number for number in range(5_000)})
    await rig.core.publishing.publish(KEY, [too_many], via="test")
    assert reader.pull() == [1]
    reader.dead_letter(1)
    await rig.core.committer.settled()
    (letter,) = await dead_letters(rig, subscription)
    assert letter.payload == too_many


async def test_a_message_is_never_both_settled_and_not_yet_copied(rig):
    subscription = await rig.create()
    reader = rig.read(subscription)
    await rig.publish(1)
    reader.pull()
    rig.log.fail_next(LogFailure("full", full=True), times=2)
    reader.dead_letter(1)
    await settle()
    assert await dead_letters(rig, subscription) == []
    assert (await rig.log.open()).progress[subscription.spec.id].is_settled(1) is False
    await rig.clock.advance(1_000)
    assert len(await dead_letters(rig, subscription)) == 1
    assert (await rig.log.open()).progress[subscription.spec.id].is_settled(1) is True
    assert rig.figures(subscription).dead_lettered == 1


# Dead-lettering what memory has let go


async def test_dead_lettering_reads_the_message_again_and_nobody_hears_before_the_copy(rig):
    subscription = await rig.create()
    reader = rig.read(subscription)
    await rig.publish(1, 2)
    reader.pull()
    evict(rig)
    rig.log.pause_reads()
    reader.dead_letter(1)
    heard = []
    rig.core.committer.then(heard.append)
    await settle()
    assert heard == []
    rig.log.resume_reads()
    await settle()
    assert heard == [None]
    (letter,) = await dead_letters(rig, subscription)
    assert describe(letter.payload).application_properties["value"] == 1


async def test_when_the_read_fails_the_message_comes_again(rig):
    subscription = await rig.create()
    reader = rig.read(subscription)
    await rig.publish(1)
    reader.pull()
    evict(rig)
    rig.log.fail_reads()
    reader.dead_letter(1)
    assert await reader.read_all() == [1]
    assert rig.figures(subscription).dead_lettered == 0
    reader.dead_letter(1)
    await rig.core.committer.settled()
    assert rig.figures(subscription).dead_lettered == 1


async def test_a_message_that_is_gone_from_the_log_is_settled_without_a_copy(rig):
    subscription = await rig.create()
    reader = rig.read(subscription)
    await rig.publish(1)
    reader.pull()
    evict(rig)
    rig.log.damage(1)
    reader.dead_letter(1)
    await settle()
    figures = rig.figures(subscription)
    assert (figures.dead_lettered, figures.backlog) == (0, 0)
    assert subscription.cursor(2) == 2


async def test_a_subscription_deleted_while_its_message_is_read_leaves_no_copy(rig):
    subscription = await rig.create()
    reader = rig.read(subscription)
    await rig.publish(1)
    reader.pull()
    evict(rig)
    rig.log.pause_reads()
    reader.dead_letter(1)
    await settle()
    subscription.deleted = True
    rig.log.resume_reads()
    await settle()
    assert await dead_letters(rig, subscription) == []
    subscription.deleted = False


# The dead-letter queue


async def bury(rig: Rig, subscription, *values: float) -> None:
    reader = rig.read(subscription)
    await rig.publish(*values)
    for seq in reader.pull():
        reader.dead_letter(seq)
    await rig.core.committer.settled()
    reader.detach()


async def test_dead_letters_are_read_in_order_and_complete_for_good(rig):
    subscription = await rig.create()
    await bury(rig, subscription, 1, 2, 3)
    reader = rig.read(subscription, dead=True)
    assert await reader.read_all() == [1, 2, 3]
    assert describe(reader.payload(2)).application_properties["value"] == 2
    assert reader.complete(1, 2, 3) == []
    await rig.core.committer.settled()
    assert await dead_letters(rig, subscription) == []
    await rig.crash()
    assert rig.figures(subscription).dead_lettered == 0


@pytest.mark.parametrize("outcome", ["abandon", "dead_letter", "defer"])
async def test_whatever_else_a_receiver_says_puts_a_dead_letter_back(rig, outcome):
    subscription = await rig.create()
    await bury(rig, subscription, 1)
    reader = rig.read(subscription, dead=True)
    for earlier in range(15):
        assert await reader.read_all() == [1]
        assert reader.count(1) == earlier
        assert getattr(reader, outcome)(1)
    assert rig.figures(subscription).dead_lettered == 1


async def test_counts_of_dead_letters_survive_a_crash(rig):
    subscription = await rig.create()
    await bury(rig, subscription, 1, 2)
    reader = rig.read(subscription, dead=True)
    await reader.read_all()
    reader.abandon(1)
    await rig.core.committer.settled()
    await rig.crash()
    again = rig.read(rig.again(subscription), dead=True)
    assert await again.read_all() == [1, 2]
    assert (again.count(1), again.count(2)) == (1, 0)


async def test_a_lock_on_a_dead_letter_ends_like_any_other(rig):
    subscription = await rig.create()
    await bury(rig, subscription, 1)
    reader = rig.read(subscription, dead=True)
    assert await reader.read_all() == [1]
    await rig.clock.advance(60_000)
    assert await reader.read_all() == [1]
    assert reader.count(1) == 1


async def test_without_a_lock_a_dead_letter_is_gone_with_its_taking(rig):
    subscription = await rig.create()
    await bury(rig, subscription, 1, 2)
    reader = rig.read(subscription, dead=True, lock=False)
    assert await reader.read_all() == [1, 2]
    assert await dead_letters(rig, subscription) == []


async def test_a_damaged_dead_letter_is_passed_over(rig):
    subscription = await rig.create()
    await bury(rig, subscription, 1, 2)
    rig.log.damage(1)
    assert await rig.read(subscription, dead=True).read_all() == [2]
    assert rig.figures(subscription).dead_lettered == 1


async def test_a_failed_read_of_dead_letters_is_tried_again(rig):
    subscription = await rig.create()
    await bury(rig, subscription, 1)
    rig.log.fail_reads()
    reader = rig.read(subscription, dead=True)
    assert await reader.read_all() == []
    await rig.clock.advance(1_000)
    assert await reader.read_all() == [1]


async def test_loaded_dead_letters_leave_memory_with_their_reader(rig):
    subscription = await rig.create()
    await bury(rig, subscription, 1, 2, 3)
    reader = rig.read(subscription, dead=True, credit=1)
    await reader.read_all()
    feed = reader.receiver.feed
    assert feed._batches
    reader.detach()
    assert not feed._batches
    assert await rig.read(subscription, dead=True).read_all() == [1, 2, 3]


# Time to live


async def test_an_expired_message_is_dropped_and_the_next_one_given(rig):
    subscription = await rig.create()
    reader = rig.read(subscription)
    await rig.core.publishing.publish(KEY, [with_ttl(1, 1_000), with_ttl(2, 9_000)], via="t")
    await rig.publish(3)
    await rig.clock.advance(1_000)
    assert reader.pull(2) == [2, 3]
    figures = rig.figures(subscription)
    assert (figures.backlog, figures.delivered, figures.dead_lettered) == (2, 2, 0)


async def test_many_expired_messages_do_not_hide_a_live_one_behind_them(rig):
    reader = rig.read(await rig.create())
    await rig.core.publishing.publish(KEY, [with_ttl(1, 10) for _ in range(50)], via="t")
    await rig.publish(7)
    await rig.clock.advance(10)
    assert reader.pull(1) == [51]


@pytest.mark.parametrize("lock", [True, False], ids=["peek-lock", "receive-and-delete"])
async def test_an_expired_message_is_dead_lettered_where_that_is_wanted(start, lock):
    rig = await start(expired_to_dead_letter=True)
    subscription = await rig.create()
    reader = rig.read(subscription, lock=lock)
    await rig.core.publishing.publish(KEY, [with_ttl(1, 1_000)], via="t")
    await rig.clock.advance(1_000)
    assert await reader.read_all() == []
    await rig.core.committer.settled()
    (letter,) = await dead_letters(rig, subscription)
    assert letter.reason == TTL_EXPIRED
    assert rig.figures(subscription).backlog == 0


async def test_an_expired_message_is_dropped_without_a_lock_too(rig):
    subscription = await rig.create()
    reader = rig.read(subscription, lock=False)
    await rig.core.publishing.publish(KEY, [with_ttl(1, 1_000)], via="t")
    await rig.clock.advance(1_000)
    assert await reader.read_all() == []
    assert rig.figures(subscription).backlog == 0


# Deferred


async def test_a_deferred_message_is_not_given_again_and_stays_unsettled(rig):
    subscription = await rig.create()
    reader = rig.read(subscription)
    await rig.publish(1, 2)
    reader.pull()
    assert reader.defer(1)
    reader.complete(2)
    await rig.clock.advance(60_000)
    assert reader.pull() == []
    assert rig.figures(subscription).backlog == 1
    assert subscription.cursor(3) == 1


@pytest.mark.parametrize("checkpoint", [True, False])
async def test_a_deferral_survives_a_crash(rig, checkpoint):
    subscription = await rig.create()
    reader = rig.read(subscription)
    await rig.publish(1, 2, 3)
    reader.pull()
    reader.defer(2)
    reader.abandon(3)
    await rig.core.committer.settled()
    if checkpoint:
        await rig.clock.advance(45_000)
    await rig.crash()
    again = rig.again(subscription)
    reader = rig.read(again)
    assert await reader.read_all() == [1, 3]
    assert reader.count(3) == 1
    assert again.locks.deferred == {2}
    reader.complete(1, 3)
    assert again.cursor(4) == 2


# Bounds


async def test_settled_locks_leave_memory_before_their_time(rig):
    subscription = await rig.create()
    reader = rig.read(subscription)
    for _ in range(300):
        await rig.publish(1)
        reader.complete(*reader.pull())
    assert len(subscription.locks._expiring) <= 65
    assert len(rig.core.settling._ends) == 1


async def test_closing_waits_for_what_is_being_copied(start):
    rig = await start()
    subscription = await rig.create()
    reader = rig.read(subscription)
    await rig.publish(1)
    reader.pull()
    evict(rig)
    reader.dead_letter(1)
    await rig.core.close()
    recovered = await rig.log.open()
    assert recovered.dead == {subscription.spec.id: {1: 0}}
