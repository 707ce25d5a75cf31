"""What a management link asks of a feed that another node serves."""

from collections.abc import Sequence

from hotpath.cluster.cards import NodeCard
from hotpath.cluster.relay.asking import RelayAsking
from hotpath.cluster.relay.frames import (
    Damaged,
    NotServed,
    Op,
    Unreached,
    read_items,
    write_items,
)
from hotpath.cluster.relay.messages import (
    Outcome,
    as_int,
    as_list,
    read_numbers,
    read_refusals,
    write_numbers,
)
from hotpath.cluster.relay.remote import SETTLE_MS
from hotpath.model.errors import Unavailable
from hotpath.model.subscription import SubscriptionSpec
from hotpath.service.deferred import Received
from hotpath.service.peek import Peeked


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
        body = write_items(self._identity, self._dead, from_seq, count, bytes_max)
        answer = await self._asking.ask_owner(self._spec, Op.PEEK, body)
        return [_read_peeked(row) for row in as_list(_first(answer))]

    async def renew(self, held: Sequence[tuple[int, int]]) -> list[int]:
        """Extend locks, all or none; their new ends, monotonic. Raises LockLost, Unavailable."""
        asked_ms = self._asking.clock.ticks_ms()
        seqs, serials = [seq for seq, _ in held], [serial for _, serial in held]
        body = write_items(self._identity, self._dead, write_numbers(seqs), write_numbers(serials))
        answer = await self._asking.ask_owner(self._spec, Op.RENEW, body)
        try:
            return [asked_ms + left for left in read_numbers(_first(answer))]
        except Damaged as fault:
            raise _unreadable(fault) from fault

    async def receive(self, seqs: Sequence[int], *, lock: bool) -> list[Received]:
        """As `Deferrals.receive`. Raises NotFound, Unavailable."""
        asked_ms = self._asking.clock.ticks_ms()
        card = await self._open()
        body = write_items(self._number, write_numbers(seqs), lock)
        answer = await self._ask(card, Op.RECEIVE, body)
        return [_read_received(row, asked_ms) for row in as_list(_first(answer))]

    async def settle(self, outcomes: Sequence[Outcome]) -> None:
        """Apply outcomes to locked messages, if all the locks are held; durable when it returns.

        Raises LockLost, LimitReached, Unavailable.
        """
        card = await self._open()
        body = write_items(self._number, True, [outcome.write() for outcome in outcomes])
        answer = await self._ask(card, Op.SETTLE, body)
        for error in read_refusals(_first(answer)).values():
            raise error

    async def close(self) -> None:
        """Give locks back."""
        card, self._card = self._card, None
        if card is not None:
            self._asking.release(self._number, card)
            await self._ask(card, Op.DETACH, write_items(self._number))

    @property
    def _identity(self) -> str:
        return self._spec.id

    async def _open(self) -> NodeCard:
        """A link of its own at the owner; another one when the owner has changed."""
        owner = self._asking.owner_of(self._spec)
        if owner is None:
            raise Unavailable("no node serves the subscription now; try again later")
        if self._card == owner and self._asking.is_kept(self._number, owner):
            return owner
        me = self._asking.card
        body = write_items(self._identity, self._dead, True, True, me.id, me.run)
        answer = await self._ask(owner, Op.ATTACH, body)
        self._card, self._number = owner, as_int(_first(answer))
        self._asking.keep(self._number, owner)
        return owner

    async def _ask(self, card: NodeCard, op: Op, body: bytes) -> bytes:
        timeout_ms = SETTLE_MS if op is Op.SETTLE else 3_000
        try:
            return await self._asking.ask(card, op, body, timeout_ms=timeout_ms)
        except (NotServed, Unreached) as error:
            self._asking.release(self._number, card)
            raise Unavailable("the subscription moves to another node; try again") from error


def _first(answer: bytes) -> object:
    """The one value of an answer. Raises Unavailable."""
    try:
        return read_items(answer, 1)[0]
    except Damaged as fault:
        raise _unreadable(fault) from fault


def _unreadable(fault: Damaged) -> Unavailable:
    return Unavailable(f"the node that serves the subscription cannot be understood: {fault}")


def _read_peeked(row: object) -> Peeked:
    seq, enqueued_ms, stored, count, deferred = as_list(row)[:5]
    if not isinstance(stored, bytes):
        raise Unavailable("a message of another node is unreadable")
    return Peeked(as_int(seq), as_int(enqueued_ms), stored, as_int(count), deferred is True)


def _read_received(row: object, asked_ms: int) -> Received:
    seq, enqueued_ms, stored, count, serial, left_ms = as_list(row)[:6]
    if not isinstance(stored, bytes):
        raise Unavailable("a message of another node is unreadable")
    until_ms = asked_ms + as_int(left_ms) if serial else 0
    return Received(
        as_int(seq), as_int(enqueued_ms), stored, as_int(count), as_int(serial), until_ms
    )
