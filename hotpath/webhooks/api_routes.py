"""The table of the Streaming API's operations."""

from typing import Final

from hotpath.auth.rights import Permission
from hotpath.model.names import Topic
from hotpath.rest.calls import Guard, Responder, Route
from hotpath.rest.models import AcceptedResponse
from hotpath.webhooks.api import BASE, StreamCalls
from hotpath.webhooks.api_deliveries import DeliveryCalls
from hotpath.webhooks.api_openapi import Text, describe
from hotpath.webhooks.api_points import ValueCalls
from hotpath.webhooks.api_reading import StreamServices
from hotpath.webhooks.models import (
    DeadLetterPage,
    DeliveryPage,
    PointPage,
    PointsRequest,
    RedriveRequest,
    RedriveResponse,
    RotateRequest,
    StreamPage,
    StreamRequest,
    StreamResource,
    TestResponse,
)

_STREAMS: Final = f"{BASE}/streams"
_ONE: Final = f"{_STREAMS}/{{streamId}}"

_CREATE: Final = Text(
    "Register a webhook for points",
    201,
    StreamResource,
    StreamRequest,
    kind_required=True,
    addition=False,
)
_LIST: Final = Text(
    "List own streams", 200, StreamPage, paged=True, kind_required=True, addition=False
)
_POINTS: Final = Text(
    "List the points of a stream", 200, PointPage, paged=True, kind_required=True, addition=False
)
_ADD: Final = Text(
    "Add points to a stream",
    200,
    StreamResource,
    PointsRequest,
    kind_required=True,
    addition=False,
)
_REMOVE: Final = Text(
    "Remove points from a stream",
    200,
    StreamResource,
    PointsRequest,
    kind_required=True,
    addition=False,
)
_DELETE: Final = Text("Delete a stream", 204, None, kind_required=True, addition=False)
_SHOW: Final = Text("Show a stream", 200, StreamResource, kind_required=True)
_TEST: Final = Text("Send a sample event now", 200, TestResponse, kind_required=False)
_HISTORY: Final = Text(
    "List the last attempts to deliver", 200, DeliveryPage, paged=True, kind_required=False
)
_DEAD: Final = Text(
    "List the events that were given up", 200, DeadLetterPage, paged=True, kind_required=False
)
_REDRIVE: Final = Text(
    "Send dead letters once more",
    202,
    RedriveResponse,
    RedriveRequest,
    body_required=False,
    kind_required=False,
)
_ROTATE: Final = Text(
    "Sign with a new secret", 200, StreamResource, RotateRequest, kind_required=False
)
_VALUES: Final = Text("Publish values of points", 202, AcceptedResponse)


def stream_routes(services: StreamServices) -> list[Route]:
    """The operations on streams and values."""
    streams, deliveries = StreamCalls(services), DeliveryCalls(services)
    values = ValueCalls(services)
    return [
        _route("POST", _STREAMS, "createStream", streams.create, _CREATE),
        _route("GET", _STREAMS, "listStreams", streams.list_own, _LIST),
        _route("GET", _ONE, "showStream", streams.show, _SHOW),
        _route("DELETE", _ONE, "deleteStream", streams.delete, _DELETE),
        _route("GET", f"{_ONE}/entities", "listStreamPoints", streams.list_points, _POINTS),
        _route("PUT", f"{_ONE}/entities", "addStreamPoints", streams.add_points, _ADD),
        _route("DELETE", f"{_ONE}/entities", "removeStreamPoints", streams.remove_points, _REMOVE),
        _route("POST", f"{_ONE}/test", "testStream", deliveries.test, _TEST),
        _route("GET", f"{_ONE}/deliveries", "listDeliveries", deliveries.history, _HISTORY),
        _route("GET", f"{_ONE}/dead-letters", "listDeadLetters", deliveries.dead_letters, _DEAD),
        _route(
            "POST",
            f"{_ONE}/dead-letters/redrive",
            "redriveDeadLetters",
            deliveries.redrive,
            _REDRIVE,
        ),
        _route("POST", f"{_ONE}/secret/rotate", "rotateSecret", streams.rotate, _ROTATE),
        _route("POST", f"{BASE}/points/values", "publishValues", values.publish, _VALUES),
    ]


def _route(method: str, path: str, name: str, responder: Responder, text: Text) -> Route:
    publishes = name == "publishValues"
    permission = Permission.PUBLISH if publishes else Permission.SUBSCRIBE
    return Route(
        method,
        path,
        name,
        responder,
        Guard.FLOW if publishes else Guard.CONTROL,
        permission,
        (Topic.POINTS,),
        topic=Topic.POINTS,
        document=describe(name, path, text, permission),
    )
