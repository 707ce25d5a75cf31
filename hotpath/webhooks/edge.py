"""The edge that delivers to webhooks: one pusher a stream, and what the REST calls ask of them."""

import asyncio
import random
import ssl
from typing import Final

from hotpath import __version__
from hotpath.config import Settings
from hotpath.model.errors import NotFound
from hotpath.ports import Clock, MessageLog, TimerHandle
from hotpath.service.commit import Committer
from hotpath.service.deliver import Delivering
from hotpath.service.settle import Settling
from hotpath.service.streams import Stream, Streams
from hotpath.service.topics import Topics
from hotpath.telemetry import Metrics, get_logger
from hotpath.webhooks.address import TargetPolicy, read_networks
from hotpath.webhooks.connection import Kept
from hotpath.webhooks.context import Context, Limits, Tasks
from hotpath.webhooks.dispatch import Dispatcher
from hotpath.webhooks.interface import DeadEvent, DeliveryAttempt, Page, TestResult
from hotpath.webhooks.letters import Letters
from hotpath.webhooks.pusher import Pusher
from hotpath.webhooks.reporting import Reporter
from hotpath.webhooks.retry import Outcome, Schedule, Verdict, read_steps
from hotpath.webhooks.target import (
    Connector,
    Dialer,
    Resolver,
    SystemConnector,
    SystemResolver,
)

#: How often old connections, old events and long failures are looked for, milliseconds.
SWEEP_MS: Final = 30_000
#: The part of the log's retention that an event may take to be delivered.
LIFETIME_SHARE: Final = 0.9

_log = get_logger("hotpath.webhooks")


def target_policy(settings: Settings) -> TargetPolicy:
    """Where webhooks may go, by the configuration."""
    return TargetPolicy(
        allow_http=settings.webhook_allow_http,
        allow_networks=read_networks(settings.webhook_allow_networks or ""),
    )


class WebhookEdge:
    """Delivers to all streams; see `hotpath.webhooks.interface.WebhookDeliveries`."""

    def __init__(
        self,
        *,
        streams: Streams,
        delivering: Delivering,
        settling: Settling,
        committer: Committer,
        log: MessageLog,
        topics: Topics,
        settings: Settings,
        clock: Clock,
        metrics: Metrics,
        resolver: Resolver | None = None,
        connector: Connector | None = None,
        draw: random.Random | None = None,
    ) -> None:
        """Raises OSError or ssl.SSLError when `webhook_tls_ca` cannot be read.

        `resolver`, `connector` and `draw` (of jitter) are the machine's unless given.
        """
        resolving = SystemResolver() if resolver is None else resolver
        self._own_resolver = resolving if isinstance(resolving, SystemResolver) else None
        policy = target_policy(settings)
        dispatcher = Dispatcher(settings.webhook_requests_max)
        self._context = Context(
            streams=streams,
            delivering=delivering,
            settling=settling,
            committer=committer,
            log=log,
            topics=topics,
            clock=clock,
            metrics=metrics,
            dispatcher=dispatcher,
            dialer=Dialer(
                policy,
                resolver=resolving,
                connector=connector or SystemConnector(),
                tls=_client_tls(settings),
                clock=clock,
            ),
            kept=Kept(settings.webhook_requests_max, clock=clock),
            policy=policy,
            schedule=Schedule(
                read_steps(settings.webhook_retry_seconds),
                retry_after_max_ms=round(settings.webhook_retry_after_seconds_max * 1000),
            ),
            limits=_limits(settings),
            draw=draw or random.SystemRandom(),
            agent=f"hotpath/{__version__}",
            tasks=Tasks(),
        )
        metrics.webhook_in_flight.set_function(lambda: dispatcher.in_flight)
        self._reporter = Reporter(streams, self._context.tasks, now_ms=clock.now_ms())
        self._letters = Letters(self._context)
        self._pushers: dict[Stream, Pusher] = {}
        self._timer: TimerHandle | None = None
        self._testing = asyncio.Semaphore(settings.webhook_requests_per_stream_max)

    # Start and stop

    def start(self) -> None:
        """Take on all streams there are, and those to come."""
        streams = self._context.streams
        streams.on_started = self._begin
        streams.on_ended = self._end
        streams.on_changed = self._changed
        for stream in streams.live():
            self._begin(stream)
        self._sweep_later()

    def _begin(self, stream: Stream) -> None:
        if stream in self._pushers:
            return
        try:
            pusher = Pusher(
                stream, context=self._context, letters=self._letters, reporter=self._reporter
            )
        except NotFound:
            return  # Deleted just now.
        self._pushers[stream] = pusher
        pusher.wake()

    def _end(self, stream: Stream) -> None:
        pusher = self._pushers.pop(stream, None)
        if pusher is not None:
            pusher.close()

    def _changed(self, stream: Stream) -> None:
        pusher = self._pushers.get(stream)
        if pusher is not None:
            pusher.changed()

    def _sweep_later(self) -> None:
        clock = self._context.clock
        self._timer = clock.call_at(clock.ticks_ms() + SWEEP_MS, self._sweep)

    def _sweep(self) -> None:
        self._context.kept.sweep()
        for pusher in tuple(self._pushers.values()):
            pusher.sweep()
        self._sweep_later()

    async def stop(self, drain_seconds: float) -> None:
        """Begin nothing new, let what is under way end, then let go of everything.

        What could not end within `drain_seconds` is sent again after the next start.
        """
        dispatcher, clock = self._context.dispatcher, self._context.clock
        dispatcher.stop()
        if self._timer is not None:
            self._timer.cancel()
        given_up: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def give_up() -> None:
            if not given_up.done():
                given_up.set_result(None)

        timer = clock.call_at(clock.ticks_ms() + round(drain_seconds * 1000), give_up)
        dispatcher.when_idle(give_up)
        await given_up
        timer.cancel()
        for pusher in self._pushers.values():
            pusher.stop()
        self._pushers.clear()
        await self._context.tasks.close()
        if self._own_resolver is not None:
            self._own_resolver.close()

    # What the REST calls ask

    def _pusher(self, stream: Stream) -> Pusher:
        pusher = self._pushers.get(stream)
        if pusher is None:
            raise NotFound(f"there is no stream {stream.id}")
        return pusher

    async def test(self, stream: Stream) -> TestResult:
        """Send a sample event now; one that is taken enables a disabled stream again."""
        pusher = self._pusher(stream)
        if pusher.sealed:
            return TestResult(
                delivered=False, http_status=None, duration_ms=0, reason=stream.reason
            )
        async with self._testing:
            done: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

            def hear(outcome: Outcome) -> None:
                if not done.done():
                    done.set_result(outcome)

            pusher.journal.try_out(hear)
            outcome = await done
        delivered = outcome.verdict is Verdict.DELIVERED
        if delivered:
            pusher.enable()
        _log.info(
            "sample event sent",
            extra={"stream": stream.id, "status": outcome.status, "reason": outcome.reason},
        )
        return TestResult(
            delivered=delivered,
            http_status=outcome.status,
            duration_ms=outcome.duration_ms,
            reason=outcome.reason,
        )

    async def history(
        self, stream: Stream, *, after: str | None, limit: int
    ) -> Page[DeliveryAttempt]:
        """The most recent attempts, newest first. Raises Invalid, NotFound."""
        return self._pusher(stream).journal.history.page(after=after, limit=limit)

    async def dead_letters(
        self, stream: Stream, *, after: str | None, limit: int
    ) -> Page[DeadEvent]:
        """What was given up, oldest first. Raises Invalid, NotFound, Unavailable."""
        self._pusher(stream)
        return await self._letters.page(stream, after=after, limit=limit)

    async def redrive(self, stream: Stream, ids: list[str] | None) -> int:
        """Send dead letters again; it enables a disabled stream. Raises NotFound, Unavailable."""
        pusher = self._pusher(stream)
        if pusher.sealed:
            return 0
        return pusher.redrive(await self._letters.choose(stream, ids))


def _limits(settings: Settings) -> Limits:
    return Limits(
        window=settings.webhook_window,
        width=settings.webhook_requests_per_stream_max,
        history=settings.webhook_history,
        lifetime_ms=round(settings.retention_hours * 3_600_000 * LIFETIME_SHARE),
        disable_after_ms=round(settings.webhook_disable_hours * 3_600_000),
    )


def _client_tls(settings: Settings) -> ssl.SSLContext:
    """How endpoints are checked: the machine's authorities, and the configured ones."""
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if settings.webhook_tls_ca is not None:
        context.load_verify_locations(settings.webhook_tls_ca)
    return context
