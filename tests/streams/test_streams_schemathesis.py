"""A property-based API tester holds the Streaming API to its own OpenAPI document."""

import asyncio
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

from hotpath.rest.openapi import build_document
from hotpath.webhooks.api_routes import stream_routes
from tests.rest import test_rest_schemathesis
from tests.streams.conftest import BASE, KIND, running_api

EXAMPLES = 8

schemathesis.openapi.format("webhook-url", st.sampled_from(["https://hooks.example.com/a"]))
schemathesis.openapi.format("point-id", st.sampled_from(["p", "88d45219-a0cf", "ö"]))
schemathesis.openapi.format("webhook-secret", st.sampled_from(["hush", "whsec_c2VjcmV0"]))
schemathesis.openapi.format("cursor", st.just(""))

#: The serializer for lines of JSON is registered there.
WRITE_LINES = test_rest_schemathesis.write_lines
#: Which services a route works on does not show in the document.
SCHEMA = schemathesis.openapi.from_dict(build_document(stream_routes(None)))
#: What no schema can say (a base64 secret, a public host) is refused; see the other files.
EXCLUDED = [positive_data_acceptance, ignored_auth, missing_required_header]
KNOWN = {"type", "page[limit]", "page[cursor]"}
PROFILE = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """The service in a loop of its own: the tester blocks."""
    started, stop = threading.Event(), threading.Event()
    found: dict = {}

    async def serve() -> None:
        async with running_api(tmp_path_factory.mktemp("data")) as api:
            stream = await api.create("p", "q")
            found.update(url=api.service.url, token=api.service.token(), stream=stream["id"])
            started.set()
            await asyncio.to_thread(stop.wait)

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert started.wait(20)
    yield found
    stop.set()
    thread.join(20)


def validate(case, running) -> None:
    # Parameters that no call has are ignored, as unknown fields are; a schema calls them wrong.
    unknown = set(case.query or {}) - KNOWN
    case.call_and_validate(
        headers={"Authorization": f"Bearer {running['token']}"},
        excluded_checks=[*EXCLUDED, *([negative_data_rejection] if unknown else [])],
        base_url=running["url"],
        timeout=10,
    )


@pytest.mark.slow
@SCHEMA.parametrize()
@PROFILE
def test_the_api_keeps_to_its_document(case, running) -> None:
    case.path_parameters["partitionId"] = "acme"

    validate(case, running)


@pytest.mark.slow
@SCHEMA.include(method=["GET", "POST", "PUT"], path_regex="streamId").parametrize()
@PROFILE
def test_calls_on_a_stream_that_is_there_keep_to_it(case, running) -> None:
    case.path_parameters.update(partitionId="acme", streamId=running["stream"])

    validate(case, running)


@pytest.mark.slow
@SCHEMA.parametrize()
@settings(PROFILE, max_examples=3)
def test_no_call_is_answered_without_a_token(case, running) -> None:
    response = case.call(
        headers={"Authorization": "Bearer nonsense"}, base_url=running["url"], timeout=10
    )

    if response.request.method != "OPTIONS":
        assert response.status_code in {401, 405}


async def test_the_service_shows_the_document(api):
    async with api.service.session.get(f"{api.service.url}/openapi.json") as response:
        document = await response.json()
    served = {
        (resource.canonical, route.method)
        for resource in api.service.edge.app.router.resources()
        for route in resource
        if route.method != "HEAD" and resource.canonical.startswith("/streaming/")
    }

    documented = {
        (path, method.upper())
        for path, methods in document["paths"].items()
        for method in methods
        if path.startswith("/streaming/")
    }
    assert documented == served
    assert len(served) == 13
    public = {"createStream", "listStreams", "listStreamPoints", "addStreamPoints"}
    public |= {"removeStreamPoints", "deleteStream"}
    ours = [
        operation
        for path, methods in document["paths"].items()
        for operation in methods.values()
        if path.startswith("/streaming/") and "x-hotpath-addition" not in operation
    ]
    assert {operation["operationId"] for operation in ours} == public


async def test_each_call_is_audited_and_no_secret_with_it(api, caplog):
    with caplog.at_level("INFO", logger="hotpath.audit"):
        stream = await api.create("p", webhookSecret="hush-hush")
        await api.call("GET", f"{BASE}/streams/{stream['id']}?{KIND}")
        await api.call("POST", f"{BASE}/points/values", {"id": "p", "value": 1})

    lines = [record.__dict__ for record in caplog.records if record.name == "hotpath.audit"]
    assert [line["operation"] for line in lines] == ["createStream", "showStream"]
    assert {line["stream"] for line in lines} == {stream["id"]}
    assert {line["partition"] for line in lines} == {"acme"}
    assert "hush" not in repr(lines)
