"""What a client of the service can meet.

    ClientError
    ├── Unreachable    nobody answers at an address
    ├── Refused        the REST side answered with errors; `problems` has each of them
    ├── Detached       an AMQP link or connection was refused or ended by the service
    ├── MessageRefused the service did not accept a message
    └── Gone           the subscription does not exist any more

Anything else that leaves this package is a bug.
"""

from dataclasses import dataclass, field

from typing_extensions import override

UNAUTHORIZED = "amqp:unauthorized-access"
NOT_FOUND = "amqp:not-found"
RESOURCE_DELETED = "amqp:resource-deleted"


class ClientError(Exception):
    """Base of all errors of the client."""


class Unreachable(ClientError):
    """No connection to an address, or it broke; trying again may help."""

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(f"cannot reach {address}: {reason}")
        self.address = address
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Problem:
    """One entry of a `ServiceErrors` body."""

    title: str
    detail: str
    meta: dict[str, object] = field(default_factory=dict)


class Refused(ClientError):
    """A REST call was answered with an error status."""

    def __init__(self, status: int, problems: list[Problem], *, request_id: str = "") -> None:
        details = "\n".join(each.detail for each in problems)
        super().__init__(details or f"the service answered {status}")
        self.status = status
        self.problems = problems
        self.request_id = request_id


@dataclass(frozen=True, slots=True)
class Condition:
    """An AMQP error condition (amqp-core-transport-v1.0 §2.8.14)."""

    name: str
    description: str = ""

    @override
    def __str__(self) -> str:
        return f"{self.description} ({self.name})" if self.description else self.name


class Detached(ClientError):
    """The service refused or ended a link or the connection."""

    def __init__(self, condition: Condition) -> None:
        super().__init__(str(condition))
        self.condition = condition


class MessageRefused(ClientError):
    """The service settled a message with another outcome than accepted."""

    def __init__(self, reference: object, outcome: str, condition: Condition | None) -> None:
        why = f": {condition}" if condition else ""
        super().__init__(f"the service {outcome} the message{why}")
        self.reference = reference
        self.outcome = outcome
        self.condition = condition


class Gone(ClientError):
    """The subscription does not exist any more: deleted, or reaped for idleness."""
