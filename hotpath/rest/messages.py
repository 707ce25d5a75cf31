"""Publishing over REST: one object, an array (all or nothing), or NDJSON as a stream.

A stream is made durable part by part as it comes: memory holds one part, whatever the length of
the whole, and what stands before a bad line stays accepted.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from hotpath.model.errors import HotpathError, Invalid, TooLarge, Violation
from hotpath.model.names import TopicKey
from hotpath.rest.bodies import (
    JSON_TYPE,
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


async def publish_messages(call: Call) -> web.Response:
    """`POST /messages/{type}`."""
    kind = content_type(call.request)
    if kind == NDJSON_TYPE:
        return answer(AcceptedResponse(accepted=await _take_stream(call)), 202)
    if kind != JSON_TYPE:
        raise refuse(f"the content type must be {JSON_TYPE} or {NDJSON_TYPE}")
    body = await read_body(call.request, bytes_max=call.services.settings.max_request_bytes)
    taker = _Taker.of(call)
    try:
        payloads = await _read_messages(decode(body), taker, call)
    except (Invalid, TooLarge):
        call.services.metrics.messages_refused.labels(VIA, "invalid").inc()
        raise
    if payloads:
        await call.services.publishing.publish(_key(call), payloads, via=VIA)
    return answer(AcceptedResponse(accepted=len(payloads)), 202)


def _key(call: Call) -> TopicKey:
    """Where the caller's messages go: always into the log of the caller's own tenant."""
    return TopicKey(call.principal.tenant, call.known_topic())


@dataclass(frozen=True, slots=True)
class _Taker:
    """Makes stored messages of parsed values."""

    shape: Shape
    now: str
    bytes_max: int

    @classmethod
    def of(cls, call: Call) -> "_Taker":
        services = call.services
        return cls(
            SHAPES[call.known_topic()],
            iso(services.clock.now_ms()),
            services.settings.max_message_bytes,
        )

    def take(self, value: object, text: str) -> bytes:
        """One value as a stored message. Raises Invalid or TooLarge."""
        if not isinstance(value, dict):
            raise refuse("a message must be a JSON object", "")
        faults = self.shape.check(value)
        if faults:
            raise Invalid(faults)
        stored = self.shape.encode(value, text, self.now)
        # The limit is on what the publisher wrote; a longer text cannot fit in characters either.
        if len(stored) > self.bytes_max and len(text.encode()) > self.bytes_max:
            raise self.too_large()
        return stored

    def too_large(self) -> TooLarge:
        return TooLarge(
            f"a message is at most {self.bytes_max} bytes long", limit_bytes=self.bytes_max
        )


async def _read_messages(text: str, taker: _Taker, call: Call) -> list[bytes]:
    """The messages of a JSON body. Raises Invalid or TooLarge; then none is accepted."""
    start = skip_blank(text, 0)
    if start == len(text):
        raise refuse("a JSON object or array is needed as the body")
    if text[start] != "[":
        return [taker.take(*parse_whole(text))]
    limit = call.services.settings.max_array_elements
    gathered = _Gathered([], [])
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
    return gathered.payloads


@dataclass(frozen=True, slots=True)
class _Gathered:
    """What an array has given so far."""

    payloads: list[bytes]
    faults: list[Violation]

    def add(self, index: int, value: object, text: str, taker: _Taker) -> None:
        try:
            self.payloads.append(taker.take(value, text))
        except Invalid as error:
            self.faults.extend(_at_element(index, each) for each in error.violations)
        except TooLarge as error:
            self.faults.append(_at_element(index, Violation(error.detail, "")))


def _at_element(index: int, violation: Violation) -> Violation:
    pointer = f"/{index}{violation.pointer or ''}"
    return Violation(f"element {index}: {violation.detail}", pointer, {"index": index})


# Streams


async def _take_stream(call: Call) -> int:
    """Accept the lines of an NDJSON body as they come; how many. Raises PartlyAccepted."""
    check_encoding(call.request)
    accepted = line = 0
    try:
        async for lines in _line_groups(call.request, call.services.settings.max_message_bytes):
            taker = _Taker.of(call)
            payloads: list[bytes] = []
            failure: HotpathError | None = None
            for raw in lines:
                line += 1
                try:
                    payloads += _take_line(raw, taker)
                except (Invalid, TooLarge) as error:
                    failure = error
                    break
            if payloads:
                await call.services.publishing.publish(_key(call), payloads, via=VIA)
                accepted += len(payloads)
            if failure is not None:
                raise failure
    except (Invalid, TooLarge) as error:
        call.services.metrics.messages_refused.labels(VIA, "invalid").inc()
        raise PartlyAccepted(error, line=max(line, 1), accepted=accepted) from None
    except HotpathError as error:
        raise PartlyAccepted(error, line=max(line, 1), accepted=accepted) from None
    return accepted


def _take_line(raw: bytes | None, taker: _Taker) -> list[bytes]:
    """The message of a line, none of a blank one. Raises Invalid or TooLarge."""
    if raw is None or len(raw) > taker.bytes_max:
        raise taker.too_large()
    if not raw.strip():
        return []
    return [taker.take(*parse_whole(decode(raw)))]


async def _line_groups(
    request: web.Request, line_bytes_max: int
) -> AsyncIterator[list[bytes | None]]:
    """The lines that are complete, each time more of the body is there.

    None stands for a line that has grown over the limit; nothing comes after it.
    """
    rest = bytearray()
    async for part in parts(request):
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
