"""Every refusal has the same shape, carries a request id, and leaks nothing."""

import asyncio
import json
import logging
import re

import pytest

GOOD = {"subscriptionTTL": 60, "sasTokenTTL": 10, "filter": "value > 3"}


def check_shape(body: dict, status: int, request_id: str) -> None:
    assert list(body) == ["errors"]
    assert body["errors"]
    for error in body["errors"]:
        assert set(error) == {"code", "title", "status", "detail", "id", "meta"}
        assert error["code"] == str(status)
        assert error["title"] == error["status"]
        assert re.fullmatch("[A-Za-z]+", error["title"])
        assert error["id"] == request_id
        assert error["detail"]


@pytest.mark.parametrize(
    ("method", "path", "status", "title"),
    [
        ("GET", "/", 404, "NotFound"),
        ("GET", "/nothing", 404, "NotFound"),
        ("GET", "/subscriptions/", 404, "NotFound"),
        ("GET", "/subscriptions/variables/a/b", 404, "NotFound"),
        ("GET", "/../../etc/passwd", 404, "NotFound"),
        ("GET", "/%2e%2e/x", 404, "NotFound"),
        ("GET", "/subscriptions/variables", 405, "MethodNotAllowed"),
        ("PATCH", "/subscriptions/variables/x", 405, "MethodNotAllowed"),
        ("DELETE", "/healthz", 405, "MethodNotAllowed"),
        ("TRACE", "/healthz", 405, "MethodNotAllowed"),
        ("GET", "/messages/variables", 405, "MethodNotAllowed"),
    ],
)
async def test_unknown_paths_and_methods_have_the_same_shape(
    service, method: str, path: str, status: int, title: str
) -> None:
    answered, body, headers = await service.call(method, path)

    assert answered == status
    assert headers["Content-Type"].startswith("application/json")
    check_shape(body, status, headers["X-Request-Id"])
    assert body["errors"][0]["title"] == title
    assert ("Allow" in headers) == (status == 405)


async def test_allowed_methods_are_named(service) -> None:
    _, _, headers = await service.call("PATCH", "/subscriptions/variables/x")
    assert set(headers["Allow"].split(", ")) == {"PUT", "DELETE", "GET", "HEAD", "OPTIONS"}

    status, body, headers = await service.call("OPTIONS", "/subscriptions/variables")
    assert (status, body) == (204, None)
    assert set(headers["Allow"].split(", ")) == {"POST", "OPTIONS"}


async def test_head_is_answered_as_get_without_a_body(service) -> None:
    for path in ("/healthz", "/openapi.json", "/metrics", "/subscriptions"):
        status, body, headers = await service.call("HEAD", path)
        assert (status, body) == (200, None)
        assert int(headers["Content-Length"]) > 0


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("abc-DEF_1.2", True),
        ("x" * 128, True),
        ("x" * 129, False),
        ("", False),
        ("a b", False),
        ("a;b", False),
        ("ä", False),
    ],
    ids=["good", "longest", "long", "empty", "blank", "semicolon", "umlaut"],
)
@pytest.mark.parametrize("path", ["/healthz", "/nothing", "/subscriptions/x/y"])
async def test_request_id_is_the_callers_if_it_is_a_good_one(
    service, path: str, given: str, kept: bool
) -> None:
    _, _, headers = await service.call("GET", path, headers={"X-Request-Id": given})

    answered = headers["X-Request-Id"]
    assert (answered == given) is kept
    assert re.fullmatch("[A-Za-z0-9._-]{1,128}", answered)


async def test_every_call_has_an_id_of_its_own(service) -> None:
    ids = {(await service.call("GET", "/healthz"))[2]["X-Request-Id"] for _ in range(5)}

    assert len(ids) == 5


async def test_defect_is_a_500_without_a_trace_and_the_log_has_it(
    service, monkeypatch, caplog
) -> None:
    def broken(*args: object, **kwargs: object) -> None:
        raise RuntimeError("secret of the inside")

    monkeypatch.setattr(service.core.admin, "list_own", broken)

    status, body, headers = await service.call("GET", "/subscriptions")

    check_shape(body, 500, headers["X-Request-Id"])
    assert status == 500
    assert "secret" not in json.dumps(body)
    assert "Traceback" not in json.dumps(body)
    (record,) = [record for record in caplog.records if record.name == "hotpath.rest"]
    assert record.request_id == headers["X-Request-Id"]
    assert "secret of the inside" in record.exc_text or "RuntimeError" in str(record.exc_info)


@pytest.mark.parametrize(
    "raw",
    [
        b"GARBAGE\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: a\r\n" + b"X: " + b"y" * 20_000 + b"\r\n\r\n",
        b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST /qel/check HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n"
        b"Content-Length: 3\r\n\r\nabc",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"AMQP\x00\x01\x00\x00\r\n\r\n",
    ],
    ids=["garbage", "version", "length", "header", "line", "smuggling", "tls", "amqp"],
)
async def test_what_is_no_http_is_a_400_of_the_same_shape(service, raw: bytes) -> None:
    host, port = service.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))

    writer.write(raw)
    answer = await reader.read()
    writer.close()

    head, _, body = answer.partition(b"\r\n\r\n")
    request_id = re.search(rb"X-Request-Id: (\S+)", head, re.IGNORECASE)[1].decode()
    assert b" 400 " in head.splitlines()[0]
    check_shape(json.loads(body), 400, request_id)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/subscriptions/variables"),
        ("POST", "/qel/check"),
        ("PUT", "/subscriptions/variables/{id}"),
        ("POST", "/publishers/variables"),
    ],
)
@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b"null",
        b'"\\ud800"',
        b'{"filter":"\\ud800","type":"variables","sasTokenTTL":1e400}',
        b"\xff\xff",
        b"[" * 30_000,
        b'{"sasTokenTTL":' + b"9" * 30_000 + b"}",
        b'{"sasTokenTTL":10,"sasTokenTTL":10}',
        b'{"x":NaN}',
        b" " * 65_537,
    ],
    ids=[
        "cut",
        "array",
        "null",
        "surrogate",
        "surrogate-member",
        "no-utf8",
        "deep",
        "digits",
        "twice",
        "nan",
        "over-64-KiB",
    ],
)
async def test_hostile_bodies_of_control_calls_are_400s(service, method, path, body) -> None:
    _, created, _ = await service.call("POST", "/subscriptions/variables", json=GOOD)

    status, answered, headers = await service.call(
        method,
        path.format(id=created["subscriptionId"]),
        data=body,
        headers={"Content-Type": "application/json"},
    )

    assert status == 400, answered
    check_shape(answered, 400, headers["X-Request-Id"])


@pytest.mark.parametrize("path", ["/subscriptions/variables", "/qel/check"])
async def test_body_that_is_needed_and_missing_is_a_400(service, path: str) -> None:
    for body in (None, b"", b" \n"):
        assert (await service.call("POST", path, data=body))[0] == 400


@pytest.mark.parametrize("kind", ["text/plain", "application/xml", "multipart/form-data", "x"])
async def test_wrong_content_type_is_a_400(service, kind: str) -> None:
    status, body, _ = await service.call(
        "POST",
        "/subscriptions/variables",
        data=json.dumps(GOOD).encode(),
        headers={"Content-Type": kind},
    )

    assert status == 400
    assert "application/json" in body["errors"][0]["detail"]


async def test_missing_content_type_is_json(service) -> None:
    status, _, _ = await service.call(
        "POST",
        "/subscriptions/variables",
        data=json.dumps(GOOD).encode(),
        skip_auto_headers=["Content-Type"],
    )

    assert status == 201


async def test_body_on_a_get_is_ignored(service) -> None:
    for path in ("/healthz", "/subscriptions"):
        status, _, _ = await service.call("GET", path, data=b"\xff" * 1000)
        assert status == 200


async def test_connection_survives_a_refusal(service) -> None:
    for _ in range(3):
        assert (await service.call("POST", "/subscriptions/variables", json={}))[0] == 400
        assert (await service.call("POST", "/subscriptions/variables", json=GOOD))[0] == 201


async def test_no_response_names_its_software(service) -> None:
    for path in ("/healthz", "/nothing"):
        _, _, headers = await service.call("GET", path)
        assert headers["Server"] == "hotpath"
        assert headers["X-Content-Type-Options"] == "nosniff"


# The audit log


def audit_lines(caplog) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.name == "hotpath.audit"]


async def test_every_control_call_leaves_one_line(service, caplog) -> None:
    caplog.set_level(logging.INFO)
    _, body, headers = await service.call("POST", "/subscriptions/variables", json=GOOD)
    await service.call("DELETE", f"/subscriptions/variables/{body['subscriptionId']}")
    await service.call("POST", "/subscriptions/variables", json={}, token=service.token("x"))
    await service.call("GET", "/subscriptions", token="nonsense")

    created, deleted, forbidden, unauthorized = audit_lines(caplog)
    assert created.operation == "createSubscription"
    assert (created.tenant, created.subject, created.topic) == ("acme", "tester", "variables")
    assert (created.status, created.request_id) == (201, headers["X-Request-Id"])
    assert created.subscription == deleted.subscription == body["subscriptionId"]
    assert created.remote == "127.0.0.1"
    assert (deleted.operation, deleted.status) == ("deleteSubscription", 204)
    assert (forbidden.status, forbidden.tenant) == (403, "acme")
    assert "scope" in forbidden.reason
    assert (unauthorized.status, unauthorized.tenant) == (401, None)


async def test_no_token_ever_shows_in_the_log(service, caplog) -> None:
    caplog.set_level(logging.DEBUG)
    bearer = service.token()
    _, body, _ = await service.call("POST", "/subscriptions/variables", json=GOOD, token=bearer)
    _, publisher, _ = await service.call("POST", "/publishers/variables", token=bearer)
    await service.call("GET", "/subscriptions", token=bearer + "x")

    text = "\n".join(str(record.__dict__) for record in caplog.records)
    assert bearer not in text
    assert body["sasToken"] not in text
    assert publisher["sasToken"] not in text


async def test_messages_and_open_routes_leave_no_line(service, caplog) -> None:
    caplog.set_level(logging.INFO)
    await service.call("POST", "/messages/events", json={"objectId": "a", "event": "e"})
    await service.call("GET", "/healthz")

    assert audit_lines(caplog) == []
