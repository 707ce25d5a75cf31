"""Topics that follow a log: opened once, routed once, and known to have reached a number."""

import asyncio

import pytest

from hotpath.cluster.service import topics as module
from hotpath.cluster.service.topics import FollowedTopics
from hotpath.model.message import Batch
from hotpath.model.names import TenantId, Topic, TopicKey
from hotpath.ports import Bounds, LogFailure

KEY = TopicKey(TenantId("acme"), Topic.VARIABLES)


class FakeLog:
    """A log that a test makes longer, with room between batches."""

    def __init__(self):
        self.ends = Bounds(1, 1)
        self.followers = []
        self.refuses = False

    async def bounds(self, key):
        await asyncio.sleep(0)
        return self.ends

    async def follow(self, key, from_seq, deliver, *, passed=None):
        if self.refuses:
            raise LogFailure("not now")
        follower = (deliver, passed)
        self.followers.append(follower)

        async def stop():
            self.followers.remove(follower)

        return stop

    def grow(self, first_seq, next_seq, payloads=(b"x",)):
        self.ends = Bounds(1, next_seq)
        for deliver, passed in self.followers:
            if payloads:
                deliver(Batch(KEY, first_seq, enqueued_ms=0, payloads=list(payloads)))
            passed(next_seq)


@pytest.fixture
async def world():
    log = FakeLog()
    topics = FollowedTopics(log, tail_bytes_max=1_000)
    heard = []
    topics.on_batches = heard.extend
    yield log, topics, heard
    await topics.close()


async def test_a_topic_is_followed_once_however_many_open_it_at_the_same_time(world):
    log, topics, heard = world
    opened = await asyncio.gather(*(topics.open(KEY) for _ in range(5)))
    log.grow(100, 200)

    assert len(set(map(id, opened))) == 1
    assert len(log.followers) == 1
    assert [batch.first_seq for batch in heard] == [100]


async def test_what_nobody_has_subscribed_to_is_not_followed_for_being_published_to(world):
    log, topics, _ = world
    await topics.prepare(KEY)
    assert (log.followers, topics.get(KEY)) == ([], None)


async def test_a_topic_that_could_not_be_followed_is_tried_again(world):
    log, topics, _ = world
    log.refuses = True
    with pytest.raises(LogFailure):
        await topics.open(KEY)
    assert topics.get(KEY) is None

    log.refuses = False
    assert (await topics.open(KEY)) is topics.get(KEY)


@pytest.mark.parametrize("payloads", [(b"x",), ()], ids=["a batch", "one that was left out"])
async def test_who_waits_for_a_number_goes_on_when_all_below_has_been_routed(world, payloads):
    log, topics, _ = world
    await topics.open(KEY)
    log.ends = Bounds(1, 200)
    waiting = asyncio.ensure_future(topics.reach(KEY, 200))
    await asyncio.sleep(0)
    for _, passed in log.followers:
        passed(100)
    await asyncio.sleep(0.001)
    assert not waiting.done()

    log.grow(100, 200, payloads)

    assert (await asyncio.wait_for(waiting, 5)).routed_to == 200


async def test_a_log_that_is_longer_than_what_comes_is_no_topic_to_rely_on(world, monkeypatch):
    log, topics, _ = world
    monkeypatch.setattr(module, "REACH_S", 0.01)
    await topics.open(KEY)
    log.ends = Bounds(1, 500)
    with pytest.raises(LogFailure, match="up to its end"):
        await topics.catch_up(KEY)


async def test_a_log_that_has_lost_its_end_is_waited_for_up_to_that(world):
    log, topics, _ = world
    await topics.open(KEY)
    log.grow(100, 200)
    assert (await asyncio.wait_for(topics.reach(KEY, 900), 5)).routed_to == 200


async def test_where_a_log_begins_is_learned_anew(world):
    log, topics, _ = world
    await topics.open(KEY)
    assert await topics.refresh() == {}
    log.ends = Bounds(40, 50)
    assert await topics.refresh() == {KEY: 40}
