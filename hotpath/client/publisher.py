"""Publishing: messages go out as credit allows, and count when the service has accepted them.

Messages whose outcome did not come before a cut are sent again on the next connection, in their
order: what is published is there at least once.
"""

import asyncio
import ssl
from collections import deque
from collections.abc import Callable
from typing import Final, Self

from typing_extensions import override

from hotpath.client.connection import Connection
from hotpath.client.errors import ClientError, Condition, MessageRefused
from hotpath.client.links import Link, Outcome, Outgoing
from hotpath.client.rest import Access, RestClient
from hotpath.client.session import Attachment, Session
from hotpath.model.names import Topic

#: Messages on their way at a time.
WINDOW: Final = 5_000
#: Messages put between two turns of the event loop.
TURN: Final = 128
#: How long a cut connection may take to come back, seconds.
PATIENCE_SECONDS: Final = 60.0

#: An encoded message and what its owner calls it.
Entry = tuple[bytes, object]


class _Lane(Attachment):
    """One topic's messages: those to send, and those sent without an outcome yet."""

    def __init__(self, publisher: "Publisher", topic: Topic, rest: RestClient) -> None:
        self.topic = topic
        self.outbox: deque[Entry] = deque()
        self.sent: dict[int, Entry] = {}
        self._publisher = publisher
        self._rest = rest
        self._link: Outgoing | None = None

    @override
    async def authorise(self) -> Access:
        return await self._rest.open_publisher(self.topic)

    @override
    async def attach(self, connection: Connection, address: str) -> Link:
        link = await connection.attach_sender(address)
        link.on_credit = self.pump
        link.on_outcome = self._take_outcome
        self._link = link
        self.pump()
        return link

    @override
    def lost(self) -> None:
        self._link = None
        self.outbox.extendleft(reversed(self.sent.values()))
        self.sent.clear()

    def pump(self) -> None:
        """Send while there is credit and the socket takes more."""
        link, outbox = self._link, self.outbox
        if link is None or not outbox or not self._publisher.can_write:
            return
        room = min(link.credit, len(outbox))
        for _ in range(room):
            entry = outbox.popleft()
            self.sent[link.send(entry[0])] = entry
        if room:
            self._publisher.flush_soon()

    def _take_outcome(self, number: int, outcome: Outcome, condition: Condition | None) -> None:
        entry = self.sent.pop(number, None)
        if entry is not None:
            self._publisher.settled(self.topic, entry, outcome, condition)


class Publisher:
    """Publishes to one or more topics over one connection; use it as an asynchronous context."""

    def __init__(
        self,
        rest: RestClient,
        *topics: Topic,
        tls: ssl.SSLContext | None = None,
        window: int = WINDOW,
    ) -> None:
        self.accepted = 0
        self.on_accepted: Callable[[Topic, object], None] | None = None
        self.session = Session(tls=tls, patience_s=PATIENCE_SECONDS)
        self._lanes = {topic: _Lane(self, topic, rest) for topic in topics}
        self._window = window
        self._outstanding = 0
        self._put = 0
        self._pump_planned = False
        self._refusal: ClientError | None = None
        self._progress = asyncio.Event()

    async def __aenter__(self) -> Self:
        """Raises Refused, Unreachable, Detached when it cannot publish."""
        self.session.on_failure = self._progress.set
        self.session.on_writable = self._pump_all
        await self.session.start(*self._lanes.values())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.session.close()

    @property
    def can_write(self) -> bool:
        """Whether the socket takes more."""
        connection = self.session.connection
        return connection is not None and connection.writable

    @property
    def outstanding(self) -> int:
        """Messages that were put and are not accepted yet."""
        return self._outstanding

    async def put(self, topic: Topic, encoded: bytes, reference: object = None) -> None:
        """Publish a message; returns when there is room for another, mostly at once.

        Raises:
            MessageRefused: An earlier message was refused; `reference` tells which.
            ClientError: The connection cannot be had back.
        """
        if self._outstanding >= self._window:
            await self._until(lambda: self._outstanding < self._window)
        self._raise_failure()
        lane = self._lanes[topic]
        lane.outbox.append((encoded, reference))
        self._outstanding += 1
        self._put += 1
        if not self._pump_planned:
            self._pump_planned = True
            asyncio.get_running_loop().call_soon(self._pump_all)
        if self._put % TURN == 0:
            await asyncio.sleep(0)

    async def flush(self) -> None:
        """Wait until everything is accepted. Raises as `put`."""
        self._pump_all()
        await self._until(lambda: self._outstanding == 0)

    def flush_soon(self) -> None:
        """Let what was sent leave in this turn of the loop."""
        self.session.flush_soon()

    def settled(
        self, topic: Topic, entry: Entry, outcome: Outcome, condition: Condition | None
    ) -> None:
        """A lane's call: the service has decided on a message."""
        self._outstanding -= 1
        if outcome is Outcome.ACCEPTED:
            self.accepted += 1
            if self.on_accepted is not None:
                self.on_accepted(topic, entry[1])
        elif self._refusal is None:
            self._refusal = MessageRefused(entry[1], outcome.name.lower(), condition)
        self._progress.set()

    def _pump_all(self) -> None:
        self._pump_planned = False
        for lane in self._lanes.values():
            lane.pump()

    async def _until(self, reached: Callable[[], bool]) -> None:
        self._pump_all()
        self._raise_failure()
        while not reached():
            self._progress.clear()
            await self._progress.wait()
            self._raise_failure()

    def _raise_failure(self) -> None:
        failure = self._refusal or self.session.failure
        if failure is not None:
            raise failure
