"""What single clients need besides what AMQP says, by the properties of their open.

| Client | Need | What is done | Where |
| --- | --- | --- | --- |
| azure-servicebus for Python before 7.15 | every field of a performative, null or not | outgoing frames are filled up | `frames.fill` |
| azure-servicebus for Python | an error of a close with all its fields | the close is completed | `frames.complete_close` |
| @azure/service-bus for JavaScript | a message-id: without one it does not settle | one is made of the sequence number | `wire.identity` |

Nothing of this is done for a connection whose open names another product.
"""

from collections.abc import Mapping
from typing import Final

_PYTHON: Final = "azsdk-python"
#: From this release on it looks how many fields there are.
_PYTHON_CURED: Final = (7, 15)
_JAVASCRIPT: Final = "MSJSClient"


def needs_all_fields(properties: Mapping[str, object]) -> bool:
    """Whether the peer must be sent every field: azure-servicebus for Python before 7.15."""
    product = properties.get("product")
    if not isinstance(product, str) or not product.startswith(_PYTHON):
        return False
    return _version(properties.get("version")) < _PYTHON_CURED


def needs_message_ids(properties: Mapping[str, object]) -> bool:
    """Whether every message must have a message-id: @azure/service-bus.

    It keeps the timers of its lock renewal by message-id, and fails to settle a message without.
    """
    return properties.get("product") == _JAVASCRIPT


def _version(text: object) -> tuple[int, ...]:
    """The leading numbers of a version; () if there are none."""
    numbers: list[int] = []
    for part in str(text or "").split(".")[:2]:
        if not part.isascii() or not part.isdecimal() or len(part) > 9:
            break
        numbers.append(int(part))
    return tuple(numbers)
