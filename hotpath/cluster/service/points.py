"""Values of points in a cluster: the owner of a tenant's points applies and logs all of them."""

import asyncio
from typing import Final

from typing_extensions import override

from hotpath.cluster.relay.frames import Damaged, write_items
from hotpath.cluster.relay.messages import as_int, as_list, as_text
from hotpath.cluster.service.neighbours import Neighbours
from hotpath.model.errors import HotpathError, Unavailable
from hotpath.model.message import Batch
from hotpath.model.names import TenantId, Topic, TopicKey
from hotpath.ports import Recovered
from hotpath.service.points import PointPublishing, Values
from hotpath.service.points_read import PointValue
from hotpath.service.publish import Published, Together
from hotpath.telemetry import get_logger

_SUBMIT: Final = "points"

_log = get_logger("hotpath.cluster.points")


class ShardedPoints(PointPublishing):
    """Takes values for the tenants whose points are this node's, and passes others on."""

    def connect(self, neighbours: Neighbours) -> None:
        """Name the other nodes; before the first value."""
        self._neighbours = neighbours
        self._ends: dict[TopicKey, int] = {}
        neighbours.answer(_SUBMIT, self._answer_submit)

    def note(self, batches: list[Batch]) -> None:
        """What this node has appended."""
        for batch in batches:
            if batch.topic.topic is Topic.POINTS:
                self._ends[batch.topic] = batch.end_seq

    @override
    def _through(self, key: TopicKey) -> int | None:
        return self._ends.get(key)

    def _shard(self, tenant: str) -> int:
        return self._neighbours.shard_of_topic(TopicKey(TenantId(tenant), Topic.POINTS))

    @override
    def submit(
        self, tenant: TenantId, partition: str, values: Values, done: Published, *, via: str
    ) -> None:
        """As alone."""
        if self._neighbours.serves(self._shard(tenant)):
            super().submit(tenant, partition, values, done, via=via)
            return
        task = asyncio.ensure_future(self._pass_on(tenant, partition, values, done, via=via))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _pass_on(
        self, tenant: TenantId, partition: str, values: Values, done: Published, *, via: str
    ) -> None:
        error: HotpathError | None = None
        try:
            rows = [list(value) for value in values]
            await self._neighbours.ask(self._shard(tenant), _SUBMIT, tenant, partition, via, rows)
        except HotpathError as fault:
            error = fault
        except Exception:  # noqa: BLE001 - the edge of the task
            _log.exception("values were not passed on")
            error = Unavailable("internal error")
        done(error)

    async def _answer_submit(self, _: int, items: list[object]) -> bytes:
        tenant, partition, via = (as_text(item) for item in items[:3])
        values = [_read_value(row) for row in as_list(items[3])]
        waiting = Together(1)
        super().submit(TenantId(tenant), partition, values, waiting.one_done, via=via)
        await waiting.all_done()
        return write_items()

    # Shards

    async def take(self, shard: int, recovered: Recovered) -> set[str]:
        """A tenant's points are read back at their first use."""
        del shard, recovered
        return set()

    def pause(self, shard: int) -> None:
        """Whoever asks, asks whether the shard is served."""

    def close_feeds(self, shard: int) -> None:
        """Nobody reads points from here."""

    def expect(self, shard: int, rest: Recovered) -> None:
        """There are no subscriptions here."""

    def start(self, shard: int) -> None:
        """Nobody waits here."""

    def let_go(self, shard: int) -> None:
        """Forget the points of a shard; what is not in the store is in the log."""
        gone = [tenant for tenant in self._tenants if self._shard(tenant) == shard]
        for tenant in gone:
            self.forget(tenant)
            self._ends.pop(TopicKey(tenant, Topic.POINTS), None)


def _read_value(row: object) -> PointValue:
    point, value, quality, at_ms = as_list(row)[:4]
    if isinstance(quality, bool) or not isinstance(quality, int | float):
        raise Damaged("a quality is no number")
    return PointValue(as_text(point), as_text(value), quality, as_int(at_ms))
