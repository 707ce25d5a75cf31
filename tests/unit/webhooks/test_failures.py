"""What can go wrong with an endpoint, and what becomes of the events: on an injected clock."""

import asyncio
import datetime
import ssl

import pytest
import trustme

from tests.support.clock import START_MS
from tests.support.endpoint import (
    CLOSE,
    HANG,
    OK,
    RESET,
    FakeEndpoint,
    eventually,
    io,
    status,
    webhook_rig,
)

#: The beginning of the default one; the whole of it is in test_retry.py.
SCHEDULE = [5, 30, 120, 600]


async def failed_once(rig, endpoint, answer):
    """Publish one value that meets `answer`; the attempt as it was noted."""
    stream = await rig.stream(endpoint, "p")
    endpoint.answers.append(answer)
    await rig.publish("1")
    await eventually(
        lambda: rig.edge._pushers[stream].journal.history.page(after=None, limit=1).items
    )
    (attempt,) = await rig.attempts(stream)
    return stream, attempt


async def test_an_event_is_tried_on_schedule_and_then_set_aside(tmp_path, endpoint):
    endpoint.usual = status(503)
    async with webhook_rig(tmp_path, webhook_retry_seconds="5,30,120,600") as rig:
        await check_schedule(rig, endpoint)


async def check_schedule(rig, endpoint):
    stream = await rig.stream(endpoint, "p")
    await rig.publish("1")
    await eventually(lambda: len(endpoint.requests) == 1)
    await io()

    for count, delay in enumerate(SCHEDULE, 1):
        await rig.advance(delay - 0.01)
        assert len(endpoint.requests) == count
        await rig.advance(0.01)
        await eventually(lambda count=count: len(endpoint.requests) == count + 1)
        await io()

    (letter,) = await rig.letters(stream)
    assert len(endpoint.requests) == 5
    assert letter.reason == "RetriesExhausted: HTTP 503"
    assert letter.attempts == 5
    assert letter.event == endpoint.requests[0].body
    assert letter.first_attempt_ms == START_MS
    assert letter.last_attempt_ms == START_MS + sum(SCHEDULE) * 1000
    assert rig.unsettled(stream) == 0


async def test_the_schedule_is_configurable(tmp_path, endpoint):
    endpoint.usual = status(500)
    async with webhook_rig(tmp_path, webhook_retry_seconds="0.5,1") as rig:
        stream = await rig.stream(endpoint, "p")
        await rig.publish("1")
        await io()
        await rig.advance(0.5)
        await rig.advance(1)
        await eventually(lambda: rig.unsettled(stream) == 0)

        assert [letter.attempts for letter in await rig.letters(stream)] == [3]


@pytest.mark.parametrize("code", [400, 413, 422])
async def test_an_event_that_will_never_be_taken_is_set_aside_at_once(rig, endpoint, code):
    stream, attempt = await failed_once(rig, endpoint, status(code))
    await rig.publish("2")
    await eventually(lambda: rig.unsettled(stream) == 0)

    (letter,) = await rig.letters(stream)
    assert (letter.reason, letter.attempts) == (f"Rejected: HTTP {code}", 1)
    assert (attempt.status, attempt.http_status) == ("dead-lettered", code)
    assert endpoint.values == ["1", "2"]


@pytest.mark.parametrize("code", [401, 403, 404, 408, 409, 429, 500, 501, 502, 503, 504, 599])
async def test_any_other_failure_is_tried_again(rig, endpoint, code):
    stream, attempt = await failed_once(rig, endpoint, status(code))

    await rig.advance(5)
    await eventually(lambda: rig.unsettled(stream) == 0)

    assert (attempt.status, attempt.reason) == ("failed", f"HTTP {code}")
    assert endpoint.values == ["1", "1"]
    assert await rig.letters(stream) == []


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
async def test_a_redirect_is_a_failure_and_not_followed(rig, endpoint, code):
    other = await FakeEndpoint().start()
    location = f"Location: http://127.0.0.1:{other.port}/"

    _, attempt = await failed_once(rig, endpoint, status(code, location))

    assert attempt.reason == f"HTTP {code}: redirects are not followed"
    assert other.requests == []
    await other.stop()


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("60", 66), ("Tue, 02 Jan 2024 03:05:05 GMT", 66), ("86400", 3600), ("2", 2.2), ("junk", 5)],
)
async def test_retry_after_says_when_within_a_bound(rig, endpoint, header, seconds):
    stream, _ = await failed_once(rig, endpoint, status(503, f"Retry-After: {header}"))

    await rig.advance(seconds - 0.1)
    assert len(endpoint.requests) == 1
    await rig.advance(0.1)
    await eventually(lambda: rig.unsettled(stream) == 0)


async def test_too_many_requests_holds_the_whole_stream_back(rig, endpoint):
    stream = await rig.stream(endpoint, "a", "b")
    endpoint.answers.append(status(429, "Retry-After: 100"))
    await rig.publish(("a", 1))
    await io()
    await rig.publish(("b", 2))
    await io()
    assert endpoint.values == ["1"]

    await rig.advance(111)
    await eventually(lambda: rig.unsettled(stream) == 0)

    assert sorted(endpoint.values) == ["1", "1", "2"]


async def test_unavailable_holds_back_only_the_event(rig, endpoint):
    stream = await rig.stream(endpoint, "a", "b")
    endpoint.answers.append(status(503, "Retry-After: 100"))
    await rig.publish(("a", 1))
    await io()

    await rig.publish(("b", 2))
    await eventually(lambda: rig.unsettled(stream) == 1)

    assert endpoint.values == ["1", "2"]


async def test_no_answer_within_15_seconds_is_a_failure(rig, endpoint):
    stream = await rig.stream(endpoint, "p")
    endpoint.answers.append(HANG)
    await rig.publish("1")
    await eventually(lambda: endpoint.requests)

    await rig.advance(14.9)
    assert await rig.attempts(stream) == []
    await rig.advance(0.1)

    (attempt,) = await rig.attempts(stream)
    assert (attempt.reason, attempt.duration_ms) == ("no answer within 15 s", 15_000)
    await eventually(lambda: not endpoint.open)


class HangingConnector:
    """Never gets anywhere."""

    async def connect(self, address, port, *, protocol, tls, server_name):
        await asyncio.Event().wait()


async def test_no_connection_within_5_seconds_is_a_failure(tmp_path, endpoint):
    async with webhook_rig(tmp_path, connector=HangingConnector()) as rig:
        stream = await rig.stream(endpoint, "p")
        await rig.publish("1")
        await io()

        await rig.advance(4.9)
        assert await rig.attempts(stream) == []
        await rig.advance(0.1)

        (attempt,) = await rig.attempts(stream)
        assert (attempt.reason, attempt.duration_ms) == ("no connection within 5 s", 5_000)


async def test_a_body_that_never_ends_does_not_undo_the_status(rig, endpoint):
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"
    stream = await rig.stream(endpoint, "p")
    endpoint.answers.append(head)
    await rig.publish("1")
    await eventually(lambda: endpoint.requests)

    await rig.advance(15)
    await eventually(lambda: rig.unsettled(stream) == 0)

    assert [each.status for each in await rig.attempts(stream)] == ["delivered"]


@pytest.mark.parametrize("head", [b"Content-Length: 100000000", b"X: y"], ids=["told", "untold"])
async def test_no_more_than_64_kib_of_an_answer_are_read(rig, endpoint, head):
    big = b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\n" + b"x" * 5_000_000

    stream, attempt = await failed_once(rig, endpoint, big)
    await rig.publish("2")
    await eventually(lambda: rig.unsettled(stream) == 0)

    assert attempt.status == "delivered"
    assert endpoint.connections == 2


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (RESET, "connection reset"),
        (CLOSE, "the connection was closed before the answer was complete"),
        (b"HTTP/1.1 200 OK\r\nHalf: ", None),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "the answer is not HTTP/1.1"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000, "the head of the answer is over 16384 bytes"),
        (b"HTTP/1.1 101 Go\r\n\r\n", "the endpoint wants to switch protocols"),
    ],
    ids=["reset", "closed", "cut", "other", "endless", "upgrade"],
)
async def test_what_is_no_answer_is_a_failure(rig, endpoint, answer, reason):
    stream = await rig.stream(endpoint, "p")
    endpoint.answers.append(answer)
    await rig.publish("1")
    await eventually(lambda: endpoint.requests)
    if reason is None:
        await rig.advance(15)
        reason = "no answer within 15 s"
    await io()

    (attempt,) = await rig.attempts(stream)
    assert (attempt.status, attempt.http_status, attempt.reason) == ("failed", None, reason)
    await rig.advance(5)
    await eventually(lambda: rig.unsettled(stream) == 0)


async def test_nobody_listening_is_a_failure(rig, endpoint):
    await endpoint.stop()
    stream = await rig.stream(endpoint, "p")

    await rig.publish("1")
    await io()

    (attempt,) = await rig.attempts(stream)
    assert attempt.reason == "cannot connect: Connection refused"


async def test_an_address_that_is_not_allowed_is_a_failure(tmp_path, endpoint):
    async with webhook_rig(tmp_path, webhook_allow_networks="127.9.0.0/16") as rig:
        stream = await rig.stream(endpoint, "p")

        await rig.publish("1")
        await io()

        (attempt,) = await rig.attempts(stream)
        assert attempt.reason == "target refused: a loopback address, which is not public"
        assert endpoint.connections == 0


# TLS


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


def serving(authority, *names, **options):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names, **options).configure_cert(context)
    return context


@pytest.fixture
def trusting(authority, tmp_path):
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return {"webhook_tls_ca": path}


async def test_tls_is_checked_and_used(tmp_path, authority, trusting):
    endpoint = await FakeEndpoint().start(tls=serving(authority, "127.0.0.1"))
    async with webhook_rig(tmp_path, **trusting) as rig:
        stream = await rig.stream(endpoint, "p", scheme="https")

        await rig.publish("1", "2")
        await eventually(lambda: rig.unsettled(stream) == 0)

        assert (endpoint.values, endpoint.connections) == (["1", "2"], 1)
    await endpoint.stop()


class Loopback:
    """All names lead here."""

    async def resolve(self, host):
        return ["127.0.0.1"]


async def test_the_certificate_is_that_of_the_name_not_of_the_address(
    tmp_path, authority, trusting
):
    endpoint = await FakeEndpoint().start(tls=serving(authority, "hooks.example.com"))
    async with webhook_rig(tmp_path, resolver=Loopback(), **trusting) as rig:
        stream = await rig.stream(endpoint, "p", scheme="https", host="hooks.example.com")

        await rig.publish("1")
        await eventually(lambda: rig.unsettled(stream) == 0)

        assert endpoint.requests[0].headers["Host"] == f"hooks.example.com:{endpoint.port}"
    await endpoint.stop()


@pytest.mark.parametrize("fault", ["unknown authority", "other name", "expired"])
async def test_bad_tls_is_a_failure(tmp_path, authority, trusting, fault):
    past = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    tls = {
        "unknown authority": lambda: serving(trustme.CA(), "127.0.0.1"),
        "other name": lambda: serving(authority, "elsewhere.example.com"),
        "expired": lambda: serving(authority, "127.0.0.1", not_after=past),
    }[fault]()
    endpoint = await FakeEndpoint().start(tls=tls)
    async with webhook_rig(tmp_path, **trusting) as rig:
        stream = await rig.stream(endpoint, "p", scheme="https")

        await rig.publish("1")
        await eventually(lambda: rig.edge._pushers[stream].journal.history._entries)

        (attempt,) = await rig.attempts(stream)
        assert attempt.reason.startswith("TLS: ")
        assert endpoint.requests == []
    await endpoint.stop()


async def test_an_endpoint_without_tls_is_given_up_while_connecting(rig, endpoint):
    stream = await rig.stream(endpoint, "p", scheme="https")
    await rig.publish("1")
    await io()

    await rig.advance(5)

    (attempt,) = await rig.attempts(stream)
    assert attempt.reason == "no connection within 5 s"
    assert endpoint.requests == []


# Status


async def test_a_stream_fails_after_three_attempts_in_a_row_until_one_succeeds(rig, endpoint):
    stream = await rig.stream(endpoint, "p")
    endpoint.usual = status(500)
    await rig.publish("1")
    await io()
    await rig.advance(5)
    assert stream.status.value == "active"
    await rig.advance(30)
    await eventually(lambda: stream.status.value == "failing")
    assert stream.reason == "3 failed attempts in a row, the last one: HTTP 500"

    endpoint.usual = OK
    await rig.advance(120)

    await eventually(lambda: stream.status.value == "active")
    assert stream.reason == ""


async def test_an_endpoint_that_is_back_gets_what_waited_at_once(rig, endpoint):
    points = [f"p{n}" for n in range(30)]
    stream = await rig.stream(endpoint, *points)
    endpoint.usual = status(500)
    await rig.publish(*((point, 1) for point in points))
    await io()
    for _ in range(10):
        await rig.advance(60)
    tried = len(endpoint.requests)
    assert tried < 60

    endpoint.usual = OK
    await rig.advance(61)
    await eventually(lambda: rig.unsettled(stream) == 0)

    assert len(endpoint.requests) == tried + 30


async def test_a_dead_endpoint_is_asked_now_and_then_however_many_events_wait(rig, endpoint):
    endpoint.usual = status(500)
    stream = await rig.stream(endpoint, *(f"p{n}" for n in range(500)))
    await rig.publish(*((f"p{n}", 1) for n in range(500)))
    await io()
    first = len(endpoint.requests)

    for _ in range(20):
        await rig.advance(60)

    assert first <= 16
    assert len(endpoint.requests) <= first + 25
    assert stream.status.value == "failing"


async def test_gone_disables_the_stream_and_sets_its_events_aside(rig, endpoint):
    stream = await rig.stream(endpoint, "a", "b")
    endpoint.answers.append(status(410))
    await rig.publish(("a", 1), ("a", 2))
    await eventually(lambda: stream.status.value == "disabled")
    await rig.publish(("b", 3))
    await eventually(lambda: rig.unsettled(stream) == 0)
    await io()

    reasons = [letter.reason for letter in await rig.letters(stream)]
    assert len(endpoint.requests) == 1
    assert reasons == ["EndpointGone: HTTP 410", *["StreamDisabled: HTTP 410"] * 2]
    assert stream.reason == "HTTP 410"


async def test_failing_for_too_long_disables_the_stream(tmp_path, endpoint):
    async with webhook_rig(tmp_path, webhook_disable_hours=0.5) as rig:
        endpoint.usual = status(500)
        stream = await rig.stream(endpoint, "p")
        await rig.publish("1", "2")
        await io()
        for _ in range(5):
            await rig.advance(350)
        assert stream.status.value == "failing"

        await rig.advance(100)
        await eventually(lambda: rig.unsettled(stream) == 0)

        assert stream.status.value == "disabled"
        assert stream.reason == "failing for 0.5 hours without a success"
        reasons = [letter.reason for letter in await rig.letters(stream)]
        assert reasons == ["StreamDisabled: failing for 0.5 hours without a success"] * 2


async def test_an_event_is_set_aside_before_the_log_forgets_it(tmp_path, endpoint):
    async with webhook_rig(tmp_path, retention_hours=0.5) as rig:
        endpoint.usual = status(500)
        stream = await rig.stream(endpoint, "a", "b")
        await rig.publish(("a", 1), ("a", 2))
        await io()

        for _ in range(6):
            await rig.advance(300)
        await eventually(lambda: rig.unsettled(stream) == 0)

        reasons = {letter.reason for letter in await rig.letters(stream)}
        assert reasons == {"Expired: not delivered in the time that the log keeps it"}
