"""Creating, showing and ending subscriptions and publishers, and bringing them back."""

import asyncio

import pytest

from hotpath.auth.rights import Principal
from hotpath.model.errors import Invalid, LimitReached, NotFound, Unavailable
from hotpath.model.names import SUBSCRIBABLE, TenantId, Topic, TopicKey
from hotpath.ports import LogFailure
from hotpath.service import records
from tests.support.clock import settle
from tests.unit.service.rig import KEY, PRINCIPAL, TENANT, Rig, message

MINUTE_MS = 60_000
OTHER = Principal(TenantId("globex"), "x", frozenset({"hotpath.subscribe"}))
NARROW = Principal(TENANT, "n", frozenset(), condition="value > 100")
FAILURE = LogFailure("the disk gave an error")


def list_all(rig: Rig, principal: Principal = PRINCIPAL, **options):
    wanted = {"after": None, "limit": 100, "topics": frozenset(SUBSCRIBABLE), **options}
    return rig.core.admin.list_own(principal, **wanted)


async def test_a_created_subscription_survives_a_crash_at_once(rig):
    subscription = await rig.create("value > 1")
    await rig.crash()
    again = rig.again(subscription)
    assert again.spec == subscription.spec
    reader = rig.read(again)
    await rig.publish(1, 2)
    assert reader.pull() == [2]


async def test_a_subscription_that_cannot_be_stored_does_not_exist(rig):
    rig.store.fail_next(FAILURE)
    with pytest.raises(Unavailable):
        await rig.create()
    assert list_all(rig) == ([], None)
    assert rig.core.topics.get(KEY).subscriptions == {}
    await rig.crash()
    assert list_all(rig) == ([], None)


async def test_a_creation_that_was_given_up_leaves_nothing_behind(rig):
    creating = asyncio.ensure_future(rig.create())
    while not rig.core.topics.subscriptions:
        await settle(1)
    creating.cancel()
    await settle()
    assert list_all(rig) == ([], None)


async def test_a_log_that_cannot_be_read_is_told(rig):
    async def unreadable(*_):
        raise FAILURE

    rig.log.seek = unreadable
    with pytest.raises(Unavailable):
        await rig.create(start_from_ms=5)


async def test_a_tenant_has_only_so_many_subscriptions(start):
    rig = await start(subscriptions_per_tenant_max=2)
    await rig.create()
    results = await asyncio.gather(rig.create(), rig.create(), return_exceptions=True)
    assert [type(result) for result in results if isinstance(result, Exception)] == [LimitReached]
    await rig.create(principal=OTHER)


async def test_a_condition_narrows_the_filter_whatever_its_text(rig):
    subscription = await rig.create("value > 1 OR value < 1", principal=NARROW)
    reader = rig.read(subscription)
    await rig.publish(5, 500)
    assert reader.pull() == [2]
    await rig.crash()
    again = rig.read(rig.again(subscription))
    await rig.publish(5, 500)
    assert await again.read_all() == [2, 4]


async def test_a_condition_that_does_not_fit_the_topic_is_told(rig):
    odd = Principal(TENANT, "n", frozenset(), condition="nonsense === 1")
    with pytest.raises(Invalid):
        await rig.create(principal=odd)


async def test_nobody_sees_what_is_not_his(rig):
    subscription = await rig.create()
    admin, identity = rig.core.admin, subscription.spec.id
    for principal, topic in ((OTHER, Topic.VARIABLES), (NARROW, Topic.VARIABLES)):
        with pytest.raises(NotFound):
            admin.get(principal, topic, identity)
        with pytest.raises(NotFound):
            await admin.delete(principal, topic, identity)
        assert list_all(rig, principal) == ([], None)
    with pytest.raises(NotFound):
        admin.get(PRINCIPAL, Topic.ALARMS, identity)
    assert admin.get(PRINCIPAL, Topic.VARIABLES, identity) == subscription.spec


async def test_pages_go_through_all_of_them_oldest_first(rig):
    made = []
    for _ in range(5):
        made.append((await rig.create()).spec)
        rig.clock._move_to(rig.clock.ticks_ms() + 1)
    first, mark = list_all(rig, limit=2)
    second, mark = list_all(rig, limit=2, after=mark)
    third, end = list_all(rig, limit=2, after=mark)
    assert first + second + third == made
    assert end is None


@pytest.mark.parametrize("mark", ["", "x", ".", "12", "1e3.a", "9" * 19 + ".a", "-1.a"])
async def test_a_mark_that_was_never_given_is_refused(rig, mark):
    with pytest.raises(Invalid):
        list_all(rig, after=mark)


async def test_deleting_ends_it_for_good(rig):
    subscription = await rig.create()
    await rig.publish(1)
    await rig.core.admin.delete(PRINCIPAL, Topic.VARIABLES, subscription.spec.id)
    with pytest.raises(NotFound):
        rig.figures(subscription)
    await rig.publish(2)
    await rig.core.committer.settled()
    assert (await rig.log.open()).progress == {}
    await rig.crash()
    assert list_all(rig) == ([], None)


async def test_a_deletion_that_fails_changes_nothing(rig):
    subscription = await rig.create()
    rig.store.fail_next(FAILURE)
    with pytest.raises(Unavailable):
        await rig.core.admin.delete(PRINCIPAL, Topic.VARIABLES, subscription.spec.id)
    reader = rig.read(subscription)
    await rig.publish(1)
    assert reader.pull() == [1]


async def test_deleting_twice_at_once_ends_it_once(rig):
    subscription = await rig.create()
    reader = rig.read(subscription)
    await asyncio.gather(*(rig.core.admin.end(subscription, cause="deleted") for _ in range(2)))
    assert reader.closed == 1
    with pytest.raises(NotFound):
        await rig.core.admin.end(subscription, cause="deleted")


async def test_progress_of_a_subscription_that_the_store_does_not_know_is_dropped(rig):
    subscription = await rig.create()
    await rig.core.committer.settled()
    await rig.store.delete(records.SUBSCRIPTIONS, [subscription.spec.id])
    await rig.crash()
    await rig.core.committer.settled()
    assert (await rig.log.open()).progress == {}


@pytest.mark.parametrize(
    "change",
    [{"topic": "nonsense"}, {"filter": "value >"}, {"ttl_ms": None}, {"condition": "?"}],
    ids=lambda change: next(iter(change)),
)
async def test_a_definition_that_cannot_be_read_is_passed_over_and_its_progress_kept(rig, change):
    broken, good = await rig.create(), await rig.create()
    await rig.core.committer.settled()
    record = {**records.subscription_record(broken.spec), **change}
    await rig.store.put(records.SUBSCRIPTIONS, broken.spec.id, record)
    await rig.crash()
    assert list_all(rig)[0] == [good.spec]
    await rig.core.committer.settled()
    assert broken.spec.id in (await rig.log.open()).progress


# Reaping


async def test_an_idle_subscription_is_reaped_and_a_busy_one_is_not(rig):
    idle = await rig.create("value > 5", ttl_minutes=5)
    busy = await rig.create("value <= 5", ttl_minutes=5)
    attached = await rig.create("value > 5", ttl_minutes=5)
    rig.read(attached)
    await rig.clock.advance(4 * MINUTE_MS)
    await rig.publish(1)
    assert await rig.core.admin.reap() == 0
    assert rig.core.admin.next_expiry_ms() == rig.clock.now_ms() + MINUTE_MS
    await rig.clock.advance(MINUTE_MS)
    assert await rig.core.admin.reap() == 1
    assert idle.deleted
    assert not busy.deleted
    assert not attached.deleted
    assert await rig.core.admin.end_if_idle(idle)


async def test_reaping_takes_the_dead_letters_along(rig):
    subscription = await rig.create(ttl_minutes=5)
    reader = rig.read(subscription)
    await rig.publish(1)
    reader.pull()
    reader.dead_letter(1)
    reader.detach()
    await rig.clock.advance(5 * MINUTE_MS)
    assert await rig.core.admin.reap() == 1
    await rig.core.committer.settled()
    assert (await rig.log.open()).dead == {}


async def test_who_attaches_while_his_subscription_is_reaped_is_told(rig):
    subscription = await rig.create(ttl_minutes=5)
    await rig.clock.advance(5 * MINUTE_MS)
    reaping = asyncio.ensure_future(rig.core.admin.end_if_idle(subscription))
    await settle(1)
    reader = rig.read(subscription)
    assert await reaping
    assert reader.closed == 1


async def test_after_a_crash_nothing_is_reaped_before_its_last_match_is_known(rig):
    subscription = await rig.create(ttl_minutes=5)
    await rig.clock.advance(5 * MINUTE_MS - 1)
    await rig.publish(1)
    # The commit with the message is durable; the one with its mark is not.
    rig.log._kept.progress[subscription.spec.id].active_ms = 0
    await rig.abandon()
    rig.log.pause_reads()
    await rig.crash()
    await rig.clock.advance(4 * MINUTE_MS)
    reaping = asyncio.ensure_future(rig.core.admin.reap())
    await settle()
    await rig.clock.advance(2_000)
    assert await reaping == 0
    rig.log.resume_reads()
    await settle()
    assert await rig.core.admin.reap() == 0
    await rig.clock.advance(2 * MINUTE_MS)
    assert await rig.core.admin.reap() == 1


# Publishers


async def test_a_publisher_survives_a_crash_until_some_while_after_its_end(rig):
    spec = await rig.core.publishers.open(PRINCIPAL, Topic.EVENTS, ttl_minutes=5)
    await rig.crash()
    assert rig.core.publishers.get(spec.id) == spec
    await rig.clock.advance(6 * MINUTE_MS + 1)
    await rig.core.publishers.open(PRINCIPAL, Topic.EVENTS, ttl_minutes=5)
    assert rig.core.publishers.get(spec.id) is None
    await rig.crash()
    assert rig.core.publishers.get(spec.id) is None


async def test_a_tenant_has_only_so_many_publishers(start):
    rig = await start(publishers_per_tenant_max=1)
    await rig.core.publishers.open(PRINCIPAL, Topic.EVENTS, ttl_minutes=5)
    with pytest.raises(LimitReached):
        await rig.core.publishers.open(PRINCIPAL, Topic.EVENTS, ttl_minutes=5)
    await rig.core.publishers.open(OTHER, Topic.EVENTS, ttl_minutes=5)
    await rig.clock.advance(6 * MINUTE_MS + 1)
    await rig.core.publishers.open(PRINCIPAL, Topic.EVENTS, ttl_minutes=5)


async def test_a_publisher_that_cannot_be_stored_does_not_exist(start):
    rig = await start(publishers_per_tenant_max=1)
    rig.store.fail_next(FAILURE)
    with pytest.raises(Unavailable):
        await rig.core.publishers.open(PRINCIPAL, Topic.EVENTS, ttl_minutes=5)
    await rig.core.publishers.open(PRINCIPAL, Topic.EVENTS, ttl_minutes=5)


async def test_old_publishers_that_cannot_be_dropped_stand_in_nobodys_way(rig):
    old = await rig.core.publishers.open(PRINCIPAL, Topic.EVENTS, ttl_minutes=5)
    await rig.clock.advance(7 * MINUTE_MS)
    rig.store.fail_next(FAILURE)
    await rig.core.publishers.open(PRINCIPAL, Topic.EVENTS, ttl_minutes=5)
    assert rig.core.publishers.get(old.id) == old


async def test_a_publisher_record_that_cannot_be_read_is_passed_over(rig):
    await rig.store.put(records.PUBLISHERS, "p", {"id": "p", "topic": "nonsense"})
    await rig.crash()
    assert rig.core.publishers.get("p") is None


# Creation and commits under way


async def test_a_first_message_under_way_is_offered_once_to_a_subscription_from_the_past(rig):
    """The log numbers at the handing in: its bounds are ahead of what has been routed."""
    rig.log.pause()
    rig.core.publishing.submit(KEY, [message(1)], lambda _: None, via="test")
    await settle()
    subscription = await rig.create(start_from_ms=0)
    reader = rig.read(subscription)
    assert reader.pull() == []
    await settle()
    rig.log.resume()
    assert await reader.read_all() == [1]
    assert reader.complete(1) == []
    assert await reader.read_all() == []
    assert subscription.cursor(2) == 2


async def test_a_message_that_is_durable_and_not_routed_yet_reaches_a_new_subscription_once(rig):
    await rig.publish(0)
    routed = []
    offer, rig.core.committer.on_batches = rig.core.committer.on_batches, routed.append
    await rig.publish(1)
    subscription = await rig.create(start_from_ms=0)
    reader = rig.read(subscription)
    seqs = await reader.read_all()
    rig.core.committer.on_batches = offer
    offer(routed[0])
    seqs += await reader.read_all()
    assert seqs == [1, 2]


async def test_a_start_ahead_of_the_routing_loses_nothing_over_a_crash(rig):
    await rig.publish(0)
    routed = []
    offer, rig.core.committer.on_batches = rig.core.committer.on_batches, routed.append
    await rig.publish(1)
    subscription = await rig.create(start_from_ms=rig.clock.now_ms() + 1)
    offer(routed[0])
    assert rig.read(subscription).pull() == [2]
    await rig.crash()
    assert await rig.read(rig.again(subscription)).read_all() == [2]


async def test_topics_of_two_tenants_share_nothing(rig):
    mine, yours = await rig.create(), await rig.create(principal=OTHER)
    mine_reader, your_reader = rig.read(mine), rig.read(yours)
    await rig.publish(1, key=TopicKey(OTHER.tenant, Topic.VARIABLES))
    assert (mine_reader.pull(), your_reader.pull()) == ([], [1])
