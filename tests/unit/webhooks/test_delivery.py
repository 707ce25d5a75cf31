"""Events on their way to endpoints: over real sockets, with time in the test's hands."""

from standardwebhooks.webhooks import Webhook

from hotpath.service.secrets import SecretValue
from tests.support.endpoint import (
    CLOSE,
    HANG,
    OK,
    FakeEndpoint,
    eventually,
    io,
    status,
    webhook_rig,
)


async def test_a_value_is_posted_to_the_endpoint(rig, endpoint):
    stream = await rig.stream(endpoint, "p", path="/hook?x=1")

    await rig.publish("22")
    await eventually(lambda: rig.unsettled(stream) == 0)

    (request,) = endpoint.requests
    assert request.line == "POST /hook?x=1 HTTP/1.1"
    assert request.headers["Host"] == f"127.0.0.1:{endpoint.port}"
    assert request.headers["Content-Type"] == "application/json"
    assert request.headers["User-Agent"].startswith("hotpath/")
    assert "X-Webhook-Signature" not in request.headers
    assert request.event == {
        "changed": 1,
        "createdAt": "2024-01-02T03:04:05.000Z",
        "id": "p",
        "lastUpdatedAt": "2024-01-02T03:04:05.000Z",
        "qualityOfValue": 0,
        "value": "22",
    }


async def test_a_stream_gets_the_values_of_its_points_and_no_others(rig, endpoint):
    stream = await rig.stream(endpoint, "a", "b")

    await rig.publish(("a", 1), ("c", 2), ("b", 3))
    await eventually(lambda: rig.unsettled(stream) == 0)

    assert sorted(endpoint.values) == ["1", "3"]


async def test_values_of_one_point_come_one_after_the_other(rig, endpoint):
    stream = await rig.stream(endpoint, "p")

    await rig.publish(*range(100))
    await eventually(lambda: rig.unsettled(stream) == 0)

    assert endpoint.values == [str(n) for n in range(100)]
    assert endpoint.connections == 1


async def test_a_later_value_waits_for_an_earlier_one_and_other_points_do_not(rig, endpoint):
    stream = await rig.stream(endpoint, "a", "b")
    endpoint.usual = lambda request: status(500) if request.value == "a1" else OK

    await rig.publish(("a", "a1"), ("a", "a2"), ("b", "b1"), ("b", "b2"))
    await eventually(lambda: rig.unsettled(stream) == 2)
    assert sorted(endpoint.values) == ["a1", "b1", "b2"]

    endpoint.usual = OK
    await rig.advance(5)
    await eventually(lambda: rig.unsettled(stream) == 0)
    assert endpoint.values[-2:] == ["a1", "a2"]


async def test_requests_of_one_stream_are_bounded(tmp_path, endpoint):
    async with webhook_rig(tmp_path, webhook_requests_per_stream_max=3) as rig:
        endpoint.usual = HANG
        points = [f"p{n}" for n in range(20)]
        await rig.stream(endpoint, *points)

        await rig.publish(*((point, 1) for point in points))
        await io()

        assert len(endpoint.requests) == 3


async def test_a_stream_holds_no_more_than_its_window(tmp_path, endpoint):
    async with webhook_rig(tmp_path, webhook_window=10) as rig:
        endpoint.usual = lambda request: HANG if request.event["id"] == "stuck" else OK
        stream = await rig.stream(endpoint, "stuck", "free")

        await rig.publish(*(("stuck", n) for n in range(50)), ("free", 1))
        await io()

        assert endpoint.values == ["0"]
        assert len(stream.subscription.locks) == 10


async def test_endpoints_that_hang_leave_room_for_one_that_answers(tmp_path, endpoint):
    async with webhook_rig(tmp_path, webhook_requests_max=8) as rig:
        hanging = await FakeEndpoint(usual=HANG).start()
        names = [f"h{n}-{m}" for n in range(5) for m in range(10)]
        for n in range(5):
            await rig.stream(hanging, *names[n * 10 : n * 10 + 10])
        stream = await rig.stream(endpoint, "good")
        await rig.publish(("good", 0))
        await eventually(lambda: rig.unsettled(stream) == 0)

        await rig.publish(*((name, 1) for name in names))
        await io()
        for value in range(1, 20):
            await rig.publish(("good", value))
            await eventually(lambda: rig.unsettled(stream) == 0)

        assert len(hanging.requests) == 6
        assert endpoint.values == [str(n) for n in range(20)]
        await hanging.stop()


# Signatures


async def test_events_of_a_stream_with_a_secret_are_signed(rig, endpoint):
    secret = "whsec_c2VjcmV0IGtleSBvZiAyNCBieXRlcyE="
    stream = await rig.stream(endpoint, "p", secret=secret)

    await rig.publish("22")
    await eventually(lambda: rig.unsettled(stream) == 0)

    headers, body = endpoint.requests[0].headers, endpoint.requests[0].body
    assert headers["X-Webhook-Signature"].startswith("sha256=")
    assert headers["webhook-id"] == f"{stream.id}-1"
    assert headers["webhook-timestamp"] == str(rig.clock.now_ms() // 1000)
    library = Webhook(secret)
    library._Webhook__verify_timestamp = lambda text: __import__("datetime").datetime.fromtimestamp(
        int(text), tz=__import__("datetime").UTC
    )
    library.verify(body, headers)


async def test_both_secrets_sign_while_one_replaces_the_other(rig, endpoint):
    stream = await rig.stream(endpoint, "p", secret="old")
    await rig.core.streams.rotate(stream, SecretValue("new"), overlap_ms=60_000)

    await rig.publish("1")
    await eventually(lambda: rig.unsettled(stream) == 0)
    await rig.advance(61)
    await rig.publish("2")
    await eventually(lambda: rig.unsettled(stream) == 0)

    both, one = (each.headers["webhook-signature"].split() for each in endpoint.requests)
    assert (len(both), len(one)) == (2, 1)


async def test_every_attempt_has_the_same_id_and_its_own_time(rig, endpoint):
    stream = await rig.stream(endpoint, "p", secret="s")
    endpoint.answers.extend([status(500), status(502)])

    await rig.publish("1")
    await io()
    await rig.advance(5)
    await rig.advance(30)
    await eventually(lambda: rig.unsettled(stream) == 0)

    assert len({each.headers["webhook-id"] for each in endpoint.requests}) == 1
    assert len({each.headers["webhook-timestamp"] for each in endpoint.requests}) == 3
    assert len({each.headers["webhook-signature"] for each in endpoint.requests}) == 3


# Connections


async def test_connections_are_kept_and_closed_when_they_are_idle(rig, endpoint):
    stream = await rig.stream(endpoint, "p")
    for value in range(5):
        await rig.publish(value)
        await eventually(lambda: rig.unsettled(stream) == 0)
    assert (endpoint.connections, len(endpoint.open)) == (1, 1)

    await rig.advance(60)

    await eventually(lambda: not endpoint.open)


async def test_unused_connections_of_all_streams_together_are_bounded(tmp_path, endpoint):
    async with webhook_rig(tmp_path, webhook_requests_max=4) as rig:
        streams = [await rig.stream(endpoint, f"p{n}") for n in range(10)]

        await rig.publish(*((f"p{n}", 1) for n in range(10)))
        await eventually(lambda: not any(map(rig.unsettled, streams)))
        await io()

        assert (endpoint.connections, len(endpoint.open)) == (10, 4)


async def test_an_event_that_met_a_closed_connection_goes_out_again_at_once(rig, endpoint):
    stream = await rig.stream(endpoint, "p")
    await rig.publish("1")
    await eventually(lambda: rig.unsettled(stream) == 0)
    endpoint.answers.append(CLOSE)

    await rig.publish("2")
    await eventually(lambda: rig.unsettled(stream) == 0)

    assert endpoint.values == ["1", "2", "2"]
    assert [each.attempt for each in await rig.attempts(stream)] == [1, 1]


async def test_a_connection_that_the_endpoint_wants_closed_is_not_used_again(rig, endpoint):
    endpoint.usual = status(200, "Connection: close")
    stream = await rig.stream(endpoint, "p")

    await rig.publish("1", "2")
    await eventually(lambda: rig.unsettled(stream) == 0)

    assert endpoint.connections == 2


# Changes


async def test_values_of_a_removed_point_are_not_sent_any_more(rig, endpoint):
    stream = await rig.stream(endpoint, "a", "b")
    endpoint.usual = status(500)
    await rig.publish(("a", 1), ("a", 2))
    await io()

    await rig.core.streams.remove_points(stream, ["a"])
    endpoint.usual = OK
    await rig.advance(10)

    assert endpoint.values == ["1"]
    assert rig.unsettled(stream) == 0
    assert await rig.letters(stream) == []


async def test_a_deleted_stream_sends_nothing(rig, endpoint):
    stream = await rig.stream(endpoint, "p")
    endpoint.usual = status(500)
    await rig.publish("1")
    await io()

    await rig.core.streams.delete(stream)
    await rig.publish("2")
    await rig.advance(100)

    assert endpoint.values == ["1"]


async def test_a_new_stream_gets_what_comes_after_its_creation(rig, endpoint):
    await rig.stream(endpoint, "p")
    await rig.publish("1")
    second = await rig.stream(endpoint, "p")
    await rig.publish("2")

    await eventually(lambda: len(endpoint.requests) == 3)
    await eventually(lambda: rig.unsettled(second) == 0)

    assert sorted(endpoint.values) == ["1", "2", "2"]


# Memory


async def test_what_waits_for_a_retry_is_read_from_the_log_again(tmp_path, endpoint):
    async with webhook_rig(tmp_path, tail_bytes_max=1_048_576) as rig:
        stream = await rig.stream(endpoint, "p")
        endpoint.usual = status(500)
        await rig.publish("precious")
        await io()
        for _ in range(4):
            await rig.publish("x" * 400_000, point="other")
        batch = next(iter(stream.subscription.locks.unsettled.values())).batch
        assert batch.payloads is None

        endpoint.usual = OK
        await rig.advance(5)
        await eventually(lambda: rig.unsettled(stream) == 0)

        assert endpoint.values == ["precious", "precious"]
