"""Receivers of every kind, at work until the service dies under them."""

import asyncio
import contextlib
import random
from typing import Final

from proton import Condition, Delivery, Message, symbol

from tests.fault.crash.actors import Actor, Numbers, as_message, number_of
from tests.fault.crash.amqp import SEQUENCE, ClientLink
from tests.fault.crash.ledger import END, Feed, Item, Ledger, Mode, Outcome, Sent, Violation

#: Credit of a receiver.
CREDIT: Final = 30

#: What a reader of dead letters says, by weight.
LETTER_WEIGHTS: Final = {Outcome.ACCEPT: 4, Outcome.ABANDON: 3, Outcome.RELEASE: 2}

_STATES: Final = {
    Outcome.ACCEPT: Delivery.ACCEPTED,
    Outcome.REJECT: Delivery.REJECTED,
    Outcome.RELEASE: Delivery.RELEASED,
    Outcome.ABANDON: Delivery.MODIFIED,
    Outcome.DEFER: Delivery.MODIFIED,
}
#: What a random receiver says, by weight.
RANDOM_WEIGHTS: Final = {
    Outcome.ACCEPT: 60,
    Outcome.ABANDON: 16,
    Outcome.REJECT: 8,
    Outcome.RELEASE: 8,
    Outcome.DEFER: 8,
}


class Receiver(Actor):
    """Reads one feed and settles as its mode says."""

    def __init__(
        self, ledger: Ledger, rng: random.Random, *, feed: Feed, weights: dict[Outcome, int]
    ) -> None:
        super().__init__(ledger, rng)
        self.feed = feed
        self.draining = False
        self.held_share = 0.03
        """Share of messages that stay unsettled as long as the link is there."""
        self.at_end = asyncio.Event()
        self._weights = weights
        self._held: dict[Delivery, tuple[int, Outcome | None]] = {}
        self._last_first = 0
        self._cuts = feed.cuts
        self._granted = 0
        self._left = False
        self._link: ClientLink | None = None

    async def attach(self, url: str, password: str) -> bool:
        """Connect and attach; whether the service was there."""
        await self.connect(url, password)
        mode = self.feed.mode
        link = self.client.receiver(
            self.feed.path,
            settled=mode is Mode.DELETE,
            second=mode is not Mode.DELETE and mode is not Mode.FIRST,
        )
        link.on_message = lambda *came: self.guard(lambda: self._on_message(*came))
        link.on_update = lambda delivery: self.guard(lambda: self._on_update(delivery))
        link.on_end = self._on_end
        self._link = link
        self.feed.credit = CREDIT
        self._cuts = self.feed.cuts
        link.grant(CREDIT)
        return await link.opened()

    async def work(self, url: str, password: str) -> None:
        """Read until the connection is gone."""
        if await self.attach(url, password):
            await self.client.lost.wait()

    def _on_message(self, delivery: Delivery, message: Message) -> None:
        if self._left:
            return
        number = number_of(message)
        seq = int(message.annotations[symbol(SEQUENCE)])
        self._last_first = self.ledger.delivered(
            self.feed,
            number,
            seq=seq,
            count=message.delivery_count,
            last_first=self._last_first if self._cuts == self.feed.cuts else 0,
            settled=delivery.settled,
        )
        if self.draining:
            self.feed.drained.add(number)
        if self.ledger.sent[number].facts["objectId"] == END:
            self.at_end.set()
            self.feed.drained.discard(number)
        if delivery.settled:
            delivery.settle()
            self._refill()
            return
        self._held[delivery] = (number, None)
        self._refill()
        if self.draining or self.rng.random() >= self.held_share:
            self._say(delivery, number)

    def _say(self, delivery: Delivery, number: int) -> None:
        outcome = Outcome.ACCEPT
        if not self.draining:
            outcome = self.rng.choices(list(self._weights), list(self._weights.values()))[0]
        self._held[delivery] = (number, outcome)
        if outcome is Outcome.ABANDON:
            delivery.local.failed = True
        elif outcome is Outcome.DEFER:
            delivery.local.undeliverable = True
        elif outcome is Outcome.REJECT:
            _give_reason(delivery)
        self.ledger.said(self.feed, number, outcome)
        delivery.update(_STATES[outcome])
        if self.feed.mode is Mode.FIRST:
            delivery.settle()
            del self._held[delivery]
            self.on_settled(number)

    def on_settled(self, number: int) -> None:
        """A message was settled without a confirmation to come."""

    def _on_update(self, delivery: Delivery) -> None:
        if delivery not in self._held or not delivery.settled:
            return
        number, outcome = self._held.pop(delivery)
        if outcome is None or delivery.remote_state != _STATES[outcome]:
            raise Violation(
                f"{self.feed.name}: {delivery.remote_state} confirmed, {outcome} said of {number}"
            )
        self.ledger.confirmed(self.feed, number, outcome)
        delivery.settle()

    def _refill(self) -> None:
        self._granted += 1
        if self._granted >= CREDIT // 2:
            self._link.grant(self._granted)
            self._granted = 0

    def _on_end(self, reason: str) -> None:
        if self._left:
            return
        self.forget()
        expected = self.ledger.stopping or self.feed.delete_asked
        if reason != "connection lost" and not expected:
            text = f"{self.feed.name}: detached with {reason or 'no reason'}"
            self.violation = self.violation or Violation(text)

    def forget(self) -> None:
        """The link is gone for us: what comes from now on does not count."""
        if self._left:
            return
        self._left = True
        self.ledger.cut(self.feed, self.unconfirmed())
        self._held.clear()

    def unconfirmed(self) -> list[int]:
        """What a cut may bring again."""
        return [number for number, _ in self._held.values()]

    async def leave(self) -> None:
        """Detach and close the connection; what comes from now on does not count."""
        self.forget()
        self._link.link.close()
        self.client.flush()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(5):
                await self._link.wait(lambda: False)
        await self.client.close()


class RestlessReceiver(Receiver):
    """One of several on a feed that goes away after a while, cleanly or not."""

    async def work(self, url: str, password: str) -> None:
        """Read for some time; the caller begins again with a new one."""
        if not await self.attach(url, password):
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.05 + self.rng.random() * 0.4):
                await self.client.lost.wait()
        if self.client.lost.is_set():
            return
        if self.rng.random() < 0.5:
            await self.leave()
        else:
            self.forget()
            self.client.abort()


class FencedReceiver(Receiver):
    """Settles at once, and now and then publishes a message on the same connection.

    When that one is accepted, everything settled before it is durable: a confirmation that a
    receiver which settles at once does not get otherwise.
    """

    EVERY: Final = 15

    def __init__(self, ledger: Ledger, rng: random.Random, *, feed: Feed, numbers: Numbers) -> None:
        super().__init__(ledger, rng, feed=feed, weights={Outcome.ACCEPT: 1})
        self._numbers = numbers
        self._fence: ClientLink | None = None
        self._settled: list[int] = []
        self._fenced: dict[str, tuple[list[Sent], list[int]]] = {}

    async def attach(self, url: str, password: str) -> bool:
        """As any receiver, with a link to publish on."""
        if not await super().attach(url, password):
            return False
        self._fence = self.client.sender(self.feed.topic)
        self._fence.on_update = lambda delivery: self.guard(lambda: self._passed(delivery))
        self.client.flush()
        return True

    def on_settled(self, number: int) -> None:
        """Publish a fence when enough was settled."""
        self._settled.append(number)
        fence = self._fence
        if self.draining or len(self._settled) < self.EVERY or fence is None:
            return
        if fence.link.credit <= 0:
            return
        facts = self._numbers.take()
        group = self.ledger.sending(self.feed.topic, f"fence {self.feed.name}", [facts])
        tag = fence.send(as_message([facts], self.rng))
        self._fenced[tag] = (group, self._settled)
        self._settled = []

    def _passed(self, delivery: Delivery) -> None:
        group, settled = self._fenced.pop(delivery.tag)
        if delivery.remote_state != Delivery.ACCEPTED:
            if self.ledger.stopping:
                return
            raise Violation(f"fence: {delivery.remote_state} for a good message")
        self.ledger.accepted(group)
        for number in settled:
            self.ledger.confirmed(self.feed, number, Outcome.ACCEPT)
        delivery.settle()

    def unconfirmed(self) -> list[int]:
        """What a cut may bring again."""
        waiting = [number for _, settled in self._fenced.values() for number in settled]
        return [*super().unconfirmed(), *self._settled, *waiting]


class DeadLetterReader(Actor):
    """Reads all dead letters of a feed at the end, leaving them there."""

    async def read(self, feed: Feed, url: str, *, expected: int) -> None:
        """Read until `expected` have come, and no more does."""
        await self.connect(url, feed.token)
        link = self.client.receiver(f"{feed.path}/$DeadLetterQueue")
        link.on_message = lambda _, message: self.guard(lambda: self._note(feed, message))
        link.grant(expected + 10)
        async with asyncio.timeout(20):
            await link.wait(lambda: len(feed.dead) >= expected or self.violation is not None)
        await self.client.close()

    def _note(self, feed: Feed, message: Message) -> None:
        number = number_of(message)
        if number in feed.dead:
            raise Violation(f"{feed.name}: dead letter {number} is there twice")
        said = feed.open_letters().items.get(number, Item())
        if not said.abandons_known <= message.delivery_count <= said.abandons_said:
            raise Violation(
                f"{feed.name}: delivery count {message.delivery_count} of dead letter {number}"
            )
        seq = int(message.annotations[symbol(SEQUENCE)])
        if self.ledger.sent[number].seq != seq:
            raise Violation(f"{feed.name}: dead letter {number} has another number")
        feed.dead[number] = str(message.properties["DeadLetterReason"])


def _give_reason(delivery: Delivery) -> None:
    delivery.local.condition = Condition(
        "com.microsoft:dead-letter", "not usable", {symbol("DeadLetterReason"): "broken"}
    )
