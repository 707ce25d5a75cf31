"""Rights to publish over AMQP: creating, finding and forgetting them."""

from hotpath.auth.rights import Principal
from hotpath.config import Settings
from hotpath.model.chance import random_uuid
from hotpath.model.errors import LimitReached, Unavailable
from hotpath.model.names import PublisherId, TenantId, Topic
from hotpath.model.subscription import PublisherSpec
from hotpath.ports import Clock, LogFailure, RecordStore
from hotpath.service import records
from hotpath.telemetry import get_logger

#: A publisher whose token ended so long ago is forgotten, milliseconds.
ENDED_MS = 60_000
#: So many are forgotten at once.
DROPPED_MAX = 100

_log = get_logger("hotpath.publishers")


class Publishers:
    """All publishers that have not been revoked."""

    def __init__(self, *, settings: Settings, store: RecordStore, clock: Clock) -> None:
        self._settings = settings
        self._store = store
        self._clock = clock
        self._publishers: dict[PublisherId, PublisherSpec] = {}
        self._counts: dict[TenantId, int] = {}

    async def resume(self) -> None:
        """Bring back all that the store knows. Raises LogFailure."""
        for record in await self._store.load(records.PUBLISHERS):
            try:
                publisher = records.read_publisher(record)
            except (KeyError, TypeError, ValueError):
                _log.exception("publisher unreadable", extra={"publisher": record.get("id")})
                continue
            self._add(publisher)

    async def open(
        self, principal: Principal, topic: Topic, *, ttl_minutes: float
    ) -> PublisherSpec:
        """Create a right to publish over AMQP until its token ends.

        Raises LimitReached or Unavailable.
        """
        await self._drop_ended()
        limit = self._settings.publishers_per_tenant_max
        if self._counts.get(principal.tenant, 0) >= limit:
            raise LimitReached("this tenant has as many publishers as are allowed")
        now_ms = self._clock.now_ms()
        spec = PublisherSpec(
            id=PublisherId(random_uuid()),
            tenant=principal.tenant,
            topic=topic,
            created_ms=now_ms,
            expires_ms=now_ms + self._settings.minutes_ms(ttl_minutes),
            creator=principal.subject,
        )
        try:
            await self._store.put(records.PUBLISHERS, spec.id, records.publisher_record(spec))
        except LogFailure as failure:
            raise Unavailable("the store cannot be written now; try again later") from failure
        self._add(spec)
        return spec

    def get(self, identity: str) -> PublisherSpec | None:
        """A publisher that has not been revoked, or None."""
        return self._publishers.get(PublisherId(identity))

    def forget(self, identity: PublisherId) -> None:
        """A publisher's record is gone, and with it the publisher."""
        gone = self._publishers.pop(identity, None)
        if gone is None:
            return
        count = self._counts[gone.tenant] - 1
        if count:
            self._counts[gone.tenant] = count
        else:
            del self._counts[gone.tenant]

    async def _drop_ended(self) -> None:
        """Forget publishers whose tokens have ended some while ago."""
        horizon_ms = self._clock.now_ms() - ENDED_MS
        ended: list[PublisherId] = []
        for spec in self._publishers.values():
            if spec.expires_ms < horizon_ms:
                ended.append(spec.id)
            if len(ended) >= DROPPED_MAX:
                break
        if not ended:
            return
        try:
            await self._store.delete(records.PUBLISHERS, ended)
        except LogFailure as failure:
            _log.warning("old publishers not dropped", extra={"reason": failure.detail})
            return
        for identity in ended:
            self.forget(identity)

    def _add(self, spec: PublisherSpec) -> None:
        self._publishers[spec.id] = spec
        self._counts[spec.tenant] = self._counts.get(spec.tenant, 0) + 1
