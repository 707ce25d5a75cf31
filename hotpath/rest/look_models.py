"""Models of the calls that only look: topics, messages, and what became of one."""

from typing import Annotated, Final, Literal

from pydantic import Field
from pydantic.config import JsonDict

from hotpath.rest.models import Model, SubscriptionType

LAST_MAX: Final = 100
LAST_DEFAULT: Final = 20
SEQ_MAX: Final = 2**63 - 1

_TIME: Final[JsonDict] = {"format": "date-time"}

Last = Annotated[
    int, Field(ge=1, le=LAST_MAX, description="How many of the last messages to look at.")
]
SequenceNumber = Annotated[int, Field(ge=1, le=SEQ_MAX)]
FateName = Literal[
    "noSuchMessage",
    "beforeStart",
    "removed",
    "notMatched",
    "waiting",
    "behind",
    "locked",
    "deferred",
    "expired",
    "deadLettering",
    "deadLettered",
    "settled",
]


# Requests


class LastQuery(Model):
    """Query of `GET /topics/{type}/messages`."""

    last: Last = LAST_DEFAULT


class TailQuery(Model):
    """Query of `GET /subscriptions/{type}/{subscriptionId}/messages`."""

    show: Annotated[
        Literal["matched", "unsettled", "deadLettered"],
        Field(
            description="`matched`: what the log holds and the filter lets through, whatever "
            "became of it. `unsettled`: what nobody has settled. `deadLettered`: the dead letters."
        ),
    ] = "matched"
    after: Annotated[
        int | None,
        Field(
            ge=0,
            le=SEQ_MAX,
            description="Only messages after this sequence number, the first ones first: `next` "
            "of the answer before. Without it, of `matched` the last ones, of others the first.",
        ),
    ] = None
    limit: Annotated[int, Field(ge=1, le=LAST_MAX, description="Messages at most.")] = LAST_DEFAULT


class ExplainRequest(Model):
    """A filter to try on the last messages of a topic."""

    filter: Annotated[str, Field(strict=True, description="QEL expression to try.")]
    last: Annotated[
        int,
        Field(
            strict=True,
            ge=1,
            le=LAST_MAX,
            description="How many messages to try it on; fewer for a filter of very many parts.",
        ),
    ] = LAST_DEFAULT


# Responses


class SessionResponse(Model):
    """The caller as the service sees it."""

    tenant: str
    subject: str
    scopes: list[str]
    condition: str | None = Field(description="QEL that is added to every filter of the caller.")
    partitions: list[str] = Field(description="Granted beside the one named like the tenant.")
    expiresAt: str | None = Field(  # noqa: N815 -- names of the API
        description="When the token ends; null for one without an end.", json_schema_extra=_TIME
    )
    version: str = Field(description="Of the service.")
    minuteSeconds: float = Field(  # noqa: N815
        description="Length of an API minute: 60 but on a service that is being tried out."
    )


class TopicProperty(Model):
    """A property that filters may name."""

    name: str
    type: str


class TopicDetails(Model):
    """One topic of the caller's tenant."""

    type: SubscriptionType
    firstSequenceNumber: int = Field(description="The log holds nothing before it.")  # noqa: N815
    nextSequenceNumber: int = Field(  # noqa: N815
        description="What the next message gets; in a cluster numbers leave gaps: at least this."
    )
    messages: int = Field(
        description="How many the log holds; in a cluster an estimate when they are very many."
    )
    ratePerSecond: float = Field(  # noqa: N815
        description="Messages a second, averaged over the last 10 seconds."
    )
    lastMessageAt: str | None = Field(json_schema_extra=_TIME)  # noqa: N815
    properties: list[TopicProperty]
    openProperties: bool = Field(  # noqa: N815
        description="Filters may name any other property too, typed at run time."
    )


class TopicList(Model):
    """The topics that the caller may subscribe to."""

    data: list[TopicDetails]


class MessageShown(Model):
    """A message, for looking at."""

    sequenceNumber: int  # noqa: N815
    enqueuedTime: str = Field(json_schema_extra=_TIME)  # noqa: N815
    sizeBytes: int = Field(description="As stored.")  # noqa: N815
    contentType: str | None  # noqa: N815
    applicationProperties: dict[str, object]  # noqa: N815
    body: object = Field(description="JSON, or a text; null when it is left out.")
    truncated: bool = Field(description="Too large to show: properties and body are left out.")


class MessageList(Model):
    """The last messages of a topic, oldest first."""

    data: list[MessageShown]
    looked: int = Field(description="Messages looked at, those out of the caller's sight too.")


class ReasonShown(Model):
    """The truth of one part of a filter."""

    kind: Literal["and", "or", "not", "predicate"]
    expression: str = Field(description="Canonical text of a predicate; else empty.")
    truth: bool | None = Field(description="null: unknown.")
    because: str = Field(description="What a predicate saw; else empty.")
    parts: list["ReasonShown"]


class JudgedMessage(MessageShown):
    """A message and what a filter made of it."""

    matches: bool | None = Field(description="null: the filter's truth is unknown.")
    because: str
    explanation: ReasonShown


class ExplainError(Model):
    """One thing that is wrong with a filter."""

    detail: str
    line: int = Field(description="From 1.")
    column: int = Field(description="In characters, from 1.")
    suggestion: str | None


class ExplainResponse(Model):
    """A filter tried on the last messages of a topic, newest first."""

    valid: bool
    canonical: str | None = Field(description="The filter in canonical form; null if invalid.")
    errors: list[ExplainError]
    data: list[JudgedMessage]
    matched: int = Field(description="How many of `data` match.")
    looked: int = Field(description="Messages looked at, those out of the caller's sight too.")


class FeedMessage(MessageShown):
    """A message of a subscription."""

    state: FateName
    deliveryCount: int = Field(description="Failed deliveries so far.")  # noqa: N815


class FeedPage(Model):
    """Messages of a subscription; nothing is locked or settled by looking."""

    data: list[FeedMessage]
    next: int = Field(description="Pass as `after` for what comes behind.")
    more: bool = Field(description="There is more to look at already.")


class WhyResponse(Model):
    """What became of one message in one subscription."""

    sequenceNumber: int  # noqa: N815
    state: FateName
    detail: str = Field(description="The same in a sentence.")
    matches: bool | None = Field(
        description="What the filter made of it; null: unknown, or the message is not there."
    )
    because: str | None
    explanation: ReasonShown | None
    deliveryCount: int = Field(description="Failed deliveries so far.")  # noqa: N815
    lockedUntil: str | None = Field(json_schema_extra=_TIME)  # noqa: N815
    expiresAt: str | None = Field(  # noqa: N815
        description="End of the message's time to live.", json_schema_extra=_TIME
    )
    deadLetterReason: str | None  # noqa: N815
    deadLetterDescription: str | None  # noqa: N815
    message: MessageShown | None
