"""Serving shards: all parts of the service take them up, and let go of them, together."""

from collections.abc import Sequence, Set
from typing import Protocol

from hotpath.cluster.service.definitions import Definitions
from hotpath.model.names import SubscriptionId
from hotpath.ports import LogFailure, Recovered
from hotpath.service.commit import Committer
from hotpath.telemetry import Metrics, get_logger

_log = get_logger("hotpath.cluster.shards")


class ShardPart(Protocol):
    """A part of the service whose state is divided into shards."""

    async def take(self, shard: int, recovered: Recovered) -> set[str]:
        """Go on with a shard; the ids whose progress is this part's. Raises LogFailure."""
        ...

    def expect(self, shard: int, rest: Recovered) -> None:
        """There is progress of what is not known yet, and may be this part's."""
        ...

    def close_feeds(self, shard: int) -> None:
        """Hand out nothing more of a shard, and send its receivers away."""
        ...

    def start(self, shard: int) -> None:
        """Hand out what a shard has, from now on or again."""
        ...

    def pause(self, shard: int) -> None:
        """Hand out nothing of a shard until `start`."""
        ...

    def let_go(self, shard: int) -> None:
        """Forget a shard at once; one that is not taken is passed over."""
        ...


class ShardServing:
    """Serves the shards of this node; a `hotpath.cluster.serving.Serving`."""

    def __init__(self) -> None:
        self._parts: Sequence[ShardPart] = ()

    def connect(
        self,
        parts: Sequence[ShardPart],
        *,
        definitions: Definitions,
        committer: Committer,
        metrics: Metrics,
    ) -> None:
        """Name the parts; before the first shard."""
        self._parts = parts
        self._definitions = definitions
        self._committer = committer
        self._metrics = metrics

    async def begin(self, shard: int, recovered: Recovered) -> None:
        """Serve a shard from now on. Raises LogFailure."""
        for damage in recovered.damage:
            _log.error("log damaged", extra={"what": damage})
            self._metrics.log_damage.inc()
        is_all_known = await self._definitions.is_up_to_date()
        known: set[str] = set()
        for part in self._parts:
            known |= await part.take(shard, recovered)
        unknown = (recovered.progress.keys() | recovered.dead.keys()) - known
        if is_all_known:
            for identity in unknown:
                self._committer.forget(identity)
            return
        # Their records may be on their way.
        rest = _part_of(recovered, unknown)
        for part in self._parts:
            part.expect(shard, rest)

    async def end(self, shard: int) -> None:
        """Stop serving a shard; what was handed in for it is durable."""
        # First what is on its way, so that it can be confirmed to those who wait.
        await self._settled()
        for part in self._parts:
            part.close_feeds(shard)
        await self._settled()
        self.drop(shard)

    async def _settled(self) -> None:
        try:
            await self._committer.settled()
        except LogFailure as failure:
            _log.warning("not all is durable", extra={"reason": failure.detail})

    def send_away(self, shard: int) -> None:
        """Let the receivers of a shard go to another node; it is not given up yet."""
        for part in self._parts:
            part.close_feeds(shard)

    def drop(self, shard: int) -> None:
        """The shard is another node's: forget it at once."""
        for part in self._parts:
            part.let_go(shard)

    def pause(self, shard: int) -> None:
        """Hand out nothing of a shard until `resume`."""
        for part in self._parts:
            part.pause(shard)

    def resume(self, shard: int) -> None:
        """Go on with a shard."""
        for part in self._parts:
            part.start(shard)


def _part_of(recovered: Recovered, names: Set[SubscriptionId]) -> Recovered:
    """What is known of some subscriptions."""
    return Recovered(
        progress={name: each for name, each in recovered.progress.items() if name in names},
        dead={name: each for name, each in recovered.dead.items() if name in names},
        dead_sizes={name: each for name, each in recovered.dead_sizes.items() if name in names},
    )
