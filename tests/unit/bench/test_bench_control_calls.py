"""The control calls that prepare a hotpath run, against a small HTTP server."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from bench.clients import Link
from bench.errors import RunError
from bench.hotpath_broker import prepare
from tests.unit.bench.results import make_workload

Start = Callable[[web.Application], Awaitable[TestServer]]


def control_api(seen: list[tuple[str, str, Any]], status: int = 201) -> web.Application:
    async def create(request: web.Request) -> web.Response:
        body = await request.json()
        seen.append((request.path, request.headers["Authorization"], body))
        name = body.get("filter", "publisher").split("'")[1:2] or ["all"]
        path = "variables" + (f"/Subscriptions/{name[0]}" if "filter" in body else "")
        created = {"connectionURL": f"amqp://localhost:1/{path}", "sasToken": f"sas {name[0]}"}
        return web.json_response(created, status=status)

    app = web.Application()
    app.router.add_post("/subscriptions/variables", create)
    app.router.add_post("/publishers/variables", create)
    return app


async def test_links_follow_the_subscriptions_in_order(aiohttp_server: Start) -> None:
    seen: list[tuple[str, str, Any]] = []
    server = await aiohttp_server(control_api(seen))
    workload = make_workload(fan_out=1, subscriptions=4, connections=2)

    links, publish_address, token = await prepare(str(server.make_url("")), "jwt", workload)

    assert links == [
        Link(index // 2, f"variables/Subscriptions/obj-{index:08d}", f"sas obj-{index:08d}")
        for index in range(4)
    ]
    assert (publish_address, token) == ("variables", "sas all")
    assert {authorization for _, authorization, _ in seen} == {"Bearer jwt"}
    assert sorted(body["filter"] for _, _, body in seen if "filter" in body) == [
        workload.filter_of(index) for index in range(4)
    ]


async def test_a_refused_control_call_is_reported_with_its_answer(aiohttp_server: Start) -> None:
    server = await aiohttp_server(control_api([], status=429))

    with pytest.raises(RunError, match="POST /subscriptions/variables: 429"):
        await prepare(str(server.make_url("")), "jwt", make_workload())
