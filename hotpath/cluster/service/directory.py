"""Definitions of subscriptions, to be found by their shards, too."""

from collections.abc import Callable

from typing_extensions import override

from hotpath.model.names import SubscriptionId
from hotpath.model.subscription import SubscriptionSpec
from hotpath.service.directory import Directory


class ShardedDirectory(Directory):
    """All definitions, whoever serves them."""

    def __init__(self, shard_of: Callable[[str], int]) -> None:
        super().__init__()
        self._shard_of = shard_of
        self._by_shard: dict[int, dict[SubscriptionId, SubscriptionSpec]] = {}

    @override
    def put(self, spec: SubscriptionSpec) -> None:
        """Add a definition, or replace it by one that tells the same tenant and time."""
        super().put(spec)
        self._by_shard.setdefault(self._shard_of(spec.id), {})[spec.id] = spec

    @override
    def remove(self, identity: SubscriptionId) -> None:
        """Forget a definition, there or not."""
        super().remove(identity)
        self._by_shard.get(self._shard_of(identity), {}).pop(identity, None)

    def of_shard(self, shard: int) -> list[SubscriptionSpec]:
        """The definitions of a shard."""
        return list(self._by_shard.get(shard, {}).values())
