"""What happens to shards on a node, for its logs and metrics."""

from dataclasses import dataclass
from enum import StrEnum


class Happened(StrEnum):
    """What has happened to a shard here."""

    TAKEN = "taken"
    GIVEN = "given"
    LOST = "lost"
    PAUSED = "paused"
    RESUMED = "resumed"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class OwnershipEvent:
    """One thing that happened to one shard."""

    what: Happened
    shard: int
    epoch: int
    detail: str = ""
