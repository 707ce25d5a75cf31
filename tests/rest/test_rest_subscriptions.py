"""Subscriptions: created, shown, renewed, listed and deleted, and every way to ask wrongly."""

import json
from urllib.parse import unquote

import pytest

from hotpath.auth.rights import Principal
from hotpath.auth.sas import read_sas
from hotpath.model.names import Topic
from hotpath.ports import LogFailure
from tests.support.services import running_service

GOOD = {"subscriptionTTL": 60, "sasTokenTTL": 10, "filter": "value > 3"}
FILTERS = {
    "platformEvents": "severity = 'high'",
    "variables": "value > 3",
    "events": "event = 'started'",
    "alarms": "alarm = 'hot'",
}


def wish(**changes) -> dict:
    content = {**GOOD, **changes}
    return {name: value for name, value in content.items() if value is not ...}


async def create(service, kind: str = "variables", **changes) -> str:
    status, body, _ = await service.call("POST", f"/subscriptions/{kind}", json=wish(**changes))
    assert status == 201, body
    return body["subscriptionId"]


def pointers(body: dict) -> list[str | None]:
    return [error["meta"].get("pointer") for error in body["errors"]]


# Creating


@pytest.mark.parametrize("kind", FILTERS)
async def test_created_subscription_names_its_feed(service, kind: str) -> None:
    status, body, headers = await service.call(
        "POST", f"/subscriptions/{kind}", json=wish(filter=FILTERS[kind])
    )

    identity = body["subscriptionId"]
    assert status == 201
    assert list(body) == ["subscriptionId", "connectionURL", "sasToken"]
    assert headers["Location"] == f"/subscriptions/{kind}/{identity}"
    assert body["connectionURL"].endswith(f"/{kind}/Subscriptions/{identity}")
    assert body["connectionURL"].startswith("amqp://")
    assert headers["Cache-Control"] == "no-store"


async def test_token_opens_the_feed_until_its_time_and_not_longer(service) -> None:
    _, body, _ = await service.call("POST", "/subscriptions/variables", json=GOOD)

    claims = read_sas(body["sasToken"], service.core.ring, now_ms=service.clock.now_ms())

    resource = unquote(body["sasToken"].split("sr=")[1].split("&")[0])
    assert resource == body["connectionURL"]
    assert claims.segments == ("variables", "subscriptions", body["subscriptionId"])
    assert claims.until_ms == service.clock.now_ms() + 10 * 60_000


async def test_token_of_a_fraction_of_a_minute_lives_to_the_end_of_its_second(service) -> None:
    await service.clock.advance(1)
    _, body, _ = await service.call("POST", "/subscriptions/variables", json=wish(sasTokenTTL=5.01))

    claims = read_sas(body["sasToken"], service.core.ring, now_ms=service.clock.now_ms())

    exact_ms = service.clock.now_ms() + 300_600
    assert exact_ms <= claims.until_ms < exact_ms + 1000


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"subscriptionTTL": 5.5, "sasTokenTTL": 5}, id="fraction"),
        pytest.param({"subscriptionTTL": 43200, "sasTokenTTL": 43199.9}, id="largest"),
        pytest.param({"subscriptionTTL": 6e1}, id="exponent"),
        pytest.param({"unknown": {"a": [1]}, "SubscriptionTTL": "x"}, id="unknown-fields"),
        pytest.param({"startFrom": "now"}, id="now"),
        pytest.param({"startFrom": "earliest"}, id="earliest"),
        pytest.param({"startFrom": "2024-01-02T03:04:05Z"}, id="this-moment"),
        pytest.param({"startFrom": "0001-01-01"}, id="long-ago"),
        pytest.param({"startFrom": None}, id="start-null"),
    ],
)
async def test_good_requests_are_accepted(service, changes: dict) -> None:
    status, body, _ = await service.call("POST", "/subscriptions/variables", json=wish(**changes))

    assert status == 201, body


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param({"subscriptionTTL": ...}, ["/subscriptionTTL"], id="no-ttl"),
        pytest.param({"sasTokenTTL": ...}, ["/sasTokenTTL"], id="no-sas-ttl"),
        pytest.param({"filter": ...}, ["/filter"], id="no-filter"),
        pytest.param({"subscriptionTTL": 43200.1}, ["/subscriptionTTL"], id="ttl-large"),
        pytest.param(
            {"subscriptionTTL": 4.99},
            ["/subscriptionTTL", "/subscriptionTTL"],
            id="ttl-small-and-below-sas",
        ),
        pytest.param({"sasTokenTTL": 4.99}, ["/sasTokenTTL"], id="sas-small"),
        pytest.param({"sasTokenTTL": 60}, ["/subscriptionTTL"], id="equal"),
        pytest.param({"sasTokenTTL": 61}, ["/subscriptionTTL"], id="sas-above"),
        pytest.param({"subscriptionTTL": True}, ["/subscriptionTTL"], id="boolean"),
        pytest.param({"subscriptionTTL": "60"}, ["/subscriptionTTL"], id="numeric-string"),
        pytest.param({"sasTokenTTL": None}, ["/sasTokenTTL"], id="null"),
        pytest.param({"sasTokenTTL": [10]}, ["/sasTokenTTL"], id="array"),
        pytest.param({"subscriptionTTL": 10**400}, ["/subscriptionTTL"], id="huge"),
        pytest.param({"filter": ""}, ["/filter"], id="filter-empty"),
        pytest.param({"filter": " \t\n"}, ["/filter"], id="filter-blank"),
        pytest.param({"filter": 5}, ["/filter"], id="filter-number"),
        pytest.param({"filter": None}, ["/filter"], id="filter-null"),
        pytest.param({"filter": "value >"}, ["/filter"], id="filter-cut"),
        pytest.param({"filter": "value > 1\0"}, ["/filter"], id="filter-nul"),
        pytest.param({"filter": "x" * 5000}, ["/filter"], id="filter-long"),
        pytest.param({"filter": "event = 'a'"}, ["/filter"], id="filter-of-another-topic"),
        pytest.param({"startFrom": "2024-01-02T03:04:05.001Z"}, ["/startFrom"], id="future"),
        pytest.param({"startFrom": "tomorrow"}, ["/startFrom"], id="no-time"),
        pytest.param({"startFrom": ""}, ["/startFrom"], id="start-empty"),
        pytest.param({"startFrom": 5}, ["/startFrom"], id="start-number"),
        pytest.param(
            {"subscriptionTTL": "x", "sasTokenTTL": 1, "filter": "valu > 3", "startFrom": "x"},
            ["/subscriptionTTL", "/sasTokenTTL", "/filter", "/startFrom"],
            id="everything-at-once",
        ),
    ],
)
async def test_violations_come_back_together_with_pointers(
    service, changes: dict, expected: list[str]
) -> None:
    status, body, _ = await service.call("POST", "/subscriptions/variables", json=wish(**changes))

    assert status == 400
    assert pointers(body) == expected
    assert service.core.admin.subscriptions() == []


@pytest.mark.parametrize("literal", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999"])
async def test_numbers_that_are_none_are_refused(service, literal: str) -> None:
    text = json.dumps(GOOD).replace("60", literal)

    status, body, _ = await service.call(
        "POST", "/subscriptions/variables", data=text, headers={"Content-Type": "application/json"}
    )

    assert status == 400, body


async def test_range_is_told_in_the_words_of_the_api(service) -> None:
    _, body, _ = await service.call(
        "POST", "/subscriptions/variables", json=wish(subscriptionTTL=50_000)
    )

    error = body["errors"][0]
    assert error["detail"] == "subscriptionTTL must be between 5 and 43200"
    assert (error["code"], error["title"], error["status"]) == ("400", "BadRequest", "BadRequest")
    assert error["meta"] == {"pointer": "/subscriptionTTL"}


async def test_filter_error_has_place_caret_and_suggestion(service) -> None:
    _, body, _ = await service.call(
        "POST", "/subscriptions/variables", json=wish(filter="value > 1\n  AND objctId = 'a'")
    )

    error = body["errors"][0]
    assert (error["meta"]["line"], error["meta"]["column"]) == (2, 7)
    assert "did you mean objectId?" in error["meta"]["suggestion"]
    excerpt, caret = error["detail"].splitlines()[-2:]
    assert excerpt[caret.index("^") :].startswith("objctId")


async def test_minute_scales_both_times(tmp_path) -> None:
    async with running_service(tmp_path, minute=0.5) as service:
        _, body, _ = await service.call("POST", "/subscriptions/variables", json=GOOD)
        claims = read_sas(body["sasToken"], service.core.ring, now_ms=service.clock.now_ms())
        _, shown, _ = await service.call(
            "GET", f"/subscriptions/variables/{body['subscriptionId']}"
        )

    assert claims.until_ms == service.clock.now_ms() + 5_000
    assert shown["expiresAt"] == "2024-01-02T03:04:35.000Z"
    assert shown["subscriptionTTL"] == 60


async def test_store_that_fails_creates_nothing(service) -> None:
    service.store.fail_next(LogFailure("disk"))

    status, body, headers = await service.call("POST", "/subscriptions/variables", json=GOOD)

    assert status == 503
    assert headers["Retry-After"]
    assert "disk" not in json.dumps(body)
    assert service.core.admin.subscriptions() == []


async def test_bound_on_subscriptions_is_told_as_429(tmp_path) -> None:
    async with running_service(tmp_path, subscriptions_per_tenant_max=1) as service:
        await create(service)
        status, body, headers = await service.call("POST", "/subscriptions/variables", json=GOOD)

    assert status == 429
    assert headers["Retry-After"]
    assert "as many subscriptions" in body["errors"][0]["detail"]


# The caller's condition


async def test_condition_of_the_token_joins_every_filter(service) -> None:
    token = service.token(condition="objectId = 'a'")
    status, body, _ = await service.call(
        "POST",
        "/subscriptions/variables",
        token=token,
        json=wish(filter="value > 3 OR objectId = 'b') OR (value < 3"),
    )
    assert status == 400, "a filter cannot close what the condition opens"

    status, body, _ = await service.call(
        "POST", "/subscriptions/variables", token=token, json=wish(filter="value > 3 OR value <= 3")
    )

    live = service.core.admin.find(Topic.VARIABLES, body["subscriptionId"])
    assert live.filter.matches({"objectId": "a", "value": 1})
    assert not live.filter.matches({"objectId": "b", "value": 1})


async def test_condition_that_does_not_fit_the_topic_is_told(service) -> None:
    token = service.token(condition="severity = 'x'")

    status, body, _ = await service.call("POST", "/subscriptions/variables", token=token, json=GOOD)

    assert status == 400
    assert "condition of your token" in body["errors"][0]["detail"]


async def test_wider_feeds_do_not_exist_for_a_caller_with_a_condition(service) -> None:
    identity = await create(service)
    token = service.token(condition="objectId = 'a'")

    status, _, _ = await service.call("PUT", f"/subscriptions/variables/{identity}", token=token)

    assert status == 404


# Renewing


async def test_renewed_token_is_fresh_and_the_older_one_stays_valid(service) -> None:
    _, first, _ = await service.call("POST", "/subscriptions/variables", json=GOOD)
    await service.clock.advance(60_000)

    status, body, _ = await service.call(
        "PUT", f"/subscriptions/variables/{first['subscriptionId']}"
    )

    now_ms = service.clock.now_ms()
    fresh = read_sas(body["sasToken"], service.core.ring, now_ms=now_ms)
    assert status == 200
    assert list(body) == ["subscriptionId", "connectionURL", "sasToken"]
    assert body["connectionURL"] == first["connectionURL"]
    assert fresh.until_ms == now_ms + 10 * 60_000
    assert read_sas(first["sasToken"], service.core.ring, now_ms=now_ms).until_ms < fresh.until_ms


async def test_renewal_may_choose_the_life_of_its_token(service) -> None:
    identity = await create(service)

    _, body, _ = await service.call(
        "PUT", f"/subscriptions/variables/{identity}", json={"sasTokenTTL": 59.5, "other": 1}
    )

    claims = read_sas(body["sasToken"], service.core.ring, now_ms=service.clock.now_ms())
    assert claims.until_ms == service.clock.now_ms() + 59_500 * 60


@pytest.mark.parametrize(
    "body",
    [
        {"sasTokenTTL": 4.9},
        {"sasTokenTTL": 60},
        {"sasTokenTTL": 1e6},
        {"sasTokenTTL": "10"},
        {"sasTokenTTL": True},
        [],
        "x",
    ],
    ids=["small", "equal", "large", "string", "boolean", "array", "text"],
)
async def test_bad_renewal_is_refused(service, body: object) -> None:
    identity = await create(service)

    status, answered, _ = await service.call(
        "PUT", f"/subscriptions/variables/{identity}", json=body
    )

    assert status == 400, answered


async def test_body_of_a_renewal_is_optional_whatever_its_content_type(service) -> None:
    identity = await create(service)

    for headers in ({}, {"Content-Type": "text/plain"}, {"Content-Type": "application/json"}):
        status, _, _ = await service.call(
            "PUT", f"/subscriptions/variables/{identity}", headers=headers, data=b""
        )
        assert status == 200


async def test_looking_and_renewing_are_no_activity(service) -> None:
    identity = await create(service)
    await service.clock.advance(59 * 60_000)
    await service.call("PUT", f"/subscriptions/variables/{identity}")
    _, shown, _ = await service.call("GET", f"/subscriptions/variables/{identity}")

    await service.clock.advance(60_000)
    status, body, _ = await service.call("POST", "/admin/reap")

    assert shown["lastActivityAt"] == "2024-01-02T03:04:05.000Z"
    assert shown["expiresAt"] == "2024-01-02T04:04:05.000Z"
    assert (status, body) == (200, {"reaped": 1, "nextAt": None})


# Showing and listing


async def test_shown_subscription_has_all_its_figures(service) -> None:
    identity = await create(service, sasTokenTTL=7.5, filter="value  >  3")
    await service.call(
        "POST",
        "/messages/variables",
        json=[{"objectId": "a", "variable": "v", "value": value} for value in (1, 4, 5)],
    )

    status, body, _ = await service.call("GET", f"/subscriptions/variables/{identity}")

    assert status == 200
    assert body == {
        "subscriptionId": identity,
        "type": "variables",
        "filter": "value  >  3",
        "subscriptionTTL": 60,
        "sasTokenTTL": 7.5,
        "createdAt": "2024-01-02T03:04:05.000Z",
        "lastActivityAt": "2024-01-02T03:04:05.000Z",
        "expiresAt": "2024-01-02T04:04:05.000Z",
        "backlog": 2,
        "locked": 0,
        "delivered": 0,
        "deadLettered": 0,
        "clients": 0,
    }


async def test_list_comes_in_pages_in_order_of_creation(service) -> None:
    created = []
    for _ in range(5):
        created.append(await create(service))
        await service.clock.advance(1)

    seen, cursor = [], ""
    while True:
        _, page, _ = await service.call("GET", f"/subscriptions?limit=2&cursor={cursor}")
        seen += [one["subscriptionId"] for one in page["data"]]
        cursor = page["next"]
        if cursor is None:
            break
        assert len(page["data"]) == 2

    assert seen == created


async def test_deletion_between_two_pages_skips_nothing(service) -> None:
    created = []
    for _ in range(4):
        created.append(await create(service))
        await service.clock.advance(1)
    _, first, _ = await service.call("GET", "/subscriptions?limit=2")
    for identity in created[:2]:
        await service.call("DELETE", f"/subscriptions/variables/{identity}")

    _, second, _ = await service.call("GET", f"/subscriptions?cursor={first['next']}")

    assert [one["subscriptionId"] for one in second["data"]] == created[2:]
    assert second["next"] is None


async def test_list_holds_own_tenant_and_allowed_types_only(service) -> None:
    mine = await create(service)
    await create(service, "events", filter="event = 'x'")
    await service.call(
        "POST", "/subscriptions/variables", token=service.token(tenant="other"), json=GOOD
    )

    token = service.token("hotpath.subscribe:variables")
    _, page, _ = await service.call("GET", "/subscriptions", token=token)

    assert [one["subscriptionId"] for one in page["data"]] == [mine]


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=1001",
        "limit=-1",
        "limit=x",
        "limit=1.5",
        "limit=%D9%A1",
        "limit=",
        "cursor=x",
        "cursor=1",
        "cursor=1.zzz",
        "cursor=9999999999999999999999.00000000-0000-0000-0000-000000000000",
        "cursor=%00.a",
    ],
)
async def test_bad_pages_are_refused(service, query: str) -> None:
    status, body, _ = await service.call("GET", f"/subscriptions?{query}")

    assert status == 400, body


# Deleting


async def test_deleted_subscription_is_gone(service) -> None:
    identity = await create(service)
    path = f"/subscriptions/variables/{identity}"

    status, body, _ = await service.call("DELETE", path)
    assert (status, body) == (204, None)

    for method in ("DELETE", "PUT", "GET"):
        status, body, _ = await service.call(method, path)
        assert status == 404, method


async def test_deletion_needs_no_body_and_no_content_type(service) -> None:
    identity = await create(service)

    status, _, _ = await service.call(
        "DELETE",
        f"/subscriptions/variables/{identity}",
        headers={"Content-Type": "text/html"},
        data=b"anything",
    )

    assert status == 204


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
@pytest.mark.parametrize(
    "path",
    [
        "/subscriptions/variables/nothing",
        "/subscriptions/events/{id}",
        "/subscriptions/Variables/{id}",
        "/subscriptions/VARIABLES/{id}",
        "/subscriptions/points/{id}",
        "/subscriptions/variables/{upper}",
        "/subscriptions/variables/{id}%20",
        "/subscriptions/variables/%00",
        "/subscriptions/variables/%FF%FE",
    ],
)
async def test_whatever_is_not_it_is_not_found(service, method: str, path: str) -> None:
    identity = await create(service)

    status, body, _ = await service.call(
        method, path.format(id=identity, upper=identity.upper().replace("-", "_"))
    )

    assert status == 404, body
    assert body["errors"][0]["code"] == "404"


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_subscription_of_another_tenant_cannot_be_told_from_none(service, method) -> None:
    identity = await create(service)
    other = service.token(tenant="other")

    theirs = await service.call(method, f"/subscriptions/variables/{identity}", token=other)
    none = await service.call(method, "/subscriptions/variables/" + "0" * 36, token=other)

    assert theirs[0] == none[0] == 404
    assert theirs[1]["errors"][0]["detail"].replace(identity, "") == none[1]["errors"][0][
        "detail"
    ].replace("0" * 36, "")
    assert service.core.admin.get(Principal("acme", "", frozenset()), Topic.VARIABLES, identity)
