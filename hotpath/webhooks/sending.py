"""The requests of one stream: its endpoint, its signatures, its event ids."""

import asyncio
from collections.abc import Callable

from hotpath.service.secrets import SecretValue
from hotpath.service.streams import Stream
from hotpath.webhooks.address import TargetRefused
from hotpath.webhooks.connection import Endpoint
from hotpath.webhooks.context import Context
from hotpath.webhooks.retry import Outcome
from hotpath.webhooks.signing import BadSecret, Signer
from hotpath.webhooks.target import check_url


class Sending:
    """Makes the requests of one stream."""

    __slots__ = ("_context", "_endpoint", "_secrets", "_signer", "_stream", "_url")

    def __init__(self, stream: Stream, context: Context) -> None:
        self._stream = stream
        self._context = context
        self._url = ""
        self._endpoint: Endpoint | None = None
        self._secrets: list[SecretValue] = []
        self._signer = Signer([])

    def event_id(self, seq: int) -> str:
        """The `webhook-id` of an event: the same for every attempt, also after a restart."""
        return f"{self._stream.id}-{seq}"

    def send(self, seq: int, body: bytes, done: Callable[[Outcome], None]) -> None:
        """Make the request for an event; `done` hears how it ended, after this has returned."""
        self.post(self.event_id(seq), body, done)

    def post(self, event_id: str, body: bytes, done: Callable[[Outcome], None]) -> None:
        """As `send`, for what is no event of the log."""
        try:
            endpoint, signer = self._current()
        except TargetRefused as refused:
            failed = Outcome(None, f"target refused: {refused.reason}")
            asyncio.get_running_loop().call_soon(done, failed)
            return
        except BadSecret as bad:
            asyncio.get_running_loop().call_soon(done, Outcome(None, f"cannot sign: {bad}"))
            return
        at_s = self._context.clock.now_ms() // 1000
        endpoint.send(signer.headers(event_id, at_s=at_s, body=body), body, done)

    def _current(self) -> tuple[Endpoint, Signer]:
        """Where to, and with which secrets, now. Raises TargetRefused, BadSecret."""
        secrets = self._context.streams.secrets(self._stream)
        if secrets != self._secrets:
            self._signer = Signer.of([secret.reveal() for secret in secrets])
            self._secrets = secrets
        url = self._stream.spec.webhook_url
        if self._endpoint is None or url != self._url:
            target = check_url(url, self._context.policy)
            self.close()
            self._url = url
            self._endpoint = Endpoint(
                target,
                dialer=self._context.dialer,
                kept=self._context.kept,
                clock=self._context.clock,
                agent=self._context.agent,
            )
        return self._endpoint, self._signer

    def sweep(self) -> None:
        """Forget connections that were closed."""
        if self._endpoint is not None:
            self._endpoint.sweep()

    def close(self) -> None:
        """Give up what is under way and close all connections."""
        if self._endpoint is not None:
            self._endpoint.close()
