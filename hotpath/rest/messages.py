"""Publishing over REST: one object, an array (all or nothing), or NDJSON as a stream.

A stream is made durable part by part as it comes: memory holds one part, whatever the length of
the whole, and what stands before a bad line stays accepted.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Final, Generic, Protocol, TypeVar

from aiohttp import web

from hotpath.model.errors import HotpathError, Invalid, TooLarge, Violation
from hotpath.model.names import TopicKey
from hotpath.rest.bodies import (
    JSON_TYPE,
    LATE,
    check_encoding,
    content_type,
    decode,
    elements,
    parse_whole,
    parts,
    read_body,
    refuse,
    skip_blank,
)
from hotpath.rest.calls import Call, answer, iso
from hotpath.rest.models import AcceptedResponse
from hotpath.rest.shapes import SHAPES, Shape
from hotpath.service.publish import Publishing

T = TypeVar("T")

NDJSON_TYPE: Final = "application/x-ndjson"
VIA: Final = "http"
#: Elements read between two turns of the event loop; some milliseconds of work.
_ELEMENTS_A_TURN: Final = 128
#: Faults reported for one array.
_FAULTS_MAX: Final = 20


class PartlyAccepted(Exception):
    """A stream ended early: why, at which line, and how much was accepted before."""

    def __init__(self, cause: HotpathError, *, line: int, accepted: int) -> None:
        super().__init__(cause.detail)
        self.cause = cause
        self.line = line
        self.accepted = accepted


class Taker(Protocol[T]):
    """Makes what is published of parsed values, and publishes it."""

    @property
    def bytes_max(self) -> int:
        """Longest text of one value."""
        ...

    def take(self, value: object, text: str) -> T:
        """One value, which has the JSON text `text`. Raises Invalid or TooLarge."""
        ...

    async def publish(self, taken: list[T]) -> None:
        """Make values durable, all or none. Raises HotpathError."""
        ...


async def publish_messages(call: Call) -> web.Response:
    """`POST /messages/{type}`."""
    return await take_body(call, lambda: _MessageTaker.of(call))


async def take_body(call: Call, make: Callable[[], Taker[T]]) -> web.Response:
    """Publish a body of one object, an array or a stream, each by a fresh taker."""
    kind = content_type(call.request)
    if kind == NDJSON_TYPE:
        return answer(AcceptedResponse(accepted=await _take_stream(call, make)), 202)
    if kind != JSON_TYPE:
        raise refuse(f"the content type must be {JSON_TYPE} or {NDJSON_TYPE}")
    body = await read_body(call.request, bytes_max=call.services.settings.max_request_bytes)
    taker = make()
    try:
        taken = await _read_values(decode(body), taker, call)
    except (Invalid, TooLarge):
        call.services.metrics.messages_refused.labels(VIA, "invalid").inc()
        raise
    if taken:
        await taker.publish(taken)
    return answer(AcceptedResponse(accepted=len(taken)), 202)


@dataclass(frozen=True, slots=True)
class _MessageTaker:
    """Makes stored messages of parsed values."""

    publishing: Publishing
    topic: TopicKey
    shape: Shape
    now: str
    bytes_max: int
    trace: str

    @classmethod
    def of(cls, call: Call) -> "_MessageTaker":
        services = call.services
        return cls(
            services.publishing,
            # Always the log of the caller's own tenant.
            TopicKey(call.principal.tenant, call.known_topic()),
            SHAPES[call.known_topic()],
            iso(services.clock.now_ms()),
            services.settings.max_message_bytes,
            call.trace,
        )

    def take(self, value: object, text: str) -> bytes:
        """One value as a stored message. Raises Invalid or TooLarge."""
        if not isinstance(value, dict):
            raise refuse("a message must be a JSON object", "")
        faults = self.shape.check(value)
        if faults:
            raise Invalid(faults)
        stored = self.shape.encode(value, text, self.now, trace=self.trace)
        # The limit is on what the publisher wrote; a longer text cannot fit in characters either.
        if len(stored) > self.bytes_max and len(text.encode()) > self.bytes_max:
            raise too_large(self.bytes_max)
        return stored

    async def publish(self, taken: list[bytes]) -> None:
        """Make messages durable, all or none. Raises LimitReached or Unavailable."""
        await self.publishing.publish(self.topic, taken, via=VIA)


def too_large(bytes_max: int) -> TooLarge:
    """What is wrong with a text that is longer than a message may be."""
    return TooLarge(f"a message is at most {bytes_max} bytes long", limit_bytes=bytes_max)


async def _read_values(text: str, taker: Taker[T], call: Call) -> list[T]:
    """The values of a JSON body. Raises Invalid or TooLarge; then none is accepted."""
    start = skip_blank(text, 0)
    if start == len(text):
        raise refuse("a JSON object or array is needed as the body")
    if text[start] != "[":
        return [taker.take(*parse_whole(text))]
    limit = call.services.settings.max_array_elements
    gathered: _Gathered[T] = _Gathered([], [])
    for index, (value, own_text) in enumerate(elements(text, start)):
        if index >= limit:
            raise refuse(f"an array has at most {limit} elements", f"/{index}")
        gathered.add(index, value, own_text, taker)
        if len(gathered.faults) >= _FAULTS_MAX:
            break
        if index % _ELEMENTS_A_TURN == _ELEMENTS_A_TURN - 1:
            await asyncio.sleep(0)
    if gathered.faults:
        raise Invalid(gathered.faults)
    return gathered.taken


@dataclass(frozen=True, slots=True)
class _Gathered(Generic[T]):
    """What an array has given so far."""

    taken: list[T]
    faults: list[Violation]

    def add(self, index: int, value: object, text: str, taker: Taker[T]) -> None:
        try:
            self.taken.append(taker.take(value, text))
        except Invalid as error:
            self.faults.extend(_at_element(index, each) for each in error.violations)
        except TooLarge as error:
            self.faults.append(_at_element(index, Violation(error.detail, "")))


def _at_element(index: int, violation: Violation) -> Violation:
    pointer = f"/{index}{violation.pointer or ''}"
    return Violation(f"element {index}: {violation.detail}", pointer, {"index": index})


# Streams


async def _take_stream(call: Call, make: Callable[[], Taker[T]]) -> int:
    """Accept the lines of an NDJSON body as they come; how many. Raises PartlyAccepted."""
    check_encoding(call.request)
    accepted = line = 0
    try:
        async for lines in _line_groups(call):
            taker = make()
            taken: list[T] = []
            failure: HotpathError | None = None
            for raw in lines:
                line += 1
                try:
                    taken += _take_line(raw, taker)
                except (Invalid, TooLarge) as error:
                    failure = error
                    break
            if taken:
                await taker.publish(taken)
                accepted += len(taken)
            if failure is not None:
                raise failure
    except (Invalid, TooLarge) as error:
        call.services.metrics.messages_refused.labels(VIA, "invalid").inc()
        raise PartlyAccepted(error, line=max(line, 1), accepted=accepted) from None
    except HotpathError as error:
        raise PartlyAccepted(error, line=max(line, 1), accepted=accepted) from None
    return accepted


def _take_line(raw: bytes | None, taker: Taker[T]) -> list[T]:
    """The value of a line, none of a blank one. Raises Invalid or TooLarge."""
    if raw is None or len(raw) > taker.bytes_max:
        raise too_large(taker.bytes_max)
    if not raw.strip():
        return []
    return [taker.take(*parse_whole(decode(raw)))]


async def _line_groups(call: Call) -> AsyncIterator[list[bytes | None]]:
    """The lines that are complete, each time more of the body is there.

    None stands for a line that has grown over the limit; nothing comes after it.
    Raises Invalid or TooLarge when the stream is too slow, too long or too large.
    """
    line_bytes_max = call.services.settings.max_message_bytes
    rest = bytearray()
    async for part in _bounded_parts(call):
        # Only the new part is searched: a line that comes in small parts costs no more.
        head, newline, tail = part.rpartition(b"\n")
        if newline:
            rest += head
            lines: list[bytes | None] = [*bytes(rest).split(b"\n")]
            rest = bytearray(tail)
            yield lines
        else:
            rest += part
        if len(rest) > line_bytes_max:
            yield [None]
            return
    if rest:
        yield [bytes(rest)]


async def _bounded_parts(call: Call) -> AsyncIterator[bytes]:
    """A stream as it comes, within its bounds. Raises Invalid or TooLarge.

    A line that is never finished is no progress, however many parts it comes in.
    """
    settings, now = call.services.settings, asyncio.get_running_loop().time
    coming = parts(call.request)
    end = now() + settings.http_stream_seconds
    line_end = now() + settings.http_body_seconds
    size = 0
    while True:
        try:
            async with asyncio.timeout_at(min(end, line_end)):
                part = await anext(coming, None)
        except TimeoutError:
            raise refuse(_late(now() >= end, settings.http_stream_seconds)) from None
        if part is None:
            return
        size += len(part)
        if size > settings.http_stream_bytes_max:
            limit = settings.http_stream_bytes_max
            text = f"a stream has at most {limit} bytes; go on with another one"
            raise TooLarge(text, limit_bytes=limit)
        yield part
        if b"\n" in part:
            line_end = now() + settings.http_body_seconds


def _late(at_end: bool, stream_seconds: float) -> str:
    if at_end:
        return f"a stream takes at most {stream_seconds:g} seconds; go on with another one"
    return LATE
