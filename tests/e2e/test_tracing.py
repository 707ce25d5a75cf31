"""Tracing: spans arrive at a collector and hang together; without tracing nothing is different."""

import gzip
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from proton import Message

from tests.e2e.feeds import over_amqp, receive_all
from tests.support.process import running_server

TRACE = "0af7651916cd43dd8448eb211c80319c"
CALLER = "b7ad6b7169203331"
SAMPLED = f"00-{TRACE}-{CALLER}-01"
NOT_SAMPLED = f"00-{TRACE}-{CALLER}-00"
READING = {"objectId": "boiler-1", "variable": "temperature", "value": 95.5}


class Collector:
    """Takes OTLP over HTTP, as any collector does."""

    def __init__(self):
        self.spans = []
        collector = self

        class Taker(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                request = ExportTraceServiceRequest.FromString(body)
                for resource in request.resource_spans:
                    for scope in resource.scope_spans:
                        collector.spans += scope.spans
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Taker)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1/traces"
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def close(self):
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def collector():
    running = Collector()
    yield running
    running.close()


def calling(server, tenant, traceparent):
    """A reading over HTTP, and what the feed has of it."""
    token = server.token(tenant=tenant)
    access = server.subscribe("value > 0", token=token)
    answer = server.call(
        "POST",
        "/messages/variables",
        READING,
        token=token,
        headers={"traceparent": traceparent},
    )
    assert answer.status == 202
    return access, receive_all(access)


def named(spans, name):
    return [span for span in spans if span.name == name]


def test_a_call_its_message_and_its_delivery_are_one_trace(tmp_path, collector):
    with running_server(tmp_path / "data", trace_endpoint=collector.url) as server:
        access, (message,) = calling(server, "acme", SAMPLED)
        assert server.stop() == 0  # and that sends what was waiting

    (call,) = named(collector.spans, "POST /messages/{type}")
    (published,) = named(collector.spans, "publish variables")
    (delivered,) = named(collector.spans, "deliver variables")
    assert call.parent_span_id.hex() == CALLER
    assert {span.trace_id.hex() for span in (call, published, delivered)} == {TRACE}
    carried = message.properties["traceparent"]
    assert carried == f"00-{TRACE}-{call.span_id.hex()}-01"
    assert published.parent_span_id == delivered.parent_span_id == call.span_id
    facts = {each.key: each.value for each in delivered.attributes}
    assert facts["messaging.destination.subscription.name"].string_value == access.id
    number = message.annotations["x-opt-sequence-number"]
    assert facts["hotpath.sequence_number"].int_value == number


def test_a_message_over_amqp_keeps_its_trace_and_its_bytes(tmp_path, collector):
    with running_server(tmp_path / "data", trace_endpoint=collector.url) as server:
        access = server.subscribe("value > 0", token=server.token(tenant="acme"))
        properties = {"value": 1.5, "traceparent": SAMPLED}
        over_amqp(server, "acme", [Message(body="x", properties=properties)])
        over_amqp(server, "acme", [Message(body="y", properties={"value": 2.5})])
        (message, _) = receive_all(access)
        assert server.stop() == 0

    assert message.properties == properties
    (published,) = named(collector.spans, "publish variables")
    (delivered,) = named(collector.spans, "deliver variables")
    assert published.parent_span_id.hex() == delivered.parent_span_id.hex() == CALLER


def test_what_is_not_sampled_leaves_no_span_and_no_property(tmp_path, collector):
    with running_server(tmp_path / "data", trace_endpoint=collector.url) as server:
        _, (message,) = calling(server, "acme", NOT_SAMPLED)
        assert server.stop() == 0

    assert collector.spans == []
    assert "traceparent" not in message.properties


def test_a_collector_that_is_not_there_disturbs_nobody(tmp_path):
    with running_server(tmp_path / "data", trace_endpoint="http://127.0.0.1:9/v1/traces") as server:
        _, (message,) = calling(server, "acme", SAMPLED)
        assert server.stop() == 0

    assert message.properties["traceparent"].startswith(f"00-{TRACE}-")


def test_without_tracing_the_caller_s_trace_is_not_looked_at(server, tenant):
    _, (message,) = calling(server, tenant, SAMPLED)

    assert "traceparent" not in message.properties
