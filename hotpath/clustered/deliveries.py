"""What calls on streams ask of those who deliver, wherever a stream is served."""

from dataclasses import astuple
from typing import Final

from hotpath.cluster.relay.frames import write_items
from hotpath.cluster.relay.messages import as_int, as_list, as_text
from hotpath.cluster.service.neighbours import Neighbours
from hotpath.cluster.service.streams import ShardedStreams
from hotpath.service.streams import Stream
from hotpath.webhooks.edge import WebhookEdge
from hotpath.webhooks.interface import DeadEvent, DeliveryAttempt, Page, TestResult

_TEST, _HISTORY = "webhook.test", "webhook.history"
_LETTERS, _REDRIVE = "webhook.letters", "webhook.redrive"
#: How long an owner may take: an endpoint may be slow, milliseconds.
ASK_MS: Final = 120_000


class ClusterDeliveries:
    """Deliveries of all streams; a `hotpath.webhooks.interface.WebhookDeliveries`."""

    def __init__(self, edge: WebhookEdge, streams: ShardedStreams, neighbours: Neighbours) -> None:
        self._edge = edge
        self._streams = streams
        self._neighbours = neighbours
        neighbours.answer(_TEST, self._answer_test)
        neighbours.answer(_HISTORY, self._answer_history)
        neighbours.answer(_LETTERS, self._answer_letters)
        neighbours.answer(_REDRIVE, self._answer_redrive)

    async def _ask(self, stream: Stream, name: str, *items: object) -> list[object]:
        shard = self._neighbours.shard_of(stream.id)
        return await self._neighbours.ask(shard, name, stream.id, *items, timeout_ms=ASK_MS)

    async def test(self, stream: Stream) -> TestResult:
        """Send a sample event now."""
        delivered, status, duration_ms, reason = await self._ask(stream, _TEST)
        return TestResult(
            delivered=delivered is True,
            http_status=_int_or_none(status),
            duration_ms=as_int(duration_ms),
            reason=as_text(reason),
        )

    async def _answer_test(self, _: int, items: list[object]) -> bytes:
        return write_items(*astuple(await self._edge.test(self._stream(items))))

    async def history(
        self, stream: Stream, *, after: str | None, limit: int
    ) -> Page[DeliveryAttempt]:
        """The most recent attempts, newest first; those that the stream's node has made."""
        rows, following = await self._ask(stream, _HISTORY, after, limit)
        attempts = [_read_attempt(as_list(row)) for row in as_list(rows)]
        return Page(attempts, _text_or_none(following))

    async def _answer_history(self, _: int, items: list[object]) -> bytes:
        after, limit = _text_or_none(items[1]), as_int(items[2])
        page = await self._edge.history(self._stream(items), after=after, limit=limit)
        return write_items([list(astuple(each)) for each in page.items], page.next)

    async def dead_letters(
        self, stream: Stream, *, after: str | None, limit: int
    ) -> Page[DeadEvent]:
        """What was given up, oldest first."""
        rows, following = await self._ask(stream, _LETTERS, after, limit)
        return Page([_read_dead(as_list(row)) for row in as_list(rows)], _text_or_none(following))

    async def _answer_letters(self, _: int, items: list[object]) -> bytes:
        after, limit = _text_or_none(items[1]), as_int(items[2])
        page = await self._edge.dead_letters(self._stream(items), after=after, limit=limit)
        return write_items([list(astuple(each)) for each in page.items], page.next)

    async def redrive(self, stream: Stream, ids: list[str] | None) -> int:
        """Send dead letters once more."""
        (count,) = await self._ask(stream, _REDRIVE, ids)
        return as_int(count)

    async def _answer_redrive(self, _: int, items: list[object]) -> bytes:
        ids = None if items[1] is None else [as_text(each) for each in as_list(items[1])]
        return write_items(await self._edge.redrive(self._stream(items), ids))

    def _stream(self, items: list[object]) -> Stream:
        """The stream that is asked about. Raises NotFound, NotServed."""
        return self._streams.live_one(as_text(items[0]))


def _read_attempt(row: list[object]) -> DeliveryAttempt:
    identity, event, point, attempt, status, http_status, duration_ms, reason, at_ms = row[:9]
    return DeliveryAttempt(
        id=as_text(identity),
        event_id=as_text(event),
        point_id=as_text(point),
        attempt=as_int(attempt),
        status=as_text(status),
        http_status=_int_or_none(http_status),
        duration_ms=as_int(duration_ms),
        reason=as_text(reason),
        at_ms=as_int(at_ms),
    )


def _read_dead(row: list[object]) -> DeadEvent:
    identity, event, reason, attempts, first_ms, last_ms = row[:6]
    return DeadEvent(
        id=as_text(identity),
        event=event if isinstance(event, bytes) else b"",
        reason=as_text(reason),
        attempts=as_int(attempts),
        first_attempt_ms=_int_or_none(first_ms),
        last_attempt_ms=_int_or_none(last_ms),
    )


def _int_or_none(value: object) -> int | None:
    return None if value is None else as_int(value)


def _text_or_none(value: object) -> str | None:
    return None if value is None else as_text(value)
