"""Bounds on HTTP connections: how many, and how long they may take; beside them good clients go on."""

import asyncio
import ssl

import pytest
import trustme

from hotpath.config import Endpoint
from hotpath.model.names import Topic, TopicKey
from tests.support.services import eventually, running_service

HEAD = b"GET /healthz HTTP/1.1\r\nHost: x\r\n"


async def dial(service, **options):
    port = int(service.url.rpartition(":")[2])
    return await asyncio.open_connection("127.0.0.1", port, **options)


async def entered(service, count: int) -> None:
    await eventually(lambda: service.edge.admission.total == count)


async def is_closed(reader) -> bool:
    try:
        return await asyncio.wait_for(reader.read(), 5) == b""
    except ConnectionError:
        return True


def close(*writers) -> None:
    for writer in writers:
        writer.close()


@pytest.mark.parametrize(
    ("option", "cause"),
    [("max_http_connections", "total"), ("max_http_connections_per_address", "address")],
)
async def test_one_connection_too_many_is_closed_at_once(tmp_path, option: str, cause: str) -> None:
    async with running_service(tmp_path, **{option: 2}) as service:
        (first, a), (_, b) = await dial(service), await dial(service)
        await entered(service, 2)

        refused, c = await dial(service)
        assert await is_closed(refused)
        a.write(HEAD + b"Connection: close\r\n\r\n")
        assert b"200 OK" in await first.read()
        await entered(service, 1)
        _, d = await dial(service)
        await entered(service, 2)

        found = service.core.metrics.refused_http_connections.labels(cause)._value.get()
        assert found == 1
        close(a, b, c, d)


UNKNOWN = "max_http_connections_unauthenticated"


async def test_who_has_shown_no_token_for_longest_makes_room_for_the_next(tmp_path) -> None:
    async with running_service(tmp_path, **{UNKNOWN: 1}) as service:
        first, a = await dial(service)
        await entered(service, 1)
        second, b = await dial(service)

        assert await is_closed(first)
        b.write(HEAD + b"Connection: close\r\n\r\n")
        assert b"200 OK" in await second.read()
        close(a, b)


async def test_one_address_has_so_many_places_for_those_who_have_shown_no_token(tmp_path) -> None:
    async with running_service(tmp_path, **{f"{UNKNOWN}_per_address": 1}) as service:
        known, writer = await dial(service)
        bearer = f"Authorization: Bearer {service.token()}\r\n\r\n".encode()
        writer.write(b"GET /subscriptions HTTP/1.1\r\nHost: x\r\n" + bearer)
        assert b"200 OK" in await known.readuntil(b"\r\n\r\n")
        _, unknown = await dial(service)
        await entered(service, 2)
        unknown.write(HEAD + b"\r\n")

        refused, third = await dial(service)

        assert await is_closed(refused)
        found = service.core.metrics.refused_http_connections.labels("unauthenticated address")
        assert found._value.get() == 1
        unknown.transport.abort()
        await entered(service, 1)
        _, fourth = await dial(service)
        await entered(service, 2)
        close(writer, third, fourth)


async def test_refused_connections_are_reported_once_in_a_while(tmp_path, caplog) -> None:
    async with running_service(tmp_path, max_http_connections=1) as service:
        _, first = await dial(service)
        await entered(service, 1)
        for _ in range(5):
            refused, writer = await dial(service)
            assert await is_closed(refused)
            close(writer)
        lines = [each for each in caplog.records if each.message == "connection refused"]
        assert len(lines) == 1

        await service.clock.advance(1_000)
        refused, writer = await dial(service)
        assert await is_closed(refused)

        lines = [each for each in caplog.records if each.message == "connection refused"]
        assert [each.others for each in lines] == [0, 4]
        close(first, writer)


async def test_places_are_given_back_by_those_who_leave(service) -> None:
    for _ in range(3):
        _, writer = await dial(service)
        await entered(service, 1)
        writer.transport.abort()
        await entered(service, 0)

    assert service.core.metrics.http_connections._value.get() == 0


@pytest.mark.parametrize("sent", [b"", b"G", HEAD], ids=["silence", "a byte", "half a head"])
async def test_a_head_that_does_not_come_whole_in_time_ends_the_connection(
    tmp_path, sent: bytes
) -> None:
    async with running_service(tmp_path, http_header_seconds=5) as service:
        reader, writer = await dial(service)
        await entered(service, 1)
        writer.write(sent)
        await service.clock.advance(4_999)
        assert service.edge.admission.total == 1

        await service.clock.advance(1)

        assert await is_closed(reader)
        await entered(service, 0)
        close(writer)


async def test_a_byte_now_and_then_prolongs_nothing(tmp_path) -> None:
    async with running_service(tmp_path, http_header_seconds=5) as service:
        reader, writer = await dial(service)
        await entered(service, 1)
        for byte in HEAD[:4]:
            writer.write(bytes([byte]))
            await writer.drain()
            await service.clock.advance(1_250)

        assert await is_closed(reader)
        close(writer)


async def test_a_later_head_has_its_time_from_its_first_byte(tmp_path) -> None:
    async with running_service(tmp_path, http_header_seconds=5) as service:
        reader, writer = await dial(service)
        writer.write(HEAD + b"\r\n")
        assert b"200 OK" in await reader.readuntil(b"}")
        await service.clock.advance(60_000)  # idle between requests is something else
        assert service.edge.admission.total == 1

        writer.write(HEAD[:9])
        await writer.drain()
        await eventually(service.clock.pending)
        await eventually(lambda: _has_timer(service))
        await service.clock.advance(5_000)

        assert await is_closed(reader)
        close(writer)


def _has_timer(service) -> bool:
    return any(each._head_timer for each in service.edge._runner.server.connections)


async def test_a_request_under_way_is_not_cut_off_by_the_time_for_heads(tmp_path) -> None:
    async with running_service(tmp_path, http_header_seconds=5) as service:
        service.log.pause()
        call = asyncio.ensure_future(
            service.call("POST", "/messages/events", json={"objectId": "a", "event": "e"})
        )
        await eventually(lambda: service.log._waiting)

        await service.clock.advance(60_000)
        service.log.resume()

        assert (await call)[0] == 202


@pytest.mark.slow
async def test_a_body_that_trickles_is_refused(tmp_path) -> None:
    async with running_service(tmp_path, http_body_seconds=0.1, max_control_bytes=1024) as service:
        reader, writer = await dial(service)
        writer.write(
            b"POST /subscriptions/variables HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n"
            b"Authorization: Bearer " + service.token().encode() + b"\r\n\r\n"
        )
        answer = asyncio.ensure_future(reader.readuntil(b"\r\n\r\n"))
        while not answer.done():
            writer.write(b" ")
            await asyncio.wait([answer], timeout=0.02)

        assert b"400 Bad Request" in answer.result()
        close(writer)


@pytest.mark.slow
async def test_a_stream_that_stops_is_refused_with_what_was_accepted(tmp_path) -> None:
    async with running_service(tmp_path, http_body_seconds=0.1) as service:

        async def lines():
            yield b'{"objectId": "a", "event": "e"}\n'
            await asyncio.sleep(30)
            yield b""

        status, body, _ = await service.call(
            "POST",
            "/messages/events",
            data=lines(),
            headers={"Content-Type": "application/x-ndjson"},
        )

        assert status == 400
        assert body["errors"][0]["meta"]["accepted"] in {0, 1}
        assert "in time" in body["errors"][0]["detail"]


async def stored(service) -> list[bytes]:
    key = TopicKey("acme", Topic.EVENTS)
    batches = await service.log.read(key, 1, bytes_max=10**9)
    return [payload for batch in batches for payload in batch.payloads]


async def stream(service, source) -> tuple[int, dict]:
    status, body, _ = await service.call(
        "POST",
        "/messages/events",
        data=source,
        headers={"Content-Type": "application/x-ndjson"},
    )
    return status, body["errors"][0]


@pytest.mark.slow
async def test_a_line_that_trickles_is_refused(tmp_path) -> None:
    async with running_service(tmp_path, http_body_seconds=0.2) as service:

        async def line():
            yield b'{"objectId": "a", "event": "e"}\n'
            while True:
                yield b" "
                await asyncio.sleep(0.02)

        status, error = await stream(service, line())

        assert status == 400
        assert "in time" in error["detail"]
        assert error["meta"]["accepted"] == 1


@pytest.mark.slow
async def test_a_stream_without_end_has_its_time(tmp_path) -> None:
    async with running_service(tmp_path, http_stream_seconds=0.3) as service:

        async def lines():
            while True:
                yield b'{"objectId": "a", "event": "e"}\n'
                await asyncio.sleep(0.02)

        status, error = await stream(service, lines())

        assert status == 400
        assert error["detail"].endswith(
            "a stream takes at most 0.3 seconds; go on with another one"
        )
        assert error["meta"]["accepted"] == len(await stored(service))


async def test_a_stream_has_so_many_bytes(tmp_path) -> None:
    line = b'{"objectId": "a", "event": "e"}\n'
    async with running_service(tmp_path, http_stream_bytes_max=1_024) as service:

        async def lines():
            for _ in range(100):
                yield line
                await asyncio.sleep(0)

        status, error = await stream(service, lines())

        assert status == 400
        assert "1024 bytes" in error["detail"]
        assert 0 <= error["meta"]["accepted"] <= 1_024 // len(line)


async def test_an_unfinished_handshake_counts_and_ends(tmp_path) -> None:
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(server)
    async with running_service(tmp_path, handshake_seconds=0.1) as service:
        port = await service.edge.start(Endpoint("127.0.0.1:0"), server)

        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await entered(service, 1)

        assert await is_closed(reader)
        await entered(service, 0)
        close(writer)
