"""The asking side of a node: all its links to subscriptions that other nodes serve.

Every node whose links there are is pinged once a second with all of them; what it does not know any
more has ended, and so have all of them when it does not answer.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

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
from hotpath.clusterports import shard_of
from hotpath.model.errors import HotpathError, Unavailable
from hotpath.model.subscription import SubscriptionSpec
from hotpath.ports import Clock, TimerHandle
from hotpath.telemetry import get_logger

#: How often a node shows that it has links, milliseconds; and how many of them in one call.
PING_MS: Final = 1_000
PING_MAX: Final = 4_096

_log = get_logger("hotpath.cluster.asking")


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
        return RemoteReceiver(self, spec, dead=dead, lock=lock, wake=wake, closed=closed)

    @property
    def links(self) -> int:
        """How many links there are."""
        return sum(map(len, self._links.values()))

    # For links

    def shard_of(self, spec: SubscriptionSpec) -> int:
        """The shard of a subscription."""
        return shard_of(spec.id, self._ownership.shards)

    def owner_of(self, spec: SubscriptionSpec) -> NodeCard | None:
        """The node that serves a subscription; None while nobody does. Raises Unavailable."""
        shard = self.shard_of(spec)
        card = self._ownership.owner(shard)
        if card != self.card:
            return card
        if self._ownership.serves(shard):
            raise Unavailable("the subscription has moved to this node; attach again")
        return None  # it is about to serve it, or paused

    async def ask(self, card: NodeCard, op: Op, body: bytes, *, timeout_ms: int = 3_000) -> bytes:
        """The answer of a node. Raises HotpathError."""
        return await self._calls.call(card, op, body, timeout_ms=timeout_ms)

    async def ask_owner(self, spec: SubscriptionSpec, op: Op, body: bytes) -> bytes:
        """The answer of whoever serves a subscription. Raises HotpathError."""
        card = self.owner_of(spec)
        if card is None:
            raise Unavailable("no node serves the subscription now; try again later")
        try:
            return await self.ask(card, op, body)
        except (NotServed, Unreached) as error:
            raise Unavailable("the subscription moves to another node; try again") from error

    def opened(self, link: RemoteReceiver) -> None:
        """A link has its number at its owner."""
        if link.card is None:
            return
        run = (link.card.id, link.card.run)
        self._cards[run] = link.card
        self._links.setdefault(run, {})[link.number] = link
        self._by_shard.setdefault(self.shard_of(link.subscription.spec), {})[link] = None

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
        """Nothing leads to a node any more: it is not pinged."""
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
            if link.card is not None and link.card != owner:
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
