"""What a management link asks of a feed, wherever it is served at that moment."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from hotpath.cluster.cards import NodeCard
from hotpath.cluster.relay.asking import Moving, RelayAsking
from hotpath.cluster.relay.frames import Damaged, NotServed, Op, read_items, write_items
from hotpath.cluster.relay.messages import (
    as_int,
    as_list,
    read_numbers,
    write_disposition,
    write_numbers,
    write_pairs,
)
from hotpath.cluster.relay.remote import SETTLE_MS
from hotpath.core.subscription import Subscription
from hotpath.model.errors import HotpathError, NotFound, Unavailable
from hotpath.model.names import SubscriptionId
from hotpath.model.subscription import SubscriptionSpec
from hotpath.service.deferred import Received
from hotpath.service.directory import Directory
from hotpath.service.feedcalls import LocalCalls, LocalFeedCalls
from hotpath.service.feeds import Disposition, Known, spec_of
from hotpath.service.peek import Peeked
from hotpath.telemetry import get_logger

_Answer = TypeVar("_Answer")

_log = get_logger("hotpath.cluster.management")


@dataclass(frozen=True, slots=True)
class RelayedCalls:
    """Makes the calls of feeds; a `hotpath.service.feeds.CallsOf`.

    Attributes:
        asking: The way to other nodes.
        directory: All subscriptions there are.
        served: The live state of a subscription that this node serves now, or None.
        here: Makes the calls of those.
    """

    asking: RelayAsking
    directory: Directory
    served: Callable[[SubscriptionId], Subscription | None]
    here: LocalCalls

    def __call__(self, known: Known, *, dead: bool) -> "RelayedFeedCalls":
        """The calls of a feed."""
        return RelayedFeedCalls(self, spec_of(known), dead=dead)


class RelayedFeedCalls:
    """Calls to wherever the feed is served: each call looks anew.

    While the subscription moves a call waits for some seconds. Locks that were given by one owner
    end when there is another one.
    """

    def __init__(self, calls: RelayedCalls, spec: SubscriptionSpec, *, dead: bool) -> None:
        self._calls = calls
        self._identity = spec.id
        self._dead = dead
        self._local: LocalFeedCalls | None = None
        self._remote = RemoteFeedCalls(calls.asking, spec, dead=dead)
        self._closing: asyncio.Task[None] | None = None

    def spec(self) -> SubscriptionSpec:
        """The definition as it is now. Raises NotFound."""
        spec = self._calls.directory.get(self._identity)
        if spec is None:
            raise NotFound("the subscription was deleted")
        return spec

    def _there(self) -> "LocalFeedCalls | RemoteFeedCalls":
        """Where it is served."""
        self.spec()
        subscription = self._calls.served(self._identity)
        if subscription is None:
            return self._remote
        if self._local is None or self._local.subscription is not subscription:
            self._local = self._calls.here(subscription, dead=self._dead)
        return self._local

    async def _ask(
        self, ask: "Callable[[LocalFeedCalls | RemoteFeedCalls], Awaitable[_Answer]]"
    ) -> _Answer:
        return await self._calls.asking.patiently(lambda: ask(self._there()))

    async def renew(self, held: Sequence[tuple[int, int]]) -> list[int]:
        """Extend locks, all or none. Raises LockLost, NotFound, Unavailable."""
        return await self._ask(lambda there: there.renew(held))

    async def peek(self, from_seq: int, *, count: int, bytes_max: int) -> list[Peeked]:
        """As `Peeking.peek`. Raises NotFound, Unavailable."""
        return await self._ask(lambda there: there.peek(from_seq, count=count, bytes_max=bytes_max))

    async def receive(self, seqs: Sequence[int], *, lock: bool) -> list[Received]:
        """As `Deferrals.receive`. Raises NotFound, Unavailable."""
        return await self._ask(lambda there: there.receive(seqs, lock=lock))

    async def settle(self, disposition: Disposition) -> None:
        """Give messages an outcome. Raises LockLost, LimitReached, NotFound, Unavailable."""
        await self._ask(lambda there: there.settle(disposition))

    def close(self) -> None:
        """Give locks back."""
        if self._local is not None:
            self._local.close()
        self._closing = self._remote.close()


class RemoteFeedCalls:
    """Peeking, deferred messages, renewal and settlement by lock token, at the owner.

    Locks on deferred messages belong to this object: they end with `close`, with the owner's claim
    to the subscription, or when the owner does not hear of this node for some seconds.
    """

    def __init__(self, asking: RelayAsking, spec: SubscriptionSpec, *, dead: bool) -> None:
        self._asking = asking
        self._spec = spec
        self._dead = dead
        self._card: NodeCard | None = None
        self._number = 0

    async def peek(self, from_seq: int, *, count: int, bytes_max: int) -> list[Peeked]:
        """As `Peeking.peek`. Raises HotpathError."""
        body = write_items(self._spec.id, self._dead, from_seq, count, bytes_max)
        answer = await self._asking.ask_owner(self._spec, Op.PEEK, body)
        return _read_rows(answer, _read_peeked)

    async def renew(self, held: Sequence[tuple[int, int]]) -> list[int]:
        """Extend locks, all or none; their new ends, monotonic. Raises LockLost, Unavailable."""
        asked_ms = self._asking.clock.ticks_ms()
        body = write_items(self._spec.id, self._dead, write_pairs(held))
        answer = await self._asking.ask_owner(self._spec, Op.RENEW, body)
        try:
            return [asked_ms + left for left in read_numbers(read_items(answer, 1)[0])]
        except Damaged as fault:
            raise _unreadable(fault) from fault

    async def receive(self, seqs: Sequence[int], *, lock: bool) -> list[Received]:
        """As `Deferrals.receive`. Raises NotFound, Unavailable."""
        asked_ms = self._asking.clock.ticks_ms()
        card = await self._open()
        body = write_items(self._number, write_numbers(seqs), lock)
        answer = await self._ask(card, Op.RECEIVE, body)
        return _read_rows(answer, lambda row: _read_received(row, asked_ms))

    async def settle(self, disposition: Disposition) -> None:
        """Give messages an outcome; durable when it returns.

        Raises LockLost, LimitReached, NotFound, Unavailable.
        """
        card = await self._open()
        body = write_items(self._number, write_disposition(disposition))
        await self._ask(card, Op.SETTLE, body)

    def close(self) -> asyncio.Task[None] | None:
        """Give locks back; the result is to be kept until it is done."""
        card, self._card = self._card, None
        if card is None:
            return None
        self._asking.release(self._number, card)
        return asyncio.ensure_future(self._leave(card))

    async def _leave(self, card: NodeCard) -> None:
        try:
            await self._asking.ask(card, Op.DETACH, write_items(self._number))
        except HotpathError as error:
            # The owner notices by itself that nobody shows the link any more.
            _log.info("a management link was not left", extra={"reason": error.detail})

    async def _open(self) -> NodeCard:
        """A link of its own at the owner; another one when the owner has changed."""
        owner = self._asking.owner_of(self._spec)
        if owner is None:
            raise Moving("no node serves the subscription now; try again later")
        if self._card == owner and self._asking.is_kept(self._number, owner):
            return owner
        me = self._asking.card
        body = write_items(self._spec.id, self._dead, True, True, me.id, me.run)
        answer = await self._ask(owner, Op.ATTACH, body)
        try:
            number = as_int(read_items(answer, 1)[0])
        except Damaged as fault:
            raise _unreadable(fault) from fault
        self._card, self._number = owner, number
        self._asking.keep(number, owner)
        return owner

    async def _ask(self, card: NodeCard, op: Op, body: bytes) -> bytes:
        timeout_ms = SETTLE_MS if op is Op.SETTLE else 3_000
        try:
            return await self._asking.ask_node(card, op, body, timeout_ms=timeout_ms)
        except Unavailable as error:
            if isinstance(error.__cause__, NotServed):
                self._asking.release(self._number, card)
            raise


def _unreadable(fault: Damaged) -> Unavailable:
    return Unavailable(f"the node that serves the subscription cannot be understood: {fault}")


def _read_rows(answer: bytes, read: Callable[[object], _Answer]) -> list[_Answer]:
    """The rows of an answer. Raises Unavailable."""
    try:
        return [read(row) for row in as_list(read_items(answer, 1)[0])]
    except Damaged as fault:
        raise _unreadable(fault) from fault


def _read_peeked(row: object) -> Peeked:
    items = as_list(row)
    if len(items) < 5 or not isinstance(items[2], bytes):
        raise Damaged("a message lacks something")
    return Peeked(as_int(items[0]), as_int(items[1]), items[2], as_int(items[3]), items[4] is True)


def _read_received(row: object, asked_ms: int) -> Received:
    items = as_list(row)
    if len(items) < 6 or not isinstance(items[2], bytes):
        raise Damaged("a message lacks something")
    serial = as_int(items[4])
    until_ms = asked_ms + as_int(items[5]) if serial else 0
    return Received(
        as_int(items[0]), as_int(items[1]), items[2], as_int(items[3]), serial, until_ms
    )
