"""Peers that misbehave over and over, many sessions and links, frames that Proton only goes deaf at."""

import asyncio

import pytest

from hotpath.amqp.fairness import Fairness
from hotpath.amqp.sockets import SMALL_READ_BYTES, ReadRoom, SocketSink
from hotpath.service.clock import SystemClock
from hotpath.wire.types import UInt
from tests.support.broker import running_broker
from tests.support.clock import settle
from tests.support.wire import (
    AMQP_HEADER,
    SASL_HEADER,
    MemoryPeer,
    MemorySink,
    frame,
    performative,
    plain,
    sasl_init,
)

BAD = "192.0.2.66"
OPENED = frame(performative(0x10, "x")) + frame(performative(0x11, None, UInt(0), UInt(9), UInt(9)))
#: Of these Proton tells no error.
DEAF = {
    "a close whose error is a number": frame(bytes.fromhex("005318832020202020202020")),
    "a body that is text": frame(b"\xa1\x03abc"),
    "a close with a cut value": frame(bytes.fromhex("005318618000")),
}


@pytest.mark.parametrize("data", DEAF.values(), ids=DEAF.keys())
async def test_a_frame_that_cannot_be_decoded_ends_its_connection(broker, data):
    peer = MemoryPeer(broker)
    await peer.login(sasl_init(b"ANONYMOUS"))
    peer.feed(AMQP_HEADER + OPENED)
    await settle()
    assert b"amqp:decode-error" not in peer.sink.sent

    peer.feed(data)
    await settle()
    assert b"amqp:decode-error" in peer.sink.sent
    await broker.clock.advance(6_000)

    assert peer.sink.closed


def misbehave(broker, address: str = BAD) -> bool:
    """Connect, say what is no AMQP, and go; whether there was a place."""
    sink = MemorySink()
    connection = broker.edge.websocket_connection(sink, address)
    if connection is None:
        return False
    connection.receive(b"GET / HTTP/1.1\r\n", 16)
    connection.lost()
    return True


async def test_an_address_that_misbehaves_over_and_over_is_barred_for_a_while(tmp_path, caplog):
    async with running_broker(tmp_path, strikes_max=3, bar_seconds=30) as broker:
        served = [misbehave(broker) for _ in range(6)]

        assert served == [True] * 4 + [False] * 2
        assert misbehave(broker, "192.0.2.1")
        assert "address barred" in caplog.text
        refused = broker.core.metrics.refused_connections.labels("barred")
        assert refused._value.get() == 2
        await broker.clock.advance(30_000)
        assert misbehave(broker)


async def test_barring_ends_no_connection_and_those_that_stay_buy_patience(tmp_path, feed_of):
    async with running_broker(tmp_path, strikes_max=3, strikes_seconds=10) as broker:
        subscription = await broker.subscribe()
        token = broker.sas(feed_of(subscription))
        sink = MemorySink()
        good = broker.edge.websocket_connection(sink, BAD)
        login = SASL_HEADER + plain("x", token)
        good.receive(login, len(login))
        await settle()
        await broker.clock.advance(9_000)
        good.receive(AMQP_HEADER + OPENED, len(AMQP_HEADER + OPENED))
        await broker.clock.advance(2_000)

        served = [misbehave(broker) for _ in range(9)]

        assert served == [True] * 7 + [False] * 2
        assert not sink.closed
        assert len(broker.edge) == 1


async def test_who_is_ended_by_its_token_or_by_the_service_gets_no_strike(tmp_path):
    async with running_broker(tmp_path, strikes_max=1, authenticate_seconds=5) as broker:
        for _ in range(3):
            peer = MemoryPeer(broker)
            await peer.login(sasl_init(b"ANONYMOUS"))
            peer.open()
            await peer.pump()
            await broker.clock.advance(5_000)
            await peer.pump()
            assert peer.error.name == "amqp:unauthorized-access"


async def test_sessions_of_all_connections_are_bounded(tmp_path):
    async with running_broker(tmp_path, max_sessions=20, strikes_max=0) as broker:
        token = broker.publisher_sas(await broker.open_publisher())
        greedy, modest = MemoryPeer(broker), MemoryPeer(broker)
        for peer in (greedy, modest):
            await peer.login(plain("any", token))
            peer.open()
            await peer.pump()
        for _ in range(25):
            greedy.connection.session().open()
        await greedy.pump()
        modest.connection.session().open()
        await modest.pump()

        assert greedy.error.name == "amqp:resource-limit-exceeded"
        assert "all connections" in greedy.error.description
        assert modest.error is None


async def test_links_of_all_connections_are_bounded_refused_ones_included(tmp_path):
    async with running_broker(tmp_path, max_links=20, strikes_max=0) as broker:
        token = broker.publisher_sas(await broker.open_publisher())
        greedy, modest = MemoryPeer(broker), MemoryPeer(broker)
        for peer in (greedy, modest):
            await peer.login(plain("any", token))
            peer.open()
            await peer.pump()
        for number in range(25):
            greedy.sender("variables", name=str(number))
        await greedy.pump()
        modest.sender("variables")
        await modest.pump()

        assert greedy.error.name == "amqp:resource-limit-exceeded"
        assert modest.error is None


class Socket:
    """A transport that is told to read or not."""

    def __init__(self) -> None:
        self.reading = True

    def set_write_buffer_limits(self, **_: int) -> None:
        pass

    def is_closing(self) -> bool:
        return False

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


class Listening:
    """A connection that keeps what it is given."""

    earned = 0

    def __init__(self, account) -> None:
        self.account = account
        self.heard = b""
        self.is_lost = False

    def receive(self, chunk, size: int) -> None:
        self.heard += bytes(chunk[:size])

    def lost(self) -> None:
        self.is_lost = True


@pytest.fixture
def busy():
    """An edge whose time for those that are not favoured is used up, and a socket on it."""
    callbacks: list = []
    fairness = Fairness(0.001, now=lambda: 0.0, later=callbacks.append)
    connection = Listening(fairness.account(BAD))
    left: list[bool] = []
    sink = SocketSink(
        room=ReadRoom(),
        fairness=fairness,
        output_bytes_max=16_384,
        adopt=lambda _: connection,
        left=lambda: left.append(True),
    )
    sink.connection_made(Socket())
    fairness._spent = 1.0
    return sink, connection, callbacks, left


def read(sink: SocketSink, data: bytes) -> None:
    view = sink.get_buffer(-1)
    view[: len(data)] = data
    sink.buffer_updated(len(data))


def test_what_waits_is_small_and_its_socket_is_not_read(busy):
    sink, connection, callbacks, _ = busy
    assert len(sink.get_buffer(-1)) == SMALL_READ_BYTES
    read(sink, b"first")
    assert connection.heard == b""
    assert not sink._transport.reading

    callbacks.pop()()
    assert connection.heard == b"first"

    callbacks[-1]()
    assert sink._transport.reading


def test_a_socket_that_is_not_read_for_what_its_peer_leaves_unread_stays_so(busy):
    sink, connection, callbacks, _ = busy
    read(sink, b"first")
    sink.pause_reading()
    for _ in range(2):
        callbacks[-1]()
    assert connection.heard == b"first"
    assert not sink._transport.reading
    sink.resume_reading()
    assert sink._transport.reading


def test_those_that_leave_by_the_thousand_leave_in_their_turn(busy):
    sink, connection, callbacks, left = busy
    read(sink, b"first")
    sink.connection_lost(None)
    assert not connection.is_lost
    assert not left

    callbacks.pop()()

    assert connection.is_lost
    assert left == [True]
    assert connection.heard == b""


def test_who_has_achieved_something_leaves_before_those_that_waited_and_who_comes_after_it(busy):
    sink, connection, callbacks, left = busy
    fairness, order = sink._fairness, []
    fairness.wait(fairness.account(BAD), lambda: order.append("crowd"))
    connection.earned = 1
    connection.lost = lambda: order.append("left")
    sink.connection_lost(None)
    assert not left
    came = fairness.account(BAD)
    came.note(1, 0.0)
    fairness.wait(came, lambda: order.append("came"))

    callbacks.pop()()

    assert order == ["left", "came", "crowd"]
    assert left == [True]


def test_of_those_that_wait_every_second_one_leaves_as_long_as_there_are_such(busy):
    fairness, order = busy[0]._fairness, []
    for number in range(3):
        fairness.wait(fairness.account(BAD), lambda number=number: order.append(f"stays {number}"))
    for number in range(5):
        go_on = lambda number=number: order.append(f"leaves {number}")  # noqa: E731
        fairness.leave(fairness.account(BAD), go_on, first=False)

    fairness.finish()

    assert order[0::2] == ["stays 0", "stays 1", "stays 2", "leaves 3"]
    assert order[1::2] == ["leaves 0", "leaves 1", "leaves 2", "leaves 4"]
    assert not len(fairness)


def test_who_comes_while_others_only_leave_is_read_in_the_time_that_there_is(busy):
    fairness = busy[0]._fairness
    fairness._spent = 0.0
    fairness.leave(fairness.account(BAD), lambda: None, first=False)
    assert fairness.may_go(fairness.account(BAD))


async def test_a_listener_accepts_so_many_a_second(tmp_path):
    bounds = {"accepts_per_second": 5}
    async with running_broker(tmp_path, clock=SystemClock(), **bounds) as broker:
        port = await broker.listen()
        loop = asyncio.get_running_loop()
        began = loop.time()
        for _ in range(7):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(SASL_HEADER)
            assert await reader.readexactly(8) == SASL_HEADER
            writer.transport.abort()
        assert loop.time() - began > 0.15
