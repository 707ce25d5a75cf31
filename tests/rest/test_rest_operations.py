"""Health, readiness, metrics, reaping on demand, the filter check, and a clean stop."""

import asyncio
import json
import ssl

import aiohttp
import pytest
import trustme
from aiohttp import web

from hotpath.config import Endpoint
from hotpath.rest.server import RestEdge
from tests.support.services import eventually, running_service

GOOD = {"subscriptionTTL": 60, "sasTokenTTL": 10, "filter": "value > 3"}


async def get(service, path: str):
    async with service.session.get(service.url + path) as response:
        return response.status, await response.text(), response.headers


async def test_open_routes_need_no_token(service) -> None:
    for path in ("/healthz", "/readyz", "/metrics", "/openapi.json"):
        assert (await get(service, path))[0] == 200


async def test_readiness_tells_every_reason(service) -> None:
    service.unready += ["the log is full", "the key set cannot be fetched"]

    status, text, _ = await get(service, "/readyz")

    details = [error["detail"] for error in json.loads(text)["errors"]]
    assert (status, details) == (503, service.unready)
    assert (await get(service, "/healthz"))[0] == 200


async def test_metrics_count_calls_by_pattern_and_never_by_path(service) -> None:
    for number in range(3):
        await service.call("GET", f"/subscriptions/variables/{number}")
        await service.call("GET", f"/nothing/{number}")

    _, text, headers = await get(service, "/metrics")

    assert headers["Content-Type"].startswith("text/plain")
    route = 'route="/subscriptions/{type}/{subscriptionId}",status="404"'
    assert f"hotpath_http_requests_total{{{route}}} 3.0" in text
    assert 'hotpath_http_requests_total{route="unmatched",status="404"} 3.0' in text


async def test_metrics_can_have_an_address_of_their_own(tmp_path) -> None:
    async with running_service(tmp_path, metrics="127.0.0.1:0") as service:
        port = await service.edge.start_metrics(service.settings.metrics)
        assert (await get(service, "/metrics"))[0] == 404
        url = f"http://127.0.0.1:{port}"
        async with service.session.get(url + "/metrics") as response:
            assert "hotpath_subscriptions" in await response.text()
        async with service.session.get(url + "/healthz") as response:
            assert response.status == 404


async def test_reaping_on_demand_ends_what_is_idle_and_says_when_to_come_back(service) -> None:
    await service.call("POST", "/subscriptions/variables", json={**GOOD, "subscriptionTTL": 30})
    await service.call("POST", "/subscriptions/variables", json=GOOD)
    await service.clock.advance(30 * 60_000)

    first = await service.call("POST", "/admin/reap")
    second = await service.call("POST", "/admin/reap")

    assert first[:2] == (200, {"reaped": 1, "nextAt": "2024-01-02T04:04:05.000Z"})
    assert second[1]["reaped"] == 0


# The filter check


async def check(service, **body):
    return await service.call("POST", "/qel/check", json=body)


async def test_valid_filter_comes_back_canonical_with_results(service) -> None:
    status, body, _ = await check(
        service,
        type="variables",
        filter="value>3   and quality = 192",
        messages=[{"value": 4, "quality": 192}, {"value": 1, "quality": 192}, {"quality": 192}],
    )

    assert status == 200
    assert body["valid"] is True
    assert body["canonical"] == "value > 3 AND quality = 192"
    assert body["errors"] == []
    assert [result["matches"] for result in body["results"]] == [True, False, None]
    assert all(result["because"] for result in body["results"])


async def test_invalid_filter_is_an_answer(service) -> None:
    status, body, _ = await check(service, type="variables", filter="\nvalu > 3", messages=[{}])

    (error,) = body["errors"]
    assert status == 200
    assert (body["valid"], body["canonical"], body["results"]) == (False, None, [])
    assert (error["line"], error["column"]) == (2, 1)
    assert "did you mean value?" in error["detail"]


async def test_blank_filter_is_an_invalid_one(service) -> None:
    _, body, _ = await check(service, type="variables", filter=" ")

    assert body["valid"] is False


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"filter": "value > 1"}, "/type"),
        ({"type": "points", "filter": "value > 1"}, "/type"),
        ({"type": 5, "filter": "value > 1"}, "/type"),
        ({"type": "variables"}, "/filter"),
        ({"type": "variables", "filter": 5}, "/filter"),
        ({"type": "variables", "filter": "value > 1", "messages": {}}, "/messages"),
        ({"type": "variables", "filter": "value > 1", "messages": [{}, 5]}, "/messages/1"),
        ({"type": "variables", "filter": "value > 1", "messages": [{}] * 1_001}, "/messages"),
    ],
    ids=[
        *("no-type", "points", "number", "no-filter", "filter-number", "no-array", "element"),
        "too-many",
    ],
)
async def test_bad_check_is_a_400_with_a_pointer(service, body: dict, pointer: str) -> None:
    status, answered, _ = await check(service, **body)

    assert status == 400
    assert answered["errors"][0]["meta"]["pointer"] == pointer


# Listeners


async def test_https_serves_the_same_api(service, tmp_path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost", "127.0.0.1")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificate.configure_cert(context)
    port = await service.edge.start(Endpoint("127.0.0.1:0"), context)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)

    url = f"https://127.0.0.1:{port}/healthz"
    async with service.session.get(url, ssl=trusting) as response:
        assert response.status == 200


async def test_port_that_is_taken_is_an_os_error(service) -> None:
    with pytest.raises(OSError):
        await service.edge.start(Endpoint(service.url.removeprefix("http://")))


async def test_others_can_mount_routes_of_their_own(service) -> None:
    async def socket(request: web.Request) -> web.WebSocketResponse:
        answer = web.WebSocketResponse(protocols=("AMQPWSB10",))
        await answer.prepare(request)
        await answer.send_bytes(b"AMQP")
        await answer.close()
        return answer

    edge = RestEdge(
        service.edge._services,
        mounts=[lambda app: app.router.add_get("/$servicebus/websocket", socket)],
    )
    port = await edge.start(Endpoint("127.0.0.1:0"))
    url = f"ws://127.0.0.1:{port}/$servicebus/websocket"
    async with service.session.ws_connect(url, protocols=("AMQPWSB10",)) as feed:
        assert feed.protocol == "AMQPWSB10"
        assert await feed.receive_bytes() == b"AMQP"
    await edge.stop()


async def test_stop_answers_what_is_under_way(service) -> None:
    service.log.pause()
    call = asyncio.ensure_future(
        service.call("POST", "/messages/events", json={"objectId": "a", "event": "e"})
    )
    await eventually(lambda: service.log._waiting)

    stopping = asyncio.ensure_future(service.edge.stop())
    await asyncio.sleep(0.01)
    assert not stopping.done()
    service.log.resume()

    assert (await call)[0] == 202
    await stopping
    with pytest.raises(aiohttp.ClientError):
        await service.call("GET", "/healthz")
