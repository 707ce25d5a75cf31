"""The lock table, cell by cell, and what a restart, a lost link and time do to it."""

import pytest

from hotpath.core.locks import EXPIRING_MIN, LockTable, State
from hotpath.model.message import Batch
from hotpath.model.names import TenantId, Topic, TopicKey

KEY = TopicKey(TenantId("acme"), Topic.VARIABLES)
LOCK_MS = 1_000
SEQ = 7
NOBODY = 99


def make_table(**options) -> LockTable:
    wanted = {"lock_ms": LOCK_MS, "deliveries_max": 3, "first_serial": 100, **options}
    return LockTable(**wanted)


def make_batch(first_seq: int = 1, count: int = 10) -> Batch:
    return Batch(KEY, first_seq, enqueued_ms=0, payloads=[b"x"] * count)


def in_state(state: State, *, was_deferred: bool = False, failed: int = 0) -> LockTable:
    """A table whose only message is in a state."""
    table = make_table()
    if failed:
        table.counts[SEQ] = failed
    batch = make_batch()
    holding = table.lock(batch, (SEQ,), receiver="a", now_ms=0)
    if was_deferred:
        table.defer(SEQ, holding)
        holding = table.lock_deferred(SEQ, batch, receiver="a", now_ms=0)
    match state:
        case State.LOCKED:
            pass
        case State.RETURNED:
            table.give_back(SEQ, holding, failed=False)
        case State.DEFERRED:
            table.defer(SEQ, holding)
        case State.DYING:
            table.doom(SEQ, holding)
    return table


def complete(table: LockTable, older: int = 0) -> bool:
    return table.complete([(SEQ, table._serial - older)]) == ([SEQ], [])


def abandon(table: LockTable, older: int = 0) -> bool:
    holding = table.held(SEQ, table._serial - older)
    return holding is not None and table.give_back(SEQ, holding, failed=True) is not None


def release(table: LockTable, older: int = 0) -> bool:
    holding = table.held(SEQ, table._serial - older)
    return holding is not None and table.give_back(SEQ, holding, failed=False)


def lock_ends(table: LockTable) -> bool:
    before = table.locked
    table.expire(LOCK_MS)
    return table.locked < before


def lose_link(table: LockTable) -> bool:
    return table.drop_receiver("a") > 0


def defer(table: LockTable, older: int = 0) -> bool:
    holding = table.held(SEQ, table._serial - older)
    if holding is not None:
        table.defer(SEQ, holding)
    return holding is not None


def dead_letter(table: LockTable, older: int = 0) -> bool:
    holding = table.held(SEQ, table._serial - older)
    if holding is not None:
        table.doom(SEQ, holding)
    return holding is not None


GONE = None
EVENTS = {
    "complete": (complete, GONE, 0),
    "abandon": (abandon, State.RETURNED, 1),
    "release": (release, State.RETURNED, 0),
    "lock ends": (lock_ends, State.RETURNED, 1),
    "link lost": (lose_link, State.RETURNED, 0),
    "defer": (defer, State.DEFERRED, 0),
    "dead-letter": (dead_letter, State.DYING, 0),
}


@pytest.mark.parametrize("event", EVENTS)
def test_a_locked_message_goes_where_the_table_says(event):
    apply, expected, failures = EVENTS[event]
    table = in_state(State.LOCKED)
    assert apply(table)
    holding = table.unsettled.get(SEQ)
    assert (holding.state if holding else GONE) is expected
    assert table.counts.get(SEQ, 0) == failures
    assert table.locked == 0
    assert table.returned_front() == (SEQ if expected is State.RETURNED else None)
    assert (SEQ in table.deferred) == (expected is State.DEFERRED)


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("state", [State.RETURNED, State.DEFERRED, State.DYING])
def test_only_a_locked_message_answers(state, event):
    table = in_state(state)
    changes = dict(table.counts), set(table.deferred)
    assert not EVENTS[event][0](table)
    assert table.unsettled[SEQ].state is state
    assert (table.counts, table.deferred) == changes


@pytest.mark.parametrize("event", ["complete", "abandon", "release", "defer", "dead-letter"])
def test_the_serial_of_an_older_lock_gives_nothing(event):
    table = in_state(State.LOCKED)
    assert not EVENTS[event][0](table, older=1)
    assert table.unsettled[SEQ].state is State.LOCKED
    assert table.locked == 1


@pytest.mark.parametrize("event", ["abandon", "release", "lock ends", "link lost"])
def test_a_message_that_was_deferred_before_goes_back_to_being_deferred(event):
    table = in_state(State.LOCKED, was_deferred=True)
    table.forget_changes()
    assert EVENTS[event][0](table)
    assert table.unsettled[SEQ].state is State.DEFERRED
    assert table.returned_front() is None
    assert table.deferred == {SEQ}
    assert table.changed_deferred == {}


@pytest.mark.parametrize("was_deferred", [False, True])
@pytest.mark.parametrize("event", ["abandon", "lock ends"])
def test_at_the_last_delivery_it_is_dying_instead(event, was_deferred):
    table = in_state(State.LOCKED, was_deferred=was_deferred, failed=2)
    EVENTS[event][0](table)
    assert table.unsettled[SEQ].state is State.DYING
    assert table.counts[SEQ] == 3


@pytest.mark.parametrize("event", ["release", "link lost"])
def test_what_does_not_count_kills_nobody(event):
    table = in_state(State.LOCKED, failed=2)
    EVENTS[event][0](table)
    assert table.unsettled[SEQ].state is State.RETURNED


def test_a_deferred_message_is_not_kept_in_memory():
    assert in_state(State.DEFERRED).unsettled[SEQ].batch is None
    table = in_state(State.LOCKED, was_deferred=True)
    release(table)
    assert table.unsettled[SEQ].batch is None


def test_without_a_maximum_a_message_comes_back_for_ever():
    table = make_table(deliveries_max=None)
    for _ in range(50):
        holding = table.lock(None, (SEQ,), receiver="a", now_ms=0)
        assert table.give_back(SEQ, holding, failed=True)
        assert table.pop_returned() == SEQ
    assert table.counts[SEQ] == 50


def test_expiry_names_those_that_die():
    table = make_table(deliveries_max=2)
    table.counts[2] = 1
    table.lock(make_batch(), (1, 2, 3), receiver="a", now_ms=0)
    assert table.expire(LOCK_MS - 1) == []
    assert table.expire(LOCK_MS) == [2]
    assert table.locked == 0


def test_a_dying_message_that_cannot_be_copied_waits_again():
    table = in_state(State.DYING)
    table.revive(SEQ)
    assert table.returned_front() == SEQ


@pytest.mark.parametrize("state", list(State))
def test_settling_forgets_a_message_in_any_state(state):
    table = in_state(state)
    table.counts[SEQ] = 2
    table.settle(SEQ)
    assert len(table) == table.locked == 0
    assert table.counts == {}
    assert table.deferred == set()
    assert table.returned_front() is None
    assert table.next_deadline() is None


# Locks


def test_messages_locked_together_are_settled_one_by_one():
    table = make_table()
    holding = table.lock(make_batch(), (1, 2, 3), receiver="a", now_ms=0)
    held = [(seq, holding.serial) for seq in (2, NOBODY, 3, 2)]
    assert table.complete(held) == ([2, 3], [NOBODY, 2])
    assert (table.locked, len(table), table.first_unsettled()) == (1, 1, 1)


def test_each_taking_has_a_serial_of_its_own():
    table = make_table()
    serials = {table.lock(None, (seq,), receiver="a", now_ms=0).serial for seq in range(20)}
    assert len(serials) == 20
    assert min(serials) > 100


def test_renewing_keeps_the_serial_and_moves_only_that_message():
    table = make_table()
    holding = table.lock(make_batch(), (1, 2), receiver="a", now_ms=0)
    renewed = table.renew(1, holding, now_ms=600)
    assert (renewed.serial, renewed.until_ms) == (holding.serial, 1_600)
    assert table.held(1, holding.serial) is renewed
    assert table.next_deadline() == LOCK_MS
    table.expire(LOCK_MS)
    assert table.returned_front() == 2
    assert table.next_deadline() == 1_600
    assert table.drop_receiver("a") == 1


def test_losing_a_link_gives_back_only_what_it_held():
    table = make_table()
    table.lock(make_batch(), (1, 2), receiver="a", now_ms=0)
    other = table.lock(make_batch(), (3,), receiver="b", now_ms=0)
    assert table.drop_receiver("a") == 2
    assert table.held(3, other.serial) is other
    assert [table.pop_returned(), table.pop_returned()] == [1, 2]
    assert table.drop_receiver("a") == 0
    assert table.next_deadline() == LOCK_MS


def test_returned_messages_come_lowest_first():
    table = make_table()
    holding = table.lock(make_batch(), (3, 5, 8), receiver="a", now_ms=0)
    for seq in (8, 3, 5):
        table.give_back(seq, holding, failed=False)
    table.settle(3)
    assert table.returned_front() == 5
    assert table.pop_returned() == 5


def test_settled_locks_leave_the_table_before_their_time():
    table = make_table()
    kept = table.lock(None, (0,), receiver="a", now_ms=0)
    for seq in range(1, 10_000):
        holding = table.lock(None, (seq,), receiver="a", now_ms=0)
        table.complete([(seq, holding.serial)])
    assert len(table._expiring) <= EXPIRING_MIN + 1
    assert table.held(0, kept.serial) is kept
    table.expire(LOCK_MS)
    assert table.returned_front() == 0


def test_locks_that_end_in_order_leave_no_trace():
    table = make_table()
    for seq in range(0, 1_000, 2):
        holding = table.lock(make_batch(), (seq, seq + 1), receiver="a", now_ms=0)
        table.complete([(seq, holding.serial), (seq + 1, holding.serial)])
    assert len(table._expiring) == 1
    assert table.next_deadline() is None


def test_a_lock_with_messages_left_stays_when_its_last_one_is_settled():
    table = make_table()
    holding = table.lock(make_batch(), (1, 2, 3), receiver="a", now_ms=0)
    table.complete([(3, holding.serial)])
    table.lock(make_batch(), (4,), receiver="b", now_ms=5)
    assert table.next_deadline() == LOCK_MS
    assert table.drop_receiver("a") == 2


# Changes and restarts


def test_changes_are_told_once():
    table = make_table()
    holding = table.lock(make_batch(), (1, 2), receiver="a", now_ms=0)
    table.give_back(1, holding, failed=True)
    table.defer(2, holding)
    assert (table.changed_counts, table.changed_deferred) == ({1: 1}, {2: True})
    table.forget_changes()
    assert (table.changed_counts, table.changed_deferred) == ({}, {})


def test_a_restart_brings_back_everything_but_locks():
    table = make_table()
    table.restore({4, 2, 9}, deferred={4}, counts={2: 1, 50: 2})
    assert list(table.unsettled) == [2, 4, 9]
    assert [table.pop_returned(), table.pop_returned()] == [2, 9]
    assert table.deferred == {4}
    assert table.counts == {2: 1, 50: 2}
    assert table.locked == 0


def test_what_was_deferred_ahead_of_the_others_does_not_hide_a_lower_one():
    table = make_table()
    table.restore({2}, deferred={2, 30, 40}, counts={})
    assert table.first_unsettled() == 2
    table.settle(2)
    assert table.first_unsettled() == 30
    table.lock(make_batch(10, 30), (12, 35), receiver="a", now_ms=0)
    assert table.first_unsettled() == 12
    table.settle(12)
    assert table.first_unsettled() == 30
    table.settle(30)
    assert table.first_unsettled() == 35
    table.settle(40)
    table.settle(35)
    assert table.first_unsettled() is None


def test_what_tables_without_a_history_share_stays_empty():
    used, fresh = make_table(), make_table()
    first = used.lock(None, [1, 2, 3], receiver="a", now_ms=0)
    used.modify(1, b"given")
    used.give_back(1, first, failed=True)
    used.defer(2, first)
    used.restore([7, 8], deferred={8}, counts={7: 1}, modified={7: b"x"})

    later = make_table()
    for other in (fresh, later):
        assert other.returned_front() is None
        assert (other.returned, other.deferred, other.modified) == ([], set(), {})
        assert not other.has_changes()
    used.forget_changes()
    assert not used.has_changes()
    used.count_failure(3)
    assert used.changed_counts == {3: 1}
    assert not later.has_changes()
