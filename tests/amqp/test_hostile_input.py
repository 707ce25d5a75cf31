"""Whatever bytes come, one connection ends at most; nothing escapes, blocks or grows."""

import random
import resource
import struct
from itertools import count

import pytest
from proton import Message

from hotpath.wire.types import Symbol, UInt
from tests.support.clock import settle
from tests.support.wire import (
    AMQP_HEADER,
    SASL_HEADER,
    MemoryPeer,
    MemorySink,
    Peer,
    frame,
    performative,
    plain,
    sasl_init,
)


def opened(container: str = "x", *more: object) -> bytes:
    return frame(performative(0x10, container, "host", *more))


def begun() -> bytes:
    return frame(performative(0x11, None, UInt(0), UInt(2048), UInt(2048)))


def nested(depth: int, code: int) -> bytes:
    value = b"\x45"
    for _ in range(depth):
        value = bytes([code]) + struct.pack(">II", len(value) + 4, 1) + value
    return value


def raw_list(code: int, *items: bytes) -> bytes:
    body = b"".join(items)
    head = b"\xd0" + struct.pack(">II", len(body) + 4, len(items))
    return b"\x00\x53" + bytes([code]) + head + body


HOSTILE = {
    "a frame that is too large": struct.pack(">IBBH", 1 << 30, 2, 0, 0),
    "a frame shorter than its head": struct.pack(">IBBH", 4, 2, 0, 0),
    "an offset beyond the frame": struct.pack(">IBBH", 8, 9, 0, 0),
    "a frame of another type": frame(performative(0x10, "x"), kind=9),
    "attach before begin": opened() + frame(performative(0x12, "l", UInt(0), False)),
    "transfer before attach": opened() + begun() + frame(performative(0x14, UInt(7))),
    "a flow on no session": frame(performative(0x13, UInt(0)), channel=9),
    "disposition of everything": opened()
    + begun()
    + frame(performative(0x15, True, UInt(0), UInt(0xFFFFFFFF), True)),
    "an open twice": opened() + opened(),
    "a close first": frame(performative(0x18)),
    "an end first": frame(performative(0x17)),
    "a detach of nothing": opened() + begun() + frame(performative(0x16, UInt(5), True)),
    "open properties of another type": opened("x", *[None] * 7, "text"),
    "open properties nested deep": frame(
        raw_list(0x10, b"\xa1\x01x", *[b"\x40"] * 8, nested(5000, 0xD0))
    ),
    "attach source nested deep": opened()
    + begun()
    + frame(
        raw_list(
            0x12, b"\xa1\x01l", b"\x43", b"\x41", b"\x40", b"\x40",
            b"\x00\x53\x28" + nested(5000, 0xD0),
        )
    ),
    "a terminus of another kind": opened()
    + begun()
    + frame(performative(0x12, "l", UInt(0), True, None, None, "source", "target")),
    "a name with zeros": opened()
    + begun()
    + frame(performative(0x12, "a\0b", UInt(0), True, None, None)),
    "handles far apart": opened()
    + begun()
    + frame(performative(0x12, "l", UInt(0xFFFFFFFF), True)),
    "a described descriptor": frame(b"\x00" * 40_000),
    "an unknown performative": opened() + frame(performative(0x99, "x")),
    "an empty performative": opened() + frame(b"\x00\x53\x11\x45"),
    "a channel beyond the maximum": opened()
    + frame(performative(0x11, None, UInt(0), UInt(1), UInt(1)), channel=65_535),
    "symbols as text": frame(performative(0x10, Symbol("x"))),
}  # fmt: skip


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE.keys())
async def test_broken_frames_end_their_connection_and_nothing_else(
    broker, receiver_on, data, caplog
):
    subscription = await broker.subscribe()
    bystander, feed = await receiver_on(subscription)
    peer = MemoryPeer(broker)
    await peer.login(sasl_init(b"ANONYMOUS"))

    peer.feed(AMQP_HEADER + data)
    await settle()
    await broker.publish(1)
    await bystander.pump()

    assert len(bystander.messages(feed)) == 1
    assert "bug" not in caplog.text


_places = count()


async def _play(broker, data: bytes, generator: random.Random) -> None:
    sink = MemorySink()
    # From anywhere: one address would be barred.
    address = f"198.51.{next(_places) % 256}.7"
    connection = broker.edge.websocket_connection(sink, address)
    at = 0
    while at < len(data) and not sink.closed:
        step = generator.randint(1, 4000)
        chunk = data[at : at + step]
        connection.receive(chunk, len(chunk))
        at += step
        await settle(2)
    connection.lost()


async def session_bytes(broker, feed: str) -> bytes:
    """What a busy, well-behaved client sends."""
    peer = Peer()
    peer.open({"product": "azsdk-python-servicebus", "version": "7.12.3"})
    receiver = peer.receiver(feed, credit=50)
    cbs = peer.sender("$cbs")
    sender = peer.sender("variables")
    assert cbs.name != sender.name
    data = peer.output()
    message = Message(
        id="m", properties={"operation": "put-token", "name": "a"}, body=broker.sas(feed)
    ).encode()
    for number in range(5):
        for handle in (1, 2):
            fields = (UInt(handle), UInt(2 * number + handle - 1), b"%d" % number, UInt(0), False)
            data += frame(performative(0x14, *fields) + message)
    data += frame(performative(0x13, UInt(0), UInt(9), UInt(0), UInt(9), UInt(0), UInt(0), UInt(9)))
    data += frame(performative(0x15, True, UInt(0), UInt(5), True))
    receiver.drain(3)
    receiver.close()
    peer.connection.close()
    return SASL_HEADER + plain("x", broker.sas(feed)) + data + peer.output()


async def test_the_session_that_is_damaged_below_does_reach_everything(broker, feed_of):
    subscription = await broker.subscribe()
    await broker.publish(*range(20))

    await _play(broker, await session_bytes(broker, feed_of(subscription)), random.Random(3))

    assert subscription.delivered_total >= 3
    assert len(broker.edge) == 0


@pytest.mark.parametrize("seed", range(25))
async def test_damaged_sessions_end_quietly(broker, caplog, feed_of, seed):
    generator = random.Random(seed)
    print("seed", seed)
    subscription = await broker.subscribe()
    await broker.publish(*range(20))
    whole = bytearray(await session_bytes(broker, feed_of(subscription)))

    for _ in range(12):
        damaged = bytearray(whole)
        for _ in range(generator.randint(0, 6)):
            at = generator.randrange(8, len(damaged))
            match generator.randint(0, 2):
                case 0:
                    damaged[at] = generator.randrange(256)
                case 1:
                    del damaged[at : at + generator.randint(1, 20)]
                case _:
                    damaged[at:at] = generator.randbytes(generator.randint(1, 20))
        await _play(broker, bytes(damaged), generator)

    assert "bug" not in caplog.text
    assert len(broker.edge) == 0
    assert subscription.receivers == 0


async def test_noise_on_a_connection_is_answered_and_closed(broker):
    generator = random.Random(7)
    for _ in range(50):
        sink = MemorySink()
        connection = broker.edge.websocket_connection(sink, f"198.51.{next(_places) % 256}.7")
        noise = generator.randbytes(200)
        connection.receive(noise, len(noise))
        await settle(2)
        assert sink.closed
        connection.lost()


async def test_many_connections_leave_nothing_behind(broker, feed_of):
    """Memory of engines is given back: the process does not grow with connections."""

    subscription = await broker.subscribe()
    generator = random.Random(1)
    data = await session_bytes(broker, feed_of(subscription))

    async def some(count: int) -> int:
        for _ in range(count):
            await _play(broker, data, generator)
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    before = await some(100)
    after = await some(300)

    assert after - before < 6_000
    assert len(broker.edge) == 0


async def test_a_bug_in_the_service_ends_one_connection(
    broker, connect, receiver_on, monkeypatch, caplog
):
    subscription = await broker.subscribe()
    bystander, feed = await receiver_on(subscription)
    peer = await connect()

    def broken(*_, **__):
        raise RuntimeError("a bug")

    monkeypatch.setattr(peer.edge_connection.grants.__class__, "covering", broken)
    peer.receiver("variables/Subscriptions/x")
    await peer.pump()
    monkeypatch.undo()
    await broker.publish(1)
    await bystander.pump()

    assert peer.sink.aborted
    assert "connection ended by a bug" in caplog.text
    assert len(bystander.messages(feed)) == 1
