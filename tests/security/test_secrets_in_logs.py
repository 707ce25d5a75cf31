"""No secret ever reaches a log, whatever goes wrong, at the most talkative level."""

import asyncio
import json

import aiohttp
import pytest
from azure.servicebus.aio import ServiceBusClient
from azure.servicebus.exceptions import ServiceBusError

from tests.security.process import serving
from tests.support.wire import SASL_HEADER, plain

pytestmark = pytest.mark.slow

HS256 = "S3NTINEL-hs256-secret-0123456789abcdef"
PASSWORD = "S3NTINEL-password"
BODY = "S3NTINEL-body"


def forbidden(token: str) -> list[str]:
    """What of a token must not be seen: it whole, and its signature."""
    if token.startswith("SharedAccessSignature"):
        fields = dict(part.partition("=")[::2] for part in token.split(" ", 1)[1].split("&"))
        return [token, fields["sig"]]
    return [token, token.rpartition(".")[2]]


async def log_in(service, user: str, password: str) -> bytes:
    port = int(service.urls["amqp"].rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(SASL_HEADER + plain(user, password))
    answer = await reader.readuntil(b"\x53\x44")
    writer.close()
    return answer


@pytest.mark.parametrize("form", ["text", "json"])
async def test_no_secret_is_logged(tmp_path, form):
    options = ["--log-level", "debug"] + (["--log-json"] if form == "json" else [])
    async with serving(
        tmp_path / "data", *options, HOTPATH_JWT_HS256_SECRET=HS256, HOTPATH_JWT_DEV_KEY="1"
    ) as service:
        scope = "hotpath.subscribe hotpath.publish hotpath.admin"
        _, token, _ = await service.run("token", "--scope", scope)
        token = token.strip()
        secrets = [HS256, PASSWORD, BODY, *forbidden(token)]
        key_file = (tmp_path / "data" / "dev-jwt.pem").read_text().splitlines()[1]
        secrets.append(key_file)

        async with aiohttp.ClientSession(service.urls["http"]) as session:

            async def call(method: str, path: str, bearer: str = token, **options):
                headers = {"Authorization": f"Bearer {bearer}"}
                async with session.request(method, path, headers=headers, **options) as answer:
                    return answer.status, await answer.text()

            wanted = {"subscriptionTTL": 60, "sasTokenTTL": 10, "filter": "value > 3"}
            _, text = await call(
                "POST", "/subscriptions/events", json={**wanted, "filter": "event = 'a'"}
            )
            made = json.loads(text)
            secrets += forbidden(made["sasToken"])
            _, text = await call("PUT", f"/subscriptions/events/{made['subscriptionId']}")
            renewed = json.loads(text)["sasToken"]
            secrets += forbidden(renewed)
            _, text = await call("POST", "/publishers/events")
            secrets += forbidden(json.loads(text)["sasToken"])
            _, text = await call("POST", "/admin/keys", json={"name": "plant", "tenant": "demo"})
            tenant_secret = json.loads(text)["secret"]
            secrets.append(tenant_secret)
            await call("POST", "/admin/keys", json={"name": "own"})
            # Everything that can be refused, with secrets in all the wrong places.
            for bearer in (token[:-4] + "AAAA", token + "x", "S3NTINEL-bearer", renewed):
                assert (await call("GET", "/subscriptions", bearer))[0] == 401
            await call("POST", "/messages/events", data=BODY.encode())
            await call("POST", "/messages/events", json={"objectId": BODY, "event": "e"})
            # A filter is no secret: the line of a refused one quotes it.
            await call("POST", "/subscriptions/events", json={**wanted, "filter": "'unended"})
            await call("GET", f"/subscriptions?cursor={PASSWORD}")
            await call("DELETE", "/admin/keys/own")
            secrets.append("S3NTINEL-bearer")

        assert (await log_in(service, "plant", tenant_secret)).endswith(b"\x53\x44")
        for user, password in (
            ("plant", PASSWORD),
            ("x", made["sasToken"]),
            ("x", renewed[:-2]),
            ("x", token),
            ("x", token + "x"),
        ):
            await log_in(service, user, password)
        await receive(service, made["subscriptionId"], renewed)
        await receive(service, made["subscriptionId"], made["sasToken"].replace("sig=", "sig=A"))

        log = service.logged()
        assert "control call" in log  # there is a log to look at
        assert '"operation": "login"' in log or "operation=login" in log
        assert '"operation": "putToken"' in log or "operation=putToken" in log
        assert [secret for secret in secrets if secret in log] == []
        assert "S3NTINEL" not in log


async def receive(service, identity: str, token: str) -> None:
    """Attach with the Service Bus SDK, which puts the token at $cbs."""
    port = service.urls["amqp"].rpartition(":")[2]
    text = (
        f"Endpoint=sb://127.0.0.1:{port};SharedAccessSignature={token};UseDevelopmentEmulator=true"
    )
    client = ServiceBusClient.from_connection_string(text, retry_total=0)
    try:
        async with client, client.get_subscription_receiver("events", identity) as receiver:
            await receiver.receive_messages(1, max_wait_time=0.2)
    except ServiceBusError:
        return
