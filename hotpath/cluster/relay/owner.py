"""The owner's side: receivers on other nodes, served like this node's own.

Each link is one more `Receiver` of the subscription. What it has taken and the asking node has not
room for waits here, under its lock; when nobody comes for it, it goes back. A link whose node does
not show itself for `SILENT_MS` is detached.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Final

from hotpath.cluster.cards import NodeCard
from hotpath.cluster.ownership import Ownership
from hotpath.cluster.relay.applying import apply
from hotpath.cluster.relay.calls import Calls
from hotpath.cluster.relay.frames import Damaged, NotServed, Op, read_items, write_items
from hotpath.cluster.relay.messages import (
    Refusals,
    as_int,
    as_list,
    as_text,
    read_disposition,
    read_numbers,
    read_outcome,
    read_pairs,
    split_taken,
    write_numbers,
    write_pairs,
    write_refusals,
    write_taken,
)
from hotpath.clusterports import shard_of
from hotpath.core.feed import Taken
from hotpath.core.subscription import Subscription
from hotpath.model.errors import LimitReached, NotFound, Unavailable, Unsupported
from hotpath.model.names import SubscriptionId
from hotpath.ports import Clock, LogFailure, TimerHandle
from hotpath.service.commit import Committer
from hotpath.service.deliver import Delivering, Receiver
from hotpath.service.feedcalls import LocalCalls, LocalFeedCalls
from hotpath.service.settle import Feed, Settling

#: After so long without a sign of its node a link is detached, milliseconds.
SILENT_MS: Final = 5_000
#: After so long what a link has taken, and nobody has come for, goes back, milliseconds.
IDLE_MS: Final = 2_000
#: How often links are looked at, milliseconds.
SWEEP_MS: Final = 1_000
#: Messages taken at once, and bytes of them that are sent at once, but for one that is larger.
TAKE_MAX: Final = 256
#: Links that all other nodes may have here together.
LINKS_MAX: Final = 100_000
#: Links that one message tells about.
TELL_MAX: Final = 4_096
BYTES_MAX: Final = 262_144

Asked = Callable[[Subscription, bytes], Awaitable[bytes]]
"""Answers a question about one subscription. Raises HotpathError, Damaged."""
AskedOfAll = Callable[[bytes], Awaitable[bytes]]
"""Answers a question about many, of which it says itself which are served here."""


@dataclass(slots=True, eq=False)
class _Link:
    """A receiver, or a management link, on another node."""

    number: int
    card: NodeCard
    subscription: Subscription
    epoch: int
    dead: bool
    heard_ms: int
    taken_ms: int
    receiver: Receiver | None = None
    managing: LocalFeedCalls | None = None
    wakes: int = 1
    outbox: deque[tuple[Taken, Sequence[bytes]]] = field(default_factory=deque)
    closed: bool = False


class RelayOwner:
    """Answers other nodes about the subscriptions that this one serves."""

    def __init__(
        self,
        *,
        calls: Calls,
        ownership: Ownership,
        find: Callable[[SubscriptionId], Subscription | None],
        delivering: Delivering,
        settling: Settling,
        committer: Committer,
        feed_calls: LocalCalls,
        clock: Clock,
    ) -> None:
        self._calls = calls
        self._ownership = ownership
        self._find = find
        self._delivering = delivering
        self._settling = settling
        self._committer = committer
        self._feed_calls = feed_calls
        self._clock = clock
        self._numbers = count(1)
        self._links: dict[int, _Link] = {}
        self._woken: dict[NodeCard, dict[int, int]] = {}
        self._closed: dict[NodeCard, dict[int, int]] = {}
        self._timer: TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        #: Calls by name that need a subscription's live state; see `ASK`.
        self.asked: dict[str, Asked] = {}
        self.asked_of_all: dict[str, AskedOfAll] = {}
        self._answers: dict[Op, Callable[[bytes], Awaitable[bytes]]] = {
            Op.ATTACH: self._attach,
            Op.TAKE: self._take,
            Op.SETTLE: self._settle,
            Op.DETACH: self._detach,
            Op.PING: self._ping,
            Op.PEEK: self._peek,
            Op.RECEIVE: self._receive,
            Op.RENEW: self._renew,
            Op.ASK: self._ask,
        }

    def start(self) -> None:
        """Begin to look after links."""
        self._timer = self._clock.call_at(self._clock.ticks_ms() + SWEEP_MS, self._sweep)

    def stop(self) -> None:
        """Let go of all links; what they hold goes back."""
        if self._timer is not None:
            self._timer.cancel()
        for link in list(self._links.values()):
            self._drop(link)
        for task in list(self._tasks):
            task.cancel()

    async def answer(self, op: Op, body: bytes, _caller: str) -> bytes:
        """Answer a call. Raises HotpathError, Damaged."""
        answering = self._answers.get(op)
        if answering is None:
            raise Unsupported(f"{op.name} is not a call")
        return await answering(body)

    @property
    def links(self) -> int:
        """How many links other nodes have here."""
        return len(self._links)

    # Links

    def _served(self, identity: str) -> tuple[Subscription, int]:
        """A subscription that this node serves now, and in which epoch.

        Raises NotServed, NotFound.
        """
        shard = shard_of(identity, self._ownership.shards)
        if not self._ownership.serves(shard):
            raise NotServed(f"this node does not serve {identity}")
        subscription = self._find(SubscriptionId(identity))
        if subscription is None or subscription.deleted:
            raise NotFound(f"there is no subscription {identity}")
        return subscription, self._ownership.epoch(shard)

    def _link(self, number: object) -> _Link:
        """A link, still served. Raises NotServed, NotFound."""
        link = self._links.get(as_int(number))
        if link is None:
            raise NotServed("the link is not there any more")
        self._check(link)
        return link

    def _check(self, link: _Link) -> None:
        """Raises NotServed when what the link stands on is not this node's as it was."""
        subscription, epoch = self._served(link.subscription.spec.id)
        if link.closed or subscription is not link.subscription or epoch != link.epoch:
            raise NotServed("the link is not there any more")

    async def _attach(self, body: bytes) -> bytes:
        if len(self._links) >= LINKS_MAX:
            raise LimitReached(f"a node serves {LINKS_MAX} links of other nodes at most")
        identity, dead, lock, managing, node, run = read_items(body, 6)
        subscription, epoch = self._served(as_text(identity))
        now_ms = self._clock.ticks_ms()
        number = next(self._numbers)
        card = NodeCard(as_text(node), as_text(run))
        link = _Link(number, card, subscription, epoch, dead is True, now_ms, now_ms)
        if managing is True:
            link.managing = self._feed_calls(subscription, dead=link.dead)
        else:
            link.receiver = self._delivering.attach(
                subscription,
                dead=link.dead,
                lock=lock is True,
                wake=lambda: self._wake(link),
                closed=lambda: self._on_closed(link),
            )
        self._links[number] = link
        return write_items(number)

    async def _detach(self, body: bytes) -> bytes:
        link = self._links.get(as_int(read_items(body, 1)[0]))
        if link is not None:
            self._drop(link)
        return b""

    def _drop(self, link: _Link) -> None:
        """A link is gone: what it holds goes back."""
        self._links.pop(link.number, None)
        link.closed = True
        link.outbox.clear()
        if link.receiver is not None:
            self._delivering.detach(link.receiver)
        if link.managing is not None:
            link.managing.close()

    def _on_closed(self, link: _Link) -> None:
        """The subscription is gone, or another node's."""
        self._links.pop(link.number, None)
        link.closed = True
        link.outbox.clear()
        self._flush_soon()
        # Gone for good, or only from here: what the client is told differs.
        shard = shard_of(link.subscription.spec.id, self._ownership.shards)
        is_error = link.receiver is not None and link.receiver.ended is not None
        gone = link.subscription.deleted and not is_error and self._ownership.serves(shard)
        self._closed.setdefault(link.card, {})[link.number] = int(gone)

    def _wake(self, link: _Link) -> None:
        link.wakes += 1
        self._flush_soon()
        self._woken.setdefault(link.card, {})[link.number] = link.wakes

    def _flush_soon(self) -> None:
        if not self._woken and not self._closed:
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        """Tell each node once a turn of the loop."""
        woken, self._woken = self._woken, {}
        closed, self._closed = self._closed, {}
        for card, wakes in woken.items():
            self._tell(card, Op.WAKE, list(wakes.items()))
        for card, numbers in closed.items():
            self._tell(card, Op.CLOSED, list(numbers.items()))

    def _tell(self, card: NodeCard, op: Op, pairs: list[tuple[int, int]]) -> None:
        me = self._calls.card
        for at in range(0, len(pairs), TELL_MAX):
            body = write_items(me.id, me.run, write_pairs(pairs[at : at + TELL_MAX]))
            task = asyncio.ensure_future(self._calls.tell(card, op, body))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _ping(self, body: bytes) -> bytes:
        numbers = read_numbers(read_items(body, 1)[0])
        now_ms = self._clock.ticks_ms()
        there = [link for number in numbers if (link := self._links.get(number)) is not None]
        for link in there:
            link.heard_ms = now_ms
        return write_items(write_pairs((link.number, link.wakes) for link in there))

    def _sweep(self) -> None:
        now_ms = self._clock.ticks_ms()
        self._timer = self._clock.call_at(now_ms + SWEEP_MS, self._sweep)
        for link in list(self._links.values()):
            if now_ms - link.heard_ms > SILENT_MS:
                self._drop(link)
            elif link.outbox and now_ms - link.taken_ms > IDLE_MS:
                self._give_back(link)

    def _give_back(self, link: _Link) -> None:
        """Nobody comes for what was taken: others may have it."""
        receiver = link.receiver
        if receiver is None or not receiver.lock:
            return  # it is settled, and waits for as long as the link
        parts = [part for part, _ in link.outbox]
        link.outbox.clear()
        where = (receiver.subscription, receiver.feed)
        for part in parts:
            for seq in part.seqs:
                self._settling.abandon(*where, seq, part.serial, failed=False)

    # Messages

    async def _take(self, body: bytes) -> bytes:
        number, credit, bytes_max = read_items(body, 3)
        link = self._link(number)
        receiver = link.receiver
        if receiver is None:
            raise NotServed("the link takes no messages")
        now_ms = link.heard_ms = link.taken_ms = self._clock.ticks_ms()
        wakes = link.wakes
        limit = min(as_int(credit), TAKE_MAX)
        wanted = limit - sum(len(part.seqs) for part, _ in link.outbox)
        pulled = self._delivering.pull(receiver, wanted) if wanted > 0 else []
        link.outbox.extend((part, part.batch.payloads or ()) for part in pulled)
        parts = _fill(link.outbox, limit, bytes_max=as_int(bytes_max), now_ms=now_ms)
        full = sum(len(part.seqs) for part in pulled) >= wanted
        return write_items(bool(link.outbox) or full, self._is_busy(receiver), wakes, parts)

    def _is_busy(self, receiver: Receiver) -> bool:
        """Whether there may be more without another wake-up being due before it is read."""
        feed, subscription = receiver.feed, receiver.subscription
        behind = feed is subscription and subscription.behind_at is not None
        return feed.missing is not None or behind or receiver.pending > 0

    async def _settle(self, body: bytes) -> bytes:
        number, outcomes = read_items(body, 2)
        link = self._link(number)
        link.heard_ms = self._clock.ticks_ms()
        refused: Refusals = {}
        if link.managing is not None:
            link.managing.apply(read_disposition(outcomes))
        else:
            read = [read_outcome(each) for each in as_list(outcomes)]
            feed = self._feed(link.subscription, dead=link.dead)
            refused = apply(self._settling, link.subscription, feed, read)
        await self._durable(link)
        return write_items(write_refusals(refused))

    async def _durable(self, link: _Link) -> None:
        """Wait for all that was handed in. Raises Unavailable, NotServed: it is not confirmed."""
        try:
            await self._committer.settled()
        except LogFailure as failure:
            raise Unavailable("the message log cannot be written now") from failure
        # Another node may have claimed the shard before it was written: then it was left out.
        self._check(link)

    def _feed(self, subscription: Subscription, *, dead: bool) -> Feed:
        return self._settling.dead_letters(subscription) if dead else subscription

    # Management

    async def _peek(self, body: bytes) -> bytes:
        identity, dead, from_seq, wanted, bytes_max = read_items(body, 5)
        subscription, _ = self._served(as_text(identity))
        calls = self._feed_calls(subscription, dead=dead is True)
        found = await calls.peek(
            as_int(from_seq), count=as_int(wanted), bytes_max=as_int(bytes_max)
        )
        return write_items([list(each) for each in found])

    async def _receive(self, body: bytes) -> bytes:
        number, seqs, lock = read_items(body, 3)
        link = self._link(number)
        if link.managing is None:
            raise NotServed("the link does not manage")
        received = await link.managing.receive(read_numbers(seqs), lock=lock is True)
        self._check(link)
        now_ms = self._clock.ticks_ms()
        return write_items([[*each[:5], max(0, each.until_ms - now_ms)] for each in received])

    async def _renew(self, body: bytes) -> bytes:
        identity, dead, held = read_items(body, 3)
        subscription, _ = self._served(as_text(identity))
        calls = self._feed_calls(subscription, dead=dead is True)
        ends = await calls.renew(read_pairs(held))
        now_ms = self._clock.ticks_ms()
        return write_items(write_numbers([max(0, end - now_ms) for end in ends]))

    async def _ask(self, body: bytes) -> bytes:
        name, identity, question = read_items(body, 3)
        if not isinstance(question, bytes):
            raise Damaged("a question is no bytes")
        of_all = self.asked_of_all.get(as_text(name))
        if of_all is not None:
            return await of_all(question)
        asked = self.asked.get(as_text(name))
        if asked is None:
            raise Unsupported(f"this node does not know the call {name}")
        subscription, _ = self._served(as_text(identity))
        return await asked(subscription, question)


def _fill(
    outbox: deque[tuple[Taken, Sequence[bytes]]], limit: int, *, bytes_max: int, now_ms: int
) -> list[list[object]]:
    """What fits of what was taken, at least one message; the rest stays."""
    parts: list[list[object]] = []
    left = min(bytes_max, BYTES_MAX)
    while outbox and limit > 0 and (left > 0 or not parts):
        part, payloads = outbox.popleft()
        fits = _fitting(part, payloads, left)
        if not fits and parts:
            outbox.appendleft((part, payloads))
            break
        fits = min(max(fits, 1), limit)
        if fits < len(part.seqs):
            part, rest = split_taken(part, fits)
            outbox.appendleft((rest, payloads))
        first = part.batch.first_seq
        left -= sum(len(payloads[seq - first]) for seq in part.seqs)
        limit -= len(part.seqs)
        parts.append(write_taken(part, payloads, now_ms=now_ms))
    return parts


def _fitting(part: Taken, payloads: Sequence[bytes], left: int) -> int:
    """How many messages of a part fit into so many bytes."""
    first, fits = part.batch.first_seq, 0
    for seq in part.seqs:
        left -= len(payloads[seq - first])
        if left < 0:
            break
        fits += 1
    return fits
