"""Distributed tracing with OpenTelemetry; off unless a collector's address is configured.

Imported only then: OpenTelemetry is an extra. The service makes spans for control calls, for
publishing (from receipt until durable) and for delivery (from durable until handed out), each a
child of what the caller or the message names. Messages without a sampled trace cost no span.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import Span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from hotpath import __version__
from hotpath.tracecontext import TRACEPARENT

#: Spans of one batch of messages; the others of it are not traced.
SPANS_A_BATCH_MAX: Final = 32
#: Spans that wait for the collector; further ones are dropped.
WAITING_SPANS_MAX: Final = 2_048


class Tracing:
    """Makes spans and sends them to a collector.

    Args:
        exporter: Where spans go.
        ratio: Share of the calls without a trace of their own that begin one, 0 to 1.
    """

    def __init__(self, exporter: SpanExporter, *, ratio: float) -> None:
        resource = Resource.create({"service.name": "hotpath", "service.version": __version__})
        self._provider = TracerProvider(
            sampler=ParentBased(TraceIdRatioBased(ratio)), resource=resource
        )
        self._provider.add_span_processor(
            BatchSpanProcessor(exporter, max_queue_size=WAITING_SPANS_MAX)
        )
        self._tracer = self._provider.get_tracer("hotpath", __version__)
        self._propagator = TraceContextTextMapPropagator()

    @contextmanager
    def call(self, name: str, headers: Mapping[str, str]) -> Iterator[str]:
        """A span around a control call; gives the trace context for what the call publishes."""
        parent = self._context(headers.get(TRACEPARENT))
        with self._tracer.start_as_current_span(
            name, context=parent, kind=trace.SpanKind.SERVER
        ) as span:
            yield self._traceparent(span)

    def begin_publish(self, destination: str, via: str, contexts: Sequence[str]) -> list[Span]:
        """Spans for messages that have come in, ended by `end_publish`."""
        return [
            self._tracer.start_span(
                f"publish {destination}",
                context=self._context(each),
                kind=trace.SpanKind.SERVER,
                attributes={
                    "messaging.system": "hotpath",
                    "messaging.operation.type": "publish",
                    "messaging.destination.name": destination,
                    "network.protocol.name": via,
                },
            )
            for each in contexts[:SPANS_A_BATCH_MAX]
        ]

    def end_publish(self, spans: Sequence[Span], failure: str | None) -> None:
        """The messages are durable, or refused with a reason."""
        for span in spans:
            if failure is not None:
                span.set_status(trace.StatusCode.ERROR, failure)
            span.end()

    def delivered(
        self,
        destination: str,
        subscription: str,
        messages: Sequence[tuple[str, int]],
        *,
        between_ms: tuple[int, int],
    ) -> None:
        """Spans for messages that were handed out: trace context and sequence number of each.

        `between_ms` is when they became durable and now, in wall-clock milliseconds.
        """
        began_ms, ended_ms = between_ms
        for context, seq in messages[:SPANS_A_BATCH_MAX]:
            span = self._tracer.start_span(
                f"deliver {destination}",
                context=self._context(context),
                kind=trace.SpanKind.PRODUCER,
                start_time=began_ms * 1_000_000,
                attributes={
                    "messaging.system": "hotpath",
                    "messaging.operation.type": "send",
                    "messaging.destination.name": destination,
                    "messaging.destination.subscription.name": subscription,
                    "hotpath.sequence_number": seq,
                },
            )
            span.end(end_time=max(began_ms, ended_ms) * 1_000_000)

    def close(self) -> None:
        """Send what is waiting; blocks for some seconds at most."""
        self._provider.force_flush(3_000)
        self._provider.shutdown()

    def _context(self, traceparent: str | None) -> Context:
        carrier = {TRACEPARENT: traceparent} if traceparent else {}
        return self._propagator.extract(carrier)

    def _traceparent(self, span: Span) -> str:
        carrier: dict[str, str] = {}
        self._propagator.inject(carrier, context=trace.set_span_in_context(span))
        return carrier.get(TRACEPARENT, "")


def connect_tracing(endpoint: str, *, ratio: float) -> Tracing:
    """Tracing to a collector's OTLP/HTTP address."""
    return Tracing(OTLPSpanExporter(endpoint=endpoint, timeout=5), ratio=ratio)
