"""The OpenAPI document: complete, and true to what the service does."""

import re

import pytest

from hotpath.rest.models import SubscriptionRequest
from hotpath.rest.openapi import build_document
from hotpath.rest.routes import METRICS_ROUTE, OPENAPI_PATH, ROUTES
from hotpath.rest.shapes import SHAPES

DOCUMENT = build_document([*ROUTES, METRICS_ROUTE])
PUBLIC = {"createSubscription", "renewToken", "deleteSubscription"}


def operations():
    for path, methods in DOCUMENT["paths"].items():
        for method, operation in methods.items():
            yield pytest.param(path, method, operation, id=operation["operationId"])


async def test_service_shows_its_document(service) -> None:
    async with service.session.get(service.url + "/openapi.json") as response:
        document = await response.json()

    assert document["openapi"].startswith("3.1")
    assert document["components"] == DOCUMENT["components"]
    assert {**DOCUMENT["paths"], OPENAPI_PATH: document["paths"][OPENAPI_PATH]} == document["paths"]
    served = {
        (resource.canonical, route.method)
        for resource in service.edge.app.router.resources()
        for route in resource
        if route.method != "HEAD"
    }
    documented = {(path, method.upper()) for path, ms in document["paths"].items() for method in ms}
    assert documented == served


@pytest.mark.parametrize(("path", "method", "operation"), list(operations()))
def test_operation_documents_its_errors_and_what_is_ours(path, method, operation) -> None:
    answers = operation["responses"]

    assert operation["summary"]
    assert {"405", "500"} <= set(answers)
    if "security" in operation:
        assert {"400", "401", "403", "429"} <= set(answers)
        assert operation["x-required-scope"].startswith("hotpath.")
    assert ("404" in answers) == ("{" in path)
    assert ("x-hotpath-addition" in operation) == (operation["operationId"] not in PUBLIC)


def test_references_lead_somewhere() -> None:
    schemas = DOCUMENT["components"]["schemas"]

    names = set(re.findall(r"#/components/schemas/(\w+)", str(DOCUMENT)))

    assert names
    assert names <= set(schemas)


def test_request_schema_is_that_of_the_model_that_validates() -> None:
    shown = DOCUMENT["components"]["schemas"]["SubscriptionRequest"]

    assert set(shown["required"]) == {"subscriptionTTL", "sasTokenTTL", "filter"}
    ttl = shown["properties"]["subscriptionTTL"]
    assert (ttl["type"], ttl["minimum"], ttl["maximum"]) == ("number", 5, 43200)
    assert set(shown["properties"]) == set(SubscriptionRequest.model_fields)


@pytest.mark.parametrize("shape", list(SHAPES.values()), ids=lambda shape: shape.message_type)
def test_messages_are_documented_as_they_are_checked(shape) -> None:
    name = shape.message_type[0].upper() + shape.message_type[1:] + "Message"

    schema = DOCUMENT["components"]["schemas"][name]

    assert schema["required"] == list(shape.required)
    assert set(schema["properties"]) == set(shape.schema.properties)
