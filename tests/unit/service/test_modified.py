"""Properties given by receivers are progress: they are there after a restart, and go with it."""

import pytest

from hotpath.wire.types import decode
from tests.unit.service.rig import Rig


@pytest.fixture
async def rig():
    made = await Rig().start()
    yield made
    await made.stop()


def given(subscription) -> dict[int, object]:
    return {seq: decode(raw)[0] for seq, raw in subscription.locks.modified.items()}


def modify(reader, seq: int, **properties: object) -> None:
    feed = reader.receiver.feed
    reader.core.settling.modify(feed, [reader.held(seq)], properties)


@pytest.mark.parametrize("checkpoint", [False, True], ids=["journal", "snapshot"])
@pytest.mark.parametrize("outcome", ["abandon", "defer"])
async def test_what_was_given_survives_a_crash(rig, outcome, checkpoint):
    subscription = await rig.create()
    await rig.publish(1, 2, 3)
    reader = rig.read(subscription)
    await reader.read_all()
    modify(reader, 2, tries=1)
    getattr(reader, outcome)(2)
    rig.core.committer.beat(checkpoint=checkpoint)
    await rig.core.committer.settled()

    await rig.crash()

    subscription = rig.again(subscription)
    assert given(subscription) == {2: {"tries": 1}}
    reader = rig.read(subscription)
    assert await reader.read_all() == ([1, 2, 3] if outcome == "abandon" else [1, 3])
    found = [part.modified for part in reader.given if 2 in part.seqs and part.modified]
    assert [list(each) for each in found] == ([[2]] if outcome == "abandon" else [])


async def test_what_was_settled_is_not_given_anything_after_a_crash(rig):
    subscription = await rig.create()
    await rig.publish(1, 2)
    reader = rig.read(subscription)
    await reader.read_all()
    modify(reader, 2, tries=1)
    reader.abandon(2)
    await reader.read_all()
    reader.complete(2)
    await rig.core.committer.settled()

    await rig.crash()

    assert given(rig.again(subscription)) == {}


async def test_a_lost_lock_gives_nothing(rig):
    subscription = await rig.create()
    await rig.publish(1)
    reader = rig.read(subscription)
    await reader.read_all()
    reader.complete(1)

    modify(reader, 1, tries=1)

    assert given(subscription) == {}


async def test_a_message_that_is_taken_for_good_takes_it_along(rig):
    subscription = await rig.create()
    await rig.publish(1)
    reader = rig.read(subscription)
    await reader.read_all()
    modify(reader, 1, tries=1)
    reader.abandon(1)
    reader.detach()

    deleting = rig.read(subscription, lock=False)
    assert await deleting.read_all() == [1]

    assert [list(part.modified) for part in deleting.given] == [[1]]
    assert subscription.locks.modified_bytes == 0
