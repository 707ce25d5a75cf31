"""The quick start of docs/webhooks.md, run word by word but for host and endpoint.

The events that arrive are checked with the verifier that the public text gives to receivers.
"""

import hashlib
import hmac
import json
import os
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.support.process import ROOT, eventually, running_server

PAGE = ROOT / "docs" / "webhooks.md"
SECTION = re.compile(r"^## Quick start$(.*?)^## ", re.MULTILINE | re.DOTALL)
BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ENDPOINT = "https://test-api.com/test/webhook"
SECRET = "webhook-secret-key"
POINT = "88d45219-a0cf-4509-8f3d-84d15e6a9c44"


def verify_webhook_signature(payload, signature, secret):
    expected_signature = hmac.new(
        secret.encode("utf-8"), payload.encode("utf-8"), hashlib.sha256
    ).hexdigest()
    return hmac.compare_digest(f"sha256={expected_signature}", signature)


@pytest.fixture
def sink():
    """An endpoint that takes everything: its URL, and what it has got."""
    got: list[tuple[dict[str, str], str]] = []

    class Endpoint(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            got.append((dict(self.headers), body.decode()))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_):
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/test/webhook", got
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def service(tmp_path):
    with running_server(
        tmp_path / "data", "--webhook-allow-http", webhook_allow_networks="127.0.0.0/8"
    ) as server:
        yield server


def quick_start() -> list[str]:
    section = SECTION.search(PAGE.read_text())
    assert section is not None
    return BLOCK.findall(section[1])


def documents(text: str) -> list[dict]:
    """The JSON documents that the calls printed, one behind the other."""
    decoder, found, at = json.JSONDecoder(), [], 0
    while (at := text.find("{", at)) >= 0:
        document, at = decoder.raw_decode(text, at)
        found.append(document)
    return found


@pytest.mark.slow
def test_the_quick_start_works_word_by_word(service, sink, tmp_path):
    url, got = sink
    blocks = quick_start()
    script = "\n".join(["set -euo pipefail", *blocks])
    script = script.replace(ENDPOINT, url).replace("http://127.0.0.1:8080", service.urls["http"])
    script = script.replace("hotpath token", f"hotpath token --data-dir {service.data_dir}")
    binaries = Path(sys.executable).parent
    before_changes = script.index("curl -sS -H")
    wait = "for _ in $(seq 200); do [ -e go ] && break; sleep 0.05; done\n"
    script = script[:before_changes] + wait + script[before_changes:]

    with subprocess.Popen(
        ["bash", "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PATH": f"{binaries}:{os.environ['PATH']}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        eventually(lambda: len(got) >= 2 or running.poll() is not None, seconds=30)
        (tmp_path / "go").touch()
        out, err = running.communicate(timeout=40)

    assert running.returncode == 0, err
    created, tested, accepted, listed, points, added, removed = documents(out)
    assert set(created) == {"id", "type", "attributes"}
    assert created["attributes"]["pointIds"] == [POINT]
    assert (tested["delivered"], tested["httpStatus"], accepted) == (True, 204, {"accepted": 1})
    assert listed["data"] == [created]
    assert points["data"] == [{"id": POINT, "type": "point"}]
    assert len(added["attributes"]["pointIds"]) == 2
    assert removed["attributes"]["pointIds"] == [POINT]
    assert service.call("GET", f"{BASE}/{created['id']}?type=point-stream").status == 404
    check_events(got)


BASE = "/streaming/v1/partitions/acme/streams"


def check_events(got) -> None:
    """What the endpoint received: the sample and the value, signed."""
    assert all(
        verify_webhook_signature(body, headers["X-Webhook-Signature"], SECRET)
        for headers, body in got
    )
    event = json.loads(got[-1][1])
    assert {key: event[key] for key in ("changed", "id", "qualityOfValue", "value")} == {
        "changed": 1,
        "id": POINT,
        "qualityOfValue": 0,
        "value": "22",
    }
    assert list(event) == sorted(event)
    assert event["createdAt"] == event["lastUpdatedAt"]
