"""Which node each shard belongs to: a pure function of who is there.

Every node computes the same answer from the same set of nodes, so nobody has to hand one out. Each
node gives each shard a score by a hash (rendezvous hashing), and the pairs are dealt out from the
highest score down; no node takes more than its share, so the numbers of any two nodes differ by
one at most. When a node comes or goes, what it takes or leaves moves, and little else: a shard
that is pushed out by the bound may push out another one.
"""

from collections.abc import Collection
from functools import lru_cache
from hashlib import blake2b
from typing import Final

from hotpath.clusterports import shard_of

#: Most shards there may be: their scores are made for every node.
SHARDS_MAX: Final = 4_096

__all__ = ["SHARDS_MAX", "assign", "shard_of"]


@lru_cache(maxsize=1_024)
def _scores(node: str, shards: int) -> tuple[int, ...]:
    """How much each shard belongs to a node."""
    made = (blake2b(f"{shard}/{node}".encode(), digest_size=8) for shard in range(shards))
    return tuple(int.from_bytes(each.digest(), "big") for each in made)


def assign(shards: int, nodes: Collection[str]) -> list[str | None]:
    """The node of each shard, by its number; None when there is no node at all.

    The order in which `nodes` come does not matter, and one named twice counts once.
    """
    owners: list[str | None] = [None] * shards
    names = sorted(set(nodes))
    if not names:
        return owners
    pairs = [
        (score, shard, name) for name in names for shard, score in enumerate(_scores(name, shards))
    ]
    pairs.sort(reverse=True)
    share = shards // len(names)
    held = dict.fromkeys(names, 0)
    # First to each its whole share, then the few that are left over, one to a node.
    for limit in (share, share + 1):
        for _, shard, name in pairs:
            if owners[shard] is None and held[name] < limit:
                owners[shard] = name
                held[name] += 1
    return owners
