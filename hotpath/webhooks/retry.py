"""What becomes of an attempt: its outcome, and when the next one is due.

Pure functions over values: no clock, no randomness of their own.

    2xx                      delivered
    410                      the endpoint wants no more: dead letter, and the stream is disabled
    400, 413, 422            this event will never be taken: dead letter
    anything else, a redirect (3xx), no answer at all
                             failed: again after the next step of the schedule, each drawn from
                             ±20 % around it, or after `Retry-After`; after the last one dead letter
"""

from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from enum import Enum
from typing import Final

#: Each delay is drawn from this much around its step.
JITTER: Final = 0.2

#: Statuses that say: never send this one again.
HOPELESS: Final = frozenset((400, 413, 422))
GONE: Final = 410
TOO_MANY_REQUESTS: Final = 429

#: Longest delay that is looked at in a header, digits.
_DIGITS_MAX: Final = 9


class Verdict(Enum):
    """What an answer means for the event."""

    DELIVERED = "delivered"
    RETRY = "retry"
    HOPELESS = "hopeless"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one attempt ended."""

    status: int | None
    """The HTTP status, or None when there was no answer."""
    reason: str
    """What went wrong, for people; empty when nothing did."""
    duration_ms: int = 0
    retry_after: str | None = None
    """The header as it came."""

    @property
    def verdict(self) -> Verdict:
        """What it means."""
        if self.status is None:
            return Verdict.RETRY
        if 200 <= self.status < 300:
            return Verdict.DELIVERED
        if self.status == GONE:
            return Verdict.GONE
        return Verdict.HOPELESS if self.status in HOPELESS else Verdict.RETRY


@dataclass(frozen=True, slots=True)
class Schedule:
    """The delays between attempts. There is one attempt more than there are steps."""

    steps_ms: tuple[int, ...]
    retry_after_max_ms: int

    @property
    def attempts_max(self) -> int:
        """Attempts in all before an event is given up."""
        return len(self.steps_ms) + 1

    def exhausted(self, attempts: int) -> bool:
        """Whether an event with so many failed attempts is given up."""
        return attempts >= self.attempts_max

    def delay_ms(self, attempts: int, *, draw: float) -> int:
        """How long to wait after the failed attempt number `attempts`, counted from 1.

        Args:
            attempts: Failed attempts so far, fewer than `attempts_max`.
            draw: From 0 up to 1, at random.
        """
        return round(self.steps_ms[attempts - 1] * (1 + JITTER * (2 * draw - 1)))

    def asked_ms(self, header: str | None, *, now_ms: int, draw: float) -> int | None:
        """The delay that `Retry-After` asks for, within bounds; None when it asks for none.

        Never less than asked (unless over the bound), and up to 20 % more, so that many who were
        told the same do not come back at once.
        """
        asked = parse_retry_after(header, now_ms=now_ms)
        if asked is None or asked <= 0:
            return None
        return min(round(asked * (1 + JITTER * draw)), self.retry_after_max_ms)

    def resumed_ms(self, attempts: int, *, enqueued_ms: int, now_ms: int) -> int:
        """How long to wait after a restart with `attempts` failed attempts on record.

        When they were made is not on record; the first one is taken to have followed at once, and
        the wait is never longer than the step that the event was in.
        """
        if attempts <= 0 or self.exhausted(attempts):
            return 0
        due_ms = enqueued_ms + sum(self.steps_ms[:attempts])
        return min(max(0, due_ms - now_ms), self.steps_ms[attempts - 1])


def parse_retry_after(header: str | None, *, now_ms: int) -> int | None:
    """Milliseconds that a `Retry-After` asks to wait (RFC 9110 §10.2.3); None if it is none.

    Either seconds or an HTTP date; a date in the past gives 0.
    """
    if header is None:
        return None
    text = header.strip()
    if text.isascii() and text.isdecimal():
        return (
            int(text[:_DIGITS_MAX]) * 1000 if len(text) <= _DIGITS_MAX else 10**_DIGITS_MAX * 1000
        )
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0, round(moment.timestamp() * 1000) - now_ms)


def read_steps(text: str) -> tuple[int, ...]:
    """The delays of a schedule, in seconds and separated by commas, as milliseconds."""
    return tuple(round(float(step) * 1000) for step in text.split(",") if step.strip())
