"""AMQP over WebSocket on the HTTP edge's ports, on real sockets."""

import asyncio
import contextlib
import ssl

import aiohttp
import pytest
import trustme
from aiohttp import WSMsgType, web

from hotpath.amqp.sockets import server_tls
from hotpath.amqp.websocket import PATH, websocket_mount
from tests.support.broker import running_broker
from tests.support.clock import settle
from tests.support.wire import SASL_HEADER, Peer, plain


@contextlib.asynccontextmanager
async def serving(broker, tls: ssl.SSLContext | None = None):
    """The route, on a port of its own; its port."""
    application = web.Application()
    websocket_mount(broker.edge, broker.settings, broker.access)(application)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    try:
        yield runner.addresses[0][1]
    finally:
        await broker.edge.stop(0)
        await runner.cleanup()


@pytest.fixture
async def port(broker):
    async with serving(broker) as found:
        yield found


@pytest.fixture
async def session():
    async with aiohttp.ClientSession() as made:
        yield made


class SocketPeer(Peer):
    """A peer at the end of a WebSocket."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, *, cut: int = 0) -> None:
        super().__init__()
        self.socket = socket
        self._cut = cut
        self.ended = False

    async def login(self, token: str) -> None:
        await self.socket.send_bytes(SASL_HEADER)
        await self.socket.send_bytes(plain("any", token))
        seen = b""
        while b"\x00\x53\x44" not in seen:  # the outcome
            seen += await self.socket.receive_bytes(timeout=5)
        self.preface = seen

    async def exchange(self, until, seconds: float = 5) -> None:
        """Send and receive until something holds."""
        async with asyncio.timeout(seconds):
            while not until():
                if out := self.output():
                    step = self._cut or len(out)
                    for at in range(0, len(out), step):
                        await self.socket.send_bytes(out[at : at + step])
                try:
                    message = await self.socket.receive(timeout=0.02)
                except TimeoutError:
                    continue
                if message.type is not WSMsgType.BINARY:
                    self.ended = True
                    return
                self.input(message.data)


@pytest.mark.parametrize("protocol", ["AMQPWSB10", "amqp"])
@pytest.mark.parametrize("cut", [0, 7], ids=["frames whole", "frames in pieces"])
async def test_a_feed_is_read_over_websocket(broker, port, session, feed_of, protocol, cut):
    subscription = await broker.subscribe()
    await broker.publish(1, 2, 3)
    url = f"http://127.0.0.1:{port}{PATH}"

    async with session.ws_connect(url, protocols=[protocol]) as socket:
        assert socket.protocol == protocol
        peer = SocketPeer(socket, cut=cut)
        await peer.login(broker.sas(feed_of(subscription)))
        peer.open()
        link = peer.receiver(feed_of(subscription), credit=10)
        await peer.exchange(lambda: len(peer.raws(link)) == 3)
        for delivery in peer.deliveries(link):
            peer.settle(delivery)
        await peer.exchange(lambda: len(subscription.locks) == 0)


async def test_a_slash_at_the_end_does_no_harm(port, session):
    async with session.ws_connect(f"http://127.0.0.1:{port}{PATH}/", protocols=["amqp"]) as socket:
        assert socket.protocol == "amqp"


async def test_an_unknown_subprotocol_is_refused(port, session):
    async with session.ws_connect(f"http://127.0.0.1:{port}{PATH}", protocols=["mqtt"]) as socket:
        await socket.receive(timeout=5)
        assert socket.close_code == 1002


async def test_a_plain_request_is_told_to_upgrade(port, session):
    async with session.get(f"http://127.0.0.1:{port}{PATH}") as response:
        assert response.status == 426
        assert response.headers["Upgrade"] == "websocket"


async def test_connections_over_the_bound_are_closed_and_told_to_come_later(tmp_path, session):
    async with running_broker(tmp_path, max_connections=1) as broker, serving(broker) as port:
        url = f"http://127.0.0.1:{port}{PATH}"
        async with session.ws_connect(url, protocols=["amqp"]) as kept:
            await kept.send_bytes(SASL_HEADER)
            assert (await kept.receive_bytes(timeout=5))[:8] == SASL_HEADER

            async with session.ws_connect(url, protocols=["amqp"]) as socket:
                await socket.receive(timeout=5)
                assert socket.close_code == 1013
    await settle()
    assert broker.edge.admission.total == 0


async def test_text_ends_the_connection(broker, port, session):
    async with session.ws_connect(f"http://127.0.0.1:{port}{PATH}", protocols=["amqp"]) as socket:
        await socket.send_str("AMQP")
        message = await socket.receive(timeout=5)
        assert message.type in (WSMsgType.CLOSE, WSMsgType.CLOSED, WSMsgType.CLOSING)
        assert socket.close_code == 1003
    await settle()
    assert len(broker.edge) == 0


async def test_a_message_over_the_limit_ends_the_connection(broker, port, session):
    limit = broker.settings.max_message_bytes
    async with session.ws_connect(f"http://127.0.0.1:{port}{PATH}", protocols=["amqp"]) as socket:
        await socket.send_bytes(bytes(2 * limit + 1_048_577))
        while (message := await socket.receive(timeout=5)).type is WSMsgType.BINARY:
            pass
        assert message.type is not WSMsgType.BINARY
        assert socket.close_code == 1009


async def test_a_client_that_goes_away_gives_back_what_it_held(broker, port, session, feed_of):
    subscription = await broker.subscribe()
    await broker.publish(1)
    async with session.ws_connect(f"http://127.0.0.1:{port}{PATH}", protocols=["amqp"]) as socket:
        peer = SocketPeer(socket)
        await peer.login(broker.sas(feed_of(subscription)))
        peer.open()
        link = peer.receiver(feed_of(subscription), credit=10)
        await peer.exchange(lambda: len(peer.raws(link)) == 1)
        assert subscription.locks.locked == 1
        connection = socket._response.connection
        connection.transport.abort()

    async with asyncio.timeout(5):
        while len(broker.edge):  # noqa: ASYNC110  # the loop of the server notices it
            await asyncio.sleep(0.01)
    assert subscription.locks.locked == 0
    assert subscription.receivers == 0


async def test_the_end_of_the_service_closes_with_an_error(broker, port, session, feed_of):
    subscription = await broker.subscribe()
    async with session.ws_connect(f"http://127.0.0.1:{port}{PATH}", protocols=["amqp"]) as socket:
        peer = SocketPeer(socket)
        await peer.login(broker.sas(feed_of(subscription)))
        peer.open()
        link = peer.receiver(feed_of(subscription))
        await peer.exchange(lambda: link.state & link.REMOTE_ACTIVE)

        stopping = asyncio.ensure_future(broker.edge.stop(2))
        await peer.exchange(lambda: peer.closed and not peer.transport.pending())
        assert peer.error.name == "amqp:connection:forced"
        broker.manual.call_at(0, lambda: None)
        await broker.manual.advance(6_000)
        await stopping


async def test_a_peer_that_reads_nothing_is_sent_no_more_than_its_share(
    broker, port, session, feed_of
):
    subscription = await broker.subscribe()
    await broker.publish(*range(20_000))
    limit = broker.settings.output_bytes_max
    async with session.ws_connect(f"http://127.0.0.1:{port}{PATH}", protocols=["amqp"]) as socket:
        peer = SocketPeer(socket)
        await peer.login(broker.sas(feed_of(subscription)))
        peer.open()
        peer.receiver(feed_of(subscription), credit=20_000)
        await socket.send_bytes(peer.output())
        await asyncio.sleep(0.2)

        [connection] = broker.edge._connections
        assert connection._sink.unsent() <= 3 * limit


async def test_websocket_over_tls_with_a_private_authority(broker, session, feed_of, tmp_path):
    authority = trustme.CA()
    issued = authority.issue_cert("localhost")
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    issued.cert_chain_pems[0].write_to_path(certificate)
    issued.private_key_pem.write_to_path(key)
    trusted = ssl.create_default_context()
    authority.configure_trust(trusted)
    subscription = await broker.subscribe()

    async with serving(broker, server_tls(certificate, key, None)) as port:
        url = f"https://localhost:{port}{PATH}"
        async with session.ws_connect(url, protocols=["AMQPWSB10"], ssl=trusted) as socket:
            peer = SocketPeer(socket)
            await peer.login(broker.sas(feed_of(subscription)))
            peer.open()
            link = peer.receiver(feed_of(subscription))
            await peer.exchange(lambda: link.state & link.REMOTE_ACTIVE)
            assert peer.error is None
