"""One service and one browser for all pages; each test has a tenant of its own."""

import itertools
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.support.process import Server, running_server

_tenants = itertools.count(1)


@pytest.fixture(scope="session")
def server(tmp_path_factory) -> Iterator[Server]:
    """A service that may send webhooks to this machine, and gives them up soon."""
    with running_server(
        tmp_path_factory.mktemp("console") / "data",
        "--webhook-allow-http",
        rate_limit="1000/second",
        webhook_allow_networks="127.0.0.0/8",
        webhook_retry_seconds="0.05",
    ) as running:
        yield running


@dataclass(frozen=True, slots=True)
class Tenant:
    """A tenant nobody else has, and calls in its name."""

    name: str
    server: Server

    @property
    def token(self) -> str:
        return self.server.token(tenant=self.name)

    def call(self, method: str, path: str, body: object = None):
        return self.server.call(method, path, body, token=self.token)

    def publish(self, *values: float, **others: object) -> None:
        body = [
            {"objectId": "pump-1", "variable": "temperature", "value": value, **others}
            for value in values
        ]
        self.server.publish(body, token=self.token)

    def subscribe(self, text: str, **options: object):
        return self.server.subscribe(text, token=self.token, **options)


@pytest.fixture
def tenant(server) -> Tenant:
    return Tenant(f"tenant-{next(_tenants)}", server)


class Endpoint:
    """Where webhooks go: it answers `status`."""

    def __init__(self) -> None:
        self.status = 500
        self.bodies: list[bytes] = []
        endpoint = self

        class Answering(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                endpoint.bodies.append(self.rfile.read(length))
                self.send_response(endpoint.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.httpd = ThreadingHTTPServer(("127.0.0.1", 0), Answering)
        self.url = f"http://127.0.0.1:{self.httpd.server_port}/in"


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    listening = Endpoint()
    thread = threading.Thread(target=listening.httpd.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield listening
    listening.httpd.shutdown()
    thread.join()
    listening.httpd.server_close()
