"""What the clients of a cluster know, and what must follow from it.

A copy of a message has a sequence number of its own: a death between two steps may leave a second
copy in the log, which is counted, and each copy is settled by itself.
"""

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

#: What a violation may name at most.
_NAMED: Final = 10


class Broken(AssertionError):
    """A promise is broken."""


@dataclass(slots=True)
class Sent:
    """A message on its way in."""

    number: int
    feeds: tuple[str, ...]
    accepted: float | None = None
    """When the service answered for it, by the monotonic clock."""
    due: float | None = None
    """It was sent for later."""
    seqs: set[int] = field(default_factory=set)


@dataclass(slots=True)
class Copy:
    """One message of the log in one feed."""

    number: int
    deliveries: int = 0
    settled: str | None = None
    """The outcome that was confirmed."""


@dataclass(eq=False, slots=True)
class Feed:
    """A subscription as its receivers know it."""

    name: str
    filter: str
    ordered: bool = True
    """One receiver at a time: first deliveries come in order."""
    rejects: float = 0.0
    id: str = ""
    token: str = ""
    copies: dict[int, Copy] = field(default_factory=dict)
    waiting: dict[int, float] = field(default_factory=dict)
    """Accepted messages that have not come, and since when they could have."""
    last_came: float = 0.0
    last_first: int = 0

    @property
    def path(self) -> str:
        """Its address."""
        return f"variables/Subscriptions/{self.id}"


class Ledger:
    """Everything the clients know."""

    def __init__(self) -> None:
        self.sent: dict[int, Sent] = {}
        self.feeds: dict[str, Feed] = {}
        self.counts: Counter[str] = Counter()
        self.round = 0
        self.gaps: dict[tuple[int, str], float] = {}
        """By round and feed: the longest that something waited and nothing came, seconds."""
        self.answer_gaps: dict[tuple[int, str], float] = {}
        """By round and publisher: the longest without an accepted message, seconds."""
        self._seqs: dict[int, int] = {}
        self._answered: dict[str, float] = {}

    # Publishing

    def sending(self, number: int, feeds: tuple[str, ...], *, due: float | None = None) -> Sent:
        """A message leaves."""
        message = self.sent[number] = Sent(number, feeds, due=due)
        self.counts["sent"] += 1
        return message

    def accepted(self, message: Sent, publisher: str) -> None:
        """The service has answered for a message."""
        now = time.monotonic()
        message.accepted = now
        self.counts["accepted"] += 1
        self._note_answer(publisher, now)
        if message.due is not None:
            return
        for name in message.feeds:
            feed = self.feeds[name]
            if not any(seq in feed.copies for seq in message.seqs):
                feed.waiting[message.number] = now

    def refused(self, message: Sent) -> None:
        """It was refused, or nothing is known of it: it may be in the log all the same."""
        self.counts["refused or unanswered"] += 1
        message.accepted = None

    def _note_answer(self, publisher: str, now: float) -> None:
        key = (self.round, publisher)
        gap = now - self._answered.get(publisher, now)
        self.answer_gaps[key] = max(self.answer_gaps.get(key, 0.0), gap)
        self._answered[publisher] = now

    def forget_answers(self) -> None:
        """Publishers begin anew: the time between is no gap."""
        self._answered.clear()

    # Delivering

    def delivered(self, feed: Feed, number: int, seq: int) -> None:
        """A message has come. Raises Broken."""
        self.counts["delivered"] += 1
        message = self.sent.get(number)
        if message is None or feed.name not in message.feeds:
            raise Broken(f"{feed.name}: message {number} is none of its own")
        if self._seqs.setdefault(seq, number) != number:
            raise Broken(f"{feed.name}: {seq} is message {self._seqs[seq]} and message {number}")
        if seq not in message.seqs:
            self.counts["copies in the log"] += bool(message.seqs)
            message.seqs.add(seq)
        self._note_gap(feed, number)
        self._note_copy(feed, number, seq)

    def _note_copy(self, feed: Feed, number: int, seq: int) -> None:
        copy = feed.copies.get(seq)
        if copy is None:
            # What was on its way at a cut may come behind what another node has sent meanwhile.
            self.counts["first deliveries out of order"] += feed.ordered and seq < feed.last_first
            feed.last_first = max(feed.last_first, seq)
            copy = feed.copies[seq] = Copy(number)
        else:
            self.counts["duplicates"] += 1
        copy.deliveries += 1
        if copy.settled is not None:
            raise Broken(
                f"{feed.name}: message {number} ({seq}) comes again, {copy.settled} was confirmed"
            )

    def _note_gap(self, feed: Feed, number: int) -> None:
        now = time.monotonic()
        if feed.waiting:
            since = max(next(iter(feed.waiting.values())), feed.last_came)
            key = (self.round, feed.name)
            self.gaps[key] = max(self.gaps.get(key, 0.0), now - since)
        feed.waiting.pop(number, None)
        feed.last_came = now

    def confirmed(self, feed: Feed, seq: int, outcome: str) -> None:
        """The service has confirmed an outcome."""
        self.counts[f"confirmed {outcome}"] += 1
        if outcome in ("accepted", "rejected"):
            feed.copies[seq].settled = outcome

    # In the end

    def missing(self) -> dict[str, list[int]]:
        """Acknowledged messages that have not come, by feed."""
        found: dict[str, list[int]] = {}
        for message in self.sent.values():
            if message.accepted is None:
                continue
            for name in message.feeds:
                if not any(seq in self.feeds[name].copies for seq in message.seqs):
                    found.setdefault(name, []).append(message.number)
        return found

    def check(self, dead: dict[str, set[int]]) -> None:
        """Nothing lost, in feeds and among dead letters. Raises Broken."""
        missing = self.missing()
        if missing:
            few = {name: numbers[:_NAMED] for name, numbers in missing.items()}
            raise Broken(f"acknowledged messages are lost: {few}")
        for name, letters in dead.items():
            wanted = {
                seq for seq, copy in self.feeds[name].copies.items() if copy.settled == "rejected"
            }
            if wanted - letters:
                lost = sorted(wanted - letters)[:_NAMED]
                raise Broken(f"{name}: dead letters are lost: {lost}")
            for seq in letters:
                copy = self.feeds[name].copies.get(seq)
                if copy is not None and copy.settled == "accepted":
                    raise Broken(f"{name}: {seq} is a dead letter and was accepted")
        self.counts["dead letters"] += sum(map(len, dead.values()))
