"""What connections may take together, and what one may do before it has shown a token."""

from typing import Final

from hotpath.amqp.conditions import LIMIT_EXCEEDED, Condition
from hotpath.config import Settings

#: When all have too much unsent, one with less than this still gets up to it, bytes.
SHARE_BYTES: Final = 16_384
#: Links and sessions that a connection may have however many there are in all.
LINKS_FREE: Final = 16
SESSIONS_FREE: Final = 4
#: How soon a connection looks again that got nothing because all have too much, milliseconds.
RETRY_MS: Final = 100


class Outgoing:
    """Unsent bytes of all connections: peers that do not read share one bound.

    Attributes:
        total: As far as the connections have told.
    """

    __slots__ = ("_bytes_max", "total")

    def __init__(self, settings: Settings) -> None:
        self.total = 0
        self._bytes_max = settings.output_total_bytes_max

    @property
    def is_full(self) -> bool:
        """Whether only who has little may have more."""
        return self.total >= self._bytes_max


class Probation:
    """A connection without any right yet: it needs little, so it gets little."""

    __slots__ = ("_bytes_left", "_bytes_max", "_sessions_max")

    def __init__(self, settings: Settings) -> None:
        self._bytes_left = self._bytes_max = settings.unauthenticated_bytes_max
        self._sessions_max = settings.unauthenticated_sessions_max

    def take_bytes(self, size: int) -> Condition | None:
        """So many bytes have come; why that is too much, or None."""
        self._bytes_left -= size
        if self._bytes_left >= 0:
            return None
        text = f"without a token a connection may send {self._bytes_max} bytes"
        return Condition(LIMIT_EXCEEDED, text, {"limit-bytes": self._bytes_max})

    def look_at_sessions(self, count: int) -> Condition | None:
        """There are so many sessions; why that is too much, or None."""
        if count <= self._sessions_max:
            return None
        text = f"without a token a connection may have {self._sessions_max} sessions"
        return Condition(LIMIT_EXCEEDED, text, {"limit-sessions": self._sessions_max})


class Shared:
    """Links and sessions of all connections together, which a peer makes with a few bytes each.

    Attributes:
        links: How many there are, refused ones that the peer has not detached included.
        sessions: How many there are.
    """

    __slots__ = ("_links_max", "_sessions_max", "links", "sessions")

    def __init__(self, settings: Settings) -> None:
        self.links = self.sessions = 0
        self._links_max = settings.max_links
        self._sessions_max = settings.max_sessions

    def look(self, links: int, sessions: int) -> Condition | None:
        """A connection has made one more, and has so many; why that is too much, or None."""
        if self.links > self._links_max and links > LINKS_FREE:
            text = f"all connections have {self._links_max} links at most"
            return Condition(LIMIT_EXCEEDED, text, {"limit-links": self._links_max})
        if self.sessions > self._sessions_max and sessions > SESSIONS_FREE:
            text = f"all connections have {self._sessions_max} sessions at most"
            return Condition(LIMIT_EXCEEDED, text, {"limit-sessions": self._sessions_max})
        return None


class Holding:
    """What one connection has of them."""

    __slots__ = ("_links", "_sessions", "_shared")

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._links = self._sessions = 0

    def count(self, links: int, sessions: int) -> Condition | None:
        """There are so many now; why that is too much, or None."""
        more = links > self._links or sessions > self._sessions
        self._shared.links += links - self._links
        self._shared.sessions += sessions - self._sessions
        self._links, self._sessions = links, sessions
        return self._shared.look(links, sessions) if more else None

    def leave(self) -> None:
        """The connection is gone."""
        self.count(0, 0)
