"""The wall clock, as people and tokens write it."""

import re
import time
from datetime import UTC, datetime
from typing import Final

_END: Final = re.compile(r"[& ]se=(\d{1,12})(?:&|$)")


def wall_ms() -> int:
    """Milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def wall_iso() -> str:
    """The present time in ISO 8601, UTC, with milliseconds."""
    return iso(wall_ms())


def iso(at_ms: float) -> str:
    """Milliseconds since the epoch in ISO 8601, UTC, with milliseconds."""
    moment = datetime.fromtimestamp(round(at_ms) / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def token_end_ms(token: str) -> int | None:
    """When a SAS token ends, wall clock; None when it does not say."""
    found = _END.search(token)
    return int(found[1]) * 1000 if found else None
