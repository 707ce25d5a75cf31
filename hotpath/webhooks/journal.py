"""What was tried: remembered for people, counted for operators."""

from collections.abc import Callable

from hotpath.service.streams import Stream
from hotpath.webhooks.context import Context
from hotpath.webhooks.history import DELIVERED, FAILED, Entry, History
from hotpath.webhooks.lanes import Event
from hotpath.webhooks.reporting import Reporter
from hotpath.webhooks.retry import Outcome, Verdict
from hotpath.webhooks.sending import Sending
from hotpath.webhooks.values import sample_event


class Journal:
    """The attempts of one stream.

    Attributes:
        history: The latest ones.
    """

    __slots__ = (
        "_attempts_delivered",
        "_context",
        "_events_delivered",
        "_reporter",
        "_sending",
        "_stream",
        "history",
    )

    def __init__(
        self, stream: Stream, *, context: Context, reporter: Reporter, sending: Sending
    ) -> None:
        self._stream = stream
        self._context = context
        self._reporter = reporter
        self._sending = sending
        self._attempts_delivered = context.metrics.webhook_attempts.labels(DELIVERED)
        self._events_delivered = context.metrics.webhook_events.labels(DELIVERED)
        self.history = History(context.limits.history)

    def note(self, event: Event, outcome: Outcome, *, attempt: int, status: str) -> None:
        """An attempt to deliver an event of the log has ended."""
        metrics = self._context.metrics
        if status == DELIVERED:
            # By far the most; a look-up by label costs more than the counting.
            self._attempts_delivered.inc()
            self._events_delivered.inc()
        else:
            metrics.webhook_attempts.labels(status).inc()
        metrics.webhook_seconds.observe(outcome.duration_ms / 1000)
        event_id = self._sending.event_id(event.seq)
        self._add(event_id, event.point, outcome, attempt=attempt, status=status)

    def _add(
        self, event_id: str, point: str, outcome: Outcome, *, attempt: int, status: str
    ) -> None:
        self.history.add(
            Entry(
                self._reporter.next_number(),
                event_id,
                point,
                attempt,
                status,
                outcome.status,
                outcome.duration_ms,
                outcome.reason,
                self._context.clock.now_ms(),
            )
        )

    def try_out(self, done: Callable[[Outcome], None]) -> None:
        """Send a made-up event of one of the stream's points; past queue, retries and breaker."""
        point = next(iter(self._stream.feed.points), "sample")
        event_id = f"test-{self._stream.id}-{self._reporter.next_number()}"

        def tried(outcome: Outcome) -> None:
            status = DELIVERED if outcome.verdict is Verdict.DELIVERED else FAILED
            self._add(event_id, point, outcome, attempt=1, status=status)
            done(outcome)

        self._sending.post(event_id, sample_event(point, self._context.clock.now_ms()), tried)
