"""The trace that a message or call carries: W3C Trace Context, level 1.

A message carries it in its application property `traceparent`, as the clients of the Service Bus
family write it; a call in the header of that name. `hotpath.tracing` makes spans of it.
"""

import re
from typing import Final

#: The header and the application property that name a trace.
TRACEPARENT: Final = "traceparent"

_SAMPLED: Final = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f][13579bdf]")


def is_sampled(traceparent: object) -> bool:
    """Whether a trace context is well-formed and asks to be recorded."""
    return isinstance(traceparent, str) and _SAMPLED.fullmatch(traceparent) is not None
