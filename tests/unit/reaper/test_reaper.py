"""The reaper, with time in the test's hands."""

import gc

import pytest

import qel
from hotpath.assembly import Core
from hotpath.auth.rights import Principal
from hotpath.config import Settings
from hotpath.core.subscription import Subscription
from hotpath.model.names import TenantId, Topic
from hotpath.ports import LogFailure
from hotpath.reaper import RETRY_MS, STALE_MIN, Reaper
from hotpath.service.admin import NewSubscription
from hotpath.storage.memory import MemoryLog, MemoryStore
from tests.support.clock import ManualClock, settle

CALLER = Principal(TenantId("acme"), "ann", frozenset())
MINUTE_MS = 60_000


class Plant:
    """A service with a reaper."""

    def __init__(self, tmp_path) -> None:
        self.clock = ManualClock()
        self.store = MemoryStore()
        self.core = Core(
            Settings(data_dir=tmp_path), log=MemoryLog(), store=self.store, clock=self.clock
        )

    async def create(self, minutes: float = 10) -> Subscription:
        wanted = NewSubscription(
            Topic.VARIABLES,
            qel.compile_filter("value > 1", "variables"),
            "value > 1",
            ttl_minutes=minutes,
            sas_ttl_minutes=5,
        )
        spec = await self.core.admin.create(CALLER, wanted)
        subscription = self.core.admin.find(Topic.VARIABLES, spec.id)
        assert subscription is not None
        return subscription

    def touch(self, subscription: Subscription) -> None:
        self.core.liveness.touch(subscription, now_ms=self.clock.ticks_ms())


@pytest.fixture
async def plant(tmp_path):
    one = Plant(tmp_path)
    await one.core.open()
    one.reaper = Reaper(one.core.admin, one.core.liveness, one.clock)
    one.reaper.start()
    yield one
    await one.reaper.stop()
    await one.core.close()


async def test_idle_subscription_ends_at_its_time_and_not_before(plant) -> None:
    subscription = await plant.create(10)

    await plant.clock.advance(10 * MINUTE_MS - 1)
    assert not subscription.deleted
    await plant.clock.advance(1)

    assert subscription.deleted
    assert await plant.store.load("subscriptions") == []


async def test_activity_gives_a_whole_idle_time_more(plant) -> None:
    subscription = await plant.create(10)
    await plant.clock.advance(6 * MINUTE_MS)
    plant.touch(subscription)

    await plant.clock.advance(10 * MINUTE_MS - 1)
    assert not subscription.deleted
    await plant.clock.advance(1)

    assert subscription.deleted


async def test_activity_does_not_touch_the_heap(plant) -> None:
    subscription = await plant.create(10)
    await settle()
    before = (plant.reaper.next_ticks_ms(), plant.clock.pending())

    for _ in range(100):
        plant.touch(subscription)

    assert (plant.reaper.next_ticks_ms(), plant.clock.pending()) == before


async def test_attached_client_keeps_a_subscription_for_ever(plant) -> None:
    subscription = await plant.create(10)
    receiver = plant.core.delivering.attach(
        subscription, dead=False, lock=True, wake=lambda: None, closed=lambda: None
    )

    await plant.clock.advance(100 * MINUTE_MS)
    assert not subscription.deleted
    plant.core.delivering.detach(receiver)
    await plant.clock.advance(10 * MINUTE_MS - 1)
    assert not subscription.deleted
    await plant.clock.advance(1)

    assert subscription.deleted


async def test_shorter_one_that_comes_later_ends_first(plant) -> None:
    long = await plant.create(60)
    await settle()
    short = await plant.create(7)

    await plant.clock.advance(7 * MINUTE_MS)

    assert short.deleted
    assert not long.deleted


async def test_subscriptions_from_before_the_start_are_watched(plant) -> None:
    await plant.reaper.stop()
    subscription = await plant.create(10)
    plant.reaper = Reaper(plant.core.admin, plant.core.liveness, plant.clock)
    plant.reaper.start()
    await settle()

    await plant.clock.advance(10 * MINUTE_MS)

    assert subscription.deleted


async def test_failed_deletion_is_tried_again_and_others_are_not_kept_waiting(plant) -> None:
    first, second = await plant.create(10), await plant.create(10)
    plant.store.fail_next(LogFailure("disk"))

    await plant.clock.advance(10 * MINUTE_MS)
    assert [first.deleted, second.deleted] == [False, True]
    await plant.clock.advance(RETRY_MS)

    assert first.deleted


async def test_deletion_by_hand_is_passed_over(plant) -> None:
    first, second = await plant.create(10), await plant.create(10)
    await plant.core.admin.delete(CALLER, Topic.VARIABLES, first.spec.id)

    await plant.clock.advance(10 * MINUTE_MS)

    assert second.deleted


async def test_wall_clock_that_jumps_ends_nothing_early(plant) -> None:
    subscription = await plant.create(10)

    plant.clock.jump_wall(100 * 24 * 60 * MINUTE_MS)
    await plant.clock.advance(10 * MINUTE_MS - 1)

    assert not subscription.deleted


async def test_stopped_reaper_ends_nothing_and_leaves_no_timer(plant) -> None:
    subscription = await plant.create(10)
    await settle()
    await plant.reaper.stop()

    await plant.clock.advance(20 * MINUTE_MS)

    assert not subscription.deleted


async def test_many_short_lived_subscriptions_fill_no_memory(plant) -> None:
    for _ in range(STALE_MIN * 2):
        subscription = await plant.create(43_200)
        await plant.core.admin.delete(CALLER, Topic.VARIABLES, subscription.spec.id)

    assert len(plant.reaper._heap) <= STALE_MIN + 1


def subscriptions_in_memory() -> int:
    return sum(type(each) is Subscription for each in gc.get_objects())


async def test_a_deleted_subscription_does_not_stay_in_memory_until_its_time(plant) -> None:
    gc.collect()
    before = subscriptions_in_memory()
    identities = [(await plant.create(43_200)).spec.id for _ in range(5)]
    assert subscriptions_in_memory() == before + 5

    # No cycle either: what is in one may be hidden from the collector.
    gc.disable()
    try:
        for identity in identities:
            await plant.core.admin.delete(CALLER, Topic.VARIABLES, identity)
        await settle()

        assert subscriptions_in_memory() == before
    finally:
        gc.enable()
