"""Keys, publishers and revocations in a cluster: in force on every node when the caller is answered.

Changes of keys are made by the owner of the first shard, those of a subscription by its owner, so
that no two are made at once.
"""

from typing import Final

from typing_extensions import override

from hotpath.auth.rights import Principal
from hotpath.cluster.relay.frames import write_items
from hotpath.cluster.relay.messages import as_text
from hotpath.cluster.service.administration import ShardedAdministration
from hotpath.cluster.service.neighbours import Neighbours
from hotpath.clusterports import SharedRecordStore
from hotpath.model.errors import NotFound, Unavailable
from hotpath.model.names import PublisherId, Topic
from hotpath.model.subscription import PublisherSpec, SubscriptionSpec
from hotpath.ports import LogFailure
from hotpath.service import records
from hotpath.service.keys import FIRST_KEY, KeptKey, KeyRotation, new_key
from hotpath.service.publishers import Publishers
from hotpath.service.revoke import Revoking
from hotpath.telemetry import get_logger

#: Who makes changes of keys: the owner of this shard.
KEEPER: Final = 0

_ADD, _RETIRE, _REMOVE = "key.add", "key.retire", "key.remove"
_REVOKE: Final = "revoke"

_log = get_logger("hotpath.cluster.rights")


class SharedKeys(KeyRotation):
    """The signing keys of all nodes."""

    def connect(self, neighbours: Neighbours, store: SharedRecordStore) -> None:
        """Name the other nodes; before anything is changed."""
        self._neighbours = neighbours
        self._shared = store
        neighbours.answer(_ADD, self._answer_add)
        neighbours.answer(_RETIRE, self._answer_retire)
        neighbours.answer(_REMOVE, self._answer_remove)

    def share(self, store: SharedRecordStore) -> None:
        """Name the store that all nodes have; before `open`."""
        self._shared = store

    @override
    async def open(self) -> None:
        """As alone; of several nodes that start together one makes the first key."""
        await self._load()
        if not self._own() and FIRST_KEY not in self._kept:
            key = KeptKey(new_key(FIRST_KEY, None, self._clock.now_ms()))
            record = {**records.key_record(key.key), "retired_ms": None}
            await self._shared.create(records.KEYS, FIRST_KEY, record)
        await super().open()

    def changed(self, name: str, record: records.Record | None) -> None:
        """A key's record was written on some node."""
        before = self._kept.get(name)
        if record is None:
            self._kept.pop(name, None)
        else:
            kept = self._read(record)
            if kept is None:
                return
            self._kept[name] = kept
        self._fill_ring()
        after = self._kept.get(name)
        counted = before is not None and before.retired_ms is None
        if counted and (after is None or after.retired_ms is not None):
            self.on_retired()

    @override
    async def add(self, name: str | None, tenant: str | None) -> KeptKey:
        """As alone."""
        (made,) = await self._neighbours.ask(KEEPER, _ADD, name, tenant)
        return self._find(as_text(made))

    async def _answer_add(self, _: int, items: list[object]) -> bytes:
        name, tenant = (None if item is None else as_text(item) for item in items[:2])
        kept = await super().add(name, tenant)
        await self._neighbours.spread(self._shared.written)
        return write_items(kept.key.name)

    @override
    async def retire(self, name: str) -> KeptKey:
        """As alone."""
        await self._neighbours.ask(KEEPER, _RETIRE, name)
        return self._find(name)

    async def _answer_retire(self, _: int, items: list[object]) -> bytes:
        await super().retire(as_text(items[0]))
        await self._neighbours.spread(self._shared.written)
        return write_items()

    @override
    async def remove(self, name: str) -> None:
        """As alone."""
        await self._neighbours.ask(KEEPER, _REMOVE, name)

    async def _answer_remove(self, _: int, items: list[object]) -> bytes:
        await super().remove(as_text(items[0]))
        await self._neighbours.spread(self._shared.written)
        return write_items()


class SharedPublishers(Publishers):
    """The publishers of all nodes."""

    def connect(self, neighbours: Neighbours, store: SharedRecordStore) -> None:
        """Name the other nodes; before anything is changed."""
        self._neighbours = neighbours
        self._shared = store

    @override
    async def open(
        self, principal: Principal, topic: Topic, *, ttl_minutes: float
    ) -> PublisherSpec:
        """As alone; all nodes know it when this returns."""
        spec = await super().open(principal, topic, ttl_minutes=ttl_minutes)
        await self._neighbours.spread(self._shared.written)
        return spec

    def changed(self, identity: str, record: records.Record | None) -> bool:
        """A publisher's record was written on some node; whether one that was known is gone."""
        known = self.get(identity) is not None
        if record is None:
            self.forget(PublisherId(identity))
            return known
        if not known:
            try:
                self._add(records.read_publisher(record))
            except (KeyError, TypeError, ValueError):
                _log.exception("publisher unreadable", extra={"publisher": identity})
        return False


class SharedRevoking(Revoking):
    """Revokes tokens on all nodes."""

    def connect(self, neighbours: Neighbours, store: SharedRecordStore) -> None:
        """Name the other nodes; before anything is revoked."""
        self._neighbours = neighbours
        self._shared = store
        neighbours.answer(_REVOKE, self._answer_revoke)

    @override
    async def revoke_subscription(
        self, principal: Principal, topic: Topic, identity: str
    ) -> SubscriptionSpec:
        """As alone; in force on all nodes when this returns."""
        spec = self._admin.get(principal, topic, identity)
        await self._neighbours.ask(self._neighbours.shard_of(spec.id), _REVOKE, spec.id)
        return self._admin.get(principal, topic, identity)

    async def _answer_revoke(self, _: int, items: list[object]) -> bytes:
        admin = self._admin
        if not isinstance(admin, ShardedAdministration):
            raise NotFound("there is no subscription")
        spec = admin.live(as_text(items[0])).spec
        await self.revoke(spec)
        await self._neighbours.spread(self._shared.written)
        return write_items()

    @override
    async def delete_publisher(self, principal: Principal, topic: Topic, identity: str) -> None:
        """As alone; in force on all nodes when this returns."""
        await super().delete_publisher(principal, topic, identity)
        try:
            await self._neighbours.spread(self._shared.written)
        except LogFailure as failure:
            raise Unavailable(f"the cluster cannot be reached: {failure.detail}") from failure
