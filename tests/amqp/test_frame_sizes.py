"""No frame is larger than the peer takes, also where its fields are filled up for it."""

import pytest
from proton import Message

from hotpath.amqp.frames import FirstFrame, read_open
from hotpath.model.names import TenantId, Topic, TopicKey
from hotpath.wire.message import normalise
from hotpath.wire.types import Symbol
from tests.support.clock import settle
from tests.support.wire import (
    AMQP_HEADER,
    MemoryPeer,
    performative,
    plain,
    read_performative,
    sasl_init,
    split_frames,
)

OLD_PYTHON = {"product": "azsdk-python-servicebus", "version": "7.12.3"}
KEY = TopicKey(TenantId("acme"), Topic.VARIABLES)
MIB = 1_048_576


@pytest.fixture
def reader_with(broker, feed_of):
    """A peer with a frame size of its own, which receives a subscription's feed."""

    async def reading(subscription, *, max_frame: int, properties: dict | None, credit: int = 200):
        peer = MemoryPeer(broker, max_frame=max_frame)
        await peer.login(plain("any", broker.sas(feed_of(subscription))))
        peer.open(properties)
        link = peer.receiver(feed_of(subscription), credit=credit)
        await peer.pump()
        return peer, link

    return reading


async def publish_texts(broker, *sizes: int) -> None:
    stored = [
        normalise(Message(body="x" * size, properties={"value": size}).encode()) for size in sizes
    ]
    await broker.core.publishing.publish(KEY, stored, via="test")


@pytest.mark.parametrize(
    ("properties", "max_frame"),
    [(None, size) for size in (512, 513, 519, 1024, 65_536)]
    + [(OLD_PYTHON, size) for size in (519, 520, 527, 1024, 65_536)],
    ids=lambda value: str(value) if isinstance(value, int) else "old" if value else "any",
)
async def test_messages_of_every_size_fit_into_the_peers_frames(
    broker, reader_with, max_frame, properties
):
    subscription = await broker.subscribe()
    peer, link = await reader_with(subscription, max_frame=max_frame, properties=properties)
    # Around the ends of one and of two frames, so that the last one is full as well.
    sizes = [frames * max_frame + more for frames in (1, 2) for more in range(-190, -90, 2)]

    await publish_texts(broker, *sizes)
    await peer.pump()

    assert [len(message.body) for message in peer.messages(link)] == sizes
    lengths = {len(raw) for raw in split_frames(peer.sink.sent)}
    assert max(lengths) <= max_frame
    if properties is None:
        assert max_frame in lengths, "no frame was full"


@pytest.mark.parametrize("max_frame", [512, 518])
async def test_frames_without_room_for_all_fields_are_refused(broker, reader_with, max_frame):
    subscription = await broker.subscribe()
    peer, _ = await reader_with(subscription, max_frame=max_frame, properties=OLD_PYTHON)

    assert peer.error.name == "amqp:not-allowed"
    assert "519" in peer.error.description
    assert max(len(raw) for raw in split_frames(peer.sink.sent)) <= max_frame


@pytest.mark.parametrize("properties", [None, OLD_PYTHON], ids=["any client", "old python"])
async def test_a_message_of_exactly_a_mebibyte_comes_and_goes(
    broker, connect, reader_with, properties
):
    subscription = await broker.subscribe()
    sending = await connect(broker.publisher_sas(await broker.open_publisher()))
    out = sending.sender("variables")
    peer, link = await reader_with(subscription, max_frame=MIB, properties=properties)
    empty = len(Message(body=b"", inferred=True, properties={"value": 1}).encode())
    # The section of a long binary has a size of four bytes, not of one.
    body = b"x" * (MIB - empty - 3)
    message = Message(body=body, inferred=True, properties={"value": 1})
    assert len(message.encode()) == MIB

    sending.send(out, message)
    await sending.pump(100)
    await peer.pump(100)

    [found] = peer.messages(link)
    assert bytes(found.body) == body
    assert max(len(raw) for raw in split_frames(peer.sink.sent)) <= MIB


async def test_a_byte_more_than_a_mebibyte_detaches_the_publisher(broker, connect):
    sending = await connect(broker.publisher_sas(await broker.open_publisher()))
    out = sending.sender("variables")
    empty = len(Message(body=b"", inferred=True).encode())

    sending.send(out, Message(body=b"x" * (MIB - empty - 2), inferred=True))
    await sending.pump(100)

    assert sending.detached[out.name].name == "amqp:link:message-size-exceeded"


async def test_transfers_of_an_old_python_client_have_all_fields_in_every_frame(
    broker, reader_with
):
    subscription = await broker.subscribe()
    peer, _ = await reader_with(subscription, max_frame=600, properties=OLD_PYTHON)
    await publish_texts(broker, 2_000)
    await peer.pump()

    sent = [read_performative(raw) for raw in split_frames(peer.sink.sent)]
    transfers = [value for value in sent if value is not None and value.descriptor == 0x14]
    assert len(transfers) > 3
    assert {len(value.value) for value in transfers} == {11}


# What the first frame is waited for


class Beginning:
    """The bytes with which a client begins."""

    def __init__(self, **properties: object) -> None:
        given = {Symbol(key): value for key, value in properties.items()}
        body = performative(0x10, "me", "host", None, None, None, None, None, None, None, given)
        size = len(body) + 8
        self.frame = size.to_bytes(4, "big") + b"\x02\x00\x00\x00" + body
        self.stream = AMQP_HEADER + self.frame


@pytest.mark.parametrize("header", [AMQP_HEADER, b""], ids=["with header", "without"])
def test_nothing_is_passed_on_before_the_first_frame_is_complete(header):
    frame = Beginning(product="x").frame
    stream = header + frame + b"more"
    seen: list[bytes] = []
    first = FirstFrame(lambda raw: seen.append(raw) or b"changed", bytes_max=10_000)

    got = [first(stream[at : at + 1]) for at in range(len(header + frame))]

    assert b"".join(got[:-1]) == header
    assert got[-1] == b"changed"
    assert seen == [frame]
    assert first.done


async def test_a_peer_that_waits_for_the_header_gets_it(broker):
    peer = MemoryPeer(broker)
    await peer.login(sasl_init(b"ANONYMOUS"))

    peer.feed(AMQP_HEADER)
    await settle()

    assert peer.sink.data == AMQP_HEADER


@pytest.mark.parametrize("size", [0, 7, 10_001, 2**32 - 1])
def test_a_frame_of_no_sensible_size_is_not_waited_for(size):
    first = FirstFrame(lambda _: b"changed", bytes_max=10_000)
    stream = AMQP_HEADER + size.to_bytes(4, "big") + b"\x02\x00\x00\x00"

    assert first(stream) == stream


@pytest.mark.parametrize(
    "raw",
    [
        b"\x00\x00\x00\x08\x02\x00\x00\x00",
        b"\x00\x00\x00\x09\x02\x00\x00\x00\xff",
        b"\x00\x00\x00\x0c\x02\x00\x00\x00\x00\x53\x11\x45",
        b"\x00\x00\x00\x08\xff\x00\x00\x00",
    ],
    ids=["empty", "noise", "begin", "offset"],
)
def test_what_is_no_open_has_no_fields(raw):
    assert read_open(raw) == []
