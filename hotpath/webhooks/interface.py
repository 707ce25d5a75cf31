"""What the REST calls on streams ask of those who deliver: one small protocol and its values."""

from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from hotpath.service.streams import Stream

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class TestResult:
    """What became of a sample event that was sent at once."""

    #: Not a test case, whatever its name looks like to a test runner.
    __test__ = False

    delivered: bool
    http_status: int | None
    """The endpoint's answer, or None when there was none."""
    duration_ms: int
    reason: str
    """Why it was not delivered; empty when it was."""


@dataclass(frozen=True, slots=True)
class DeliveryAttempt:
    """One attempt to deliver one event. `id` orders the attempts of a stream, newest first."""

    id: str
    event_id: str
    point_id: str
    attempt: int
    """Counted from 1."""
    status: str
    """`delivered`, `failed` (to be tried again) or `dead-lettered`."""
    http_status: int | None
    duration_ms: int
    reason: str
    at_ms: int
    """Wall clock."""


@dataclass(frozen=True, slots=True)
class DeadEvent:
    """An event that was given up."""

    id: str
    """Its sequence number in the points log, in decimal."""
    event: bytes
    """The body as it was sent: JSON."""
    reason: str
    attempts: int
    first_attempt_ms: int | None
    """Wall clock; None when it was never tried."""
    last_attempt_ms: int | None


@dataclass(frozen=True, slots=True)
class Page(Generic[Item]):
    """Some of many; `next` is where the following page begins, None behind the last one."""

    items: list[Item]
    next: str | None


class WebhookDeliveries(Protocol):
    """Deliveries as the REST calls see them. `after` is the `next` of an earlier page, or None.

    An `after` that no page gave raises `hotpath.model.errors.Invalid`.
    """

    async def test(self, stream: Stream) -> TestResult:
        """Send a sample event now, past queue, retries and circuit breaker."""
        ...

    async def history(
        self, stream: Stream, *, after: str | None, limit: int
    ) -> Page[DeliveryAttempt]:
        """The most recent attempts, newest first, as far back as they are kept."""
        ...

    async def dead_letters(
        self, stream: Stream, *, after: str | None, limit: int
    ) -> Page[DeadEvent]:
        """What was given up and not redriven since, oldest first. Raises Unavailable."""
        ...

    async def redrive(self, stream: Stream, ids: list[str] | None) -> int:
        """Send dead letters once more, those named or (None) all; how many there were.

        Ids that are not there are passed over.
        """
        ...
