"""A connection that is gone is freed at once, without the cycle collector.

What is alive for a while is hidden from the collector (`core/keeping.py`):
a cycle would then stay until the next full pass.
"""

import asyncio
import gc
import http.client
import socket
import ssl
import struct
from asyncio.selector_events import _SelectorSocketTransport
from asyncio.sslproto import SSLProtocol
from collections import Counter

import pytest
import trustme
from proton import SSLDomain
from proton.utils import BlockingConnection

from hotpath.amqp.connection import Connection
from hotpath.amqp.egress import Egress
from hotpath.amqp.sockets import SocketSink, server_tls
from hotpath.config import Endpoint
from hotpath.rest.server import _Connection
from hotpath.service.deliver import Receiver
from hotpath.webhooks.connection import Connection as WebhookConnection
from tests.support.broker import running_broker
from tests.support.endpoint import FakeEndpoint, eventually, webhook_rig
from tests.support.services import running_service

SOCKETS = (_SelectorSocketTransport, SSLProtocol)
WATCHED = (Connection, Egress, Receiver, SocketSink, *SOCKETS)


@pytest.fixture
def counted():
    """The collector is off; counts what is alive of some types."""
    gc.collect()
    gc.disable()
    yield alive
    gc.enable()


@pytest.fixture
def certificate(tmp_path):
    """Files of a certificate for the loopback, and of its authority."""
    authority = trustme.CA()
    made = authority.issue_cert("localhost", "127.0.0.1")
    files = [tmp_path / name for name in ("cert.pem", "key.pem", "ca.pem")]
    made.cert_chain_pems[0].write_to_path(files[0])
    made.private_key_pem.write_to_path(files[1])
    authority.cert_pem.write_to_path(files[2])
    return files


def alive(*watched):
    # By type, not isinstance: other tests leave objects that raise when asked for their class.
    return Counter(type(each).__name__ for each in gc.get_objects() if type(each) in watched)


async def gone(before, *watched):
    """Whether nothing is left, some moments after the client has left."""
    for _ in range(500):
        if not alive(*watched) - before:
            return True
        await asyncio.sleep(0.01)
    print("left:", alive(*watched) - before)
    return False


def read_and_leave(url, token, path, domain):
    """What is alive while a client reads."""
    client = BlockingConnection(
        url,
        user="x",
        password=token,
        allowed_mechs="PLAIN",
        allow_insecure_mechs=True,
        timeout=10,
        ssl_domain=domain,
    )
    client.create_receiver(path, credit=10).receive(timeout=10)
    client.create_sender("$cbs")
    found = alive(*WATCHED)
    client.close()
    return found


@pytest.mark.parametrize("tls", [False, True], ids=["tcp", "tls"])
async def test_a_connection_leaves_no_cycle_behind(tmp_path, certificate, counted, tls):
    *server, authority = certificate
    async with running_broker(tmp_path) as broker:
        port = await broker.listen(server_tls(*server, None) if tls else None)
        url = f"{'amqps' if tls else 'amqp'}://127.0.0.1:{port}"
        domain = None
        if tls:
            domain = SSLDomain(SSLDomain.MODE_CLIENT)
            domain.set_trusted_ca_db(str(authority))
            domain.set_peer_authentication(SSLDomain.VERIFY_PEER)
        subscription = await broker.subscribe()
        path = f"variables/Subscriptions/{subscription.spec.id}"
        await broker.publish(1)
        before = counted(*WATCHED)

        between = await asyncio.to_thread(read_and_leave, url, broker.sas(path), path, domain)

        found = {"Connection", "Egress", "Receiver", "SocketSink", "_SelectorSocketTransport"}
        assert set(between - before) == (found | {"SSLProtocol"} if tls else found)
        assert await gone(before, *WATCHED)


async def test_a_tls_handshake_that_fails_leaves_little_behind(tmp_path, certificate, counted):
    *server, _ = certificate
    watched = (SSLProtocol, SocketSink)
    async with running_broker(tmp_path) as broker:
        port = await broker.listen(server_tls(*server, None))
        before = counted(*watched)
        client = socket.create_connection(("127.0.0.1", port))
        await eventually(lambda: counted(*watched) - before)

        # Reset, not ended.
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()

        assert await gone(before, *watched)


def ask(port, tls):
    """What is alive when a call has been answered."""
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    if tls:
        client = http.client.HTTPSConnection("127.0.0.1", port, timeout=10, context=tls)
    client.request("GET", "/healthz")
    assert client.getresponse().read()
    found = alive(_Connection, *SOCKETS)
    client.close()
    return found


@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
async def test_an_http_connection_leaves_no_cycle_behind(tmp_path, certificate, counted, tls):
    *server, authority = certificate
    watched = (_Connection, *SOCKETS)
    async with running_service(tmp_path) as service:
        port = int(service.url.rpartition(":")[2])
        if tls:
            context = server_tls(*server, None)
            port = await service.edge.start(Endpoint("127.0.0.1:0"), context)
        before = counted(*watched)

        trusted = ssl.create_default_context(cafile=authority) if tls else None
        between = await asyncio.to_thread(ask, port, trusted)

        assert {"_Connection", "_SelectorSocketTransport"} <= set(between - before)
        assert await gone(before, *watched)


async def test_a_webhooks_connection_leaves_no_cycle_behind(tmp_path, counted):
    endpoint = await FakeEndpoint().start()

    def connections():
        """Those of the service, and what they send through."""
        # What belongs to the endpoint is asyncio's own way, with the cycle.
        return alive(WebhookConnection) + Counter(
            "transport"
            for each in gc.get_objects()
            if type(each) is _SelectorSocketTransport
            and (each.get_extra_info("peername") or (None, None))[1] == endpoint.port
        )

    async with webhook_rig(tmp_path) as rig:
        await rig.stream(endpoint, "p")
        await rig.publish("1")
        await eventually(lambda: endpoint.requests)
        assert connections() == {"Connection": 1, "transport": 1}
    await eventually(lambda: not connections())
    await endpoint.stop()
