"""Webhook streams through kills: every accepted value arrives, or is a dead letter with a reason.

One data directory, some kills under load, a clean end. The endpoint takes most events, fails some
for a while, and refuses some for good. What it got tells the order of the log too (`webhook-id`
ends in the sequence number), so that `changed` and `createdAt` can be checked against it.
"""

import asyncio
import itertools
import json
import random
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import aiohttp
from aiohttp import web

from hotpath.auth.jwt import TokenRules, mint
from hotpath.auth.keys import load_development_key
from hotpath.config import Settings
from tests.fault.crash.child import Child, Orders
from tests.fault.crash.ledger import Violation

BASE: Final = "/streaming/v1/partitions/acme"
KIND: Final = "type=point-stream"
#: Which points each stream holds; the last one's set changes all the time.
STREAMS: Final = {
    "a": ["p0", "p1", "p2", "p3"],
    "b": ["p2", "p3", "p4", "p5"],
    "c": ["p0", "p9"],
}
POINTS: Final = sorted({*STREAMS["a"], *STREAMS["b"]})
STEADY: Final = ("a", "b")
#: Where runs are killed, beside any moment: on an event's way from the log to its settlement.
SEAMS: Final = {
    "after-append": 12,
    "gathered": 30,
    "committed-unrouted": 20,
    "answered-unsent": 20,
    "handed-out": 40,
    "completed": 40,
    "dead-letter-copy": 3,
    "cursor-move": 30,
    "snapshot": 12,
    "recovered": 1,
    "drained": 1,
}
RUN_SECONDS: Final = 2.5
DRAIN_SECONDS: Final = 40.0
SCOPES: Final = ("hotpath.subscribe", "hotpath.publish")


@dataclass
class Endpoint:
    """What receives: `got[stream][seq]` is an event that was taken."""

    rng: random.Random
    got: dict[str, dict[int, dict]] = field(default_factory=lambda: defaultdict(dict))
    seen: dict[str, dict[int, int]] = field(default_factory=lambda: defaultdict(dict))
    url: str = ""
    runner: web.AppRunner | None = None

    async def start(self) -> None:
        app = web.Application()
        app.router.add_post("/{stream}", self.take)
        self.runner = web.AppRunner(app, access_log=None)
        await self.runner.setup()
        site = web.TCPSite(self.runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self.runner.addresses[0][1]}"

    async def take(self, request: web.Request) -> web.Response:
        stream, seq = (
            request.match_info["stream"],
            int(request.headers["webhook-id"].split("-")[-1]),
        )
        event = json.loads(await request.read())
        tries = self.seen[stream][seq] = self.seen[stream].get(seq, 0) + 1
        if seq % 17 == 0:
            return web.Response(status=400)
        if seq % 5 == 0 and tries < 2:
            return web.Response(status=500)
        self.got[stream][seq] = event
        return web.Response(status=204)


class StreamRounds:
    """One data directory through its kills."""

    def __init__(self, directory: Path, *, seed: int, kills: int) -> None:
        self._directory = directory
        self._rng = random.Random(seed)
        self._kills = kills
        self._endpoint = Endpoint(self._rng)
        self._numbers = itertools.count()
        self._ids: dict[str, str] = {}
        #: Values that were accepted, by point, in the order of their accepting.
        self.accepted: dict[str, list[str]] = defaultdict(list)
        self.dead: dict[str, dict[int, dict]] = defaultdict(dict)

    async def work(self) -> None:
        """Raises Violation when a promise was broken."""
        await self._endpoint.start()
        try:
            for _ in range(self._kills):
                await self._run(*self._choose())
            await self._finish()
        finally:
            await self._endpoint.runner.cleanup()

    def _choose(self) -> tuple[str | None, int]:
        if self._rng.random() < 0.4:
            return None, 0
        name = self._rng.choice(sorted(SEAMS))
        return name, self._rng.randrange(1, SEAMS[name] + 1)

    def _child(self, point: str | None = None, visit: int = 0) -> Child:
        options = {
            "http": "127.0.0.1:0",
            "amqp": "off",
            "webhook_allow_http": True,
            "webhook_allow_networks": "127.0.0.0/8",
            "webhook_retry_seconds": "0.02,0.05,0.05,0.05",
            "rate_limit": "100000/second",
            "rate_limit_burst": 100_000,
        }
        return Child(Orders(self._directory, point=point, visit=visit, options=options))

    # A run that is killed

    async def _run(self, point: str | None, visit: int) -> None:
        child = self._child(point, visit)
        try:
            urls = await child.ready()
            if urls is not None:
                await self._under_load(child, urls["http"], ends=point == "drained")
            code = await child.ended(20)
            if code != -9:
                raise Violation(f"the service ended by itself with {code}")
        finally:
            child.close()

    async def _under_load(self, child: Child, url: str, *, ends: bool) -> None:
        async with self._session(url) as session:
            await self._prepare(session)
            jobs = [asyncio.ensure_future(self._publish(session, point)) for point in POINTS]
            jobs.append(asyncio.ensure_future(self._change(session)))
            until = time.monotonic() + self._rng.uniform(0.3, RUN_SECONDS)
            while child.running and time.monotonic() < until:  # noqa: ASYNC110 - a process
                await asyncio.sleep(0.01)
            if ends:
                child.terminate()
                await child.ended(10)
            child.kill()
            await asyncio.gather(*jobs)

    def _session(self, url: str) -> aiohttp.ClientSession:
        key = load_development_key(self._directory)
        rules = TokenRules.of(Settings(data_dir=self._directory))
        now_ms = time.time_ns() // 1_000_000
        token = mint(
            key, rules, tenant="acme", scopes=SCOPES, subject="crash", now_ms=now_ms, minutes=60
        )
        return aiohttp.ClientSession(url, headers={"Authorization": f"Bearer {token}"})

    async def _prepare(self, session: aiohttp.ClientSession) -> None:
        """Make the streams that are missing; a dead service is passed over."""
        for name, points in STREAMS.items():
            if name in self._ids:
                continue
            body = {"webhookUrl": f"{self._endpoint.url}/{name}", "pointIds": points}
            answer = await self._call(session, "POST", f"{BASE}/streams?{KIND}", body)
            if answer is not None:
                self._ids[name] = answer["id"]

    async def _publish(self, session: aiohttp.ClientSession, point: str) -> None:
        """Publish values of one point, each twice now and then, until the service is dead."""
        while len(self._ids) == len(STREAMS):
            value = f"{point}-{next(self._numbers)}"
            values = [value] * (1 + next(self._numbers) % 2)
            body = [{"id": point, "value": each} for each in values]
            if await self._call(session, "POST", f"{BASE}/points/values", body) is None:
                return
            self.accepted[point] += values

    async def _change(self, session: aiohttp.ClientSession) -> None:
        """Change the points of one stream all the time."""
        if "c" not in self._ids:
            return
        url = f"{BASE}/streams/{self._ids['c']}/entities?{KIND}"
        for number in itertools.count():
            body = {"pointIds": [f"p{number % 7}", f"x{number % 300}"]}
            method = "PUT" if number % 3 else "DELETE"
            if await self._call(session, method, url, body) is None:
                return

    @staticmethod
    async def _call(
        session: aiohttp.ClientSession, method: str, url: str, body: object = None
    ) -> dict | None:
        """The answer of a good call, or None when the service is dead or stopping."""
        try:
            async with session.request(method, url, json=body) as response:
                answer = await response.json()
        except (aiohttp.ClientError, OSError, ValueError):
            return None
        if response.status >= 500:
            return None
        if response.status >= 400:
            raise Violation(f"{method} {url}: {response.status} {answer}")
        return answer

    # The end

    async def _finish(self) -> None:
        """Let everything be delivered, then compare."""
        child = self._child()
        try:
            urls = await child.ready()
            async with self._session(urls["http"]) as session:
                await self._mark_ends(session)
                await self._drain(session)
                # What went to the dead letters before the last values is durable by now.
                await asyncio.sleep(0.3)
                await self._read_dead(session)
            child.terminate()
            if await child.ended(20) != 0:
                raise Violation("no clean end")
        finally:
            child.close()
        self._check_states()

    async def _mark_ends(self, session: aiohttp.ClientSession) -> None:
        """A last value of each point: what was logged before it has come to its end before it."""
        for point in POINTS:
            value = f"{point}-{next(self._numbers)}"
            body = {"id": point, "value": value}
            if await self._call(session, "POST", f"{BASE}/points/values", body) is None:
                raise Violation("the service does not take values any more")
            self.accepted[point].append(value)

    async def _drain(self, session: aiohttp.ClientSession) -> None:
        deadline = time.monotonic() + DRAIN_SECONDS
        missing: list[str] = []
        while time.monotonic() < deadline:
            await self._read_dead(session)
            missing = self._missing()
            if not missing:
                return
            await asyncio.sleep(0.1)
        raise Violation(f"lost: {missing[:10]}, {len(missing)} in all")

    async def _read_dead(self, session: aiohttp.ClientSession) -> None:
        for name in STEADY:
            url = f"{BASE}/streams/{self._ids[name]}/dead-letters?page[limit]=1000"
            while url:
                page = await self._call(session, "GET", url)
                for letter in page["data"]:
                    if not letter["reason"]:
                        raise Violation(f"a dead letter without a reason: {letter}")
                    self.dead[name][int(letter["id"])] = letter["event"]
                url = page["links"]["next"]

    def _missing(self) -> list[str]:
        """Accepted values that a stream which holds their point has not seen the end of."""
        missing: list[str] = []
        for name in STEADY:
            arrived: dict[tuple[str, str], int] = defaultdict(int)
            for event in {**self.dead[name], **self._endpoint.got[name]}.values():
                arrived[event["id"], event["value"]] += 1
            for point in STREAMS[name]:
                wanted = self.accepted[point]
                missing += [
                    f"{name}: {value}"
                    for value in set(wanted)
                    if arrived[point, value] < wanted.count(value)
                ]
        return missing

    def _check_states(self) -> None:
        """`changed` and `createdAt` follow from the log, kills or not."""
        for name in STEADY:
            events = {**self.dead[name], **self._endpoint.got[name]}
            latest: dict[str, dict] = {}
            for seq in sorted(events):
                event = events[seq]
                before = latest.get(event["id"])
                changed = int(before is None or before["value"] != event["value"])
                created = event["lastUpdatedAt"] if before is None else before["createdAt"]
                if (event["changed"], event["createdAt"]) != (changed, created):
                    raise Violation(f"{name} {seq}: {event} after {before}")
                latest[event["id"]] = event
