"""Who is read when there is more to be read than there is time.

Thousands of peers that say much and achieve nothing must not delay one that publishes or settles.
So the time that a connection takes is measured, and set against what it has achieved:

    earned     EARNED_S for each message published and each outcome applied, kept up to BALANCE_S
    favoured   more earned than used: read and sent to at once, whatever the others do
    others     together so much time in a turn (`fair_turn_ms`) for connecting, reads, log-ins, leaving
               and what they are sent; who would be over it waits, with one small read kept and its
               socket not read any more. Of those that wait, who has just got its first right or link
               comes first, and who connects from an address that has achieved something; then the
               one that has used least, its address included, for what it has achieved: a new client
               comes before those that have made work for long, or go and come back. Every second
               one is somebody who leaves, as long as there are such: what they hold goes with them.

While there is something to do for the favoured, they have twice as long a time between two turns as
the others have had, also when it is nothing right now: a commit goes through several turns of the
event loop, which are short for as long as those that wait are left alone. With no favoured at work
one turn follows the other. And a turn comes between two commits rather than beside one: the writer
thread would have to get the interpreter from it some times, and wait each time.

With no contention there is no waiting. What a peer that has to wait sends meanwhile stays in its
own socket and then in its own machine. When very many wait, addresses that have used much get no
further connection until there are fewer.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from itertools import count
from typing import Final, NamedTuple

#: What one useful message or outcome is worth, seconds of reading: some times what it takes.
EARNED_S: Final = 0.000_5
#: What is kept of earnings, and owed of time, at the most, seconds.
BALANCE_S: Final = 0.1
#: Once it has its first right, and its first link, a connection comes first among those that wait, for so
#: many seconds of reading and so often when something is to be sent: enough to go on to the first
#: message, or to be sent some and give the first outcome. So a client that means well is at work soon,
#: whoever else is there; and when thousands come they share what all others share.
WELCOME_S: Final = 0.000_5
WELCOME_SENDS: Final = 4
#: But not when its address has used so much lately, seconds: who goes and comes back is not new.
WELCOME_USED_S: Final = 0.02
#: So often at the most: who attaches and detaches over and over is not new each time.
WELCOMES: Final = 2
#: What coming in may take, seconds: until it is over it does not count when those that wait are put in
#: order, so who comes now does not stand back behind thousands who have come and achieve nothing.
ARRIVAL_S: Final = 0.002
#: What has been achieved counts up to so much: whoever has, may have used ten times what another one
#: has used before it stands where that one does.
ACHIEVED: Final = 9
#: What everybody earns by being there, seconds a second, and kept of it: enough for heartbeats.
TRICKLE: Final = 0.000_005
TRICKLE_S: Final = 0.000_2
#: While the favoured are at work a turn of the others is so much shorter.
SHORTER: Final = 2
#: For one part of the time that the others get while there is contention, the favoured get so many.
IDLE_PARTS: Final = 2
#: The favoured are at work until so long after one of them was read or sent something, seconds: a
#: commit and the way to its receivers.
AT_WORK_S: Final = 0.005
#: So much longer those that wait stand back for a commit that is on its way, seconds; a disk may be slow.
COMMIT_S: Final = 0.005
#: A turn that took longer than it should is followed by a longer time for the favoured, up to so many
#: times the usual one.
REST_MAX: Final = 10
#: Of those that wait, so many go on in a turn at the most, however little time they take.
AT_ONCE: Final = 64
#: Differences below it do not count among those that wait: who has begun to log in must not stand
#: back behind everybody who has not, seconds.
STEP_S: Final = 0.001
#: Half of what an address has used is forgotten in this time, seconds.
HALF_LIFE_S: Final = 30.0
#: And half of what it has achieved in this; so much of it counts.
GOODWILL_HALF_LIFE_S: Final = 300.0
GOODWILL_MAX: Final = 1_000.0
#: Whose address has achieved something comes first with so many seconds of a new connection: a client
#: that was cut off gets back in, whoever else is there.
RETURN_S: Final = 0.005
#: When so many wait, an address that has used so many seconds gets no further connection.
BUSY_WAITING: Final = 128
BUSY_USED_S: Final = 0.02
#: Addresses that are known at a time; the one that connected last is forgotten last.
ORIGINS_MAX: Final = 10_000


class Origin:
    """What all connections of one address have used lately without achieving something, and achieved."""

    __slots__ = ("_achieved", "_at", "_used")

    def __init__(self, now: float) -> None:
        self._used = self._achieved = 0.0
        self._at = now

    def _forget(self, now: float) -> None:
        passed, self._at = now - self._at, now
        self._used *= 0.5 ** (passed / HALF_LIFE_S)
        self._achieved *= 0.5 ** (passed / GOODWILL_HALF_LIFE_S)

    def used(self, now: float) -> float:
        """Seconds; half of it is forgotten in HALF_LIFE_S."""
        self._forget(now)
        return self._used

    def is_good(self, now: float) -> bool:
        """Whether it has achieved something lately, and used little without that."""
        self._forget(now)
        return self._achieved >= 1 and self._used < WELCOME_USED_S

    def achieve(self, count: int, now: float) -> None:
        """So many messages or outcomes more."""
        self._forget(now)
        self._achieved = min(self._achieved + count, GOODWILL_MAX)

    def add(self, took: float, now: float) -> None:
        """So much more."""
        self._used = max(self.used(now) + took, 0.0)


class Account:
    """What one connection has used and achieved.

    Attributes:
        waits: The numbers under which it waits.
    """

    __slots__ = (
        "_balance",
        "_earned",
        "_is_new",
        "_origin",
        "_return_s",
        "_seen",
        "_used",
        "_welcome_s",
        "_welcome_sends",
        "_welcomes",
        "waits",
    )

    def __init__(self, origin: Origin, now: float) -> None:
        self._origin = origin
        self.waits: set[int] = set()
        self._used = self._balance = self._welcome_s = 0.0
        self._earned = self._welcomes = self._welcome_sends = 0
        self._is_new = False
        self._return_s = RETURN_S if origin.is_good(now) else 0.0
        self._seen = now

    @property
    def is_favoured(self) -> bool:
        """Whether it has achieved more than it has cost."""
        return self._balance > 0

    def comes_first(self, *, sending: bool) -> bool:
        """Whether it comes before the others that wait, to be read or to be sent something."""
        if self._balance > 0 or self._return_s > 0:
            return True
        return self._welcome_sends > 0 if sending else self._welcome_s > 0

    def welcome(self, now: float) -> None:
        """Let it come first for a while, and forgive what coming in took, WELCOMES times."""
        if self._welcomes < WELCOMES and self._origin.used(now) < WELCOME_USED_S:
            self._welcomes += 1
            self._balance = max(self._balance, 0.0)
            self._welcome_s, self._welcome_sends = WELCOME_S, WELCOME_SENDS
            self._is_new = True

    def rank(self, now: float) -> int:
        """By what it took since it was favoured, and its address lately: the least comes first.

        Who has achieved something, and has been unlucky with what that took, does not wait behind
        thousands who have achieved nothing.
        """
        used = self._used + self._origin.used(now)
        if self._welcomes < WELCOMES:
            used -= ARRIVAL_S
        return int(max(used, 0.0) / (1 + min(self._earned, ACHIEVED)) / STEP_S)

    def note(self, earned: int, now: float) -> None:
        """So much has been achieved in all."""
        if earned != self._earned:
            gained = EARNED_S * (earned - self._earned)
            self._origin.achieve(earned - self._earned, now)
            self._earned = earned
            self._balance = min(self._balance + gained, BALANCE_S)

    def charge(self, began: float, ended: float, earned: int, *, sending: bool) -> None:
        """Something took so long; `earned` counts what has been achieved in all."""
        took, gained = ended - began, EARNED_S * (earned - self._earned)
        # What it became welcome in belongs to coming in.
        counted = 0.0 if self._is_new else took
        self._is_new = False
        if sending:
            self._welcome_sends -= 1
        else:
            self._welcome_s -= counted
        self._return_s -= took
        if gained > 0:
            self._origin.achieve(earned - self._earned, ended)
        balance = self._balance
        if balance < TRICKLE_S:
            balance = min(balance + TRICKLE * (ended - self._seen), TRICKLE_S)
        self._balance = max(min(balance + gained - counted, BALANCE_S), -BALANCE_S)
        self._earned, self._seen = earned, ended
        if self._balance > 0:
            # It was well used.
            self._origin.add(-self._used, ended)
            self._used = 0.0
        else:
            self._used += took
            self._origin.add(took, ended)


class _Wait(NamedTuple):
    """Somebody who waits, and what is called when it is his turn."""

    account: Account
    go_on: Callable[[], None]
    sending: bool


class Fairness:
    """Decides for all sockets of the edge.

    Args:
        turn_s: Time in a turn for all that are not favoured, seconds.
        now: Seconds that this thread has worked; they are meant wherever seconds are spoken of.
        idle_s: Time between two turns for those that are favoured while they are at work, seconds;
            none: as soon as can be. Longer after a turn that took longer than `turn_s`.
        later: Calls back in the next turn, instead of the event loop.

    Attributes:
        is_committing: Says whether a commit is on its way; `give_way` is told of its end.
    """

    def __init__(
        self,
        turn_s: float,
        *,
        now: Callable[[], float],
        idle_s: float = 0.0,
        later: Callable[[Callable[[], None]], None] | None = None,
    ) -> None:
        self.now = now
        self._idle_s = self._rest_s = idle_s
        self.turn_s = self._limit_s = turn_s
        self._later = later or self._call_later
        self._spent = 0.0
        self._is_turn_due = self._is_at_work = False
        self._at_work_until_s = self._turn_from_s = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self.is_committing: Callable[[], bool] = lambda: False
        # Those that wait by number, in the order of their coming; the numbers of those that do not
        # come first, by rank; of those that do; and of those that leave.
        self._waiting: dict[int, _Wait] = {}
        self._ranked: list[tuple[int, int]] = []
        self._first: deque[int] = deque()
        self._leaving: deque[int] = deque()
        self._is_leavers = True
        self._numbers = count()
        self._origins: OrderedDict[str, Origin] = OrderedDict()

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def is_contended(self) -> bool:
        """Whether somebody waits; while nobody does, there is no need to measure the favoured."""
        return bool(self._waiting)

    def account(self, address: str) -> Account:
        """For a new connection from an address."""
        return Account(self._origin(address), self.now())

    def _origin(self, address: str) -> Origin:
        origin = self._origins.pop(address, None) or Origin(self.now())
        self._origins[address] = origin
        if len(self._origins) > ORIGINS_MAX:
            self._origins.popitem(last=False)
        return origin

    def is_burdened_by(self, address: str) -> bool:
        """Whether very many wait, and this address has much to do with it."""
        if len(self._waiting) < BUSY_WAITING or address not in self._origins:
            return False
        return self._origins[address].used(self.now()) > BUSY_USED_S

    @property
    def is_pressed(self) -> bool:
        """Whether somebody waits while the favoured are at work: what others get is to be short."""
        return bool(self._waiting) and self._limit_s < self.turn_s

    @property
    def has_time(self) -> bool:
        """Whether nobody waits, and there is time left in this turn."""
        return not self._waiting and self._spent < self._limit_s

    def may_go(self, account: Account, *, sending: bool = False) -> bool:
        """Whether what a connection has to do may be done now; if not, it has to `wait`.

        `sending`: something is to be sent to it; else it is to be read.
        """
        if account.is_favoured:
            return True
        if self._spent >= self._limit_s:
            return False
        if not self._waiting:
            return True
        if self._first:
            return False
        if not self._ranked or account.comes_first(sending=sending):
            return True
        return account.rank(self.now()) < self._ranked[0][0]

    def welcome(self, account: Account) -> None:
        """A connection has got a right or a link: it comes first for a while."""
        account.welcome(self.now())
        self._advance(account)

    def note(self, account: Account, earned: int) -> None:
        """A connection has achieved so much in all."""
        account.note(earned, self.now())
        self._advance(account)

    def _advance(self, account: Account) -> None:
        """What waits for one that comes first now is not to wait where it stood."""
        if account.waits and account.comes_first(sending=False):
            waits, account.waits = account.waits, set()
            for number in sorted(waits):
                self._put(self._waiting.pop(number))
            if len(self._ranked) > 2 * len(self._waiting) + AT_ONCE:
                self._ranked = [each for each in self._ranked if each[1] in self._waiting]
                heapify(self._ranked)

    def _put(self, wait: _Wait, *, first: bool = False) -> None:
        number, account = next(self._numbers), wait.account
        self._waiting[number] = wait
        if first or account.comes_first(sending=wait.sending):
            self._first.append(number)
        else:
            account.waits.add(number)
            heappush(self._ranked, (account.rank(self.now()), number))

    def _take(self) -> Callable[[], None]:
        """Who comes first of those that wait."""
        if self._first:
            return self._waiting.pop(self._first.popleft()).go_on
        only_leavers = len(self._leaving) == len(self._waiting)
        self._is_leavers = bool(self._leaving) and (only_leavers or not self._is_leavers)
        if self._is_leavers:
            return self._waiting.pop(self._leaving.popleft()).go_on
        while True:
            number = heappop(self._ranked)[1]
            wait = self._waiting.pop(number, None)
            if wait is not None:
                wait.account.waits.discard(number)
                return wait.go_on

    def charge(self, account: Account, began: float, earned: int, *, sending: bool = False) -> None:
        """What began at a time for a connection is over."""
        ended = self.now()
        if not account.is_favoured:
            self.spend(ended - began)
        elif earned:
            self._is_at_work = True
        account.charge(began, ended, earned, sending=sending)
        self._advance(account)

    def wait(self, account: Account, go_on: Callable[[], None], *, sending: bool = False) -> None:
        """Call `go_on` when it is this connection's turn."""
        self._put(_Wait(account, go_on, sending))
        self._expect_turn()

    def leave(self, account: Account, go_on: Callable[[], None], *, first: bool) -> None:
        """Call `go_on`, which ends what is left of a connection, as one that comes first or soon."""
        wait = _Wait(account, go_on, sending=False)
        if first:
            self._put(wait, first=True)
        else:
            number = next(self._numbers)
            self._waiting[number] = wait
            self._leaving.append(number)
        self._expect_turn()

    async def turn_of(self, account: Account) -> None:
        """Return when it is this connection's turn; what it then does is to be charged.

        That comes later in the turn, or in the next one, so half of the time counts as spent.
        """
        if self.may_go(account):
            self.spend(self.turn_s / 2)
            return
        turn = asyncio.Event()

        def go_on() -> None:
            self.spend(self.turn_s / 2)
            turn.set()

        self.wait(account, go_on)
        await turn.wait()

    def spend(self, seconds: float) -> None:
        """So much of this turn is used up."""
        self._spent += seconds
        self._expect_turn()

    def finish(self) -> None:
        """Let all go on that wait, whatever it takes: the edge is closing."""
        while self._waiting:
            self._take()()

    def _expect_turn(self) -> None:
        if not self._is_turn_due:
            self._is_turn_due = True
            self._later(self._turn)

    def _turn(self) -> None:
        """A new turn: those that wait come first, as far as the time goes."""
        self._is_turn_due = False
        self._spent = 0.0
        began = self.now()
        for _ in range(AT_ONCE):
            if not self._waiting or max(self._spent, self.now() - began) >= self._limit_s:
                break
            self._take()()
        took_s = self.now() - began
        # What it has taken of their time is not theirs.
        self._at_work_until_s += took_s
        self._rest_s = self._idle_s * min(max(took_s / self.turn_s, 1.0), REST_MAX)
        if self._waiting:
            self._expect_turn()

    def _call_later(self, callback: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()
        now_s = loop.time()
        if self._is_at_work:
            self._is_at_work = False
            self._at_work_until_s = now_s + AT_WORK_S
        is_at_work = self._idle_s > 0 and now_s < self._at_work_until_s
        self._limit_s = self.turn_s / SHORTER if is_at_work else self.turn_s
        if is_at_work:
            self._turn_from_s = now_s + self._rest_s
            self._timer = loop.call_later(self._rest_s, self._come_between, callback)
        else:
            loop.call_soon(callback)

    def _come_between(self, callback: Callable[[], None]) -> None:
        """It is time for a turn; when a commit is on its way, that is at its end."""
        loop = asyncio.get_running_loop()
        if self.is_committing() and loop.time() < self._turn_from_s + COMMIT_S:
            self._timer = loop.call_later(COMMIT_S, self._come_between, callback)
        else:
            self._timer = None
            callback()

    def give_way(self, go_on: Callable[[], None]) -> None:
        """A commit is over, and `go_on` begins the next: a turn that is due comes between.

        What the commit has brought to the favoured is sent before it.
        """
        loop = asyncio.get_running_loop()
        if self._timer is None or loop.time() < self._turn_from_s:
            go_on()
            return
        self._timer.cancel()
        self._timer = None
        loop.call_soon(self._turn_and, go_on)

    async def stand_back(self) -> None:
        """A turn of the event loop; while others wait and the favoured are at work, as long as a rest.

        For work that is nobody's own and has no end: reading for feeds that are behind.
        """
        await asyncio.sleep(self._idle_s if self.is_pressed else 0)

    def _turn_and(self, go_on: Callable[[], None]) -> None:
        try:
            self._turn()
        finally:
            go_on()
