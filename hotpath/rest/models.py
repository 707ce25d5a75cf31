"""Requests and responses as pydantic models: what validates is what `/openapi.json` shows.

Field names are those of the API, so that no alias stands between the two.
"""

from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

TTL_MINUTES_MIN: Final = 5
TTL_MINUTES_MAX: Final = 43_200
PUBLISHER_TTL_MINUTES: Final = 60
PAGE_MAX: Final = 1_000
PAGE_DEFAULT: Final = 100
#: What `next` of a page looks like; empty for the first page.
CURSOR_PATTERN: Final = r"^([0-9]{1,18}\.[0-9a-f-]{36})?$"

SubscriptionType = Literal["platformEvents", "variables", "events", "alarms"]

# Strict: neither a boolean nor a numeric string is a number; NaN and Infinity are none either.
SasMinutes = Annotated[
    float,
    Field(
        strict=True,
        ge=TTL_MINUTES_MIN,
        allow_inf_nan=False,
        description="Life of the SAS token, minutes; fractions allowed.",
        examples=[60],
    ),
]
PublisherMinutes = Annotated[
    float,
    Field(
        strict=True,
        ge=TTL_MINUTES_MIN,
        le=TTL_MINUTES_MAX,
        allow_inf_nan=False,
        description="Life of the SAS token, minutes; fractions allowed.",
    ),
]
SubscriptionMinutes = Annotated[
    float,
    Field(
        strict=True,
        ge=TTL_MINUTES_MIN,
        le=TTL_MINUTES_MAX,
        allow_inf_nan=False,
        description="Idle time in minutes after which the subscription is deleted: no matching "
        "message and no connected client. Must be greater than sasTokenTTL.",
        examples=[120],
    ),
]
QelText = Annotated[
    str,
    Field(
        strict=True,
        description="QEL expression over the filterable properties of the type.",
        examples=["objectId = 'pump-7' AND quality >= 192"],
        json_schema_extra={"format": "qel", "minLength": 1},
    ),
]


class Model(BaseModel):
    """Base: unknown fields are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True)


# Requests


class SubscriptionRequest(Model):
    """A subscription to create."""

    subscriptionTTL: SubscriptionMinutes  # noqa: N815 -- names of the API
    sasTokenTTL: SasMinutes  # noqa: N815
    filter: QelText
    startFrom: Annotated[  # noqa: N815
        str | None,
        Field(
            strict=True,
            description='Addition: "now" (default), "earliest", or an ISO 8601 dateTime that is '
            "not in the future. What the log still holds, enqueued since then, and matches is "
            "delivered first.",
            examples=["now", "earliest", "2024-05-01T00:00:00Z"],
            json_schema_extra={"format": "start-from"},
        ),
    ] = None


class TokenRequest(Model):
    """Options of a fresh token for a subscription."""

    sasTokenTTL: Annotated[  # noqa: N815
        SasMinutes | None,
        Field(
            description="Life of this token, minutes: at least 5, below the subscription's TTL. "
            "Without it, the sasTokenTTL given at creation."
        ),
    ] = None


class PublisherRequest(Model):
    """Options of a new publisher."""

    sasTokenTTL: Annotated[  # noqa: N815
        PublisherMinutes | None,
        Field(description=f"Life of the token, minutes; {PUBLISHER_TTL_MINUTES} without it."),
    ] = None


class KeyRequest(Model):
    """A signing key to make."""

    name: Annotated[
        str | None,
        Field(
            strict=True,
            description="1 to 128 of A-Z, a-z, 0-9, _ and -; the service chooses one without it.",
        ),
    ] = None
    tenant: Annotated[
        str | None,
        Field(
            strict=True,
            description="Whose clients use it, as name and secret or to sign tokens of their own. "
            "Without it, the key is the service's own and signs what it issues from now on.",
        ),
    ] = None


#: Messages that a filter is tried on in one call: each takes up to a millisecond.
TRIED_MAX: Final = 1_000


class CheckRequest(Model):
    """A filter to check, and messages to try it on."""

    type: Annotated[SubscriptionType, Field(description="Whose properties the filter may name.")]
    filter: Annotated[str, Field(strict=True, description="QEL expression to check.")]
    messages: Annotated[
        list[dict[str, object]] | None,
        Field(max_length=TRIED_MAX, description="Messages, as JSON objects, to try the filter on."),
    ] = None


# Responses


class SubscriptionResponse(Model):
    """A subscription and what opens its feed."""

    subscriptionId: str = Field(description="The subscription's identifier.")  # noqa: N815
    connectionURL: str = Field(description="AMQP 1.0 address of the feed.")  # noqa: N815
    sasToken: str = Field(description="Token that authorises a connection to the feed.")  # noqa: N815


class SubscriptionUpdatedResponse(SubscriptionResponse):
    """A subscription with a fresh token; older tokens stay valid to their end."""


class PublisherResponse(Model):
    """A publisher and what lets it send."""

    publisherId: str = Field(description="The publisher's identifier.")  # noqa: N815
    connectionURL: str = Field(description="AMQP 1.0 address of the topic.")  # noqa: N815
    sasToken: str = Field(description="Token with the right to send to the topic.")  # noqa: N815


class KeyDetails(Model):
    """A signing key, without its secret."""

    name: str
    tenant: str | None = Field(description="Whose it is; null for the service's own.")
    createdAt: str = Field(json_schema_extra={"format": "date-time"})  # noqa: N815
    retiredAt: str | None = Field(  # noqa: N815
        description="Since when its tokens are refused; null while they count.",
        json_schema_extra={"format": "date-time"},
    )
    signs: bool = Field(description="Tokens are signed with it now.")


class KeyList(Model):
    """All signing keys, oldest first."""

    data: list[KeyDetails]


class NewKeyResponse(KeyDetails):
    """A signing key that was made."""

    secret: str | None = Field(
        description="Secret of a tenant's key, shown this once; null for the service's own, "
        "which nobody needs to know."
    )


class SubscriptionDetails(Model):
    """A subscription as its owner sees it."""

    subscriptionId: str  # noqa: N815
    type: SubscriptionType
    filter: str
    subscriptionTTL: float = Field(description="Minutes, as given at creation.")  # noqa: N815
    sasTokenTTL: float = Field(description="Minutes, as given at creation.")  # noqa: N815
    createdAt: str = Field(json_schema_extra={"format": "date-time"})  # noqa: N815
    lastActivityAt: str = Field(  # noqa: N815
        description="Last matching message or connected client.",
        json_schema_extra={"format": "date-time"},
    )
    expiresAt: str = Field(  # noqa: N815
        description="When it is deleted if nothing happens any more.",
        json_schema_extra={"format": "date-time"},
    )
    backlog: int = Field(description="Matching messages that are not settled.")
    locked: int = Field(description="Messages that a client holds under lock.")
    delivered: int = Field(description="Deliveries since creation.")
    deadLettered: int = Field(description="Messages in the dead-letter queue.")  # noqa: N815
    clients: int = Field(description="Links attached now.")


class SubscriptionPage(Model):
    """A page of subscriptions."""

    data: list[SubscriptionDetails]
    next: str | None = Field(description="Pass as `cursor` for the next page; null at the end.")


class AcceptedResponse(Model):
    """Messages that are durable."""

    accepted: int = Field(description="How many messages were accepted.")


class CheckError(Model):
    """One thing that is wrong with a filter."""

    detail: str
    line: int = Field(description="From 1.")
    column: int = Field(description="In characters, from 1.")


class CheckResult(Model):
    """What the filter made of one message."""

    matches: bool | None = Field(description="null: the filter's truth is unknown.")
    because: str


class CheckResponse(Model):
    """A filter judged."""

    valid: bool
    canonical: str | None = Field(description="The filter in canonical form; null if invalid.")
    errors: list[CheckError]
    results: list[CheckResult] = Field(description="One a message, in their order.")


class ReapResponse(Model):
    """What a look for idle subscriptions has done."""

    reaped: int = Field(description="Subscriptions deleted.")
    nextAt: str | None = Field(  # noqa: N815
        description="When the next one can be over; null when there is none.",
        json_schema_extra={"format": "date-time"},
    )


class HealthResponse(Model):
    """State of the service."""

    status: str


# Errors


class ServiceError(Model):
    """One error."""

    code: str = Field(description="The HTTP status as text.", examples=["400"])
    title: str = Field(examples=["BadRequest"])
    status: str = Field(examples=["BadRequest"])
    detail: str = Field(description="What is wrong, for people.")
    id: str = Field(description="Request id; finds the call in the service's log.")
    meta: dict[str, object] = Field(
        default_factory=dict,
        description="Where it is wrong: `pointer` (JSON pointer into the body, or the parameter), "
        "`line` and `column` of a filter, `line` and `accepted` of an NDJSON body.",
    )


class ServiceErrors(Model):
    """All errors of a call."""

    errors: list[ServiceError]
