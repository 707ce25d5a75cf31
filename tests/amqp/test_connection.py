"""A connection's life: SASL, open, time-outs both ways, bounds, ends."""

import asyncio
import struct

import pytest
from proton import Message

from hotpath.amqp.bounds import RETRY_MS, SHARE_BYTES
from hotpath.wire.types import Described, UInt, ULong, UShort
from tests.fuzz.oracle import come_to_rest
from tests.support.broker import running_broker
from tests.support.clock import settle
from tests.support.wire import (
    AMQP_HEADER,
    EMPTY_FRAME,
    SASL_HEADER,
    MemoryPeer,
    MemorySink,
    frame,
    performative,
    plain,
    read_performative,
    sasl_init,
    split_frames,
)


def sent(peer, code: int) -> list:
    """Performatives of one kind that the edge has sent."""
    values = (read_performative(raw) for raw in split_frames(peer.sink.sent))
    return [value for value in values if value is not None and value.descriptor == code]


async def test_the_open_tells_container_frame_size_channels_and_idle_time(broker, connect):
    peer = await connect()

    [opened] = sent(peer, 0x10)
    container, _, frame_bytes, channel_max, idle_ms = opened.value[:5]
    assert container == "hotpath"
    assert frame_bytes == broker.settings.amqp_frame_bytes
    assert channel_max == broker.settings.max_sessions_per_connection - 1
    assert idle_ms == 120_000
    assert peer.connection.remote_properties["product"] == "hotpath"


async def test_a_client_may_send_everything_without_waiting(broker, feed_of):
    subscription = await broker.subscribe()
    peer = MemoryPeer(broker)
    peer.open()
    link = peer.receiver(feed_of(subscription), credit=1)
    pipelined = SASL_HEADER + plain("x", broker.sas(feed_of(subscription))) + peer.output()

    peer.feed(pipelined)
    await broker.publish(1)
    await settle()
    assert peer.sink.data.startswith(SASL_HEADER)
    peer.sink.data = peer.sink.data[peer.sink.data.index(AMQP_HEADER) :]
    await peer.pump()

    assert len(peer.messages(link)) == 1


async def test_byte_by_byte_input_is_understood(broker, feed_of):
    subscription = await broker.subscribe()
    peer = MemoryPeer(broker)
    for byte in SASL_HEADER + sasl_init(b"MSSBCBS"):
        peer.feed(bytes([byte]))
    peer.sink.data = b""
    peer.open()
    for byte in peer.output():
        peer.feed(bytes([byte]))
    await peer.pump()

    reply = await peer.put_token(broker.sas(feed_of(subscription)))
    assert reply.properties["status-code"] == 200


async def test_without_sasl_a_connection_is_anonymous(broker, feed_of):
    subscription = await broker.subscribe()
    peer = MemoryPeer(broker)
    peer.open()
    link = peer.receiver(feed_of(subscription))
    await peer.pump()
    assert peer.detached[link.name].name == "amqp:unauthorized-access"

    await peer.put_token(broker.sas(feed_of(subscription)))
    again = peer.receiver(feed_of(subscription), credit=1, name="again")
    await broker.publish(1)
    await peer.pump()
    assert len(peer.messages(again)) == 1


async def test_a_wrong_password_gets_outcome_one_and_the_end(broker):
    peer = MemoryPeer(broker)
    await peer.login(plain("hotpath", "not the secret"))

    outcome = split_frames(peer.preface)[-1]
    assert read_performative(outcome).descriptor == 0x44
    assert read_performative(outcome).value[0] == 1
    assert peer.sink.closed


@pytest.mark.parametrize(
    "token_of",
    [
        lambda broker: broker.sas("variables", seconds=-10),
        lambda broker: broker.sas("variables").replace("sig=", "sig=A"),
        lambda broker: broker.jwt(minutes=-10),
    ],
    ids=["expired", "tampered", "expired jwt"],
)
async def test_bad_tokens_as_password_are_refused(broker, token_of):
    peer = MemoryPeer(broker)
    await peer.login(plain("any", token_of(broker)))

    assert peer.sink.closed


async def test_a_jwt_as_password_gives_what_its_claims_allow(broker, feed_of):
    subscription = await broker.subscribe()
    peer = MemoryPeer(broker)
    await peer.login(plain("any", broker.jwt()))
    peer.open()
    link = peer.receiver(feed_of(subscription), credit=1)
    await broker.publish(1)
    await peer.pump()

    assert len(peer.messages(link)) == 1


# Time


async def test_a_silent_peer_is_closed_after_its_idle_time(broker, connect):
    peer = await connect(broker.sas("variables/Subscriptions/x"))

    await broker.manual.advance(235_000)
    assert not peer.sink.closed

    for _ in range(3):
        await broker.manual.advance(240_000)
    await peer.pump()
    assert peer.sink.closed
    [close] = sent(peer, 0x18)
    error = close.value[0].value
    assert error[0] == "amqp:resource-limit-exceeded"
    assert error[1]
    assert error[2] is not None
    assert len(broker.edge) == 0


async def test_empty_frames_keep_a_connection(broker, connect):
    peer = await connect(broker.sas("variables/Subscriptions/x"))

    for _ in range(30):
        await broker.manual.advance(60_000)
        peer.feed(EMPTY_FRAME)
        await settle()

    assert not peer.sink.closed


async def test_a_peer_that_announces_an_idle_time_gets_empty_frames_in_time(broker, connect):
    peer = await connect(broker.sas("variables/Subscriptions/x"), idle_ms=120_000)
    [announced] = [60_000]
    peer.sink.data = peer.sink.sent = b""
    last, worst = 0, 0

    for second in range(1, 201):
        await broker.manual.advance(1_000)
        peer.feed(EMPTY_FRAME)
        if peer.sink.data:
            assert peer.sink.data == EMPTY_FRAME
            worst, last = max(worst, second - last), second
            peer.sink.data = b""

    assert 0 < worst <= announced // 2 // 1000


async def test_traffic_delays_keep_alives_and_a_pause_after_it_brings_one(
    broker, receiver_on, connect, feed_of
):
    subscription = await broker.subscribe()
    peer = await connect(broker.sas(feed_of(subscription)), idle_ms=20_000)
    peer.receiver(feed_of(subscription), credit=100)
    await peer.pump()

    for value in range(10):
        await broker.manual.advance(3_000)
        await broker.publish(value)
        await peer.pump()
        peer.feed(EMPTY_FRAME)
    peer.sink.sent = b""
    await broker.manual.advance(5_100)

    assert peer.sink.sent == EMPTY_FRAME


async def test_a_peer_that_is_slow_to_open_is_dropped(broker):
    silent, slow = MemoryPeer(broker), MemoryPeer(broker)
    slow.feed(SASL_HEADER[:5])

    await broker.manual.advance(9_900)
    assert not silent.sink.closed
    assert not slow.sink.closed

    await broker.manual.advance(200)
    assert silent.sink.aborted
    assert slow.sink.aborted


async def test_a_connection_without_a_right_is_closed_after_a_while(broker, connect):
    peer = await connect()

    await broker.manual.advance(59_000)
    await peer.pump()
    assert not peer.closed

    await broker.manual.advance(1_500)
    await peer.pump()
    assert peer.closed
    assert peer.error.name == "amqp:unauthorized-access"
    assert peer.error.info is not None


async def test_a_connection_whose_tokens_have_all_ended_stays_for_a_while(broker, connect):
    peer = await connect(broker.sas("variables/Subscriptions/x", seconds=30))

    await broker.manual.advance(31_000)
    await broker.manual.advance(58_000)
    await peer.pump()
    assert not peer.closed
    reply = await peer.put_token(broker.sas("variables/Subscriptions/x", seconds=30))
    assert reply.properties["status-code"] == 200

    await broker.manual.advance(31_000)
    await broker.manual.advance(61_000)
    await peer.pump()
    assert peer.closed


async def test_a_peer_that_does_not_answer_a_close_is_dropped(broker, connect):
    peer = await connect()
    await broker.manual.advance(61_000)
    assert not peer.sink.aborted

    await broker.manual.advance(5_100)
    assert peer.sink.aborted


# Ends


async def test_a_close_is_answered(broker, connect):
    peer = await connect()
    peer.connection.close()
    await peer.pump()

    assert peer.closed
    assert peer.sink.closed
    assert not peer.sink.aborted
    assert len(broker.edge) == 0


async def test_at_shutdown_every_connection_is_told(broker, connect, receiver_on):

    subscription = await broker.subscribe()
    receiving, _ = await receiver_on(subscription)
    peers = [receiving, await connect(), await connect()]
    stopping = asyncio.ensure_future(broker.edge.stop(5))
    await settle()
    for peer in peers:
        await peer.pump()
    await stopping

    for peer in peers:
        assert peer.closed
        assert peer.error.name == "amqp:connection:forced"
        assert peer.error.description
        assert peer.error.info is not None
        assert not peer.sink.aborted
    assert subscription.receivers == 0


async def test_at_shutdown_what_was_sent_is_answered_first(broker, publisher_to):

    peer, link = await publisher_to()
    broker.log.pause()
    delivery = peer.send(link, Message(body="x", properties={"value": 1}))
    await peer.pump()
    stopping = asyncio.ensure_future(broker.edge.stop(5))
    await settle()
    assert not peer.closed

    broker.log.resume()
    await peer.pump()
    await stopping
    assert delivery.remote_state == delivery.ACCEPTED
    assert peer.error.name == "amqp:connection:forced"


async def test_a_peer_that_ignores_the_shutdown_is_dropped_at_its_end(broker, connect):

    peer = await connect()
    stopping = asyncio.ensure_future(broker.edge.stop(5))
    await settle()
    assert not stopping.done()

    await broker.manual.advance(5_100)
    await stopping
    assert peer.sink.aborted


async def test_a_detach_that_does_not_close_is_answered_likewise(broker, receiver_on):
    subscription = await broker.subscribe()
    peer, link = await receiver_on(subscription)

    link.detach()
    await peer.pump()

    [detach] = sent(peer, 0x16)
    assert len(detach.value) == 1 or not detach.value[1]
    assert subscription.receivers == 0


async def test_a_link_may_be_attached_again_under_its_name_at_once(broker, feed_of):
    """Detach and attach in one read; Proton's client would send them in the other order."""
    subscription = await broker.subscribe()
    peer = MemoryPeer(broker)
    await peer.login(plain("x", broker.sas(feed_of(subscription))))
    source = Described(ULong(0x28), [feed_of(subscription)])
    attach = frame(performative(0x12, "l", UInt(0), True, None, None, source))
    detach = frame(performative(0x16, UInt(0), True))
    begin = frame(performative(0x11, None, UInt(0), UInt(2048), UInt(2048)))

    peer.feed(AMQP_HEADER + frame(performative(0x10, "c")) + begin + attach)
    await settle()
    peer.feed(detach + attach + detach + attach)
    await settle()

    assert len(sent(peer, 0x12)) == 3
    assert len(sent(peer, 0x16)) == 2
    assert subscription.receivers == 1
    assert peer.edge_connection.engine.link_count == 1


# Bounds


async def test_a_connection_has_so_many_links(tmp_path):
    async with running_broker(tmp_path, max_links_per_connection=3) as broker:
        peer = MemoryPeer(broker)
        await peer.login(sasl_init(b"ANONYMOUS"))
        peer.open()
        links = [peer.receiver("$cbs", name=str(number)) for number in range(5)]
        await peer.pump()

        assert sorted(peer.detached) == ["3", "4"]
        assert peer.detached[links[4].name].name == "amqp:resource-limit-exceeded"


async def test_links_that_a_peer_leaves_half_open_close_its_connection(tmp_path):
    async with running_broker(tmp_path, max_links_per_connection=1) as broker:
        peer = MemoryPeer(broker)
        await peer.login(sasl_init(b"ANONYMOUS"))
        peer.open()
        for number in range(1100):
            peer.receiver("nothing", name=str(number))
        peer.feed(peer.output())
        await settle()
        await peer.pump()

        assert peer.closed
        assert peer.error.name == "amqp:resource-limit-exceeded"


async def test_sessions_beyond_the_channel_max_are_refused(tmp_path):
    async with running_broker(tmp_path, max_sessions_per_connection=2) as broker:
        peer = MemoryPeer(broker)
        await peer.login(sasl_init(b"ANONYMOUS"))
        peer.open()
        await peer.pump()
        for channel in range(1, 4):
            peer.feed(frame(performative(0x11, None, 0, 100, 100), channel=channel))
        await peer.pump()

        assert peer.sink.closed or peer.closed


async def test_connections_are_bounded_in_all_by_address_and_without_a_right(tmp_path):
    bounds = {
        "max_connections": 6,
        "max_connections_per_address": 4,
        "max_connections_unauthenticated": 3,
    }
    async with running_broker(tmp_path, **bounds) as broker:

        def enter(address: str):
            return broker.edge.websocket_connection(MemorySink(), address)

        first = [enter("a"), enter("a"), enter("b")]
        assert None not in first
        for connection in first:
            await _authorize(broker, connection)
        second = [enter("a"), enter("a")]
        assert None not in second
        assert enter("a") is None
        assert enter("c") is not None
        for connection in second:
            await _authorize(broker, connection)
        assert enter("d") is None

        first[0].lost()
        assert enter("d") is not None
        assert broker.edge.admission.total == 6


async def test_who_is_unknown_for_longest_makes_room_for_the_next(tmp_path):
    """So nobody is kept out by connections that never show a token."""
    async with running_broker(tmp_path, max_connections_unauthenticated=2) as broker:
        sinks = [MemorySink() for _ in range(4)]
        enter = broker.edge.websocket_connection
        known = enter(sinks[0], "a")
        await _authorize(broker, known)
        for sink in sinks[1:]:
            assert enter(sink, "b") is not None

        assert [sink.aborted for sink in sinks] == [False, True, False, False]
        assert broker.edge.admission.without_right == 2
        assert broker.edge.admission.total == 3
        refused = broker.core.metrics.refused_connections.labels("unauthenticated")
        assert refused._value.get() == 1


async def test_an_address_with_many_unknown_makes_room_before_one_with_few(tmp_path):
    async with running_broker(tmp_path, max_connections_unauthenticated=3) as broker:
        sinks = [MemorySink() for _ in range(5)]
        for sink, address in zip(sinks, "abbcd", strict=True):
            broker.edge.websocket_connection(sink, address)

        assert [sink.aborted for sink in sinks] == [True, True, False, False, False]


async def test_one_address_does_not_take_all_places_for_the_unknown(tmp_path):
    async with running_broker(tmp_path, max_connections_unauthenticated_per_address=2) as broker:

        def enter(address: str):
            return broker.edge.websocket_connection(MemorySink(), address)

        first, second = enter("a"), enter("a")
        assert enter("a") is None
        assert enter("b") is not None
        await _authorize(broker, first)
        assert enter("a") is not None
        assert enter("a") is None
        second.lost()
        assert enter("a") is not None


async def test_without_a_right_a_connection_sends_so_many_bytes(tmp_path):
    async with running_broker(tmp_path, unauthenticated_bytes_max=1_024) as broker:
        peer = MemoryPeer(broker)
        await peer.login(sasl_init(b"ANONYMOUS"))
        peer.open()
        link = peer.sender("$cbs")
        await peer.pump()
        peer.send(link, Message(body="x" * 1_024))
        await peer.pump()

        assert peer.error.name == "amqp:resource-limit-exceeded"
        assert "1024 bytes" in peer.error.description


async def test_before_sasl_is_done_too_many_bytes_close_the_connection(tmp_path):
    async with running_broker(tmp_path, unauthenticated_bytes_max=1_024) as broker:
        sink = MemorySink()
        connection = broker.edge.websocket_connection(sink, "a")
        data = SASL_HEADER + struct.pack(">IBBH", 30_000, 2, 1, 0) + bytes(1_100)

        connection.receive(data, len(data))

        assert sink.closed


async def test_with_a_right_a_connection_sends_what_it_likes(tmp_path):
    async with running_broker(tmp_path, unauthenticated_bytes_max=1_024) as broker:
        peer = MemoryPeer(broker)
        token = broker.publisher_sas(await broker.open_publisher())
        await peer.login(plain("any", token))
        peer.open()
        link = peer.sender("variables")
        await peer.pump()
        for value in range(40):
            peer.send(link, Message(body=b"x" * 200, properties={"value": value}))
        await peer.pump()

        assert peer.error is None
        assert len(peer.updates) == 40


async def test_without_a_right_a_connection_has_so_many_sessions(tmp_path):
    async with running_broker(tmp_path, unauthenticated_sessions_max=3) as broker:
        peer = MemoryPeer(broker)
        await peer.login(sasl_init(b"ANONYMOUS"))
        peer.open()
        for _ in range(2):
            peer.connection.session().open()
        await peer.pump()
        assert peer.error is None

        peer.connection.session().open()
        await peer.pump()

        assert peer.error.name == "amqp:resource-limit-exceeded"
        assert "3 sessions" in peer.error.description


async def test_so_many_refused_links_in_a_row_close_the_connection(tmp_path):
    async with running_broker(tmp_path, refused_links_max=3) as broker:
        peer = MemoryPeer(broker)
        token = broker.publisher_sas(await broker.open_publisher())
        await peer.login(plain("any", token))
        peer.open()
        for number in range(3):
            peer.receiver("variables/Subscriptions/x", name=f"a{number}")
        await peer.pump()
        peer.sender("variables")
        for number in range(3):
            peer.receiver("variables/Subscriptions/x", name=f"b{number}")
        await peer.pump()
        assert peer.error is None

        peer.receiver("variables/Subscriptions/x", name="c")
        await peer.pump()

        assert peer.error.name == "amqp:resource-limit-exceeded"
        assert "3 links in a row" in peer.error.description


async def test_peers_that_do_not_read_share_a_bound(tmp_path):
    """Beyond it each has a little, and who reads goes on."""
    bounds = {"output_bytes_max": 1_048_576, "output_total_bytes_max": 1_048_576}
    async with running_broker(tmp_path, **bounds) as broker:
        subscriptions = [await broker.subscribe("value != ''") for _ in range(4)]
        peers = []
        for subscription in subscriptions:
            address = f"variables/Subscriptions/{subscription.spec.id}"
            peer = MemoryPeer(broker)
            await peer.login(plain("any", broker.sas(address)))
            peer.open()
            peers.append((peer, peer.receiver(address, credit=1_000)))
            await peer.pump()
        reading, link = peers.pop()
        for peer, _ in peers:
            peer.sink.stuck = True

        for _ in range(30):
            await broker.publish(*["x" * 10_000] * 10)
            await reading.pump()
        for _ in range(100):
            await broker.clock.advance(RETRY_MS)
            await reading.pump()

        total = broker.edge._context.outgoing.total
        assert 1_048_576 <= total < 2 * 1_048_576 + len(peers) * SHARE_BYTES
        assert len(reading.messages(link)) == 300
        for peer, _ in peers:
            peer.cut()
        assert broker.edge._context.outgoing.total == 0


async def _authorize(broker, connection) -> None:
    data = SASL_HEADER + plain("x", broker.sas("variables/Subscriptions/x"))
    authorized = asyncio.Event()
    tell = connection.on_authorized

    def on_authorized() -> None:
        tell()
        authorized.set()

    connection.on_authorized = on_authorized
    connection.receive(data, len(data))
    # After its turn: several at once share what there is of time for those who are not known yet.
    await authorized.wait()


async def test_a_peer_that_reads_nothing_costs_a_bound(tmp_path):
    async with running_broker(tmp_path, output_bytes_max=16_384) as broker:
        subscription = await broker.subscribe()
        path = f"variables/Subscriptions/{subscription.spec.id}"
        stuck, lively = MemoryPeer(broker), MemoryPeer(broker)
        links = []
        for peer in (stuck, lively):
            await peer.login(plain("x", broker.sas(path)))
            peer.open()
            other = await broker.subscribe()
            other_path = f"variables/Subscriptions/{other.spec.id}"
            await peer.put_token(broker.sas(other_path))
            links.append(peer.receiver(other_path, credit=5000))
            await peer.pump()
        stuck.sink.stuck = True

        for start in range(0, 2000, 100):
            await broker.publish(*range(start, start + 100))
            await lively.pump()

        assert len(lively.messages(links[1])) == 2000
        assert len(stuck.sink.data) < 2 * 16_384

        stuck.sink.stuck = False
        for _ in range(100):
            await stuck.pump()
            stuck.edge_connection.writable()
        assert len(stuck.messages(links[0])) == 2000


async def test_a_peer_that_asks_and_never_reads_is_not_read_any_more(tmp_path):
    async with running_broker(
        tmp_path, output_bytes_max=16_384, refused_links_max=10_000
    ) as broker:
        peer = MemoryPeer(broker)
        await peer.login(sasl_init(b"ANONYMOUS"))
        peer.open()
        await peer.pump()
        peer.sink.stuck = True
        number = 0
        while not peer.sink.paused and number < 5_000:
            link = peer.receiver("nothing", name=str(number))
            peer.feed(peer.output())
            link.close()
            peer.feed(peer.output())
            await settle(2)
            number += 1

        assert peer.sink.paused
        assert len(peer.sink.data) < 3 * 16_384

        peer.sink.stuck = False
        peer.sink.data = b""
        peer.edge_connection.writable()
        assert not peer.sink.paused


async def test_incomplete_deliveries_of_a_connection_are_bounded(tmp_path):
    async with running_broker(tmp_path, max_message_bytes=10_000) as broker:
        peer = MemoryPeer(broker)
        await peer.login(plain("x", broker.publisher_sas(await broker.open_publisher())))
        peer.open()
        await peer.pump()
        for number in range(40):
            link = peer.sender("variables", name=str(number))
            await peer.pump()
            link.delivery(b"part")
            link.send(b"x" * 9_000)
            await peer.pump()

        assert peer.closed
        assert peer.error.name == "amqp:resource-limit-exceeded"


async def test_one_write_a_turn_carries_everything(broker, receiver_on):
    subscription = await broker.subscribe()
    peer, link = await receiver_on(subscription, credit=200)
    before = peer.sink.writes

    await broker.publish(*range(100))
    await peer.pump()

    assert len(peer.messages(link)) == 100
    assert peer.sink.writes - before <= 2


async def test_azure_python_before_7_15_is_sent_every_field(broker, feed_of):
    subscription = await broker.subscribe()
    peer = MemoryPeer(broker)
    await peer.login(plain("x", broker.sas(feed_of(subscription))))
    peer.open({"product": "azsdk-python-servicebus", "version": "7.14.3"})
    link = peer.receiver(feed_of(subscription), credit=3)
    await broker.publish(1)
    await peer.pump()
    peer.connection.close()
    await peer.pump()

    lengths = {
        value.descriptor: len(value.value)
        for raw in split_frames(peer.sink.sent[peer.sink.sent.index(AMQP_HEADER) :])
        if (value := read_performative(raw)) is not None
    }
    assert lengths[0x10] == 10
    assert lengths[0x11] == 8
    assert lengths[0x12] == 14
    assert lengths[0x14] == 11
    assert lengths[0x18] == 1
    assert len(peer.messages(link)) == 1


async def test_a_service_that_stops_does_not_ask_again_and_again_who_has_something_to_send(
    broker, receiver_on
):
    subscription = await broker.subscribe()
    peer, _ = await receiver_on(subscription)

    peer.edge_connection.stopping = True
    await broker.publish(1)

    assert await come_to_rest() < 100


@pytest.mark.parametrize("idle_ms", [1, 99])
async def test_an_idle_time_out_that_cannot_be_kept_is_refused(broker, idle_ms):
    peer = MemoryPeer(broker)
    await peer.login(sasl_init(b"ANONYMOUS"))

    peer.feed(AMQP_HEADER + frame(performative(0x10, "c", "h", None, None, UInt(idle_ms))))

    assert await come_to_rest() < 100
    frames = b"".join(split_frames(peer.sink.sent)[1:])
    assert b"amqp:not-allowed" in frames
    assert frames.count(b"cannot be kept") == 1


async def test_a_sender_to_cbs_whose_count_runs_ahead_is_detached(broker, connect):
    peer = await connect()
    link = peer.sender("$cbs")
    await peer.pump()
    request = Message(properties={"operation": "put-token", "name": "a"}, body="x").encode()
    ahead = frame(
        performative(0x13, UInt(0), UInt(9), UInt(0), UInt(9), UInt(0), UInt(2**31 + 50), UInt(0))
    )

    peer.feed(ahead + frame(performative(0x14, UInt(0), UInt(0), b"t", UInt(0), True) + request))
    await peer.pump()

    assert peer.detached[link.name].name == "amqp:link:transfer-limit-exceeded"


async def test_an_answer_to_a_session_that_was_not_begun_here_is_refused(broker, receiver_on):
    subscription = await broker.subscribe()
    bystander, feed = await receiver_on(subscription)
    peer = MemoryPeer(broker)
    await peer.login(sasl_init(b"ANONYMOUS"))
    begin = performative(0x11, None, UInt(0), UInt(9), UInt(9))
    answer = performative(0x11, UShort(0), UInt(0), UInt(9), UInt(9))
    end = frame(performative(0x17), channel=1)

    peer.feed(AMQP_HEADER + frame(performative(0x10, "c", "h")) + frame(begin, channel=1))
    await settle()
    peer.feed(frame(answer) + end + end)
    await settle()
    peer.edge_connection.lost()
    await broker.publish(1)
    await bystander.pump()

    assert peer.sink.sent.count(b"no session has been begun here") == 1
    assert len(bystander.messages(feed)) == 1
