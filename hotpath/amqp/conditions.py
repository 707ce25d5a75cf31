"""Errors as AMQP tells them: one table from what went wrong to a condition.

Every error that leaves carries a description and an info map that is not null: some clients index
all three fields without looking (amqp-core-transport-v1.0 §2.8.14).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from hotpath.amqp import capi
from hotpath.model.errors import (
    Forbidden,
    HotpathError,
    Invalid,
    LimitReached,
    LockLost,
    LogFull,
    NotFound,
    TooLarge,
    TooMany,
    Unauthorized,
    Unavailable,
    Unsupported,
)
from hotpath.wire.types import Symbol, encode

# AMQP 1.0 §2.8.15 to §2.8.18
UNAUTHORIZED: Final = "amqp:unauthorized-access"
NOT_FOUND: Final = "amqp:not-found"
NOT_ALLOWED: Final = "amqp:not-allowed"
NOT_IMPLEMENTED: Final = "amqp:not-implemented"
INVALID_FIELD: Final = "amqp:invalid-field"
DECODE_ERROR: Final = "amqp:decode-error"
INTERNAL_ERROR: Final = "amqp:internal-error"
LIMIT_EXCEEDED: Final = "amqp:resource-limit-exceeded"
RESOURCE_DELETED: Final = "amqp:resource-deleted"
MESSAGE_SIZE: Final = "amqp:link:message-size-exceeded"
TRANSFER_LIMIT: Final = "amqp:link:transfer-limit-exceeded"
CONNECTION_FORCED: Final = "amqp:connection:forced"
DETACH_FORCED: Final = "amqp:link:detach-forced"
# What Service Bus clients know besides
SERVER_BUSY: Final = "com.microsoft:server-busy"
MESSAGE_LOCK_LOST: Final = "com.microsoft:message-lock-lost"
MESSAGE_NOT_FOUND: Final = "com.microsoft:message-not-found"

#: Longest description that is sent, characters.
DESCRIPTION_MAX: Final = 1_000


@dataclass(frozen=True, slots=True)
class Condition:
    """An AMQP error: its condition, a description for people, and more in a map."""

    name: str
    description: str
    info: Mapping[str, object] = field(default_factory=dict)


class Refused(Exception):
    """What a peer asks for is refused for a reason that only AMQP has."""

    def __init__(self, condition: Condition) -> None:
        super().__init__(condition.description)
        self.condition = condition


#: From the class of an error to its condition, and to the status-code of a request's reply.
_BY_ERROR: Final[dict[type[HotpathError], tuple[str, int]]] = {
    HotpathError: (INTERNAL_ERROR, 500),
    Unauthorized: (UNAUTHORIZED, 401),
    Forbidden: (UNAUTHORIZED, 401),
    NotFound: (NOT_FOUND, 404),
    Invalid: (INVALID_FIELD, 400),
    TooLarge: (MESSAGE_SIZE, 413),
    TooMany: (SERVER_BUSY, 429),
    LimitReached: (LIMIT_EXCEEDED, 403),
    Unsupported: (NOT_IMPLEMENTED, 501),
    LockLost: (MESSAGE_LOCK_LOST, 410),
    Unavailable: (SERVER_BUSY, 503),
    LogFull: (LIMIT_EXCEEDED, 503),
}


def condition_of(error: HotpathError) -> Condition:
    """The condition that tells a peer about an error."""
    name, _ = _BY_ERROR[type(error)]
    info: dict[str, object] = {"code": error.code}
    match error:
        case TooLarge():
            info["limit-bytes"] = error.limit_bytes
        case TooMany():
            info["retry-after-ms"] = round(error.retry_after_s * 1000)
        case Forbidden(scope=str() as scope):
            info["scope"] = scope
        case _:
            pass
    return Condition(name, error.detail, info)


def status_of(error: HotpathError) -> int:
    """The status code with which a request that met an error is answered."""
    return _BY_ERROR[type(error)][1]


def ended_with(error: HotpathError) -> Condition:
    """Why a link ends that was accepted before; one that may come again is told to (§2.8.17)."""
    if isinstance(error, Unavailable):
        return Condition(DETACH_FORCED, error.detail, {"code": error.code})
    return condition_of(error)


def lock_lost() -> Condition:
    """The answer to a settlement that came too late."""
    return condition_of(
        LockLost("the lock had ended before the settlement came; the message comes again")
    )


def write(target: capi.ConditionPtr, condition: Condition) -> None:
    """Put a condition where Proton sends it from."""
    capi.condition_set_name(target, condition.name.encode("ascii"))
    text = condition.description[:DESCRIPTION_MAX]
    # A C string ends at its first zero.
    capi.condition_set_description(target, text.replace("\0", " ").encode("utf-8", "replace"))
    info = encode({Symbol(key): value for key, value in condition.info.items()})
    where = capi.condition_info(target)
    capi.data_clear(where)
    capi.data_decode(where, info, len(info))
