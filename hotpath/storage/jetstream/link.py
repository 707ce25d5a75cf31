"""The connection to the servers: requests with bounds, and a connection that comes back for ever.

A request ends in an answer or in one of three ways that say what is known: `Refused` (the server
has said no), `Unserved` (nobody was there to take it) and `Unanswered` (it may have been taken or
not). All replies come by one subscription of this link's own.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from itertools import count
from typing import Final

import nats.errors
from nats.aio.client import Client, Srv
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from typing_extensions import override

from hotpath.ports import LogFailure
from hotpath.storage.jetstream.options import LinkOptions, shown
from hotpath.telemetry import get_logger

#: Servers before this cannot read several messages at once, nor forget a message after a time.
VERSION_MIN: Final = (2, 11)
#: Servers from this on take several messages all or none.
_VERSION_ATOMIC: Final = (2, 12)
#: Room for the headers of a message, bytes: they count as part of it.
_HEADERS_MAX: Final = 512
_NOT_WANTED: Final = "the server refuses the credentials"
_RECONNECT_S: Final = 0.25
#: After which time a question that changes nothing is asked once more, seconds: a stream that gets
#: its leader while somebody waits answers nothing that was asked before.
_AGAIN_S: Final = 0.3
#: Such questions of JetStream's API.
_LOOKING: Final = ("STREAM.INFO.", "STREAM.MSG.GET.", "STREAM.LIST")
_NO_RESPONDERS: Final = "503"
#: Errors of JetStream by their numbers: no space left, and such as pass (no leader yet, a repeated
#: message that is still on its way).
_NO_SPACE: Final = frozenset({10002, 10023, 10028, 10047})
_STORE_FAILED: Final = 10077
_PASSING: Final = frozenset({10003, 10008, 10009, 10036, 10158, 10201})
#: Errors of the client that mean: not connected, or not any more.
_CLIENT_ERRORS: Final = (nats.errors.Error, OSError, TimeoutError)

JsonMap = dict[str, object]
#: Subject, content and headers of a message.
Question = tuple[str, bytes, dict[str, str]]

_log = get_logger("hotpath.jetstream")


class Unanswered(Exception):
    """No answer came: whether it was taken is unknown."""


class Unserved(Unanswered):
    """Nobody took the request; later somebody may."""


class Refused(Exception):
    """JetStream said no. `code` is its error's number, `status` like an HTTP status."""

    def __init__(self, status: int, code: int, detail: str) -> None:
        super().__init__(f"{detail} ({code})")
        self.status = status
        self.code = code
        self.detail = detail

    @property
    def passes(self) -> bool:
        """Whether the same request may be taken a little later."""
        return self.code in _PASSING or (self.status == 503 and self.code not in _NO_SPACE)

    def failure(self) -> LogFailure:
        """The refusal as the ports tell it."""
        text = self.detail.lower()
        no_space = self.code == _STORE_FAILED and ("maximum" in text or "space" in text)
        return LogFailure(f"JetStream refused: {self}", full=self.code in _NO_SPACE or no_space)


class _Client(Client):
    """The library's client, which never gives up and can be made to let go of a dead peer."""

    def abort(self) -> None:
        """Close the socket without waiting for what has not been sent."""
        writer: asyncio.StreamWriter | None = vars(self._transport or object).get("_io_writer")
        if writer is not None:
            writer.transport.abort()

    @override
    async def _connect_to_server(self, s: Srv) -> None:
        """Close the socket of the attempt before, which the library forgets."""
        self.abort()
        await super()._connect_to_server(s)

    async def push(self, commands: bytes) -> None:
        """Send commands of the protocol as they are."""
        if not self.is_connected:
            raise nats.errors.ConnectionClosedError
        await self._send_command(commands)
        await self._flush_pending()

    def forget_servers(self) -> None:
        """As before the first connecting, which adds its servers to those that are known."""
        self._server_pool.clear()


class Link:
    """A connection to one of several servers, made anew whenever it is lost.

    `client` stays the same object for good. What it was subscribed to mostly comes back with the
    connection, but not after a server has thrown it out: who subscribes does so again when
    `on_connected` calls, which it does in the event loop after every reconnection.
    """

    def __init__(self, options: LinkOptions) -> None:
        self._options = options
        self.client = _Client()
        self.on_connected: list[Callable[[], None]] = []
        self._inbox = ""
        self._tokens = count()
        self._waiting: dict[str, Callable[[Msg | None], None]] = {}
        self._up = asyncio.Event()
        self._closing = False
        self._is_open = False
        self._has_begun = False
        self._last_error = ""
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def is_connected(self) -> bool:
        """Whether requests can be sent now."""
        return self._up.is_set() and self.client.is_connected

    @property
    def request_seconds(self) -> float:
        """How long an answer is waited for."""
        return self._options.request_seconds

    @property
    def takes_all_or_none(self) -> bool:
        """Whether the server can take several messages all or none."""
        version = self.client.connected_server_version
        return (version.major, version.minor) >= _VERSION_ATOMIC

    @property
    def payload_max(self) -> int:
        """Bytes that the server takes in one message."""
        return self.client.max_payload

    async def open(self) -> None:
        """Connect, and see that JetStream is there. Raises LogFailure."""
        self._options.check()
        try:
            async with asyncio.timeout(self._options.open_seconds):
                await self._connect()
        except (*_CLIENT_ERRORS, ValueError) as error:
            await self._shut()
            servers = ", ".join(map(shown, self._options.servers))
            reason = self._last_error or _reason(error)
            raise LogFailure(f"no connection to NATS at {servers}: {reason}") from error
        self._is_open = True
        self._begin(self._watch())
        try:
            self._check_version()
            await self._check_jetstream()
        except LogFailure:
            await self.close()
            raise

    async def close(self) -> None:
        """Let go; whoever waits for an answer hears that none comes."""
        self._closing = True
        self._is_open = False
        self._up.clear()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._shut()
        self._drop_waiting()

    async def _shut(self) -> None:
        """Close the client; a peer that does not answer is not waited for."""
        self._closing = True
        if self._has_begun:
            with suppress(*_CLIENT_ERRORS):
                async with asyncio.timeout(1.0):
                    await self.client.close()
            self.client.abort()

    # Connecting

    async def _connect(self) -> None:
        options = self._options
        context = options.tls_context()
        self._has_begun = True
        await self.client.connect(
            servers=list(options.servers),
            name=options.name,
            connect_timeout=2,
            allow_reconnect=True,
            max_reconnect_attempts=-1,
            reconnect_time_wait=_RECONNECT_S,  # type: ignore[arg-type]  # seconds, whole or not
            ping_interval=options.silence_seconds,  # type: ignore[arg-type]
            max_outstanding_pings=2,
            tls=context,
            user=options.user,
            password=options.password,
            token=options.token,
            user_credentials=None if options.credentials is None else str(options.credentials),
            nkeys_seed=None if options.nkey is None else str(options.nkey),
            error_cb=self._on_error,
            disconnected_cb=self._on_disconnected,
            reconnected_cb=self._on_reconnected,
            closed_cb=self._on_closed,
        )
        self._inbox = self.client.new_inbox()
        await self.client.subscribe(f"{self._inbox}.*", cb=self._on_reply)
        self._connected()

    def _connected(self) -> None:
        self._last_error = ""
        self._up.set()
        for callback in list(self.on_connected):
            callback()

    async def _on_error(self, error: Exception) -> None:
        # That the socket was closed follows from a refusal, and says less.
        if self._last_error != _NOT_WANTED:
            self._last_error = _reason(error)

    async def _on_disconnected(self) -> None:
        if self._up.is_set() and not self._closing:
            _log.warning("connection to NATS lost", extra={"reason": self._last_error})
        self._up.clear()
        self._drop_waiting()

    async def _on_reconnected(self) -> None:
        _log.info("connected to NATS again")
        self._connected()

    async def _on_closed(self) -> None:
        """The client has given up, as it does when a server does not want it; it must go on."""
        self._up.clear()
        self._drop_waiting()
        if self._is_open:
            self._begin(self._reopen())

    async def _reopen(self) -> None:
        while self._is_open:
            await asyncio.sleep(_RECONNECT_S)
            self.client.forget_servers()
            with suppress(*_CLIENT_ERRORS):
                async with asyncio.timeout(self._options.open_seconds):
                    await self._connect()
                return

    async def _watch(self) -> None:
        """Let go of a socket that the client cannot close because its peer is silent."""
        while True:
            await asyncio.sleep(self._options.silence_seconds)
            if self._up.is_set() and self.client.is_reconnecting:
                self.client.abort()

    def leave_server(self) -> None:
        """Go to another server: this one talks, but has lost the others."""
        _log.warning("leaving a server that has lost the others")
        self.client.abort()

    def _begin(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _check_version(self) -> None:
        version = self.client.connected_server_version
        if (version.major, version.minor) < VERSION_MIN:
            wanted = ".".join(map(str, VERSION_MIN))
            raise LogFailure(f"nats-server {version} is too old: {wanted} is needed")

    async def _check_jetstream(self) -> None:
        """Raises LogFailure when JetStream is not there for this user."""
        until = asyncio.get_running_loop().time() + self._options.open_seconds
        while True:
            try:
                await self.api("INFO", {})
            except Refused as refused:
                if refused.status != 503 or asyncio.get_running_loop().time() > until:
                    raise LogFailure(f"JetStream cannot be used: {refused}") from refused
            except Unanswered as error:
                if asyncio.get_running_loop().time() > until:
                    raise LogFailure("JetStream is not enabled, or not allowed") from error
            else:
                return
            await asyncio.sleep(_RECONNECT_S)

    # Asking

    async def until_connected(self, seconds: float) -> bool:
        """Wait for a connection; whether there is one."""
        with suppress(TimeoutError):
            async with asyncio.timeout(max(seconds, 0)):
                await self._up.wait()
        return self._up.is_set()

    def expect(self, receive: Callable[[Msg | None], None]) -> str:
        """A subject for replies until `unexpect`; None comes when the connection is lost."""
        token = str(next(self._tokens))
        self._waiting[token] = receive
        return f"{self._inbox}.{token}"

    def unexpect(self, reply: str) -> None:
        """Take no more replies."""
        self._waiting.pop(reply.rpartition(".")[2], None)

    async def send(
        self,
        subject: str,
        payload: bytes,
        *,
        reply: str = "",
        headers: dict[str, str] | None = None,
    ) -> None:
        """Send without waiting for anything. Raises Unserved when that is not possible now."""
        await self._push(self._command(subject, payload, reply, headers))

    def _command(
        self, subject: str, payload: bytes, reply: str, headers: dict[str, str] | None
    ) -> bytes:
        """A message as the protocol has it. Raises Refused when it is too large."""
        if len(payload) > self.payload_max - _HEADERS_MAX:
            raise Refused(400, 0, f"{len(payload)} bytes are more than NATS takes")
        if not headers:
            return b"PUB %s %s %d\r\n%s\r\n" % (
                subject.encode(),
                reply.encode(),
                len(payload),
                payload,
            )
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        head = f"NATS/1.0\r\n{lines}\r\n".encode()
        return b"HPUB %s %s %d %d\r\n%s%s\r\n" % (
            subject.encode(),
            reply.encode(),
            len(head),
            len(head) + len(payload),
            head,
            payload,
        )

    async def _push(self, commands: bytes) -> None:
        if not self.is_connected:
            raise Unserved("there is no connection to NATS")
        try:
            await self.client.push(commands)
        except _CLIENT_ERRORS as error:
            raise Unanswered(_reason(error)) from error

    async def request(
        self,
        subject: str,
        payload: bytes,
        *,
        headers: dict[str, str] | None = None,
        seconds: float | None = None,
    ) -> Msg:
        """One question, one answer. Raises Unanswered, or Unserved when nobody takes it."""
        return await self.request_last([(subject, payload, headers or {})], seconds=seconds)

    async def request_last(
        self, messages: Sequence[Question], *, seconds: float | None = None, again: bool = False
    ) -> Msg:
        """Several messages at once, of which the last one is answered; as `request`.

        With `again` they are sent again and again until there is an answer: they change nothing.
        """
        future: asyncio.Future[Msg | None] = asyncio.get_running_loop().create_future()

        def receive(message: Msg | None) -> None:
            if not future.done():
                future.set_result(message)

        reply = self.expect(receive)
        try:
            commands = [self._command(*message[:2], "", message[2]) for message in messages[:-1]]
            subject, payload, headers = messages[-1]
            commands.append(self._command(subject, payload, reply, headers))
            async with asyncio.timeout(seconds or self._options.request_seconds):
                await self._push(b"".join(commands))
                while again and not (await asyncio.wait({future}, timeout=_AGAIN_S))[0]:
                    await self._push(b"".join(commands))
                message = await future
        except TimeoutError as error:
            raise Unanswered("NATS did not answer in time") from error
        finally:
            self.unexpect(reply)
        if message is None:
            raise Unanswered("the connection to NATS was lost")
        if not message.data and status_of(message) == _NO_RESPONDERS:
            raise Unserved("JetStream has nobody to take this now")
        return message

    async def ask(
        self,
        subject: str,
        payload: bytes,
        *,
        headers: dict[str, str] | None = None,
        seconds: float | None = None,
    ) -> JsonMap:
        """As `request`, for answers that are JSON objects. Raises Refused too."""
        return await self.ask_last([(subject, payload, headers or {})], seconds=seconds)

    async def ask_last(
        self, messages: Sequence[Question], *, seconds: float | None = None, again: bool = False
    ) -> JsonMap:
        """Several messages at once, of which the last one is answered; as `ask`."""
        message = await self.request_last(messages, seconds=seconds, again=again)
        try:
            answer = json.loads(message.data)
        except ValueError as error:
            raise Unanswered("the answer of JetStream is unreadable") from error
        if not isinstance(answer, dict):
            raise Unanswered("the answer of JetStream is unreadable")
        refusal = answer.get("error")
        if isinstance(refusal, dict):
            raise Refused(
                int(refusal.get("code", 0)),
                int(refusal.get("err_code", 0)),
                str(refusal.get("description", "")),
            )
        return answer

    async def api(self, name: str, question: JsonMap, *, seconds: float | None = None) -> JsonMap:
        """A call of JetStream's API, such as STREAM.INFO.x."""
        message = (f"$JS.API.{name}", json.dumps(question).encode(), dict[str, str]())
        return await self.ask_last([message], seconds=seconds, again=name.startswith(_LOOKING))

    async def subscribe(
        self, subject: str, receive: Callable[[Msg], Awaitable[None]]
    ) -> Subscription:
        """Receive until its `unsubscribe`. Raises Unserved."""
        try:
            return await self.client.subscribe(subject, cb=receive)
        except _CLIENT_ERRORS as error:
            raise Unserved(_reason(error)) from error

    async def _on_reply(self, message: Msg) -> None:
        receive = self._waiting.get(message.subject.rpartition(".")[2])
        if receive is not None:
            receive(message)

    def _drop_waiting(self) -> None:
        waiting, self._waiting = self._waiting, {}
        for receive in waiting.values():
            receive(None)


def status_of(message: Msg) -> str:
    """The status of a message without content, such as 404; empty when it has none."""
    headers = message.headers
    return headers.get("Status", "") if headers else ""


def _reason(error: BaseException) -> str:
    """An error in words; the library's texts name no secrets, and servers' addresses are not in."""
    if isinstance(error, nats.errors.AuthorizationError) or "uthorization" in str(error):
        return _NOT_WANTED
    if isinstance(error, nats.errors.NoServersError):
        return "no server can be reached"
    return str(error).removeprefix("nats: ") or type(error).__name__
