"""The asking side of a node: all its links to subscriptions that other nodes serve.

Every node whose links there are is pinged once a second with all of them; what it does not know any
more has ended, and so have all of them when it does not answer.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import lru_cache
from typing import Final, TypeVar

from hotpath.cluster.cards import NodeCard
from hotpath.cluster.ownership import Ownership
from hotpath.cluster.relay.calls import Calls
from hotpath.cluster.relay.frames import (
    Damaged,
    NotServed,
    Op,
    Unreached,
    read_items,
    write_items,
)
from hotpath.cluster.relay.messages import as_text, read_pairs, write_numbers
from hotpath.cluster.relay.remote import RemoteReceiver
from hotpath.cluster.waiting import wait_for
from hotpath.clusterports import shard_of
from hotpath.model.errors import HotpathError, Unavailable
from hotpath.model.subscription import SubscriptionSpec
from hotpath.ports import Clock, TimerHandle
from hotpath.service.clock import sleep_until
from hotpath.telemetry import get_logger

_Answer = TypeVar("_Answer")

#: How often a node shows that it has links, milliseconds; and how many of them in one call.
PING_MS: Final = 1_000
PING_MAX: Final = 4_096
#: How long somebody waits who asks about a subscription that moves, and how often it is asked
#: again, milliseconds.
MOVING_MS: Final = 5_000
AGAIN_MS: Final = 50

#: Asked at every pull.
_shard_of: Final = lru_cache(65_536)(shard_of)

_log = get_logger("hotpath.cluster.asking")


class Moving(Unavailable):
    """Nobody that could be asked serves it now. Nothing has been done: ask again soon."""


class RelayAsking:
    """A node's links to other nodes; a `remote.Way`."""

    def __init__(self, *, calls: Calls, ownership: Ownership, clock: Clock) -> None:
        self.clock = clock
        self.card = calls.card
        self._calls = calls
        self._ownership = ownership
        self._links: dict[tuple[str, str], dict[int, RemoteReceiver]] = {}
        self._cards: dict[tuple[str, str], NodeCard] = {}
        self._by_shard: dict[int, dict[RemoteReceiver, None]] = {}
        # Links of management, which take nothing: their owners must hear of them, too.
        self._kept: dict[tuple[str, str], set[int]] = {}
        self._fewer = asyncio.Event()
        #: Whether the owners are out of reach, for longer than a moment.
        self.is_cut_off: Callable[[], bool] = lambda: False
        self._timer: TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Begin to show links to their owners."""
        self._timer = self.clock.call_at(self.clock.ticks_ms() + PING_MS, self._ping_all)

    def stop(self) -> None:
        """End all links."""
        if self._timer is not None:
            self._timer.cancel()
        for links in list(self._links.values()):
            for link in list(links.values()):
                link.end(Unavailable("this node is shutting down"))
        for task in list(self._tasks):
            task.cancel()

    def attach(
        self,
        spec: SubscriptionSpec,
        *,
        dead: bool,
        lock: bool,
        wake: Callable[[], None],
        closed: Callable[[], None],
    ) -> RemoteReceiver:
        """A receiver of a subscription that another node serves; it attaches there by itself."""
        link = RemoteReceiver(self, spec, dead=dead, lock=lock, wake=wake, closed=closed)
        self._by_shard.setdefault(self.shard_of(spec), {})[link] = None
        return link

    @property
    def links(self) -> int:
        """How many links there are."""
        return sum(map(len, self._links.values()))

    # For links

    def shard_of(self, spec: SubscriptionSpec) -> int:
        """The shard of a subscription."""
        return _shard_of(spec.id, self._ownership.shards)

    def serves(self, identity: str) -> bool:
        """Whether this node serves a subscription now, if there is one of this name."""
        return self._ownership.serves(_shard_of(identity, self._ownership.shards))

    def owner_of(self, spec: SubscriptionSpec) -> NodeCard | None:
        """The node that serves a subscription; None while nobody does. Raises Unavailable."""
        if self.is_cut_off():
            raise Unavailable("this node is cut off from the others; attach to another one")
        shard = self.shard_of(spec)
        card = self._ownership.owner(shard)
        if card != self.card:
            return card
        if self._ownership.serves(shard):
            raise Moving("the subscription has moved to this node; attach again")
        return None  # it is about to serve it, or paused

    async def ask(self, card: NodeCard, op: Op, body: bytes, *, timeout_ms: int = 3_000) -> bytes:
        """The answer of a node. Raises HotpathError."""
        return await self._calls.call(card, op, body, timeout_ms=timeout_ms)

    async def ask_owner(self, spec: SubscriptionSpec, op: Op, body: bytes) -> bytes:
        """The answer of whoever serves a subscription. Raises Moving, HotpathError."""
        card = self.owner_of(spec)
        if card is None:
            raise Moving("no node serves the subscription now; try again later")
        return await self.ask_node(card, op, body)

    async def ask_node(
        self, card: NodeCard, op: Op, body: bytes, *, timeout_ms: int = 3_000
    ) -> bytes:
        """The answer of a node about what it is thought to serve. Raises Moving, HotpathError."""
        try:
            return await self.ask(card, op, body, timeout_ms=timeout_ms)
        except NotServed as error:
            raise Moving("the subscription moves to another node; try again") from error
        except Unreached as error:
            raise Unavailable("the node that serves the subscription is not reached") from error

    async def patiently(self, ask: Callable[[], Awaitable[_Answer]]) -> _Answer:
        """The answer of something that may be asked again while a subscription moves.

        Raises Unavailable when that takes too long, and what is raised besides `Moving`.
        """
        until_ms = self.clock.ticks_ms() + MOVING_MS
        while True:
            try:
                return await ask()
            except Moving as error:
                if self.clock.ticks_ms() >= until_ms:
                    raise Unavailable(error.detail) from error
            await sleep_until(self.clock, self.clock.ticks_ms() + AGAIN_MS)

    async def settled(self) -> None:
        """Wait until all outcomes that links were given are durable, or never will be."""
        for links in list(self._links.values()):
            for link in list(links.values()):
                await link.settled()

    async def drained(self, *, within_ms: int) -> None:
        """Wait a while for links that are being left, so that what they hold goes back at once."""
        until_ms = self.clock.ticks_ms() + within_ms
        while self._is_any_left() and self.clock.ticks_ms() < until_ms:
            await wait_for(self._fewer, self.clock, until_ms=until_ms)

    def _is_any_left(self) -> bool:
        """Whether a client is gone whose owner has not been told yet."""
        self._fewer.clear()
        links = self._links.values()
        return any(not link.attached for of_node in links for link in of_node.values())

    def opened(self, link: RemoteReceiver) -> None:
        """A link has its number at its owner."""
        if link.card is None:
            return
        run = (link.card.id, link.card.run)
        self._cards[run] = link.card
        self._links.setdefault(run, {})[link.number] = link

    def ended(self, link: RemoteReceiver) -> None:
        """A link is not there any more."""
        shard = self.shard_of(link.subscription.spec)
        of_shard = self._by_shard.get(shard, {})
        of_shard.pop(link, None)
        if not of_shard:
            self._by_shard.pop(shard, None)
        if link.card is None:
            return
        run = (link.card.id, link.card.run)
        self._links.get(run, {}).pop(link.number, None)
        self._forget(link.card)

    def keep(self, number: int, card: NodeCard) -> None:
        """Show a link that takes nothing to its owner, until `release`."""
        run = (card.id, card.run)
        self._cards[run] = card
        self._kept.setdefault(run, set()).add(number)

    def is_kept(self, number: int, card: NodeCard) -> bool:
        """Whether a link that takes nothing is still there, as far as it is known."""
        return number in self._kept.get((card.id, card.run), ())

    def release(self, number: int, card: NodeCard) -> None:
        """A link that takes nothing is not needed, or not there, any more."""
        kept = self._kept.get((card.id, card.run))
        if kept is not None:
            kept.discard(number)
            self._forget(card)

    def _forget(self, card: NodeCard) -> None:
        """Of a node to which nothing leads any more: it is not pinged."""
        self._fewer.set()
        run = (card.id, card.run)
        for links in (self._links, self._kept):
            if run in links and not links[run]:
                del links[run]
        if run not in self._links and run not in self._kept:
            self._cards.pop(run, None)

    # What is heard

    def on_owner(self, shard: int) -> None:
        """A shard may have another owner: links to the one before have ended."""
        owner = self._ownership.owner(shard)
        for link in list(self._by_shard.get(shard, ())):
            if link.card is None:
                link.ask_another(owner)
            elif link.card != owner:
                link.end(Unavailable("the subscription has moved to another node; attach again"))

    def told(self, op: Op, body: bytes) -> None:
        """Another node tells something about links."""
        try:
            node, run, packed = read_items(body, 3)
            links = self._links.get((as_text(node), as_text(run)), {})
            if op is Op.WAKE:
                _wake(links, read_pairs(packed))
            elif op is Op.CLOSED:
                _close(links, read_pairs(packed))
        except Damaged as fault:
            _log.warning("what a node told is unreadable", extra={"reason": str(fault)})

    # Pings

    def _ping_all(self) -> None:
        self._timer = self.clock.call_at(self.clock.ticks_ms() + PING_MS, self._ping_all)
        for run in list(self._cards):
            links = self._links.get(run, {})
            for link in list(links.values()):
                link.give_back_idle()
            numbers = [*links, *self._kept.get(run, ())]
            for at in range(0, len(numbers), PING_MAX):
                task = asyncio.ensure_future(self._ping(run, numbers[at : at + PING_MAX]))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _ping(self, run: tuple[str, str], numbers: list[int]) -> None:
        """Show links to their owner; what it does not know any more has ended."""
        card = self._cards.get(run)
        if card is None:
            return
        try:
            answer = await self.ask(card, Op.PING, write_items(write_numbers(numbers)))
            there = dict(read_pairs(read_items(answer, 1)[0]))
        except (HotpathError, Damaged) as error:
            _log.warning("owner does not answer", extra={"node": card.id, "reason": str(error)})
            there = {}
        links = self._links.get(run, {})
        for number in numbers:
            link = links.get(number)
            if number not in there:
                self.release(number, card)
            if link is None:
                continue
            if number in there:
                link.note_wakes(there[number])
            else:
                link.end(Unavailable("the node that served the subscription is lost"))


def _wake(links: dict[int, RemoteReceiver], pairs: Sequence[tuple[int, int]]) -> None:
    for number, wakes in pairs:
        if (link := links.get(number)) is not None:
            link.note_wakes(wakes)


def _close(links: dict[int, RemoteReceiver], pairs: Sequence[tuple[int, int]]) -> None:
    """Links have ended: their subscription is gone (1), or another node's (0)."""
    for number, gone in pairs:
        if (link := links.get(number)) is not None:
            moved = Unavailable("the subscription has moved to another node; attach again")
            link.end(None if gone else moved)
