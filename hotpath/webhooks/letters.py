"""Dead letters of streams: giving an event up, looking at what was, and taking it out again.

They are the dead letters of the stream's subscription, copied by the core in the same commit that
settles the event. How it was tried is kept with each copy, as application-properties.
"""

from typing import Final

from hotpath.core.deadletter import DeadLetterQueue
from hotpath.model.errors import Unavailable
from hotpath.model.message import DeadLetter
from hotpath.ports import LogFailure
from hotpath.service.streams import Stream
from hotpath.webhooks.context import Context
from hotpath.webhooks.history import read_mark
from hotpath.webhooks.interface import DeadEvent, Page
from hotpath.webhooks.lanes import Event
from hotpath.webhooks.values import event_of
from hotpath.wire.properties import Puller

#: Dead letters read at once.
READ_MAX: Final = 256

ATTEMPTS: Final = "WebhookAttempts"
FIRST: Final = "WebhookFirstAttemptMs"
LAST: Final = "WebhookLastAttemptMs"
_REASON: Final = "DeadLetterReason"
_DESCRIPTION: Final = "DeadLetterErrorDescription"

_puller: Final = Puller([(name,) for name in (ATTEMPTS, FIRST, LAST, _REASON, _DESCRIPTION)])


class Letters:
    """The dead letters of all streams."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def bury(self, stream: Stream, event: Event, *, reason: str, description: str) -> None:
        """Give a locked event up. Raises LimitReached when there is no room; it stays locked."""
        tried: dict[str, object] = {ATTEMPTS: event.attempts}
        if event.first_ms is not None and event.last_ms is not None:
            tried |= {FIRST: event.first_ms, LAST: event.last_ms}
        subscription = stream.subscription
        self._context.settling.dead_letter(
            subscription,
            subscription,
            (event.seq, event.serial),
            reason=reason,
            description=description,
            properties=tried,
        )
        self._context.metrics.webhook_events.labels("dead-lettered").inc()

    def remove(self, stream: Stream, seqs: list[int]) -> None:
        """Dead letters that are delivered after all, or go."""
        queue = self._queue(stream)
        gone = [seq for seq in seqs if seq in queue]
        for seq in gone:
            queue.lose(seq)
        if gone:
            self._context.committer.unbury(stream.subscription.spec.id, gone)

    def _queue(self, stream: Stream) -> DeadLetterQueue:
        return self._context.settling.dead_letters(stream.subscription)

    async def _read(self, stream: Stream, *, from_seq: int, limit: int) -> list[DeadLetter]:
        """Dead letters that are still there, in order. Raises Unavailable."""
        queue, found = self._queue(stream), list[DeadLetter]()
        try:
            while len(found) < limit:
                letters = await self._context.log.dead_letters(
                    stream.subscription.spec.id, from_seq=from_seq, limit=min(limit, READ_MAX)
                )
                if not letters:
                    break
                found += [letter for letter in letters if letter.seq in queue]
                from_seq = letters[-1].seq + 1
        except LogFailure as failure:
            raise Unavailable("the dead letters cannot be read now; try again later") from failure
        return found[:limit]

    async def load(self, stream: Stream, seq: int) -> DeadLetter | None:
        """One dead letter, or None when it is gone. Raises Unavailable."""
        found = await self._read(stream, from_seq=seq, limit=1)
        return found[0] if found and found[0].seq == seq else None

    async def page(self, stream: Stream, *, after: str | None, limit: int) -> Page[DeadEvent]:
        """Dead letters behind the mark, oldest first. Raises Invalid, Unavailable."""
        from_seq = 0 if after is None else read_mark(after) + 1
        found = await self._read(stream, from_seq=from_seq, limit=limit + 1)
        following = str(found[limit - 1].seq) if len(found) > limit else None
        return Page([shown(letter) for letter in found[:limit]], following)

    async def choose(self, stream: Stream, ids: list[str] | None) -> list[int]:
        """The sequence numbers of those that are there: the named ones, or all.

        Raises Unavailable.
        """
        queue = self._queue(stream)
        if ids is not None:
            numbers = (int(each) for each in ids if each.isascii() and each.isdecimal())
            return sorted({seq for seq in numbers if seq in queue})
        seqs: list[int] = []
        while letters := await self._read(
            stream, from_seq=seqs[-1] + 1 if seqs else 0, limit=READ_MAX
        ):
            seqs += [letter.seq for letter in letters]
        return seqs


def shown(letter: DeadLetter) -> DeadEvent:
    """A dead letter for its owner."""
    found = _puller.pull(letter.payload)
    reason, description = found.get(_REASON, ""), found.get(_DESCRIPTION, "")
    attempts, first, last = (found.get(name) for name in (ATTEMPTS, FIRST, LAST))
    return DeadEvent(
        id=str(letter.seq),
        event=event_of(letter.payload) or b"null",
        reason=f"{reason}: {description}" if description else str(reason),
        attempts=attempts if isinstance(attempts, int) else 0,
        first_attempt_ms=first if isinstance(first, int) else None,
        last_attempt_ms=last if isinstance(last, int) else None,
    )
