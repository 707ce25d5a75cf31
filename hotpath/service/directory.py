"""All subscriptions that exist, by their definitions, whoever serves them."""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Collection

from hotpath.auth.rights import Principal
from hotpath.model.errors import Invalid, Violation
from hotpath.model.names import SubscriptionId, TenantId, Topic
from hotpath.model.subscription import SubscriptionSpec


class Directory:
    """Definitions by id, and by tenant in the order of their creation."""

    def __init__(self) -> None:
        self._specs: dict[SubscriptionId, SubscriptionSpec] = {}
        self._by_tenant: dict[TenantId, list[tuple[int, SubscriptionId]]] = {}

    def get(self, identity: str) -> SubscriptionSpec | None:
        """The definition, or None."""
        return self._specs.get(SubscriptionId(identity))

    def count(self, tenant: TenantId) -> int:
        """How many a tenant has."""
        return len(self._by_tenant.get(tenant, ()))

    def put(self, spec: SubscriptionSpec) -> None:
        """Add a definition, or replace it by one that tells the same tenant and time."""
        if spec.id not in self._specs:
            insort(self._by_tenant.setdefault(spec.tenant, []), (spec.created_ms, spec.id))
        self._specs[spec.id] = spec

    def remove(self, identity: SubscriptionId) -> None:
        """Forget a definition, there or not."""
        spec = self._specs.pop(identity, None)
        if spec is None:
            return
        own = self._by_tenant[spec.tenant]
        del own[bisect_left(own, (spec.created_ms, spec.id))]
        if not own:
            del self._by_tenant[spec.tenant]

    def page(
        self, principal: Principal, *, after: str | None, limit: int, topics: Collection[Topic]
    ) -> tuple[list[SubscriptionSpec], str | None]:
        """What the caller may see of its tenant's, oldest first, and where the next page begins.

        Raises Invalid when `after` is no mark of a page.
        """
        own = self._by_tenant.get(principal.tenant, [])
        start = 0 if after is None else bisect_right(own, _read_mark(after))
        page: list[SubscriptionSpec] = []
        for index in range(start, len(own)):
            spec = self._specs[own[index][1]]
            if spec.topic in topics and principal.sees(spec):
                if len(page) == limit:
                    return page, f"{page[-1].created_ms}.{page[-1].id}"
                page.append(spec)
        return page, None


def _read_mark(after: str) -> tuple[int, SubscriptionId]:
    """Where a page begins. Raises Invalid."""
    created, separator, identity = after.partition(".")
    if not separator or not created.isdecimal() or len(created) > 18:
        raise Invalid([Violation("cursor is not one that this service gave", pointer="/cursor")])
    return int(created), SubscriptionId(identity)
