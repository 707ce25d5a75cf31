"""Regular work on a node: its own progress; the heartbeat and retention on one node for all."""

from typing import cast

from typing_extensions import override

from hotpath.cluster.service.neighbours import Neighbours
from hotpath.cluster.service.rights import KEEPER
from hotpath.cluster.service.topics import FollowedTopics
from hotpath.model.names import TopicKey
from hotpath.service.upkeep import Upkeep


class SharedUpkeep(Upkeep):
    """The owner of the first shard does what is to be done once."""

    def connect(self, neighbours: Neighbours) -> None:
        """Name the other nodes; before the start."""
        self._neighbours = neighbours

    @override
    def _counts(self) -> bool:
        return self._neighbours.serves(KEEPER)

    @override
    async def _drop_old(self) -> dict[TopicKey, int]:
        if self._neighbours.serves(KEEPER):
            await super()._drop_old()
        topics = cast("FollowedTopics", self._topics)
        await topics.leave_idle()
        return await topics.refresh()
