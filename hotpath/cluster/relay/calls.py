"""Calls between nodes: each takes effect once at most, and ends with an answer or by its time.

The caller sends a call again and again until it is answered. The one who is called keeps each
answer until a later call of the same caller says that it has arrived, and sends it again when the
call comes again. So a lost message costs a moment and nothing else. That an answer has arrived is
said twice: by its number, in the next call to the same node, and by `done_below`, when all earlier
ones have, too.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from hotpath.cluster.cards import NodeCard
from hotpath.cluster.relay.frames import (
    PARTS_MAX,
    VERSION,
    Damaged,
    Frame,
    Kind,
    Op,
    Unreached,
    read_error,
    read_frame,
    split,
    write_error,
)
from hotpath.cluster.relay.messages import read_numbers, write_numbers
from hotpath.clusterports import Bus, Stop
from hotpath.model.errors import HotpathError, Unavailable, Unsupported
from hotpath.ports import Clock, LogFailure, TimerHandle
from hotpath.telemetry import get_logger

#: After which time without an answer a call is sent again, milliseconds.
RESEND_MS: Final = 400
#: How long a call may take, unless it says otherwise, milliseconds.
TIMEOUT_MS: Final = 3_000
#: Calls of one caller that are under way, or whose answers are kept, at most.
KEPT_MAX: Final = 4_096
#: Answers of one caller that have arrived while an earlier one has not, at most.
DONE_MAX: Final = 262_144
#: Arrived answers that one call names at most.
ARRIVED_MAX: Final = 255
#: Bodies of one caller that are not complete yet, at most.
PARTIAL_MAX: Final = 64
#: What is kept of a caller that is not heard of any more, milliseconds.
SILENT_MS: Final = 60_000

Answering = Callable[[Op, bytes, str], Awaitable[bytes]]
"""Answers a call: what is asked, its body, and a name of the caller. Raises HotpathError."""

Telling = Callable[[Op, bytes], None]

_log = get_logger("hotpath.cluster.calls")


def address_of(prefix: str, card: NodeCard) -> str:
    """The subject on which a run of a node listens."""
    return f"{prefix}.node.{card.id}.{card.run}"


@dataclass(slots=True)
class Counts:
    """What a node's end of the calls has done since its start."""

    sent_bytes: int = 0
    received_bytes: int = 0
    calls: int = 0
    """Made by this node, and ended."""
    unanswered: int = 0
    """Of these, without any answer."""


@dataclass(slots=True)
class _Call:
    """A call that is not answered yet."""

    frames: Callable[[], list[bytes]]
    subject: str
    answer: asyncio.Future[bytes]
    until_ms: int
    timer: TimerHandle | None = None
    parts: dict[int, bytes] = field(default_factory=dict)


@dataclass(slots=True)
class _Peer:
    """What is known of a caller."""

    heard_ms: int
    done_below: int = 0
    answers: dict[int, tuple[Kind, bytes] | None] = field(default_factory=dict)
    """By number; None: under way."""
    done: set[int] = field(default_factory=set)
    """Answered, and the answer has arrived; an earlier one has not."""
    partial: dict[int, dict[int, bytes]] = field(default_factory=dict)

    def forget(self, numbers: Iterable[int]) -> None:
        """The caller has these answers."""
        for number in numbers:
            if self.answers.get(number) is not None:
                del self.answers[number]
                self.done.add(number)

    def is_full(self) -> bool:
        """Whether no more can be remembered of this caller."""
        return len(self.answers) >= KEPT_MAX or len(self.done) >= DONE_MAX

    def forget_below(self, number: int) -> None:
        """The caller has these answers; those that are under way are forgotten at their end."""
        self.done_below = number
        arrived = [n for n, answer in self.answers.items() if n < number and answer is not None]
        for each in arrived:
            del self.answers[each]
        if self.done:
            self.done = {n for n in self.done if n >= number}
        for each in [n for n in self.partial if n < number]:
            del self.partial[each]


class Calls:
    """A node's end of the calls: it calls others, and answers."""

    def __init__(self, bus: Bus, clock: Clock, card: NodeCard, *, prefix: str) -> None:
        self._bus = bus
        self._clock = clock
        self._prefix = prefix
        self.card = card
        self.counts = Counts()
        self._own = address_of(prefix, card)
        self._back = f"{prefix}.back.{card.id}.{card.run}"
        self._number = 0
        self._open: dict[int, _Call] = {}
        # Of each node, answers that it does not know yet to have arrived.
        self._arrived: dict[str, list[int]] = {}
        self._peers: dict[str, _Peer] = {}
        self._stops: list[Stop] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._sweeping: TimerHandle | None = None
        self.answering: Answering = _answer_nothing
        self.telling: Telling = lambda _op, _body: None

    async def start(self) -> None:
        """Begin to answer. Raises LogFailure."""
        self._stops.append(await self._bus.listen(f"{self._back}.*", self._on_back))
        self._stops.append(await self._bus.listen(self._own, self._on_message))
        self._sweep()

    async def stop(self) -> None:
        """Answer nothing more; calls that are under way end without an answer."""
        if self._sweeping is not None:
            self._sweeping.cancel()
        for stop in self._stops:
            await stop()
        self._stops.clear()
        for number in list(self._open):
            self._end(number, Unreached("this node is shutting down"))
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # Calling

    async def call(
        self, card: NodeCard, op: Op, body: bytes = b"", *, timeout_ms: int = TIMEOUT_MS
    ) -> bytes:
        """The answer of a node. Raises Unreached, and whatever HotpathError it answers with."""
        self._number += 1
        number = self._number
        subject = address_of(self._prefix, card)
        whole = bytes((op,)) + self._take_arrived(subject) + body

        def frames() -> list[bytes]:
            below = next(iter(self._open), number)
            maximum = self._bus.payload_max
            return split(Kind.CALL, number, whole, done_below=below, payload_max=maximum)

        call = _Call(
            frames,
            subject,
            asyncio.get_running_loop().create_future(),
            self._clock.ticks_ms() + timeout_ms,
        )
        self._open[number] = call
        self._send_call(number)
        try:
            return await call.answer
        except Unreached:
            self.counts.unanswered += 1
            raise
        finally:
            self.counts.calls += 1
            self._open.pop(number, None)
            if call.timer is not None:
                call.timer.cancel()

    def _take_arrived(self, subject: str) -> bytes:
        """How many answers of a node are told to have arrived, and their numbers."""
        arrived = self._arrived.pop(subject, [])
        if len(arrived) > ARRIVED_MAX:
            self._arrived[subject] = arrived[ARRIVED_MAX:]
        told = arrived[:ARRIVED_MAX]
        return bytes((len(told),)) + write_numbers(told)

    def _send_call(self, number: int) -> None:
        """Send a call, now and after a while, until it is answered or its time is over."""
        call = self._open.get(number)
        if call is None:
            return
        now_ms = self._clock.ticks_ms()
        if now_ms >= call.until_ms:
            self._end(number, Unreached("the node that was asked does not answer"))
            return
        call.timer = self._clock.call_at(
            min(now_ms + RESEND_MS, call.until_ms), lambda: self._send_call(number)
        )
        self._spawn(self._send(call.subject, call.frames(), reply=f"{self._back}.{number}"))

    def _end(self, number: int, error: HotpathError) -> None:
        call = self._open.get(number)
        if call is not None and not call.answer.done():
            call.answer.set_exception(error)

    async def tell(self, card: NodeCard, op: Op, body: bytes) -> None:
        """Tell a node something; whether it arrives is not known."""
        whole = bytes((op,)) + body
        frames = split(Kind.TELL, 0, whole, payload_max=self._bus.payload_max)
        if len(frames) == 1:
            await self._send(address_of(self._prefix, card), frames)

    async def _send(self, subject: str, frames: list[bytes], *, reply: str = "") -> None:
        try:
            for frame in frames:
                self.counts.sent_bytes += len(frame)
                await self._bus.send(subject, frame, reply=reply)
        except LogFailure as failure:
            _log.debug("not sent", extra={"subject": subject, "reason": failure.detail})

    def _on_back(self, subject: str, payload: bytes, _: str) -> None:
        """An answer, or the word that nobody listens: then the call is tried again."""
        self.counts.received_bytes += len(payload)
        number = subject.rpartition(".")[2]
        call = self._open.get(int(number)) if number.isdecimal() else None
        if call is None or not payload or call.answer.done():
            return
        try:
            frame = read_frame(payload)
            call.parts[frame.part] = frame.body
            if len(call.parts) < frame.parts:
                return
            body = b"".join(call.parts[part] for part in range(frame.parts))
            arrived = self._arrived.setdefault(call.subject, [])
            arrived.append(int(number))
            # A node that nothing is asked of any more: `done_below` says it in the end.
            del arrived[:-KEPT_MAX]
            if frame.kind == Kind.ANSWER:
                call.answer.set_result(body)
            else:
                call.answer.set_exception(read_error(body))
        except (Damaged, KeyError) as fault:
            _log.warning("answer unreadable", extra={"reason": str(fault)})

    # Answering

    def _on_message(self, _: str, payload: bytes, reply: str) -> None:
        self.counts.received_bytes += len(payload)
        try:
            frame = read_frame(payload)
        except Damaged as fault:
            _log.warning("message of a node unreadable", extra={"reason": str(fault)})
            return
        if frame.kind == Kind.TELL:
            self._on_tell(frame)
        elif frame.kind == Kind.CALL and reply:
            self._on_call(frame, reply)

    def _on_tell(self, frame: Frame) -> None:
        if frame.version == VERSION and frame.parts == 1 and frame.body:
            op = _op(frame.body[0])
            if op is not None:
                self.telling(op, frame.body[1:])

    def _on_call(self, frame: Frame, reply: str) -> None:
        peer = self._peer(reply.rpartition(".")[0])
        if frame.done_below > peer.done_below:
            peer.forget_below(frame.done_below)
        if frame.number < peer.done_below or frame.number in peer.done:
            return
        if frame.number in peer.answers:
            answer = peer.answers[frame.number]
            if answer is not None and frame.part == 0:
                self._reply(reply, frame.number, answer)
            return
        body = self._assemble(peer, frame)
        if body is not None:
            self._begin(peer, frame, body=body, reply=reply)

    def _peer(self, name: str) -> _Peer:
        peer = self._peers.get(name)
        if peer is None:
            peer = self._peers[name] = _Peer(0)
        peer.heard_ms = self._clock.ticks_ms()
        return peer

    def _assemble(self, peer: _Peer, frame: Frame) -> bytes | None:
        """The whole body once all of its parts are there."""
        if frame.parts == 1:
            return frame.body
        parts = peer.partial.setdefault(frame.number, {})
        parts[frame.part] = frame.body
        while len(peer.partial) > PARTIAL_MAX:
            del peer.partial[next(iter(peer.partial))]
        if len(parts) < frame.parts <= PARTS_MAX:
            return None
        del peer.partial[frame.number]
        return b"".join(parts[part] for part in range(frame.parts))

    def _begin(self, peer: _Peer, frame: Frame, *, body: bytes, reply: str) -> None:
        number = frame.number
        op, arrived, body = _open_call(body)
        peer.forget(arrived)
        if peer.is_full():
            self._reply(reply, number, _error(Unavailable("this node is asked too much at once")))
        elif frame.version != VERSION or op is None:
            text = "this node runs a release that does not know what it was asked"
            self._reply(reply, number, _error(Unsupported(text)))
        else:
            peer.answers[number] = None
            self._spawn(self._work(peer, number, op=op, body=body, reply=reply))

    async def _work(self, peer: _Peer, number: int, *, op: Op, body: bytes, reply: str) -> None:
        """Answer one call."""
        try:
            answer = (Kind.ANSWER, await self.answering(op, body, reply.rpartition(".")[0]))
        except HotpathError as error:
            answer = _error(error)
        except Damaged as fault:
            answer = _error(Unsupported(f"a call cannot be read: {fault}"))
        except asyncio.CancelledError:
            raise
        except Exception:  # noqa: BLE001 - the edge of the task
            _log.exception("a call broke", extra={"op": op.name})
            answer = _error(Unavailable("internal error"))
        if number >= peer.done_below:
            peer.answers[number] = answer
        else:
            peer.answers.pop(number, None)
        self._reply(reply, number, answer)

    def _reply(self, reply: str, number: int, answer: tuple[Kind, bytes]) -> None:
        kind, body = answer
        try:
            frames = split(kind, number, body, payload_max=self._bus.payload_max)
        except Damaged as fault:
            kind, body = _error(Unavailable(str(fault)))
            frames = split(kind, number, body, payload_max=self._bus.payload_max)
        self._spawn(self._send(reply, frames))

    def _sweep(self) -> None:
        """Forget callers that are not heard of any more."""
        now_ms = self._clock.ticks_ms()
        self._sweeping = self._clock.call_at(now_ms + SILENT_MS // 4, self._sweep)
        silent = [name for name, peer in self._peers.items() if now_ms - peer.heard_ms > SILENT_MS]
        for name in silent:
            del self._peers[name]

    def _spawn(self, work: "Awaitable[None]") -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _open_call(body: bytes) -> tuple[Op | None, list[int], bytes]:
    """What is asked, the numbers of answers that have arrived, and the body."""
    if len(body) < 2 or len(body) < 2 + 8 * body[1]:
        return None, [], b""
    end = 2 + 8 * body[1]
    return _op(body[0]), read_numbers(body[2:end]), body[end:]


def _op(code: int) -> Op | None:
    try:
        return Op(code)
    except ValueError:
        return None


def _error(error: HotpathError) -> tuple[Kind, bytes]:
    return Kind.ERROR, write_error(error)


async def _answer_nothing(op: Op, _body: bytes, _caller: str) -> bytes:
    raise Unsupported(f"this node does not answer {op.name}")
