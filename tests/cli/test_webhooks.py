"""Streams end to end: the service, the sink and the example receivers, each a process of its own."""

import itertools
import json
import os
import random
import shutil
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import trustme

from hotpath.webhooks.signing import Signer
from tests.cli.service import HOTPATH, Service, bare_environment, read_line, until

EXAMPLES = Path(__file__).parents[2] / "examples"
BASE = "/streaming/v1/partitions/demo"
STREAMS = f"{BASE}/streams?type=point-stream"
SECRET = "webhook-secret-key"
ANY_PORT = ("--listen", "127.0.0.1:0", "--json")
OPTIONS = (
    *("--http", "127.0.0.1:0", "--amqp", "127.0.0.1:0"),
    *("--webhook-allow-http", "--webhook-allow-networks", "127.0.0.0/8"),
    *("--webhook-retry-seconds", "0.1,0.2,0.2,0.2", "--rate-limit", "1000/second"),
)


@pytest.fixture(scope="module")
def hooked(tmp_path_factory):
    """A service that may send to the loopback."""
    service = Service(tmp_path_factory.mktemp("hooked") / "data", *OPTIONS).start()
    yield service
    assert service.stop()[0] == 0


@pytest.fixture
def spawn():
    """Start a process whose first line tells that it listens; ended with the test."""
    started = []

    def begin(*command, **environment):
        process = subprocess.Popen(
            list(map(str, command)),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=bare_environment(**environment),
        )
        started.append(process)
        return process, read_line(process, 30)

    yield begin
    for process in started:
        process.kill()
        process.communicate(timeout=10)


@pytest.fixture
def sink(spawn):
    """Start `hotpath webhook-sink`; the process and its URL."""

    def begin(*options):
        process, line = spawn(*HOTPATH, "webhook-sink", *ANY_PORT, *options)
        return process, json.loads(line)["url"]

    return begin


_points = itertools.count()


def stream(service, url, *points, secret=SECRET):
    points = points or (f"point-{next(_points)}",)
    body = {"webhookUrl": url, "pointIds": points}
    if secret:
        body["webhookSecret"] = secret
    return service.call("POST", STREAMS, body)["id"], points[0]


def publish(service, *values):
    values = [{"id": point, "value": value} for point, value in values]
    return service.call("POST", f"{BASE}/points/values", values)


def lines(process, count):
    return [json.loads(process.stdout.readline()) for _ in range(count)]


def test_the_sink_verifies_and_shows_what_comes(hooked, sink):
    process, url = sink("--webhook-secret", "other", "--webhook-secret", SECRET)
    identity, point = stream(hooked, url)

    publish(hooked, (point, 22))
    (shown,) = lines(process, 1)

    assert (shown["verified"], shown["status"], shown["attempt"]) == (True, 200, 1)
    assert shown["webhookId"].startswith(identity)
    assert (shown["event"]["id"], shown["event"]["value"]) == (point, "22")


def test_the_sink_refuses_what_is_signed_otherwise(hooked, sink):
    process, url = sink("--webhook-secret", "another")
    _, point = stream(hooked, url)

    publish(hooked, (point, 1))
    (shown,) = lines(process, 1)

    assert (shown["verified"], shown["status"]) == (False, 401)
    assert "none of this secret's" in shown["problem"]


def test_the_sink_fails_as_often_as_it_is_told_and_the_service_tries_again(hooked, sink):
    process, url = sink("--fail-attempts", "2", "--fail-status", "503", "--count", "1")
    _, point = stream(hooked, url)

    publish(hooked, (point, 1))
    shown = lines(process, 3)

    assert [each["status"] for each in shown] == [503, 503, 200]
    assert [each["attempt"] for each in shown] == [1, 2, 3]
    assert len({each["webhookId"] for each in shown}) == 1
    assert shown[0]["verified"] is None
    assert process.wait(timeout=20) == 0


def test_a_sink_that_is_gone_disables_the_stream(hooked, sink):
    process, url = sink("--gone")
    identity, point = stream(hooked, url)

    publish(hooked, (point, 1))
    (shown,) = lines(process, 1)

    path = f"{BASE}/streams/{identity}?type=point-stream"
    until("disabled", lambda: hooked.call("GET", path)["attributes"]["status"] == "disabled")
    letters = until(
        "a dead letter",
        lambda: hooked.call("GET", f"{BASE}/streams/{identity}/dead-letters")["data"],
    )
    assert shown["status"] == 410
    assert letters[0]["reason"] == "EndpointGone: HTTP 410"


def test_a_sink_with_tls(tmp_path, spawn):
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    tls = ("--sink-cert", tmp_path / "cert.pem", "--sink-key", tmp_path / "key.pem")
    process, line = spawn(*HOTPATH, "webhook-sink", *ANY_PORT, *tls)
    url = json.loads(line)["url"]
    assert url.startswith("https://")
    trusting = ("--webhook-tls-ca", str(tmp_path / "ca.pem"))
    service = Service(tmp_path / "data", *OPTIONS, *trusting).start()
    try:
        _, point = stream(service, url)
        publish(service, (point, 1))

        assert lines(process, 1)[0]["status"] == 200
    finally:
        service.stop()


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--listen", "nowhere"), "is not HOST:PORT"),
        (("--webhook-secret", "whsec_!"), "is not base64"),
        (("--sink-cert", "x.pem"), "belong together"),
        (("--sink-cert", "x.pem", "--sink-key", "y.pem"), "No such file"),
        (("--fail-percent", "101"), "0<=x<=100"),
    ],
    ids=lambda each: str(each)[:30],
)
def test_wrong_usage_of_the_sink_is_told(options, complaint):
    done = subprocess.run(
        [*HOTPATH, "webhook-sink", *options],
        capture_output=True,
        text=True,
        timeout=30,
        env=bare_environment(),
        check=False,
    )

    assert done.returncode == 2
    assert complaint in done.stderr


# Example receivers


NODE = shutil.which("node")
RECEIVERS = [
    pytest.param((sys.executable, EXAMPLES / "webhook_receiver.py", "0"), id="python"),
    pytest.param(
        (NODE or "node", EXAMPLES / "webhook_receiver.mjs", "0"),
        id="node",
        marks=pytest.mark.skipif(NODE is None, reason="Node is not there to run the example"),
    ),
]


def post(url, body, headers):
    request = urllib.request.Request(url, data=body, headers=dict(headers), method="POST")
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


@pytest.mark.parametrize("secret", ["plain secret", "whsec_c2VjcmV0IGtleSBvZiAyNCBieXRlcyE="])
@pytest.mark.parametrize("command", RECEIVERS)
def test_the_example_receivers_believe_only_the_service(hooked, spawn, command, secret):
    process, line = spawn(*command, WEBHOOK_SECRET=secret)
    url = line.split()[-1]
    _, point = stream(hooked, url, secret=secret)
    body = b'{"changed":1,"id":"x","lastUpdatedAt":"now","value":"forged"}'
    now_s = int(time.time())
    forged = Signer.of(["guess"]).headers("id", at_s=now_s, body=body)
    old = Signer.of([secret]).headers("id", at_s=now_s - 3600, body=body)

    refused = [post(url, body, each) for each in (forged, old, {})]
    publish(hooked, (point, 22.5))
    publish(hooked, (point, 22.5))
    shown = [process.stdout.readline() for _ in range(2)]

    assert refused == [401, 401, 401]
    assert shown[0].endswith(f"{point} = 22.5\n")
    assert shown[1].endswith(f"{point} = 22.5 (unchanged)\n")


@pytest.mark.parametrize("command", RECEIVERS)
def test_the_example_receivers_drop_what_they_have_had(spawn, command):
    process, line = spawn(*command, WEBHOOK_SECRET="s")
    url = line.split()[-1]
    now_s = int(time.time())

    def send(identity, value):
        body = f'{{"changed":1,"id":"p","lastUpdatedAt":"t","value":"{value}"}}'.encode()
        return post(url, body, Signer.of(["s"]).headers(identity, at_s=now_s, body=body))

    answers = [send("one", 1), send("one", 1), send("two", 2)]

    assert answers == [204, 204, 204]
    assert [process.stdout.readline() for _ in range(2)] == ["t p = 1\n", "t p = 2\n"]


# Crashes


class Collector(threading.Thread):
    """Reads what a sink prints."""

    def __init__(self, process):
        super().__init__(daemon=True)
        self.process = process
        self.delivered = []

    def run(self):
        for line in self.process.stdout:
            shown = json.loads(line)
            if shown["status"] == 200:
                self.delivered.append((shown["event"]["id"], int(shown["event"]["value"])))


def test_what_was_accepted_is_delivered_or_set_aside_whenever_the_service_is_killed(tmp_path, sink):
    seed = int(os.environ.get("HOTPATH_CRASH_SEED", "6"))
    print(f"seed {seed}")
    draw = random.Random(seed)
    process, url = sink("--fail-percent", "30", "--seed", str(seed))
    collector = Collector(process)
    collector.start()
    service = Service(tmp_path / "data", *OPTIONS).start()
    identity, _ = stream(service, url, *(f"p{n}" for n in range(5)))
    accepted, number = [], 0
    for _ in range(4):
        for _ in range(draw.randrange(2, 8)):
            values = [(f"p{draw.randrange(5)}", number + n) for n in range(draw.randrange(1, 20))]
            number += len(values)
            publish(service, *values)
            accepted += values
        service.kill()
        service = Service(tmp_path / "data", *OPTIONS).start()

    def dead():
        found, path = [], f"{BASE}/streams/{identity}/dead-letters"
        data = service.call("GET", path + "?page[limit]=200")["data"]
        for letter in data:
            assert letter["reason"]
            event = letter["event"]
            event = json.loads(event) if isinstance(event, str) else event
            found.append((event["id"], int(event["value"])))
        return found

    try:
        until("all", lambda: set(accepted) <= {*collector.delivered, *dead()})
    finally:
        assert service.stop()[0] == 0
    for point in range(5):
        firsts = list(dict.fromkeys(v for p, v in collector.delivered if p == f"p{point}"))
        assert firsts == sorted(firsts)
