"""What people do with streams: trying out, looking back, sending once more; stops and restarts."""

import asyncio

import pytest

from hotpath.model.errors import Invalid, NotFound
from tests.support.endpoint import HANG, OK, eventually, io, make_edge, status, webhook_rig

# Trying out


async def test_a_sample_event_is_sent_at_once_and_is_not_logged(rig, endpoint):
    stream = await rig.stream(endpoint, "a", secret="s")

    result = await rig.edge.test(stream)

    assert (result.delivered, result.http_status, result.reason) == (True, 200, "")
    assert endpoint.requests[0].event["id"] == "a"
    assert endpoint.requests[0].headers["webhook-id"].startswith(f"test-{stream.id}-")
    assert "X-Webhook-Signature" in endpoint.requests[0].headers
    assert rig.unsettled(stream) == 0
    assert [each.status for each in await rig.attempts(stream)] == ["delivered"]


async def test_a_sample_event_that_is_not_taken_says_why_and_is_not_tried_again(rig, endpoint):
    stream = await rig.stream(endpoint)
    endpoint.usual = status(404)

    result = await rig.edge.test(stream)
    await rig.advance(100)

    assert (result.delivered, result.http_status, result.reason) == (False, 404, "HTTP 404")
    assert len(endpoint.requests) == 1
    assert stream.status.value == "active"


async def test_a_sample_event_that_is_taken_enables_a_disabled_stream(rig, endpoint):
    stream = await rig.stream(endpoint)
    endpoint.answers.append(status(410))
    await rig.publish("1")
    await eventually(lambda: stream.status.value == "disabled")

    await rig.edge.test(stream)
    await eventually(lambda: stream.status.value == "active")
    await rig.publish("2")
    await eventually(lambda: endpoint.values[-1] == "2")


async def test_a_sample_event_passes_an_open_circuit(rig, endpoint):
    stream = await rig.stream(endpoint, *(f"p{n}" for n in range(20)))
    endpoint.usual = status(500)
    await rig.publish(*((f"p{n}", 1) for n in range(20)))
    await io()
    before = len(endpoint.requests)

    await rig.edge.test(stream)

    assert len(endpoint.requests) == before + 1


# Looking back


async def test_attempts_are_told_newest_first_in_pages(tmp_path, endpoint):
    async with webhook_rig(tmp_path, webhook_history=5) as rig:
        stream = await rig.stream(endpoint)
        endpoint.answers.extend([OK] * 6 + [status(500)])
        await rig.publish(*range(7))
        await eventually(lambda: len(endpoint.requests) == 7)
        await io()

        first = await rig.edge.history(stream, after=None, limit=3)
        second = await rig.edge.history(stream, after=first.next, limit=3)

        shown = [(each.event_id, each.status, each.http_status) for each in first.items]
        assert shown[0] == (f"{stream.id}-7", "failed", 500)
        assert [each.event_id[-2:] for each in first.items + second.items] == [
            "-7",
            "-6",
            "-5",
            "-4",
            "-3",
        ]
        assert second.next is None
        assert {each.point_id for each in first.items} == {"p"}


@pytest.mark.parametrize("mark", ["", "x", "-1", "1.5", "9" * 30, "١"])
async def test_a_mark_that_no_page_gave_is_refused(rig, endpoint, mark):
    stream = await rig.stream(endpoint)

    with pytest.raises(Invalid):
        await rig.edge.history(stream, after=mark, limit=1)
    with pytest.raises(Invalid):
        await rig.edge.dead_letters(stream, after=mark, limit=1)


async def test_a_stream_that_is_gone_is_not_found(rig, endpoint):
    stream = await rig.stream(endpoint)
    await rig.core.streams.delete(stream)

    for call in (
        rig.edge.test(stream),
        rig.edge.history(stream, after=None, limit=1),
        rig.edge.dead_letters(stream, after=None, limit=1),
        rig.edge.redrive(stream, None),
    ):
        with pytest.raises(NotFound):
            await call


# Dead letters once more


async def with_letters(rig, endpoint, count):
    """A stream with so many dead letters."""
    stream = await rig.stream(endpoint, *(f"p{n}" for n in range(count)))
    endpoint.answers.extend([status(422)] * count)
    for n in range(count):
        await rig.publish((f"p{n}", n))
        await eventually(lambda n=n: len(endpoint.requests) == n + 1)
        await eventually(lambda: rig.unsettled(stream) == 0)
        await rig.advance(20)
    await eventually(lambda: len(rig.core.settling.dead_letters(stream.subscription)) == count)
    endpoint.answers.clear()
    endpoint.requests.clear()
    return stream


async def test_dead_letters_are_told_oldest_first_in_pages(rig, endpoint):
    stream = await with_letters(rig, endpoint, 4)

    first = await rig.edge.dead_letters(stream, after=None, limit=3)
    second = await rig.edge.dead_letters(stream, after=first.next, limit=3)

    assert [each.id for each in first.items + second.items] == ["1", "2", "3", "4"]
    assert second.next is None
    assert {each.reason for each in first.items} == {"Rejected: HTTP 422"}


async def test_all_dead_letters_are_sent_once_more(rig, endpoint):
    stream = await with_letters(rig, endpoint, 3)

    count = await rig.edge.redrive(stream, None)
    await eventually(lambda: len(endpoint.requests) == 3)
    await io()

    assert count == 3
    assert sorted(endpoint.values) == ["0", "1", "2"]
    assert {each.headers["webhook-id"] for each in endpoint.requests} == {
        f"{stream.id}-{seq}" for seq in (1, 2, 3)
    }
    assert await rig.letters(stream) == []


async def test_only_the_named_ones_are_sent_and_unknown_ones_passed_over(rig, endpoint):
    stream = await with_letters(rig, endpoint, 3)

    count = await rig.edge.redrive(stream, ["2", "77", "x", "٣", "9" * 40])
    await eventually(lambda: len(endpoint.requests) == 1)
    await io()

    assert count == 1
    assert [each.id for each in await rig.letters(stream)] == ["1", "3"]


async def test_what_fails_again_stays_a_dead_letter(tmp_path, endpoint):
    async with webhook_rig(tmp_path, webhook_retry_seconds="5") as rig:
        stream = await with_letters(rig, endpoint, 1)
        endpoint.usual = status(500)

        await rig.edge.redrive(stream, None)
        await eventually(lambda: len(endpoint.requests) == 1)
        await io()
        assert await rig.edge.redrive(stream, None) == 0
        await rig.advance(5)
        await eventually(lambda: len(endpoint.requests) == 2)
        await io()

        assert len(await rig.letters(stream)) == 1
        assert await rig.edge.redrive(stream, None) == 1


async def test_redriving_enables_a_disabled_stream(rig, endpoint):
    stream = await rig.stream(endpoint)
    endpoint.answers.append(status(410))
    await rig.publish("1", "2")
    await eventually(lambda: len(rig.core.settling.dead_letters(stream.subscription)) == 2)

    await rig.edge.redrive(stream, None)
    await eventually(lambda: stream.status.value == "active")
    await eventually(lambda: endpoint.values == ["1", "1", "2"])


async def test_without_room_for_dead_letters_events_stay_where_they_are(tmp_path, endpoint):
    async with webhook_rig(tmp_path, dead_letters_max=2) as rig:
        stream = await rig.stream(endpoint)
        endpoint.answers.append(status(410))
        await rig.publish(*range(5))
        await eventually(lambda: len(rig.core.settling.dead_letters(stream.subscription)) == 2)
        await rig.advance(200)
        assert rig.unsettled(stream) == 3

        await rig.edge.redrive(stream, None)
        for _ in range(3):
            await rig.advance(61)
        await eventually(lambda: rig.unsettled(stream) == 0)

        assert len(await rig.letters(stream)) == 0
        assert endpoint.values[0] == "0"
        assert sorted(endpoint.values[1:]) == ["0", "1", "2", "3", "4"]


# Stops, restarts, crashes


async def test_a_stop_waits_for_what_is_under_way(rig, endpoint):
    stream = await rig.stream(endpoint)
    endpoint.answers.append(HANG)
    await rig.publish("1")
    await eventually(lambda: endpoint.requests)

    stopping = asyncio.ensure_future(rig.edge.stop(10))
    await io()
    assert not stopping.done()
    await rig.advance(10)
    await asyncio.wait_for(stopping, 5)

    assert rig.unsettled(stream) == 1


async def test_what_ends_within_the_stop_is_settled(rig, endpoint):
    stream = await rig.stream(endpoint)
    await rig.publish("1", "2")

    stopping = asyncio.ensure_future(rig.edge.stop(10))
    await asyncio.wait_for(stopping, 5)

    assert rig.unsettled(stream) in (1, 2)
    assert len(endpoint.requests) <= 1


async def test_a_restart_goes_on_with_the_schedule(tmp_path, endpoint):
    endpoint.usual = status(500)
    async with webhook_rig(tmp_path, webhook_retry_seconds="5,30,120") as rig:
        stream = await rig.stream(endpoint)
        await rig.publish("1")
        await io()
        await rig.advance(5)
        assert len(endpoint.requests) == 2
        kept = {"log": rig.core.log, "store": rig.core.store, "clock": rig.clock}
        await rig.advance(10)
        rig.core.log.close = nothing
        await rig.edge.stop(0)

    async with webhook_rig(tmp_path, webhook_retry_seconds="5,30,120", **kept) as rig:
        (stream,) = rig.core.streams.live()
        await io()
        await rig.advance(19)
        assert len(endpoint.requests) == 2
        await rig.advance(2)
        await eventually(lambda: len(endpoint.requests) == 3)
        await io()
        await rig.advance(120)
        await eventually(lambda: rig.unsettled(stream) == 0)

        (letter,) = await rig.letters(stream)
        assert letter.attempts == 4
        assert len(endpoint.requests) == 4


async def nothing():
    """A log that outlives its service."""


async def test_an_edge_that_starts_later_takes_on_the_streams_there_are(rig, endpoint):
    await rig.edge.stop(0)
    stream = await rig.stream(endpoint)
    await rig.publish("1")
    assert endpoint.requests == []

    second = make_edge(rig.core)
    second.start()
    await eventually(lambda: rig.unsettled(stream) == 0)

    assert endpoint.values == ["1"]
    await second.stop(0)
