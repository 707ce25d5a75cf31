"""The Streaming API of a running service, with deliveries in the test's hands."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import ip_network
from typing import Any

import pytest

from hotpath.model.errors import Invalid, Violation
from hotpath.webhooks.address import TargetPolicy
from hotpath.webhooks.api_reading import StreamServices
from hotpath.webhooks.api_routes import stream_routes
from hotpath.webhooks.interface import DeadEvent, DeliveryAttempt, Page, TestResult
from tests.support.services import TestService, running_service

URL = "https://hooks.example.com/points"
BASE = "/streaming/v1/partitions/acme"
STREAMS = f"{BASE}/streams"
KIND = "type=point-stream"
POLICY = TargetPolicy(allow_networks=(ip_network("10.7.0.0/16"),))


@dataclass
class GivenDeliveries:
    """`WebhookDeliveries` that answer what a test has given them."""

    result: TestResult = field(default_factory=lambda: TestResult(True, 204, 12, ""))
    attempts: list[DeliveryAttempt] = field(default_factory=list)
    letters: list[DeadEvent] = field(default_factory=list)
    redriven: list[list[str] | None] = field(default_factory=list)

    async def test(self, stream) -> TestResult:
        return self.result

    async def history(self, stream, *, after, limit) -> Page[DeliveryAttempt]:
        return _page(self.attempts, after, limit)

    async def dead_letters(self, stream, *, after, limit) -> Page[DeadEvent]:
        return _page(self.letters, after, limit)

    async def redrive(self, stream, ids) -> int:
        self.redriven.append(ids)
        known = {letter.id for letter in self.letters}
        return len(known if ids is None else known & set(ids))


def _page(items: list[Any], after: str | None, limit: int) -> Page[Any]:
    start = 0
    if after is not None:
        if not after.isdecimal():
            raise Invalid([Violation("the cursor is not one that this service gave")])
        start = int(after)
    end = start + limit
    return Page(items[start:end], str(end) if end < len(items) else None)


@dataclass
class Api:
    """The API as a caller sees it."""

    service: TestService
    deliveries: GivenDeliveries

    async def call(self, method: str, path: str, body: object = None, **options):
        """(status, parsed body, headers)."""
        if body is not None:
            options["json"] = body
        return await self.service.call(method, path, **options)

    async def create(self, *points: str, **fields) -> dict:
        body = {"webhookUrl": URL, "pointIds": list(points or ("p",)), **fields}
        status, stream, _ = await self.call("POST", f"{STREAMS}?{KIND}", body)
        assert status == 201, stream
        return stream

    def stream(self, resource: dict):
        """The live stream behind a resource."""
        [found] = [s for s in self.service.core.streams.live() if s.id == resource["id"]]
        return found


@asynccontextmanager
async def running_api(data_dir, **options) -> AsyncIterator[Api]:
    deliveries = GivenDeliveries()

    def routes(core):
        return stream_routes(StreamServices(core.streams, core.points, deliveries, POLICY))

    rates = {"rate_limit": "1000000/second", "rate_limit_burst": 1_000_000}
    async with running_service(data_dir, routes=routes, **{**rates, **options}) as service:
        yield Api(service, deliveries)


@pytest.fixture
async def api(tmp_path) -> AsyncIterator[Api]:
    async with running_api(tmp_path) as running:
        yield running
