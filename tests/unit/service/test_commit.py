"""Group commit: one at a time, answers in order, and what a failure refuses or keeps."""

import pytest

from hotpath.model.errors import LogFull, Unavailable
from hotpath.model.message import DeadLetter
from hotpath.model.names import TenantId, Topic, TopicKey
from hotpath.ports import LogFailure, Scheduled
from hotpath.service.commit import BATCH_BYTES, BATCH_COUNT, RETRY_MS
from tests.support.clock import settle
from tests.unit.service.rig import KEY, Rig, message

FULL = LogFailure("no space left", full=True)
BROKEN = LogFailure("the disk gave an error")


class Outcome:
    """Hears the ends of what was handed in."""

    def __init__(self) -> None:
        self.heard: list[object] = []

    def named(self, name: object):
        return lambda failure: self.heard.append((name, failure))


async def stored(rig: Rig, key: TopicKey = KEY) -> list[bytes]:
    batches = await rig.log.read(key, 1, bytes_max=1 << 40)
    return [payload for batch in batches for payload in batch.payloads]


def count_commits(rig: Rig) -> list:
    works = []
    commit = rig.log.commit

    def counted(work):
        works.append(work)
        return commit(work)

    rig.log.commit = counted
    return works


async def test_all_that_a_turn_hands_in_goes_with_one_commit(rig):
    works = count_commits(rig)
    outcome = Outcome()
    committer = rig.core.committer
    committer.append(KEY, [b"a", b"b"], outcome.named("first"))
    committer.append(KEY, [b"c"], outcome.named("second"))
    committer.then(outcome.named("then"))
    await settle()
    assert len(works) == 1
    assert outcome.heard == [("first", None), ("second", None), ("then", None)]
    assert await stored(rig) == [b"a", b"b", b"c"]


async def test_at_the_end_of_a_commit_others_may_come_before_the_next_one(rig):
    works, outcome, waiting = count_commits(rig), Outcome(), []
    committer = rig.core.committer
    committer.give_way = waiting.append
    committer.append(KEY, [b"a"], outcome.named("first"))
    await settle()
    assert outcome.heard == [("first", None)]
    assert not committer.is_running

    committer.append(KEY, [b"b"], outcome.named("second"))
    await settle()
    assert len(works) == 1
    waiting.pop()()
    assert committer.is_running
    await settle()
    assert outcome.heard[1:] == [("second", None)]
    assert await stored(rig) == [b"a", b"b"]


async def test_where_others_may_append_what_is_due_it_goes_under_a_name_of_its_own(rig):
    works = count_commits(rig)
    outcome = Outcome()
    committer = rig.core.committer
    committer.names_due = True
    committer.append_due(Scheduled(KEY, 7, 1, b"due"), outcome.named("due"))
    committer.append(KEY, [b"a"], outcome.named("first"))
    committer.append(KEY, [b"b"], outcome.named("second"))
    committer.append_due(Scheduled(KEY, 8, 1, b"too"), outcome.named("too"))
    await settle()
    [work] = works
    assert work.appends == [(KEY, [b"a", b"b"]), (KEY, (b"due",)), (KEY, (b"too",))]
    assert work.once == {1: "due-7", 2: "due-8"}
    assert work.scheduled_removals == [(KEY, 7), (KEY, 8)]
    assert outcome.heard == [("due", None), ("first", None), ("second", None), ("too", None)]


async def test_what_comes_during_a_commit_gathers_for_the_next_one(rig):
    works = count_commits(rig)
    outcome = Outcome()
    rig.log.pause()
    rig.core.committer.append(KEY, [b"a"], outcome.named("a"))
    await settle()
    for name in ("b", "c"):
        rig.core.committer.append(KEY, [name.encode()], outcome.named(name))
        await settle()
    assert (len(works), outcome.heard) == (1, [])
    rig.log.resume()
    await settle()
    assert len(works) == 2
    assert [name for name, _ in outcome.heard] == ["a", "b", "c"]


async def test_subscriptions_are_offered_a_message_before_its_publisher_hears(rig):
    subscription = await rig.create()
    reader = rig.read(subscription)
    seen = []
    rig.core.committer.append(KEY, [message(1)], lambda _: seen.append(reader.pull()))
    await settle()
    assert seen == [[1]]


@pytest.mark.parametrize(
    ("failure", "error"),
    [(FULL, LogFull), (BROKEN, Unavailable)],
    ids=["full", "broken"],
)
async def test_a_failed_commit_refuses_its_messages_and_stores_none(rig, failure, error):
    reader = rig.read(await rig.create())
    await rig.core.committer.settled()
    rig.log.fail_next(failure)
    with pytest.raises(error):
        await rig.publish(1, 2)
    assert await stored(rig) == []
    assert reader.pull() == []
    await rig.publish(3)
    assert await stored(rig) == [message(3)]
    assert len(reader.pull()) == 1


async def test_a_bug_in_the_log_refuses_and_does_not_stop_the_service(rig):
    commit = rig.log.commit

    def broken(work):
        rig.log.commit = commit
        raise ZeroDivisionError

    rig.log.commit = broken
    with pytest.raises(Unavailable):
        await rig.publish(1)
    await rig.publish(2)
    assert await stored(rig) == [message(2)]


async def test_a_topic_whose_state_cannot_be_read_refuses_its_messages(rig):
    async def unreadable(key):
        raise LogFailure("the disk gave an error")

    bounds, rig.log.bounds = rig.log.bounds, unreadable
    with pytest.raises(Unavailable):
        await rig.publish(1)
    rig.log.bounds = bounds
    await rig.publish(2)
    assert await stored(rig) == [message(2)]


async def test_a_settlement_of_a_failed_commit_goes_with_the_next_one(rig):
    subscription = await rig.create()
    reader = rig.read(subscription)
    await rig.publish(1, 2, 3)
    reader.pull()
    rig.log.fail_next(FULL)
    outcome = Outcome()
    reader.complete(2)
    reader.abandon(3)
    rig.core.committer.then(outcome.named("done"))
    await settle()
    assert outcome.heard == []
    await rig.clock.advance(RETRY_MS)
    assert outcome.heard == [("done", None)]
    progress = (await rig.log.open()).progress[subscription.spec.id]
    assert progress.is_settled(2)
    assert not progress.is_settled(1)
    assert progress.counts == {3: 1}


async def test_answers_keep_their_order_over_failures(rig):
    subscription = await rig.create()
    outcome = Outcome()
    rig.log.fail_next(BROKEN, times=3)
    for name in range(4):
        rig.core.committer.touch(subscription)
        rig.core.committer.then(outcome.named(name))
        await settle()
    await rig.clock.advance(5 * RETRY_MS)
    assert [name for name, _ in outcome.heard] == [0, 1, 2, 3]


async def test_while_the_log_fails_the_service_says_so_until_a_commit_succeeds(rig):
    committer = rig.core.committer
    rig.log.fail_next(FULL, times=2)
    with pytest.raises(LogFull):
        await rig.publish(1)
    assert committer.failing
    committer.then(lambda _: None)
    await settle()
    assert committer.failing
    with pytest.raises(LogFull):
        await rig.publish(1)
    await rig.publish(1)
    assert not committer.failing


async def test_failures_leave_one_timer_however_many_there_are(rig):
    before = rig.clock.pending()
    rig.log.fail_next(FULL, times=20)
    for _ in range(20):
        with pytest.raises(LogFull):
            await rig.publish(1)
    assert rig.clock.pending() == before + 1


async def test_everything_but_messages_is_kept_over_a_failure(rig):
    subscription = await rig.create()
    await rig.core.committer.settled()
    committer = rig.core.committer
    letter = DeadLetter(5, enqueued_ms=0, payload=b"x", reason="bad")
    committer.bury(subscription, letter)
    await committer.settled()
    rig.log.fail_next(BROKEN)
    committer.bury(subscription, DeadLetter(6, enqueued_ms=0, payload=b"y", reason="bad"))
    committer.count_dead(subscription.spec.id, {5: 3})
    committer.unschedule(KEY, 77)
    await settle()
    committer.unbury(subscription.spec.id, [6])
    await rig.clock.advance(RETRY_MS)
    assert (await rig.log.open()).dead == {subscription.spec.id: {5: 3}}


async def test_a_scheduled_message_of_a_failed_commit_is_refused_and_not_kept(rig):
    outcome = Outcome()
    rig.log.fail_next(FULL)
    rig.core.committer.schedule(Scheduled(KEY, 1, 9, b"x"), outcome.named("x"))
    await settle()
    assert outcome.heard == [("x", FULL)]
    rig.core.committer.schedule(Scheduled(KEY, 2, 9, b"y"), outcome.named("y"))
    await settle()
    assert outcome.heard[1] == ("y", None)
    assert [message.number for message in (await rig.log.open()).scheduled] == [2]


async def test_a_message_that_was_due_in_a_failed_commit_is_still_scheduled(rig):
    outcome = Outcome()
    due = Scheduled(KEY, 1, 9, b"x")
    rig.core.committer.schedule(due, outcome.named("kept"))
    await settle()
    rig.log.fail_next(BROKEN)
    rig.core.committer.append_due(due, outcome.named("due"))
    await settle()
    assert outcome.heard[-1] == ("due", BROKEN)
    await rig.clock.advance(RETRY_MS)
    assert [message.number for message in (await rig.log.open()).scheduled] == [1]
    rig.core.committer.append_due(due, outcome.named("due"))
    await settle()
    assert (await rig.log.open()).scheduled == []
    assert await stored(rig) == [b"x"]


async def test_a_forgotten_subscription_leaves_nothing_behind(rig):
    subscription = await rig.create()
    rig.log.fail_next(BROKEN)
    rig.core.committer.bury(subscription, DeadLetter(5, enqueued_ms=0, payload=b"x", reason="bad"))
    await settle()
    rig.core.committer.forget(subscription.spec.id)
    await rig.clock.advance(RETRY_MS)
    recovered = await rig.log.open()
    assert (recovered.dead, recovered.progress) == ({}, {})


async def test_a_callback_that_breaks_keeps_no_other_from_hearing(rig):
    outcome = Outcome()

    def breaks(_):
        raise ZeroDivisionError

    rig.core.committer.append(KEY, [b"a"], breaks)
    rig.core.committer.append(KEY, [b"b"], outcome.named("b"))
    await settle()
    assert outcome.heard == [("b", None)]


# Batches


async def test_many_messages_become_batches_of_bounded_size(rig):
    committer = rig.core.committer
    for _ in range(BATCH_COUNT + 10):
        committer.append(KEY, [b"x"], lambda _: None)
    await settle()
    batches = await rig.log.read(KEY, 1, bytes_max=1 << 30)
    assert [batch.count for batch in batches] == [BATCH_COUNT, 10]


async def test_large_messages_become_batches_of_bounded_size(rig):
    committer = rig.core.committer
    for _ in range(5):
        committer.append(KEY, [bytes(BATCH_BYTES // 2)], lambda _: None)
    await settle()
    batches = await rig.log.read(KEY, 1, bytes_max=1 << 30)
    assert [batch.count for batch in batches] == [2, 2, 1]


async def test_messages_handed_in_together_stay_in_one_batch(rig):
    rig.core.committer.append(KEY, [b"x"], lambda _: None)
    rig.core.committer.append(KEY, [b"y"] * (BATCH_COUNT + 1), lambda _: None)
    await settle()
    batches = await rig.log.read(KEY, 1, bytes_max=1 << 30)
    assert [batch.count for batch in batches] == [1, BATCH_COUNT + 1]


async def test_handing_in_no_message_is_answered_and_stores_nothing(rig):
    await rig.core.publishing.publish(KEY, [], via="test")
    assert await stored(rig) == []


async def test_the_enqueued_time_never_goes_back(rig):
    await rig.publish(1)
    rig.clock.jump_wall(-60_000)
    await rig.publish(2)
    first, second = await rig.log.read(KEY, 1, bytes_max=1 << 30)
    assert first.enqueued_ms == second.enqueued_ms


# Holds


async def test_a_callback_waits_for_the_holds_that_were_there_before_it(rig):
    committer, outcome = rig.core.committer, Outcome()
    committer.then(outcome.named("before"))
    first = committer.hold()
    committer.then(outcome.named("first"))
    second = committer.hold()
    committer.then(outcome.named("second"))
    await settle()
    assert [name for name, _ in outcome.heard] == ["before"]
    second()
    await settle()
    assert [name for name, _ in outcome.heard] == ["before"]
    third = committer.hold()
    committer.then(outcome.named("third"))
    first()
    await settle()
    assert [name for name, _ in outcome.heard] == ["before", "first", "second"]
    third()
    await settle()
    assert outcome.heard[-1] == ("third", None)
    committer.then(outcome.named("after"))
    await settle()
    assert outcome.heard[-1] == ("after", None)


# Closing


async def test_closing_commits_what_is_there_and_refuses_what_comes_later(start):
    rig = await start()
    outcome = Outcome()
    rig.core.committer.append(KEY, [b"a"], outcome.named("a"))
    await rig.core.committer.close()
    rig.core.committer.append(KEY, [b"b"], outcome.named("b"))
    rig.core.committer.schedule(Scheduled(KEY, 1, 9, b"x"), outcome.named("x"))
    assert outcome.heard[0] == ("a", None)
    assert [isinstance(failure, LogFailure) for _, failure in outcome.heard[1:]] == [True, True]
    assert await stored(rig) == [b"a"]


async def test_a_message_due_after_the_close_stays_scheduled(start):
    rig = await start()
    due = Scheduled(KEY, 1, 9, b"x")
    rig.core.committer.schedule(due, lambda _: None)
    await rig.core.committer.settled()
    await rig.core.committer.close()
    outcome = Outcome()
    rig.core.committer.append_due(due, outcome.named("due"))
    assert isinstance(outcome.heard[0][1], LogFailure)
    await rig.core.committer.close()
    assert [message.number for message in (await rig.log.open()).scheduled] == [1]


async def test_a_failing_last_commit_is_told_to_all_who_wait(start):
    rig = await start()
    subscription = await rig.create()
    await rig.core.committer.settled()
    rig.log.fail_next(FULL, times=9)
    outcome = Outcome()
    rig.core.committer.touch(subscription)
    rig.core.committer.then(outcome.named("then"))
    rig.core.committer.hold()
    rig.core.committer.then(outcome.named("held"))
    with pytest.raises(LogFailure):
        await rig.core.committer.close()
    assert [name for name, failure in outcome.heard if failure] == ["then", "held"]
    rig.log._failures.clear()


async def test_closing_waits_for_the_commit_under_way(start):
    rig = await start()
    outcome = Outcome()
    rig.core.committer.append(KEY, [b"a"], outcome.named("a"))
    await settle()
    rig.core.committer.append(TopicKey(TenantId("x"), Topic.EVENTS), [b"b"], outcome.named("b"))
    await rig.core.committer.close()
    assert outcome.heard == [("a", None), ("b", None)]
