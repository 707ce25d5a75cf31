"""Bodies of the Streaming API as pydantic models: what validates is what `/openapi.json` shows.

Field names are those of the API, so that no alias stands between the two.
"""

from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, FailFast, Field

from hotpath.service.points_read import ID_CHARS_MAX
from hotpath.webhooks.target import URL_MAX

KIND: Final = "point-stream"
#: What `type` in the query may be: the public text writes it both ways.
KINDS: Final = (KIND, "point-streams")
PAGE_MAX: Final = 1_000
PAGE_DEFAULT: Final = 100
SECRET_CHARS_MAX: Final = 1_024
OVERLAP_SECONDS: Final = 86_400
OVERLAP_SECONDS_MAX: Final = 2_592_000

WebhookUrl = Annotated[
    str,
    Field(
        strict=True,
        min_length=1,
        max_length=URL_MAX,
        description="Where events go: an https URL whose host is public.",
        examples=["https://hooks.example.com/points"],
        json_schema_extra={"format": "webhook-url"},
    ),
]
PointId = Annotated[
    str,
    Field(
        strict=True,
        min_length=1,
        max_length=ID_CHARS_MAX,
        json_schema_extra={"format": "point-id"},
        examples=["88d45219-a0cf-4509-8f3d-84d15e6a9c44"],
    ),
]
PointIds = Annotated[
    list[PointId],
    # One fault is told: there may be as many as ids.
    FailFast(),
    Field(min_length=1, description="Ids of points; one that is named twice counts once."),
]
Secret = Annotated[
    str,
    Field(
        strict=True,
        min_length=1,
        max_length=SECRET_CHARS_MAX,
        description="Signs the deliveries; behind `whsec_` it is base64. It is never shown again.",
        json_schema_extra={"format": "webhook-secret", "writeOnly": True},
    ),
]
Moment = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
MaybeMoment = Annotated[str | None, Field(json_schema_extra={"format": "date-time"})]


class Model(BaseModel):
    """Base: unknown fields are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True)


# Requests


class StreamRequest(Model):
    """A stream to create."""

    webhookUrl: WebhookUrl  # noqa: N815 -- names of the API
    pointIds: PointIds  # noqa: N815
    webhookSecret: Secret | None = None  # noqa: N815


class PointsRequest(Model):
    """Points to add or remove."""

    pointIds: PointIds  # noqa: N815


class RotateRequest(Model):
    """A secret that takes over."""

    webhookSecret: Secret  # noqa: N815
    overlapSeconds: Annotated[  # noqa: N815
        float,
        Field(
            strict=True,
            ge=0,
            le=OVERLAP_SECONDS_MAX,
            allow_inf_nan=False,
            description="How long the old secret signs too.",
        ),
    ] = OVERLAP_SECONDS


class RedriveRequest(Model):
    """Dead letters to send once more."""

    ids: Annotated[
        list[Annotated[str, Field(strict=True, min_length=1, max_length=64)]] | None,
        Field(max_length=10_000, description="Which ones; without it, all."),
    ] = None


class PointValueRequest(Model):
    """A value of a point."""

    id: PointId
    value: Annotated[
        str | float | bool, Field(description="Sent as a string: `22`, `true`, the text itself.")
    ]
    qualityOfValue: Annotated[float, Field(description="0 is good.")] = 0  # noqa: N815
    timestamp: Annotated[
        str,
        Field(
            description="When it was measured, ISO 8601; now when it is missing.",
            json_schema_extra={"format": "date-time"},
        ),
    ] = ""


# Responses


class StreamAttributes(Model):
    """What a stream is and how it fares."""

    partitionId: str  # noqa: N815
    webhookUrl: str  # noqa: N815
    pointIds: list[str]  # noqa: N815
    status: Literal["active", "failing", "disabled"]
    statusReason: str | None = Field(  # noqa: N815
        default=None, description="Why it is failing or disabled; not there while it is active."
    )
    createdAt: Moment  # noqa: N815
    updatedAt: Moment  # noqa: N815


class StreamResource(Model):
    """A stream."""

    id: str
    type: Literal["point-stream"]
    attributes: StreamAttributes


class Links(Model):
    """Where a page is, and the next one."""

    self: str
    next: str | None = Field(description="null behind the last page.")


class StreamPage(Model):
    """A page of streams, oldest first."""

    data: list[StreamResource]
    links: Links


class PointResource(Model):
    """A point of a stream."""

    id: str
    type: Literal["point"]


class PointPage(Model):
    """A page of points, in the order of their ids."""

    data: list[PointResource]
    links: Links


class TestResponse(Model):
    """What became of a sample event."""

    __test__ = False  # No test case, whatever its name looks like.

    delivered: bool
    httpStatus: int | None = Field(description="null when there was no answer.")  # noqa: N815
    durationMs: int  # noqa: N815
    reason: str | None = Field(description="Why it was not delivered.")


class DeliveryResource(Model):
    """One attempt to deliver one event."""

    id: str
    eventId: str  # noqa: N815
    pointId: str  # noqa: N815
    attempt: int = Field(description="From 1.")
    status: str
    httpStatus: int | None  # noqa: N815
    durationMs: int  # noqa: N815
    reason: str | None
    at: Moment


class DeliveryPage(Model):
    """A page of attempts, newest first."""

    data: list[DeliveryResource]
    links: Links


class DeadLetterResource(Model):
    """An event that was given up."""

    id: str
    event: dict[str, object]
    reason: str
    attempts: int
    firstAttemptAt: MaybeMoment  # noqa: N815
    lastAttemptAt: MaybeMoment  # noqa: N815


class DeadLetterPage(Model):
    """A page of dead letters, oldest first."""

    data: list[DeadLetterResource]
    links: Links


class RedriveResponse(Model):
    """What a redrive has begun."""

    redriven: int = Field(description="How many events are sent once more.")


class ErrorSource(Model):
    """Where a call is wrong."""

    pointer: str | None = Field(default=None, description="JSON pointer into the body.")
    parameter: str | None = Field(default=None, description="Parameter of the query.")


class StreamError(Model):
    """One error (JSON:API 1.1)."""

    id: str = Field(description="Request id; finds the call in the service's log.")
    status: str = Field(description="The HTTP status.", examples=["400"])
    code: str = Field(examples=["BadRequest"])
    title: str = Field(examples=["Bad Request"])
    detail: str = Field(description="What is wrong, for people.")
    source: ErrorSource | None = None
    meta: dict[str, object] | None = None


class StreamErrors(Model):
    """All errors of a call."""

    errors: list[StreamError]
