"""Taking tokens back before they end: those of a subscription, or of a publisher.

Both are durable before the caller is answered. Edges are told by `on_revoked` and ask
`Access.is_revoked` which of the grants they hold are meant.
"""

import asyncio
from collections.abc import Callable
from dataclasses import replace

from hotpath.auth.rights import Principal
from hotpath.model.errors import NotFound, Unavailable
from hotpath.model.names import PublisherId, Topic
from hotpath.model.subscription import SubscriptionSpec
from hotpath.ports import LogFailure, RecordStore
from hotpath.service import records
from hotpath.service.admin import Administration
from hotpath.service.publishers import Publishers


class Revoking:
    """Revokes tokens.

    Attributes:
        on_revoked: Called after each revocation, in the event loop.
    """

    def __init__(self, admin: Administration, publishers: Publishers, store: RecordStore) -> None:
        self.on_revoked: Callable[[], None] = lambda: None
        self._admin = admin
        self._publishers = publishers
        self._store = store
        # One at a time: each must count from the generation that the one before has made.
        self._turn = asyncio.Lock()

    async def revoke_subscription(
        self, principal: Principal, topic: Topic, identity: str
    ) -> SubscriptionSpec:
        """Make every token issued so far for a subscription worthless; it goes on to exist.

        Raises NotFound or Unavailable.
        """
        return await self.revoke(self._admin.get(principal, topic, identity))

    async def revoke(self, spec: SubscriptionSpec) -> SubscriptionSpec:
        """As `revoke_subscription`. Raises NotFound or Unavailable."""
        async with self._turn:
            spec = self._admin.directory.get(spec.id) or spec
            revoked = replace(spec, generation=spec.generation + 1)
            await self._put(revoked)
            if self._admin.directory.get(spec.id) is None:
                # It was deleted meanwhile, and must not come back at the next start.
                await self._delete(records.SUBSCRIPTIONS, spec.id)
                raise NotFound(f"there is no subscription {spec.id}")
            self._admin.redefine(revoked)
        self.on_revoked()
        return revoked

    async def delete_publisher(self, principal: Principal, topic: Topic, identity: str) -> None:
        """End a publisher of the caller's tenant, with its token. Raises NotFound, Unavailable."""
        publisher = self._publishers.get(identity)
        if publisher is None or (publisher.tenant, publisher.topic) != (principal.tenant, topic):
            raise NotFound(f"there is no publisher {identity}")
        await self._delete(records.PUBLISHERS, publisher.id)
        self._publishers.forget(PublisherId(identity))
        self.on_revoked()

    async def _put(self, spec: SubscriptionSpec) -> None:
        try:
            await self._store.put(records.SUBSCRIPTIONS, spec.id, records.subscription_record(spec))
        except LogFailure as failure:
            raise Unavailable("the store cannot be written now; try again later") from failure

    async def _delete(self, kind: str, key: str) -> None:
        try:
            await self._store.delete(kind, [key])
        except LogFailure as failure:
            raise Unavailable("the store cannot be written now; try again later") from failure
