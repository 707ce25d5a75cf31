"""Order per point: what may be sent, and what must wait for it."""

import random

import pytest

from hotpath.webhooks.lanes import Event, Lanes


def event(seq, point="p", *, due_ms=0, serial=1):
    made = Event(seq, serial, point=point, batch=None, enqueued_ms=0)
    made.due_ms = due_ms
    return made


def lanes(*events):
    made = Lanes()
    for each in events:
        made.add(each)
    return made


def take_all(tested, now_ms=0):
    found = []
    while (taken := tested.take(now_ms)) is not None:
        found.append(taken)
    return found


def seqs(events):
    return [each.seq for each in events]


def test_only_the_first_of_a_point_may_be_sent():
    tested = lanes(event(1, "a"), event(2, "a"), event(3, "b"))

    assert seqs(take_all(tested)) == [1, 3]
    assert len(tested) == 3


def test_the_next_of_a_point_follows_when_the_first_is_done():
    tested = lanes(event(1, "a"), event(2, "a"))
    tested.finish(tested.take(0))

    assert seqs(take_all(tested)) == [2]


def test_a_point_waits_for_its_retry_and_no_other_does():
    tested = lanes(event(1, "a"), event(2, "a"), event(3, "b"))
    first = tested.take(0)
    tested.again(first, due_ms=5_000)

    assert seqs(take_all(tested)) == [3]
    assert tested.next_due(0) == 5_000
    assert tested.take(4_999) is None
    assert tested.take(5_000) is first


def test_after_a_restart_each_event_has_its_own_time():
    tested = lanes(event(1, "a", due_ms=100), event(2, "a", due_ms=50), event(3, "b", due_ms=70))

    assert seqs(take_all(tested, 99)) == [3]
    tested.finish(tested.take(100))
    assert seqs(take_all(tested, 100)) == [2]


def test_a_dead_letter_goes_before_what_waits_but_not_past_what_is_out():
    tested = lanes(event(5, "a"), event(6, "a"), event(7, "b"))
    out = tested.take(0)
    tested.insert(event(1, "a", serial=0))
    tested.insert(event(2, "b", serial=0))
    tested.insert(event(3, "c", serial=0))

    assert seqs(take_all(tested)) == [2, 3]
    tested.finish(out)
    assert seqs(take_all(tested)) == [1]


def test_dead_letters_of_a_point_keep_their_order():
    tested = lanes(event(5, "a"))
    tested.insert(event(1, "a", serial=0))
    tested.insert(event(3, "a", serial=0))
    tested.insert(event(2, "a", serial=0))

    assert [each.seq for each in tested] == [1, 2, 3, 5]
    assert seqs(take_all(tested)) == [1]


def test_a_dead_letter_goes_before_a_head_that_waits():
    tested = lanes(event(5, "a", due_ms=1_000))
    tested.insert(event(1, "a", serial=0))

    assert seqs(take_all(tested)) == [1]


def test_removed_events_are_gone_and_their_points_go_on():
    tested = lanes(event(1, "a"), event(2, "a"), event(3, "b", due_ms=9), event(4, "c"))
    out = tested.take(0)

    gone = tested.remove(lambda each: each.seq in (1, 3, 4))

    assert seqs(gone) == [3, 4]
    assert len(tested) == 2
    assert take_all(tested, 10) == []
    tested.finish(out)
    assert seqs(take_all(tested)) == [2]


def test_removing_the_first_of_a_point_makes_way_for_the_next():
    tested = lanes(event(1, "a"), event(2, "a"), event(3, "a"))

    tested.remove(lambda each: each.seq == 1)

    assert seqs(take_all(tested)) == [2]


def test_what_waits_may_be_hastened_but_not_what_the_endpoint_asked_for():
    tested = lanes(event(1, "a"), event(2, "b"))
    one, two = take_all(tested)
    one.asked = True
    tested.again(one, due_ms=5_000)
    tested.again(two, due_ms=9_000)

    tested.hasten(10)

    assert seqs(take_all(tested, 10)) == [2]
    assert seqs(take_all(tested, 5_000)) == [1]


@pytest.mark.parametrize("seed", range(20))
def test_whatever_happens_each_point_keeps_its_order_and_nothing_is_lost(seed):
    draw = random.Random(seed)
    tested, now_ms, sent, out, finished = Lanes(), 0, {}, [], []
    for seq in range(1, 400):
        tested.add(event(seq, draw.choice("abcdef")))
        now_ms += 1
        for _ in range(draw.randrange(4)):
            taken = tested.take(now_ms)
            if taken is not None:
                assert sent.get(taken.point, 0) <= taken.seq
                sent[taken.point] = taken.seq
                assert taken.point not in {each.point for each in out}
                out.append(taken)
        draw.shuffle(out)
        while out and draw.random() < 0.6:
            if draw.random() < 0.3:
                tested.again(out.pop(), due_ms=now_ms + draw.randrange(1, 9))
            else:
                finished.append(out[-1].seq)
                tested.finish(out.pop())
    for each in out:
        finished.append(each.seq)
        tested.finish(each)
    while (taken := tested.take(now_ms + 100)) is not None:
        finished.append(taken.seq)
        tested.finish(taken)

    assert sorted(finished) == list(range(1, 400))
    assert len(tested) == 0
