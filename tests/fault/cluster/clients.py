"""Publishers and receivers spread over the nodes; whoever is cut comes again at another node."""

import asyncio
import itertools
import json
import random
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final
from urllib.parse import urlsplit

import aiohttp
from proton import Condition, Delivery, Message, symbol, timestamp

from tests.fault.cluster.ledger import Broken, Feed, Ledger, Sent
from tests.fault.crash.amqp import SEQUENCE, AmqpClient, ClientLink
from tests.fault.crash.ledger import wall_ms

#: Silence after which a peer counts as gone, seconds; it is asked to show itself more often.
SILENCE_S: Final = 2.0
#: How long an attach, or an answer to a request, may take before another node is tried, seconds.
ATTACH_S: Final = 3.0
ANSWER_S: Final = 15.0
CREDIT: Final = 40
WINDOW: Final = 8
SCHEDULED_SHARE: Final = 0.04
SCHEDULED_MS: Final = 1_500
_SCHEDULED: Final = symbol("x-opt-scheduled-enqueue-time")
_RETRY_S: Final = 0.05


class Watched(AmqpClient):
    """A client that notices when its peer says nothing any more."""

    def __init__(self, password: str) -> None:
        super().__init__(password)
        self.engine.idle_timeout = SILENCE_S / 2
        self.heard = time.monotonic()

    def data_received(self, data: bytes) -> None:
        self.heard = time.monotonic()
        super().data_received(data)

    async def watch(self, over: Callable[[], bool]) -> None:
        """Until it is over or the connection is gone; a silent one is cut."""
        while not over() and not self.lost.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(0.25):
                    await self.lost.wait()
            self.engine.tick(time.monotonic())
            self.flush()
            if time.monotonic() - self.heard > SILENCE_S:
                self.abort()


class Client:
    """Somebody who goes from node to node."""

    def __init__(self, ledger: Ledger, rng: random.Random, *, urls: Sequence[str]) -> None:
        self.ledger = ledger
        self.rng = rng
        self.over = False
        self.broken: Broken | None = None
        self._urls = itertools.cycle(urls)
        for _ in range(rng.randrange(len(urls))):
            next(self._urls)

    async def work(self) -> None:
        """Until it is over. Raises Broken."""
        while not self.over:
            with suppress(OSError, TimeoutError):
                await self.once(next(self._urls))
            if self.broken is not None:
                raise self.broken
            await asyncio.sleep(_RETRY_S)

    async def once(self, url: str) -> None:
        """One connection, for as long as it lasts."""
        raise NotImplementedError

    async def connect(self, url: str, password: str) -> Watched:
        """Open a connection. Raises OSError, TimeoutError."""
        parts = urlsplit(url)
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(ATTACH_S):
            _, client = await loop.create_connection(
                lambda: Watched(password), parts.hostname, parts.port
            )
        return client

    def guard(self, call: Callable[[], None]) -> None:
        """Keep the first fault of a callback."""
        try:
            call()
        except Broken as broken:
            self.broken = self.broken or broken
        except Exception as error:  # noqa: BLE001 - the edge of a callback
            self.broken = self.broken or Broken(f"the harness broke: {error!r}")


class Receiver(Client):
    """Reads a feed and settles what comes both ways."""

    def __init__(
        self, ledger: Ledger, rng: random.Random, *, urls: Sequence[str], feed: Feed
    ) -> None:
        super().__init__(ledger, rng, urls=urls)
        self.feed = feed
        self._held: dict[Delivery, tuple[int, str]] = {}
        self._granted = 0

    async def once(self, url: str) -> None:
        client = await self.connect(url, self.feed.token)
        self._held.clear()
        link = client.receiver(self.feed.path, second=True)
        link.on_message = lambda *came: self.guard(lambda: self._take(link, *came))
        link.on_update = lambda delivery: self.guard(lambda: self._confirmed(link, delivery))
        link.grant(CREDIT)
        watch = asyncio.ensure_future(
            client.watch(lambda: self.over or link.ended is not None or self.broken is not None)
        )
        try:
            async with asyncio.timeout(ATTACH_S):
                opened = await link.opened()
            self.ledger.counts["attached"] += opened
            await watch
            if link.ended not in (None, "connection lost"):
                self.ledger.counts[f"detached: {link.ended}"] += 1
        finally:
            self._held.clear()
            watch.cancel()
            client.abort()

    def _take(self, link: ClientLink, delivery: Delivery, message: Message) -> None:
        if self.over:
            return
        number, seq = number_of(message), int(message.annotations[symbol(SEQUENCE)])
        self.ledger.delivered(self.feed, number, seq)
        outcome = self._choose()
        self._held[delivery] = (seq, outcome)
        if outcome == "rejected":
            delivery.local.condition = Condition(
                "com.microsoft:dead-letter", "bad", {symbol("DeadLetterReason"): "broken"}
            )
        delivery.update(getattr(Delivery, outcome.upper()))
        self._granted += 1
        if self._granted >= CREDIT // 2:
            link.grant(self._granted)
            self._granted = 0

    def _choose(self) -> str:
        drawn = self.rng.random()
        if drawn < self.feed.rejects:
            return "rejected"
        return "released" if drawn < self.feed.rejects + 0.02 else "accepted"

    def _confirmed(self, link: ClientLink, delivery: Delivery) -> None:
        if delivery not in self._held or not delivery.settled:
            return
        seq, outcome = self._held.pop(delivery)
        if delivery.remote_state == getattr(Delivery, outcome.upper()):
            self.ledger.confirmed(self.feed, seq, outcome)
        else:
            self.ledger.counts["settlements refused"] += 1
        delivery.settle()
        link.client.flush()


class LetterReader(Client):
    """Reads the dead letters of a feed, leaving them there."""

    def __init__(self, ledger: Ledger, *, urls: Sequence[str], feed: Feed, expected: int) -> None:
        super().__init__(ledger, random.Random(0), urls=urls)
        self.feed = feed
        self.seqs: set[int] = set()
        self._expected = expected

    async def once(self, url: str) -> None:
        client = await self.connect(url, self.feed.token)
        link = client.receiver(f"{self.feed.path}/$DeadLetterQueue")
        link.on_message = lambda _, message: self.guard(
            lambda: self.seqs.add(int(message.annotations[symbol(SEQUENCE)]))
        )
        link.grant(self._expected + 10)
        try:
            async with asyncio.timeout(ANSWER_S):
                await link.wait(lambda: len(self.seqs) >= self._expected)
            self.over = True
        finally:
            client.abort()


class Publisher(Client):
    """What both ways of publishing have in common."""

    def __init__(
        self,
        ledger: Ledger,
        rng: random.Random,
        *,
        urls: Sequence[str],
        name: str,
        numbers: "itertools.count[int]",
    ) -> None:
        super().__init__(ledger, rng, urls=urls)
        self.name = name
        self._numbers = numbers
        self.pause_s = 0.04

    def next_number(self) -> int:
        """The number of the next message."""
        return next(self._numbers)

    def feeds_of(self, number: int) -> tuple[str, ...]:
        """Feeds that must get a message, and nobody else may."""
        return feeds_of(number, len(self.ledger.feeds))

    async def rest(self) -> None:
        """Between two messages."""
        await asyncio.sleep(self.rng.random() * 2 * self.pause_s)


class AmqpPublisher(Publisher):
    """Sends with a window and waits for the outcomes; some messages are for later."""

    token = ""

    async def once(self, url: str) -> None:
        client = await self.connect(url, self.token)
        waiting: dict[str, Sent] = {}
        link = client.sender("variables")
        link.on_update = lambda delivery: self.guard(lambda: self._answered(waiting, delivery))
        client.flush()
        watch = asyncio.ensure_future(client.watch(lambda: self.over or link.ended is not None))
        try:
            while not self.over and not watch.done():
                if len(waiting) < WINDOW and link.link.credit > 0:
                    self._send(link, waiting)
                await self.rest()
            await self._settle(link, waiting)
        finally:
            for message in waiting.values():
                self.ledger.refused(message)
            watch.cancel()
            client.abort()

    async def _settle(self, link: ClientLink, waiting: dict[str, Sent]) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(2):
                await link.wait(lambda: not waiting)

    def _send(self, link: ClientLink, waiting: dict[str, Sent]) -> None:
        number = self.next_number()
        message = Message(body=b"x" * self.rng.randrange(200), properties=facts_of(number))
        due = None
        if self.rng.random() < SCHEDULED_SHARE:
            ahead_ms = self.rng.randrange(SCHEDULED_MS)
            message.annotations = {_SCHEDULED: timestamp(wall_ms() + ahead_ms)}
            due = time.monotonic() + ahead_ms / 1000
        sent = self.ledger.sending(number, self.feeds_of(number), due=due)
        waiting[link.send(message)] = sent

    def _answered(self, waiting: dict[str, Sent], delivery: Delivery) -> None:
        message = waiting.pop(delivery.tag, None)
        if message is None:
            return
        if delivery.remote_state == Delivery.ACCEPTED:
            self.ledger.accepted(message, self.name)
        else:
            self.ledger.refused(message)
        delivery.settle()


class HttpPublisher(Publisher):
    """Posts objects and arrays, each request to the next node."""

    token = ""

    async def once(self, url: str) -> None:
        many = [self.next_number() for _ in range(self.rng.choice([1, 1, 4]))]
        group = [self.ledger.sending(number, self.feeds_of(number)) for number in many]
        try:
            status = await self._post(url, many)
        except (aiohttp.ClientError, OSError, TimeoutError):
            status = 0
        for message in group:
            if status == 202:
                self.ledger.accepted(message, self.name)
            else:
                self.ledger.refused(message)
        if status not in (0, 202, 503):
            raise Broken(f"{self.name}: {status} for good messages")
        await self.rest()

    async def _post(self, url: str, many: Sequence[int]) -> int:
        body = json.dumps([facts_of(number) for number in many]).encode()
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        timeout = aiohttp.ClientTimeout(total=ANSWER_S, connect=SILENCE_S)
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.post(f"{url}/messages/variables", data=body, headers=headers) as answer,
        ):
            await answer.read()
            return answer.status


def facts_of(number: int) -> dict[str, object]:
    """What a message says."""
    return {"objectId": "o", "variable": "v", "value": number, "quality": number % 1_000}


def number_of(message: Message) -> int:
    """Which message it is."""
    properties = message.properties or {}
    if "value" in properties:
        return int(properties["value"])
    return int(json.loads(bytes(message.body))["value"])


def feeds_of(number: int, feeds: int) -> tuple[str, ...]:
    """Which of the feeds get a message: two that get all, and one of the others."""
    return ("all", "shared", f"feed-{number % 1_000 % (feeds - 2)}")


def plan(feeds: int) -> list[Feed]:
    """So many feeds, two of which get all."""
    some = feeds - 2
    found = [
        Feed("all", "value >= 0", rejects=0.01),
        Feed("shared", "value >= 0", ordered=False),
    ]
    for at in range(some):
        wanted = ", ".join(str(n) for n in range(1_000) if n % some == at)
        found.append(Feed(f"feed-{at}", f"quality IN [{wanted}]"))
    return found
