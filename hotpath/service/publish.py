"""A message's way in: one topic, a number of stored messages, one answer when they are durable.

The edges have authorised the publisher and brought the messages to their stored form
(`hotpath.wire.message.normalise`); here they are bounded, scheduled or appended.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from hotpath.model.errors import HotpathError, LimitReached, LogFull, Unavailable
from hotpath.model.names import TopicKey
from hotpath.ports import LogFailure
from hotpath.service.commit import Committer
from hotpath.telemetry import Metrics
from hotpath.wire.runs import all_plain

if TYPE_CHECKING:
    from hotpath.service.schedule import Scheduling

#: Hears the end of a publishing: None when durable.
Published = Callable[[HotpathError | None], None]
OnSubmit = Callable[[TopicKey, Sequence[bytes], Published, str], Published]


class Publishing:
    """Takes messages from the edges."""

    def __init__(
        self,
        *,
        committer: Committer,
        scheduling: "Scheduling",
        metrics: Metrics,
        pending_bytes_max: int,
    ) -> None:
        self._committer = committer
        self._scheduling = scheduling
        self._metrics = metrics
        self._pending_bytes_max = pending_bytes_max
        #: Hears of all that comes in, and gives what is told of its end; for tracing.
        self.on_submit: OnSubmit | None = None

    @property
    def congested(self) -> bool:
        """Whether publishers should wait: the log has all it can take for now."""
        return self._committer.pending_bytes >= self._pending_bytes_max

    def when_relieved(self, callback: Callable[[], None]) -> None:
        """Call back once after the next commit."""
        self._committer.when_relieved(callback)

    def submit(
        self, topic: TopicKey, payloads: Sequence[bytes], done: Published, *, via: str
    ) -> None:
        """Append stored messages; `done` hears when they are durable, or why not.

        Those that name a time to come are scheduled instead; all or none of them are taken.
        Called only while not `congested`, but for what a granted credit still lets in.
        """
        if self.on_submit is not None:
            done = self.on_submit(topic, payloads, done, via)
        if not all_plain(payloads):
            at_once, later = self._scheduling.sort_out(payloads)
            if later:
                self._take_both(topic, at_once, later, done, via=via)
                return
        self._append(topic, payloads, done, via=via)

    def _take_both(
        self,
        topic: TopicKey,
        at_once: list[bytes],
        later: list[tuple[bytes, int]],
        done: Published,
        *,
        via: str,
    ) -> None:
        """Append some, schedule the others: one commit, so one fate."""
        try:
            byte_size = sum(len(payload) for payload, _ in later)
            self._scheduling.check_room(topic.tenant, count=len(later), byte_size=byte_size)
        except LimitReached as error:
            self._metrics.messages_refused.labels(via, "limit").inc(len(at_once) + len(later))
            done(error)
            return

        def taken(error: HotpathError | None) -> None:
            if error is None:
                self._metrics.messages_published.labels(topic.topic.value, via).inc(len(later))
            done(error)

        waiting = Together(len(later) + bool(at_once), taken)
        for payload, due_ms in later:
            self._scheduling.schedule(topic, payload, due_ms=due_ms, done=waiting.one_done)
        if at_once:
            self._append(topic, at_once, waiting.one_done, via=via)

    def _append(
        self, topic: TopicKey, payloads: Sequence[bytes], done: Published, *, via: str
    ) -> None:
        """Append stored messages as they are."""

        def appended(failure: LogFailure | None) -> None:
            if failure is None:
                self._metrics.messages_published.labels(topic.topic.value, via).inc(len(payloads))
                done(None)
                return
            reason = "full" if failure.full else "unavailable"
            self._metrics.messages_refused.labels(via, reason).inc(len(payloads))
            done(refusal(failure))

        self._committer.append(topic, payloads, appended)

    async def publish(self, topic: TopicKey, payloads: Sequence[bytes], *, via: str) -> None:
        """As `submit`, waiting first for the log to have room.

        Raises LimitReached or Unavailable; then none of the messages is stored.
        """
        await self.wait_for_room()
        waiting = Together(1)
        self.submit(topic, payloads, waiting.one_done, via=via)
        await waiting.all_done()

    async def wait_for_room(self) -> None:
        """Wait until the log has room."""
        loop = asyncio.get_running_loop()
        while self.congested:
            relieved: asyncio.Future[None] = loop.create_future()
            self.when_relieved(lambda waiting=relieved: _wake(waiting))  # type: ignore[misc]
            await relieved


class Together:
    """One answer for several pieces of work: when all have ended, the first error or None.

    Args:
        count: How many there are.
        done: Hears of it; without one, `all_done` is waited for.
    """

    def __init__(self, count: int, done: Published | None = None) -> None:
        self._left = count
        self._error: HotpathError | None = None
        self._done = done
        self._future: asyncio.Future[None] | None = None

    def one_done(self, error: HotpathError | None) -> None:
        """One of them has ended."""
        self._left -= 1
        self._error = self._error or error
        if self._left:
            return
        if self._done is not None:
            self._done(self._error)
        if self._future is not None:
            _wake(self._future)

    async def all_done(self) -> None:
        """Wait for all. Raises the first error."""
        if self._left:
            self._future = asyncio.get_running_loop().create_future()
            await self._future
        if self._error is not None:
            raise self._error


def _wake(waiting: asyncio.Future[None]) -> None:
    if not waiting.done():
        waiting.set_result(None)


def refusal(failure: LogFailure) -> HotpathError:
    """What a publisher is told when its messages could not be stored."""
    if failure.full:
        return LogFull("the message log is full; try again later")
    return Unavailable("the message log cannot be written now; try again later")
