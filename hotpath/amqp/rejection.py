"""Why a receiver has rejected a message."""

from hotpath.amqp.conditions import Condition
from hotpath.service.settle import DESCRIPTION, REASON
from hotpath.wire.deadletter import simple_properties


def read_rejection(error: Condition | None) -> tuple[str, str, dict[str, object]]:
    """Reason, description and further properties of a rejection.

    Service Bus clients put reason and description into the error's info; others have a condition
    and a description of their own.
    """
    if error is None:
        return "", "", {}
    info = dict(error.info)
    reason = info.pop(REASON, None)
    description = info.pop(DESCRIPTION, None)
    if not isinstance(reason, str):
        reason = "" if error.name == "com.microsoft:dead-letter" else error.name
    if not isinstance(description, str):
        description = error.description
    return reason, description, simple_properties(info)
