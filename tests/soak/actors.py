"""Clients of every kind beside those of the crash harness; each ends when it is cut."""

import asyncio
import contextlib
import json
import random
from collections.abc import Callable
from typing import Final

from azure.servicebus import ServiceBusMessage, ServiceBusReceivedMessage
from azure.servicebus.aio import ServiceBusClient, ServiceBusReceiver
from azure.servicebus.exceptions import MessageLockLostError, ServiceBusError
from proton import Delivery, Message, symbol

from hotpath.client.errors import ClientError
from hotpath.client.feed import Feed as RenewedFeed
from hotpath.client.links import Delivery as Received
from hotpath.client.rest import Access, RestClient
from hotpath.model.names import Topic
from tests.fault.crash.actors import Numbers, number_of
from tests.fault.crash.amqp import SEQUENCE
from tests.fault.crash.ledger import Facts, Feed, Ledger, Outcome, Violation
from tests.fault.crash.receivers import Receiver

#: Credit of a receiver that never reads what it is sent.
GREEDY: Final = 100_000
_ACCEPT: Final = {Outcome.ACCEPT: 1}


class SlowReceiver(Receiver):
    """Takes its time over each message, one after the other: a backlog grows."""

    def __init__(self, ledger: Ledger, rng: random.Random, *, feed: Feed) -> None:
        super().__init__(ledger, rng, feed=feed, weights=_ACCEPT)
        self._free_at = 0.0

    def _say(self, delivery: Delivery, number: int) -> None:
        loop = asyncio.get_running_loop()
        self._free_at = max(self._free_at, loop.time()) + 0.02 + self.rng.random() * 0.1
        loop.call_at(self._free_at, lambda: self.guard(lambda: self._say_now(delivery, number)))

    def _say_now(self, delivery: Delivery, number: int) -> None:
        if self._left or delivery not in self._held:
            return
        super()._say(delivery, number)
        self._link.grant(1)

    def _refill(self) -> None:
        """Not before it has settled."""


class LeavingReceiver(Receiver):
    """Forgets some messages until their lock has ended."""

    SHARE: Final = 0.1

    def __init__(self, ledger: Ledger, rng: random.Random, *, feed: Feed) -> None:
        super().__init__(ledger, rng, feed=feed, weights=_ACCEPT)

    def _say(self, delivery: Delivery, number: int) -> None:
        if self.rng.random() >= self.SHARE:
            super()._say(delivery, number)
            return
        del self._held[delivery]
        self.ledger.left(self.feed, number)


class SilentReceiver(Receiver):
    """Grants much credit and reads nothing; goes away before any lock ends."""

    def __init__(self, ledger: Ledger, rng: random.Random, *, feed: Feed) -> None:
        super().__init__(ledger, rng, feed=feed, weights=_ACCEPT)

    async def work(self, url: str, password: str) -> None:
        """Sit there for some seconds."""
        await self.connect(url, password)
        link = self.client.receiver(self.feed.path, second=True)
        self.client.flush()
        if not await link.opened():
            return
        # From now on nothing is read: not even what comes is known.
        link.grant(GREEDY)
        await asyncio.sleep(0)
        self.client.stop_reading()
        await asyncio.sleep(1 + self.rng.random() * 3)
        self.client.abort()


class RenewingReader:
    """hotpath's own client: its tokens live for seconds and are renewed on the live link."""

    def __init__(self, ledger: Ledger, feed: Feed) -> None:
        self._ledger = ledger
        self._feed = feed
        self._unconfirmed: set[int] = set()

    async def work(self, rest: RestClient, url: str) -> None:
        """Read for ever; the client comes back by itself. Raises Violation."""
        address = f"{url}/{self._feed.path}"
        access = Access(self._feed.id, address, self._feed.token)
        reading = _Noting(rest, access, lost=self._cut)
        try:
            await reading.start()
            async for delivery in reading.deliveries():
                self._take(delivery)
        except ClientError as error:
            if not self._ledger.stopping:
                raise Violation(f"{self._feed.name}: {error!r}") from error
        finally:
            self._ledger.counts["tokens renewed"] += reading.renewed
            self._cut()
            await reading.close()

    def _take(self, delivery: Received) -> None:
        message = Message()
        message.decode(delivery.encoded)
        number = number_of(message)
        self._ledger.delivered(
            self._feed,
            number,
            seq=int(message.annotations[symbol(SEQUENCE)]),
            count=message.delivery_count,
            last_first=0,
            settled=False,
        )
        # Settled by the client when it comes for the next one, without a confirmation.
        self._ledger.said(self._feed, number, Outcome.ACCEPT)
        self._unconfirmed.add(number)

    def _cut(self) -> None:
        self._ledger.cut(self._feed, self._unconfirmed)
        self._unconfirmed.clear()


class _Noting(RenewedFeed):
    """Tells when its link is gone."""

    def __init__(self, rest: RestClient, access: Access, *, lost: Callable[[], None]) -> None:
        super().__init__(rest, Topic.VARIABLES, access)
        self._tell = lost

    def lost(self) -> None:
        super().lost()
        self._tell()


# The Service Bus SDK


def bus_client(url: str, token: str) -> ServiceBusClient:
    """A client that does not try again by itself: what it sends comes once."""
    host = url.partition("//")[2].replace("127.0.0.1", "localhost")
    return ServiceBusClient.from_connection_string(
        f"Endpoint=sb://{host};SharedAccessSignature={token};UseDevelopmentEmulator=true",
        retry_total=0,
    )


class BusReceiver:
    """Completes, abandons and dead-letters by the SDK."""

    CHOICES: Final = {Outcome.ACCEPT: 8, Outcome.ABANDON: 2, Outcome.REJECT: 1}

    def __init__(self, ledger: Ledger, rng: random.Random, *, feed: Feed) -> None:
        self._ledger = ledger
        self._rng = rng
        self._feed = feed
        self.over = False

    async def work(self, url: str) -> None:
        """Receive until it is over or the connection breaks. Raises Violation."""
        held: set[int] = set()
        try:
            async with (
                bus_client(url, self._feed.token) as client,
                client.get_subscription_receiver("variables", self._feed.id) as receiver,
            ):
                while not self.over:
                    await self._take_some(receiver, held)
        except (ServiceBusError, OSError, ValueError, AttributeError):
            # Of the last two the SDK has some when its connection is cut under it.
            self._ledger.counts["service bus links broken"] += 1
        finally:
            self._ledger.cut(self._feed, held)

    async def _take_some(self, receiver: ServiceBusReceiver, held: set[int]) -> None:
        messages = await receiver.receive_messages(max_message_count=20, max_wait_time=1)
        for message in messages:
            number = _number(message)
            self._ledger.delivered(
                self._feed,
                number,
                seq=message.sequence_number,
                count=message.delivery_count,
                last_first=0,
                settled=False,
            )
            held.add(number)
        for message in messages:
            await self._settle(receiver, message, held)

    async def _settle(
        self, receiver: ServiceBusReceiver, message: ServiceBusReceivedMessage, held: set[int]
    ) -> None:
        number = _number(message)
        outcome = self._rng.choices(list(self.CHOICES), list(self.CHOICES.values()))[0]
        self._ledger.said(self._feed, number, outcome)
        try:
            if outcome is Outcome.ACCEPT:
                await receiver.complete_message(message)
            elif outcome is Outcome.ABANDON:
                await receiver.abandon_message(message)
            else:
                await receiver.dead_letter_message(message, reason="broken")
        except MessageLockLostError:
            # A slow machine: it comes again, counted.
            self._ledger.left(self._feed, number)
        else:
            self._ledger.confirmed(self._feed, number, outcome)
        held.discard(number)


class BusSender:
    """Sends single messages and lists by the SDK."""

    def __init__(self, ledger: Ledger, rng: random.Random, *, name: str, numbers: Numbers) -> None:
        self._ledger = ledger
        self._rng = rng
        self._name = name
        self._numbers = numbers
        self.over = False

    async def work(self, url: str, token: str) -> None:
        """Send until it is over or the connection breaks."""
        with contextlib.suppress(ServiceBusError, OSError, ValueError, AttributeError):
            async with (
                bus_client(url, token) as client,
                client.get_topic_sender("variables") as sender,
            ):
                while not self.over:
                    many = [self._numbers.take() for _ in range(self._rng.choice([1, 1, 5]))]
                    group = self._ledger.sending("variables", self._name, many)
                    messages = [_as_bus_message(facts) for facts in many]
                    await sender.send_messages(messages if len(many) > 1 else messages[0])
                    self._ledger.accepted(group)
                    await asyncio.sleep(self._rng.random() * 0.1)


def _as_bus_message(facts: Facts) -> ServiceBusMessage:
    return ServiceBusMessage(json.dumps(facts).encode(), content_type="application/json")


def _number(message: ServiceBusReceivedMessage) -> int:
    properties = message.application_properties or {}
    if b"value" in properties:
        return int(properties[b"value"])
    body = message.body
    raw = body if isinstance(body, bytes) else b"".join(body)
    return int(json.loads(raw)["value"])


async def make_noise(rng: random.Random, host: str, port: int) -> None:
    """Connect, say something or nothing, and go away without a word."""
    reader, writer = await asyncio.open_connection(host, port)
    headers = [b"AMQP\x00\x01\x00\x00", b"AMQP\x03\x01\x00\x00", b"GET / HTTP/1.1\r\n", b""]
    writer.write(rng.choice(headers) + rng.randbytes(rng.randrange(200)))
    with contextlib.suppress(TimeoutError, ConnectionError):
        async with asyncio.timeout(rng.random()):
            await reader.read(1000)
    writer.transport.abort()
