"""The other nodes, as the parts of the service see them.

What belongs to a shard and is asked for on another node is asked of the shard's owner, by a name and
a body; while nobody has the shard, the call waits for a while. What every node has to know is
written to the records first, and then waited for until the others have seen it.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from hotpath.cluster.cards import NodeCard
from hotpath.cluster.membership import Membership
from hotpath.cluster.ownership import Ownership
from hotpath.cluster.relay.calls import Calls
from hotpath.cluster.relay.frames import (
    Damaged,
    NotServed,
    Op,
    Unreached,
    write_items,
)
from hotpath.cluster.relay.messages import as_int, as_list, as_text
from hotpath.clusterports import Bus, shard_of, shard_of_topic
from hotpath.model.chance import random_uuid
from hotpath.model.errors import HotpathError, Unavailable, Unsupported
from hotpath.model.names import SubscriptionId, TopicKey
from hotpath.ports import Clock, LogFailure
from hotpath.service.clock import sleep_until
from hotpath.telemetry import get_logger
from hotpath.wire.types import WireError, decode

#: How long a call waits for a shard to have an owner, and how often it looks, milliseconds.
OWNER_MS: Final = 8_000
LOOK_MS: Final = 50
#: How often a call looks whether its owner is still there, and how long it waits for one that has
#: given the shard away, seconds.
LOOK_S: Final = 0.2
GRACE_S: Final = 0.5
#: How long the owner may take, milliseconds.
ASK_MS: Final = 15_000
#: How long a change of records is waited for on other nodes, milliseconds.
SPREAD_MS: Final = 1_000
#: How long others may take to answer somebody who fears to be alone, milliseconds.
ALONE_MS: Final = 1_000
#: Ids that are drawn to find one of this node's own shards.
DRAWS_MAX: Final = 4_096

_SEEN: Final = "seen"
_THERE: Final = "there"

#: Answers about a shard that this node serves.
Answer = Callable[[int, list[object]], Awaitable[bytes]]

#: Answers what every node is asked.
NodeAnswer = Callable[[list[object]], Awaitable[bytes]]

_log = get_logger("hotpath.cluster.neighbours")


class Neighbours:
    """Asks owners of shards, and answers for this node's own.

    Attributes:
        sight: Waits until a change of records, by its number, has taken effect on this node.
        is_cut_off: Whether the others cannot be reached, and may have taken over what this has.
    """

    def __init__(
        self,
        *,
        bus: Bus,
        clock: Clock,
        card: NodeCard,
        prefix: str,
        ownership: Ownership,
        membership: Membership,
    ) -> None:
        self._calls = Calls(bus, clock, card, prefix=f"{prefix}.ctl")
        self._calls.answering = self._answer
        self._clock = clock
        self._ownership = ownership
        self._membership = membership
        self._answers: dict[str, Answer] = {}
        self._node_answers: dict[str, NodeAnswer] = {
            _SEEN: self._answer_seen,
            _THERE: self._answer_there,
        }
        self.sight: Callable[[int], Awaitable[None]] = _see_at_once
        self.is_cut_off: Callable[[], bool] = lambda: False

    async def start(self) -> None:
        """Begin to answer. Raises LogFailure."""
        await self._calls.start()

    async def stop(self) -> None:
        """Answer nothing more."""
        await self._calls.stop()

    # Shards

    def shard_of(self, identity: str) -> int:
        """The shard of a subscription or stream."""
        return shard_of(identity, self._ownership.shards)

    def shard_of_topic(self, key: TopicKey) -> int:
        """The shard of what a topic has of its own."""
        return shard_of_topic(key, self._ownership.shards)

    def serves(self, shard: int) -> bool:
        """Whether this node serves a shard now."""
        return self._ownership.serves(shard)

    def holds(self, shard: int) -> bool:
        """Whether this node has a shard, paused or not."""
        return shard in self._held()

    def _held(self) -> list[int]:
        return self._ownership.held()

    def own_id(self) -> SubscriptionId:
        """A new id, of a shard that this node serves if there is one."""
        identity = random_uuid()
        for _ in range(DRAWS_MAX if self._held() else 0):
            if self.serves(self.shard_of(identity)):
                break
            identity = random_uuid()
        return SubscriptionId(identity)

    # Asking

    def answer(self, name: str, answer: Answer) -> None:
        """Say who answers a call by its name."""
        self._answers[name] = answer

    async def ask(
        self, shard: int, name: str, *items: object, timeout_ms: int = ASK_MS
    ) -> list[object]:
        """What the owner of a shard answers, this node perhaps. Raises HotpathError."""
        body = write_items(name, shard, *items)
        if self.is_cut_off():
            raise Unavailable("this node is cut off from the others; try another one")
        until_ms = self._clock.ticks_ms() + OWNER_MS
        while True:
            try:
                return _read(await self._ask_owner(shard, body, timeout_ms))
            except NotServed as error:
                if self._clock.ticks_ms() >= until_ms:
                    raise Unavailable("no node has this now; try again later") from error
            except (Unreached, Damaged) as error:
                raise Unavailable("the node that has this does not answer; try again") from error
            await sleep_until(self._clock, self._clock.ticks_ms() + LOOK_MS)

    async def _ask_owner(self, shard: int, body: bytes, timeout_ms: int) -> bytes:
        if self.serves(shard):
            return await self._answer(Op.ASK, body, "")
        owner = self._ownership.owner(shard)
        if owner is None or owner == self._calls.card:
            raise NotServed("nobody has this now")
        call = asyncio.ensure_future(self._calls.call(owner, Op.ASK, body, timeout_ms=timeout_ms))
        try:
            while not call.done():
                # One who has given the shard away may still answer; one who is gone does not.
                left = self._ownership.owner(shard) != owner
                await asyncio.wait({call}, timeout=GRACE_S if left else LOOK_S)
                if left and not call.done():
                    raise Unreached("the node that was asked is gone")
            return call.result()
        finally:
            call.cancel()

    async def _answer(self, op: Op, body: bytes, _caller: str) -> bytes:
        """Answer a call. Raises HotpathError, Damaged."""
        if op is not Op.ASK:
            raise Unsupported(f"{op.name} is not a call")
        items = _all(body)
        name, shard = as_text(items[0]), as_int(items[1])
        of_node = self._node_answers.get(name)
        if of_node is not None:
            return await of_node(items[2:])
        answer = self._answers.get(name)
        if answer is None:
            raise Unsupported(f"this node does not know the call {name}")
        if not 0 <= shard < self._ownership.shards or not self.serves(shard):
            raise NotServed("this node does not have this")
        try:
            return await answer(shard, items[2:])
        except LogFailure as failure:
            raise Unavailable(f"the cluster cannot be reached: {failure.detail}") from failure

    # All nodes

    def answer_for_node(self, name: str, answer: NodeAnswer) -> None:
        """Say who answers a call that every node is asked."""
        self._node_answers[name] = answer

    async def _answer_there(self, _: list[object]) -> bytes:
        return write_items()

    async def is_alone(self) -> bool:
        """Whether there are other nodes, and not one of them answers."""
        others = self._membership.others()
        body = write_items(_THERE, 0)
        answers = await asyncio.gather(*(self._tell(card, body, ALONE_MS) for card in others))
        return bool(others) and not any(answers)

    async def ask_others(self, name: str, *items: object) -> list[list[object]]:
        """What all other nodes answer, those left out that do not."""
        body = write_items(name, 0, *items)
        asked = (self._tell(card, body, ASK_MS) for card in self._membership.others())
        return [_read(answer) for answer in await asyncio.gather(*asked) if answer]

    # Spreading

    async def _answer_seen(self, items: list[object]) -> bytes:
        await self.sight(as_int(items[0]))
        return write_items()

    async def spread(self, number: int) -> None:
        """Wait until all nodes that are there have seen a change, but not for long."""
        body = write_items(_SEEN, 0, number)
        others = self._membership.others()
        await asyncio.gather(
            self._see_here(number), *(self._tell(card, body, SPREAD_MS) for card in others)
        )

    async def _see_here(self, number: int) -> None:
        try:
            async with asyncio.timeout(SPREAD_MS / 1000):
                await self.sight(number)
        except TimeoutError:
            _log.warning("own changes are not seen yet")

    async def _tell(self, card: NodeCard, body: bytes, timeout_ms: int) -> bytes:
        """What a node answers; nothing when it does not."""
        try:
            return await self._calls.call(card, Op.ASK, body, timeout_ms=timeout_ms)
        except HotpathError as error:
            # It is cut off, dead or slow: it sees a change when it can see anything.
            _log.info("node does not answer", extra={"node": card.id, "reason": error.detail})
            return b""


async def _see_at_once(_: int) -> None:
    """Before anything is watched."""


def _all(body: bytes) -> list[object]:
    """All values of a body, two at least. Raises Damaged."""
    items = _read(body)
    if len(items) < 2:
        raise Damaged("a call has too few values")
    return items


def _read(body: bytes) -> list[object]:
    """All values of a body. Raises Damaged."""
    try:
        items, _ = decode(body)
    except WireError as fault:
        raise Damaged(fault.detail) from fault
    return as_list(items)
