"""Who may make a request now: a bound on all of them together, shared out fairly.

Streams that have something to send stand in one of two lines. The *quick* line is for those whose
endpoint has lately answered at once; the *slow* one for all others: slow ones, failing ones, and
those that have not proven themselves. Requests of slow streams never take more than a part of all
places (`SLOW_SHARE`), so however many endpoints hang, there is room for those that do not, and a
place among quick ones is free again within moments. Within a line everyone sends one at a time.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

#: The part of all places that slow streams may have.
SLOW_SHARE: Final = 0.75
#: Requests begun in one turn of the event loop: others have work to do as well.
TURN_MAX: Final = 64


class Sender(Protocol):
    """A stream as the dispatcher sees it.

    Attributes:
        in_line: Kept by the dispatcher.
    """

    in_line: bool

    @property
    def quick(self) -> bool:
        """Whether its endpoint answers at once."""
        ...

    def launch(self) -> bool:
        """Begin one request, if there is one to make; whether it was begun."""
        ...

    def has_more(self) -> bool:
        """Whether another `launch` may begin one."""
        ...


class Dispatcher:
    """Shares out the places."""

    def __init__(self, places: int) -> None:
        self._places = places
        self._slow_places = max(1, int(places * SLOW_SHARE))
        self._quick: deque[Sender] = deque()
        self._slow: deque[Sender] = deque()
        self._taken = 0
        self._slow_taken = 0
        self._scheduled = False
        self._on_idle: Callable[[], None] | None = None
        self.stopped = False

    @property
    def in_flight(self) -> int:
        """Requests under way."""
        return self._taken

    def want(self, sender: Sender) -> None:
        """A stream has something to send."""
        if sender.in_line or self.stopped:
            return
        sender.in_line = True
        (self._quick if sender.quick else self._slow).append(sender)
        self._schedule()

    def ended(self, *, quick: bool) -> None:
        """A request has ended; `quick` as it was when it began."""
        self._taken -= 1
        if not quick:
            self._slow_taken -= 1
        if self._taken == 0 and self._on_idle is not None:
            self._on_idle()
        if self._quick or self._slow:
            self._schedule()

    def stop(self) -> None:
        """Begin no more requests."""
        self.stopped = True

    def when_idle(self, callback: Callable[[], None]) -> None:
        """Call back once nothing is under way; at once if that is so."""
        self._on_idle = callback
        if self._taken == 0:
            callback()

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._run)

    def _run(self) -> None:
        """Serve both lines in turn as far as places go."""
        self._scheduled = False
        for _ in range(TURN_MAX):
            served = self._serve(self._quick, quick=True)
            served = self._serve(self._slow, quick=False) or served
            if not served:
                return
        self._schedule()

    def _serve(self, line: deque[Sender], *, quick: bool) -> bool:
        """Let the first of a line begin one request; whether there was anybody to serve."""
        room = self._taken < self._places and (quick or self._slow_taken < self._slow_places)
        if not line or not room or self.stopped:
            return False
        sender = line.popleft()
        sender.in_line = False
        if sender.quick != quick:
            self.want(sender)  # It has changed while it stood in line.
            return True
        if sender.launch():
            self._taken += 1
            self._slow_taken += not quick
        if sender.has_more():
            self.want(sender)
        return True
