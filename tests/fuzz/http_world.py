"""The REST edge without sockets: HTTP bytes in, HTTP bytes out, the service behind it.

The bytes go through everything: aiohttp's parser, middleware, authentication, bodies, models, the
log. Only the transport is made up.
"""

import asyncio
import random
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.fuzz import mutate, oracle
from tests.support.services import TestService, running_service

_STATUS = re.compile(rb"^HTTP/1\.1 (\d{3}) ", re.MULTILINE)
#: An answer is no larger than this for each request that may be in the bytes.
ANSWER_BYTES_MAX = 300_000
_AS_JSON = {"Content-Type": "application/json"}
_NDJSON = "application/x-ndjson"
_OBJECT = b'{"objectId": "a", "variable": "v", "value": 1.5, "timestamp": "2026-01-01T00:00:00Z"}'


class MadeUpTransport(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__({"peername": ("192.0.2.66", 5)})
        self.out = bytearray()
        self.closed = False

    def write(self, data: Any) -> None:
        self.out += data

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True

    def pause_reading(self) -> None:
        """Everything is there already."""

    def resume_reading(self) -> None:
        """Everything is there already."""

    def is_reading(self) -> bool:
        return not self.closed

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        del high, low

    def get_write_buffer_size(self) -> int:
        return 0


class HttpWorld:
    """A service that is fed requests."""

    def __init__(self, service: TestService, watch: oracle.Watch) -> None:
        self._service = service
        self._watch = watch
        self._tasks = len(asyncio.all_tasks())
        #: A token that never changes its length takes the place of this.
        self.token = service.token(minutes=10_000_000)

    async def feed(self, reads: list[bytes]) -> list[int]:
        """Feed one connection; the status of each answer. Raises Violation."""
        edge = self._service.edge
        ticket = edge.admission.enter("192.0.2.66")
        assert ticket is not None
        protocol = edge._make_connection(ticket)
        transport = MadeUpTransport()
        protocol.connection_made(transport)
        for read in reads:
            if transport.closed:
                break
            protocol.data_received(read)
            await oracle.come_to_rest()
        protocol.connection_lost(None)
        await oracle.come_to_rest()
        return self._judge(bytes(transport.out), sum(map(len, reads)))

    def _judge(self, out: bytes, fed: int) -> list[int]:
        self._watch.check()
        statuses = [int(status) for status in _STATUS.findall(out)]
        unexpected = [status for status in statuses if status >= 500]
        if unexpected:
            raise oracle.Violation(f"answered {unexpected}: {out[:2_000]!r}")
        if len(out) > ANSWER_BYTES_MAX + 100 * fed:
            raise oracle.Violation(f"{len(out)} bytes are the answer to {fed}")
        left = len(asyncio.all_tasks()) - self._tasks
        if left:
            raise oracle.Violation(f"{left} tasks are left over")
        return statuses

    async def check(self) -> None:
        """A good client is served. Raises Violation."""
        status, body, _ = await self._service.call(
            "POST", "/messages/variables", data=_OBJECT, headers=_AS_JSON
        )
        if (status, body) != (202, {"accepted": 1}):
            raise oracle.Violation(f"a good client was answered {status} {body}")
        self._watch.check(collect=True)
        self._tasks = len(asyncio.all_tasks())

    def templates(self) -> list[bytes]:
        """Good requests of every kind."""
        create = b'{"subscriptionTTL": 60, "sasTokenTTL": 10, "filter": "value > 1"}'
        check = b'{"type": "variables", "filter": "value > 1", "messages": [{"value": 2}, {}]}'
        lines = _OBJECT + b"\n\n" + _OBJECT + b"\n"
        return [
            self.request("POST", "/subscriptions/variables", create),
            self.request("PUT", "/subscriptions/variables/x", b'{"sasTokenTTL": 7}'),
            self.request("DELETE", "/subscriptions/alarms/x"),
            self.request("GET", "/subscriptions?limit=5&cursor=MTo6eA"),
            self.request("POST", "/publishers/variables", b'{"sasTokenTTL": 7}'),
            self.request("POST", "/qel/check", check),
            self.request("POST", "/messages/variables", _OBJECT),
            self.request("POST", "/messages/variables", b"[" + _OBJECT + b", " + _OBJECT + b"]"),
            self.request("POST", "/messages/variables", lines, kind=_NDJSON),
            self.request("POST", "/messages/variables", lines, kind=_NDJSON, chunked=True),
            self.request("POST", "/messages/events", b'{"objectId": "a", "event": "e"}'),
            self.request("GET", "/keys"),
            self.request("POST", "/keys", b'{"name": "n", "tenant": "acme"}'),
            self.request("GET", "/healthz"),
            self.request("OPTIONS", "/subscriptions/variables"),
        ]

    def request(
        self, method: str, path: str, body: bytes = b"", *, kind: str = "", chunked: bool = False
    ) -> bytes:
        """A request with a good token."""
        lines = [f"{method} {path} HTTP/1.1", "Host: a", f"Authorization: Bearer {self.token}"]
        if kind or body:
            lines.append(f"Content-Type: {kind or 'application/json'}")
        if chunked:
            lines.append("Transfer-Encoding: chunked")
            half = len(body) // 2
            body = b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in (body[:half], body[half:], b""))
        elif body:
            lines.append(f"Content-Length: {len(body)}")
        return "\r\n".join([*lines, "", ""]).encode() + body

    def mutated(self, rng: random.Random, template: bytes) -> list[bytes]:
        """A request changed in its body, its head, or anywhere; cut into reads."""
        head, _, body = template.partition(b"\r\n\r\n")
        chance = rng.random()
        if body and chance < 0.6:
            change = mutate.json_text if rng.random() < 0.7 else mutate.havoc
            body = change(rng, body)
            length = b"Content-Length: %d" % len(body)
            head = re.sub(rb"Content-Length: \d+", lambda _: length, head)
            raw = head + b"\r\n\r\n" + body
        elif chance < 0.85:
            # The token stays: without it nothing behind the door would be reached.
            first, found, rest = head.partition(self.token.encode())
            first = mutate.havoc(rng, first, 2)
            raw = first + found + rest + b"\r\n\r\n" + body
        else:
            raw = mutate.havoc(rng, template, 5)
        if rng.random() < 0.2:
            raw += template
        return mutate.pieces(rng, [raw])


@asynccontextmanager
async def running_http_world(directory: Path, watch: oracle.Watch) -> AsyncIterator[HttpWorld]:
    """Start one."""
    watch.listen(asyncio.get_running_loop())
    bounds = {"rate_limit": "1000000/second", "rate_limit_burst": 1_000_000}
    async with running_service(directory, max_request_bytes=65_536, **bounds) as service:
        world = HttpWorld(service, watch)
        await world.check()
        yield world
        await world.check()
