"""Who is there: every node shows itself by a key that it renews, and watches the keys of others.

No two clocks are compared. Each node measures, with its own monotonic clock, how long the key of
another one has not changed; and it counts only while its own renewals come back to it by the same
watch. So nobody is taken for dead because the bucket stood still, because the watch was cut, or
because this node itself stood still and its clock ran on.

A node whose renewals are not confirmed *fences* itself before others can take it for dead: it
serves nothing until one is confirmed again. That is asked of the clock and not of a timer, so it
holds for a process that was stopped, too. Timings are in `Timings`, which checks their order:

    0          last renewal that was confirmed, counted from its sending
    fence_ms   the node serves nothing more (or `linger_ms` later)
    dead_ms    another one may take over what it had
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from hotpath.cluster.cards import NodeCard, Shown, read_shown
from hotpath.cluster.waiting import wait_for
from hotpath.clusterports import Coordination, Entry, Stop
from hotpath.ports import Clock, LogFailure, TimerHandle
from hotpath.service.clock import sleep_until
from hotpath.telemetry import get_logger

#: Keys of nodes begin so.
NODES: Final = "nodes."
#: Nodes that left are remembered, so many at most.
DEPARTED_MAX: Final = 1_024

_log = get_logger("hotpath.cluster.membership")


class NodeIdTaken(Exception):
    """Another process with the same node id is running."""


@dataclass(frozen=True, slots=True)
class Timings:
    """How often nodes show themselves, and what their silence means; milliseconds."""

    renew_ms: int = 500
    fence_ms: int = 1_800
    dead_ms: int = 2_500
    linger_ms: int = 0
    """How long a node goes on handing out messages after that, for fewer pauses: nothing it has
    handed out can be settled once another one has taken over, so that comes twice and no more."""
    forget_ms: int = 600_000
    """After this time the key of a dead node is removed."""

    def __post_init__(self) -> None:
        if not 0 < 2 * self.renew_ms <= self.fence_ms:
            raise ValueError("two renewals must fit into fence_ms")
        if self.fence_ms + self.renew_ms > self.dead_ms:
            raise ValueError("dead_ms must be at least a renewal longer than fence_ms")
        if self.linger_ms < 0:
            raise ValueError("linger_ms is 0 or more")

    @property
    def echoes_min(self) -> int:
        """How many renewals of its own a node must have seen before another one is dead.

        More than there are in half of that time: after a standstill of the bucket, in which all
        have tried again four times as often, everybody has a second to come back.
        """
        return max(1, self.dead_ms // (2 * self.renew_ms) + 1)


class Turn(StrEnum):
    """What has become of a node."""

    JOINED = "joined"
    LEAVING = "leaving"
    LEFT = "left"
    DIED = "died"
    FENCED = "fenced"
    UNFENCED = "unfenced"
    REPLACED = "replaced"


@dataclass(slots=True)
class _Peer:
    """Another node, as this one sees it."""

    shown: Shown
    changed_ms: int
    echoes: int
    """How many renewals of its own this node had seen when the key changed last."""
    alive: bool = True


class Membership:
    """This node among the others.

    Attributes:
        on_turn: Hears what becomes of nodes, this one included; for decisions and logs.
        may_linger: Whether silence may be a standstill of the bucket; else this node is cut off.
    """

    def __init__(
        self,
        coordination: Coordination,
        clock: Clock,
        card: NodeCard,
        *,
        timings: Timings | None = None,
    ) -> None:
        self.card = card
        self.timings = timings or Timings()
        self._coordination = coordination
        self._clock = clock
        self._key = NODES + card.id
        self._beat = 0
        self._revision: int | None = None
        self._confirmed_ms: int | None = None
        self._echoes = 0
        self._leaving = False
        self._replaced = False
        self._was_fenced = True
        self._peers: dict[str, _Peer] = {}
        # Holders of leases whose key was never seen, since when.
        self._unseen: dict[tuple[str, str], tuple[int, int]] = {}
        self._departed: dict[tuple[str, str], None] = {}
        self._stop_watch: Stop | None = None
        self._task: asyncio.Task[None] | None = None
        self._checks: TimerHandle | None = None
        self._renew_now = asyncio.Event()
        self._forgetting: set[asyncio.Task[None]] = set()
        self.on_turn: Callable[[Turn, NodeCard], None] = lambda _turn, _card: None
        self.may_linger: Callable[[], bool] = lambda: True

    # Being there

    async def follow(self) -> None:
        """See who is there, without being one of them yet. Raises LogFailure."""
        if self._stop_watch is None:
            self._stop_watch = await self._coordination.watch(NODES, self._changed)

    async def join(self) -> None:
        """Show this node. Raises NodeIdTaken, LogFailure."""
        await self.follow()
        try:
            await self._claim_key()
        except BaseException:
            await self._stop_watching()
            raise
        self._task = asyncio.ensure_future(self._renew_for_ever())
        self._check()

    async def _claim_key(self) -> None:
        """Write the first value; wait to see whether one that is there still changes."""
        found = await self._coordination.read(self._key)
        if found is not None:
            await sleep_until(self._clock, self._clock.ticks_ms() + self.timings.dead_ms)
            again = await self._coordination.read(self._key)
            if again is not None and again.revision != found.revision:
                raise NodeIdTaken(f"another node with the id {self.card.id!r} is running")
            found = again
        sent_ms = self._clock.ticks_ms()
        revision = found.revision if found is not None else 0
        written = await self._coordination.swap(self._key, self._value(), revision=revision)
        if written is None:
            raise NodeIdTaken(f"another node with the id {self.card.id!r} has just started")
        self._confirm(written, sent_ms)

    def announce_leaving(self) -> None:
        """Tell the others to take over what this node has, as soon as it lets go."""
        if not self._leaving:
            self._leaving = True
            self._renew_now.set()
            self.on_turn(Turn.LEAVING, self.card)

    async def leave(self) -> None:
        """Be gone, for the others at once. What was held must have been given up before."""
        self._leaving = True
        await self.abandon()
        if self._revision is not None and not self._replaced:
            try:
                await self._coordination.drop(self._key)
            except LogFailure as failure:
                _log.info("left without notice", extra={"reason": failure.detail})
        self._confirmed_ms = None

    async def abandon(self) -> None:
        """End without a word, as a process does that is killed."""
        tasks = [*self._forgetting] if self._task is None else [self._task, *self._forgetting]
        self._task = None
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._checks is not None:
            self._checks.cancel()
            self._checks = None
        await self._stop_watching()

    async def _stop_watching(self) -> None:
        if self._stop_watch is not None:
            stop, self._stop_watch = self._stop_watch, None
            await stop()

    # Questions

    def is_fenced(self) -> bool:
        """Whether others may already take this node for dead: then it must not serve."""
        if self._replaced or self._confirmed_ms is None:
            return True
        linger_ms = self.timings.linger_ms if self.may_linger() else 0
        return self.silent_ms > self.timings.fence_ms + linger_ms

    @property
    def silent_ms(self) -> int:
        """How long nothing has confirmed that this node is there; 0 before the first time."""
        if self._confirmed_ms is None:
            return 0
        return self._clock.ticks_ms() - self._confirmed_ms

    @property
    def is_leaving(self) -> bool:
        """Whether this node is about to go."""
        return self._leaving

    def candidates(self) -> list[str]:
        """Ids of the nodes that can be given shards."""
        ids = [
            node
            for node, peer in self._peers.items()
            if peer.alive and not peer.shown.leaving and node != self.card.id
        ]
        if not self._leaving and not self._replaced and self._confirmed_ms is not None:
            ids.append(self.card.id)
        return sorted(ids)

    def find(self, node: str, run: str) -> NodeCard | None:
        """A node that is there, in this run of it."""
        if (node, run) == (self.card.id, self.card.run):
            return self.card
        peer = self._peers.get(node)
        if peer is None or not peer.alive or peer.shown.card.run != run:
            return None
        return peer.shown.card

    def others(self) -> list[NodeCard]:
        """All other nodes that are there, those that are about to go included."""
        return [
            peer.shown.card
            for node, peer in sorted(self._peers.items())
            if peer.alive and node != self.card.id
        ]

    def is_gone(self, node: str, run: str) -> bool:
        """Whether a node, in this run of it, is dead or has left.

        One whose key was never seen is given the time that silence is given.
        """
        holder = (node, run)
        if holder == (self.card.id, self.card.run):
            return False
        if holder in self._departed:
            return True
        if node == self.card.id:
            return True  # an earlier run of this one, for whose end `join` has waited
        peer = self._peers.get(node)
        if peer is not None and peer.shown.card.run == run:
            return not peer.alive
        since = self._unseen.setdefault(holder, (self._clock.ticks_ms(), self._echoes))
        return self._is_over(*since)

    def _is_over(self, since_ms: int, echoes: int) -> bool:
        """Whether silence since then means death."""
        if self._echoes - echoes < self.timings.echoes_min:
            return False
        return self._clock.ticks_ms() - since_ms >= self.timings.dead_ms

    # Renewing

    def _value(self) -> bytes:
        self._beat += 1
        return Shown(self.card, beat=self._beat, leaving=self._leaving).write()

    def _confirm(self, revision: int, sent_ms: int) -> None:
        self._revision = revision
        self._confirmed_ms = sent_ms
        self._note_fencing()

    async def _renew_for_ever(self) -> None:
        pause_ms = self.timings.renew_ms
        while not self._replaced:
            due_ms = self._clock.ticks_ms() + pause_ms
            await wait_for(self._renew_now, self._clock, until_ms=due_ms)
            pause_ms = self.timings.renew_ms
            try:
                await self._renew()
            except LogFailure as failure:
                # Whether it was written is not known, and time is short.
                self._revision = None
                pause_ms = max(1, pause_ms // 4)
                _log.info("renewal not confirmed", extra={"reason": failure.detail})
            self._note_fencing()

    async def _renew(self) -> None:
        """Write once more; a second time when the key was not as expected. Raises LogFailure."""
        for _ in range(2):
            if self._revision is None:
                await self._find_own()
            if self._replaced or self._revision is None:
                return
            sent_ms = self._clock.ticks_ms()
            written = await self._coordination.swap(
                self._key, self._value(), revision=self._revision
            )
            if written is not None:
                self._confirm(written, sent_ms)
                return
            self._revision = None

    async def _find_own(self) -> None:
        """Learn what the own key holds: after an answer was lost, or somebody else wrote it."""
        found = await self._coordination.read(self._key)
        if found is None:
            # Forgotten after a long silence: begin again.
            self._revision = 0
            return
        shown = read_shown(found.value)
        if shown is not None and shown.card.run == self.card.run:
            self._revision = found.revision
            return
        self._replaced = True
        _log.error("replaced by another process with the same id", extra={"node": self.card.id})
        self.on_turn(Turn.REPLACED, self.card)

    def _note_fencing(self) -> None:
        fenced = self.is_fenced()
        if fenced != self._was_fenced:
            self._was_fenced = fenced
            turn = Turn.FENCED if fenced else Turn.UNFENCED
            _log.warning("node fenced" if fenced else "node may serve", extra={"turn": turn.value})
            self.on_turn(turn, self.card)

    # Watching

    def _changed(self, key: str, entry: Entry | None) -> None:
        node = key.removeprefix(NODES)
        if entry is None:
            self._gone(node)
            return
        shown = read_shown(entry.value)
        if shown is None or shown.card.id != node:
            _log.warning("key of a node unreadable", extra={"node": node})
            return
        if shown.card.run == self.card.run:
            self._echoes += 1
            return
        self._unseen.pop((node, shown.card.run), None)
        self._note_peer(node, shown)

    def _note_peer(self, node: str, shown: Shown) -> None:
        peer = self._peers.get(node)
        if peer is not None and peer.shown == shown:
            return  # told twice
        before = None if peer is None or not peer.alive else peer.shown
        if peer is not None and peer.shown.card.run != shown.card.run:
            # A node id has one run at a time: the later one has waited for this one's end.
            self._note_departed(peer.shown.card)
        self._departed.pop((node, shown.card.run), None)
        self._peers[node] = _Peer(shown, self._clock.ticks_ms(), self._echoes)
        if before is None or before.card.run != shown.card.run:
            self._turn(Turn.JOINED, shown.card)
        elif shown.leaving and not before.leaving:
            self._turn(Turn.LEAVING, shown.card)

    def _gone(self, node: str) -> None:
        if node == self.card.id:
            return
        peer = self._peers.pop(node, None)
        if peer is None:
            return
        self._note_departed(peer.shown.card)
        if peer.alive:
            self._turn(Turn.LEFT, peer.shown.card)

    def _note_departed(self, card: NodeCard) -> None:
        self._departed[(card.id, card.run)] = None
        while len(self._departed) > DEPARTED_MAX:
            del self._departed[next(iter(self._departed))]

    def _turn(self, turn: Turn, card: NodeCard) -> None:
        _log.info("node " + turn.value, extra={"node": card.id, "run": card.run})
        self.on_turn(turn, card)

    def _check(self) -> None:
        """Look for who has been silent for too long, and at this node itself."""
        every_ms = max(1, self.timings.renew_ms // 4)
        self._checks = self._clock.call_at(self._clock.ticks_ms() + every_ms, self._check)
        self._note_fencing()
        for node, peer in list(self._peers.items()):
            if peer.alive and self._is_over(peer.changed_ms, peer.echoes):
                peer.alive = False
                self._turn(Turn.DIED, peer.shown.card)
            elif not peer.alive and self._is_forgotten(peer):
                peer.changed_ms = self._clock.ticks_ms()
                self._forget_later(node)

    def _is_forgotten(self, peer: _Peer) -> bool:
        return self._clock.ticks_ms() - peer.changed_ms > self.timings.forget_ms

    def _forget_later(self, node: str) -> None:
        async def forget() -> None:
            with suppress(LogFailure):
                await self._coordination.drop(NODES + node)

        task = asyncio.ensure_future(forget())
        self._forgetting.add(task)
        task.add_done_callback(self._forgetting.discard)
