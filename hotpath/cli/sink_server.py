"""A small receiver of webhooks: checks signatures, shows what comes, misbehaves when asked to."""

import asyncio
import json
import random
import ssl
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from aiohttp import web

from hotpath.client.times import wall_ms
from hotpath.webhooks.signing import (
    SIGNATURE,
    WEBHOOK_ID,
    WEBHOOK_SIGNATURE,
    WEBHOOK_TIMESTAMP,
    Refused,
    SigningSecret,
    verify_body,
    verify_standard,
)

#: Largest request body, bytes.
BODY_MAX: Final = 16 * 1024 * 1024
#: Events whose attempts are counted at a time.
COUNTED_MAX: Final = 100_000


@dataclass(frozen=True, slots=True)
class Behaviour:
    """How requests are answered."""

    status: int = 200
    """Of requests that do not fail."""
    fail_status: int = 500
    fail_percent: float = 0.0
    """Share of the requests that fail, at random."""
    fail_first: int = 0
    """How many requests fail before any succeeds."""
    fail_attempts: int = 0
    """How many attempts of each event fail."""
    retry_after: str | None = None
    """Goes with every failure."""
    delay_seconds: float = 0.0
    """Before every answer."""


@dataclass(slots=True)
class Received:
    """One request, as it was understood."""

    webhook_id: str | None
    attempt: int
    verified: bool | None
    """None when there is no secret to check with."""
    problem: str
    """Why it was not believed; empty when it was."""
    status: int
    """How it was answered."""
    event: object
    """The body as JSON, or as text."""
    headers: dict[str, str] = field(default_factory=dict)

    def to_object(self) -> dict[str, object]:
        """For a line of JSON."""
        return {
            "webhookId": self.webhook_id,
            "attempt": self.attempt,
            "verified": self.verified,
            "problem": self.problem,
            "status": self.status,
            "event": self.event,
        }


class Sink:
    """Receives; `each` sees every request when it is answered."""

    def __init__(
        self,
        secrets: Sequence[SigningSecret],
        behaviour: Behaviour,
        *,
        each: Callable[[Received], None],
        draw: random.Random | None = None,
    ) -> None:
        self._secrets = secrets
        self._behaviour = behaviour
        self._each = each
        self._draw = draw or random.Random()  # noqa: S311 - chooses which requests fail
        self._requests = 0
        self._attempts: Counter[str] = Counter()
        self._runner: web.AppRunner | None = None

    async def start(self, host: str, port: int, *, tls: ssl.SSLContext | None = None) -> int:
        """Listen; the port. Raises OSError."""
        app = web.Application(client_max_size=BODY_MAX)
        app.router.add_route("*", "/{path:.*}", self._receive)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, host, port, ssl_context=tls)
        await site.start()
        return int(self._runner.addresses[0][1])

    async def stop(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _receive(self, request: web.Request) -> web.Response:
        if request.method != "POST":
            return web.Response(status=405, headers={"Allow": "POST"})
        body = await request.read()
        webhook_id = request.headers.get(WEBHOOK_ID)
        attempt = self._count(webhook_id)
        problem = self._check(request, body)
        status = 401 if problem else self._choose(attempt)
        if self._behaviour.delay_seconds:
            await asyncio.sleep(self._behaviour.delay_seconds)
        verified = not problem if self._secrets else None
        shown = Received(webhook_id, attempt, verified, problem, status, _read(body))
        shown.headers = dict(request.headers)
        self._each(shown)
        failed = not 200 <= status < 300
        retry_after = self._behaviour.retry_after if failed else None
        headers = {} if retry_after is None else {"Retry-After": retry_after}
        return web.Response(status=status, headers=headers)

    def _count(self, webhook_id: str | None) -> int:
        """Which attempt of its event this is, as far as the sink remembers."""
        self._requests += 1
        if webhook_id is None:
            return 1
        if len(self._attempts) >= COUNTED_MAX:
            self._attempts.clear()
        self._attempts[webhook_id] += 1
        return self._attempts[webhook_id]

    def _check(self, request: web.Request, body: bytes) -> str:
        """Why a request is not believed; empty when it is, or there is nothing to check with."""
        problem = ""
        for secret in self._secrets:
            try:
                verify_standard(
                    secret,
                    body,
                    webhook_id=request.headers.get(WEBHOOK_ID),
                    timestamp=request.headers.get(WEBHOOK_TIMESTAMP),
                    signatures=request.headers.get(WEBHOOK_SIGNATURE),
                    now_s=wall_ms() / 1000,
                )
                verify_body(secret, body, signature=request.headers.get(SIGNATURE))
            except Refused as refused:
                problem = str(refused)
            else:
                return ""
        return problem

    def _choose(self, attempt: int) -> int:
        """The status of a request that is believed."""
        behaviour = self._behaviour
        fails = (
            self._requests <= behaviour.fail_first
            or attempt <= behaviour.fail_attempts
            or self._draw.random() * 100 < behaviour.fail_percent
        )
        return behaviour.fail_status if fails else behaviour.status


def _read(body: bytes) -> object:
    """A body for showing."""
    text = body.decode(errors="replace")
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
