"""The asking side of one link: a receiver of a subscription that another node serves.

It is pulled from like a `hotpath.service.deliver.Receiver`. What the client has credit for is asked
of the owner, waits here, and is given out with the next pull; outcomes are gathered for a turn of
the loop and handed on together. `then` calls back when they are durable there, and never when that
is not known: then the link ends, which is `closed`, and `ended` says why.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Final, Protocol

from hotpath.cluster.cards import NodeCard
from hotpath.cluster.relay.frames import Damaged, NotServed, Op, Unreached, read_items, write_items
from hotpath.cluster.relay.messages import (
    Outcome,
    Refusals,
    as_int,
    as_list,
    read_refusals,
    read_taken,
    split_taken,
)
from hotpath.cluster.relay.owner import BYTES_MAX, TAKE_MAX
from hotpath.core.feed import Taken
from hotpath.model.errors import HotpathError, Unavailable
from hotpath.model.subscription import SubscriptionSpec
from hotpath.ports import Clock
from hotpath.service.clock import sleep_until
from hotpath.service.feeds import Refused, What
from hotpath.service.waking import credit_unknown
from hotpath.telemetry import get_logger

#: How long an owner is looked for when a client attaches, and how often, milliseconds.
ATTACH_MS: Final = 10_000
RETRY_MS: Final = 100
#: How long outcomes may take to become durable, milliseconds.
SETTLE_MS: Final = 60_000
#: After so long what was taken ahead, and nobody pulls, goes back, milliseconds.
IDLE_MS: Final = 1_000

Done = Callable[[Refused], None]

_Given = tuple[tuple[int, int], dict[str, object] | None, bool]
_NOTHING_GIVEN: Final[_Given] = ((0, 0), None, False)

_log = get_logger("hotpath.cluster.remote")


class Way(Protocol):
    """How a link reaches the owner of its subscription."""

    clock: Clock
    card: NodeCard
    """This node."""

    def owner_of(self, spec: SubscriptionSpec) -> NodeCard | None:
        """The node that serves a subscription; None while nobody does. Raises Unavailable."""
        ...

    async def ask(self, card: NodeCard, op: Op, body: bytes, *, timeout_ms: int) -> bytes:
        """The answer of a node. Raises HotpathError."""
        ...

    def opened(self, link: "RemoteReceiver") -> None:
        """A link has its number at its owner."""
        ...

    def ended(self, link: "RemoteReceiver") -> None:
        """A link is not there any more."""
        ...


class RemoteSubscription:
    """Stands for a subscription whose state is elsewhere, where edges look at one.

    Attributes:
        spec: What it is.
        behind_at: As of one that is live: what is not known yet is the feed's `missing`.
        ready_count: Nothing waits here that could be taken at once.
    """

    __slots__ = ("spec",)

    behind_at: Final = None
    ready_count: Final = 0

    def __init__(self, spec: SubscriptionSpec) -> None:
        self.spec = spec

    def has_more(self) -> bool:
        """As of one that has nothing: a pull finds out."""
        return False


class RemoteFeed:
    """What an edge asks of a feed whose state is elsewhere.

    What the client has under lock is not known here: whether a lock holds is the owner's to say.

    Attributes:
        link: Whose feed.
    """

    __slots__ = ("link",)

    def __init__(self, link: "RemoteReceiver") -> None:
        self.link = link

    @property
    def missing(self) -> int | None:
        """Not None while it is not known whether there is more to take."""
        return 0 if self.link.is_asking else None


class _Batch:
    """Outcomes that go together, who hears of them, and what the owner has answered."""

    __slots__ = ("dones", "outcomes", "refused")

    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []
        self.dones: list[Done] = []
        self.refused: Refusals | None = None


class RemoteReceiver:
    """A reader of a subscription, or of its dead letters, on another node.

    Attributes:
        subscription: Whose feed, as far as it is known here.
        feed: Stands for the feed.
        lock: Peek-lock; else what is taken is settled at once.
        wake: Called when there may be something to pull.
        credit: As of a local receiver; the owner does not ask for it.
        closed: Called when the link has ended; `ended` says why, None: the subscription is gone.
        attached: Neither detached nor closed yet.
        pending: As of a local receiver; nothing is kept back here.
        card: The owner, once attached there.
        number: Names the link there.
    """

    def __init__(
        self,
        way: Way,
        spec: SubscriptionSpec,
        *,
        dead: bool,
        lock: bool,
        wake: Callable[[], None],
        closed: Callable[[], None],
    ) -> None:
        self.subscription = RemoteSubscription(spec)
        self.feed = RemoteFeed(self)
        self.dead = dead
        self.lock = lock
        self.wake = wake
        self.credit: Callable[[], int | None] = credit_unknown
        self.closed = closed
        self.ended: HotpathError | None = None
        self.attached = True
        self.pending = 0
        self.card: NodeCard | None = None
        self.number = 0
        self._attaching: tuple[NodeCard, asyncio.Future[bytes]] | None = None
        self._way = way
        self._queue: deque[Taken] = deque()
        self._wanted = 0
        self._taking = False
        self._more = False
        self._busy = False
        self._wakes_heard = 1
        self._wakes_taken = 0
        self._pulled_ms = way.clock.ticks_ms()
        self._gathered = _Batch()
        self._under_way: deque[_Batch] = deque()
        self._given = _NOTHING_GIVEN
        self._quiet = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._spawn(self._attach())

    # Attaching

    async def _attach(self) -> None:
        """Find the owner, and become one of its receivers."""
        until_ms = self._way.clock.ticks_ms() + ATTACH_MS
        spec = self.subscription.spec
        error: HotpathError = Unavailable("no node serves the subscription now; try again later")
        while self.attached and self._way.clock.ticks_ms() < until_ms:
            try:
                card = self._way.owner_of(spec)
                answer = None if card is None else await self._ask_to_attach(card)
                if card is not None and answer is not None:
                    self._attached(card, as_int(read_items(answer, 1)[0]))
                    return
            except (NotServed, Unreached):
                pass  # it moves, or its node is going: somebody else will have it
            except HotpathError as fault:
                error = fault
                break
            await sleep_until(self._way.clock, self._way.clock.ticks_ms() + RETRY_MS)
        self.end(error)

    async def _ask_to_attach(self, card: NodeCard) -> bytes | None:
        """The owner's answer; None when another one has come before it. Raises HotpathError."""
        spec, me = self.subscription.spec, self._way.card
        body = write_items(spec.id, self.dead, self.lock, False, me.id, me.run)
        asked = asyncio.ensure_future(self._way.ask(card, Op.ATTACH, body, timeout_ms=3_000))
        self._attaching = (card, asked)
        try:
            await asyncio.wait({asked})
        finally:
            self._attaching = None
            asked.cancel()
        return None if asked.cancelled() else asked.result()

    def ask_another(self, owner: NodeCard | None) -> None:
        """The subscription may have another owner: the answer of one that is dead never comes."""
        if self._attaching is not None and self._attaching[0] != owner:
            self._attaching[1].cancel()

    def _attached(self, card: NodeCard, number: int) -> None:
        self.card, self.number = card, number
        self._way.opened(self)
        if not self.attached:
            self._spawn(self._detach())
            return
        self.wake()

    def detach(self) -> None:
        """The client is gone: what it held goes back, after the outcomes it has given."""
        if not self.attached:
            return
        self.attached = False
        self.wake = self.closed = _nothing
        if self.card is not None:
            self._spawn(self._detach())

    async def _detach(self) -> None:
        """Leave the owner, once it has all outcomes; it notices by itself if this is lost."""
        card = self.card
        if card is None:
            return
        await self.settled()
        try:
            await self._way.ask(card, Op.DETACH, write_items(self.number), timeout_ms=3_000)
        finally:
            self._way.ended(self)

    def end(self, error: HotpathError | None) -> None:
        """The link is gone; nothing that is not confirmed by now ever will be."""
        self._way.ended(self)
        self.card = None
        self._under_way.clear()
        self._gathered = _Batch()
        self._queue.clear()
        self._quiet.set()
        if not self.attached:
            return
        self.attached = False
        self.ended = error
        closed = self.closed
        self.wake = self.closed = _nothing
        closed()

    # Taking

    @property
    def is_asking(self) -> bool:
        """Whether it is not known yet that there is nothing more to take."""
        if not self.attached:
            return False
        return self.card is None or self._taking or self._busy or self._is_due

    @property
    def _is_due(self) -> bool:
        return self._more or self._wakes_heard > self._wakes_taken

    def pull(self, limit: int) -> list[Taken]:
        """Up to `limit` messages that have come; more is asked for."""
        self._pulled_ms = self._way.clock.ticks_ms()
        given: list[Taken] = []
        while limit > 0 and self._queue:
            part = self._queue.popleft()
            if len(part.seqs) > limit:
                part, rest = split_taken(part, limit)
                self._queue.appendleft(rest)
            limit -= len(part.seqs)
            given.append(part)
        self._wanted = min(limit, TAKE_MAX)
        if self._wanted > 0:
            self._ask_for_more()
        return given

    def _ask_for_more(self) -> None:
        if self.card is not None and self.attached and not self._taking and self._is_due:
            self._taking = True
            # What the client gives back comes to itself before later ones, as it does here.
            self._flush()
            self._spawn(self._take(self.card, self._wanted))

    def note_wakes(self, wakes: int) -> None:
        """The owner was woken so many times for this link."""
        if wakes > self._wakes_heard:
            self._wakes_heard = wakes
            if self._is_due:
                self._busy = False
                self.wake()

    async def _take(self, card: NodeCard, credit: int) -> None:
        asked_ms = self._way.clock.ticks_ms()
        body = write_items(self.number, credit, BYTES_MAX)
        try:
            answer = await self._way.ask(card, Op.TAKE, body, timeout_ms=5_000)
            more, busy, wakes, parts = read_items(answer, 4)
            key = self.subscription.spec.key
            taken = [read_taken(part, key, now_ms=asked_ms) for part in as_list(parts)]
            count = as_int(wakes)
        finally:
            self._taking = False
        if not self.attached:
            return
        self._more, self._busy = more is True, busy is True
        self._wakes_taken = max(self._wakes_taken, count)
        self._wakes_heard = max(self._wakes_heard, count)
        self._queue.extend(taken)
        self.wake()

    def give_back_idle(self) -> None:
        """What was taken ahead and nobody pulls is for others."""
        idle = self._way.clock.ticks_ms() - self._pulled_ms > IDLE_MS
        if not self._queue or not idle or not self.lock:
            return
        for part in self._queue:
            self._gather(Outcome(What.ABANDON, part.serial, part.seqs, failed=False))
        self._queue.clear()

    # Outcomes

    @property
    def far(self) -> "RemoteReceiver":
        """Itself: another node serves the feed."""
        return self

    def complete_runs(self, runs: Iterable[tuple[int, Sequence[int]]]) -> None:
        """Settle messages for good: runs under one lock each, its serial and their numbers."""
        for serial, seqs in runs:
            self._gather(Outcome(What.COMPLETE, serial, seqs))

    def modify(
        self, held: tuple[int, int], properties: Mapping[str, object], *, optional: bool
    ) -> None:
        """Give a message properties with the outcome that comes next."""
        if properties and not self.dead:
            self._given = (held, dict(properties), optional)

    def _take_given(self, seq: int, serial: int) -> tuple[dict[str, object] | None, bool]:
        """What the message was given just before, and whether its outcome counts without."""
        (given_to, properties, optional), self._given = self._given, _NOTHING_GIVEN
        return (properties, optional) if given_to == (seq, serial) else (None, False)

    def abandon(self, seq: int, serial: int, *, failed: bool = True) -> None:
        """Give a message back."""
        given, optional = self._take_given(seq, serial)
        self._gather(
            Outcome(
                What.ABANDON, serial, (seq,), failed=failed, properties=given, optional=optional
            )
        )

    def defer(self, seq: int, serial: int) -> None:
        """Set a message aside."""
        given, optional = self._take_given(seq, serial)
        self._gather(Outcome(What.DEFER, serial, (seq,), properties=given, optional=optional))

    def dead_letter(
        self,
        held: tuple[int, int],
        *,
        reason: str,
        description: str = "",
        properties: dict[str, object] | None = None,
    ) -> None:
        """Copy a message to the dead letters."""
        seq, serial = held
        outcome = Outcome(
            What.DEAD_LETTER,
            serial,
            (seq,),
            properties=properties or None,
            reason=reason,
            description=description,
        )
        self._gather(outcome)

    def then(self, done: Done) -> None:
        """Call back when everything given so far is durable, with what was refused of it.

        Calls come in the order of their asking.
        """
        if self._gathered.outcomes:
            self._gathered.dones.append(done)
        elif self._under_way:
            self._under_way[-1].dones.append(done)
        elif self.attached:
            asyncio.get_running_loop().call_soon(done, {})

    async def settled(self) -> None:
        """Wait until everything given so far is durable, or never will be."""
        self._flush()
        while self._under_way:
            self._quiet.clear()
            await self._quiet.wait()

    def _gather(self, outcome: Outcome) -> None:
        if self.card is None:
            return  # ended: nothing is confirmed any more
        if not self._gathered.outcomes:
            asyncio.get_running_loop().call_soon(self._flush)
        self._gathered.outcomes.append(outcome)

    def _flush(self) -> None:
        batch = self._gathered
        if batch.outcomes and self.card is not None:
            self._gathered = _Batch()
            self._under_way.append(batch)
            self._spawn(self._settle(self.card, batch))

    async def _settle(self, card: NodeCard, batch: _Batch) -> None:
        body = write_items(self.number, [outcome.write() for outcome in batch.outcomes])
        answer = await self._way.ask(card, Op.SETTLE, body, timeout_ms=SETTLE_MS)
        batch.refused = read_refusals(read_items(answer, 1)[0])
        # In their order, whichever was answered first; none when the link has ended meanwhile.
        while self._under_way and (refused := self._under_way[0].refused) is not None:
            for done in self._under_way.popleft().dones:
                done(refused)
        self._quiet.set()

    # Work

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.ensure_future(self._guard(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _guard(self, work: Coroutine[None, None, None]) -> None:
        """Whatever goes wrong with the owner ends the link."""
        try:
            await work
        except (NotServed, Unreached) as error:
            self.end(Unavailable(f"the subscription moves to another node: {error.detail}"))
        except HotpathError as error:
            self.end(error)
        except Damaged as fault:
            _log.error("a node's answer is unreadable", extra={"reason": str(fault)})
            self.end(Unavailable("the node that serves the subscription cannot be understood"))
        except Exception:  # noqa: BLE001 - the edge of the task
            _log.exception("a link to another node broke")
            self.end(Unavailable("internal error"))


def _nothing() -> None:
    """Who hears of a link that is gone."""
