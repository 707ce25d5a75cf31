"""Webhook streams as they are stored: a subscription whose receiver is an HTTPS endpoint."""

from dataclasses import dataclass
from enum import StrEnum

from hotpath.model.names import SubscriptionId, TenantId, Topic, TopicKey


class StreamStatus(StrEnum):
    """How deliveries to a stream's endpoint go."""

    ACTIVE = "active"
    """Nothing is known to be wrong with it."""
    FAILING = "failing"
    """Several deliveries in a row have failed; the next one that succeeds makes it active."""
    DISABLED = "disabled"
    """Nothing is sent any more: the endpoint said so (410), or has failed for too long."""


@dataclass(frozen=True, slots=True)
class StreamSpec:
    """What a stream is. It changes by replacement; its points are kept apart (`Streams`)."""

    id: SubscriptionId
    """Also the id of the subscription behind it."""
    tenant: TenantId
    partition: str
    """The partition it was made in, as named in its path."""
    webhook_url: str
    created_ms: int
    updated_ms: int
    start_seq: int
    """First sequence number of the tenant's points log that can belong to it."""
    creator: str = ""
    """The principal's `sub`, for the audit trail."""
    condition: str | None = None
    """QEL that the creator's rights add (AND) to the choice of points, or None."""
    status: StreamStatus = StreamStatus.ACTIVE
    reason: str = ""
    """Why it is failing or disabled; empty while it is active."""
    status_ms: int = 0
    """When `status` last changed, wall clock."""

    @property
    def key(self) -> TopicKey:
        """The log it reads."""
        return TopicKey(self.tenant, Topic.POINTS)
