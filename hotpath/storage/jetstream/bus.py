"""`Bus` on NATS itself, without JetStream."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

import nats.errors
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from hotpath.clusterports import Stop
from hotpath.ports import LogFailure
from hotpath.storage.jetstream.link import Link, Refused, Unanswered
from hotpath.telemetry import get_logger

Receive = Callable[[str, bytes, str], None]

_log = get_logger("hotpath.cluster.bus")


class NatsBus:
    """Sends and receives by a link, which is the caller's to open and to close."""

    def __init__(self, link: Link) -> None:
        self._link = link

    @property
    def payload_max(self) -> int:
        """Bytes that one message may have."""
        return self._link.payload_max

    async def send(self, subject: str, payload: bytes, *, reply: str = "") -> None:
        """Send to whoever listens. Raises LogFailure."""
        try:
            await self._link.send(subject, payload, reply=reply)
        except (Unanswered, Refused) as error:
            raise LogFailure(f"not sent: {error}") from error

    async def listen(self, subject: str, receive: Receive) -> Stop:
        """Receive messages until the result is called. Raises LogFailure."""
        listening = _Listening(self._link, subject, receive)
        await listening.start()
        return listening.stop


class _Listening:
    """One subscription, made anew with every connection."""

    def __init__(self, link: Link, subject: str, receive: Receive) -> None:
        self._link = link
        self._subject = subject
        self._receive = receive
        self._subscription: Subscription | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        try:
            await self._subscribe()
        except Unanswered as error:
            raise LogFailure(f"{self._subject} cannot be listened to: {error}") from error
        self._link.on_connected.append(self._connected)

    async def stop(self) -> None:
        if self._connected in self._link.on_connected:
            self._link.on_connected.remove(self._connected)
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._unsubscribe()

    def _connected(self) -> None:
        # The client brings subscriptions back by itself, but not always: see `Link`.
        if self._task is None or self._task.done():
            self._task = asyncio.ensure_future(self._again())

    async def _again(self) -> None:
        old, self._subscription = self._subscription, None
        try:
            await self._subscribe()
        except Unanswered as error:
            _log.info("cannot listen yet", extra={"reason": str(error)})
        if old is not None:
            with suppress(nats.errors.Error, OSError):
                await old.unsubscribe()

    async def _subscribe(self) -> None:
        current: list[Subscription] = []

        async def arrived(message: Msg) -> None:
            if current and current[0] is self._subscription:
                self._pass_on(message)

        subscription = await self._link.subscribe(self._subject, arrived)
        current.append(subscription)
        self._subscription = subscription

    def _pass_on(self, message: Msg) -> None:
        try:
            self._receive(message.subject, message.data, message.reply)
        except Exception:  # noqa: BLE001 - the edge of a callback
            _log.exception("a message broke its receiver", extra={"subject": message.subject})

    async def _unsubscribe(self) -> None:
        old, self._subscription = self._subscription, None
        if old is not None:
            with suppress(nats.errors.Error, OSError):
                await old.unsubscribe()
