"""Signing keys and revocation over REST: who may, what is shown, what is refused."""

import pytest

from hotpath.auth.sas import issue, read_sas
from hotpath.model.errors import Unauthorized

GOOD = {"subscriptionTTL": 60, "sasTokenTTL": 10, "filter": "value > 3"}
KEYS = "/admin/keys"


def reads(service, token) -> bool:
    try:
        read_sas(token, service.core.ring, now_ms=service.clock.now_ms())
    except Unauthorized:
        return False
    return True


async def names(service) -> list[str]:
    _, body, _ = await service.call("GET", KEYS)
    return [key["name"] for key in body["data"]]


async def test_secret_of_a_tenants_key_is_shown_once(service) -> None:
    status, made, headers = await service.call(
        "POST", KEYS, json={"name": "plant", "tenant": "acme"}
    )
    _, listed, _ = await service.call("GET", KEYS)

    assert status == 201
    assert headers["Cache-Control"] == "no-store"
    assert made["tenant"] == "acme"
    assert not made["signs"]
    assert made["secret"] == service.core.ring.get("plant").secret
    assert made["secret"] not in str(listed)
    assert [set(key) for key in listed["data"]] == [
        {"name", "tenant", "createdAt", "retiredAt", "signs"}
    ] * 2


async def test_secret_of_the_services_own_key_is_never_shown(service) -> None:
    _, made, _ = await service.call("POST", KEYS)

    assert made["secret"] is None
    assert made["signs"]
    assert made["name"] == service.core.ring.current.name


async def test_rotation_goes_without_a_gap(service) -> None:
    _, created, _ = await service.call("POST", "/subscriptions/variables", json=GOOD)
    path = f"/subscriptions/variables/{created['subscriptionId']}"

    await service.call("POST", KEYS, json={"name": "next"})
    assert reads(service, created["sasToken"])
    _, renewed, _ = await service.call("PUT", path)
    status, retired, _ = await service.call("POST", f"{KEYS}/hotpath/retire")

    assert (status, retired["retiredAt"]) == (200, "2024-01-02T03:04:05.000Z")
    assert "skn=next" in renewed["sasToken"]
    assert reads(service, renewed["sasToken"])
    assert not reads(service, created["sasToken"])
    assert (await service.call("DELETE", f"{KEYS}/hotpath"))[0] == 204
    assert await names(service) == ["next"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", f"{KEYS}/hotpath/retire", 400),
        ("DELETE", f"{KEYS}/hotpath", 400),
        ("POST", f"{KEYS}/nobody/retire", 404),
        ("DELETE", f"{KEYS}/nobody", 404),
    ],
    ids=["only one", "in use", "retire unknown", "remove unknown"],
)
async def test_what_cannot_be_done_is_refused(service, method: str, path: str, status: int) -> None:
    assert (await service.call(method, path))[0] == status
    assert await names(service) == ["hotpath"]


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"name": "a b"}, "/name"),
        ({"name": 7}, "/name"),
        ({"name": "hotpath"}, "/name"),
        ({"tenant": ""}, "/tenant"),
        ({"tenant": 7}, "/tenant"),
    ],
    ids=["characters", "number", "taken", "no tenant", "tenant number"],
)
async def test_bad_body_is_refused(service, body: dict, pointer: str) -> None:
    status, answered, _ = await service.call("POST", KEYS, json=body)

    assert status == 400
    assert answered["errors"][0]["meta"]["pointer"] == pointer


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", KEYS),
        ("POST", KEYS),
        ("POST", f"{KEYS}/hotpath/retire"),
        ("DELETE", f"{KEYS}/hotpath"),
    ],
)
async def test_keys_are_the_operators_business_alone(service, method: str, path: str) -> None:
    token = service.token("hotpath.subscribe hotpath.publish hotpath.admin:variables")

    status, body, _ = await service.call(method, path, token=token)

    assert status == 403
    assert "hotpath.admin" in str(body)


# Revocation


async def test_revoked_tokens_are_refused_and_put_gives_a_good_one(service) -> None:
    _, created, _ = await service.call("POST", "/subscriptions/variables", json=GOOD)
    path = f"/subscriptions/variables/{created['subscriptionId']}"
    before = service.core.admin.subscriptions()[0].spec

    status, body, _ = await service.call("POST", f"{path}/revoke")
    _, renewed, _ = await service.call("PUT", path)

    assert (status, body) == (204, None)
    assert service.core.admin.subscriptions()[0].spec.generation == before.generation + 1
    assert renewed["connectionURL"] == created["connectionURL"]
    fields = renewed["sasToken"].removeprefix("SharedAccessSignature ").split("&")
    assert [field.split("=")[0] for field in fields] == ["sr", "sig", "se", "skn"]
    assert "%24Generation%2F1" in renewed["sasToken"]


@pytest.mark.parametrize(
    ("path", "options"),
    [
        ("/subscriptions/variables/nothing/revoke", {}),
        ("/subscriptions/events/{id}/revoke", {}),
        ("/subscriptions/variables/{id}/revoke", {"tenant": "other"}),
        ("/subscriptions/variables/{id}/revoke", {"condition": "value > 1"}),
    ],
    ids=["unknown", "type", "tenant", "condition"],
)
async def test_only_own_subscriptions_are_revoked(service, path: str, options: dict) -> None:
    _, created, _ = await service.call("POST", "/subscriptions/variables", json=GOOD)
    token = service.token(**options)

    status, _, _ = await service.call(
        "POST", path.format(id=created["subscriptionId"]), token=token
    )

    assert status == 404
    assert service.core.admin.subscriptions()[0].spec.generation == 0


async def test_deleted_publisher_is_gone(service) -> None:
    _, made, _ = await service.call("POST", "/publishers/points")
    path = f"/publishers/points/{made['publisherId']}"

    assert (await service.call("DELETE", path, token=service.token(tenant="other")))[0] == 404
    assert (await service.call("DELETE", path.replace("points", "events")))[0] == 404
    assert (await service.call("DELETE", path))[0] == 204
    assert (await service.call("DELETE", path))[0] == 404


def test_a_token_of_the_first_generation_names_the_feed_alone(service) -> None:
    token = issue(service.core.ring.current, "amqp://h/variables/Subscriptions/x", expires_s=2**33)

    claims = read_sas(token, service.core.ring, now_ms=0)

    assert claims.segments == ("variables", "subscriptions", "x")
