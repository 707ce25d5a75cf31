"""Tokens, scopes and the rate limit at the REST edge."""

import pytest

from tests.support.services import running_service

GOOD = {"subscriptionTTL": 60, "sasTokenTTL": 10, "filter": "value > 3"}
MESSAGE = {"objectId": "a", "variable": "v", "value": 1}
CALLS = [
    ("POST", "/subscriptions/variables", GOOD, "hotpath.subscribe"),
    ("PUT", "/subscriptions/variables/x", None, "hotpath.subscribe"),
    ("GET", "/subscriptions/variables/x", None, "hotpath.subscribe"),
    ("DELETE", "/subscriptions/variables/x", None, "hotpath.subscribe"),
    ("GET", "/subscriptions", None, "hotpath.subscribe"),
    ("POST", "/qel/check", {"type": "variables", "filter": "value > 1"}, "hotpath.subscribe"),
    ("POST", "/publishers/variables", None, "hotpath.publish"),
    ("POST", "/messages/variables", MESSAGE, "hotpath.publish"),
    ("POST", "/admin/reap", None, "hotpath.admin"),
]
EACH_CALL = pytest.mark.parametrize(
    ("method", "path", "body", "scope"), CALLS, ids=[f"{call[0]} {call[1]}" for call in CALLS]
)


async def bare(service, method: str, path: str, headers=(), **options):
    """A call with just these headers."""
    async with service.session.request(
        method, service.url + path, headers=headers, **options
    ) as response:
        return response.status, await response.json(), response.headers


@EACH_CALL
async def test_call_without_a_token_is_challenged_without_an_error_code(
    service, method, path, body, scope
) -> None:
    status, answered, headers = await bare(service, method, path, json=body)

    assert status == 401
    assert headers["WWW-Authenticate"] == 'Bearer realm="hotpath"'
    assert answered["errors"][0]["title"] == "Unauthorized"


@EACH_CALL
async def test_bad_token_is_told_as_invalid(service, method, path, body, scope) -> None:
    token = service.token(minutes=-5)

    status, _, headers = await service.call(method, path, token=token, json=body)

    assert status == 401
    assert 'error="invalid_token"' in headers["WWW-Authenticate"]
    assert "expired" in headers["WWW-Authenticate"]


@EACH_CALL
async def test_missing_scope_is_told_before_anything_else(
    service, method, path, body, scope
) -> None:
    others = {"hotpath.subscribe", "hotpath.publish", "hotpath.admin"} - {scope}
    token = service.token(" ".join([*others, "hotpath.subscribe:points", scope + "x"]))
    if path in {"/subscriptions", "/qel/check"}:
        token = service.token(" ".join(others))

    status, answered, headers = await service.call(method, path, token=token, json=body)

    assert status == 403, answered
    assert 'error="insufficient_scope"' in headers["WWW-Authenticate"]
    assert f'scope="{scope}"' in headers["WWW-Authenticate"]


@EACH_CALL
async def test_scope_opens_its_calls(service, method, path, body, scope) -> None:
    status, _, _ = await service.call(method, path, token=service.token(scope), json=body)

    assert status in {200, 201, 202, 404}
    assert (status == 404) == path.endswith("/x")


@pytest.mark.parametrize("path", ["/subscriptions", "/publishers"])
async def test_narrowed_scope_opens_its_topic_alone(service, path: str) -> None:
    permission = "subscribe" if path == "/subscriptions" else "publish"
    token = service.token(f"hotpath.{permission}:variables")
    body = GOOD if path == "/subscriptions" else None

    allowed = await service.call("POST", f"{path}/variables", token=token, json=body)
    refused = await service.call("POST", f"{path}/alarms", token=token, json=body)
    unknown = await service.call("POST", f"{path}/nothing", token=token, json=body)

    assert (allowed[0], refused[0], unknown[0]) == (201, 403, 404)


async def test_unknown_type_is_forbidden_to_whom_no_type_is_open(service) -> None:
    token = service.token("hotpath.publish")

    status, _, _ = await service.call("POST", "/subscriptions/nothing", token=token, json=GOOD)

    assert status == 403


async def test_narrowed_admin_may_not_reap_everything(service) -> None:
    token = service.token("hotpath.admin:variables")

    assert (await service.call("POST", "/admin/reap", token=token))[0] == 403


@pytest.mark.parametrize(
    "value",
    ["Basic YTpi", "Bearer", "Bearer ", "Token x", "", "bearer\t"],
    ids=["basic", "no-token", "blank", "other", "empty", "tab"],
)
async def test_other_credentials_count_as_none(service, value: str) -> None:
    status, _, headers = await bare(
        service, "GET", "/subscriptions", headers={"Authorization": value}
    )

    assert status == 401
    assert "error=" not in headers["WWW-Authenticate"]


async def test_scheme_is_read_without_regard_to_case(service) -> None:
    for scheme in ("bearer", "BEARER"):
        headers = {"Authorization": f"{scheme} {service.token()}"}
        assert (await bare(service, "GET", "/subscriptions", headers=headers))[0] == 200


async def test_two_authorization_headers_are_refused(service) -> None:
    headers = [("Authorization", f"Bearer {service.token()}")] * 2

    assert (await bare(service, "GET", "/subscriptions", headers=headers))[0] == 401


async def test_token_in_the_query_does_not_count(service) -> None:
    path = f"/subscriptions?access_token={service.token()}"

    assert (await bare(service, "GET", path))[0] == 401


async def test_control_calls_past_the_rate_are_refused_for_that_principal_alone(tmp_path) -> None:
    async with running_service(tmp_path, rate_limit="1/hour", rate_limit_burst=3) as service:
        statuses = [(await service.call("GET", "/subscriptions"))[0] for _ in range(4)]
        status, body, headers = await service.call("POST", "/subscriptions/variables", json=GOOD)
        same_sub_elsewhere = await service.call(
            "GET", "/subscriptions", token=service.token(tenant="other")
        )
        other_sub = await service.call("GET", "/subscriptions", token=service.token(sub="other"))

    assert statuses == [200, 200, 200, 429]
    assert status == 429
    assert 3000 < int(headers["Retry-After"]) <= 3600
    assert body["errors"][0]["title"] == "TooManyRequests"
    assert same_sub_elsewhere[0] == other_sub[0] == 200


async def test_open_routes_are_not_limited(tmp_path) -> None:
    async with running_service(tmp_path, rate_limit="1/hour", rate_limit_burst=1) as service:
        for _ in range(5):
            assert (await bare(service, "GET", "/healthz"))[0] == 200


async def test_refused_calls_of_nobody_use_up_no_ones_rate(tmp_path) -> None:
    async with running_service(tmp_path, rate_limit="1/hour", rate_limit_burst=1) as service:
        for _ in range(5):
            await service.call("GET", "/subscriptions", token="nonsense")
        assert (await service.call("GET", "/subscriptions"))[0] == 200


async def test_tracked_principals_are_bounded(tmp_path) -> None:
    async with running_service(
        tmp_path, rate_limit="1/hour", rate_limit_burst=1, rate_limit_principals_max=2
    ) as service:
        for name in ("a", "b", "c"):
            await service.call("GET", "/subscriptions", token=service.token(sub=name))
        again = [
            (await service.call("GET", "/subscriptions", token=service.token(sub=name)))[0]
            for name in ("c", "a")
        ]

    assert again == [429, 200], "the one silent longest was forgotten"
