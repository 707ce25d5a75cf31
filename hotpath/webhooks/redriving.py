"""Dead letters of one stream that are to be sent once more, a few at a time."""

from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

from hotpath.model.errors import Unavailable
from hotpath.service.streams import Stream
from hotpath.webhooks.context import Context
from hotpath.webhooks.lanes import Event
from hotpath.webhooks.letters import Letters
from hotpath.webhooks.values import point_of

#: Dead letters prepared at once.
AT_ONCE: Final = 32


class Redriving:
    """They stay dead letters until they are delivered; a restart forgets that they were chosen."""

    __slots__ = ("_chosen", "_context", "_letters", "_preparing", "_stream", "_waiting")

    def __init__(self, stream: Stream, *, context: Context, letters: Letters) -> None:
        self._stream = stream
        self._context = context
        self._letters = letters
        self._waiting: deque[int] = deque()
        self._chosen: set[int] = set()
        self._preparing = False

    def choose(self, seqs: Iterable[int]) -> int:
        """Note which; how many of them were not on their way already."""
        fresh = [seq for seq in seqs if seq not in self._chosen]
        self._chosen.update(fresh)
        self._waiting.extend(fresh)
        return len(fresh)

    def delivered(self, event: Event) -> None:
        """It is no dead letter any more."""
        self._chosen.discard(event.seq)
        self._letters.remove(self._stream, [event.seq])

    def failed(self, event: Event) -> None:
        """It stays a dead letter."""
        self._chosen.discard(event.seq)

    def forget(self) -> None:
        """Those that were not begun yet stay dead letters."""
        self._chosen.difference_update(self._waiting)
        self._waiting.clear()

    def prepare(self, room: int, insert: Callable[[Event], None], done: Callable[[], None]) -> None:
        """Make events of some of them, as many as there is room for; then `done`."""
        if self._waiting and not self._preparing and room > 0:
            self._preparing = True
            self._context.tasks.spawn(self._prepare(min(room, AT_ONCE), insert, done))

    async def _prepare(
        self, count: int, insert: Callable[[Event], None], done: Callable[[], None]
    ) -> None:
        seq = 0
        try:
            for _ in range(min(count, len(self._waiting))):
                seq = self._waiting.popleft()
                letter = await self._letters.load(self._stream, seq)
                if letter is None:
                    self._chosen.discard(seq)
                    continue
                point = point_of(letter.payload, seq)
                insert(Event(seq, 0, point=point, batch=None, enqueued_ms=letter.enqueued_ms))
        except Unavailable:
            self._chosen.discard(seq)
            self.forget()
        finally:
            self._preparing = False
            done()
