"""The composition root: the only module that knows everyone.

`App` puts storage, service, edges and the reaper together, starts them in order and stops them in
the reverse order, within `drain_seconds`.
"""

import asyncio
import importlib
import ssl
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, cast

from hotpath.amqp.listener import AmqpEdge
from hotpath.amqp.websocket import websocket_mount
from hotpath.assembly import Core
from hotpath.auth.jwt import TokenVerifier, make_verifier
from hotpath.auth.privacy import prepare_directory, warn_of_open_key
from hotpath.auth.sealing import load_sealing_key
from hotpath.config import Endpoint, Settings
from hotpath.console.pages import console_mount
from hotpath.edges import amqp_edge, rest_services, webhook_edge
from hotpath.interpreter import tune_interpreter
from hotpath.ports import Clock
from hotpath.reaper import Reaper
from hotpath.rest.server import RestEdge
from hotpath.rest.services import Services
from hotpath.service.access import Access
from hotpath.service.certificates import Certificates
from hotpath.service.clock import SystemClock
from hotpath.storage.segments import SegmentLimits
from hotpath.storage.sqlite.connection import SqliteOptions
from hotpath.storage.sqlite.database import SqliteDatabase
from hotpath.storage.sqlite.log import SqliteLog
from hotpath.storage.sqlite.store import SqliteStore
from hotpath.telemetry import get_logger
from hotpath.webhooks.api_reading import StreamServices
from hotpath.webhooks.api_routes import stream_routes
from hotpath.webhooks.edge import WebhookEdge, target_policy
from hotpath.webhooks.interface import WebhookDeliveries

if TYPE_CHECKING:
    from hotpath.tracing import Tracing

_log = get_logger("hotpath.app")


class App:
    """The whole service: the core on SQLite, the edges, the reaper."""

    def __init__(self, settings: Settings, *, clock: Clock | None = None) -> None:
        self.settings = settings
        self.clock = clock or SystemClock()
        self.core = self._make_core()
        self._exits = AsyncExitStack()
        self._verifier: TokenVerifier | None = None
        self._urls: dict[str, str] = {}
        self._stopping = False
        self._certificates: Certificates | None = None
        #: Once started: its AMQP connections.
        self.amqp: AmqpEdge | None = None

    def _make_core(self) -> Core:
        """The service on the data directory, not open yet."""
        settings = self.settings
        database = SqliteDatabase(
            settings.data_dir,
            SqliteOptions(
                synchronous=settings.log_sync,
                limits=SegmentLimits(bytes_max=settings.segment_bytes),
            ),
        )
        return Core(
            settings,
            log=SqliteLog(database, on_damage=self._on_damage),
            store=SqliteStore(database),
            clock=self.clock,
        )

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
        await self._open()
        self._exits.push_async_callback(verifier.close)
        access = core.access(verifier)
        amqp = self._amqp_edge(access)
        self.amqp = amqp
        webhooks = webhook_edge(core)
        rest = RestEdge(
            self._rest_services(verifier),
            mounts=[
                websocket_mount(amqp, core.settings, access),
                *([console_mount()] if settings.console else []),
            ],
            routes=stream_routes(
                StreamServices(
                    core.streams,
                    core.points,
                    self._deliveries(webhooks),
                    target_policy(settings),
                )
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
        await self._join()
        self._exits.callback(tune_interpreter(asyncio.get_running_loop()))
        return {
            name: self._urls[name]
            for name in ("http", "https", "amqp", "amqps")
            if name in self._urls
        }

    # What is otherwise on a node of a cluster

    async def _open(self) -> None:
        """Open the core, and see that it is closed. Raises LogFailure."""
        await self.core.open()
        self._exits.push_async_callback(self.core.close)

    def _amqp_edge(self, access: Access) -> AmqpEdge:
        return amqp_edge(self.core, access)

    def _deliveries(self, webhooks: WebhookEdge) -> WebhookDeliveries:
        return webhooks

    def _rest_services(self, verifier: TokenVerifier) -> Services:
        return rest_services(
            self.core, verifier, connection_url=self.connection_url, readiness=self._unready
        )

    async def _join(self) -> None:
        """Everything is there, and can be reached. Raises LogFailure."""

    # Listening

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


def shown_host(endpoint: Endpoint) -> str:
    """The host of a listener as a client on this machine writes it."""
    if endpoint.host in {"0.0.0.0", "::", "*"}:  # noqa: S104 - compared, not bound
        return "localhost"
    return f"[{endpoint.host}]" if ":" in endpoint.host else endpoint.host
