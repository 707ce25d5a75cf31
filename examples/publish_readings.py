"""Publish a random walk of temperatures over AMQP: `publish_readings.py [COUNT]`.

Reads HOTPATH_TOKEN and HOTPATH_URL (http://127.0.0.1:8080). Needs only python-qpid-proton.
"""

import json
import os
import random
import sys
from datetime import UTC, datetime
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from proton import Message
from proton.utils import BlockingConnection

SERVICE = os.environ.get("HOTPATH_URL", "http://127.0.0.1:8080")
TOKEN = os.environ["HOTPATH_TOKEN"]


def main() -> None:
    """Get the right to publish, then send; `send` returns once the service has the message."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    request = Request(
        f"{SERVICE}/publishers/variables",
        method="POST",
        headers={"Authorization": f"Bearer {TOKEN}"},
    )
    with urlopen(request) as answer:
        publisher = json.load(answer)
    topic = urlsplit(publisher["connectionURL"])
    connection = BlockingConnection(
        f"{topic.scheme}://{topic.netloc}",
        user="any",
        password=publisher["sasToken"],
        allowed_mechs="PLAIN",
        allow_insecure_mechs=True,  # plain TCP on this machine; not needed with amqps
    )
    sender = connection.create_sender(topic.path.lstrip("/"))
    temperature = 80.0
    for _ in range(count):
        temperature += random.gauss(0, 2)
        reading = {
            "objectId": "oven-01",
            "variable": "temperature",
            "value": round(temperature, 2),
            "timestamp": datetime.now(UTC).isoformat(),
            "quality": 192,
        }
        body = json.dumps(reading).encode()
        # inferred: the body becomes a data section, as it should be for bytes
        sender.send(Message(body=body, content_type="application/json", inferred=True))
    connection.close()
    print(f"{count} readings are stored")


if __name__ == "__main__":
    main()
