"""Publishers over AMQP and HTTP, at work until the service dies under them."""

import asyncio
import random
from typing import Final

from proton import Delivery, Message, symbol, timestamp

from tests.fault.crash.actors import Actor, Numbers, as_message
from tests.fault.crash.amqp import ClientLink
from tests.fault.crash.ledger import Ledger, Sent, Violation, wall_ms
from tests.fault.crash.rest import RestCalls

#: Unanswered requests of one publisher.
WINDOW: Final = 12
#: Share of messages that are for later, and how much later at most.
SCHEDULED_SHARE: Final = 0.06
SCHEDULED_MS: Final = 700
_SCHEDULED: Final = symbol("x-opt-scheduled-enqueue-time")


class AmqpPublisher(Actor):
    """Sends with a window and waits for the outcomes."""

    def __init__(
        self, ledger: Ledger, rng: random.Random, *, name: str, numbers: Numbers, topics: list[str]
    ) -> None:
        super().__init__(ledger, rng)
        self.name = name
        self._numbers = numbers
        self._topics = topics
        self._waiting: dict[tuple[str, str], list[Sent]] = {}

    async def work(self, url: str, password: str) -> None:
        """Publish until the connection is gone."""
        await self.connect(url, password)
        links = {topic: self._attach(topic) for topic in self._topics}
        while not self.client.lost.is_set():
            topic = self.rng.choice(self._topics)
            link = links[topic]
            if not await link.wait(lambda link=link: link.link.credit > 0):
                return
            if len(self._waiting) >= WINDOW:
                await asyncio.sleep(0.001)
                continue
            tag, group = self._send(topic, link)
            self._waiting[topic, tag] = group
            await self.pause()

    def _send(self, topic: str, link: ClientLink) -> tuple[str, list[Sent]]:
        """Send one delivery of one or several messages, some of them for later."""
        if self.rng.random() >= SCHEDULED_SHARE:
            many = [self._numbers.take() for _ in range(self.rng.choice([1, 1, 1, 1, 4]))]
            group = self.ledger.sending(topic, self.name, many)
            return link.send(as_message(many, self.rng)), group
        many = [self._numbers.take()]
        message: Message = as_message(many, self.rng)
        due_ms = wall_ms() + self.rng.randrange(SCHEDULED_MS)
        message.annotations = {_SCHEDULED: timestamp(due_ms)}
        group = self.ledger.sending(topic, self.name, many, due_ms=due_ms)
        return link.send(message), group

    def _attach(self, topic: str) -> ClientLink:
        link = self.client.sender(topic)
        link.on_update = lambda delivery: self.guard(lambda: self._answered(topic, delivery))
        self.client.flush()
        return link

    def _answered(self, topic: str, delivery: Delivery) -> None:
        group = self._waiting.pop((topic, delivery.tag))
        if delivery.remote_state != Delivery.ACCEPTED:
            if self.ledger.stopping:
                return
            raise Violation(f"{self.name}: {delivery.remote_state} for a good message")
        self.ledger.accepted(group)
        delivery.settle()


class HttpPublisher:
    """Posts objects and arrays, one request after the other."""

    def __init__(
        self, ledger: Ledger, rng: random.Random, *, name: str, numbers: Numbers, topics: list[str]
    ) -> None:
        self._ledger = ledger
        self._rng = rng
        self._name = name
        self._numbers = numbers
        self._topics = topics

    async def work(self, rest: RestCalls) -> None:
        """Publish until no answer comes."""
        while True:
            topic = self._rng.choice(self._topics)
            many = [self._numbers.take() for _ in range(self._rng.choice([1, 3, 12]))]
            if topic == "events":
                for facts in many:
                    facts["event"] = "e"
            group = self._ledger.sending(topic, self._name, many)
            answer = await rest.call(
                "POST", f"/messages/{topic}", many if len(many) > 1 else many[0]
            )
            if answer is None or (self._ledger.stopping and answer.status == 503):
                return
            if answer.status != 202 or answer.body != {"accepted": len(many)}:
                raise Violation(f"{self._name}: {answer} for good messages")
            self._ledger.accepted(group)
            await asyncio.sleep(self._rng.random() * 0.02)
