"""A message's three forms: as published, as stored, as delivered."""

from hotpath.wire.normal import BROKER_OWNED, normalise
from hotpath.wire.prefix import BrokerAnnotations, DeliveryPrefix, common_prefix
from hotpath.wire.stored import (
    StoredParts,
    due_ms,
    expires_ms,
    is_plain,
    may_expire,
    stored_parts,
    without_schedule,
)

__all__ = [
    "BROKER_OWNED",
    "BrokerAnnotations",
    "DeliveryPrefix",
    "StoredParts",
    "common_prefix",
    "due_ms",
    "expires_ms",
    "is_plain",
    "may_expire",
    "normalise",
    "stored_parts",
    "without_schedule",
]
