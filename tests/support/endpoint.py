"""A webhook endpoint on the loopback that answers as it is told, and a service that sends to it."""

import asyncio
import json
import random
import socket
import struct
from collections import deque
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from hotpath.assembly import Core
from hotpath.auth.rights import Principal
from hotpath.config import Settings
from hotpath.model.names import TenantId
from hotpath.service.points_read import PointValue
from hotpath.service.secrets import SecretValue
from hotpath.service.streams import NewStream, Stream
from hotpath.storage.memory import MemoryLog, MemoryStore
from hotpath.webhooks.edge import WebhookEdge
from tests.support.clock import ManualClock
from tests.support.services import eventually

TENANT = TenantId("acme")
OWNER = Principal(TENANT, "tester", frozenset({"hotpath.subscribe", "hotpath.publish"}))

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


def status(code: int, *lines: str) -> bytes:
    """A whole answer."""
    head = "".join(f"{line}\r\n" for line in lines)
    return f"HTTP/1.1 {code} X\r\n{head}Content-Length: 0\r\n\r\n".encode()


@dataclass
class Request:
    """What came."""

    line: str
    headers: dict[str, str]
    body: bytes

    @property
    def event(self):
        return json.loads(self.body)

    @property
    def value(self):
        return self.event["value"]


#: Answers that are no bytes: never answer; reset the connection; close it.
HANG, RESET, CLOSE = "hang", "reset", "close"


@dataclass
class FakeEndpoint:
    """Answers each request with the next of `answers`, then with `usual`.

    An answer may be bytes, one of HANG, RESET and CLOSE, or a function of the request that gives
    one of these.
    """

    usual: object = OK
    answers: deque = field(default_factory=deque)
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    open: set = field(default_factory=set)
    port: int = 0
    released: asyncio.Event = field(default_factory=asyncio.Event)
    _server: asyncio.Server | None = None

    async def start(self, *, tls=None):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def stop(self):
        self._server.close()
        for writer in tuple(self.open):
            writer.transport.abort()
        await asyncio.sleep(0)

    @property
    def values(self):
        return [request.value for request in self.requests]

    async def _serve(self, reader, writer):
        self.connections += 1
        self.open.add(writer)
        try:
            while await self._one(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.open.discard(writer)
            writer.close()

    async def _one(self, reader, writer):
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = dict(line.split(": ", 1) for line in head[1:] if line)
        body = await reader.readexactly(int(headers["Content-Length"]))
        request = Request(head[0], headers, body)
        self.requests.append(request)
        answer = self.answers.popleft() if self.answers else self.usual
        if callable(answer):
            answer = answer(request)
        if answer is HANG:
            await reader.read()
            return False
        if answer is RESET:
            raw = writer.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
            return False
        if answer is CLOSE:
            return False
        writer.write(answer)
        await writer.drain()
        return True


@dataclass
class Rig:
    """The service without REST and AMQP, and its webhook edge, with time in the test's hands."""

    core: Core
    edge: WebhookEdge
    clock: ManualClock
    settings: Settings

    async def stream(
        self, endpoint, *points, secret=None, path="/hook", scheme="http", host="127.0.0.1"
    ) -> Stream:
        wanted = NewStream(
            partition=TENANT,
            webhook_url=f"{scheme}://{host}:{endpoint.port}{path}",
            points=points or ("p",),
            secret=None if secret is None else SecretValue(secret),
        )
        return await self.core.streams.create(OWNER, wanted)

    async def publish(self, *values, point="p"):
        """Values of one point, or pairs of point and value."""
        now_ms = self.clock.now_ms()
        pairs = [value if isinstance(value, tuple) else (point, value) for value in values]
        read = [PointValue(name, str(value), 0, now_ms) for name, value in pairs]
        await self.core.points.publish(TENANT, TENANT, read, via="test")

    async def letters(self, stream):
        return (await self.edge.dead_letters(stream, after=None, limit=1_000)).items

    async def attempts(self, stream):
        return (await self.edge.history(stream, after=None, limit=1_000)).items

    def unsettled(self, stream):
        topic = self.core.topics.get(stream.spec.key)
        return stream.subscription.backlog(topic.routed_to)

    async def advance(self, seconds):
        """Let time pass, and whatever it sets off on the sockets come back."""
        await self.clock.advance(round(seconds * 1000))
        await io()


async def io(turns=30):
    """Let what is under way on sockets of the loopback come through."""
    for _ in range(turns):
        await asyncio.sleep(0.0005)


@asynccontextmanager
async def webhook_rig(
    tmp_path,
    *,
    log=None,
    store=None,
    clock=None,
    draw=None,
    connector=None,
    resolver=None,
    **options,
):
    """Start it; with `log` and `store` of an earlier one, as after a restart."""
    defaults = {"webhook_allow_http": True, "webhook_allow_networks": "127.0.0.0/8"}
    settings = Settings(data_dir=tmp_path, **{**defaults, **options})
    clock = clock or ManualClock()
    core = Core(settings, log=log or MemoryLog(), store=store or MemoryStore(), clock=clock)
    await core.open()
    edge = make_edge(core, draw=draw, connector=connector, resolver=resolver)
    edge.start()
    try:
        yield Rig(core, edge, clock, settings)
    finally:
        await asyncio.gather(edge.stop(0), clock.advance(1))
        await core.close()


def make_edge(core: Core, *, draw=None, connector=None, resolver=None) -> WebhookEdge:
    return WebhookEdge(
        streams=core.streams,
        delivering=core.delivering,
        settling=core.settling,
        committer=core.committer,
        log=core.log,
        topics=core.topics,
        settings=core.settings,
        clock=core.clock,
        metrics=core.metrics,
        draw=draw or Middle(),
        connector=connector,
        resolver=resolver,
    )


class Middle(random.Random):
    """Jitter that is none."""

    def random(self):
        return 0.5


__all__ = ["CLOSE", "HANG", "OK", "RESET", "FakeEndpoint", "Rig", "eventually", "webhook_rig"]
