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
from functools import cached_property, partial
from importlib.metadata import version
from typing import Final, TypeVarTuple, cast

from hotpath.amqp import audit
from hotpath.amqp.alarm import Alarm
from hotpath.amqp.attaching import HALF_OPEN_MAX, open_link
from hotpath.amqp.bounds import Holding, Probation
from hotpath.amqp.cbs import CbsNode
from hotpath.amqp.conditions import (
    CONNECTION_FORCED,
    DECODE_ERROR,
    LIMIT_EXCEEDED,
    NOT_ALLOWED,
    UNAUTHORIZED,
    Condition,
    Refused,
)
from hotpath.amqp.context import PRODUCT, Context, Fillable
from hotpath.amqp.ends import Waker
from hotpath.amqp.engine import Engine
from hotpath.amqp.frames import BatchMarks, complete_close, fill
from hotpath.amqp.gate import SessionGate
from hotpath.amqp.management import ManagementNodes
from hotpath.amqp.moment import Confirmations, Moment
from hotpath.amqp.outflow import Outflow, Pumps, Sink
from hotpath.amqp.pumping import Pullable, Wakes
from hotpath.amqp.rights import LinkRight
from hotpath.amqp.sasl import Credential, Mechanism, Prelude, Stage
from hotpath.amqp.standing import Standing
from hotpath.amqp.workarounds import PeerOpen, needs_all_fields, needs_message_ids
from hotpath.auth.rights import Grant
from hotpath.core.usual_plain import Submits
from hotpath.model.errors import HotpathError
from hotpath.telemetry import get_logger

#: Under this name the grant of a SASL credential stands among those of put-token.
SASL_AUDIENCE: Final = ""
#: How long a peer may take to answer a close, milliseconds.
CLOSE_MS: Final = 5_000
#: Shortest idle time-out of a peer, milliseconds; half of it passes between two keep-alives.
PEER_IDLE_MS_MIN: Final = 100
#: Incomplete deliveries of a connection may take so many times the largest message.
PARTIAL_MESSAGES: Final = 16

#: So many links are welcome (`fairness`).
WELCOME_LINKS: Final = 1
#: Conditions of a connection that was not ended for what it did.
_BLAMELESS: Final = (CONNECTION_FORCED, UNAUTHORIZED)
_Given = TypeVarTuple("_Given")

_VERSION: Final = version(PRODUCT)

_log = get_logger("hotpath.amqp.connection")


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
        grants: What its tokens allow.
        batches: Transfers that are batches.
        cbs: Its `$cbs` node.
        management: Its `$management` nodes.
        moment: The time of the flush that runs.
        confirmations: Receivers that wait for a commit.
        wants_message_ids: No message is to go without a message-id.
        stopping: The service is shutting down: no credit any more.
        account: What its time is set against.
        earned: Messages it has published and outcomes it has given.
        is_unwelcome: It was ended for what it did.
        on_authorized: Called when it gets its first right.
        on_lost: Called when it is gone.
    """

    on_authorized: Callable[[], None]
    on_lost: Callable[[], None]
    _tick_ms: int | None
    _gone_by_ms: int | None

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
        self.batches = BatchMarks()
        self.cbs, self.management = CbsNode(self), ManagementNodes(self)
        self.moment = Moment(context.clock, lock_ms=round(settings.lock_seconds * 1000))
        self.confirmations = Confirmations(context.committer, self.mark)
        self.stopping = self.wants_message_ids = self.is_unwelcome = False
        self.on_authorized = self.on_lost = _nothing
        self._sink = sink
        self._outflow = Outflow(
            sink, context.outgoing, context.clock, bytes_max=settings.output_bytes_max
        )
        self.account = context.fairness.account(peer)
        self._peer, self._certified = peer, certified
        self._prelude: Prelude | None = Prelude(external=certified is not None)
        self._phase = Phase.PRELUDE
        self._is_open = False
        self._gate = SessionGate(frame_bytes_max=settings.amqp_frame_bytes)
        self._peer_open = PeerOpen(bytes_max=settings.amqp_frame_bytes)
        self._filled: dict[Fillable, None] = {}
        self._pumps = Pumps()
        self.earned = self._partial_bytes = self._refused_links = 0
        self._probation: Probation | None = Probation(settings)
        self._holding = Holding(context.shared)
        self._tasks: set[asyncio.Task[None]] = set()
        self._alarm = Alarm(context.clock, self._on_alarm)
        self._standing = Standing(settings, context.clock, self._alarm)
        self.grants = self._standing.grants
        now_ms = context.clock.ticks_ms()
        self._open_by_ms: int | None = now_ms + round(settings.handshake_seconds * 1000)
        self._tick_ms = self._gone_by_ms = None
        self._arm()

    @cached_property
    def engine(self) -> Engine:
        """The protocol engine; a connection that never gets past the prelude has none."""
        settings = self.context.settings
        return Engine(
            frame_bytes_max=settings.amqp_frame_bytes,
            sessions_max=settings.max_sessions_per_connection,
            idle_ms=round(settings.amqp_idle_seconds * 1000),
        )

    # Bytes in

    def receive(self, chunk: bytes | bytearray, size: int) -> None:
        """Take in the first `size` bytes of a chunk, which is read before this returns."""
        self._guard(self._receive, chunk, size)

    def _receive(self, chunk: bytes | bytearray, size: int) -> None:
        if self._phase is Phase.LOST:
            return
        if self._probation is not None:
            self._vet(self._probation.take_bytes(size))
            if self._phase is Phase.CLOSING:
                return
        if self._prelude is not None:
            self._prelude.receive(bytes(chunk[:size]))
            self._step_prelude(self._prelude)
        else:
            self._feed(chunk, size)
        self.mark()

    def _feed(self, chunk: bytes | bytearray, size: int) -> None:
        """Push into the engine, and let the link ends do their work."""
        if not self._peer_open.done:
            chunk = self._peer_open.take(bytes(chunk[:size]))
            size = len(chunk)
            if not size:
                return
        try:
            chunk, size = self._gate.take(chunk, size, self.engine)
        except Refused as refused:
            self.shut(refused.condition)
            return
        self.batches.see(chunk, size)
        self.engine.push(chunk, size)
        self._work()
        if self._probation is not None:
            self._vet(self._probation.look_at_sessions(self.engine.session_count))
        self._vet(self._holding.count(self.engine.link_count, self.engine.session_count))
        self._pumps.after_read()

    def _vet(self, too_much: Condition | None) -> None:
        """End a connection that takes more than it may."""
        if too_much is not None:
            self.shut(too_much)

    def _work(self) -> None:
        gathered = self.engine.drain(self, careful=bool(self.batches.tags))
        if gathered:
            settling, waiting = self.context.settling, self.confirmations.waiting
            done = settling.complete_all(cast("list[Submits]", gathered), waiting)
            # Only now: those that submit by themselves have added to it meanwhile.
            self.earned += done
        while self._filled:
            filled, self._filled = self._filled, {}
            for end in filled:
                end.submit()
        self.context.settling.count_completed()
        self.confirmations.hand_in()

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
                self.is_unwelcome = True
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
                self.audit("login", grant=self._certified, mechanism="EXTERNAL")
            case _:
                pass
        prelude.resolve(accepted=True)
        self._step_prelude(prelude)

    async def _check_password(self, prelude: Prelude, credential: Credential) -> None:
        fairness = self.context.fairness
        await fairness.turn_of(self.account)
        began = fairness.now()
        try:
            grant = await self.context.access.by_password(credential.user, credential.password)
        except HotpathError as error:
            self.audit("login", reason=error.detail, mechanism="PLAIN")
            prelude.resolve(accepted=False)
        else:
            self.admit(SASL_AUDIENCE, grant)
            self.audit("login", grant=grant, mechanism="PLAIN")
            prelude.resolve(accepted=True)
        self._guard(self._step_prelude, prelude)
        fairness.charge(self.account, began, self.earned)
        self.mark()

    # Bytes out

    def mark(self) -> None:
        """Something is to be sent: flush at the end of this turn."""
        if not self._pumps.is_marked and self._phase is not Phase.LOST:
            self._pumps.is_marked = True
            self.context.turn.mark(self)

    def flush(self, bytes_max: int | None = None) -> None:
        """Send what there is, in one write, and more deliveries up to about so many bytes."""
        self._pumps.is_marked = False
        self._guard(self._flush, bytes_max)

    def _flush(self, bytes_max: int | None) -> None:
        if self._phase in (Phase.LOST, Phase.PRELUDE):
            return
        room = self._outflow.room(self.mark if self._pumps else None)
        kept = 0 if bytes_max is None else max(room - bytes_max, 0)
        room = kept + self._pump(room - kept)
        out = self.engine.output()
        if out:
            self._sink.write(out)
            if self.engine.peer_idle_ms:
                self._tick()
        self._work()
        self._outflow.count()
        self._outflow.throttle()
        if self.engine.closed:
            self._end()
        elif self._pumps and room > 0:
            self.mark()

    def _pump(self, room: int) -> int:
        """Let woken link ends send; the room that is left."""
        if self.stopping or self._phase is Phase.CLOSING:
            self._pumps.clear()
            return room
        if self._pumps:
            self.moment.refresh()
            delivering = self.context.delivering
            room = self._pumps.run(room, self.moment, delivering.tally)
            delivering.count_pulled()
        return room

    def writable(self) -> None:
        """The sink has room again."""
        self._outflow.writable()
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
        unfit = self._peer_open.unfit or self._too_impatient()
        if unfit is not None:
            self.shut(unfit)

    def _too_impatient(self) -> Condition | None:
        """Why the peer's idle time-out cannot be kept (§2.4.5); None if it can."""
        if not 0 < self.engine.peer_idle_ms < PEER_IDLE_MS_MIN:
            return None
        text = f"an idle time-out below {PEER_IDLE_MS_MIN} ms cannot be kept"
        return Condition(NOT_ALLOWED, text, {"limit-ms": PEER_IDLE_MS_MIN})

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
        is_open = open_link(self, link)  # type: ignore[arg-type]  # an opaque pointer
        if is_open and len(self.engine.links) <= WELCOME_LINKS:
            self.context.fairness.welcome(self.account)
        self._refused_links = 0 if is_open else self._refused_links + 1
        limit = self.context.settings.refused_links_max
        if self._refused_links > limit:
            text = f"{limit} links in a row were refused"
            self.shut(Condition(LIMIT_EXCEEDED, text, {"links": limit}))

    def audit(
        self,
        operation: str,
        *,
        grant: Grant | None = None,
        reason: str | None = None,
        **about: object,
    ) -> None:
        """Write a line of the audit log."""
        container = self.engine.peer_container() if self._is_open else ""
        audit.note(
            operation, peer=self._peer, container=container, grant=grant, reason=reason, **about
        )

    def on_failure(self, condition: Condition) -> None:
        """Proton has ended the connection."""
        self.is_unwelcome = True
        fields = {"peer": self._peer, "code": condition.name, "reason": condition.description}
        _log.info("connection failed", extra=fields)
        self.engine.rewrite_frames(partial(complete_close, condition=condition))
        self._close_by()

    def on_deaf(self) -> None:
        """Of some broken frames Proton tells no error: it only stops to listen."""
        self.shut(Condition(DECODE_ERROR, "a frame that cannot be decoded has come"))

    # The host of link ends

    def want_pump(self, end: Pullable) -> None:
        """Let a link end send at the next flush."""
        self._pumps.want(end)
        self.mark()

    def waker(self, end: Wakes) -> Callable[[], None]:
        """What lets a link end send at the next flush."""
        return Waker(end, self._pumps, self)

    def want_pump_after_read(self, end: Pullable) -> None:
        """Let a link end try again when the peer has sent something."""
        self._pumps.want_after_read(end)

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
        self._standing.watch(right)

    def forget(self, right: LinkRight) -> None:
        """A link is gone."""
        self._standing.forget(right)

    def end_right(self, right: LinkRight) -> None:
        """Detach a link whose right has ended."""
        self._standing.end_right(right)

    def admit(self, audience: str, grant: Grant) -> bool:
        """Add a grant, and let links that it covers last as long as it."""
        return self._standing.admit(audience, grant, self._on_first_right)

    def _on_first_right(self) -> None:
        self._probation = None
        self.context.fairness.welcome(self.account)
        self.on_authorized()

    def recheck(self) -> None:
        """Tokens have been revoked: end the links that stand on one of them."""
        self._guard(self._recheck)

    def _recheck(self) -> None:
        self._standing.drop_revoked(self.context.access.is_revoked)
        self._look_at_rights()
        self._arm()

    # Ending

    def shut(self, condition: Condition) -> None:
        """Close with an error."""
        self.is_unwelcome |= condition.name not in _BLAMELESS
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
        self._outflow.leave()
        self._holding.leave()
        self._alarm.silence()
        self.cbs.close()
        self.management.close()
        for task in self._tasks:
            task.cancel()
        if "engine" in self.__dict__:
            self.engine.free()
        self._pumps.clear(for_good=True)
        self._filled.clear()
        on_lost, self.on_lost, self.on_authorized = self.on_lost, _nothing, _nothing
        # Nothing that it holds refers back to it any more: what is left of it is freed at once, and
        # does not wait for the cycle collector, from which it may be hidden (`core/keeping.py`).
        del self.cbs, self.management, self.confirmations
        on_lost()

    # Time

    def _tick(self) -> None:
        now_ms = self.context.clock.ticks_ms()
        self._tick_ms = self.engine.tick(now_ms)
        if self._tick_ms is not None:
            # Of a peer that wants keep-alives all the time Proton says: now, and now again.
            self._tick_ms = max(self._tick_ms, now_ms + PEER_IDLE_MS_MIN // 2)
            self._alarm.set_by(self._tick_ms)

    def _arm(self) -> None:
        """Set the alarm to the earliest of all deadlines."""
        deadline = self._next_deadline()
        if deadline is not None and self._phase is not Phase.LOST:
            self._alarm.set_by(deadline)

    def _next_deadline(self) -> int | None:
        """In monotonic milliseconds."""
        own = (self._open_by_ms, self._tick_ms, self._gone_by_ms)
        deadlines = [*own, self._standing.next_deadline_ms()]
        return min((deadline for deadline in deadlines if deadline is not None), default=None)

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
            self.is_unwelcome = True
            _log.info("handshake too slow", extra={"peer": self._peer})
            self._sink.abort()
            return
        if _is_due(self._tick_ms, now_ms):
            self._tick()
            self._work()
            self.mark()
        self._look_at_rights()

    def _look_at_rights(self) -> None:
        """End links whose token is over, and a connection that nobody vouches for."""
        too_long = self._standing.look(running=self._phase is Phase.RUNNING)
        if too_long is not None:
            self.shut(too_long)

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


def _nothing() -> None:
    """What is called when nobody wants to hear."""
