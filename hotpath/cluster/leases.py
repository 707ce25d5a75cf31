"""Leases: which node has which shard, in which epoch; one key a shard, JSON.

A lease does not end by itself: it is its holder's as long as the holder is there. Every taking
raises the epoch by a compare-and-set, so an epoch of a shard belongs to one node and one run of it.
"""

import json
from dataclasses import dataclass, replace
from typing import Final

from hotpath.clusterports import Coordination
from hotpath.ports import LogFailure

#: Keys of leases begin so; the shard's number follows.
SHARDS: Final = "shards."


@dataclass(frozen=True, slots=True)
class Lease:
    """What a shard's key says, and the key's revision."""

    node: str
    run: str
    epoch: int
    held: bool
    """False: its last holder has given it up; everything of it is durable."""
    revision: int = 0

    def write(self) -> bytes:
        """The value."""
        value = {"node": self.node, "run": self.run, "epoch": self.epoch, "held": self.held}
        return json.dumps(value).encode()

    def is_of(self, node: str, run: str) -> bool:
        """Whether this node has it, in this run."""
        return self.held and (self.node, self.run) == (node, run)


def read_lease(value: bytes, revision: int) -> Lease | None:
    """What a value says; None when it cannot be read."""
    try:
        read = json.loads(value)
        return Lease(
            str(read["node"]),
            str(read["run"]),
            int(read["epoch"]),
            read["held"] is True,
            revision,
        )
    except (ValueError, TypeError, KeyError):
        return None


def read_shard(key: str, shards: int) -> int | None:
    """The number of a lease's shard; None when the key names none."""
    number = key.removeprefix(SHARDS)
    if not number.isascii() or not number.isdecimal() or int(number) >= shards:
        return None
    return int(number)


class LeaseKeys:
    """The keys of leases, as the majority has them."""

    def __init__(self, coordination: Coordination) -> None:
        self._coordination = coordination

    async def read(self, shard: int) -> Lease | None:
        """What a lease says now; None when there is none. Raises LogFailure."""
        entry = await self._coordination.read(f"{SHARDS}{shard}")
        if entry is None:
            return None
        lease = read_lease(entry.value, entry.revision)
        if lease is None:
            raise LogFailure(f"the lease of shard {shard} cannot be read")
        return lease

    async def swap(self, shard: int, lease: Lease, *, revision: int) -> Lease | None:
        """Write a lease if its key has this revision; as it is then, or None.

        Raises LogFailure.
        """
        key = f"{SHARDS}{shard}"
        written = await self._coordination.swap(key, lease.write(), revision=revision)
        return None if written is None else replace(lease, revision=written)
