"""The dead-letter queue as a feed."""

import pytest

from hotpath.core.deadletter import DeadLetterQueue
from hotpath.core.locks import LockTable
from hotpath.model.message import Batch
from hotpath.model.names import TenantId, Topic, TopicKey

KEY = TopicKey(TenantId("acme"), Topic.VARIABLES)


def letter(seq: int) -> Batch:
    return Batch(KEY, seq, enqueued_ms=0, payloads=[b"%d" % seq])


@pytest.fixture
def queue() -> DeadLetterQueue:
    return DeadLetterQueue(locks=LockTable(lock_ms=1_000, deliveries_max=None, first_serial=0))


def take(queue: DeadLetterQueue, limit: int = 100, *, lock: bool = True, load: bool = True):
    """Take as the service does, loading what is missing."""
    taken = []
    while True:
        taken += queue.take(limit - len(taken), receiver="a", now_ms=0, lock=lock)
        if queue.missing is None or not load:
            return taken
        queue.supply(queue.missing, letter(queue.missing))


def seqs(taken) -> list[int]:
    return [seq for part in taken for seq in part.seqs]


def test_dead_letters_come_lowest_first_however_they_were_added(queue):
    queue.add([5, 2, 9])
    queue.add([2, 7, 1])
    assert len(queue) == 5
    assert seqs(take(queue, 3)) == [1, 2, 5]
    assert seqs(take(queue)) == [7, 9]
    assert len(queue) == 5
    assert not queue.has_ready()


def test_a_letter_that_is_not_in_memory_is_named_and_stands_in_the_way(queue):
    queue.add([1, 2])
    queue.supply(2, letter(2))
    assert take(queue, load=False) == []
    assert queue.missing == 1
    queue.supply(1, letter(1))
    assert seqs(take(queue, load=False)) == [1, 2]
    assert queue.missing is None


def test_what_was_given_back_comes_first_with_its_count(queue):
    queue.add([1, 2])
    (first,) = take(queue, 1)
    queue.locks.give_back(1, queue.locks.held(1, first.serial), failed=True)
    assert queue.has_ready()
    again = take(queue)
    assert seqs(again) == [1, 2]
    assert [part.counts for part in again] == [[1], [0]]


def test_a_lock_keeps_no_message_in_memory(queue):
    queue.add([1])
    (part,) = take(queue)
    holding = queue.locks.held(1, part.serial)
    assert holding.batch is None
    queue.locks.give_back(1, holding, failed=False)
    assert take(queue, load=False) == []
    assert queue.missing == 1


@pytest.mark.parametrize("returned", [False, True])
def test_without_a_lock_a_letter_is_removed_by_its_taking(queue, returned):
    queue.locks.counts[1] = 4
    queue.add([1])
    if returned:
        (part,) = take(queue)
        queue.locks.give_back(1, queue.locks.held(1, part.serial), failed=False)
    (part,) = take(queue, lock=False)
    assert (part.serial, part.counts) == (0, [4])
    assert queue.removed == [1]
    assert (len(queue), queue.locks.counts) == (0, {})


def test_what_is_locked_or_gone_is_not_kept_when_it_is_loaded_along(queue):
    queue.add([1, 2, 3])
    parts = take(queue, 2)
    queue.locks.complete([(1, parts[0].serial)])
    queue.settled([1])
    for seq in (1, 2, 3, 4):
        queue.supply(seq, letter(seq))
    assert queue._batches.keys() == {3}


@pytest.mark.parametrize("state", ["ready", "returned"])
def test_a_letter_that_cannot_be_read_is_forgotten(queue, state):
    queue.add([1, 2])
    queue.locks.counts[1] = 1
    if state == "returned":
        (part,) = take(queue, 1)
        queue.locks.give_back(1, queue.locks.held(1, part.serial), failed=False)
    queue.lose(1)
    assert seqs(take(queue)) == [2]
    assert len(queue) == 1
    assert queue.locks.counts == {}


def test_a_queue_has_what_waits_and_what_is_locked(queue):
    queue.add([1, 2])
    (part,) = take(queue, 1)
    assert 1 in queue
    assert 2 in queue
    queue.locks.complete([(1, part.serial)])
    assert 1 not in queue


def test_what_was_loaded_can_be_let_go(queue):
    queue.add([1])
    queue.supply(1, letter(1))
    queue.release()
    assert take(queue, load=False) == []
    assert seqs(take(queue)) == [1]
