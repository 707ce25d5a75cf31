"""What one measurement does: how many subscriptions, which filters, how large and how fast."""

from dataclasses import dataclass

from bench.errors import UsageError

OBJECTS_WITHOUT_SELECTION = 100
CONNECTIONS_MAX = 100
MATCH_EVERYTHING = "quality >= 0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """One point of the benchmark's grid."""

    fan_out: int
    """Subscriptions that each message matches."""
    subscriptions: int
    """Subscriptions in all; with more than ``fan_out`` each selects one object."""
    message_bytes: int
    """Size of the encoded message, all sections."""
    seconds: float
    """How long the publisher sends."""
    rate: float | None
    """Messages a second, or None for as many as the broker accepts."""
    window: int
    """Unsettled deliveries that the publisher allows itself."""
    credit: int
    """Link credit of each receiver."""
    connections: int
    """Connections that the receiving links are spread over."""
    settle: str
    """``second`` (both sides settle), ``first`` or ``delete``."""

    def __post_init__(self) -> None:
        """Refuse what cannot run.

        Raises:
            UsageError: If the numbers contradict each other.
        """
        if self.fan_out < 1 or self.subscriptions < self.fan_out:
            raise UsageError("subscriptions must be at least fan-out, and fan-out at least 1")
        if self.subscriptions % self.fan_out:
            raise UsageError("subscriptions must be a multiple of fan-out")
        if not 1 <= self.connections <= self.subscriptions:
            raise UsageError("connections must be between 1 and the number of subscriptions")

    @property
    def selective(self) -> bool:
        """Whether filters select objects, rather than match every message."""
        return self.subscriptions > self.fan_out

    @property
    def objects(self) -> int:
        """Distinct ``objectId`` values that are published, in turn."""
        return self.subscriptions // self.fan_out if self.selective else OBJECTS_WITHOUT_SELECTION

    @property
    def label(self) -> str:
        """A short name for tables."""
        parts = [f"fan-out {self.fan_out}", f"{self.message_bytes} B"]
        if self.selective:
            parts.append(f"{self.subscriptions} subscriptions")
        if self.rate is not None:
            parts.append(f"{self.rate:g}/s")
        return ", ".join(parts)

    def filter_of(self, index: int) -> str:
        """The QEL text of a subscription; exactly ``fan_out`` of them match any message."""
        if not self.selective:
            return MATCH_EVERYTHING
        return f"objectId = 'obj-{index % self.objects:08d}' AND {MATCH_EVERYTHING}"

    def connection_of(self, index: int) -> int:
        """The connection that a subscription's link uses: neighbours share, loads are equal."""
        return index * self.connections // self.subscriptions


def default_connections(subscriptions: int) -> int:
    """One connection a subscriber as in the field, up to a hundred."""
    return min(subscriptions, CONNECTIONS_MAX)
