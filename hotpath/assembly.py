"""The service between the edges and the storage, put together."""

import asyncio
import secrets
from contextlib import suppress
from typing import TYPE_CHECKING

from hotpath.auth.jwt import TokenVerifier
from hotpath.auth.sas import KeyRing
from hotpath.auth.sealing import SealingKey
from hotpath.config import Settings
from hotpath.core.locks import LockTable
from hotpath.interpreter import collector_off
from hotpath.model.chance import random_bits
from hotpath.ports import Clock, MessageLog, RecordStore, Recovered
from hotpath.service.access import Access
from hotpath.service.admin import Administration
from hotpath.service.commit import Committer
from hotpath.service.control import LocalControl
from hotpath.service.deadroom import DeadRoom
from hotpath.service.deferred import Deferrals
from hotpath.service.deliver import Delivering
from hotpath.service.feedcalls import LocalCalls
from hotpath.service.keys import KeyRotation
from hotpath.service.liveness import Liveness
from hotpath.service.look import Looking
from hotpath.service.peek import Peeking
from hotpath.service.points import PointPublishing
from hotpath.service.publish import Publishing
from hotpath.service.publishers import Publishers
from hotpath.service.recount import recount
from hotpath.service.revoke import Revoking
from hotpath.service.schedule import Scheduling
from hotpath.service.settle import Settling
from hotpath.service.streams import Streams
from hotpath.service.streams_events import StreamEvents
from hotpath.service.streams_resume import StreamRecovery
from hotpath.service.topics import Topics
from hotpath.service.traced import Traces
from hotpath.service.upkeep import Upkeep
from hotpath.service.why import Whys
from hotpath.telemetry import Metrics, get_logger

if TYPE_CHECKING:
    from hotpath.tracing import Tracing

_log = get_logger("hotpath.assembly")


class Core:
    """The service between the edges and the storage.

    Another composition names other kinds of its parts, and says how they come back at the start.
    """

    topics_kind: type[Topics] = Topics
    keys_kind: type[KeyRotation] = KeyRotation
    scheduling_kind: type[Scheduling] = Scheduling
    administration_kind: type[Administration] = Administration
    publishers_kind: type[Publishers] = Publishers
    revoking_kind: type[Revoking] = Revoking
    points_kind: type[PointPublishing] = PointPublishing
    streams_kind: type[Streams] = Streams
    upkeep_kind: type[Upkeep] = Upkeep
    #: Whether others append to the log, too.
    is_log_shared = False

    def __init__(
        self, settings: Settings, *, log: MessageLog, store: RecordStore, clock: Clock
    ) -> None:
        self.settings = settings
        self.log = log
        self.store = store
        self.clock = clock
        self.metrics = Metrics()
        self.ring = KeyRing([])
        self.keys = self.keys_kind(store, self.ring, clock, keys_max=settings.keys_max)
        #: Seals the secrets of streams; one for this process alone until it is replaced.
        self.sealing = SealingKey(secrets.token_bytes(32))
        self._recounting: asyncio.Task[None] | None = None
        self.tracing: Tracing | None = None

    async def open(self) -> None:
        """Open the log and bring everything back. Raises LogFailure."""
        with collector_off():
            await self._open()

    async def _open(self) -> None:
        recovered = await self.log.open()
        for damage in recovered.damage:
            _log.error("log damaged", extra={"what": damage})
            self.metrics.log_damage.inc()
        await self.keys.open()
        self._compose(base_ms=recovered.alive_ms)
        if self.tracing is not None:
            traces = Traces(self.tracing, self.clock)
            self.publishing.on_submit = traces.submitted
            self.delivering.on_taken = traces.taken
        await self._resume(recovered)

    async def _resume(self, recovered: Recovered) -> None:
        """Bring back all that was there before. Raises LogFailure."""
        await self.publishers.resume()
        streams = await self._resume_streams(recovered)
        await self.admin.resume(recovered, others=streams)
        self.scheduling.resume(recovered.scheduled)
        self.upkeep.start()
        self._recounting = asyncio.ensure_future(recount(self.topics, self.liveness))

    def _compose(self, *, base_ms: int | None) -> None:
        """Make the parts of the service; service time goes on from `base_ms`."""
        settings, clock = self.settings, self.clock
        self.liveness = Liveness(clock, base_ms=base_ms)
        self.topics = self.topics_kind(self.log, tail_bytes_max=settings.tail_bytes_max)
        self.committer = Committer(self.log, self.topics, clock, self.metrics)
        self.committer.service_ms = self.liveness.service_ms
        self.liveness.on_mark = self.committer.touch
        self.settling = Settling(
            topics=self.topics,
            committer=self.committer,
            clock=clock,
            metrics=self.metrics,
            lock_table=self._lock_table,
            dead_letter_expired=settings.expired_to_dead_letter,
            room=DeadRoom(
                letters_max=settings.dead_letters_max,
                bytes_max=settings.dead_letter_bytes_max,
                clock=clock,
                metrics=self.metrics,
            ),
        )
        self.delivering = Delivering(
            log=self.log,
            topics=self.topics,
            committer=self.committer,
            settling=self.settling,
            liveness=self.liveness,
            clock=clock,
            metrics=self.metrics,
            receivers_max=settings.receivers_per_subscription_max,
        )
        self._compose_calls()
        self._compose_streams()
        self.upkeep = self.upkeep_kind(
            log=self.log,
            topics=self.topics,
            committer=self.committer,
            clock=clock,
            retention_ms=int(settings.retention_hours * 3_600_000),
            retention_bytes=settings.retention_bytes,
        )

    def _compose_calls(self) -> None:
        """Make the parts that callers and publishers reach directly."""
        settings, clock, metrics = self.settings, self.clock, self.metrics
        self.scheduling = self.scheduling_kind(
            committer=self.committer,
            clock=clock,
            per_tenant_max=settings.scheduled_max,
            bytes_max=settings.scheduled_bytes_max,
        )
        self.publishing = Publishing(
            committer=self.committer,
            scheduling=self.scheduling,
            metrics=metrics,
            pending_bytes_max=settings.pending_bytes_max,
        )
        self.peeking = Peeking(log=self.log, topics=self.topics, settling=self.settling)
        self.looking = Looking(
            log=self.log, topics=self.topics, clock=clock, shared=self.is_log_shared
        )
        self.whys = Whys(log=self.log, looking=self.looking, settling=self.settling, clock=clock)
        self.deferrals = Deferrals(
            topics=self.topics,
            committer=self.committer,
            settling=self.settling,
            clock=clock,
            metrics=metrics,
        )
        self.admin = self.administration_kind(
            settings=settings,
            store=self.store,
            log=self.log,
            topics=self.topics,
            committer=self.committer,
            delivering=self.delivering,
            settling=self.settling,
            liveness=self.liveness,
            lock_table=self._lock_table,
            clock=clock,
            metrics=metrics,
        )
        self.publishers = self.publishers_kind(settings=settings, store=self.store, clock=clock)
        self.revoking = self.revoking_kind(self.admin, self.publishers, self.store)
        self.feed_calls = LocalCalls(self.settling, self.committer, self.deferrals, self.peeking)
        self.control = LocalControl(
            admin=self.admin, whys=self.whys, looking=self.looking, peeking=self.peeking
        )

    def _compose_streams(self) -> None:
        """Make the parts that values of points and their streams need."""
        settings = self.settings
        self.points = self.points_kind(
            log=self.log,
            store=self.store,
            topics=self.topics,
            committer=self.committer,
            publishing=self.publishing,
            clock=self.clock,
            metrics=self.metrics,
            points_max=settings.points_per_tenant_max,
        )
        self.streams = self.streams_kind(
            settings=settings,
            store=self.store,
            topics=self.topics,
            committer=self.committer,
            delivering=self.delivering,
            settling=self.settling,
            liveness=self.liveness,
            sealing=self.sealing,
            lock_table=_endless_locks,
            clock=self.clock,
            metrics=self.metrics,
        )
        self.streams.announce = StreamEvents(self.publishing, self.clock).announce

    async def _resume_streams(self, recovered: Recovered) -> set[str]:
        """Bring all streams back; the ids of those there are. Raises LogFailure."""
        return await self._stream_recovery().resume(recovered)

    def _stream_recovery(self) -> StreamRecovery:
        return StreamRecovery(
            streams=self.streams,
            store=self.store,
            topics=self.topics,
            settling=self.settling,
            liveness=self.liveness,
            sealing=self.sealing,
        )

    def access(self, verifier: TokenVerifier) -> Access:
        """What reads credentials, and says what they reach."""
        return Access(
            admin=self.admin,
            publishers=self.publishers,
            ring=self.ring,
            verifier=verifier,
            clock=self.clock,
        )

    def _lock_table(self, dead: bool) -> LockTable:
        """A table for a feed; serials start at random so that lock tokens outlive no restart."""
        settings = self.settings
        return LockTable(
            lock_ms=round(settings.lock_seconds * 1000),
            deliveries_max=None if dead else settings.max_deliveries,
            first_serial=random_bits(48),
        )

    async def close(self) -> None:
        """Make everything durable and release the storage. Raises LogFailure."""
        if self._recounting is not None:
            self._recounting.cancel()
            with suppress(asyncio.CancelledError):
                await self._recounting
        self.scheduling.close()
        await self.streams.close()
        await self.delivering.close()
        await self.settling.close()
        await self.upkeep.stop()
        try:
            await self.committer.close()
        finally:
            await self.points.close()
            await self.log.close()
            if self.tracing is not None:
                await asyncio.to_thread(self.tracing.close)


def _endless_locks() -> LockTable:
    """A table for the feed of a stream: its schedule decides how often and how long it is tried."""
    return LockTable(lock_ms=None, deliveries_max=None, first_serial=random_bits(48))
