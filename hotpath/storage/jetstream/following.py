"""Following a stream: every message once, in order, whatever becomes of servers and connections.

Messages are pushed by a consumer that lives in a server's memory and numbers what it sends. When a
number is missing, when not even heartbeats come, and after every reconnection, another consumer is
made that begins after the last message that was delivered. A stream whose leader is gone can make
none until another one is elected; until then it is read from whichever server has a copy.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

import nats.errors
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from hotpath.ports import LogFailure
from hotpath.storage.jetstream.link import JsonMap, Link, Refused, Unanswered, status_of
from hotpath.storage.jetstream.server import Stored
from hotpath.telemetry import get_logger

#: How often a consumer shows that it is there, and after which silence it is replaced, seconds.
HEARTBEAT_S: Final = 0.5
SILENCE_S: Final = 2.0
#: Silence after which the stream is read without its leader, and how often then, seconds.
READ_S: Final = 0.9
READ_EVERY_S: Final = 0.25
_RETRY_S: Final = 0.2
#: How long the making of a consumer may take, and the removal of one that removes itself in the end:
#: what is asked while a leader is elected is never answered.
_MAKE_S: Final = 1.0
_UNMAKE_S: Final = 0.3
#: How long a beginning waits for servers that are electing a leader, seconds.
START_S: Final = 10.0
#: How long the server keeps a consumer that nobody listens to, seconds.
_INACTIVE_S: Final = 30
_NANO: Final = 1_000_000_000
#: Subjects of delivered messages: `$JS.ACK`, then from behind: pending, time, consumer's and
#: stream's number.
_STREAM_AT, _CONSUMER_AT = -4, -3

_log = get_logger("hotpath.jetstream")


#: Reads what any server has of the stream from a message on. Raises LogFailure.
Reader = Callable[[int], Awaitable[list[Stored]]]


class _Gap(Exception):
    """Something that was sent has not arrived."""


class Following:
    """One stream as one node follows it.

    `deliver` gets the messages; `resumed` hears, before them, how many seconds nothing was heard.
    """

    def __init__(
        self,
        link: Link,
        stream: str,
        *,
        deliver: Callable[[Stored], None],
        resumed: Callable[[float], None] = lambda _: None,
        read: Reader | None = None,
    ) -> None:
        self._link = link
        self._stream = stream
        self._deliver = deliver
        self._resumed = resumed
        self._read = read
        self._next = 1
        self._received = 0
        self._subscription: Subscription | None = None
        self._consumer = ""
        self._heard_at = 0.0
        self._silent = 0.0
        self._broken = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._ended = False

    async def start(self, from_seq: int) -> None:
        """Begin with a message, or the first after it. Raises LogFailure."""
        self._next = max(from_seq, 1)
        loop = asyncio.get_running_loop()
        until = loop.time() + START_S
        while True:
            try:
                await self._make()
                break
            except (Unanswered, Refused) as error:
                await self._unmake()
                passes = error.passes if isinstance(error, Refused) else True
                if not passes or loop.time() >= until:
                    raise LogFailure(f"{self._stream} cannot be followed: {error}") from error
            await asyncio.sleep(_RETRY_S)
        self._link.on_connected.append(self._broken.set)
        self._tasks.append(asyncio.ensure_future(self._run()))
        if self._read is not None:
            self._tasks.append(asyncio.ensure_future(self._stand_in(self._read)))

    async def stop(self) -> None:
        """Deliver nothing more."""
        self._ended = True
        if self._broken.set in self._link.on_connected:
            self._link.on_connected.remove(self._broken.set)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._unmake()

    def _note_silence(self) -> None:
        """Remember how long nothing was heard, until another consumer is made."""
        silent = asyncio.get_running_loop().time() - self._heard_at
        self._silent = max(self._silent, silent)

    # The consumer

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(HEARTBEAT_S):
                    await self._broken.wait()
            if not self._broken.is_set() and loop.time() - self._heard_at < SILENCE_S:
                continue
            self._note_silence()
            await self._unmake()
            if not await self._link.until_connected(SILENCE_S):
                continue
            try:
                await self._make()
                longest, self._silent = self._silent, 0.0
                self._resumed(longest)
            except (Unanswered, Refused) as error:
                self._broken.set()
                _log.info("cannot follow yet", extra={"reason": str(error)})
                await asyncio.sleep(_RETRY_S)

    async def _stand_in(self, read: Reader) -> None:
        """While no consumer is heard of, deliver what can be had without one."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(READ_EVERY_S)
            if loop.time() - self._heard_at < READ_S or not self._link.is_connected:
                continue
            try:
                while part := await read(self._next):
                    for stored in part:
                        self._pass_on(stored)
            except LogFailure as failure:
                _log.info("cannot read on yet", extra={"reason": failure.detail})
            except Exception:  # noqa: BLE001 - nobody would see the end of this task
                _log.exception("reading on failed", extra={"stream": self._stream})

    async def _make(self) -> None:
        self._broken.clear()
        self._received = 0
        inbox = self._link.client.new_inbox()
        current: list[Subscription] = []

        async def arrived(message: Msg) -> None:
            if current and current[0] is self._subscription and not self._ended:
                await self._arrived(message)

        self._subscription = await self._link.subscribe(inbox, arrived)
        current.append(self._subscription)
        config: JsonMap = {
            "deliver_subject": inbox,
            "deliver_policy": "by_start_sequence",
            "opt_start_seq": self._next,
            "ack_policy": "none",
            "max_deliver": 1,
            "mem_storage": True,
            "num_replicas": 1,
            "flow_control": True,
            "idle_heartbeat": int(HEARTBEAT_S * _NANO),
            "inactive_threshold": _INACTIVE_S * _NANO,
        }
        question: JsonMap = {"stream_name": self._stream, "config": config}
        name = f"CONSUMER.CREATE.{self._stream}"
        answer = await self._link.api(name, question, seconds=_MAKE_S)
        self._consumer = str(answer.get("name", ""))
        self._heard_at = asyncio.get_running_loop().time()

    async def _unmake(self) -> None:
        subscription, self._subscription = self._subscription, None
        consumer, self._consumer = self._consumer, ""
        if subscription is not None:
            with suppress(nats.errors.Error, OSError, ValueError):
                await subscription.unsubscribe()
        if consumer and self._link.is_connected:
            with suppress(Unanswered, Refused):
                name = f"CONSUMER.DELETE.{self._stream}.{consumer}"
                await self._link.api(name, {}, seconds=_UNMAKE_S)

    # What arrives

    async def _arrived(self, message: Msg) -> None:
        self._note_silence()
        self._heard_at = asyncio.get_running_loop().time()
        if self._silent > SILENCE_S:
            # What would have come meanwhile may not exist any more.
            self._broken.set()
        if self._broken.is_set():
            return
        try:
            if message.reply.startswith("$JS.ACK."):
                self._take(message)
            else:
                await self._take_sign(message)
        except (_Gap, ValueError, IndexError, Unanswered, Refused):
            self._broken.set()

    async def _take_sign(self, message: Msg) -> None:
        """A heartbeat, or the question whether everything up to here has been read."""
        if status_of(message) != "100":
            raise _Gap
        headers = message.headers or {}
        reply = message.reply or headers.get("Nats-Consumer-Stalled", "")
        if reply:
            await self._link.send(reply, b"")
        sent = headers.get("Nats-Last-Consumer")
        if sent is not None and int(sent) != self._received:
            raise _Gap

    def _take(self, message: Msg) -> None:
        places = message.reply.split(".")
        if int(places[_CONSUMER_AT]) != self._received + 1:
            raise _Gap
        self._received += 1
        self._pass_on(Stored(int(places[_STREAM_AT]), message.subject, message.data))

    def _pass_on(self, stored: Stored) -> None:
        """Deliver the next message, or one after it; an earlier one has been, or was read."""
        if stored.seq < self._next or self._ended:
            return
        self._next = stored.seq + 1
        try:
            self._deliver(stored)
        except Exception:  # noqa: BLE001 - the edge of a callback
            _log.exception("a follower broke", extra={"stream": self._stream})
