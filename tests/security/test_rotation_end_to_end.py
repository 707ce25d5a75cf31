"""Keys rotate and tokens are revoked by the command line while real clients receive."""

import json

import pytest
from azure.servicebus import ServiceBusReceiveMode
from azure.servicebus.aio import ServiceBusClient
from azure.servicebus.exceptions import ServiceBusError

from hotpath.client.rest import RestClient
from hotpath.model.names import Topic
from tests.security.process import serving

pytestmark = pytest.mark.slow


def rest(service, token: str) -> RestClient:
    return RestClient(service.urls["http"], lambda: token)


async def received(service, access, *, count: int) -> list[str]:
    """What the Service Bus SDK gets from a feed with nothing but its token."""
    port = service.urls["amqp"].rpartition(":")[2]
    text = (
        f"Endpoint=sb://127.0.0.1:{port};SharedAccessSignature={access.token};"
        "UseDevelopmentEmulator=true"
    )
    client = ServiceBusClient.from_connection_string(text, retry_total=0)
    async with (
        client,
        client.get_subscription_receiver(
            "events", access.identity, receive_mode=ServiceBusReceiveMode.RECEIVE_AND_DELETE
        ) as receiver,
    ):
        found = []
        while len(found) < count:
            messages = await receiver.receive_messages(count, max_wait_time=5)
            assert messages
            found += [json.loads(str(message))["event"] for message in messages]
        return found


async def test_rotation_and_revocation_with_the_service_bus_sdk(tmp_path):
    async with serving(tmp_path / "data", "--log-level", "debug") as service:
        code, token, _ = await service.run(
            "token", "--scope", "hotpath.subscribe hotpath.publish hotpath.admin"
        )
        assert code == 0
        async with rest(service, token.strip()) as calls:
            first = await calls.create(Topic.EVENTS, "objectId = 'a'", ttl=120, sas_ttl=60)

            async def publish(event: str) -> None:
                await calls.call("POST", "/messages/events", {"objectId": "a", "event": event})

            await publish("before")
            assert await received(service, first, count=1) == ["before"]

            # A new key signs; the old one's token still works.
            code, out, err = await service.run("keys", "add", "next", "--json")
            assert (code, json.loads(out)["signs"]) == (0, True), err
            second = await calls.renew(Topic.EVENTS, first.identity)
            assert "skn=next" in second.token
            for access in (first, second):
                await publish("during")
                assert await received(service, access, count=1) == ["during"]

            # Retired: only the new one's does.
            assert (await service.run("keys", "retire", "hotpath"))[0] == 0
            with pytest.raises(ServiceBusError):
                await received(service, first, count=1)
            await publish("after")
            assert await received(service, second, count=1) == ["after"]

            # Revoked: neither does, and PUT gives one that does, with a generation in it.
            assert (await service.run("revoke", first.identity))[0] == 0
            with pytest.raises(ServiceBusError):
                await received(service, second, count=1)
            third = await calls.renew(Topic.EVENTS, first.identity)
            assert "Generation" in third.token
            await publish("at last")
            assert await received(service, third, count=1) == ["at last"]

        code, out, _ = await service.run("keys", "list", "--json")
        listed = [json.loads(line) for line in out.splitlines()]
        assert [(key["name"], key["retiredAt"] is None) for key in listed] == [
            ("hotpath", False),
            ("next", True),
        ]
        assert (await service.run("keys", "remove", "next"))[0] == 1
        assert (await service.run("keys", "remove", "hotpath"))[0] == 0
        code, _, err = await service.run("revoke", "nothing")
        assert code == 1
        assert "nothing was revoked" in err


async def test_a_tenants_key_is_shown_once_and_publishers_are_revoked(tmp_path):
    async with serving(tmp_path / "data") as service:
        code, out, _ = await service.run("keys", "add", "plant", "--for-tenant", "demo", "--json")
        made = json.loads(out)
        assert code == 0
        assert len(made["secret"]) > 40
        _, listed, _ = await service.run("keys", "list")
        assert made["secret"] not in listed

        _, token, _ = await service.run("token")
        async with rest(service, token.strip()) as calls:
            publisher = await calls.open_publisher(Topic.POINTS)
        arguments = ("revoke", "--publisher", "points", publisher.identity)
        assert (await service.run(*arguments))[0] == 0
        assert (await service.run(*arguments))[0] == 1
