"""Who is read first when there is more to be read than time; time is in the test's hands."""

import asyncio
from functools import partial
from types import SimpleNamespace

import pytest

from hotpath.amqp.bounds import LINKS_FREE, SESSIONS_FREE, Holding, Shared
from hotpath.amqp.context import SMALL_SEND_BYTES, Turn
from hotpath.amqp.fairness import (
    ARRIVAL_S,
    AT_ONCE,
    BALANCE_S,
    BUSY_USED_S,
    BUSY_WAITING,
    COMMIT_S,
    GOODWILL_HALF_LIFE_S,
    ORIGINS_MAX,
    REST_MAX,
    RETURN_S,
    SHORTER,
    STEP_S,
    WELCOME_S,
    WELCOME_SENDS,
    WELCOME_USED_S,
    WELCOMES,
    Fairness,
)
from hotpath.amqp.sockets import (
    READ_BYTES,
    READ_BYTES_MIN,
    SEND_S,
    SMALL_READ_BYTES,
    ReadRoom,
)
from hotpath.config import Settings

TURN_S = 0.002


class World:
    """A clock and an event loop that a test turns by hand."""

    def __init__(self) -> None:
        self.seconds = 100.0
        self.callbacks = []
        self.done: list[str] = []
        self.fairness = Fairness(TURN_S, now=lambda: self.seconds, later=self.callbacks.append)

    def account(self, address: str = "192.0.2.1"):
        return self.fairness.account(address)

    def work(self, account, took: float, *, earned: int = 0) -> None:
        """Something is done for a connection."""
        began = self.seconds
        self.seconds += took
        self.fairness.charge(account, began, earned)

    def ask(self, name: str, account, took: float = 0.001) -> bool:
        """A read has come; it is done now, or waits."""

        def go_on() -> None:
            self.done.append(name)
            self.work(account, took)

        if self.fairness.may_go(account):
            go_on()
            return True
        self.fairness.wait(account, go_on)
        return False

    def turn(self) -> None:
        """The loop's next turn."""
        callbacks, self.callbacks[:] = list(self.callbacks), []
        for callback in callbacks:
            callback()


@pytest.fixture
def world():
    return World()


def test_without_contention_nobody_waits(world):
    account = world.account()
    for _ in range(50):
        assert world.ask("a", account)
        world.turn()


def test_who_is_not_favoured_has_so_much_time_in_a_turn_and_then_waits(world):
    asked = [world.ask(str(number), world.account()) for number in range(5)]
    assert asked == [True, True, False, False, False]

    world.turn()
    assert world.done == ["0", "1", "2", "3"]
    world.turn()
    assert world.done == ["0", "1", "2", "3", "4"]
    assert len(world.fairness) == 0


def test_who_publishes_is_read_at_once_whatever_the_others_do(world):
    good = world.account()
    world.work(good, 0.000_05, earned=10)
    for number in range(20):
        world.ask(str(number), world.account())

    assert good.is_favoured
    assert world.ask("good", good)


def test_useful_work_is_favoured_as_long_as_it_costs_less_than_it_is_worth(world):
    account = world.account()
    for earned in range(1, 1_000):
        world.work(account, 0.000_05, earned=earned)
        assert account.is_favoured
    for _ in range(2_100):
        world.work(account, 0.000_05, earned=999)
    assert not account.is_favoured


def test_of_those_that_wait_the_one_that_has_used_least_comes_first(world):
    heavy, light = world.account("192.0.2.1"), world.account("192.0.2.2")
    world.work(heavy, 0.5)
    world.turn()
    world.work(world.account("192.0.2.3"), 2 * TURN_S)
    world.ask("heavy", heavy)
    world.ask("light", light)

    world.turn()

    assert world.done == ["light", "heavy"]


def test_who_has_begun_to_log_in_does_not_stand_back_behind_all_who_have_not(world):
    begun = world.account("192.0.2.1")
    world.work(begun, STEP_S / 2)
    world.turn()
    world.work(world.account("192.0.2.3"), 2 * TURN_S)
    world.ask("begun", begun)
    for number in range(10):
        world.ask(str(number), world.account(f"192.0.2.{10 + number}"))

    world.turn()

    assert world.done[0] == "begun"


def test_who_goes_and_comes_back_does_not_come_before_a_new_client(world):
    world.work(world.account("192.0.2.1"), 0.5)
    world.turn()
    world.work(world.account("192.0.2.3"), 2 * TURN_S)
    world.ask("back again", world.account("192.0.2.1"))
    world.ask("new", world.account("192.0.2.2"))

    world.turn()

    assert world.done[0] == "new"


def test_what_an_address_has_used_is_forgotten(world):
    origin = world.account("192.0.2.1")
    world.work(origin, 1.0)
    began = world.account("192.0.2.1").rank(world.seconds)
    assert began == pytest.approx((1.0 - ARRIVAL_S) / STEP_S, abs=1)
    world.seconds += 60.0
    ended = world.account("192.0.2.1").rank(world.seconds)
    assert ended == pytest.approx((0.25 - ARRIVAL_S) / STEP_S, abs=1)


def test_who_comes_now_does_not_stand_behind_a_crowd_that_has_come(world):
    for number in range(50):
        member = world.account(f"198.51.100.{number}")
        world.work(member, 1.2 * ARRIVAL_S)
        world.ask(f"crowd {number}", member)
    new = world.account("192.0.2.1")
    world.work(new, ARRIVAL_S / 2)
    world.ask("new", new)

    world.turn()

    assert world.done[0] == "new"


def test_what_coming_in_took_counts_once_it_is_over(world):
    world.fairness.spend(TURN_S)
    for number in range(50):
        member = world.account(f"198.51.100.{number}")
        world.work(member, ARRIVAL_S / 4)
        for _ in range(WELCOMES):
            world.fairness.welcome(member)
            world.work(member, WELCOME_S)
        world.work(member, STEP_S)
        world.ask(f"crowd {number}", member)
    new = world.account("192.0.2.1")
    world.work(new, ARRIVAL_S / 4)
    world.ask("new", new)

    world.turn()

    assert world.done[0] == "new"


def test_who_has_achieved_something_does_not_wait_behind_those_that_have_not(world):
    for number in range(50):
        member = world.account(f"198.51.100.{number}")
        world.work(member, 0.005)
        world.ask(f"crowd {number}", member)
    unlucky = world.account("192.0.2.1")
    world.work(unlucky, 0.012, earned=9)
    assert not unlucky.is_favoured
    world.ask("unlucky", unlucky)

    world.turn()

    assert world.done[0] == "unlucky"


def test_what_was_achieved_once_does_not_count_without_end(world):
    was_good = world.account("192.0.2.1")
    world.work(was_good, 0.001, earned=1_000_000)
    world.work(was_good, BALANCE_S + 0.5, earned=1_000_000)
    world.fairness.spend(TURN_S)
    world.ask("was good", was_good)
    member = world.account("198.51.100.1")
    world.work(member, 0.01)
    world.ask("other", member)

    world.turn()

    assert world.done[0] == "other"


def test_time_that_led_to_something_is_not_held_against_the_address(world):
    account = world.account("192.0.2.1")
    world.work(account, 0.03)
    world.work(account, 0.001, earned=1_000)
    assert world.account("192.0.2.1").rank(world.seconds) == 0


def test_heartbeats_earn_their_place(world):
    quiet = world.account()
    for _ in range(10):
        world.seconds += 60.0
        world.work(quiet, 0.000_05)
    assert quiet.is_favoured


def test_when_very_many_wait_an_address_that_has_used_much_gets_no_connection(world):
    world.work(world.account("192.0.2.1"), BUSY_USED_S * 2)
    assert not world.fairness.is_burdened_by("192.0.2.1")
    for number in range(BUSY_WAITING):
        world.ask(str(number), world.account("192.0.2.9"))
    assert world.fairness.is_burdened_by("192.0.2.1")
    assert not world.fairness.is_burdened_by("192.0.2.2")


def test_so_many_addresses_are_known(world):
    for number in range(ORIGINS_MAX + 10):
        world.account(str(number))
    assert len(world.fairness._origins) == ORIGINS_MAX


def test_at_the_end_all_go_on_that_wait(world):
    for number in range(9):
        world.ask(str(number), world.account())
    world.fairness.finish()
    assert len(world.done) == 9


async def test_log_ins_wait_for_their_turn(world):
    tasks = [asyncio.ensure_future(world.fairness.turn_of(world.account())) for _ in range(5)]
    await asyncio.sleep(0)
    assert sum(task.done() for task in tasks) == 2
    world.turn()
    for _ in range(3):
        await asyncio.sleep(0)
    assert sum(task.done() for task in tasks) == 4
    world.turn()
    await asyncio.gather(*tasks)


class Dirty:
    """A connection with something to send."""

    earned = 0

    def __init__(
        self, world: World, name: str, *, favoured: bool, address: str = "192.0.2.1"
    ) -> None:
        self._world, self._name = world, name
        self.account = world.account(address)
        if favoured:
            world.work(self.account, 0.0, earned=100)

    def flush(self, bytes_max: int | None = None) -> None:
        self._world.done.append(self._name)
        self.bytes_max = bytes_max
        self._world.seconds += 0.001


async def test_favoured_connections_are_flushed_first_and_others_as_time_goes(world):
    turn = Turn(world.fairness)
    for number in range(5):
        turn.mark(Dirty(world, str(number), favoured=False))
    turn.mark(Dirty(world, "good", favoured=True))

    await asyncio.sleep(0)
    assert world.done == ["good", "0", "1"]
    world.turn()
    assert world.done == ["good", "0", "1", "2", "3"]
    world.turn()
    assert world.done == ["good", "0", "1", "2", "3", "4"]


async def test_while_the_favoured_are_at_work_others_are_sent_little_at_once(world, monkeypatch):
    turn = Turn(world.fairness)
    pressed = [False]
    monkeypatch.setattr(Fairness, "is_pressed", property(lambda _: pressed[0]))
    alone, late = (Dirty(world, name, favoured=False) for name in ("alone", "late"))
    turn.mark(alone)
    await asyncio.sleep(0)
    assert alone.bytes_max is None

    pressed[0] = True
    crowd(world)
    good, quiet = (Dirty(world, name, favoured=True) for name in ("good", "quiet"))
    good.earned = 100
    for each in (good, quiet, late):
        turn.mark(each)
    await asyncio.sleep(0)
    for _ in range(9):
        world.turn()
    assert good.bytes_max is None
    assert quiet.bytes_max == late.bytes_max == SMALL_SEND_BYTES


async def test_a_connection_that_is_late_is_flushed_once(world):
    turn = Turn(world.fairness)
    several = [Dirty(world, str(number), favoured=False) for number in range(4)]
    for each in several:
        turn.mark(each)
    await asyncio.sleep(0)
    for each in several[2:]:
        turn.mark(each)
    await asyncio.sleep(0)
    for _ in range(4):
        world.turn()
    assert world.done == ["0", "1", "2", "3"]


async def test_who_is_favoured_pays_for_what_it_is_sent_while_others_wait(world):
    turn = Turn(world.fairness)
    good = Dirty(world, "good", favoured=True)
    turn.mark(good)
    await asyncio.sleep(0)
    assert good.account.is_favoured

    for number in range(5):
        turn.mark(Dirty(world, str(number), favoured=False))
    await asyncio.sleep(0)
    for _ in range(200):
        turn.mark(good)
        turn.mark(Dirty(world, "more", favoured=False))
        turn.mark(Dirty(world, "more", favoured=False))
        await asyncio.sleep(0)
        if not good.account.is_favoured:
            return
    pytest.fail("a connection that achieves nothing is sent to for ever, before all others")


async def test_what_becomes_due_while_others_are_late_is_flushed_in_its_turn(world):
    turn = Turn(world.fairness)
    again = Dirty(world, "again", favoured=False)
    for each in (*[Dirty(world, str(number), favoured=False) for number in range(3)], again):
        turn.mark(each)
    await asyncio.sleep(0)
    assert world.done == ["0", "1"]
    world.turn()
    assert world.done == ["0", "1", "2", "again"]
    turn.mark(again)
    await asyncio.sleep(0)
    world.turn()
    assert world.done == ["0", "1", "2", "again", "again"]


def crowd(world, count: int = 6) -> None:
    """Others that wait, all with nothing used yet."""
    world.work(world.account("192.0.2.3"), 2 * TURN_S)
    for number in range(count):
        world.ask(str(number), world.account(f"192.0.2.{100 + number}"))


def test_who_is_welcome_comes_before_those_that_wait(world):
    crowd(world)
    newcomer = world.account()
    world.fairness.welcome(newcomer)
    assert not world.ask("new", newcomer, 0.000_01)
    world.turn()
    assert world.done[0] == "new"


def test_who_becomes_welcome_while_he_waits_comes_forward(world):
    crowd(world)
    newcomer = world.account()
    world.ask("new", newcomer)
    world.fairness.welcome(newcomer)
    world.turn()
    assert world.done[0] == "new"
    for _ in range(10):
        world.turn()
    assert sorted(world.done) == ["0", "1", "2", "3", "4", "5", "new"]
    assert len(world.fairness) == 0


def test_who_achieves_something_while_he_waits_comes_forward(world):
    crowd(world)
    publisher = world.account()
    world.ask("publisher", publisher)
    world.fairness.note(publisher, 1)
    assert publisher.is_favoured
    world.turn()
    assert world.done[0] == "publisher"


def test_those_that_are_welcome_share_the_time_of_all_that_wait(world):
    crowd(world)
    for number in range(8):
        account = world.account(f"198.51.100.{number}")
        world.fairness.welcome(account)
        assert not world.ask(f"new {number}", account)
    world.turn()
    assert len(world.done) == round(TURN_S / 0.001)


def test_a_welcome_is_used_up(world):
    account = world.account()
    world.fairness.welcome(account)
    world.work(account, 0.1)
    assert account.comes_first(sending=False), "coming in itself does not count"
    world.work(account, WELCOME_S)
    assert not account.comes_first(sending=False)
    for _ in range(WELCOME_SENDS):
        assert account.comes_first(sending=True)
        began = world.seconds
        world.fairness.charge(account, began, 0, sending=True)
    assert not account.comes_first(sending=True)


def test_after_a_welcome_the_first_that_is_achieved_is_worth_as_much_as_any(world):
    account = world.account()
    world.work(account, 0.004)
    world.fairness.welcome(account)
    world.work(account, 0.000_1)
    world.work(account, 0.000_1, earned=1)
    assert account.is_favoured


def test_nobody_is_new_over_and_over(world):
    account = world.account()
    for _ in range(WELCOMES):
        world.fairness.welcome(account)
        assert account.comes_first(sending=False)
        world.work(account, 0.000_1)
        world.work(account, WELCOME_S)
    world.fairness.welcome(account)
    assert not account.comes_first(sending=False)


def test_who_goes_and_comes_back_is_not_welcome_each_time(world):
    world.work(world.account("192.0.2.9"), 2 * WELCOME_USED_S)
    again = world.account("192.0.2.9")
    world.fairness.welcome(again)
    assert not again.comes_first(sending=False)


def test_what_is_kept_of_those_that_came_forward_is_bounded(world):
    crowd(world, 40)
    publisher = world.account()
    for earned in range(1, 1_000):
        world.ask("publisher", publisher)
        world.fairness.note(publisher, earned)
        world.work(publisher, 0.2, earned=earned)
        world.fairness._take()
    assert len(world.fairness._ranked) <= 3 * (40 + AT_ONCE)


class Timed:
    """Fairness on an event loop whose time and timers a test has in its hands."""

    def __init__(self, monkeypatch) -> None:
        self.seconds = 100.0
        self.waited = []
        self.done: list[str] = []
        monkeypatch.setattr(asyncio, "get_running_loop", lambda: self)
        self.fairness = Fairness(TURN_S, now=self.time, idle_s=2 * TURN_S)

    def time(self) -> float:
        return self.seconds

    def call_soon(self, callback, *given) -> None:
        self.waited.append((0, partial(callback, *given)))

    def call_later(self, seconds, callback, *given):
        item = (seconds, partial(callback, *given))
        self.waited.append(item)
        return SimpleNamespace(cancel=lambda: self.waited.remove(item))

    def favoured_works(self) -> None:
        """Somebody who achieves something is read."""
        account = self.fairness.account("192.0.2.7")
        account.note(10, self.seconds)
        self.fairness.charge(account, self.seconds, 10)

    def wait(self, took: float) -> None:
        """Somebody else waits, for something that takes so long."""

        def go_on() -> None:
            self.seconds += took
            self.done.append("other")

        self.fairness.wait(self.fairness.account("192.0.2.1"), go_on)

    def next(self) -> float:
        """What is called next is called; how long it has waited, in turns."""
        seconds, callback = self.waited.pop(0)
        self.seconds += seconds
        callback()
        return round(seconds / TURN_S, 6)


def test_after_a_long_turn_the_favoured_have_longer_while_they_are_at_work(monkeypatch):
    timed = Timed(monkeypatch)
    timed.favoured_works()
    for turns in (3, 100, 0):
        timed.wait(turns * TURN_S)
    rests = []
    for _ in range(3):
        rests.append(timed.next())
        timed.favoured_works()
    assert rests == [2, 6, 2 * REST_MAX]


def test_with_nobody_favoured_at_work_one_turn_follows_the_other(monkeypatch):
    timed = Timed(monkeypatch)
    for _ in range(3):
        timed.wait(1.5 * TURN_S)
    assert [timed.next() for _ in range(3)] == [0, 0, 0]
    assert len(timed.done) == 3


def test_who_has_achieved_nothing_is_not_at_work_however_seldom_it_asks(monkeypatch):
    timed = Timed(monkeypatch)
    quiet = timed.fairness.account("192.0.2.8")
    quiet.charge(timed.seconds, timed.seconds, 0, sending=False)
    timed.seconds += 1_000
    timed.fairness.charge(quiet, timed.seconds, 0)
    assert quiet.is_favoured
    timed.wait(TURN_S)
    assert timed.next() == 0


def test_while_the_favoured_are_at_work_a_turn_is_shorter(monkeypatch):
    timed = Timed(monkeypatch)
    for _ in range(30):
        timed.wait(TURN_S / 7.5)
    timed.next()
    assert len(timed.done) == 8
    timed.favoured_works()
    timed.next()
    assert len(timed.done) == 16
    timed.next()
    assert len(timed.done) == 16 + 8 // SHORTER


def test_a_turn_comes_at_the_end_of_a_commit_and_not_beside_it(monkeypatch):
    timed = Timed(monkeypatch)
    timed.fairness.is_committing = lambda: True
    timed.favoured_works()
    timed.wait(0)

    assert timed.next() == 2
    assert not timed.done
    timed.fairness.give_way(lambda: timed.done.append("commit"))
    timed.next()
    assert timed.done == ["other", "commit"]
    assert not timed.waited


def test_a_turn_that_is_not_due_does_not_hold_up_the_next_commit(monkeypatch):
    timed = Timed(monkeypatch)
    timed.fairness.give_way(lambda: timed.done.append("commit"))
    timed.favoured_works()
    timed.wait(0)
    timed.fairness.give_way(lambda: timed.done.append("commit"))
    assert timed.done == ["commit", "commit"]


def test_a_commit_that_takes_long_is_not_waited_for(monkeypatch):
    timed = Timed(monkeypatch)
    timed.fairness.is_committing = lambda: True
    timed.favoured_works()
    timed.wait(0)
    timed.next()
    assert timed.next() == COMMIT_S / TURN_S
    assert timed.done == ["other"]


async def test_work_that_has_no_end_stands_back_while_some_wait_and_the_favoured_work(monkeypatch):
    slept = []

    async def sleep(seconds: float) -> None:
        slept.append(round(seconds / TURN_S, 6))

    timed = Timed(monkeypatch)
    monkeypatch.setattr(asyncio, "sleep", sleep)
    await timed.fairness.stand_back()
    timed.wait(0)
    await timed.fairness.stand_back()
    timed.favoured_works()
    for _ in range(2):
        timed.wait(2 * TURN_S)
    timed.next()
    await timed.fairness.stand_back()
    assert slept == [0, 0, 2]


def test_a_fault_in_a_turn_does_not_keep_the_next_commit_from_beginning(monkeypatch):
    timed = Timed(monkeypatch)
    timed.favoured_works()
    timed.fairness.wait(timed.fairness.account("192.0.2.1"), lambda: 1 / 0)
    timed.seconds += 2 * TURN_S
    timed.fairness.give_way(lambda: timed.done.append("commit"))
    with pytest.raises(ZeroDivisionError):
        timed.next()
    assert timed.done == ["commit"]


def test_who_comes_back_to_an_address_that_has_achieved_something_comes_first(world):
    good = world.account("192.0.2.5")
    world.work(good, 0.000_05, earned=100)
    crowd(world)
    world.ask("back again", world.account("192.0.2.5"))
    world.turn()
    assert world.done[0] == "back again"


def test_what_an_address_has_achieved_is_forgotten_and_worth_nothing_to_who_abuses_it(world):
    world.work(world.account("192.0.2.5"), 0.000_05, earned=100)
    assert world.account("192.0.2.5").comes_first(sending=False)
    world.work(world.account("192.0.2.5"), 2 * WELCOME_USED_S)
    assert not world.account("192.0.2.5").comes_first(sending=False)

    world.work(world.account("192.0.2.6"), 0.000_05, earned=10**9)
    world.seconds += 9 * GOODWILL_HALF_LIFE_S
    assert world.account("192.0.2.6").comes_first(sending=False)
    world.seconds += GOODWILL_HALF_LIFE_S
    assert not world.account("192.0.2.6").comes_first(sending=False)


def test_coming_back_first_is_used_up(world):
    world.work(world.account("192.0.2.5"), 0.000_05, earned=100)
    back = world.account("192.0.2.5")
    world.work(back, 1.01 * RETURN_S)
    assert not back.comes_first(sending=False)


def test_less_is_read_at_once_while_it_takes_long_to_be_sent_on():
    room = ReadRoom()
    assert len(room.large) == READ_BYTES
    room.fit(SEND_S / 2)
    assert len(room.large) == READ_BYTES, "neither long nor short"
    for _ in range(20):
        room.fit(2 * SEND_S)
    assert len(room.large) == READ_BYTES_MIN
    room.fit(0.0)
    assert len(room.large) == 2 * READ_BYTES_MIN
    for _ in range(20):
        room.fit(0.0)
    assert len(room.large) == READ_BYTES
    assert len(room.small) == SMALL_READ_BYTES


async def test_a_turn_tells_how_long_those_that_are_favoured_took(world):
    told = []
    turn = Turn(world.fairness, on_flushed=told.append)
    turn.mark(Dirty(world, "good", favoured=True))
    turn.mark(Dirty(world, "bad", favoured=False))
    await asyncio.sleep(0)
    assert told == [pytest.approx(0.001)]


async def test_of_those_that_are_late_the_one_that_has_used_least_comes_first(world):
    turn = Turn(world.fairness)
    greedy = [Dirty(world, f"greedy {number}", favoured=False) for number in range(4)]
    for each in greedy:
        world.work(each.account, 0.02)
        turn.mark(each)
    await asyncio.sleep(0)
    newcomer = Dirty(world, "new", favoured=False, address="192.0.2.77")
    turn.mark(newcomer)
    await asyncio.sleep(0)
    world.turn()
    assert world.done[0] == "new"


@pytest.fixture
def shared(tmp_path):
    return Shared(Settings(data_dir=tmp_path, max_links=100, max_sessions=50))


def test_links_of_all_connections_are_bounded_and_each_may_have_a_few(shared):
    greedy, modest = Holding(shared), Holding(shared)
    assert greedy.count(100, 1) is None
    too_much = greedy.count(101, 1)
    assert too_much is not None
    assert too_much.info == {"limit-links": 100}
    assert modest.count(LINKS_FREE, 1) is None
    assert modest.count(LINKS_FREE + 1, 1) is not None


def test_sessions_of_all_connections_are_bounded_and_each_may_have_a_few(shared):
    greedy, modest = Holding(shared), Holding(shared)
    assert greedy.count(0, 50) is None
    too_much = greedy.count(0, 51)
    assert too_much is not None
    assert too_much.info == {"limit-sessions": 50}
    assert modest.count(0, SESSIONS_FREE) is None
    assert modest.count(0, SESSIONS_FREE + 1) is not None


def test_a_connection_that_leaves_makes_room(shared):
    greedy, other = Holding(shared), Holding(shared)
    greedy.count(100, 50)
    assert other.count(LINKS_FREE + 1, 1) is not None
    greedy.leave()
    assert other.count(LINKS_FREE + 2, SESSIONS_FREE + 1) is None
    assert shared.links == LINKS_FREE + 2
