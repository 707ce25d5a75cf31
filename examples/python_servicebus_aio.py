"""Read a filtered feed with asyncio: `python_servicebus_aio.py [FILTER [COUNT]]`.

Reads HOTPATH_TOKEN, HOTPATH_URL (http://127.0.0.1:8080) and, for a private authority, HOTPATH_CA.
Needs aiohttp and azure-servicebus 7.15 or later; docs/clients.md has earlier releases.
"""

import asyncio
import json
import os
import sys
from urllib.parse import urlsplit

import aiohttp
from azure.servicebus import TransportType
from azure.servicebus.aio import ServiceBusClient

SERVICE = os.environ.get("HOTPATH_URL", "http://127.0.0.1:8080")
TOKEN = os.environ["HOTPATH_TOKEN"]


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


async def read(url: str, sas_token: str, count: int) -> None:
    """Print so many messages and settle each."""
    topic, _, identity = urlsplit(url).path.strip("/").split("/")
    async with (
        connect(url, sas_token) as client,
        client.get_subscription_receiver(topic, identity) as receiver,
    ):
        left = count
        while left:
            for message in await receiver.receive_messages(left, max_wait_time=5):
                print(json.dumps(json.loads(str(message))), flush=True)
                await receiver.complete_message(message)
                left -= 1


async def main() -> None:
    """Create, read, delete."""
    wanted = sys.argv[1] if len(sys.argv) > 1 else "true"
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 10
    ask = {"filter": wanted, "subscriptionTTL": 60, "sasTokenTTL": 30}
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with aiohttp.ClientSession(SERVICE, headers=headers, raise_for_status=True) as session:
        async with session.post("/subscriptions/variables", json=ask) as answer:
            made = await answer.json()
        print(f"reading {count} messages with: {wanted}", file=sys.stderr)
        try:
            await read(made["connectionURL"], made["sasToken"], count)
        finally:
            path = f"/subscriptions/variables/{made['subscriptionId']}"
            async with session.delete(path):
                pass


if __name__ == "__main__":
    asyncio.run(main())
