"""Why a receiver has rejected a message."""

from hotpath.amqp import capi, codec
from hotpath.service.settle import DESCRIPTION, REASON
from hotpath.wire.deadletter import simple_properties
from hotpath.wire.types import WireError


def read_rejection(delivery: capi.DeliveryPtr) -> tuple[str, str, dict[str, object]]:
    """Reason, description and further properties of a rejection.

    Service Bus clients put reason and description into the error's info; others have a condition
    and a description of their own.
    """
    condition = capi.disposition_condition(capi.delivery_remote(delivery))
    try:
        info = codec.read_map(capi.condition_info(condition))
    except WireError:
        info = {}
    reason = info.pop(REASON, None)
    description = info.pop(DESCRIPTION, None)
    name = capi.condition_name(condition)
    if not isinstance(reason, str):
        reason = "" if name == "com.microsoft:dead-letter" else name
    if not isinstance(description, str):
        description = capi.condition_description(condition)
    return reason, description, simple_properties(info)
