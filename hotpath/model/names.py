"""Names and identifiers: topics, tenants, subscriptions, and the addresses made of them.

An address is the AMQP path of an entity. Three kinds exist (see `Address`):

    variables                                     a topic, to publish to
    variables/Subscriptions/<id>                  a subscription's feed
    variables/Subscriptions/<id>/$DeadLetterQueue its dead letters

each of the last two also with `/$management` behind it. `$cbs` stands for itself.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple, NewType
from urllib.parse import unquote

TenantId = NewType("TenantId", str)
SubscriptionId = NewType("SubscriptionId", str)
PublisherId = NewType("PublisherId", str)

CBS: Final = "$cbs"
MANAGEMENT: Final = "$management"
DEAD_LETTER_QUEUE: Final = "$DeadLetterQueue"
#: Behind it in a token's resource stands which generation of tokens it belongs to.
GENERATION: Final = "$Generation"


class Topic(StrEnum):
    """A log of messages; `points` carries the values behind webhook streams."""

    PLATFORM_EVENTS = "platformEvents"
    VARIABLES = "variables"
    EVENTS = "events"
    ALARMS = "alarms"
    POINTS = "points"


#: Topics that the Subscription APIs open feeds on.
SUBSCRIBABLE: Final = (Topic.PLATFORM_EVENTS, Topic.VARIABLES, Topic.EVENTS, Topic.ALARMS)

_TOPIC_BY_LOWER: Final = {topic.value.lower(): topic for topic in Topic}


class TopicKey(NamedTuple):
    """One tenant's log of one topic: nothing is ever shared between two of these."""

    tenant: TenantId
    topic: Topic


class AddressKind(StrEnum):
    """What an address points at."""

    TOPIC = "topic"
    SUBSCRIPTION = "subscription"
    DEAD_LETTER = "dead-letter"
    CBS = "cbs"
    NAMESPACE = "namespace"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Address:
    """A parsed AMQP address; `path` is its normal form, for comparison and messages."""

    kind: AddressKind
    path: str
    topic: Topic | None = None
    subscription: SubscriptionId | None = None
    management: bool = False

    @classmethod
    def parse(cls, text: str) -> "Address":
        """Read an address as clients write it; anything unreadable has kind UNKNOWN.

        Scheme and authority are dropped, slashes at both ends too, and names compare without
        regard to case, as clients of the Service Bus family expect.
        """
        segments = split_path(text)
        if not segments:
            return cls(AddressKind.NAMESPACE, "")
        if segments == [CBS]:
            return cls(AddressKind.CBS, CBS)
        management = len(segments) > 1 and segments[-1] == MANAGEMENT
        topic = _TOPIC_BY_LOWER.get(segments[0])
        rest = segments[1:-1] if management else segments[1:]
        if topic is None:
            return cls(AddressKind.UNKNOWN, "/".join(segments))
        return cls._of_topic(topic, rest, management=management)

    @classmethod
    def _of_topic(cls, topic: Topic, rest: list[str], *, management: bool) -> "Address":
        """Read what stands behind the topic's name; `rest` is in lower case."""
        path = "/".join([topic.value, *rest])
        if not rest:
            return cls(AddressKind.TOPIC, path, topic, None, management)
        if len(rest) < 2 or rest[0] != "subscriptions" or len(rest) > 3:
            return cls(AddressKind.UNKNOWN, path, topic, None, management)
        subscription = SubscriptionId(rest[1])
        path = subscription_path(topic, subscription)
        if len(rest) == 2:
            return cls(AddressKind.SUBSCRIPTION, path, topic, subscription, management)
        if rest[2] == DEAD_LETTER_QUEUE.lower():
            full = f"{path}/{DEAD_LETTER_QUEUE}"
            return cls(AddressKind.DEAD_LETTER, full, topic, subscription, management)
        return cls(AddressKind.UNKNOWN, f"{path}/{rest[2]}", topic, subscription, management)


def split_path(text: str) -> list[str]:
    """Segments of an address or audience in lower case, without scheme and authority."""
    _, separator, rest = text.partition("://")
    if separator:
        _, _, path = rest.partition("/")
    else:
        path = text
    return [segment for segment in path.lower().split("/") if segment]


def resource_segments(encoded: str) -> list[str]:
    """Segments of a token's resource, which stands URL-encoded in the token: decoded once."""
    return split_path(unquote(encoded.replace("+", " ")))


def subscription_path(topic: Topic, subscription: str) -> str:
    """The address of a subscription's feed."""
    return f"{topic.value}/Subscriptions/{subscription}"


def subscription_resource(topic: Topic, subscription: str, generation: int) -> str:
    """The resource that a subscription's token names: the feed, and which generation it is of.

    Tokens of the first generation, 0, name the feed alone.
    """
    path = subscription_path(topic, subscription)
    return f"{path}/{GENERATION}/{generation}" if generation else path


def publisher_path(topic: Topic, publisher: str) -> str:
    """The resource that a publisher's token names; not an address one can attach to."""
    return f"{topic.value}/Publishers/{publisher}"
