"""Telling the rest of the service how streams fare, one change after the other."""

from itertools import count

from hotpath.model.stream import StreamStatus
from hotpath.service.streams import Stream, Streams
from hotpath.telemetry import get_logger
from hotpath.webhooks.context import Tasks

_log = get_logger("hotpath.webhooks")


class Reporter:
    """Hands status changes to `Streams.report`, in their order, the last of each stream at least.

    What was overtaken before it could be told is left out. Also numbers the attempts of all
    streams; numbers ascend over restarts as long as the clock does.
    """

    def __init__(self, streams: Streams, tasks: Tasks, *, now_ms: int) -> None:
        self._streams = streams
        self._tasks = tasks
        self._numbers = count(now_ms * 1_000)
        self._pending: dict[Stream, tuple[StreamStatus, str]] = {}
        self._telling = False

    def next_number(self) -> int:
        """The next attempt's number."""
        return next(self._numbers)

    def pending(self, stream: Stream) -> bool:
        """Whether a change of this stream has not been told yet."""
        return stream in self._pending

    def report(self, stream: Stream, status: StreamStatus, reason: str) -> None:
        """The stream fares like this now; only a change of the status is told."""
        known = self._pending.get(stream)
        if status is (stream.status if known is None else known[0]):
            return
        _log.warning(
            "stream status changed",
            extra={"stream": stream.id, "status": status.value, "reason": reason},
        )
        self._pending[stream] = (status, reason)
        if not self._telling:
            self._telling = True
            self._tasks.spawn(self._tell())

    async def _tell(self) -> None:
        try:
            while self._pending:
                stream, (status, reason) = next(iter(self._pending.items()))
                await self._streams.report(stream, status, reason)
                if self._pending.get(stream) == (status, reason):
                    del self._pending[stream]
        finally:
            self._telling = False
