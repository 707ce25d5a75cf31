"""What the cycle collector is told, and when it looks at everything."""

import gc
import threading

import pytest

from hotpath.core.keeping import BLOCKS_A_FILTER, FEW, LOOK, QUIET_S, STEP, URGENT, Keeping


class Node:
    """An object in a cycle."""

    freed = 0

    def __init__(self) -> None:
        self.other: object = self

    def __del__(self) -> None:
        Node.freed += 1


class Process:
    """A number of blocks and work as the test says, and time that it lets pass."""

    def __init__(self) -> None:
        self.blocks = 1_000_000
        self.is_busy = False
        self.worked_s = 0.0
        self.due = []
        self.full = 0
        self.keeping = Keeping(lambda: self.blocks, lambda: self.worked_s)

    def later(self, seconds, work):
        self.due.append((seconds, work))

    def passes(self, count: int = LOOK) -> None:
        for _ in range(count):
            gc.collect(0)

    def run_due(self) -> int:
        due, self.due[:] = list(self.due), []
        for seconds, work in due:
            self.worked_s += seconds / 2 if self.is_busy else seconds / 100
            work()
        return len(due)

    def run_all(self) -> float:
        """Let everything happen that is to come; the seconds that took."""
        took_s = 0.0
        while self.due:
            took_s += sum(seconds for seconds, _ in self.due)
            self.run_due()
        return took_s

    @property
    def is_done(self) -> bool:
        """Whether there was a full pass since the last time that this was asked."""
        before, self.full = self.full, gc.get_stats()[2]["collections"]
        return self.full > before


@pytest.fixture
def process():
    was_on = gc.isenabled()
    gc.disable()
    gc.collect()
    gc.unfreeze()
    Node.freed = 0
    made = Process()
    made.keeping.start(made.later)
    assert made.is_done
    yield made
    made.keeping.stop()
    # As all tests find it (`tests/conftest.py`).
    gc.freeze()
    if was_on:
        gc.enable()


def test_after_a_pass_what_is_left_is_out_of_sight(process):
    before = gc.get_freeze_count()
    kept = [[] for _ in range(500)]
    assert gc.get_count()[0] >= len(kept)

    process.passes(1)

    assert gc.get_freeze_count() >= before + len(kept)
    assert gc.get_count()[0] < len(kept)


def test_garbage_goes_before_the_rest_is_put_out_of_sight(process):
    Node()
    process.passes(1)
    assert Node.freed == 1


def test_what_nothing_refers_to_is_freed_out_of_sight_too(process):
    kept = Node()
    process.passes(1)
    kept.other = None
    del kept
    assert Node.freed == 1


def test_a_pass_comes_after_so_many_objects(process):
    assert gc.get_threshold()[0] == STEP


def test_what_passes_take_of_a_thread_is_counted(process):
    before = process.keeping.spent_s
    kept = [[] for _ in range(100_000)]
    process.passes(1)
    spent = process.keeping.spent_s
    assert spent > before

    elsewhere = threading.Thread(target=lambda: (kept.append([]), gc.collect(0)))
    elsewhere.start()
    elsewhere.join()
    assert process.keeping.spent_s == spent


def test_a_cycle_out_of_sight_goes_with_the_next_full_pass(process):
    kept = Node()
    process.passes(1)
    del kept
    process.passes(1)
    assert Node.freed == 0

    process.blocks = 2 * process.blocks + FEW + 1
    process.passes()
    assert process.run_all() == QUIET_S
    assert Node.freed == 1


def test_everything_is_looked_at_when_what_stays_has_doubled(process):
    process.blocks = 2 * process.blocks + FEW
    process.passes()
    assert not process.due

    process.blocks += 1
    process.passes()
    process.passes()
    process.run_all()
    assert process.is_done

    process.passes()
    assert not process.due


def test_what_is_known_to_stay_brings_it_no_nearer(process):
    process.keeping.add_known(100_000 * BLOCKS_A_FILTER)
    process.blocks += 100_000 * BLOCKS_A_FILTER
    process.passes()
    assert not process.due

    process.keeping.add_known(-100_000 * BLOCKS_A_FILTER)
    process.passes()
    process.run_all()
    assert process.is_done


def test_when_less_has_come_than_was_said_it_does_not_come_over_and_over(process):
    process.keeping.stop()
    process.keeping.add_known(3 * process.blocks)
    process.keeping.start(process.later)

    process.passes(2 * LOOK)
    assert not process.due


def test_it_waits_for_a_second_with_next_to_nothing_to_do(process):
    process.is_busy = True
    process.blocks = 2 * process.blocks + FEW + 1
    process.passes()
    for _ in range(3):
        assert process.run_due() == 1
        assert not process.is_done

    process.is_busy = False
    assert process.run_due() == 1
    assert process.is_done
    assert not process.due


def test_without_such_a_second_it_comes_when_there_is_much_more(process):
    process.is_busy = True
    base = process.blocks
    process.blocks = URGENT * base + FEW
    process.passes()
    assert process.run_due() == 1
    assert not process.is_done

    process.blocks += 1
    assert process.run_due() == 1
    assert process.is_done


def test_it_does_not_come_when_what_stayed_has_gone_meanwhile(process):
    process.is_busy = True
    base = process.blocks
    process.blocks = 2 * base + FEW + 1
    process.passes()
    assert process.run_due() == 1

    process.blocks, process.is_busy = base, False
    assert process.run_due() == 1
    assert not process.is_done
    assert not process.due


def test_stopped_it_leaves_the_collector_as_it_was():
    gc.unfreeze()
    threshold, callbacks = gc.get_threshold(), list(gc.callbacks)
    keeping = Keeping()
    keeping.start(lambda seconds, work: None)
    assert gc.get_freeze_count()

    keeping.stop()
    keeping.stop()

    assert gc.get_threshold() == threshold
    assert gc.callbacks == callbacks
    assert gc.get_freeze_count() == 0


def test_a_full_pass_that_comes_after_the_stop_leaves_it_alone(process):
    process.blocks = 2 * process.blocks + FEW + 1
    process.passes()
    process.keeping.stop()

    assert process.run_due() == 1
    assert gc.get_freeze_count() == 0
