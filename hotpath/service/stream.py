"""One webhook stream as the service holds it, and what callers ask for."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from hotpath.core.points import PointFeed
from hotpath.core.subscription import Subscription
from hotpath.model.names import SubscriptionId
from hotpath.model.stream import StreamSpec, StreamStatus
from hotpath.service.secrets import SecretValue, StreamSecrets


class Stream:
    """The live state of one stream.

    Attributes:
        spec: What it is now (replaced when it changes).
        feed: The subscription with its points.
        secrets: What signs; ask `Streams.secrets`.
        changing: Held while its definition or points change.
    """

    __slots__ = ("changing", "feed", "secrets", "spec")

    def __init__(self, spec: StreamSpec, feed: PointFeed, secrets: StreamSecrets) -> None:
        self.spec = spec
        self.feed = feed
        self.secrets = secrets
        self.changing = asyncio.Lock()

    @property
    def subscription(self) -> Subscription:
        """The feed: `Delivering.attach(stream.subscription, dead=False, lock=True, …)`.

        Its locks have no end: what a receiver in the process holds stays held until it is settled,
        given back, or the receiver detaches.
        """
        return self.feed

    @property
    def id(self) -> SubscriptionId:
        """The stream's id, also its subscription's."""
        return self.spec.id

    @property
    def status(self) -> StreamStatus:
        """How deliveries go."""
        return self.spec.status

    @property
    def reason(self) -> str:
        """Why it is failing or disabled; empty while active."""
        return self.spec.reason

    @property
    def deleted(self) -> bool:
        """It does not exist any more."""
        return self.feed.deleted


@dataclass(frozen=True, slots=True)
class NewStream:
    """What a caller asks for; the edge has checked URL and ids."""

    partition: str
    webhook_url: str
    points: Sequence[str]
    secret: SecretValue | None = None


@dataclass(frozen=True, slots=True)
class StatusChange:
    """A stream that fares otherwise than before."""

    spec: StreamSpec
    previous: StreamStatus
