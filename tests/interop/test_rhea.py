"""rhea (Node), driven as its users drive it, against the service on real sockets."""

import asyncio
import json
import shutil
from pathlib import Path

import pytest
import trustme

from hotpath.amqp.sockets import server_tls
from hotpath.service.clock import SystemClock
from tests.support.broker import running_broker

NODE = shutil.which("node")
CLIENTS = Path(__file__).parent / "node"

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(NODE is None, reason="node is not installed"),
    pytest.mark.skipif(
        not (CLIENTS / "node_modules" / "rhea").is_dir(),
        reason="rhea is not installed: run `npm ci` in tests/interop/node",
    ),
]


@pytest.fixture
async def broker(tmp_path):
    async with running_broker(tmp_path, clock=SystemClock()) as running:
        await running.listen()
        yield running


async def rhea(broker, **order) -> dict:
    """Run the client; its report."""
    order.setdefault("port", broker.ports[0])
    process = await asyncio.create_subprocess_exec(
        NODE, str(CLIENTS / "rhea_client.js"), json.dumps(order),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await asyncio.wait_for(process.communicate(), 20)
    assert out, err.decode()
    return json.loads(out)


def feed_of(subscription) -> str:
    return f"variables/Subscriptions/{subscription.spec.id}"


def values(report: dict) -> list[int]:
    return [each["value"] for each in report["received"]]


@pytest.mark.parametrize(
    ("rcv", "snd"),
    [(0, None), (1, 0), (0, 1)],
    ids=["first", "second", "receive and delete"],
)
async def test_peek_lock_and_receive_and_delete_with_plain(broker, rcv, snd):
    subscription = await broker.subscribe()
    await broker.publish(1, 2, 3)
    wanted = {"address": feed_of(subscription), "count": 3, "rcv_settle_mode": rcv}
    if snd is not None:
        wanted["snd_settle_mode"] = snd

    report = await rhea(
        broker, username="any", password=broker.sas(feed_of(subscription)), receive=wanted
    )

    assert report["errors"] == []
    assert values(report) == [1, 2, 3]
    assert [each["sequence"] for each in report["received"]] == [1, 2, 3]
    assert {each["tag"] for each in report["received"]} == {16}
    assert {each["settled"] for each in report["received"]} == {snd == 1}
    assert subscription.settled_total == 3


async def test_anonymous_with_cbs(broker):
    subscription = await broker.subscribe()
    await broker.publish(1)

    report = await rhea(
        broker,
        username="ignored",
        token=broker.sas(feed_of(subscription)),
        audience=f"amqp://127.0.0.1/{feed_of(subscription)}",
        receive={"address": feed_of(subscription), "count": 1},
    )

    assert report["cbs"] == [["put-1", 200]]
    assert values(report) == [1]


async def test_anonymous_without_a_token_is_refused_at_the_attach(broker):
    subscription = await broker.subscribe()

    report = await rhea(
        broker, username="ignored", receive={"address": feed_of(subscription), "count": 1}
    )

    assert [error["condition"] for error in report["errors"]] == ["amqp:unauthorized-access"]
    assert report["errors"][0]["description"]


async def test_a_bad_password_is_told_as_an_error(broker):
    report = await rhea(broker, username="any", password=broker.sas("x") + "x")

    assert report["errors"]
    assert report["received"] == []


async def test_sending_with_outcomes(broker):
    subscription = await broker.subscribe()
    publisher = await broker.open_publisher()
    messages = [
        {"properties": {"value": 1}, "body": "text"},
        {"properties": {}, "body": [{"value": 2}, {"value": 3}]},
        {"properties": {}, "body": [1]},
    ]

    report = await rhea(
        broker,
        username="any",
        password=broker.publisher_sas(publisher),
        send={"address": "variables", "messages": messages},
    )

    assert sorted(report["outcomes"]) == [
        ["accepted"],
        ["accepted"],
        ["rejected", "amqp:decode-error"],
    ]
    assert subscription.matched_total == 3


@pytest.mark.parametrize(
    ("outcome", "count"), [("release", 0), ("modify", 1)], ids=["release", "modify"]
)
async def test_messages_come_back(broker, outcome, count):
    subscription = await broker.subscribe()
    await broker.publish(1)
    login = {"username": "any", "password": broker.sas(feed_of(subscription))}
    wanted = {"address": feed_of(subscription), "count": 1, "outcome": outcome}

    await rhea(broker, **login, receive=wanted)
    report = await rhea(broker, **login, receive={**wanted, "outcome": "accept"})

    assert [each["delivery_count"] for each in report["received"]] == [count]


async def test_rejected_goes_to_the_dead_letter_queue(broker):
    subscription = await broker.subscribe()
    await broker.publish(7)
    login = {"username": "any", "password": broker.sas(feed_of(subscription))}
    feed = feed_of(subscription)

    await rhea(broker, **login, receive={"address": feed, "count": 1, "outcome": "reject"})
    report = await rhea(
        broker, **login, receive={"address": f"{feed}/$DeadLetterQueue", "count": 1}
    )

    assert values(report) == [7]


async def test_drain_is_answered(broker):
    subscription = await broker.subscribe()
    await broker.publish(1, 2)

    report = await rhea(
        broker,
        username="any",
        password=broker.sas(feed_of(subscription)),
        receive={"address": feed_of(subscription), "count": 10, "drain": True},
    )

    assert values(report) == [1, 2]
    assert report["drained"] is True


async def test_a_short_idle_time_out_of_the_client_is_honoured(broker):
    subscription = await broker.subscribe()

    report = await rhea(
        broker,
        username="any",
        password=broker.sas(feed_of(subscription)),
        idle=400,
        linger=1500,
    )

    assert report["errors"] == []


@pytest.fixture
def certificates(tmp_path):
    authority = trustme.CA()
    paths = {name: tmp_path / f"{name}.pem" for name in ("ca", "cert", "key", "my_cert", "my_key")}
    authority.cert_pem.write_to_path(paths["ca"])
    server = authority.issue_cert("localhost", "127.0.0.1")
    server.cert_chain_pems[0].write_to_path(paths["cert"])
    server.private_key_pem.write_to_path(paths["key"])
    client = authority.issue_cert("plant@example.com", organization_name="acme")
    client.cert_chain_pems[0].write_to_path(paths["my_cert"])
    client.private_key_pem.write_to_path(paths["my_key"])
    return paths


async def test_tls_with_plain(broker, certificates):
    port = await broker.listen(server_tls(certificates["cert"], certificates["key"], None))
    subscription = await broker.subscribe()
    await broker.publish(1)

    report = await rhea(
        broker,
        port=port,
        tls=True,
        ca=str(certificates["ca"]),
        username="any",
        password=broker.sas(feed_of(subscription)),
        receive={"address": feed_of(subscription), "count": 1},
    )

    assert values(report) == [1]


async def test_tls_with_a_client_certificate(broker, certificates):
    tls = server_tls(certificates["cert"], certificates["key"], certificates["ca"])
    port = await broker.listen(tls)
    subscription = await broker.subscribe()
    await broker.publish(1)

    report = await rhea(
        broker,
        port=port,
        tls=True,
        ca=str(certificates["ca"]),
        cert=str(certificates["my_cert"]),
        key=str(certificates["my_key"]),
        receive={"address": feed_of(subscription), "count": 1},
    )

    assert report["errors"] == []
    assert values(report) == [1]
