"""Read a filtered feed with azure-servicebus: `python_servicebus.py [FILTER [COUNT]]`.

Reads HOTPATH_TOKEN, HOTPATH_URL (http://127.0.0.1:8080) and, for a private authority, HOTPATH_CA.
Needs azure-servicebus 7.14 or later; docs/clients.md has earlier releases.
"""

import json
import os
import sys
from typing import Any
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from azure.servicebus import ServiceBusClient, TransportType

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


def connect(url: str, sas_token: str) -> ServiceBusClient:
    """A client for the address that the service gave."""
    feed = urlsplit(url)
    endpoint = f"Endpoint=sb://{feed.netloc};SharedAccessSignature={sas_token}"
    if feed.scheme == "amqp":
        # Plain TCP, on this machine.
        return ServiceBusClient.from_connection_string(endpoint + ";UseDevelopmentEmulator=true")
    return ServiceBusClient.from_connection_string(
        endpoint,
        custom_endpoint_address=f"sb://{feed.netloc}",
        transport_type=TransportType.Amqp,
        connection_verify=os.environ.get("HOTPATH_CA"),
    )


def main() -> None:
    """Create, read, delete."""
    wanted = sys.argv[1] if len(sys.argv) > 1 else "true"
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 10
    ask = {"filter": wanted, "subscriptionTTL": 60, "sasTokenTTL": 30}
    made = call("POST", "/subscriptions/variables", ask)
    topic, _, identity = urlsplit(made["connectionURL"]).path.strip("/").split("/")
    print(f"reading {count} messages with: {wanted}", file=sys.stderr)
    try:
        with (
            connect(made["connectionURL"], made["sasToken"]) as client,
            client.get_subscription_receiver(topic, identity) as receiver,
        ):
            for _, message in zip(range(count), receiver, strict=False):
                print(json.dumps(json.loads(str(message))), flush=True)
                receiver.complete_message(message)
    finally:
        call("DELETE", f"/subscriptions/variables/{identity}")


if __name__ == "__main__":
    main()
