"""Definitions as flat records, and back: the only place that knows both shapes."""

from typing import Final, cast

from hotpath.auth.sas import SigningKey
from hotpath.model.names import PublisherId, SubscriptionId, TenantId, Topic
from hotpath.model.subscription import PublisherSpec, SubscriptionSpec

SUBSCRIPTIONS: Final = "subscriptions"
PUBLISHERS: Final = "publishers"
KEYS: Final = "keys"

Record = dict[str, object]


def subscription_record(spec: SubscriptionSpec) -> Record:
    """A subscription as a record."""
    return {
        "id": spec.id,
        "tenant": spec.tenant,
        "topic": spec.topic.value,
        "filter": spec.filter,
        "condition": spec.condition,
        "ttl_ms": spec.ttl_ms,
        "sas_ttl_ms": spec.sas_ttl_ms,
        "start_seq": spec.start_seq,
        "created_ms": spec.created_ms,
        "creator": spec.creator,
        "ttl_minutes": spec.ttl_minutes,
        "sas_ttl_minutes": spec.sas_ttl_minutes,
        "generation": spec.generation,
    }


def read_subscription(record: Record) -> SubscriptionSpec:
    """A record as a subscription. Raises KeyError, TypeError or ValueError when it is none."""
    condition = record["condition"]
    return SubscriptionSpec(
        id=SubscriptionId(str(record["id"])),
        tenant=TenantId(str(record["tenant"])),
        topic=Topic(str(record["topic"])),
        filter=str(record["filter"]),
        condition=None if condition is None else str(condition),
        ttl_ms=_integer(record["ttl_ms"]),
        sas_ttl_ms=_integer(record["sas_ttl_ms"]),
        start_seq=_integer(record["start_seq"]),
        created_ms=_integer(record["created_ms"]),
        creator=str(record["creator"]),
        ttl_minutes=_number(record["ttl_minutes"]),
        sas_ttl_minutes=_number(record["sas_ttl_minutes"]),
        # Records of the first release have none.
        generation=_integer(record.get("generation") or 0),
    )


def publisher_record(spec: PublisherSpec) -> Record:
    """A publisher as a record."""
    return {
        "id": spec.id,
        "tenant": spec.tenant,
        "topic": spec.topic.value,
        "created_ms": spec.created_ms,
        "expires_ms": spec.expires_ms,
        "creator": spec.creator,
    }


def read_publisher(record: Record) -> PublisherSpec:
    """A record as a publisher. Raises KeyError, TypeError or ValueError when it is none."""
    return PublisherSpec(
        id=PublisherId(str(record["id"])),
        tenant=TenantId(str(record["tenant"])),
        topic=Topic(str(record["topic"])),
        created_ms=_integer(record["created_ms"]),
        expires_ms=_integer(record["expires_ms"]),
        creator=str(record["creator"]),
    )


def _integer(value: object) -> int:
    return int(cast("int", value))


def _number(value: object) -> float:
    return float(cast("float", value))


def key_record(key: SigningKey) -> Record:
    """A signing key as a record."""
    return {
        "id": key.name,
        "secret": key.secret,
        "tenant": key.tenant,
        "created_ms": key.created_ms,
    }


def read_retired_ms(record: Record) -> int | None:
    """When a key was retired; None for one that counts. Raises TypeError or ValueError."""
    retired_ms = record.get("retired_ms")
    return None if retired_ms is None else _integer(retired_ms)


def read_key(record: Record) -> SigningKey:
    """A record as a signing key. Raises KeyError, TypeError or ValueError when it is none."""
    tenant = record["tenant"]
    return SigningKey(
        str(record["id"]),
        str(record["secret"]),
        tenant=None if tenant is None else TenantId(str(tenant)),
        created_ms=_integer(record["created_ms"]),
    )
