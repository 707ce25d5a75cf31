"""The shell of one connection: feed bytes, tell link ends what happened, transmit, keep one timer.

It knows no sockets: bytes come through `receive`, go to a `Sink`, and whoever owns the sink calls
`lost` when it is gone. So plain TCP, TLS and WebSocket are the same to it.

    PRELUDE ── SASL done ──> RUNNING ── close by either side ──> CLOSING ── sink closed ──> LOST

Theory of operation. A read is pushed into the engine, its events are drained, then the link ends
that gathered something hand it on (`submit`). Whatever is to be sent waits for `flush`, once a turn
of the event loop: link ends that were woken send what fits (`pump`), and everything goes out in one
write. Memory is bounded at each step: reads by their size, incomplete deliveries in sum, output by
the room the sink has, and a peer that asks much and reads nothing is not read any more.

Invariant: nothing that a peer sends lets an exception out of here; `_guard` closes the connection.
"""

import asyncio
from collections.abc import Callable, Coroutine
from enum import Enum
from importlib.metadata import version
from typing import Final, Protocol, TypeVarTuple

from hotpath.amqp.alarm import Alarm
from hotpath.amqp.attaching import HALF_OPEN_MAX, open_link
from hotpath.amqp.cbs import CbsNode
from hotpath.amqp.conditions import (
    CONNECTION_FORCED,
    LIMIT_EXCEEDED,
    UNAUTHORIZED,
    Condition,
)
from hotpath.amqp.context import PRODUCT, Context, Fillable, Pullable
from hotpath.amqp.engine import Engine
from hotpath.amqp.frames import BatchMarks, complete_close, fill
from hotpath.amqp.management import ManagementNodes
from hotpath.amqp.rights import LinkRight
from hotpath.amqp.sasl import Credential, Mechanism, Prelude, Stage
from hotpath.amqp.workarounds import needs_all_fields, needs_message_ids
from hotpath.auth.rights import Grant, Grants
from hotpath.model.errors import HotpathError
from hotpath.telemetry import get_logger

#: Under this name the grant of a SASL credential stands among those of put-token.
SASL_AUDIENCE: Final = ""
#: How long a peer may take to answer a close, milliseconds.
CLOSE_MS: Final = 5_000
#: Incomplete deliveries of a connection may take so many times the largest message.
PARTIAL_MESSAGES: Final = 16

_Given = TypeVarTuple("_Given")

_VERSION: Final = version(PRODUCT)

_log = get_logger("hotpath.amqp.connection")


class Sink(Protocol):
    """Where the bytes of a connection go."""

    def write(self, data: bytes) -> None:
        """Send, or keep until it can be sent."""
        ...

    def unsent(self) -> int:
        """Bytes that are kept."""
        ...

    def pause_reading(self) -> None:
        """Call `receive` no more."""
        ...

    def resume_reading(self) -> None:
        """Call `receive` again."""
        ...

    def close(self) -> None:
        """Send what is kept, then close; `lost` follows."""
        ...

    def abort(self) -> None:
        """Close at once; `lost` follows."""
        ...


class Phase(Enum):
    """See the module."""

    PRELUDE = "prelude"
    RUNNING = "running"
    CLOSING = "closing"
    LOST = "lost"


class Connection:
    """One peer; see the module.

    Attributes:
        context: The services.
        engine: The protocol engine.
        grants: What its tokens allow.
        batches: Transfers that are batches.
        cbs: Its `$cbs` node.
        management: Its `$management` nodes.
        wants_message_ids: No message is to go without a message-id.
        stopping: The service is shutting down: no credit any more.
        on_authorized: Called when it gets its first right.
        on_lost: Called when it is gone.
    """

    def __init__(
        self,
        context: Context,
        sink: Sink,
        *,
        peer: str,
        certified: Grant | None = None,
    ) -> None:
        settings = context.settings
        self.context = context
        self.engine = Engine(
            frame_bytes_max=settings.amqp_frame_bytes,
            sessions_max=settings.max_sessions_per_connection,
            idle_ms=round(settings.amqp_idle_seconds * 1000),
        )
        self.grants = Grants()
        self.batches = BatchMarks()
        self.cbs, self.management = CbsNode(self), ManagementNodes(self)
        self.stopping = self.wants_message_ids = False
        self.on_authorized: Callable[[], None] = lambda: None
        self.on_lost: Callable[[], None] = lambda: None
        self._sink = sink
        self._peer = peer
        self._certified = certified
        self._prelude: Prelude | None = Prelude(external=certified is not None)
        self._phase = Phase.PRELUDE
        self._is_open = False
        self._filled: dict[Fillable, None] = {}
        self._pumps: dict[Pullable, None] = {}
        self._pumps_after_read: dict[Pullable, None] = {}
        self._rights: dict[LinkRight, None] = {}
        self._partial_bytes = 0
        self._paused = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._alarm = Alarm(context.clock, self._on_alarm)
        now_ms = context.clock.ticks_ms()
        self._open_by_ms: int | None = now_ms + round(settings.handshake_seconds * 1000)
        self._claim_by_ms: int | None = now_ms + round(settings.authenticate_seconds * 1000)
        self._tick_ms: int | None = None
        self._gone_by_ms: int | None = None
        self._arm()

    # Bytes in

    def receive(self, chunk: bytes | bytearray, size: int) -> None:
        """Take in the first `size` bytes of a chunk, which is read before this returns."""
        self._guard(self._receive, chunk, size)

    def _receive(self, chunk: bytes | bytearray, size: int) -> None:
        if self._phase is Phase.LOST:
            return
        if self._prelude is not None:
            self._prelude.receive(bytes(chunk[:size]))
            self._step_prelude(self._prelude)
        else:
            self._feed(chunk, size)
        self.mark()

    def _feed(self, chunk: bytes | bytearray, size: int) -> None:
        """Push into the engine, and let the link ends do their work."""
        self.batches.see(chunk, size)
        self.engine.push(chunk, size)
        self._work()
        if self._pumps_after_read:
            self._pumps.update(self._pumps_after_read)
            self._pumps_after_read = {}

    def _work(self) -> None:
        self.engine.drain(self)
        while self._filled:
            filled, self._filled = self._filled, {}
            for end in filled:
                end.submit()

    def _step_prelude(self, prelude: Prelude) -> None:
        """Go on where the prelude stands now."""
        if prelude.output:
            self._sink.write(prelude.output)
            prelude.output = b""
        match prelude.stage:
            case Stage.DONE:
                self._prelude = None
                self._phase = Phase.RUNNING
                rest, prelude.rest = prelude.rest, b""
                self._feed(rest, len(rest))
            case Stage.REFUSED:
                _log.info(
                    "connection refused", extra={"peer": self._peer, "reason": prelude.reason}
                )
                self._end()
            case Stage.CHECKING if prelude.credential is not None:
                credential, prelude.credential = prelude.credential, None
                self._check(prelude, credential)
            case _:
                pass

    def _check(self, prelude: Prelude, credential: Credential) -> None:
        """Find out what a SASL credential gives, then go on."""
        match credential.mechanism:
            case Mechanism.PLAIN:
                self._spawn(self._check_password(prelude, credential))
                return
            case Mechanism.EXTERNAL if self._certified is not None:
                self.admit(SASL_AUDIENCE, self._certified)
            case _:
                pass
        prelude.resolve(accepted=True)
        self._step_prelude(prelude)

    async def _check_password(self, prelude: Prelude, credential: Credential) -> None:
        try:
            grant = await self.context.access.by_password(credential.user, credential.password)
        except HotpathError as error:
            _log.info("credential refused", extra={"peer": self._peer, "reason": error.detail})
            prelude.resolve(accepted=False)
        else:
            self.admit(SASL_AUDIENCE, grant)
            prelude.resolve(accepted=True)
        self._guard(self._step_prelude, prelude)
        self.mark()

    # Bytes out

    def mark(self) -> None:
        """Something is to be sent: flush at the end of this turn."""
        if self._phase is not Phase.LOST:
            self.context.turn.mark(self)

    def flush(self) -> None:
        """Send what there is, in one write."""
        self._guard(self._flush)

    def _flush(self) -> None:
        if self._phase in (Phase.LOST, Phase.PRELUDE):
            return
        room = self.context.settings.output_bytes_max - self._sink.unsent()
        room = self._pump(room)
        out = self.engine.output()
        if out:
            self._sink.write(out)
            if self.engine.peer_wants_keepalive:
                self._tick()
        self._work()
        self._throttle()
        if self.engine.closed:
            self._end()
        elif self._pumps and room > 0:
            self.mark()

    def _pump(self, room: int) -> int:
        """Let woken link ends send; the room that is left."""
        if not self._pumps or self.stopping or self._phase is Phase.CLOSING:
            return room
        pumps, self._pumps = self._pumps, {}
        for end in pumps:
            if room > 0:
                room -= end.pump(room)
            if end.has_more and end not in self._pumps_after_read:
                self._pumps[end] = None
        return room

    def _throttle(self) -> None:
        """Do not read from a peer that asks for much and reads nothing.

        Deliveries stop at `output_bytes_max`; only answers to what the peer itself sends go beyond.
        """
        limit = 2 * self.context.settings.output_bytes_max
        if not self._paused and self._sink.unsent() > limit:
            self._paused = True
            self._sink.pause_reading()

    def writable(self) -> None:
        """The sink has room again."""
        if self._paused:
            self._paused = False
            self._sink.resume_reading()
        self.mark()

    # The engine's owner

    def on_open(self) -> None:
        """Answer the peer's open."""
        properties = self.engine.peer_properties()
        if needs_all_fields(properties):
            self.engine.rewrite_frames(fill)
        self.wants_message_ids = needs_message_ids(properties)
        self.engine.open(PRODUCT, {"product": PRODUCT, "version": _VERSION})
        self._is_open = True
        self._open_by_ms = None
        self._tick()
        fields = {"peer": self._peer, "container": self.engine.peer_container()[:200]}
        _log.info("connection open", extra={**fields, "product": properties.get("product")})

    def on_close(self) -> None:
        """Answer the peer's close."""
        error = self.engine.peer_error()
        _log.info("connection closed", extra={"peer": self._peer, "reason": error})
        self.engine.close(None)
        self._close_by()

    def on_attach(self, link: object) -> None:
        """Accept or refuse a link."""
        limit = self.context.settings.max_links_per_connection + HALF_OPEN_MAX
        if self.engine.link_count > limit:
            text = "too many links are half open"
            self.shut(Condition(LIMIT_EXCEEDED, text, {"links": limit}))
            return
        open_link(self, link)  # type: ignore[arg-type]  # an opaque pointer

    def on_failure(self, condition: Condition) -> None:
        """Proton has ended the connection."""
        fields = {"peer": self._peer, "code": condition.name, "reason": condition.description}
        _log.info("connection failed", extra=fields)
        self.engine.rewrite_frames(complete_close)
        self._close_by()

    # The host of link ends

    def want_pump(self, end: Pullable) -> None:
        """Let a link end send at the next flush."""
        self._pumps[end] = None
        self.mark()

    def want_pump_after_read(self, end: Pullable) -> None:
        """Let a link end try again when the peer has sent something."""
        self._pumps_after_read[end] = None

    def note_filled(self, end: Fillable) -> None:
        """Let a link end submit when this read has been taken in."""
        self._filled[end] = None

    def hold_bytes(self, change: int) -> None:
        """Bound what incomplete deliveries take."""
        self._partial_bytes += change
        limit = PARTIAL_MESSAGES * self.context.settings.max_message_bytes
        if self._partial_bytes > limit:
            text = f"incomplete deliveries of a connection may take {limit} bytes"
            self.shut(Condition(LIMIT_EXCEEDED, text, {"limit-bytes": limit}))

    def watch(self, right: LinkRight) -> None:
        """End a link with its right."""
        self._rights[right] = None
        if right.until_ms is not None:
            self._alarm.set_by_wall(right.until_ms)

    def forget(self, right: LinkRight) -> None:
        """A link is gone."""
        self._rights.pop(right, None)

    def end_right(self, right: LinkRight) -> None:
        """Detach a link whose right has ended."""
        if right.end is not None and right.ended(self.context.clock.now_ms()):
            text = f"the token for {right.address.path[:200]} has expired"
            right.end.close(Condition(UNAUTHORIZED, text, {"claim": right.action.value}))

    def admit(self, audience: str, grant: Grant) -> bool:
        """Add a grant, and let links that it covers last as long as it."""
        now_ms = self.context.clock.now_ms()
        self.grants.prune(now_ms)
        if not self.grants.put(audience, grant):
            return False
        for right in self._rights:
            right.extend(grant, now_ms)
        if self._claim_by_ms is not None:
            self._claim_by_ms = None
            self.on_authorized()
        if grant.until_ms is not None:
            self._alarm.set_by_wall(grant.until_ms)
        return True

    def recheck(self) -> None:
        """Tokens have been revoked: end the links that stand on one of them."""
        self._guard(self._recheck)

    def _recheck(self) -> None:
        is_revoked, now_ms = self.context.access.is_revoked, self.context.clock.now_ms()
        self.grants.drop(is_revoked)
        for right in [right for right in self._rights if is_revoked(right.grant)]:
            others = self.grants.all_covering(right.address, right.action, now_ms)
            other = next((grant for grant in others if right.reaches(grant)), None)
            if other is not None:
                right.stand_on(other)
            elif right.end is not None:
                text = f"the token for {right.address.path[:200]} has been revoked"
                right.end.close(Condition(UNAUTHORIZED, text, {"claim": right.action.value}))
        self._look_at_rights(self.context.clock.ticks_ms())
        self._arm()

    # Ending

    def shut(self, condition: Condition) -> None:
        """Close with an error."""
        if self._phase is Phase.PRELUDE:
            self._end()
        elif self._phase is Phase.RUNNING:
            _log.info(
                "connection shut", extra={"peer": self._peer, "reason": condition.description}
            )
            if not self._is_open:
                # §2.4.1: an open comes before a close.
                self.engine.open(PRODUCT, {})
            self.engine.close(condition)
            self._close_by()
            self.mark()

    def stop(self) -> None:
        """The service is shutting down."""
        text = "the service is shutting down"
        self.shut(Condition(CONNECTION_FORCED, text, {"product": PRODUCT}))

    def abort(self) -> None:
        """Close at once."""
        if self._phase is not Phase.LOST:
            self._sink.abort()

    def _close_by(self) -> None:
        """A close is under way; wait for the other side only so long."""
        if self._phase is not Phase.LOST:
            self._phase = Phase.CLOSING
            self._gone_by_ms = self.context.clock.ticks_ms() + CLOSE_MS
            self._arm()
            self.mark()

    def _end(self) -> None:
        """Everything has been said."""
        self._phase = Phase.CLOSING
        if self._gone_by_ms is None:
            self._gone_by_ms = self.context.clock.ticks_ms() + CLOSE_MS
            self._arm()
        self._sink.close()

    def lost(self) -> None:
        """The sink is gone: give everything back."""
        if self._phase is Phase.LOST:
            return
        if self._prelude is None:
            # What the peer has settled before it went away counts.
            self._guard(self._work)
        self._phase = Phase.LOST
        self._alarm.cancel()
        self.cbs.close()
        self.management.close()
        for task in self._tasks:
            task.cancel()
        self.engine.free()
        self._pumps.clear()
        self._pumps_after_read.clear()
        self._filled.clear()
        self.on_lost()

    # Time

    def _tick(self) -> None:
        self._tick_ms = self.engine.tick(self.context.clock.ticks_ms())
        if self._tick_ms is not None:
            self._alarm.set_by(self._tick_ms)

    def _arm(self) -> None:
        """Set the alarm to the earliest of all deadlines."""
        deadline = self._next_deadline()
        if deadline is not None and self._phase is not Phase.LOST:
            self._alarm.set_by(deadline)

    def _next_deadline(self) -> int | None:
        """In monotonic milliseconds."""
        deadlines = [
            deadline
            for deadline in (self._open_by_ms, self._claim_by_ms, self._tick_ms, self._gone_by_ms)
            if deadline is not None
        ]
        ends = [right.until_ms for right in self._rights if right.until_ms is not None]
        if self._claim_by_ms is None:
            end_ms = self.grants.next_end_ms()
            ends += [] if end_ms is None else [end_ms]
        if ends:
            clock = self.context.clock
            deadlines.append(clock.ticks_ms() + max(0, min(ends) - clock.now_ms()))
        return min(deadlines, default=None)

    def _on_alarm(self) -> None:
        self._guard(self._look_at_time)
        self._arm()

    def _look_at_time(self) -> None:
        if self._phase is Phase.LOST:
            return
        now_ms = self.context.clock.ticks_ms()
        if _is_due(self._gone_by_ms, now_ms):
            self._gone_by_ms = None
            self._sink.abort()
            return
        if _is_due(self._open_by_ms, now_ms):
            self._open_by_ms = None
            _log.info("handshake too slow", extra={"peer": self._peer})
            self._sink.abort()
            return
        if _is_due(self._tick_ms, now_ms):
            self._tick()
            self._work()
            self.mark()
        self._look_at_rights(now_ms)

    def _look_at_rights(self, now_ms: int) -> None:
        """End links whose token is over, and a connection that nobody vouches for."""
        wall_ms = self.context.clock.now_ms()
        for right in [right for right in self._rights if right.ended(wall_ms)]:
            self.end_right(right)
        self.grants.prune(wall_ms)
        if _is_due(self._claim_by_ms, now_ms):
            self._claim_by_ms = None
            text = "no valid token was put in time"
            self.shut(Condition(UNAUTHORIZED, text, {"claim": "any"}))
        elif self._claim_by_ms is None and not len(self.grants) and self._phase is Phase.RUNNING:
            patience_ms = round(self.context.settings.authenticate_seconds * 1000)
            self._claim_by_ms = now_ms + patience_ms

    # The edge of the task

    def _guard(self, step: Callable[[*_Given], None], *given: *_Given) -> None:
        """Run a step; a bug of ours ends this connection and nothing else."""
        try:
            step(*given)
        except Exception:  # noqa: BLE001  # the task edge
            _log.exception("connection ended by a bug", extra={"peer": self._peer})
            self._sink.abort()

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _is_due(deadline: int | None, now_ms: int) -> bool:
    return deadline is not None and deadline <= now_ms
