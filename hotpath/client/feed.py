"""Receiving: a subscription's messages, in order, with credit for as many as are wanted.

A message is settled once its reader comes for the next one, so what was not read to the end is
delivered again.
"""

import asyncio
import ssl
from collections import deque
from collections.abc import AsyncGenerator, Callable
from typing import Final

from typing_extensions import override

from hotpath.client.connection import Connection
from hotpath.client.errors import Gone, Refused
from hotpath.client.links import Delivery, Incoming, Link
from hotpath.client.rest import Access, RestClient
from hotpath.client.session import Attachment, Session
from hotpath.client.times import token_end_ms, wall_ms
from hotpath.model.names import Topic

#: Messages that may be on their way to the reader.
CREDIT: Final = 500


class Feed(Attachment):
    """Reads one subscription; `start`, iterate over `deliveries`, `close`."""

    def __init__(
        self,
        rest: RestClient,
        topic: Topic,
        access: Access,
        *,
        tls: ssl.SSLContext | None = None,
        count: int | None = None,
    ) -> None:
        """Args.

        rest: For renewing the token.
        topic: The subscription's topic.
        access: What its creation gave.
        tls: For `amqps`.
        count: How many messages are wanted in all; None for all there are.
        """
        self.identity = access.identity
        self.session = Session(tls=tls)
        self.received = 0
        self.renewed = 0
        self._rest = rest
        self._topic = topic
        self._access: Access | None = access
        self._wanted = count
        self._queue: deque[Delivery] = deque()
        self._arrived = asyncio.Event()
        self._link: Incoming | None = None
        self._ungranted = 0
        self.token_end_ms = token_end_ms(access.token)
        self.on_renewed: Callable[[], None] = lambda: None
        self.session.on_failure = self._arrived.set

    async def start(self) -> None:
        """Attach. Raises Unreachable, Detached, Gone, Refused."""
        await self.session.start(self)

    async def close(self) -> None:
        """Leave; what was not settled goes back to the subscription."""
        await self.session.close()

    async def renew_now(self) -> None:
        """Fetch a new token and put it on the live connection. Raises ClientError."""
        access = await self._renewed()
        connection = self.session.connection
        if connection is not None:
            await connection.put_token(audience=access.url, token=access.token)

    async def deliveries(self) -> AsyncGenerator[Delivery, None]:
        """The messages, each settled as accepted when the next is asked for.

        Ends when `count` messages were read. Raises ClientError when the feed cannot go on.
        """
        while self._wanted is None or self.received < self._wanted:
            while not self._queue:
                if self.session.failure is not None:
                    raise self.session.failure
                self._arrived.clear()
                await self._arrived.wait()
            delivery = self._queue.popleft()
            self.received += 1
            yield delivery
            delivery.settle()
            self._top_up()

    @override
    async def authorise(self) -> Access:
        """The token of the creation first, if it still has time; then new ones."""
        access, self._access = self._access, None
        if access is not None:
            end_ms = token_end_ms(access.token)
            if end_ms is None or end_ms > wall_ms():
                return access
        return await self._renewed()

    @override
    async def attach(self, connection: Connection, address: str) -> Link:
        link = await connection.attach_receiver(address)
        link.on_message = self._take
        self._link = link
        self._ungranted = 0
        link.grant(self._credit(outstanding=0))
        connection.flush_soon()
        return link

    @override
    def lost(self) -> None:
        """Forget what was not read: it comes again."""
        self._link = None
        self._queue.clear()

    async def _renewed(self) -> Access:
        try:
            access = await self._rest.renew(self._topic, self.identity)
        except Refused as error:
            if error.status == 404:
                raise Gone("the subscription does not exist any more") from error
            raise
        self.renewed += 1
        self.token_end_ms = token_end_ms(access.token)
        self.on_renewed()
        return access

    def _take(self, delivery: Delivery) -> None:
        self._queue.append(delivery)
        self._arrived.set()

    def _top_up(self) -> None:
        """Give back the credit of what was settled, half the window at a time."""
        self._ungranted += 1
        if self._ungranted >= CREDIT // 2 and self._link is not None:
            outstanding = CREDIT - self._ungranted
            self._link.grant(self._credit(outstanding=outstanding))
            self._ungranted = 0
        self.session.flush_soon()

    def _credit(self, *, outstanding: int) -> int:
        """How much credit fills the window, without asking for more than is wanted."""
        if self._wanted is None:
            return CREDIT - outstanding
        left = self._wanted - self.received
        return max(0, min(CREDIT, left) - outstanding)
