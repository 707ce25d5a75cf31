"""The composition root: the only module that knows everyone.

`Core` is the service without its edges; `App` adds REST, AMQP and the reaper, starts them in
order and stops them in the reverse order, within `drain_seconds`.
"""

import asyncio
import gc
import importlib
import secrets
import ssl
import sys
from asyncio.sslproto import SSLProtocol
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Final, cast

from hotpath.amqp.listener import AmqpEdge
from hotpath.amqp.websocket import websocket_mount
from hotpath.auth.jwt import TokenVerifier, make_verifier
from hotpath.auth.privacy import prepare_directory, warn_of_open_key
from hotpath.auth.sas import KeyRing
from hotpath.auth.sealing import SealingKey, load_sealing_key
from hotpath.config import Endpoint, Settings
from hotpath.console.pages import console_mount
from hotpath.core.keeping import KEEPING
from hotpath.core.locks import LockTable
from hotpath.ports import Clock, MessageLog, RecordStore, Recovered
from hotpath.reaper import Reaper
from hotpath.rest.server import RestEdge
from hotpath.rest.services import Services
from hotpath.service.access import Access
from hotpath.service.admin import Administration
from hotpath.service.certificates import Certificates
from hotpath.service.clock import SystemClock
from hotpath.service.commit import Committer
from hotpath.service.deadroom import DeadRoom
from hotpath.service.deferred import Deferrals
from hotpath.service.deliver import Delivering
from hotpath.service.keys import KeyRotation
from hotpath.service.liveness import Liveness
from hotpath.service.look import Looking
from hotpath.service.peek import Peeking
from hotpath.service.points import PointPublishing
from hotpath.service.publish import Publishing
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
from hotpath.storage.segments import SegmentLimits
from hotpath.storage.sqlite.connection import SqliteOptions
from hotpath.storage.sqlite.database import SqliteDatabase
from hotpath.storage.sqlite.log import SqliteLog
from hotpath.storage.sqlite.store import SqliteStore
from hotpath.telemetry import Metrics, get_logger

if TYPE_CHECKING:
    from hotpath.tracing import Tracing
from hotpath.webhooks.api_reading import StreamServices
from hotpath.webhooks.api_routes import stream_routes
from hotpath.webhooks.edge import WebhookEdge, target_policy

#: Read at once from a TLS connection.
TLS_BUFFER_BYTES: Final = 32_768

_log = get_logger("hotpath.app")


class Core:
    """The service between the edges and the storage."""

    def __init__(
        self, settings: Settings, *, log: MessageLog, store: RecordStore, clock: Clock
    ) -> None:
        self.settings = settings
        self.log = log
        self.store = store
        self.clock = clock
        self.metrics = Metrics()
        self.ring = KeyRing([])
        self.keys = KeyRotation(store, self.ring, clock, keys_max=settings.keys_max)
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
        streams = await self._resume_streams(recovered)
        await self.admin.resume(recovered, others=streams)
        self.scheduling.resume(recovered.scheduled)
        self.upkeep.start()
        self._recounting = asyncio.ensure_future(recount(self.topics, self.liveness))

    def _compose(self, *, base_ms: int | None) -> None:
        """Make the parts of the service; service time goes on from `base_ms`."""
        settings, clock = self.settings, self.clock
        self.liveness = Liveness(clock, base_ms=base_ms)
        self.topics = Topics(self.log, tail_bytes_max=settings.tail_bytes_max)
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
        self.scheduling = Scheduling(
            committer=self.committer,
            clock=clock,
            per_tenant_max=settings.scheduled_max,
            bytes_max=settings.scheduled_bytes_max,
        )
        self.publishing = Publishing(
            committer=self.committer,
            scheduling=self.scheduling,
            metrics=self.metrics,
            pending_bytes_max=settings.pending_bytes_max,
        )
        self.peeking = Peeking(log=self.log, topics=self.topics, settling=self.settling)
        self.looking = Looking(log=self.log, topics=self.topics, clock=clock)
        self.whys = Whys(log=self.log, looking=self.looking, settling=self.settling, clock=clock)
        self.deferrals = Deferrals(
            topics=self.topics,
            committer=self.committer,
            settling=self.settling,
            clock=clock,
            metrics=self.metrics,
        )
        self.admin = Administration(
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
            metrics=self.metrics,
        )
        self.revoking = Revoking(self.admin, self.store)
        self._compose_streams()
        self.upkeep = Upkeep(
            log=self.log,
            topics=self.topics,
            committer=self.committer,
            clock=clock,
            retention_ms=int(settings.retention_hours * 3_600_000),
            retention_bytes=settings.retention_bytes,
        )

    def _compose_streams(self) -> None:
        """Make the parts that values of points and their streams need."""
        settings = self.settings
        self.points = PointPublishing(
            log=self.log,
            store=self.store,
            topics=self.topics,
            committer=self.committer,
            publishing=self.publishing,
            clock=self.clock,
            metrics=self.metrics,
            points_max=settings.points_per_tenant_max,
        )
        self.streams = Streams(
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
        recovery = StreamRecovery(
            streams=self.streams,
            store=self.store,
            topics=self.topics,
            settling=self.settling,
            liveness=self.liveness,
            sealing=self.sealing,
        )
        return await recovery.resume(recovered)

    def _lock_table(self, dead: bool) -> LockTable:
        """A table for a feed; serials start at random so that lock tokens outlive no restart."""
        settings = self.settings
        return LockTable(
            lock_ms=round(settings.lock_seconds * 1000),
            deliveries_max=None if dead else settings.max_deliveries,
            first_serial=secrets.randbits(48),
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
    return LockTable(lock_ms=None, deliveries_max=None, first_serial=secrets.randbits(48))


class App:
    """The whole service: the core on SQLite, the edges, the reaper."""

    def __init__(self, settings: Settings, *, clock: Clock | None = None) -> None:
        self.settings = settings
        self.clock = clock or SystemClock()
        self._database = SqliteDatabase(
            settings.data_dir,
            SqliteOptions(
                synchronous=settings.log_sync,
                limits=SegmentLimits(bytes_max=settings.segment_bytes),
            ),
        )
        self.core = Core(
            settings,
            log=SqliteLog(self._database, on_damage=self._on_damage),
            store=SqliteStore(self._database),
            clock=self.clock,
        )
        self._exits = AsyncExitStack()
        self._verifier: TokenVerifier | None = None
        self._urls: dict[str, str] = {}
        self._stopping = False
        self._certificates: Certificates | None = None
        #: Once started: its AMQP connections.
        self.amqp: AmqpEdge | None = None

    def _on_damage(self, what: str) -> None:
        _log.error("log damaged", extra={"what": what})
        self.core.metrics.log_damage.inc()

    async def start(self) -> dict[str, str]:
        """Start everything; the addresses of the listeners that are on.

        Raises:
            LogFailure: the data directory cannot be used.
            OSError: an address cannot be bound, or a file cannot be read.
            ValueError: a key or certificate is not usable.
        """
        settings, core, clock = self.settings, self.core, self.clock
        prepare_directory(settings.data_dir)
        warn_of_open_key(settings.tls_key)
        certificates = self._certificates = Certificates.of(settings, clock)
        core.tracing = start_tracing(settings)
        tls = None if certificates is None else certificates.listening
        verifier = make_verifier(settings, now_ms=clock.now_ms, ticks_ms=clock.ticks_ms)
        self._verifier = verifier
        core.sealing = load_sealing_key(settings.data_dir, settings.webhook_secret_key_file)
        await core.open()
        self._exits.push_async_callback(core.close)
        self._exits.push_async_callback(verifier.close)
        access = Access(admin=core.admin, ring=core.ring, verifier=verifier, clock=clock)
        amqp = AmqpEdge(
            access=access,
            publishing=core.publishing,
            delivering=core.delivering,
            settling=core.settling,
            committer=core.committer,
            scheduling=core.scheduling,
            peeking=core.peeking,
            deferrals=core.deferrals,
            points=core.points,
            settings=settings,
            clock=clock,
            metrics=core.metrics,
        )
        self.amqp = amqp
        webhooks = self._webhooks()
        core.keys.on_retired = core.revoking.on_revoked = amqp.recheck
        rest = RestEdge(
            Services(
                settings=settings,
                admin=core.admin,
                publishing=core.publishing,
                ring=core.ring,
                keys=core.keys,
                revoking=core.revoking,
                looking=core.looking,
                peeking=core.peeking,
                whys=core.whys,
                verifier=verifier,
                clock=clock,
                metrics=core.metrics,
                connection_url=self.connection_url,
                readiness=self._unready,
                tracing=core.tracing,
            ),
            mounts=[
                websocket_mount(amqp, core.settings, access),
                *([console_mount()] if settings.console else []),
            ],
            routes=stream_routes(
                StreamServices(core.streams, core.points, webhooks, target_policy(settings))
            ),
        )
        self._exits.push_async_callback(self._stop_edges, amqp, rest, webhooks)
        webhooks.start()
        await self._listen(amqp, rest, tls)
        if certificates is not None:
            certificates.start()
            self._exits.push_async_callback(certificates.stop)
        if settings.reap:
            reaper = Reaper(core.admin, core.liveness, clock)
            reaper.start()
            self._exits.push_async_callback(reaper.stop)
        tune_interpreter()
        return {
            name: self._urls[name]
            for name in ("http", "https", "amqp", "amqps")
            if name in self._urls
        }

    def _webhooks(self) -> WebhookEdge:
        """The edge that delivers to streams. Raises OSError, ssl.SSLError."""
        core = self.core
        return WebhookEdge(
            streams=core.streams,
            delivering=core.delivering,
            settling=core.settling,
            committer=core.committer,
            log=core.log,
            topics=core.topics,
            settings=self.settings,
            clock=self.clock,
            metrics=core.metrics,
        )

    async def _listen(self, amqp: AmqpEdge, rest: RestEdge, tls: ssl.SSLContext | None) -> None:
        """Open every listener that is on; AMQP first, since REST hands out its addresses."""
        settings = self.settings
        if settings.amqp is not None:
            self._note("amqp", settings.amqp, await amqp.start(settings.amqp, None))
        if settings.amqps is not None:
            self._note("amqps", settings.amqps, await amqp.start(settings.amqps, tls))
        if settings.metrics is not None:
            await rest.start_metrics(settings.metrics)
        if settings.http is not None:
            self._note("http", settings.http, await rest.start(settings.http))
        if settings.https is not None:
            self._note("https", settings.https, await rest.start(settings.https, tls))

    def _note(self, scheme: str, endpoint: Endpoint, port: int) -> None:
        self._urls[scheme] = f"{scheme}://{shown_host(endpoint)}:{port}"

    def connection_url(self, path: str) -> str:
        """The public URL of an AMQP address: TLS where it is on, the configured host if any."""
        scheme = "amqps" if self.settings.amqps is not None else "amqp"
        host = self.settings.public_host
        if host is None:
            found = self._urls.get(scheme) or next(iter(self._urls.values()), "//localhost")
            host = found.partition("//")[2]
        return f"{scheme}://{host}/{path}"

    def _unready(self) -> list[str]:
        """Why the service cannot accept or deliver now."""
        reasons = []
        if self._stopping:
            reasons.append("the service is shutting down")
        if self.core.committer.failing:
            reasons.append("the message log cannot be written")
        if self._verifier is not None:
            reasons += self._verifier.problems()
        return reasons

    async def _stop_edges(self, amqp: AmqpEdge, rest: RestEdge, webhooks: WebhookEdge) -> None:
        await rest.stop_listening()
        # Together, so that all are done within one `drain_seconds`.
        drain_seconds = self.settings.drain_seconds
        await asyncio.gather(amqp.stop(drain_seconds), rest.stop(), webhooks.stop(drain_seconds))

    async def reload(self) -> None:
        """Read the TLS files again; if they cannot be used, the old ones stay in force."""
        if self._certificates is None:
            _log.info("there is nothing to read again: TLS is off")
        else:
            await self._certificates.reload()

    async def stop(self) -> None:
        """Take nothing new, answer what is under way, make everything durable.

        Raises LogFailure when the last commit fails.
        """
        self._stopping = True
        await self._exits.aclose()


def start_tracing(settings: Settings) -> "Tracing | None":
    """Spans to the configured collector, if any. Raises ValueError when its library is missing."""
    if settings.trace_endpoint is None:
        return None
    try:
        tracing = importlib.import_module("hotpath.tracing")
    except ImportError as error:
        raise ValueError(
            "trace_endpoint needs OpenTelemetry, which is not installed: "
            "pip install 'hotpath[trace]'"
        ) from error
    return cast(
        "Tracing", tracing.connect_tracing(settings.trace_endpoint, ratio=settings.trace_ratio)
    )


@contextmanager
def collector_off() -> Iterator[None]:
    """While thousands of subscriptions are made that stay: there is nothing to collect."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def tune_interpreter() -> None:
    """Settings of the interpreter that belong to a process with one busy loop.

    The writer thread needs the GIL a few times a commit; at the default switch interval of 5 ms
    a busy loop makes each of those a wait of 5 ms.

    The cyclic garbage collector runs seldom, and not over what stays for good: the hot path makes
    many short-lived tuples and no cycles, and at the default threshold the young ones would be
    walked every few messages. What comes with subscriptions later is kept out of its way, too.
    """
    sys.setswitchinterval(0.0005)
    # asyncio gives every TLS connection a buffer of this size, from its first byte on: at its own
    # 256 KiB, thousands that are idle or never finish their handshake take gigabytes.
    SSLProtocol.max_size = TLS_BUFFER_BYTES
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 10, 20)
    KEEPING.is_on = True


def shown_host(endpoint: Endpoint) -> str:
    """The host of a listener as a client on this machine writes it."""
    if endpoint.host in {"0.0.0.0", "::", "*"}:  # noqa: S104 - compared, not bound
        return "localhost"
    return f"[{endpoint.host}]" if ":" in endpoint.host else endpoint.host
