"""Bring what an MQTT broker has to hotpath: `mqtt_gateway.py [HOST[:PORT] [TOPIC]]`.

`plant/boiler-1/temperature` with the payload `95.5` becomes the variable `temperature` of
`boiler-1`; a payload may also be an object with `value` and, if you like, `timestamp` and `quality`.

With QoS 1 nothing is lost on the way: the broker gets its acknowledgement after hotpath has the
message on disk. Until then it stays in this gateway's session at the broker, also while the gateway
or hotpath is down. What was stored but not acknowledged comes twice.

Reads HOTPATH_TOKEN, HOTPATH_URL (http://127.0.0.1:8080), MQTT_CLIENT_ID (hotpath-gateway),
MQTT_USER and MQTT_PASSWORD. Needs paho-mqtt.
"""

import json
import os
import queue
import sys
import time
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from paho.mqtt.client import Client, ConnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

SERVICE = os.environ.get("HOTPATH_URL", "http://127.0.0.1:8080")
TOKEN = os.environ["HOTPATH_TOKEN"]
CLIENT_ID = os.environ.get("MQTT_CLIENT_ID", "hotpath-gateway")
# The broker hands out so many unacknowledged messages and keeps the rest: memory is bounded.
WINDOW = 500
SESSION_SECONDS = 7 * 24 * 3600
PAUSES = (0.5, 1, 2, 5, 10)


def tell(text: str) -> None:
    """A line for the operator."""
    print(text, file=sys.stderr, flush=True)


def reading_of(message: MQTTMessage) -> dict[str, Any] | None:
    """The variable that a message means; None when it means none."""
    try:
        _, object_id, variable = message.topic.rsplit("/", 2)
        payload = json.loads(message.payload)
    except ValueError:
        return None
    if not isinstance(payload, dict):
        payload = {"value": payload}
    if not object_id or not variable or "value" not in payload:
        return None
    known = {name: payload[name] for name in ("value", "timestamp", "quality") if name in payload}
    return {"objectId": object_id, "variable": variable, **known}


def publish(readings: list[dict[str, Any]]) -> None:
    """Return when hotpath has stored all of them; HTTPError, URLError when it has none."""
    request = Request(
        f"{SERVICE}/messages/variables",
        method="POST",
        data=json.dumps(readings).encode(),
        headers={"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"},
    )
    with urlopen(request, timeout=30) as answer:
        answer.read()


def store(readings: list[dict[str, Any]]) -> None:
    """Publish, again and again until it is done; what hotpath refuses for good is told and left."""
    attempt = 0
    while (trouble := try_to_store(readings)) is not None:
        pause = PAUSES[min(attempt, len(PAUSES) - 1)]
        tell(f"not stored, again in {pause} s: {trouble}")
        time.sleep(pause)
        attempt += 1


def try_to_store(readings: list[dict[str, Any]]) -> str | None:
    """Publish once; what is in the way now and may be gone later."""
    try:
        publish(readings)
    except HTTPError as error:
        with error:
            said = error.read().decode(errors="replace")
        if error.code in {401, 403}:
            # Nothing was acknowledged: it all comes again with a better token.
            sys.exit(f"hotpath does not let this gateway in: {said}")
        if error.code != 400:
            return said
        if len(readings) == 1:
            tell(f"refused: {readings[0]}: {said}")
        else:
            # An array is accepted whole or not at all: find the bad ones.
            for reading in readings:
                store([reading])
    except (URLError, TimeoutError, ConnectionError) as error:
        return str(error)
    return None


class Gateway:
    """What comes from the broker, until it is stored and acknowledged."""

    def __init__(self, client: Client, topic: str) -> None:
        self._client = client
        self._topic = topic
        self._connection = 0
        self._waiting: queue.Queue[tuple[int, MQTTMessage]] = queue.Queue()
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message

    def _on_connect(
        self, client: Client, _: object, _flags: ConnectFlags, code: ReasonCode, _more: object
    ) -> None:
        if code.is_failure:
            tell(f"the broker refuses: {code}")
            return
        self._connection += 1
        client.subscribe(self._topic, qos=1)

    def _on_subscribe(
        self, _client: Client, _: object, _mid: int, codes: list[ReasonCode], _more: object
    ) -> None:
        if codes[0].is_failure:
            tell(f"the broker refuses {self._topic}: {codes[0]}")
            return
        tell(f"forwarding {self._topic}")

    def _on_message(self, _client: Client, _: object, message: MQTTMessage) -> None:
        self._waiting.put((self._connection, message))

    def _take(self) -> list[tuple[int, MQTTMessage]]:
        """Wait for a message; that, and what else has come meanwhile."""
        taken = [self._waiting.get()]
        while len(taken) < WINDOW and not self._waiting.empty():
            taken.append(self._waiting.get_nowait())
        return taken

    def forward(self) -> None:
        """Store what comes, and acknowledge it then and not before."""
        while True:
            taken = self._take()
            readings = []
            for _, message in taken:
                if reading := reading_of(message):
                    readings.append(reading)
                else:
                    tell(f"no reading: {message.topic} {message.payload[:80]!r}")
            if readings:
                store(readings)
            for connection, message in taken:
                # The broker sends again what an earlier connection left open, and its packet
                # identifiers count anew: an acknowledgement for the old one could hit another.
                if connection == self._connection:
                    self._client.ack(message.mid, message.qos)


def session() -> Properties:
    """Ask the broker to keep our place, and for no more than we can hold."""
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    properties.SessionExpiryInterval = SESSION_SECONDS
    properties.ReceiveMaximum = WINDOW
    return properties


def main() -> None:
    """Connect, subscribe, forward until killed."""
    host, _, port = (sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1").partition(":")
    topic = sys.argv[2] if len(sys.argv) > 2 else "plant/#"
    client = Client(
        CallbackAPIVersion.VERSION2,
        client_id=CLIENT_ID,
        protocol=MQTTProtocolVersion.MQTTv5,
        manual_ack=True,
    )
    if user := os.environ.get("MQTT_USER"):
        client.username_pw_set(user, os.environ.get("MQTT_PASSWORD"))
    gateway = Gateway(client, topic)
    client.connect(host, int(port or 1883), clean_start=False, properties=session())
    client.loop_start()
    gateway.forward()


if __name__ == "__main__":
    main()
