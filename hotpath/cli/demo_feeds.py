"""What the demonstration watches: feeds, what they got, and what they should have got."""

import asyncio
import json
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from hotpath.client.feed import Feed
from hotpath.client.message import FeedMessage
from hotpath.client.times import wall_ms
from hotpath.model.names import Topic
from hotpath.simulate import Emission

Message = dict[str, Any]


@dataclass(frozen=True, slots=True)
class FeedSpec:
    """A feed: its filter in QEL, and the same in Python for the check."""

    title: str
    topic: Topic
    filter: str
    wanted: Callable[[Message], bool]


FEEDS: Final = (
    FeedSpec(
        "a value over a threshold",
        Topic.VARIABLES,
        "model = 'plant.pump' AND variable = 'temperature' AND value > 65",
        lambda m: m["model"] == "plant.pump" and m["variable"] == "temperature" and m["value"] > 65,
    ),
    FeedSpec(
        "one object",
        Topic.VARIABLES,
        "objectId = 'pump-01'",
        lambda m: m["objectId"] == "pump-01",
    ),
    FeedSpec(
        "one type of platform event",
        Topic.PLATFORM_EVENTS,
        "eventType = 'objectModel.updated' AND NOT severity = 'warning'",
        lambda m: m["eventType"] == "objectModel.updated" and m["severity"] != "warning",
    ),
    FeedSpec(
        "alarms, by what is inside them",
        Topic.ALARMS,
        "value.severity IN ['critical', 'warning'] AND value.state = 'raised'",
        lambda m: (
            m["value"]["severity"] in ("critical", "warning") and m["value"]["state"] == "raised"
        ),
    ),
)


@dataclass(slots=True)
class Watched:
    """A feed at work."""

    spec: FeedSpec
    feed: Feed
    expected: list[str] = field(default_factory=list)
    """What was published and satisfies the predicate, in order."""
    received: list[str] = field(default_factory=list)
    latest: deque[FeedMessage] = field(default_factory=lambda: deque(maxlen=3))
    failure: str = ""

    @property
    def agrees(self) -> bool:
        """Whether exactly the wanted messages came, in their order."""
        return not self.failure and self.received == self.expected

    @property
    def token_seconds(self) -> float:
        """How long its present token is still good."""
        end_ms = self.feed.token_end_ms
        return 0.0 if end_ms is None else max(0.0, (end_ms - wall_ms()) / 1000)


class Board:
    """All that the demonstration shows."""

    def __init__(self, *, seconds: float) -> None:
        self.seconds = seconds
        self.feeds: list[Watched] = []
        self.published: Counter[Topic] = Counter()
        self.accepted: Counter[Topic] = Counter()
        self.notes: deque[str] = deque(maxlen=4)
        self.on_note: Callable[[str], None] = lambda _: None
        self._begun: float | None = None

    @property
    def all_agree(self) -> bool:
        """Whether every feed got exactly its messages, and all of them did get some."""
        return bool(self.feeds) and all(each.agrees and each.received for each in self.feeds)

    @property
    def elapsed(self) -> float:
        """Seconds since the plant began to work."""
        if self._begun is None:
            return 0.0
        return min(asyncio.get_running_loop().time() - self._begun, self.seconds)

    def begin(self) -> None:
        """The plant begins to work."""
        self._begun = asyncio.get_running_loop().time()

    def say(self, text: str) -> None:
        """Something happened that is worth a line."""
        self.notes.append(text)
        self.on_note(text)

    def publish(self, emission: Emission) -> None:
        """A message goes out: count it, and note who should get it."""
        self.published[emission.topic] += 1
        for watched in self.feeds:
            spec = watched.spec
            if spec.topic is emission.topic and spec.wanted(emission.message):
                watched.expected.append(canonical(emission.message))

    async def until_complete(self, seconds: float) -> None:
        """Wait until every feed has as many messages as it should, and a moment for more."""
        deadline = asyncio.get_running_loop().time() + seconds
        while asyncio.get_running_loop().time() < deadline:
            if all(len(each.received) >= len(each.expected) for each in self.feeds):
                # What should not come would come now.
                await asyncio.sleep(0.5)
                return
            await asyncio.sleep(0.05)


def canonical(message: Message) -> str:
    """A message as text that is equal for equal messages."""
    return json.dumps(message, sort_keys=True)


async def read_feed(watched: Watched) -> None:
    """Take a feed's messages until cancelled."""
    async for delivery in watched.feed.deliveries():
        message = FeedMessage.decode(delivery.encoded)
        watched.received.append(canonical(message.to_object()))
        watched.latest.append(message)
