"""What the cycle collector is told of filters that come and go."""

import gc

import pytest

from hotpath.core.keeping import MANY, STEP, Keeping


class Node:
    """An object that can be in a cycle."""

    freed = 0

    def __init__(self) -> None:
        self.other: object = self

    def __del__(self) -> None:
        Node.freed += 1


@pytest.fixture
def keeping():
    gc.collect()
    gc.unfreeze()
    Node.freed = 0
    made = Keeping()
    made.is_on = True
    yield made
    gc.unfreeze()


def add(keeping: Keeping, count: int) -> None:
    for _ in range(count):
        keeping.count_added()


def test_a_few_filters_change_nothing(keeping):
    add(keeping, MANY - 1)

    assert gc.get_freeze_count() == 0


def test_what_comes_with_many_filters_is_out_of_the_collectors_sight(keeping):
    add(keeping, MANY)
    before = gc.get_freeze_count()
    new = [[] for _ in range(1000)]
    add(keeping, STEP - 1)
    assert gc.get_freeze_count() <= before

    add(keeping, 1)
    assert gc.get_freeze_count() >= before + len(new)


def test_garbage_goes_before_the_rest_is_put_out_of_sight(keeping):
    add(keeping, MANY - 1)
    Node()
    assert Node.freed == 0

    add(keeping, 1)
    assert Node.freed == 1


def test_what_nothing_refers_to_is_freed_out_of_sight_too(keeping):
    kept = Node()
    kept.other = None
    add(keeping, MANY)
    assert gc.get_freeze_count()

    del kept
    assert Node.freed == 1


def test_a_cycle_out_of_sight_goes_when_few_filters_are_left(keeping):
    kept = Node()
    add(keeping, MANY)
    del kept
    gc.collect()
    assert Node.freed == 0

    for _ in range(MANY // 2 + 1):
        keeping.count_removed()
    assert gc.get_freeze_count() == 0
    gc.collect()
    assert Node.freed == 1


def test_it_counts_but_leaves_the_collector_alone_until_it_is_on(keeping):
    keeping.is_on = False
    add(keeping, 2 * MANY)
    assert gc.get_freeze_count() == 0

    keeping.is_on = True
    keeping.count_added()
    assert gc.get_freeze_count() > 0
