"""Looking at a log whose numbers leave gaps between batches, as one that several nodes share."""

import pytest

from hotpath.model.message import Batch
from hotpath.model.names import TenantId, Topic, TopicKey
from hotpath.ports import Bounds
from hotpath.service import look
from hotpath.service.look import Looking, all_pass
from hotpath.service.topics import Topics
from tests.support.clock import ManualClock

KEY = TopicKey(TenantId("acme"), Topic.VARIABLES)
GAP = 4_096


class GappyLog:
    """Each batch begins at a multiple of GAP; a second passes from one to the next."""

    def __init__(self, sizes, *, payload=b"x", start_ms=0):
        self.reads = 0
        self.batches = [
            Batch(
                KEY, number * GAP, enqueued_ms=start_ms + number * 1_000, payloads=[payload] * size
            )
            for number, size in enumerate(sizes, start=1)
        ]

    async def bounds(self, _):
        return Bounds(GAP, (len(self.batches) + 1) * GAP) if self.batches else Bounds(1, 1)

    async def read(self, _, from_seq, *, bytes_max):
        self.reads += 1
        found, size = [], 0
        for batch in self.batches:
            if batch.end_seq > from_seq and not (found and size >= bytes_max):
                found.append(batch)
                size += batch.byte_size
        return found

    async def seek(self, key, enqueued_ms):
        later = (each.first_seq for each in self.batches if each.enqueued_ms >= enqueued_ms)
        return next(later, (await self.bounds(key)).next_seq)


def looking_at(log, clock=None):
    return Looking(
        log=log, topics=Topics(log, tail_bytes_max=0), clock=clock or ManualClock(), shared=True
    )


def seqs(found):
    return [seen.seq for seen in found.messages]


def all_seqs(log):
    return [seq for batch in log.batches for seq in range(batch.first_seq, batch.end_seq)]


@pytest.mark.parametrize("count", [1, 2, 5, 40, 1_000])
@pytest.mark.parametrize("sizes", [[1] * 60, [3] * 30, [1, 200, 1, 1, 60], [100]], ids=str)
async def test_the_latest_are_found_over_every_gap(sizes, count):
    log = GappyLog(sizes)

    found = await looking_at(log).latest(KEY, count, passes=all_pass)

    assert seqs(found) == all_seqs(log)[-count:]
    assert log.reads <= 20


async def test_a_window_with_too_much_is_made_smaller(monkeypatch):
    monkeypatch.setattr(look, "WINDOW_BYTES", 50)
    log = GappyLog([4] * 50, payload=b"x" * 10)

    found = await looking_at(log).latest(KEY, 60, passes=all_pass)

    assert seqs(found) == all_seqs(log)[-60:]


async def test_the_floor_holds_over_gaps():
    log = GappyLog([2] * 10)

    found = await looking_at(log).latest(KEY, 100, passes=all_pass, from_seq=5 * GAP + 1)

    assert seqs(found) == [seq for seq in all_seqs(log) if seq > 5 * GAP]


async def test_what_follows_is_found_over_gaps_and_the_end_is_told():
    log = GappyLog([2] * 5)
    looking = looking_at(log)

    first = await looking.following(KEY, 3, passes=all_pass, after=0)
    rest = await looking.following(KEY, 100, passes=all_pass, after=first.upto)

    assert seqs(first) + seqs(rest) == all_seqs(log)
    assert rest.upto == 6 * GAP - 1


async def test_figures_count_messages_and_not_numbers():
    clock = ManualClock()
    log = GappyLog([7] * 40, start_ms=clock.now_ms() - 40_000)

    figures = await looking_at(log, clock).figures(KEY)

    assert (figures.first_seq, figures.next_seq) == (GAP, 41 * GAP)
    assert figures.messages == 280
    # Those of the last ten seconds, the one right at their beginning among them.
    assert figures.per_second == 7.7
    assert figures.last_ms == clock.now_ms()


async def test_very_many_messages_are_estimated_from_the_first(monkeypatch):
    monkeypatch.setattr(look, "WINDOW_BYTES", 1_000)
    log = GappyLog([10] * 500, payload=b"x" * 10)

    figures = await looking_at(log).figures(KEY)

    assert figures.messages == 5_000


async def test_an_unused_topic_has_nothing():
    figures = await looking_at(GappyLog([])).figures(KEY)

    assert figures == (1, 1, 0, 0.0, None)


async def test_a_number_in_a_gap_is_no_message():
    looking = looking_at(GappyLog([2, 2]))

    assert await looking.one(KEY, GAP + 2) is None
    assert (await looking.one(KEY, 2 * GAP + 1)).seq == 2 * GAP + 1
