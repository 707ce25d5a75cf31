"""Publishing over REST: what is accepted, what becomes of it, and what a bad part leaves."""

import asyncio
import json

import pytest
from proton import Message

from hotpath.model.names import Topic, TopicKey
from hotpath.ports import LogFailure
from tests.support.services import eventually, running_service

GOOD = {
    "variables": {"objectId": "pump-1", "variable": "temperature", "value": 4},
    "events": {"objectId": "pump-1", "event": "started"},
    "alarms": {"objectId": "pump-1", "alarm": "hot"},
    "platformEvents": {"eventType": "objectModel.updated"},
}
NDJSON = {"Content-Type": "application/x-ndjson"}
JSON = {"Content-Type": "application/json"}


async def stored(service, kind: str = "variables", tenant: str = "acme") -> list[Message]:
    """What is in a topic's log, read with another project's codec."""
    batches = await service.log.read(TopicKey(tenant, Topic(kind)), 1, bytes_max=10**9)
    messages = []
    for batch in batches:
        for payload in batch.payloads:
            message = Message()
            message.decode(payload)
            messages.append(message)
    return messages


def stored_count(service) -> float:
    """Messages made durable so far, by the service's own count."""
    counter = service.core.metrics.messages_published
    return sum(
        sample.value
        for family in counter.collect()
        for sample in family.samples
        if sample.name.endswith("_total")
    )


def body_of(message: Message) -> bytes:
    return bytes(message.body)


async def publish(service, body: object, kind: str = "variables", **options):
    if not isinstance(body, bytes):
        body = json.dumps(body).encode()
    options.setdefault("headers", JSON)
    return await service.call("POST", f"/messages/{kind}", data=body, **options)


# One object


@pytest.mark.parametrize(
    ("kind", "message_type", "time"),
    [
        ("variables", "timeSeries", "timestamp"),
        ("events", "event", "timestamp"),
        ("alarms", "alarm", "timestamp"),
        ("platformEvents", "platformEvent", "eventTime"),
    ],
)
async def test_message_is_stored_with_time_type_and_properties(
    service, kind: str, message_type: str, time: str
) -> None:
    status, body, _ = await publish(service, GOOD[kind], kind)

    (message,) = await stored(service, kind)
    expected = {**GOOD[kind], time: "2024-01-02T03:04:05.000Z"}
    assert (status, body) == (202, {"accepted": 1})
    assert message.content_type == "application/json"
    assert json.loads(body_of(message)) == expected
    assert message.properties == {**expected, "ability-messagetype": message_type}


async def test_complete_message_keeps_its_publishers_text(service) -> None:
    text = (
        b' { "objectId":"p\\u00fc", "variable" : "v","value":1.50e1,\n"x":{"y":[1,  2]},'
        b'"timestamp":"2024-01-01T00:00:00+01:00"} '
    )

    await publish(service, text)

    (message,) = await stored(service)
    assert body_of(message) == text.strip()
    assert message.properties["timestamp"] == "2024-01-01T00:00:00+01:00"


async def test_only_filterable_scalars_become_properties(service) -> None:
    await publish(
        service,
        {**GOOD["variables"], "value": {"deep": 1}, "quality": 192.5, "other": "x", "model": "m"},
    )

    (message,) = await stored(service)
    assert set(message.properties) == {
        "objectId",
        "variable",
        "quality",
        "model",
        "timestamp",
        "ability-messagetype",
    }


async def test_platform_events_have_properties_of_their_own(service) -> None:
    event = {**GOOD["platformEvents"], "user": "ann", "n": None, "l": [1], "ok": True, "big": 2**70}

    await publish(service, {**event, "ability-messagetype": "forged"}, "platformEvents")

    (message,) = await stored(service, "platformEvents")
    assert message.properties["user"] == "ann"
    assert message.properties["ok"] is True
    assert message.properties["ability-messagetype"] == "platformEvent"
    assert not {"n", "l", "big"} & set(message.properties)
    assert json.loads(body_of(message))["big"] == 2**70


@pytest.mark.parametrize("value", [0, -1.5, True, None, "text", [1], {"a": 1}, 2**63 - 1])
async def test_value_of_a_variable_may_be_anything(service, value: object) -> None:
    status, _, _ = await publish(service, {**GOOD["variables"], "value": value})

    (message,) = await stored(service)
    assert status == 202
    assert json.loads(body_of(message))["value"] == value


@pytest.mark.parametrize(
    ("kind", "changes", "expected"),
    [
        pytest.param("variables", {"objectId": ...}, ["/objectId"], id="no-object"),
        pytest.param("variables", {"variable": ...}, ["/variable"], id="no-variable"),
        pytest.param("variables", {"value": ...}, ["/value"], id="no-value"),
        pytest.param("events", {"event": ...}, ["/event"], id="no-event"),
        pytest.param("alarms", {"alarm": ..., "objectId": 1}, ["/alarm", "/objectId"], id="both"),
        pytest.param("platformEvents", {"eventType": ...}, ["/eventType"], id="no-event-type"),
        pytest.param("platformEvents", {"severity": 5}, ["/severity"], id="severity"),
        pytest.param("platformEvents", {"eventTime": "x"}, ["/eventTime"], id="event-time"),
        pytest.param("variables", {"model": None}, ["/model"], id="model-null"),
        pytest.param("variables", {"quality": "192"}, ["/quality"], id="quality-string"),
        pytest.param("variables", {"quality": True}, ["/quality"], id="quality-boolean"),
        pytest.param("variables", {"timestamp": "yesterday"}, ["/timestamp"], id="time-text"),
        pytest.param("variables", {"timestamp": 1704164645}, ["/timestamp"], id="time-number"),
        pytest.param("variables", {"timestamp": None}, ["/timestamp"], id="time-null"),
    ],
)
async def test_wrong_message_is_refused_with_pointers(service, kind, changes, expected) -> None:
    message = {name: v for name, v in {**GOOD[kind], **changes}.items() if v is not ...}

    status, body, _ = await publish(service, message, kind)

    assert status == 400
    assert [error["meta"]["pointer"] for error in body["errors"]] == expected
    assert await stored(service, kind) == []


# Arrays


async def test_array_is_stored_in_its_order(service) -> None:
    status, body, _ = await publish(
        service, [{**GOOD["variables"], "value": number} for number in range(300)]
    )

    values = [json.loads(body_of(message))["value"] for message in await stored(service)]
    assert (status, body) == (202, {"accepted": 300})
    assert values == list(range(300))


async def test_empty_array_is_accepted(service) -> None:
    status, body, _ = await publish(service, b" [ ] ")

    assert (status, body) == (202, {"accepted": 0})


@pytest.mark.parametrize(
    ("element", "pointer"),
    [
        pytest.param(b"{}", "/2/objectId", id="empty-object"),
        pytest.param(b"5", "/2", id="number"),
        pytest.param(b"[]", "/2", id="array"),
        pytest.param(b"null", "/2", id="null"),
        pytest.param(b"{'a':1}", "/2", id="no-json"),
        pytest.param(b"", "/2", id="nothing"),
        pytest.param(b'{"a":1,"a":2}', "/2", id="name-twice"),
    ],
)
async def test_bad_element_is_named_and_nothing_is_accepted(service, element, pointer) -> None:
    good = json.dumps(GOOD["variables"]).encode()

    status, body, _ = await publish(service, b"[%s,%s,%s,%s]" % (good, good, element, good))

    assert status == 400
    assert body["errors"][0]["meta"]["pointer"] == pointer
    assert "element 2" in body["errors"][0]["detail"]
    assert await stored(service) == []


async def test_several_bad_elements_come_back_together_but_not_without_bound(service) -> None:
    _, body, _ = await publish(service, [GOOD["variables"], 1, 2])
    assert [error["meta"]["index"] for error in body["errors"]] == [1, 2]

    _, body, _ = await publish(service, [1] * 5000)
    assert len(body["errors"]) <= 25


@pytest.mark.parametrize(
    "tail", [b"", b"]x", b",", b"]]", b"] []"], ids=["open", "text", "comma", "more", "second"]
)
async def test_array_must_end_the_body(service, tail: bytes) -> None:
    status, _, _ = await publish(service, b"[" + json.dumps(GOOD["variables"]).encode() + tail)

    assert status == 400
    assert await stored(service) == []


# NDJSON


def lines(*values: object) -> bytes:
    return b"".join(json.dumps(value).encode() + b"\n" for value in values)


async def test_lines_are_accepted_with_blank_ones_and_any_line_end(service) -> None:
    one = json.dumps(GOOD["variables"]).encode()

    status, body, _ = await publish(
        service, b"\n" + one + b"\r\n\n  \n" + one + b"\n" + one, headers=NDJSON
    )

    assert (status, body) == (202, {"accepted": 3})
    assert len(await stored(service)) == 3


async def test_what_stands_before_a_bad_line_is_accepted(service) -> None:
    status, body, _ = await publish(
        service,
        lines(GOOD["variables"], GOOD["variables"]) + b"\n{bad\n" + lines(GOOD["variables"]),
        headers=NDJSON,
    )

    error = body["errors"][0]
    assert status == 400
    assert (error["meta"]["line"], error["meta"]["accepted"]) == (4, 2)
    assert "line 4" in error["detail"]
    assert len(await stored(service)) == 2


@pytest.mark.parametrize(
    "bad",
    [b"[1]", b"{}", b"\xff", b'{"objectId":"\\ud800"}', b"[" * 5000, b"9" * 5000],
    ids=["array", "empty", "no-utf8", "surrogate", "deep", "digits"],
)
async def test_each_kind_of_bad_line_is_a_400(service, bad: bytes) -> None:
    status, body, _ = await publish(service, bad + b"\n", headers=NDJSON)

    assert status == 400
    assert body["errors"][0]["meta"]["line"] == 1


async def test_long_stream_is_durable_part_by_part(service) -> None:
    """What has been sent is in the log while the request still goes on."""
    goes_on = asyncio.Event()

    async def source():
        yield lines(*[GOOD["variables"]] * 10)
        await goes_on.wait()
        yield lines(*[GOOD["variables"]] * 5)

    call = asyncio.ensure_future(
        service.call("POST", "/messages/variables", data=source(), headers=NDJSON)
    )
    await eventually(lambda: stored_count(service) >= 10)
    goes_on.set()

    assert (await call)[:2] == (202, {"accepted": 15})


async def test_stream_that_breaks_off_keeps_its_whole_lines(service) -> None:
    host, port = service.url.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    writer.write(
        f"POST /messages/variables HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {service.token()}"
        "\r\nContent-Type: application/x-ndjson\r\nContent-Length: 100000\r\n\r\n".encode()
        + lines(GOOD["variables"], GOOD["variables"])
        + b'{"objectId":"ha'
    )
    await eventually(lambda: stored_count(service) >= 2)
    writer.close()
    await writer.wait_closed()
    await asyncio.sleep(0.01)

    assert len(await stored(service)) == 2


async def test_line_over_the_limit_ends_the_stream_at_its_line(tmp_path) -> None:
    async with running_service(tmp_path, max_message_bytes=1024) as service:
        long = {**GOOD["variables"], "value": "x" * 2000}
        status, body, _ = await publish(
            service, lines(GOOD["variables"], long, GOOD["variables"]), headers=NDJSON
        )
        assert status == 400
        assert (body["errors"][0]["meta"]["line"], body["errors"][0]["meta"]["accepted"]) == (2, 1)

        endless = lines(GOOD["variables"]) + b"y" * 500_000
        status, body, _ = await publish(service, endless, headers=NDJSON)
        assert status == 400
        assert (body["errors"][0]["meta"]["line"], body["errors"][0]["meta"]["accepted"]) == (2, 1)


async def test_full_disk_in_a_stream_tells_how_far_it_came(service) -> None:
    goes_on = asyncio.Event()

    async def source():
        yield lines(GOOD["variables"], GOOD["variables"])
        await goes_on.wait()
        yield lines(GOOD["variables"])

    call = asyncio.ensure_future(
        service.call("POST", "/messages/variables", data=source(), headers=NDJSON)
    )
    await eventually(lambda: stored_count(service) >= 2)
    service.log.fail_next(LogFailure("no space", full=True))
    goes_on.set()
    status, body, headers = await call

    assert status == 503
    assert headers["Retry-After"]
    assert body["errors"][0]["meta"] == {"line": 3, "accepted": 2}


# Bounds and failures


async def test_message_over_the_limit_is_refused(tmp_path) -> None:
    async with running_service(tmp_path, max_message_bytes=1024) as service:
        room = 1024 - len(json.dumps({**GOOD["variables"], "value": ""}))
        fits = {**GOOD["variables"], "value": "x" * room}
        assert (await publish(service, fits))[0] == 202

        over = {**GOOD["variables"], "value": "x" * (room + 1)}
        status, body, _ = await publish(service, over)
        assert status == 400
        assert "1024 bytes" in body["errors"][0]["detail"]

        status, body, _ = await publish(service, [fits, over])
        assert status == 400
        assert body["errors"][0]["meta"]["pointer"] == "/1"
        assert len(await stored(service)) == 1


async def test_array_body_and_its_elements_are_bounded(tmp_path) -> None:
    async with running_service(tmp_path, max_request_bytes=2048, max_array_elements=3) as service:
        status, body, _ = await publish(service, [GOOD["variables"]] * 4)
        assert status == 400
        assert "at most 3 elements" in body["errors"][0]["detail"]

        status, body, _ = await publish(service, b"[" + b" " * 3000 + b"]")
        assert status == 400
        assert "2048 bytes" in body["errors"][0]["detail"]


async def test_chunked_body_over_the_limit_is_refused_too(tmp_path) -> None:
    async def source():
        for _ in range(100):
            yield b" " * 100

    async with running_service(tmp_path, max_request_bytes=2048) as service:
        status, _, _ = await service.call(
            "POST", "/messages/variables", data=source(), headers=JSON
        )

    assert status == 400


@pytest.mark.parametrize(("full", "status"), [(True, 503), (False, 503)], ids=["full", "broken"])
async def test_log_that_fails_refuses_clearly(service, full: bool, status: int) -> None:
    service.log.fail_next(LogFailure("ENOSPC /var/secret", full=full))

    answered, body, headers = await publish(service, GOOD["variables"])

    assert answered == status
    assert headers["Retry-After"]
    assert "secret" not in json.dumps(body)


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/octet-stream"},
        {"Content-Type": "application/json; charset=latin-1"},
        {"Content-Type": "application/json", "Content-Encoding": "gzip"},
        {"Content-Type": "application/x-ndjson", "Content-Encoding": "deflate"},
    ],
    ids=["text", "octets", "latin-1", "gzip", "deflate"],
)
async def test_foreign_content_is_refused(service, headers: dict) -> None:
    status, _, _ = await publish(service, GOOD["variables"], headers=headers)

    assert status == 400
    assert await stored(service) == []


@pytest.mark.parametrize(
    "headers",
    [{"Content-Type": ""}, {"Content-Type": "application/json; charset=UTF-8"}],
    ids=["missing", "charset"],
)
async def test_missing_content_type_is_taken_as_json(service, headers: dict) -> None:
    status, _, _ = await publish(service, GOOD["variables"], headers=headers)

    assert status == 202


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"  ",
        b"{",
        b"null",
        b'"x"',
        b"5",
        b"\xef\xbb\xbf",
        b"\xff\xfe{\x00}\x00",
        b'{"objectId":"a","variable":"v","value":NaN}',
        b'{"objectId":"a","variable":"v","value":' + b"9" * 5000 + b"}",
        b'{"objectId":"a","variable":"v","value":' + b"[" * 9000 + b"]" * 9000 + b"}",
        b'{"objectId":"\\udc00","variable":"v","value":1}',
        b'{"objectId":"a","variable":"v","value":1}{}',
    ],
    ids=[
        "empty",
        "blank",
        "cut",
        "null",
        "string",
        "number",
        "mark-only",
        "utf-16",
        "nan",
        "digits",
        "deep",
        "surrogate",
        "two-values",
    ],
)
async def test_hostile_bodies_are_refused(service, body: bytes) -> None:
    status, answered, _ = await publish(service, body)

    assert status == 400, answered
    assert await stored(service) == []


async def test_byte_order_mark_is_left_out(service) -> None:
    text = json.dumps({**GOOD["variables"], "timestamp": "2024-01-01"}).encode()

    await publish(service, b"\xef\xbb\xbf" + text)

    (message,) = await stored(service)
    assert body_of(message) == text


async def test_messages_go_to_the_log_of_the_callers_tenant(service) -> None:
    forged = {**GOOD["variables"], "tenant": "acme", "tenantId": "acme"}

    await publish(service, forged, token=service.token(tenant="other"))

    assert await stored(service) == []
    assert len(await stored(service, tenant="other")) == 1


async def test_messages_are_not_rate_limited(tmp_path) -> None:
    async with running_service(tmp_path, rate_limit="1/hour", rate_limit_burst=1) as service:
        for _ in range(5):
            assert (await publish(service, GOOD["variables"]))[0] == 202


async def test_accepted_means_durable(service) -> None:
    service.log.pause()
    call = asyncio.ensure_future(publish(service, GOOD["variables"]))
    await asyncio.sleep(0.05)
    assert not call.done()

    service.log.resume()

    assert (await call)[0] == 202
