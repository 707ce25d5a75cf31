"""A connection that is kept: it comes back after a cut, its links too, and no token runs out.

Links belong to `Attachment`s. For each the session fetches a token (REST), puts it (`$cbs`) and
attaches; before a token ends it fetches and puts the next one on the same link.
"""

import asyncio
import contextlib
import ssl
from collections.abc import Callable
from typing import Final, Protocol
from urllib.parse import urlsplit

from hotpath.client.connection import Connection, connect
from hotpath.client.errors import (
    NOT_FOUND,
    RESOURCE_DELETED,
    UNAUTHORIZED,
    ClientError,
    Condition,
    Detached,
    Gone,
    Refused,
    Unreachable,
)
from hotpath.client.links import Link
from hotpath.client.rest import Access
from hotpath.client.times import token_end_ms, wall_ms

#: Waits between attempts, seconds: doubling from the first to the last.
BACKOFF_FIRST: Final = 0.2
BACKOFF_LAST: Final = 5.0
#: A token is renewed when this part of its life is over.
RENEW_AT: Final = 0.8

_FATAL: Final = frozenset(
    {
        "amqp:link:message-size-exceeded",
        "amqp:not-allowed",
        "amqp:not-implemented",
        "amqp:resource-limit-exceeded",
    }
)


class Attachment(Protocol):
    """A link that a session keeps attached."""

    async def authorise(self) -> Access:
        """Where to attach and a token for it that is fresh. Raises Refused, Unreachable, Gone."""
        ...

    async def attach(self, connection: Connection, address: str) -> Link:
        """Open the link. Raises Detached, Unreachable."""
        ...

    def lost(self) -> None:
        """The link is gone; another `attach` may follow."""
        ...


class _Held:
    """An attachment and where it stands."""

    def __init__(self, attachment: Attachment) -> None:
        self.attachment = attachment
        self.link: Link | None = None
        self.renew_ms: int | None = None
        self.renewals = 0

    def is_due(self, now_ms: int) -> bool:
        return self.renew_ms is not None and now_ms >= self.renew_ms


class Session:
    """Keeps one connection with its attachments until closed."""

    def __init__(
        self,
        *,
        tls: ssl.SSLContext | None = None,
        patience_s: float | None = None,
        now_ms: Callable[[], int] = wall_ms,
    ) -> None:
        """Args.

        tls: For `amqps` addresses.
        patience_s: How long to try to come back after a cut; None for ever.
        now_ms: Wall clock.
        """
        self.failure: ClientError | None = None
        self.on_failure: Callable[[], None] = lambda: None
        self.on_cut: Callable[[str], None] = lambda _: None
        self.on_renewed: Callable[[], None] = lambda: None
        self.on_writable: Callable[[], None] = lambda: None
        self._tls = tls
        self._patience_s = patience_s
        self._now_ms = now_ms
        self._held: list[_Held] = []
        self._connection: Connection | None = None
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def connection(self) -> Connection | None:
        """The live connection, or None while there is none."""
        return self._connection

    async def start(self, *attachments: Attachment) -> None:
        """Connect and attach for the first time, then keep it so in the background.

        Raises:
            Refused, Unreachable, Detached, Gone: at once, without another attempt.
        """
        self._held = [_Held(attachment) for attachment in attachments]
        try:
            await self._settle_in()
        except BaseException:
            await self._drop_connection()
            raise
        self._task = asyncio.create_task(self._keep())

    async def close(self) -> None:
        """End everything cleanly."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None
        await self._drop_connection()

    def flush_soon(self) -> None:
        """Let what the links have queued leave."""
        if self._connection is not None:
            self._connection.flush_soon()

    # Keeping

    async def _keep(self) -> None:
        failing_since: float | None = None
        wait_s = BACKOFF_FIRST
        loop = asyncio.get_running_loop()
        while True:
            try:
                await self._settle_in()
                failing_since, wait_s = None, BACKOFF_FIRST
                await self._until_changed()
            except (Unreachable, Detached, Refused) as error:
                failing_since = loop.time() if failing_since is None else failing_since
                if self._is_final(error, loop.time() - failing_since):
                    self._fail(error)
                    return
                await asyncio.sleep(wait_s)
                wait_s = min(2 * wait_s, BACKOFF_LAST)
            except ClientError as error:
                self._fail(error)
                return

    def _is_final(self, error: ClientError, failing_s: float) -> bool:
        match error:
            case Refused():
                return error.status < 500 and error.status != 429
            case Detached() if error.condition.name in _FATAL:
                return True
        return self._patience_s is not None and failing_s > self._patience_s

    def _fail(self, error: ClientError) -> None:
        self.failure = error
        self.on_failure()

    async def _settle_in(self) -> None:
        """Bring everything to where it should be: connected, attached, tokens fresh."""
        self._changed.clear()
        if self._connection is not None and self._connection.ended is not None:
            await self._drop_connection()
        for held in self._held:
            if held.link is not None and held.link.ended is not None:
                condition = held.link.ended
                held.link = None
                held.attachment.lost()
                _raise_if_over(condition)
            if held.link is None or held.is_due(self._now_ms()):
                await self._settle(held)

    async def _settle(self, held: _Held) -> None:
        access = await held.attachment.authorise()
        connection = await self._connected(access.url)
        await connection.put_token(audience=access.url, token=access.token)
        self._plan_renewal(held, access.token)
        if held.link is not None:
            held.renewals += 1
            self.on_renewed()
            return
        address = urlsplit(access.url).path.lstrip("/")
        try:
            link = await held.attachment.attach(connection, address)
        except Detached as error:
            _raise_if_over(error.condition)
            raise
        held.link = link
        link.on_end = lambda _: self._changed.set()
        if link.ended is not None:
            self._changed.set()

    async def _connected(self, url: str) -> Connection:
        if self._connection is None:
            connection = await connect(url, tls=self._tls)
            connection.on_end = self._cut
            connection.on_writable = self.on_writable
            self._connection = connection
        return self._connection

    def _cut(self, condition: Condition) -> None:
        self.on_cut(str(condition))
        self._changed.set()

    def _plan_renewal(self, held: _Held, token: str) -> None:
        now_ms = self._now_ms()
        end_ms = token_end_ms(token)
        held.renew_ms = None
        if end_ms is not None:
            held.renew_ms = now_ms + max(round((end_ms - now_ms) * RENEW_AT), 250)

    async def _until_changed(self) -> None:
        """Wait for a cut, or for the next token to become due."""
        due = [held.renew_ms for held in self._held if held.renew_ms is not None]
        wait_s = max(min(due) - self._now_ms(), 0) / 1000 if due else None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self._changed.wait()

    async def _drop_connection(self) -> None:
        connection, self._connection = self._connection, None
        for held in self._held:
            if held.link is not None:
                held.link = None
                held.attachment.lost()
        if connection is not None:
            await connection.close()


def _raise_if_over(condition: Condition) -> None:
    """Raise what another attempt cannot mend; return for what it can."""
    if condition.name in (NOT_FOUND, RESOURCE_DELETED):
        raise Gone(str(condition))
    if condition.name in _FATAL:
        raise Detached(condition)


def is_unauthorized(error: ClientError) -> bool:
    """Whether the service says that rights are missing."""
    if isinstance(error, Refused):
        return error.status in (401, 403)
    return isinstance(error, Detached) and error.condition.name == UNAUTHORIZED
