"""Looking at a topic's log: bounded, in order, over gaps, and without touching anything."""

import pytest

from hotpath.model.errors import Unavailable
from hotpath.model.names import TopicKey
from hotpath.ports import LogFailure
from hotpath.service import look
from hotpath.service.look import all_pass, matching
from tests.unit.service.rig import KEY, TENANT, Rig


def seqs(found) -> list[int]:
    return [seen.seq for seen in found.messages]


async def test_an_unused_topic_has_nothing(rig) -> None:
    figures = await rig.core.looking.figures(KEY)
    found = await rig.core.looking.latest(KEY, 10, passes=all_pass)

    assert figures == (1, 1, 0, 0.0, None)
    assert (seqs(found), found.looked, found.upto) == ([], 0, 0)


async def test_figures_tell_the_rate_of_the_last_ten_seconds(rig) -> None:
    await rig.publish(*range(50))
    await rig.clock.advance(11_000)
    await rig.publish(*range(30))
    await rig.clock.advance(4_000)

    figures = await rig.core.looking.figures(KEY)

    assert (figures.first_seq, figures.next_seq) == (1, 81)
    assert figures.per_second == 3.0
    assert figures.last_ms == rig.clock.now_ms() - 4_000


async def test_the_latest_come_in_order_from_many_batches(rig) -> None:
    for value in range(20):
        await rig.publish(value)

    found = await rig.core.looking.latest(KEY, 5, passes=all_pass)

    assert (seqs(found), found.looked, found.upto) == ([16, 17, 18, 19, 20], 5, 20)


async def test_the_latest_that_pass_are_looked_for_further_back(rig) -> None:
    await rig.publish(*range(100))
    subscription = await rig.create("value < 3", start_from_ms=0)

    found = await rig.core.looking.latest(KEY, 5, passes=matching(subscription))

    assert (seqs(found), found.looked) == ([1, 2, 3], 100)


async def test_nothing_below_the_floor_is_found(rig) -> None:
    await rig.publish(*range(10))

    found = await rig.core.looking.latest(KEY, 100, passes=all_pass, from_seq=8)

    assert seqs(found) == [8, 9, 10]


@pytest.mark.parametrize("in_memory", [True, False], ids=["in memory", "from the log"])
async def test_numbers_that_were_never_written_are_stepped_over(rig, in_memory: bool) -> None:
    await rig.publish(1, 2, 3)
    rig.log.fail_next(LogFailure("broken"))
    with pytest.raises(Unavailable):
        await rig.publish(*range(100, 150))
    await rig.publish(4)
    if not in_memory:
        await rig.crash()

    backwards = await rig.core.looking.latest(KEY, 10, passes=all_pass)
    forwards = await rig.core.looking.following(KEY, 10, passes=all_pass, after=0)

    assert seqs(backwards) == seqs(forwards) == [1, 2, 3, 54]
    assert await rig.core.looking.one(KEY, 20) is None


async def test_what_follows_goes_on_where_the_last_look_ended(rig) -> None:
    await rig.publish(*range(10))
    looking = rig.core.looking

    first = await looking.following(KEY, 4, passes=all_pass, after=0)
    rest = await looking.following(KEY, 100, passes=all_pass, after=first.upto)
    none = await looking.following(KEY, 100, passes=all_pass, after=rest.upto)
    await rig.publish(10)
    new = await looking.following(KEY, 100, passes=all_pass, after=none.upto)

    assert [seqs(each) for each in (first, rest, none, new)] == [
        [1, 2, 3, 4],
        [5, 6, 7, 8, 9, 10],
        [],
        [11],
    ]


async def test_a_cursor_of_another_life_of_the_log_comes_back(rig) -> None:
    await rig.publish(1)

    found = await rig.core.looking.following(KEY, 10, passes=all_pass, after=10**12)

    assert (seqs(found), found.upto) == ([], 1)


async def test_a_look_ends_at_its_bounds_and_says_how_far_it_came(rig, monkeypatch) -> None:
    monkeypatch.setattr(look, "SCAN_MAX", 25)
    await rig.publish(*range(60))

    forwards = await rig.core.looking.following(KEY, 10, passes=lambda _: False, after=0)
    backwards = await rig.core.looking.latest(KEY, 10, passes=lambda _: False)

    assert (forwards.looked, forwards.upto) == (25, 25)
    assert backwards.looked == 25


async def test_large_messages_end_a_look_too(rig, monkeypatch) -> None:
    monkeypatch.setattr(look, "FOUND_BYTES", 5_000)
    await rig.publish(*range(10), text="x" * 2_000)

    found = await rig.core.looking.latest(KEY, 10, passes=all_pass)

    assert seqs(found) == [8, 9, 10]


async def test_tenants_do_not_see_each_other(rig) -> None:
    await rig.publish(1)
    other = TopicKey("rival", KEY.topic)

    found = await rig.core.looking.latest(other, 10, passes=all_pass)

    assert seqs(found) == []
    assert other.tenant != TENANT


async def test_a_log_that_cannot_be_read_is_said(rig, monkeypatch) -> None:
    await rig.publish(1)
    rig.core.topics.tail._batches.clear()
    rig.core.topics.tail._firsts.clear()

    async def fail(*_args, **_options):
        raise LogFailure("the disk is gone")

    monkeypatch.setattr(rig.log, "read", fail)

    with pytest.raises(Unavailable):
        await rig.core.looking.latest(KEY, 10, passes=all_pass)


async def test_looking_changes_no_subscription(rig: Rig) -> None:
    subscription = await rig.create()
    await rig.publish(*range(5))
    before = rig.figures(subscription)

    await rig.core.looking.latest(KEY, 10, passes=matching(subscription))

    assert rig.figures(subscription) == before
    assert rig.read(subscription).pull() == [1, 2, 3, 4, 5]
