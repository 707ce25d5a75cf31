"""Fair shares of a bounded number of requests."""

from collections import Counter

from hotpath.webhooks.dispatch import Dispatcher
from tests.support.clock import settle


class FakeSender:
    """A stream with some requests to make."""

    def __init__(self, name, count, *, quick=True, width=1_000):
        self.name, self.left, self.quick, self.width = name, count, quick, width
        self.in_line = False
        self.under_way = 0

    def launch(self):
        if not self.has_more():
            return False
        self.left -= 1
        self.under_way += 1
        LAUNCHED.append(self.name)
        return True

    def has_more(self):
        return self.left > 0 and self.under_way < self.width


LAUNCHED = []


def dispatcher(places, *senders):
    LAUNCHED.clear()
    made = Dispatcher(places)
    for sender in senders:
        made.want(sender)
    return made


async def test_all_requests_together_are_bounded():
    tested = dispatcher(8, FakeSender("a", 100), FakeSender("b", 100))

    await settle()

    assert tested.in_flight == 8
    tested.ended(quick=True)
    await settle()
    assert tested.in_flight == 8


async def test_streams_take_turns():
    dispatcher(9, FakeSender("a", 100), FakeSender("b", 100), FakeSender("c", 2))

    await settle()

    assert Counter(LAUNCHED) == {"a": 4, "b": 3, "c": 2}


async def test_slow_streams_never_take_all_places():
    hanging = [FakeSender(f"slow {n}", 100, quick=False) for n in range(50)]
    tested = dispatcher(16, *hanging)
    await settle()
    assert tested.in_flight == 12

    tested.want(FakeSender("quick", 100))
    await settle()

    assert Counter(LAUNCHED)["quick"] == 4


async def test_a_place_of_a_slow_stream_goes_to_the_next_slow_one():
    tested = dispatcher(4, *(FakeSender(n, 1, quick=False) for n in "abcd"))
    await settle()

    tested.ended(quick=False)
    await settle()

    assert LAUNCHED == ["a", "b", "c", "d"]


async def test_a_stream_that_became_slow_in_line_stands_in_the_other_one():
    sender = FakeSender("a", 5)
    tested = dispatcher(4, sender)
    sender.quick = False

    await settle()

    assert tested.in_flight == 3


async def test_after_the_stop_nothing_is_begun():
    tested = dispatcher(4, FakeSender("a", 5))
    tested.stop()
    idle = []
    tested.when_idle(lambda: idle.append(True))

    await settle()

    assert LAUNCHED == []
    assert idle == [True]


async def test_idle_is_told_when_the_last_request_has_ended():
    tested = dispatcher(4, FakeSender("a", 2))
    await settle()
    tested.stop()
    idle = []
    tested.when_idle(lambda: idle.append(True))

    tested.ended(quick=True)
    assert idle == []
    tested.ended(quick=True)

    assert idle == [True]


async def test_many_requests_do_not_hold_up_the_loop():
    dispatcher(10_000, FakeSender("a", 10_000))

    await settle(2)

    assert len(LAUNCHED) <= 200
