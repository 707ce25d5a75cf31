"""Which shards this node serves: taking, handing over, and losing them.

    FREE ──take──► TAKING ──claimed, lease still ours──► HELD ──not ours to have──► GIVING ──► FREE
                     │                                    │
                     └──────── gave up, try later ────────┴── lost: fenced by the log, or the
                                                              lease is another's ──► FREE

*Taking*: the lease by compare-and-set with a higher epoch, when it is nobody's, was given up, or
its holder is gone; then `ShardedLog.claim`, which shuts out whoever wrote before; then the lease
is read again, because a node that stood still between the two may have claimed a shard that is
another's by now. That other one is shut out by it, notices, and takes its shard again.

*Handing over*: stop serving, flush, `ShardedLog.release`, and mark the lease as given up; the node
that the shard belongs to by `sharding.assign` sees that and takes it.

A node that is fenced (see `membership`) pauses what it holds. When it may serve again, it reads
each lease first: what is still its own goes on, the rest is lost.

That two nodes never both serve follows from time-outs, and may fail with them; that two nodes never
both change anything follows from the log alone.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Final

from hotpath.cluster.cards import NodeCard
from hotpath.cluster.events import Happened, OwnershipEvent
from hotpath.cluster.leases import SHARDS, Lease, LeaseKeys, read_lease, read_shard
from hotpath.cluster.membership import Membership, Turn
from hotpath.cluster.serving import Phase, Serving, ShardState
from hotpath.cluster.sharding import assign
from hotpath.cluster.waiting import wait_for
from hotpath.clusterports import Coordination, Entry, ShardedLog, Stop
from hotpath.ports import Clock, LogFailure, Recovered, TimerHandle
from hotpath.service.clock import sleep_until
from hotpath.telemetry import get_logger

#: Attempts to claim a taken shard before its lease is given up again.
CLAIMS_MAX: Final = 5
#: Attempts to write down that a shard was given up.
RELEASES_MAX: Final = 20
#: Pauses between attempts: the first one, and the longest, milliseconds.
RETRY_MS: Final = 100
RETRY_MAX_MS: Final = 2_000
#: How long a node that starts looks around before it takes anything, milliseconds.
LOOK_MS: Final = 200
#: How many shards are taken or given up at the same time.
AT_ONCE: Final = 16
#: How long what serves a shard may take to stop, milliseconds.
END_MS: Final = 5_000

_log = get_logger("hotpath.cluster.ownership")


class Ownership:
    """Takes the shards that belong to this node, and lets go of the others.

    Attributes:
        on_event: Hears of everything that happens to a shard here; for metrics.
        on_owner: Hears that a shard has, or may have, another owner; of all shards there are.
    """

    def __init__(
        self,
        *,
        membership: Membership,
        coordination: Coordination,
        log: ShardedLog,
        serving: Serving,
        clock: Clock,
        shards: int,
    ) -> None:
        self._membership = membership
        self._coordination = coordination
        self._leases = LeaseKeys(coordination)
        self._log = log
        self._serving = serving
        self._clock = clock
        self._me = (membership.card.id, membership.card.run)
        self._shards = [ShardState() for _ in range(shards)]
        self._belongs: list[str | None] = []
        self._belongs_of: list[str] | None = None
        self._at_once = asyncio.Semaphore(AT_ONCE)
        self._checking: asyncio.Task[None] | None = None
        self._looking = False
        self._timer: TimerHandle | None = None
        self._stop_watch: Stop | None = None
        self._started = False
        self._decides = False
        self._changed_phase = asyncio.Event()
        self.on_event: Callable[[OwnershipEvent], None] = lambda _: None
        self.on_owner: Callable[[int], None] = lambda _: None

    # Questions

    @property
    def shards(self) -> int:
        """How many shards there are."""
        return len(self._shards)

    def serves(self, shard: int) -> bool:
        """Whether this node may hand out messages of a shard now."""
        held = self._shards[shard]
        return held.phase is Phase.HELD and not held.paused and not self._membership.is_fenced()

    def phase(self, shard: int) -> Phase:
        """Where a shard is, seen from this node."""
        return self._shards[shard].phase

    def epoch(self, shard: int) -> int:
        """The epoch in which this node has a shard, or had it last; 0 for never."""
        return self._shards[shard].epoch

    def held(self) -> list[int]:
        """The shards that this node has."""
        return [n for n, shard in enumerate(self._shards) if shard.phase is Phase.HELD]

    def owner(self, shard: int) -> NodeCard | None:
        """The node that has a shard; None while nobody does."""
        lease = self._shards[shard].lease
        if lease is None or not lease.held:
            return None
        return self._membership.find(lease.node, lease.run)

    # Beginning and end

    async def follow(self) -> None:
        """See who has what, without taking anything yet. Raises LogFailure."""
        if self._stop_watch is None:
            self._log.on_lost = self._on_lost
            self._membership.on_turn = self._on_turn
            self._stop_watch = await self._coordination.watch(SHARDS, self._lease_changed)

    async def start(self) -> None:
        """Begin to take shards; the membership has joined. Raises LogFailure."""
        await self.follow()
        self._started = True
        # Who is there and who has what is told right after the watches have begun.
        self._timer = self._clock.call_at(self._clock.ticks_ms() + LOOK_MS, self._tick)

    async def stop(self, *, within_ms: int) -> None:
        """Hand everything over and leave; what has not been handed over by then is dropped."""
        self._membership.announce_leaving()
        self._look()
        until_ms = self._clock.ticks_ms() + within_ms
        while self._busy() and self._clock.ticks_ms() < until_ms:
            await wait_for(self._changed_phase, self._clock, until_ms=until_ms)
        await self._halt()
        for number in self.held():
            self._serving.drop(number)
        await self._membership.leave()

    async def abandon(self) -> None:
        """End without a word, as a process does that is killed; for tests of what follows."""
        await self._halt()
        await self._membership.abandon()

    def _busy(self) -> bool:
        return any(shard.phase is not Phase.FREE for shard in self._shards)

    async def _halt(self) -> None:
        self._started = False
        if self._timer is not None:
            self._timer.cancel()
        tasks = [shard.task for shard in self._shards if shard.task is not None]
        if self._checking is not None:
            tasks.append(self._checking)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._stop_watch is not None:
            stop, self._stop_watch = self._stop_watch, None
            await stop()

    # What is heard

    def _on_turn(self, turn: Turn, _: NodeCard) -> None:
        for number in self.held() if turn in (Turn.FENCED, Turn.REPLACED) else ():
            if turn is Turn.FENCED:
                self._pause(number)
            else:
                self._lose(number, "another process has taken this node's id")
        self._look()
        if turn in (Turn.DIED, Turn.LEFT, Turn.JOINED):
            self._tell_owners()

    def _tell_owners(self) -> None:
        """Who holds a lease may be there, or not, unlike before."""
        for number, shard in enumerate(self._shards):
            if shard.lease is not None and shard.lease.held:
                self.on_owner(number)

    def _lease_changed(self, key: str, entry: Entry | None) -> None:
        number = read_shard(key, len(self._shards))
        if number is None:
            return
        lease = None if entry is None else read_lease(entry.value, entry.revision)
        if entry is not None and lease is None:
            _log.error("lease unreadable", extra={"shard": number})
            return
        self._note_lease(number, lease)

    def _note_lease(self, number: int, lease: Lease | None) -> None:
        """A lease is, or was a moment ago, like this."""
        shard = self._shards[number]
        before = shard.lease
        if before is not None and lease is not None and lease.revision <= before.revision:
            return
        shard.lease = lease
        self.on_owner(number)
        if shard.phase is Phase.HELD and not self._is_mine(shard):
            self._lose(number, "the lease is another node's")
        elif shard.phase is Phase.TAKING and not self._is_mine(shard):
            shard.upset = True
        self._look()

    def _is_mine(self, shard: ShardState) -> bool:
        """Whether the lease is this node's in the epoch in which it serves."""
        lease = shard.lease
        return lease is not None and lease.is_of(*self._me) and lease.epoch == shard.epoch

    def _on_lost(self, number: int) -> None:
        """The log refuses this node's work for a shard: somebody else has claimed it."""
        shard = self._shards[number]
        if shard.phase is Phase.HELD:
            self._lose(number, "another node has claimed it in the log")
        elif shard.phase is Phase.TAKING:
            shard.upset = True
        elif shard.phase is Phase.GIVING:
            self._serving.drop(number)

    def _lose(self, number: int, why: str) -> None:
        shard = self._shards[number]
        shard.phase, shard.paused = Phase.FREE, False
        self._serving.drop(number)
        self._tell(Happened.LOST, number, why)
        # The lease may still be ours: then this takes the shard again, in a higher epoch.
        shard.retry_ms = self._clock.ticks_ms() + RETRY_MS
        self._run(number, self._let_go(number))

    async def _let_go(self, number: int) -> None:
        """See to it that the log writes nothing more for a shard that was lost."""
        try:
            await self._log.release(number)
        except LogFailure as failure:
            _log.info("release failed", extra={"shard": number, "reason": failure.detail})

    def _pause(self, number: int) -> None:
        shard = self._shards[number]
        if not shard.paused:
            shard.paused = True
            self._serving.pause(number)
            self._tell(Happened.PAUSED, number)

    # Deciding

    def _tick(self) -> None:
        """Look again now and then: retries come due, and nobody tells of silence."""
        self._decides = True
        self._timer = self._clock.call_at(self._clock.ticks_ms() + RETRY_MS, self._tick)
        self._look()

    def _look(self) -> None:
        """Decide about every shard, soon, and once however many ask."""
        if self._started and self._decides and not self._looking:
            self._looking = True
            asyncio.get_running_loop().call_soon(self._decide)

    def _decide(self) -> None:
        self._looking = False
        if not self._started:
            return
        candidates = self._membership.candidates()
        if candidates != self._belongs_of:
            self._belongs_of = candidates
            self._belongs = assign(len(self._shards), candidates)
        fenced = self._membership.is_fenced()
        for number, shard in enumerate(self._shards):
            if shard.task is not None:
                continue
            mine = self._belongs[number] == self._me[0]
            if shard.phase is Phase.HELD:
                self._decide_held(number, mine=mine, fenced=fenced)
            elif not fenced:
                self._decide_free(number, mine=mine)

    def _decide_held(self, number: int, *, mine: bool, fenced: bool) -> None:
        shard = self._shards[number]
        if fenced:
            self._pause(number)
        elif shard.paused:
            if self._clock.ticks_ms() >= shard.retry_ms:
                self._run(number, self._verify(number))
        elif not mine:
            shard.phase = Phase.GIVING
            self._run(number, self._give(number))

    def _decide_free(self, number: int, *, mine: bool) -> None:
        shard = self._shards[number]
        if self._clock.ticks_ms() < shard.retry_ms:
            return
        lease = shard.lease
        if lease is not None and lease.is_of(*self._me) and not mine:
            # Given up, or lost in the log alone, and nobody knows yet.
            self._run(number, self._write_given_up(number))
        elif mine and (lease is None or self._is_free(lease)):
            shard.phase, shard.upset = Phase.TAKING, False
            self._run(number, self._take(number))

    def _is_free(self, lease: Lease) -> bool:
        if not lease.held or lease.is_of(*self._me):
            return True
        return self._membership.is_gone(lease.node, lease.run)

    def _run(self, number: int, work: Coroutine[None, None, None]) -> None:
        """Do something about a shard; one thing at a time."""
        shard = self._shards[number]
        before = shard.task

        async def run() -> None:
            if before is not None:
                await asyncio.wait({before})
            async with self._at_once:
                await work

        task = shard.task = asyncio.ensure_future(run())

        def ended(done: "asyncio.Task[None]") -> None:
            work.close()
            if shard.task is task:
                shard.task = None
            if not done.cancelled() and done.exception() is not None:
                self._broke(number, done.exception())
            self._changed_phase.set()
            self._look()

        task.add_done_callback(ended)

    def _broke(self, number: int, error: BaseException | None) -> None:
        """A fault of this program, or of what serves: the shard is not served, and tried again."""
        known, extra = isinstance(error, LogFailure), {"shard": number, "reason": str(error)}
        _log.error("work on a shard broke", exc_info=None if known else error, extra=extra)
        shard = self._shards[number]
        if shard.phase is not Phase.FREE:
            self._serving.drop(number)
            shard.phase, shard.paused = Phase.FREE, False
        self._fail(number, str(error) if known else "internal error")

    def _fail(self, number: int, why: str) -> None:
        """Try again, later each time."""
        shard = self._shards[number]
        pause_ms = min(RETRY_MS << min(shard.failures, 10), RETRY_MAX_MS)
        shard.failures += 1
        shard.retry_ms = self._clock.ticks_ms() + pause_ms
        self._tell(Happened.FAILED, number, why)

    # Taking

    async def _take(self, number: int) -> None:
        """Take a shard, or leave it to a later attempt."""
        shard = self._shards[number]
        try:
            if not await self._take_lease(number):
                shard.phase = Phase.FREE
                shard.retry_ms = self._clock.ticks_ms() + RETRY_MS
                return
            recovered = await self._claim(number)
        except LogFailure as failure:
            shard.phase = Phase.FREE
            self._fail(number, failure.detail)
            return
        if recovered is None or not self._is_mine(shard) or self._membership.is_fenced():
            shard.phase = Phase.FREE
            self._fail(number, "not this node's any more before it was claimed")
            await self._let_go(number)
            return
        await self._serving.begin(number, recovered)
        shard.phase, shard.failures = Phase.HELD, 0
        if shard.upset or not self._is_mine(shard):
            self._lose(number, "lost while it was being taken")
            return
        self._tell(Happened.TAKEN, number)
        if self._membership.is_fenced():
            self._pause(number)

    async def _take_lease(self, number: int) -> bool:
        """Write this node into the lease; False when somebody else was first. Raises LogFailure."""
        shard = self._shards[number]
        lease = shard.lease
        # Above what this node has had, too: the key may have been removed by somebody.
        epoch = max(shard.epoch, lease.epoch if lease is not None else 0) + 1
        wanted = Lease(*self._me, epoch, held=True)
        revision = lease.revision if lease is not None else 0
        # Before it is written: the watch may tell of it before the answer comes.
        shard.epoch = epoch
        try:
            written = await self._swap(number, wanted, revision)
        except LogFailure:
            await self._read_lease(number)
            return self._is_mine(shard)
        if not written:
            await self._read_lease(number)
        return self._is_mine(shard)

    async def _claim(self, number: int) -> Recovered | None:
        """Claim in the log, and see whether the lease is still ours; None when it is not.

        Raises LogFailure when the log cannot be had; then the lease is given up again.
        """
        pause_ms = RETRY_MS
        for attempt in range(1, CLAIMS_MAX + 1):
            self._shards[number].upset = False
            try:
                recovered = await self._log.claim(number)
                await self._read_lease(number)
            except LogFailure:
                if attempt == CLAIMS_MAX:
                    await self._write_given_up(number)
                    raise
                await sleep_until(self._clock, self._clock.ticks_ms() + pause_ms)
                pause_ms = min(2 * pause_ms, RETRY_MAX_MS)
                continue
            shard = self._shards[number]
            return recovered if self._is_mine(shard) and not shard.upset else None
        return None

    async def _read_lease(self, number: int) -> None:
        """Learn what a lease says now. Raises LogFailure."""
        self._note_lease(number, await self._leases.read(number))

    async def _swap(self, number: int, lease: Lease, revision: int) -> bool:
        """Write a lease if it is as it was; whether it was. Raises LogFailure."""
        written = await self._leases.swap(number, lease, revision=revision)
        if written is not None:
            self._note_lease(number, written)
        return written is not None

    # Handing over

    async def _give(self, number: int) -> None:
        """Stop serving a shard and let its next owner have it."""
        await self._end_serving(number)
        try:
            await self._log.release(number)
        except LogFailure as failure:
            # What was not durable was not confirmed; whoever comes next begins before it.
            _log.warning("release failed", extra={"shard": number, "reason": failure.detail})
        await self._write_given_up(number)
        self._shards[number].phase = Phase.FREE

    async def _end_serving(self, number: int) -> None:
        """Let serving end in its own way, for a while."""
        ending = asyncio.ensure_future(self._serving.end(number))
        timer = asyncio.ensure_future(sleep_until(self._clock, self._clock.ticks_ms() + END_MS))
        try:
            await asyncio.wait({ending, timer}, return_when=asyncio.FIRST_COMPLETED)
            if ending.done() and ending.exception() is None:
                return
            why = "it took too long" if not ending.done() else repr(ending.exception())
            _log.warning("serving did not end", extra={"shard": number, "reason": why})
            self._serving.drop(number)
        finally:
            ending.cancel()
            timer.cancel()

    async def _write_given_up(self, number: int) -> None:
        """Mark the lease as given up, unless it is another's by now."""
        shard = self._shards[number]
        pause_ms = RETRY_MS
        for _ in range(RELEASES_MAX):
            lease = shard.lease
            if lease is None or not lease.is_of(*self._me):
                return
            free = Lease(lease.node, lease.run, lease.epoch, held=False)
            try:
                if await self._swap(number, free, lease.revision):
                    self._tell(Happened.GIVEN, number)
                    return
                await self._read_lease(number)
            except LogFailure:
                await sleep_until(self._clock, self._clock.ticks_ms() + pause_ms)
                pause_ms = min(2 * pause_ms, RETRY_MAX_MS)

    async def _verify(self, number: int) -> None:
        """Go on with a paused shard if it is still ours."""
        shard = self._shards[number]
        try:
            await self._read_lease(number)
        except LogFailure as failure:
            self._fail(number, failure.detail)
            return
        if shard.phase is Phase.HELD and not self._membership.is_fenced():
            shard.paused = False
            shard.failures = 0
            self._serving.resume(number)
            self._tell(Happened.RESUMED, number)

    def _tell(self, what: Happened, number: int, detail: str = "") -> None:
        event = OwnershipEvent(what, number, self._shards[number].epoch, detail)
        level = _log.warning if what in (Happened.LOST, Happened.FAILED) else _log.info
        extra = {"shard": number, "epoch": event.epoch, "reason": detail}
        level(f"shard {what.value}", extra=extra)
        self.on_event(event)
