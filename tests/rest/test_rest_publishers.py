"""Publishers: a Send token for one topic, to its time."""

from urllib.parse import unquote

import pytest

from hotpath.auth.sas import read_sas
from hotpath.model.names import Topic
from tests.support.services import running_service


@pytest.mark.parametrize("kind", [topic.value for topic in Topic])
async def test_publisher_gets_a_token_for_its_topic(service, kind: str) -> None:
    status, body, _ = await service.call("POST", f"/publishers/{kind}")

    claims = read_sas(body["sasToken"], service.core.ring, now_ms=service.clock.now_ms())
    identity = body["publisherId"]
    assert status == 201
    assert list(body) == ["publisherId", "connectionURL", "sasToken"]
    assert body["connectionURL"].endswith(f"/{kind}")
    assert claims.segments == (kind.lower(), "publishers", identity)
    assert unquote(body["sasToken"]).count(f"/{kind}/Publishers/{identity}") == 1
    assert claims.until_ms == service.clock.now_ms() + 60 * 60_000
    assert service.core.publishers.get(identity).tenant == "acme"


@pytest.mark.parametrize("minutes", [5, 7.5, 43200])
async def test_life_of_the_token_may_be_chosen(service, minutes: float) -> None:
    _, body, _ = await service.call("POST", "/publishers/events", json={"sasTokenTTL": minutes})

    claims = read_sas(body["sasToken"], service.core.ring, now_ms=service.clock.now_ms())
    assert claims.until_ms == service.clock.now_ms() + minutes * 60_000


@pytest.mark.parametrize(
    "body",
    [
        {"sasTokenTTL": 4.9},
        {"sasTokenTTL": 43200.5},
        {"sasTokenTTL": "60"},
        {"sasTokenTTL": False},
        [],
        7,
    ],
    ids=["small", "large", "string", "boolean", "array", "number"],
)
async def test_bad_body_is_refused(service, body: object) -> None:
    status, answered, _ = await service.call("POST", "/publishers/events", json=body)

    assert status == 400, answered


async def test_unknown_type_is_not_found(service) -> None:
    status, _, _ = await service.call("POST", "/publishers/Events")

    assert status == 404


async def test_bound_on_publishers_is_told(tmp_path) -> None:
    async with running_service(tmp_path, publishers_per_tenant_max=1) as service:
        assert (await service.call("POST", "/publishers/events"))[0] == 201
        assert (await service.call("POST", "/publishers/events"))[0] == 429
        token = service.token(tenant="other")
        assert (await service.call("POST", "/publishers/events", token=token))[0] == 201
