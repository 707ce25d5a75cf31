"""A message's way in: answered when durable, refused in words, waiting while the log is behind."""

import asyncio

import pytest

from hotpath.model.errors import LogFull, Unavailable
from hotpath.ports import LogFailure
from hotpath.service.publish import refusal
from tests.support.clock import settle
from tests.unit.service.rig import KEY, message


def counted(rig, name: str, *labels: str) -> float:
    return getattr(rig.core.metrics, name).labels(*labels)._value.get()


async def test_a_publisher_hears_when_its_messages_are_durable_and_not_before(rig):
    heard = []
    rig.log.pause()
    rig.core.publishing.submit(KEY, [message(1)], heard.append, via="amqp")
    await settle()
    assert heard == []
    rig.log.resume()
    await settle()
    assert heard == [None]
    assert counted(rig, "messages_published", "variables", "amqp") == 1


@pytest.mark.parametrize(
    ("failure", "error", "reason"),
    [
        (LogFailure("no space", full=True), LogFull, "full"),
        (LogFailure("broken"), Unavailable, "unavailable"),
    ],
    ids=["full", "broken"],
)
async def test_a_refusal_says_why_and_is_counted(rig, failure, error, reason):
    assert isinstance(refusal(failure), error)
    rig.log.fail_next(failure)
    with pytest.raises(error):
        await rig.publish(1, 2)
    assert counted(rig, "messages_refused", "test", reason) == 2


async def test_publishers_wait_while_the_log_has_all_it_can_take(start):
    rig = await start(pending_bytes_max=1_048_576)
    rig.log.pause()
    publishing = rig.core.publishing
    publishing.submit(KEY, [b"a"], lambda _: None, via="test")
    await settle()
    assert not publishing.congested
    publishing.submit(KEY, [bytes(1_048_576)], lambda _: None, via="test")
    assert publishing.congested
    late = asyncio.ensure_future(publishing.publish(KEY, [b"z"], via="test"))
    await settle()
    assert not late.done()
    rig.log.resume()
    await late
    batches = await rig.log.read(KEY, 1, bytes_max=1 << 30)
    assert [batch.payloads[-1][:1] for batch in batches] == [b"a", b"\x00", b"z"]


async def test_a_publisher_that_gave_up_waiting_disturbs_nobody(start):
    rig = await start(pending_bytes_max=1_048_576)
    rig.log.pause()
    rig.core.publishing.submit(KEY, [b"a"], lambda _: None, via="test")
    await settle()
    waiting = asyncio.ensure_future(rig.core.publishing.publish(KEY, [b"b"], via="test"))
    rig.core.publishing.submit(KEY, [bytes(1_048_576)], lambda _: None, via="test")
    congested = asyncio.ensure_future(rig.core.publishing.publish(KEY, [b"c"], via="test"))
    await settle()
    waiting.cancel()
    congested.cancel()
    rig.log.resume()
    await settle()
    await rig.publish(1)
    batches = await rig.log.read(KEY, 1, bytes_max=1 << 30)
    assert b"c" not in [payload for batch in batches for payload in batch.payloads]


async def test_after_the_stop_publishers_are_told_to_try_again(start):
    rig = await start()
    await rig.core.close()
    with pytest.raises(Unavailable):
        await rig.publish(1)
