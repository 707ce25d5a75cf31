"""Platform events about streams, so that a subscription can watch for them."""

import json
from typing import Final
from uuid import uuid4

from hotpath.model.errors import HotpathError
from hotpath.model.names import Topic, TopicKey
from hotpath.model.stream import StreamStatus
from hotpath.ports import Clock
from hotpath.service.points_state import iso
from hotpath.service.publish import Publishing
from hotpath.service.stream import StatusChange
from hotpath.telemetry import get_logger
from hotpath.wire.jsonbody import encode_json

STATUS_CHANGED: Final = "stream.statusChanged"
VIA: Final = "service"

_SEVERITIES: Final = {
    StreamStatus.ACTIVE: "info",
    StreamStatus.FAILING: "warning",
    StreamStatus.DISABLED: "error",
}

_log = get_logger("hotpath.streams")


class StreamEvents:
    """Publishes them."""

    def __init__(self, publishing: Publishing, clock: Clock) -> None:
        self._publishing = publishing
        self._clock = clock

    def announce(self, change: StatusChange) -> None:
        """Publish a change of status, without waiting for it."""
        spec = change.spec
        event = {
            "eventType": STATUS_CHANGED,
            "eventTime": iso(self._clock.now_ms()),
            "severity": _SEVERITIES[spec.status],
            "streamId": spec.id,
            "partitionId": spec.partition,
            "status": spec.status.value,
            "reason": spec.reason,
            "previous": change.previous.value,
        }
        _log.info("stream status changed", extra={key: event[key] for key in _LOGGED})
        properties = {**event, "ability-messagetype": "platformEvent"}
        stored = encode_json(json.dumps(event).encode(), properties, message_id=str(uuid4()))

        def published(error: HotpathError | None) -> None:
            if error is not None:
                extra = {"stream": spec.id, "reason": error.detail}
                _log.error("status change not announced", extra=extra)

        key = TopicKey(spec.tenant, Topic.PLATFORM_EVENTS)
        self._publishing.submit(key, [stored], published, via=VIA)


_LOGGED: Final = ("streamId", "status", "previous", "reason")
