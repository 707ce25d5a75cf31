"""Spans of publishing and delivering; there only when tracing is on."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from hotpath.core.feed import Taken
from hotpath.core.subscription import Subscription
from hotpath.model.errors import HotpathError
from hotpath.model.names import TopicKey
from hotpath.ports import Clock
from hotpath.service.publish import Published
from hotpath.tracecontext import TRACEPARENT, is_sampled
from hotpath.wire.properties import Puller

if TYPE_CHECKING:
    from hotpath.tracing import Tracing

_PULLER: Final = Puller([(TRACEPARENT,)])


def sampled_trace(payload: bytes) -> str | None:
    """The trace of a stored message, if it has one that asks to be recorded."""
    found = _PULLER.pull(payload).get(TRACEPARENT)
    return found if isinstance(found, str) and is_sampled(found) else None


class Traces:
    """Hears what comes in and what is handed out, and leaves a span a traced message."""

    def __init__(self, tracing: "Tracing", clock: Clock) -> None:
        self._tracing = tracing
        self._clock = clock

    def submitted(
        self, topic: TopicKey, payloads: Sequence[bytes], done: Published, via: str
    ) -> Published:
        """Messages have come in; gives what must hear of their end instead of `done`."""
        contexts = [found for each in payloads if (found := sampled_trace(each)) is not None]
        if not contexts:
            return done
        spans = self._tracing.begin_publish(topic.topic.value, via, contexts)

        def ended(error: HotpathError | None) -> None:
            self._tracing.end_publish(spans, None if error is None else error.detail)
            done(error)

        return ended

    def taken(self, subscription: Subscription, parts: Sequence[Taken]) -> None:
        """Messages were handed to a receiver of a subscription."""
        now_ms = self._clock.now_ms()
        spec = subscription.spec
        for part in parts:
            batch = part.batch
            if batch.payloads is None:
                continue
            traced = [
                (context, seq)
                for seq in part.seqs
                if (context := sampled_trace(batch.payloads[seq - batch.first_seq])) is not None
            ]
            if traced:
                self._tracing.delivered(
                    spec.topic.value, spec.id, traced, between_ms=(batch.enqueued_ms, now_ms)
                )
