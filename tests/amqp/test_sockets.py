"""Real sockets on the loopback: plain TCP and TLS, stock Proton clients, raw bytes."""

import asyncio
import ssl
import threading
from contextlib import suppress

import pytest
import trustme
from proton import Message, SSLDomain
from proton.handlers import MessagingHandler
from proton.reactor import Container
from proton.utils import BlockingConnection

from hotpath.amqp.sockets import server_tls
from hotpath.config import Endpoint
from hotpath.service.clock import SystemClock
from tests.support.broker import running_broker
from tests.support.wire import AMQP_HEADER, SASL_HEADER


@pytest.fixture
async def live(tmp_path):
    """A broker on the machine's own clock, with a plain listener."""
    async with running_broker(tmp_path, clock=SystemClock()) as broker:
        await broker.listen()
        yield broker


def receive_some(url: str, address: str, count: int, **options) -> list[Message]:
    """Receive and accept with the blocking client."""
    connection = BlockingConnection(url, timeout=10, **options)
    try:
        receiver = connection.create_receiver(address, credit=count)
        messages = []
        for _ in range(count):
            messages.append(receiver.receive(timeout=10))
            receiver.accept()
        return messages
    finally:
        connection.close()


def send_some(url: str, values: list[int], **options) -> None:
    """Send and wait for the outcomes with the blocking client."""
    connection = BlockingConnection(url, timeout=10, **options)
    try:
        sender = connection.create_sender("variables")
        for value in values:
            sender.send(Message(properties={"value": value}, body="x"))
    finally:
        connection.close()


async def test_stock_clients_publish_and_receive(live, feed_of):
    subscription = await live.subscribe("value >= 2")
    publisher = await live.open_publisher()
    url = f"amqp://127.0.0.1:{live.ports[0]}"
    receiving = asyncio.create_task(
        asyncio.to_thread(
            receive_some, url, feed_of(subscription), 3,
            user="any", password=live.sas(feed_of(subscription)), allow_insecure_mechs=True,
        )
    )  # fmt: skip

    await asyncio.to_thread(
        send_some, url, [0, 1, 2, 3, 4],
        user="any", password=live.publisher_sas(publisher), allow_insecure_mechs=True,
    )  # fmt: skip
    messages = await receiving

    assert [message.properties["value"] for message in messages] == [2, 3, 4]
    assert subscription.settled_total == 3
    assert len(live.edge) == 0 or await _quiet(live)


async def _quiet(broker) -> bool:
    for _ in range(200):
        if not len(broker.edge):
            return True
        await asyncio.sleep(0.01)
    return False


class Streaming(MessagingHandler):
    """Receives with a window of credit and accepts everything."""

    def __init__(self, url: str, address: str, wanted: int, **options) -> None:
        super().__init__(prefetch=20)
        self.url, self.address, self.wanted, self.options = url, address, wanted, options
        self.seen: list[int] = []
        self.attached = threading.Event()

    def on_start(self, event) -> None:
        connection = event.container.connect(self.url, reconnect=False, **self.options)
        event.container.create_receiver(connection, self.address)

    def on_link_opened(self, event) -> None:
        self.attached.set()

    def on_message(self, event) -> None:
        self.seen.append(event.message.properties["value"])
        if len(self.seen) == self.wanted:
            event.connection.close()


async def test_a_streaming_client_sees_everything_in_order(live, feed_of):
    subscription = await live.subscribe()
    token = live.sas(feed_of(subscription))
    client = Streaming(
        f"amqp://127.0.0.1:{live.ports[0]}", feed_of(subscription), 500,
        user="any", password=token, allowed_mechs="PLAIN", allow_insecure_mechs=True,
    )  # fmt: skip
    running = asyncio.create_task(asyncio.to_thread(Container(client).run))
    for start in range(0, 500, 50):
        await live.publish(*range(start, start + 50))
    await running

    assert client.seen == list(range(500))


@pytest.fixture
def authority():
    return trustme.CA()


@pytest.fixture
async def secure(live, authority, tmp_path):
    """The live broker with a TLS listener that welcomes client certificates."""
    certificate = authority.issue_cert("localhost", "127.0.0.1")
    files = {name: tmp_path / name for name in ("cert.pem", "key.pem", "ca.pem")}
    certificate.cert_chain_pems[0].write_to_path(files["cert.pem"])
    certificate.private_key_pem.write_to_path(files["key.pem"])
    authority.cert_pem.write_to_path(files["ca.pem"])
    tls = server_tls(files["cert.pem"], files["key.pem"], files["ca.pem"])
    port = await live.listen(tls)
    return live, port, files["ca.pem"]


def client_domain(ca) -> SSLDomain:
    domain = SSLDomain(SSLDomain.MODE_CLIENT)
    domain.set_trusted_ca_db(str(ca))
    domain.set_peer_authentication(SSLDomain.VERIFY_PEER)
    return domain


async def test_a_stock_client_receives_over_tls(secure, feed_of):
    broker, port, ca = secure
    subscription = await broker.subscribe()
    await broker.publish(1, 2)

    messages = await asyncio.to_thread(
        receive_some, f"amqps://localhost:{port}", feed_of(subscription), 2,
        user="any", password=broker.sas(feed_of(subscription)), ssl_domain=client_domain(ca),
    )  # fmt: skip

    assert [message.properties["value"] for message in messages] == [1, 2]


async def test_a_client_certificate_opens_external_with_a_stock_client(
    secure, authority, feed_of, tmp_path
):
    broker, port, ca = secure
    subscription = await broker.subscribe()
    await broker.publish(5)
    certificate = authority.issue_cert("plant@example.com", organization_name="acme")
    cert, key = tmp_path / "client.pem", tmp_path / "client.key"
    certificate.cert_chain_pems[0].write_to_path(cert)
    certificate.private_key_pem.write_to_path(key)
    domain = client_domain(ca)
    domain.set_credentials(str(cert), str(key), None)

    messages = await asyncio.to_thread(
        receive_some, f"amqps://localhost:{port}", feed_of(subscription), 1,
        allowed_mechs="EXTERNAL", ssl_domain=domain,
    )  # fmt: skip

    assert messages[0].properties["value"] == 5


async def test_a_certificate_of_a_stranger_ends_the_handshake(secure, tmp_path):
    broker, port, ca = secure
    stranger = trustme.CA().issue_cert("x@example.com", organization_name="acme")
    context = ssl.create_default_context(cafile=str(ca))
    stranger.configure_cert(context)
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=context, server_hostname="localhost"
    )

    answer = b""
    with suppress(ssl.SSLError, ConnectionError):
        writer.write(SASL_HEADER)
        answer = await reader.read(100)
    assert answer == b""
    writer.transport.abort()
    assert await _quiet(broker)
    assert broker.edge.admission.total == 0


async def test_old_tls_is_not_spoken(secure):
    _, port, ca = secure
    context = ssl.create_default_context(cafile=str(ca))
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=context, server_hostname="localhost"
    )
    writer.write(SASL_HEADER)
    assert await reader.readexactly(8) == SASL_HEADER
    assert writer.get_extra_info("ssl_object").version() == "TLSv1.2"
    writer.close()


async def test_plain_bytes_on_the_tls_listener_cost_nothing(secure):
    broker, port, _ = secure
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.0\r\n\r\n")
    await reader.read()
    writer.close()

    assert await _quiet(broker)
    for _ in range(100):
        if broker.edge.admission.total == 0:
            break
        await asyncio.sleep(0.01)
    assert broker.edge.admission.total == 0


async def test_a_tls_handshake_that_stalls_is_given_up(tmp_path, authority):
    certificate = authority.issue_cert("localhost")
    cert, key = tmp_path / "c.pem", tmp_path / "k.pem"
    certificate.cert_chain_pems[0].write_to_path(cert)
    certificate.private_key_pem.write_to_path(key)
    async with running_broker(tmp_path, clock=SystemClock(), handshake_seconds=0.2) as broker:
        port = await broker.listen(server_tls(cert, key, None))
        reader, writer = await asyncio.open_connection("127.0.0.1", port)

        assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.close()
        assert broker.edge.admission.total == 0


async def test_raw_bytes_are_answered_with_the_header_and_the_end(live):
    reader, writer = await asyncio.open_connection("127.0.0.1", live.ports[0])
    writer.write(b"GET / HTTP/1.1\r\n\r\n")

    assert await asyncio.wait_for(reader.read(), 5) == SASL_HEADER
    writer.close()
    assert await _quiet(live)


async def test_a_peer_that_hangs_up_leaves_nothing(live, feed_of):
    for data in (b"", SASL_HEADER, AMQP_HEADER):
        _, writer = await asyncio.open_connection("127.0.0.1", live.ports[0])
        writer.write(data)
        await writer.drain()
        writer.transport.abort()

    await asyncio.sleep(0)
    assert await _quiet(live)
    assert live.edge.admission.total == 0


async def test_connections_over_the_bound_are_dropped_at_accept(tmp_path):
    bounds = {"max_connections": 2}
    async with running_broker(tmp_path, clock=SystemClock(), **bounds) as broker:
        port = await broker.listen()
        kept = []
        for _ in range(2):
            kept.append(await asyncio.open_connection("127.0.0.1", port))
            kept[-1][1].write(SASL_HEADER)
            assert await kept[-1][0].readexactly(8) == SASL_HEADER
        reader, writer = await asyncio.open_connection("127.0.0.1", port)

        with suppress(ConnectionResetError):
            assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.close()
        for _, each in kept:
            each.transport.abort()


async def test_an_ipv6_listener_gives_its_port(live):

    try:
        port = await live.edge.start(Endpoint("[::1]:0"), None)
    except OSError as error:
        pytest.skip(f"no IPv6 loopback here: {error}")
    reader, writer = await asyncio.open_connection("::1", port)
    writer.write(SASL_HEADER)
    assert await reader.readexactly(8) == SASL_HEADER
    writer.close()


async def test_a_port_in_use_is_an_os_error(live):

    with pytest.raises(OSError):
        await live.edge.start(Endpoint(f"127.0.0.1:{live.ports[0]}"), None)
