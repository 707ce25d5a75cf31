"""A property-based API tester holds the running service to its own OpenAPI document.

It makes calls that the document allows and calls that it does not, and checks every answer:
never a 5xx, only documented statuses, headers, content types and bodies, and a refusal for what
the document forbids.
"""

import asyncio
import json
import threading

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from schemathesis.specs.openapi.checks import (
    ignored_auth,
    missing_required_header,
    negative_data_rejection,
    positive_data_acceptance,
)

from hotpath.rest.calls import Guard, Route
from hotpath.rest.health import show_health
from hotpath.rest.openapi import build_document
from hotpath.rest.routes import METRICS_ROUTE, OPENAPI_PATH, ROUTES
from tests.support.services import running_service

EXAMPLES = 25

schemathesis.openapi.format(
    "qel", st.sampled_from(["objectId = 'a'", "model LIKE 'p%' AND NOT objectId IN ('x', 'y')"])
)
schemathesis.openapi.format(
    "start-from", st.sampled_from(["now", "earliest", "2024-01-01T00:00:00Z", "2020-02-29"])
)


@schemathesis.serializer("application/x-ndjson")
def write_lines(_context, value) -> bytes:
    """A stream is text already."""
    return value.encode() if isinstance(value, str) else json.dumps(value).encode()


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """The service in a loop of its own: the tester blocks."""
    started, stop = threading.Event(), threading.Event()
    found: dict = {}

    async def serve() -> None:
        async with running_service(
            tmp_path_factory.mktemp("data"),
            rate_limit="1000000/second",
            rate_limit_burst=1_000_000,
        ) as service:
            token = service.token()
            body = {"subscriptionTTL": 60, "sasTokenTTL": 10, "filter": "value > 3"}
            _, created, _ = await service.call("POST", "/subscriptions/variables", json=body)
            found.update(url=service.url, token=token, subscription=created["subscriptionId"])
            started.set()
            await asyncio.to_thread(stop.wait)

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert started.wait(10)
    yield found
    stop.set()
    thread.join(10)


# The document that the service serves; tests/rest/test_rest_openapi.py compares the two.
schema = schemathesis.openapi.from_dict(
    build_document(
        [*ROUTES, METRICS_ROUTE, Route("GET", OPENAPI_PATH, "showOpenApi", show_health, Guard.OPEN)]
    )
)


def excluded(case, *, is_put_right: bool = False) -> list:
    """Checks that a call is not held to.

    One field's value can forbid another's (sasTokenTTL below subscriptionTTL), which no schema can
    say; all refusals are checked by hand in the other files. What the query names and the document
    does not is ignored, as unknown fields are.
    """
    checks = [positive_data_acceptance, ignored_auth, missing_required_header]
    known = {parameter.name for parameter in case.operation.query}
    is_lenient = is_put_right or bool(set(case.query or {}) - known)
    return [*checks, negative_data_rejection] if is_lenient else checks


@pytest.mark.slow
@schema.parametrize()
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
def test_service_keeps_to_its_document(case, running) -> None:
    case.call_and_validate(
        headers={"Authorization": f"Bearer {running['token']}"},
        excluded_checks=excluded(case),
        base_url=running["url"],
        timeout=10,
    )


@pytest.mark.slow
@schema.include(method=["PUT", "GET", "DELETE"], path_regex="subscriptionId").parametrize()
@settings(max_examples=10, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_existing_subscription_keeps_to_the_document(case, running) -> None:
    case.path_parameters.update(type="variables", subscriptionId=running["subscription"])

    case.call_and_validate(
        headers={"Authorization": f"Bearer {running['token']}"},
        # A path that was wrong has just been put right; a body is as it was.
        excluded_checks=excluded(case, is_put_right=case.method != "PUT"),
        base_url=running["url"],
        timeout=10,
    )


@pytest.mark.slow
@schema.include(path_regex="subscriptions|publishers|messages|qel|admin|topics|/me$").parametrize()
@settings(max_examples=5, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_no_guarded_operation_answers_without_a_token(case, running) -> None:
    response = case.call(
        headers={"Authorization": "Bearer nonsense"}, base_url=running["url"], timeout=10
    )

    if response.request.method != "OPTIONS":
        assert response.status_code in {401, 405}
