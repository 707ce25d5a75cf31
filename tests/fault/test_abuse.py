"""A hundred bad clients of each kind: they stay within their bounds, and a good one is served.

How much they delay it is measured by `make abuse`, with thousands of them.
"""

import json
import re
import sys
import urllib.request

import pytest
from proton import Message

from bench.certificate import write_certificate
from bench.children import Child
from bench.crowd import KINDS
from tests.support.process import access_of, amqp_connection, eventually, running_server

pytestmark = [pytest.mark.slow, pytest.mark.interop, pytest.mark.timeout(90)]

SIZE = 100
#: Places for those who have shown no token.
UNKNOWN = 40
GROWTH_MAX = 60 << 20
GAUGE = re.compile(r"^(hotpath_(?:amqp|http)_connections)(?:\{[^}]*\})? ([\d.]+)$", re.MULTILINE)
#: Those that log in: their places are others.
KNOWN = {"attach flood", "begin flood", "never reading", "credit flood"}
BOUNDS = {
    "max_connections_unauthenticated": UNKNOWN,
    "max_http_connections_unauthenticated": UNKNOWN,
    "handshake_seconds": 3,
    "http_header_seconds": 3,
    "authenticate_seconds": 5,
    "amqps": "127.0.0.1:0",
    "receivers_per_subscription_max": 1_000,
}


@pytest.fixture
def server(tmp_path):
    certificate, key = write_certificate(tmp_path)
    with running_server(tmp_path / "data", tls_cert=certificate, tls_key=key, **BOUNDS) as running:
        yield running


def standing(server) -> float:
    """Connections there are, by the service's own count."""
    with urllib.request.urlopen(server.urls["http"] + "/metrics", timeout=20) as answer:
        text = answer.read().decode()
    return sum(float(value) for _, value in GAUGE.findall(text))


def rss_bytes(server) -> int:
    with open(f"/proc/{server.process.pid}/status") as status:
        [line] = [line for line in status if line.startswith("VmRSS:")]
    return int(line.split()[1]) * 1_024


def serve_a_good_client(server, feed, publisher) -> None:
    """It comes, publishes ten messages, and receives them."""
    with amqp_connection(server.urls["amqp"], publisher.token) as connection:
        sender = connection.create_sender(publisher.address)
        for value in range(10):
            sender.send(Message(properties={"quality": value}), timeout=20)
    with amqp_connection(server.urls["amqp"], feed.token) as connection:
        receiver = connection.create_receiver(feed.address, credit=10)
        for _ in range(10):
            receiver.receive(timeout=20)
            receiver.accept()


@pytest.mark.parametrize("kind", KINDS, ids=[kind.replace(" ", "-") for kind in KINDS])
def test_a_crowd_stays_within_its_bounds_and_a_good_client_is_served(server, tmp_path, kind):
    feed = server.subscribe("quality >= 0")
    publisher = access_of(server.call("POST", "/publishers/variables"))
    other = server.subscribe("quality < 0", token=server.token(tenant="crowd"))
    serve_a_good_client(server, feed, publisher)
    before = rss_bytes(server)
    listener = server.urls[KINDS[kind][0]].partition("//")[2]
    command = [sys.executable, "-m", "bench.crowd", kind, "--size", str(SIZE), "--server", listener]

    with Child(command, log=tmp_path / "crowd.log") as crowd:
        given = {"token": server.token(tenant="crowd"), "addresses": [other.address]}
        crowd.tell(json.dumps(given))
        crowd.wait_for_log("ready", 40)
        serve_a_good_client(server, feed, publisher)
        there = standing(server)
        # The good client's own connections, and that which asks, are there besides.
        assert there <= (SIZE if kind in KNOWN else UNKNOWN) + 4
        assert rss_bytes(server) - before < GROWTH_MAX
        told = json.loads(crowd.finish(20))

    assert told["most"] >= UNKNOWN / 2
    eventually(lambda: standing(server) <= 2, seconds=20, what="everybody is gone")
    assert server.call("GET", "/readyz").status == 200
    assert "Traceback" not in server.stderr.read_text()
