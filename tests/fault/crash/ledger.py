"""The model: what was sent, answered, delivered and settled, and what must follow from it.

It knows nothing of the service but its promises. Clients report each fact when they learn of it;
`tick` orders the facts. What was under way at a kill is *in doubt*: it may have happened or not,
and what is seen later decides. Anything else is exact.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

Facts = dict[str, object]

#: Failed deliveries after which a message is set aside.
MAX_DELIVERIES: Final = 3
#: `objectId` that every filter lets through: the last message of all.
END: Final = "end"


class Mode(Enum):
    """How a feed is read."""

    FIRST = "settles at once"
    SECOND = "waits for the confirmation"
    DELETE = "receive and delete"
    COLD = "not before the end"


class Outcome(Enum):
    """What a receiver says of a message."""

    ACCEPT = "accepted"
    REJECT = "rejected"
    RELEASE = "released"
    ABANDON = "modified"
    DEFER = "modified, undeliverable here"


FINAL: Final = frozenset({Outcome.ACCEPT, Outcome.REJECT, Outcome.DEFER})


class Violation(AssertionError):
    """A promise is broken."""


@dataclass(slots=True)
class Sent:
    """A message on its way in."""

    number: int
    topic: str
    facts: Facts
    publisher: str
    group: int
    """Messages of one group are in one request: all of them are stored, or none."""
    sent: int
    sent_ms: int
    accepted: int | None = None
    accepted_ms: int | None = None
    seq: int | None = None
    due_ms: int | None = None
    """It was sent for later."""


@dataclass(slots=True)
class Item:
    """One message in one feed."""

    deliveries: int = 1
    open: bool = True
    """It was handed out, and neither settled nor given back since."""
    cut: bool = False
    """Its link ended meanwhile."""
    pending: Outcome | None = None
    """Said, not confirmed."""
    settled: Outcome | None = None
    """Confirmed for good."""
    abandons_said: int = 0
    abandons_known: int = 0


@dataclass(eq=False, slots=True)
class Feed:
    """A subscription."""

    name: str
    topic: str
    filter: str
    lets_through: Callable[[Facts], bool]
    mode: Mode
    asked: int
    start_ms: int | None = None
    """Enqueued time of the first message wanted; None for what comes after the creation."""
    ordered: bool = True
    """One receiver: first deliveries come in order over all runs."""
    id: str = ""
    token: str = ""
    created: int | None = None
    delete_asked: bool = False
    deleted: bool = False
    last_first: int = 0
    cuts: int = 0
    credit: int = 0
    items: dict[int, Item] = field(default_factory=dict)
    drained: set[int] = field(default_factory=set)
    dead: dict[int, str] = field(default_factory=dict)
    """What its dead-letter queue held at the end, with the reasons."""
    letters: "Feed | None" = None
    """Its dead-letter queue, if somebody reads that meanwhile."""
    of: "Feed | None" = None
    """The feed whose dead-letter queue this is."""

    @property
    def path(self) -> str:
        """Its address."""
        if self.of is not None:
            return f"{self.of.path}/$DeadLetterQueue"
        return f"{self.topic}/Subscriptions/{self.id}"

    def open_letters(self) -> "Feed":
        """Its dead-letter queue as a feed of its own."""
        if self.letters is None:
            name = f"dead letters of {self.name}"
            self.letters = Feed(
                name, self.topic, self.filter, self.lets_through, Mode.SECOND, self.asked, 0
            )
            self.letters.ordered, self.letters.of = False, self
        return self.letters

    def is_letter_settled(self, number: int) -> bool | None:
        """Whether a dead letter was settled for good; None when that is in doubt."""
        item = None if self.letters is None else self.letters.items.get(number)
        if item is None or item.settled is None:
            return None if item is not None and item.pending is Outcome.ACCEPT else False
        return True


class Ledger:
    """Everything the clients know."""

    def __init__(self) -> None:
        self.sent: dict[int, Sent] = {}
        self.feeds: list[Feed] = []
        self.seqs: dict[tuple[str, int], int] = {}
        self.counts: Counter[str] = Counter()
        self.last_due_ms = 0
        self.stopping = False
        """The service was told to stop: it may refuse work and end links."""
        self._ticks = 0
        self._groups = 0

    def tick(self) -> int:
        """The order of this fact."""
        self._ticks += 1
        return self._ticks

    @property
    def ticks(self) -> int:
        """Facts so far."""
        return self._ticks

    # Publishing

    def sending(
        self, topic: str, publisher: str, many: Iterable[Facts], *, due_ms: int | None = None
    ) -> list[Sent]:
        """Messages that leave in one request; their `value` is their number."""
        self._groups += 1
        now, now_ms = self.tick(), wall_ms()
        group = []
        for facts in many:
            number = int(facts["value"])
            message = Sent(number, topic, facts, publisher, self._groups, now, now_ms)
            message.due_ms = due_ms
            self.last_due_ms = max(self.last_due_ms, due_ms or 0)
            self.sent[number] = message
            group.append(message)
        self.counts["sent"] += len(group)
        self.counts["sent for later"] += len(group) if due_ms is not None else 0
        return group

    def accepted(self, group: Iterable[Sent]) -> None:
        """The service has answered for them."""
        now, now_ms = self.tick(), wall_ms()
        for message in group:
            message.accepted, message.accepted_ms = now, now_ms
            self.counts["accepted"] += 1

    # Delivering

    def delivered(
        self, feed: Feed, number: int, *, seq: int, count: int, last_first: int, settled: bool
    ) -> int:
        """A message has come; `last_first` is the receiver's last first delivery, and its new one."""
        self.tick()
        self.counts["delivered"] += 1
        message = self.sent.get(number)
        if message is None:
            raise Violation(f"{feed.name}: message {number} was never sent")
        self._check_identity(feed, message, seq)
        self._check_belongs(feed, message)
        if feed.of is not None:
            self.counts["dead letters delivered"] += 1
            self._set_aside(feed.of, number)
        item = feed.items.get(number)
        if item is None:
            floor = feed.last_first if feed.ordered else last_first
            if seq <= floor and feed.of is None:
                raise Violation(f"{feed.name}: first delivery of {seq} after that of {floor}")
            feed.last_first = max(feed.last_first, seq)
            last_first = seq
            item = feed.items[number] = Item()
        else:
            self._redelivered(feed, number, item)
        if not item.abandons_known <= count <= item.abandons_said:
            raise Violation(
                f"{feed.name}: delivery count {count} of message {number}; "
                f"{item.abandons_known} confirmed, {item.abandons_said} said"
            )
        if settled:
            item.settled, item.open = Outcome.ACCEPT, False
        return last_first

    def _set_aside(self, feed: Feed, number: int) -> None:
        """A dead letter has come: its original is settled with the copy, so for good."""
        item = feed.items.get(number)
        if item is None or item.settled in (Outcome.ACCEPT, Outcome.DEFER):
            raise Violation(f"{feed.name}: {number} is no dead letter")
        item.settled, item.open = Outcome.REJECT, False

    def _check_identity(self, feed: Feed, message: Sent, seq: int) -> None:
        known = self.seqs.setdefault((message.topic, seq), message.number)
        if known != message.number:
            raise Violation(f"{feed.name}: {seq} is message {known} and message {message.number}")
        if message.seq not in (None, seq):
            raise Violation(
                f"{feed.name}: message {message.number} is {seq} and {message.seq} in the log"
            )
        message.seq = seq

    def _check_belongs(self, feed: Feed, message: Sent) -> None:
        if message.topic != feed.topic or not feed.lets_through(message.facts):
            raise Violation(f"{feed.name}: {message.facts} does not match {feed.filter}")
        if self._may_belong(feed, message):
            return
        raise Violation(f"{feed.name}: message {message.number} is from before its start")

    def _may_belong(self, feed: Feed, message: Sent) -> bool:
        if message.accepted is None or message.due_ms is not None:
            return True
        if feed.start_ms is not None:
            return message.accepted_ms >= feed.start_ms
        return message.accepted > feed.asked

    def _must_belong(self, feed: Feed, message: Sent) -> bool:
        """Whether the feed must have it, if it is in the log at all."""
        if message.topic != feed.topic or not feed.lets_through(message.facts):
            return False
        if feed.start_ms is not None:
            return message.sent_ms > feed.start_ms
        return feed.created is not None and message.sent > feed.created

    def _redelivered(self, feed: Feed, number: int, item: Item) -> None:
        item.deliveries += 1
        if item.settled is not None:
            raise Violation(
                f"{feed.name}: message {number} comes again, {item.settled.value} before"
            )
        if item.open and not item.cut:
            raise Violation(f"{feed.name}: message {number} comes again while it is locked")
        if item.pending in FINAL:
            self.counts["settled in vain"] += 1
        self.counts["redelivered"] += 1
        if item.cut:
            self.counts["duplicates"] += 1
        item.open, item.cut, item.pending = True, False, None

    # Settling

    def said(self, feed: Feed, number: int, outcome: Outcome) -> None:
        """A receiver sends an outcome."""
        item = feed.items[number]
        item.pending = outcome
        item.abandons_said += outcome is Outcome.ABANDON
        if outcome in (Outcome.RELEASE, Outcome.ABANDON):
            item.open = False

    def confirmed(self, feed: Feed, number: int, outcome: Outcome) -> None:
        """The service has confirmed an outcome."""
        self.tick()
        self.counts["confirmed"] += 1
        item = feed.items[number]
        item.abandons_known += outcome is Outcome.ABANDON
        if outcome in FINAL:
            item.settled, item.open = outcome, False
        elif item.abandons_known >= MAX_DELIVERIES and feed.of is None:
            item.settled, item.open = Outcome.REJECT, False
        if item.pending is outcome:
            item.pending = None

    def left(self, feed: Feed, number: int) -> None:
        """A receiver leaves a message to the end of its lock: it comes again, counted, or dies."""
        item = feed.items[number]
        item.abandons_said += 1
        item.cut, item.pending = True, None
        self.counts["locks left to their end"] += 1

    def cut(self, feed: Feed, numbers: Iterable[int]) -> None:
        """A link is gone that held these."""
        feed.cuts += 1
        for number in numbers:
            feed.items[number].cut = True

    # At the end

    def check_feed(self, feed: Feed, *, backlog: int, dead: int) -> None:
        """Compare a drained feed with what must be in it; raises Violation."""
        self._check_nothing_lost(feed)
        self._check_dead_letters(feed, dead)
        deferred = sum(
            1
            for number, item in feed.items.items()
            if number not in feed.drained
            and (item.settled is Outcome.DEFER or item.pending is Outcome.DEFER)
        )
        left = len(feed.drained) + deferred
        if backlog != left:
            raise Violation(
                f"{feed.name}: its backlog was {backlog}, but {len(feed.drained)} came "
                f"and {deferred} are deferred"
            )

    def _check_nothing_lost(self, feed: Feed) -> None:
        missing = [
            message.number
            for message in self.sent.values()
            if message.number not in feed.items
            and (message.accepted is not None or message.seq is not None)
            and self._must_belong(feed, message)
        ]
        if feed.mode is Mode.DELETE:
            # Settled before it was sent: what was on its way at a cut is gone.
            self.counts["lost on the way (receive and delete)"] += len(missing)
            if len(missing) > feed.cuts * feed.credit:
                raise Violation(f"{feed.name}: {len(missing)} messages lost in {feed.cuts} cuts")
            return
        if missing:
            raise Violation(f"{feed.name}: acknowledged messages lost: {missing[:20]}")
        stuck = [
            number
            for number, item in feed.items.items()
            if item.settled is None and item.pending not in FINAL and number not in feed.dead
        ]
        if stuck:
            raise Violation(f"{feed.name}: unsettled messages never came again: {stuck[:20]}")

    def _check_dead_letters(self, feed: Feed, dead: int) -> None:
        self.counts["dead letters at the end"] += dead
        if dead != len(feed.dead):
            raise Violation(f"{feed.name}: {dead} dead letters told, {len(feed.dead)} there")
        for number, item in feed.items.items():
            is_dead = Outcome.REJECT in (item.settled, item.pending)
            if is_dead and number not in feed.dead and feed.is_letter_settled(number) is False:
                raise Violation(f"{feed.name}: dead letter {number} is lost")
        for number, reason in feed.dead.items():
            self._check_dead_letter(feed, number, reason)

    def _check_dead_letter(self, feed: Feed, number: int, reason: str) -> None:
        self._set_aside(feed, number)
        if feed.is_letter_settled(number):
            raise Violation(f"{feed.name}: dead letter {number} is back, accepted before")
        item = feed.items[number]
        possible = {"broken"} if item.abandons_known < MAX_DELIVERIES else set()
        if item.abandons_said >= MAX_DELIVERIES:
            possible.add("MaxDeliveryCountExceeded")
        if reason not in possible or number in feed.drained:
            raise Violation(f"{feed.name}: dead letter {number} says {reason}")

    def check_log(self) -> None:
        """What one request held is in the log as a whole, in the order of its publisher."""
        groups: dict[int, list[Sent]] = {}
        for message in self.sent.values():
            groups.setdefault(message.group, []).append(message)
        for group in groups.values():
            stored = [message for message in group if message.seq is not None]
            if stored and len(stored) != len(group):
                raise Violation(f"half a request is stored: {[m.number for m in stored]}")
        last: dict[tuple[str, str], int] = {}
        for message in self.sent.values():
            key = (message.publisher, message.topic)
            if message.seq is None or message.due_ms is not None:
                continue
            if message.seq <= last.get(key, 0):
                raise Violation(f"{message.publisher}: message {message.number} is out of order")
            last[key] = message.seq


def wall_ms() -> int:
    """Now, as the service stamps messages."""
    return time.time_ns() // 1_000_000
