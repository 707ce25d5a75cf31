"""What connections may take together, and what one may do before it has shown a token."""

from typing import Final

from hotpath.amqp.conditions import LIMIT_EXCEEDED, Condition
from hotpath.config import Settings

#: When all have too much unsent, one with less than this still gets up to it, bytes.
SHARE_BYTES: Final = 16_384
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
