"""Values of points over AMQP: the address `points`."""

import json

import pytest
from proton import Delivery, Message, symbol, timestamp, ubyte

from hotpath.model.names import TenantId, Topic, TopicKey
from hotpath.ports import LogFailure
from hotpath.wire.body import body_bytes

KEY = TopicKey(TenantId("acme"), Topic.POINTS)


def message(body, **fields) -> Message:
    return Message(body=body, inferred=isinstance(body, bytes), **fields)


def as_json(value) -> Message:
    return message(json.dumps(value).encode(), content_type="application/json")


def outcomes(peer) -> list[int]:
    return [int(state) for _, state, _ in peer.updates]


async def logged(broker) -> list[tuple]:
    batches = await broker.log.read(KEY, 1, bytes_max=1 << 30)
    events = [json.loads(body_bytes(p)) for batch in batches for p in batch.payloads]
    return [(event["id"], event["value"], event["changed"]) for event in events]


@pytest.fixture
def publisher_of(broker, connect):
    """A tenant's peer and its link that publishes to `points`."""

    async def publishing(tenant="acme"):
        publisher = await broker.open_publisher(Topic.POINTS, tenant=tenant)
        peer = await connect(broker.publisher_sas(publisher))
        link = peer.sender("points")
        await peer.pump()
        return peer, link

    return publishing


@pytest.fixture
async def points(publisher_of):
    """A peer and its link that publishes to `points`."""
    return await publisher_of()


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(message(b'{"id":"p","value":22}'), id="json-data"),
        pytest.param(message('{"id":"p","value":22.0}'), id="json-string"),
        pytest.param(message({"id": "p", "value": 22}), id="map"),
        pytest.param(message({symbol("id"): symbol("p"), symbol("value"): 22.0}), id="symbols"),
        pytest.param(
            message({"id": "p", "value": "22", "qualityOfValue": ubyte(0), "other": [1]}),
            id="map-of-strings",
        ),
    ],
)
async def test_a_value_is_logged_as_an_event(broker, points, body):
    peer, link = points

    peer.send(link, body)
    await peer.pump()

    assert outcomes(peer) == [Delivery.ACCEPTED]
    assert await logged(broker) == [("p", "22", 1)]


async def test_a_map_may_have_a_timestamp(broker, points):
    peer, link = points

    peer.send(link, message({"id": "p", "value": True, "timestamp": timestamp(9)}))
    await peer.pump()

    [batch] = await broker.log.read(KEY, 1, bytes_max=1 << 30)
    event = json.loads(body_bytes(batch.payloads[0]))
    assert (event["value"], event["lastUpdatedAt"]) == ("true", "1970-01-01T00:00:00.009Z")


async def test_an_array_is_a_value_an_element(broker, points):
    peer, link = points

    peer.send(link, as_json([{"id": "p", "value": n} for n in (1, 1, 2)]))
    await peer.pump()

    assert outcomes(peer) == [Delivery.ACCEPTED]
    assert await logged(broker) == [("p", "1", 1), ("p", "1", 0), ("p", "2", 1)]


async def test_what_is_no_value_is_rejected_by_itself(broker, points):
    peer, link = points
    bad = [
        as_json({"id": "p"}),
        as_json([{"id": "p", "value": 1}, {"id": "p", "value": None}]),
        message(b"no json"),
        message(["id", "value"]),
        Message(
            body={"id": "p", "value": 1},
            annotations={symbol("x-opt-scheduled-enqueue-time"): timestamp(1 << 42)},
        ),
    ]

    for each in (as_json({"id": "p", "value": "first"}), *bad, as_json({"id": "p", "value": 2})):
        peer.send(link, each)
    await peer.pump()

    good, rejected = [Delivery.ACCEPTED] * 2, [Delivery.REJECTED] * len(bad)
    assert sorted(outcomes(peer)) == sorted([*good, *rejected])
    assert [value for _, value, _ in await logged(broker)] == ["first", "2"]


async def test_values_of_a_link_are_its_tenants_own(broker, points, publisher_of):
    peer, link = points
    other_peer, other = await publisher_of("other")

    peer.send(link, as_json({"id": "p", "value": 1}))
    other_peer.send(other, as_json({"id": "p", "value": 1}))
    await peer.pump()
    await other_peer.pump()

    batches = await broker.log.read(TopicKey(TenantId("other"), Topic.POINTS), 1, bytes_max=1 << 30)
    assert [batch.count for batch in batches] == [1]
    assert await logged(broker) == [("p", "1", 1)]


async def test_a_commit_that_fails_rejects_and_leaves_no_trace(broker, points):
    peer, link = points
    peer.send(link, as_json({"id": "p", "value": 1}))
    await peer.pump()
    broker.log.fail_next(LogFailure("disk", full=True))

    peer.send(link, as_json({"id": "p", "value": 2}))
    await peer.pump()
    peer.send(link, as_json({"id": "p", "value": 1}))
    await peer.pump()

    assert outcomes(peer) == [Delivery.ACCEPTED, Delivery.REJECTED, Delivery.ACCEPTED]
    assert await logged(broker) == [("p", "1", 1), ("p", "1", 0)]
