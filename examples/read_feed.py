"""Open a filtered feed of variables and print what comes: `read_feed.py [FILTER [COUNT]]`.

Reads HOTPATH_TOKEN and HOTPATH_URL (http://127.0.0.1:8080). Needs only python-qpid-proton.
"""

import json
import os
import sys
from typing import Any, cast
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from proton.utils import BlockingConnection

SERVICE = os.environ.get("HOTPATH_URL", "http://127.0.0.1:8080")
TOKEN = os.environ["HOTPATH_TOKEN"]


def call(method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """Make a REST call and return the JSON of its answer."""
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    content = None if body is None else json.dumps(body).encode()
    request = Request(SERVICE + path, method=method, data=content, headers=headers)
    with urlopen(request) as answer:
        text = answer.read()
    return dict(json.loads(text)) if text else {}


def main() -> None:
    """Create, read, delete."""
    wanted = sys.argv[1] if len(sys.argv) > 1 else "true"
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 10
    subscription = call(
        "POST",
        "/subscriptions/variables",
        {"filter": wanted, "subscriptionTTL": 60, "sasTokenTTL": 30},
    )
    print(f"reading {count} messages with: {wanted}", file=sys.stderr)
    feed = urlsplit(subscription["connectionURL"])
    try:
        connection = BlockingConnection(
            f"{feed.scheme}://{feed.netloc}",
            user="any",
            password=subscription["sasToken"],
            allowed_mechs="PLAIN",
            allow_insecure_mechs=True,  # plain TCP on this machine; not needed with amqps
        )
        receiver = connection.create_receiver(feed.path.lstrip("/"), credit=count)
        for _ in range(count):
            message = receiver.receive(timeout=60)
            reading = json.loads(bytes(cast("bytes", message.body)))
            print(f"{reading['objectId']} {reading['variable']} = {reading['value']}", flush=True)
            receiver.accept()
        connection.close()
    finally:
        call("DELETE", f"/subscriptions/variables/{subscription['subscriptionId']}")


if __name__ == "__main__":
    main()
