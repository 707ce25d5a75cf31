"""The MQTT gateway between a real mosquitto and the running service."""

import shutil
import subprocess

import pytest

from tests.docs.session import free_ports
from tests.examples.running import reading, started
from tests.support.process import Server, eventually

mqtt = pytest.importorskip(
    "paho.mqtt.client", reason="paho-mqtt is not installed (the extra `examples`)"
)

# Debian puts it where only root's path looks.
MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.interop,
    pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed"),
]

GATEWAY = "mqtt_gateway.py"


@pytest.fixture
def broker(tmp_path):
    """A private mosquitto; its port."""
    [port] = free_ports(1)
    configuration = tmp_path / "mosquitto.conf"
    configuration.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\nuser root\n")
    process = subprocess.Popen(
        [MOSQUITTO, "-c", configuration], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    yield port
    process.terminate()
    process.wait(timeout=10)


@pytest.fixture
def own_service(tmp_path):
    """A service that may be killed and started again on its data and its port."""
    (tmp_path / "data").mkdir(mode=0o700)
    [port] = free_ports(1)
    # The tests look on more often than an application would.
    unhurried = {"rate_limit": "10000/second", "rate_limit_burst": 10000}
    server = Server(tmp_path / "data", http=f"127.0.0.1:{port}", **unhurried).start()
    yield server
    server.close()


@pytest.fixture
def publisher(broker):
    """A device that publishes with QoS 1."""
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)

    def connect():
        try:
            client.connect("127.0.0.1", broker)
        except ConnectionRefusedError:
            return False
        return True

    eventually(connect, seconds=10, what="mosquitto listens")
    client.loop_start()

    def publish(topic, payload):
        client.publish(topic, payload, qos=1).wait_for_publish(10)

    yield publish
    client.disconnect()
    client.loop_stop()


def until_it_forwards(gateway):
    assert gateway.stderr.readline() == "forwarding plant/#\n"


def seen(service, feed):
    """What the subscription was given, by looking."""
    answer = service.call(
        "GET", f"/subscriptions/variables/{feed.id}/messages?show=matched&limit=100"
    )
    assert answer.status == 200, answer
    return [each["body"] for each in answer.body["data"]]


def values(service, feed):
    return [body["value"] for body in seen(service, feed)]


def test_what_devices_publish_is_in_the_feed(own_service, broker, publisher):
    feed = own_service.subscribe("objectId = 'boiler-1' AND value > 90")
    with started(own_service, GATEWAY, f"127.0.0.1:{broker}") as gateway:
        until_it_forwards(gateway)
        publisher("plant/boiler-1/temperature", "95.5")
        publisher("plant/boiler-1/temperature", "71")
        publisher("plant/boiler-1/pressure", '{"value": 99, "quality": 192}')
        eventually(lambda: len(seen(own_service, feed)) == 2, seconds=20)

    first, second = seen(own_service, feed)
    assert {**reading(95.5), **first} == first
    assert (second["variable"], second["value"], second["quality"]) == ("pressure", 99, 192)


def test_what_is_no_reading_is_told_and_holds_nothing_up(own_service, broker, publisher):
    feed = own_service.subscribe("true")
    with started(own_service, GATEWAY, f"127.0.0.1:{broker}") as gateway:
        until_it_forwards(gateway)
        publisher("plant/boiler-1/temperature", "not json")
        publisher("plant/boiler-1/temperature", '{"value": 1, "quality": "good"}')
        publisher("plant/boiler-1/temperature", "2")
        eventually(lambda: values(own_service, feed) == [2], seconds=20)
        gateway.kill()
        told = gateway.stderr.read()

    assert "no reading: plant/boiler-1/temperature b'not json'" in told
    assert "refused: " in told


def test_nothing_is_acknowledged_before_it_is_stored(own_service, broker, publisher):
    feed = own_service.subscribe("true")
    with started(own_service, GATEWAY, f"127.0.0.1:{broker}") as gateway:
        until_it_forwards(gateway)
        own_service.kill()
        for value in range(5):
            publisher("plant/boiler-1/temperature", str(value))
        assert "not stored" in gateway.stderr.readline()
        # What it has received and not stored is still the broker's.
        gateway.kill()

    own_service.start()
    assert values(own_service, feed) == []
    with started(own_service, GATEWAY, f"127.0.0.1:{broker}") as gateway:
        until_it_forwards(gateway)
        eventually(lambda: set(values(own_service, feed)) == set(range(5)), seconds=20)
        publisher("plant/boiler-1/temperature", "5")
        eventually(lambda: 5 in values(own_service, feed), seconds=20)

    assert sorted(values(own_service, feed)) == list(range(6))
