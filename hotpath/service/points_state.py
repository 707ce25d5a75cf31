"""What is known of each point, and the event that a new value makes of it.

A synchronous state machine without clock or IO. A value is applied in the order of the log:

    the point is new                     changed 1, becomes the latest
    at or after the latest timestamp     changed 1 if the value differs, becomes the latest
    before the latest timestamp          changed as compared with the latest, which stays

`PointTable` is the state of one tenant as the log holds it. What has been composed for a commit that
is not durable yet is in `Tentative`, on top of it, so that a commit that fails leaves no trace.
"""

import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final, NamedTuple

from hotpath.service.points_read import PointValue, number_text
from hotpath.wire.encoder import encode, encode_binary, encode_map
from hotpath.wire.jsonbody import encode_json
from qel import parse_datetime

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

_APPLICATION_PROPERTIES: Final = b"\x00\x53\x74"
_DATA: Final = b"\x00\x53\x75"
#: The section that every message begins with: it names the content type.
_PROPERTIES: Final = encode_json(b"", {}).removesuffix(_DATA + encode_binary(b""))
_ID_KEY: Final = encode("id")
_PARTITION_KEY: Final = encode("partitionId")


class PointState(NamedTuple):
    """What is known of one point."""

    created_ms: int
    """Timestamp of its first value."""
    at_ms: int
    """Timestamp of its latest value."""
    value: str
    """Its latest value."""


class Event(NamedTuple):
    """A value as receivers get it."""

    id: str
    value: str
    quality: int | float
    changed: int
    created_ms: int
    at_ms: int

    def body(self) -> str:
        """The JSON text that is stored and sent."""
        return (
            f'{{"changed":{self.changed},"createdAt":"{iso(self.created_ms)}",'
            f'"id":{json.dumps(self.id)},"lastUpdatedAt":"{iso(self.at_ms)}",'
            f'"qualityOfValue":{number_text(self.quality)},"value":{json.dumps(self.value)}}}'
        )

    def stored(self, partition: str) -> bytes:
        """The message of the points log."""
        named = encode_map([_ID_KEY, encode(self.id), _PARTITION_KEY, _encoded(partition)])
        body = encode_binary(self.body().encode())
        return b"".join((_PROPERTIES, _APPLICATION_PROPERTIES, named, _DATA, body))


def advance(state: PointState | None, value: PointValue) -> tuple[PointState, Event]:
    """Apply a value; the state after it, and the event it makes."""
    if state is None:
        fresh = PointState(value.at_ms, value.at_ms, value.value)
        return fresh, Event(value.id, value.value, value.quality, 1, value.at_ms, value.at_ms)
    changed = int(value.value != state.value)
    event = Event(value.id, value.value, value.quality, changed, state.created_ms, value.at_ms)
    if value.at_ms < state.at_ms:
        return state, event
    return PointState(state.created_ms, value.at_ms, value.value), event


def replay(state: PointState | None, event: Event) -> PointState:
    """Apply an event of the log again, at a restart."""
    value = PointValue(event.id, event.value, event.quality, event.at_ms)
    if state is None:
        return PointState(event.created_ms, event.at_ms, event.value)
    return advance(state, value)[0]


def read_event(body: bytes) -> Event | None:
    """The event that a stored body is, or None when it is none."""
    try:
        found = json.loads(body)
        return Event(
            str(found["id"]),
            str(found["value"]),
            found["qualityOfValue"],
            int(found["changed"]),
            _milliseconds(found["createdAt"]),
            _milliseconds(found["lastUpdatedAt"]),
        )
    except (ValueError, TypeError, KeyError, RecursionError):
        return None


def _milliseconds(text: object) -> int:
    moment = parse_datetime(str(text))
    if moment is None:
        raise ValueError("no dateTime")
    return int(moment) // 1_000_000


def iso(wall_ms: int) -> str:
    """A wall-clock time as ISO 8601 text in UTC with milliseconds."""
    seconds, milliseconds = divmod(wall_ms, 1000)
    return f"{_second(seconds)}.{milliseconds:03d}Z"


_encoded: Final = lru_cache(maxsize=1024)(encode)


@lru_cache(maxsize=1024)
def _second(seconds: int) -> str:
    # Not `fromtimestamp`, whose range is the platform's.
    return (_EPOCH + timedelta(seconds=seconds)).replace(tzinfo=None).isoformat()


class PointTable:
    """The points of one tenant.

    Attributes:
        states: By key (see `key_of`).
        through: The log's messages of a point below this are in its state.
        dirty: Points whose state the store does not have.
    """

    __slots__ = ("dirty", "states", "tenant", "through")

    def __init__(self, tenant: str) -> None:
        self.tenant = tenant
        self.states: dict[str, PointState] = {}
        self.through: dict[str, int] = {}
        self.dirty: dict[str, None] = {}

    def key_of(self, partition: str, point: str) -> str:
        """Names a point of a partition; those of the tenant's own one by their id alone."""
        # Neither part can hold a line break.
        return point if partition == self.tenant else f"{partition}\n{point}"

    def take(self, key: str, state: PointState, *, through: int) -> None:
        """Take over a state that the log holds; `through` is behind the last value in it."""
        self.states[key] = state
        self.through[key] = through
        self.dirty[key] = None

    def replay(self, partition: str, event: Event, seq: int) -> None:
        """Take in an event that the log holds, unless it is in the state already."""
        key = self.key_of(partition, event.id)
        if seq >= self.through.get(key, 0):
            self.take(key, replay(self.states.get(key), event), through=seq + 1)


class Tentative:
    """The states that commits on their way would make, on top of those that are durable."""

    __slots__ = ("_points", "_states")

    def __init__(self, points: PointTable) -> None:
        self._points = points
        self._states: dict[str, PointState] = {}

    def compose(
        self, partition: str, values: Iterable[PointValue]
    ) -> tuple[list[bytes], dict[str, PointState]]:
        """The messages of some values, and the states of their points after them."""
        points, ahead = self._points, self._states
        messages: list[bytes] = []
        after: dict[str, PointState] = {}
        for value in values:
            key = points.key_of(partition, value.id)
            before = ahead.get(key) or points.states.get(key)
            state, event = advance(before, value)
            ahead[key] = after[key] = state
            messages.append(event.stored(partition))
        return messages, after

    def settle(self, after: dict[str, PointState], *, through: int | None) -> None:
        """The commit of some values has ended: it is durable below `through`, or (None) failed."""
        for key, state in after.items():
            if self._states.get(key) is state:
                del self._states[key]
            if through is not None:
                self._points.take(key, state, through=through)
