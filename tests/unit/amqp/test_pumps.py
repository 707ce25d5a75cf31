"""Link ends that are due, whatever kind they are of; the marks of their connection."""

import pytest

from hotpath.amqp import ends, outflow, pumping
from hotpath.amqp.moment import Moment
from hotpath.amqp.outflow import Pumps
from tests.support.clock import ManualClock
from tests.support.twins import needs_helper, run_in_python


class End:
    """Something that sends."""

    def __init__(self, *, size: int = 10, more: bool = False) -> None:
        self.size, self.has_more = size, more
        self.rooms: list[int] = []

    def pump(self, room: int) -> int:
        self.rooms.append(room)
        return self.size

    def on_wake(self) -> None:
        self.rooms.append(-1)


@pytest.fixture(params=[pytest.param("c", marks=needs_helper), "python"], autouse=True)
def way(request, monkeypatch):
    if request.param == "python":
        run_in_python(monkeypatch)


@pytest.fixture
def pumps() -> Pumps:
    return Pumps()


def run(pumps: Pumps, room: int) -> int:
    return pumps.run(room, Moment(ManualClock(), lock_ms=1_000), {})


def test_each_is_told_the_room_that_is_left_and_the_rest_is_given_back(pumps):
    first, second = End(size=30), End(size=5)
    pumps.want(first)
    pumps.want(second)

    assert run(pumps, 100) == 65
    assert (first.rooms, second.rooms) == ([100], [70])
    assert not pumps


def test_without_room_nobody_sends_and_who_has_more_stays_due(pumps):
    large, waiting, done = End(size=150), End(more=True), End()
    for end in (large, waiting, done):
        pumps.want(end)

    assert run(pumps, 100) == -50
    assert (waiting.rooms, done.rooms) == ([], [])
    assert run(pumps, 100) == 90
    assert (waiting.rooms, done.rooms) == ([100], [])


def test_who_waits_for_the_peer_is_not_due_before_it_has_said_something(pumps):
    end = End(more=True)
    pumps.want(end)
    pumps.want_after_read(end)

    run(pumps, 100)
    assert not pumps
    pumps.after_read()

    assert pumps


def test_who_is_wanted_while_others_send_comes_the_next_time(pumps):
    late = End()

    class Calling(End):
        def pump(self, room: int) -> int:
            pumps.want(late)
            return super().pump(room)

    pumps.want(Calling())
    run(pumps, 100)

    assert late.rooms == []
    run(pumps, 100)
    assert late.rooms == [100]


def test_an_error_of_one_is_told(pumps):
    class Broken(End):
        def pump(self, room: int) -> int:
            raise RuntimeError("broken")

    pumps.want(Broken())
    with pytest.raises(RuntimeError, match="broken"):
        run(pumps, 100)


def test_a_waker_in_python_wakes_its_end():
    end = End()

    pumping.Waker(end, None, None)()

    assert end.rooms == [-1]


@needs_helper
@pytest.mark.parametrize("given", [(), (1,)], ids=["foreign end", "argument"])
def test_a_waker_in_c_refuses_what_it_does_not_know(given):
    with pytest.raises(TypeError):
        ends.Waker(End(), outflow.Pumps(), None)(*given)
