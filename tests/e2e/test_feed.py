"""A subscription receives exactly what its filter lets through, whichever way it came in."""

import json
from functools import partial

import pytest
from proton import Message

from tests.e2e.feeds import bytes_of, over_amqp, quality_of, receive_all, sequence_numbers
from tests.support.process import eventually

pytestmark = [pytest.mark.slow, pytest.mark.interop]

#: What a test publishes: enough of everything that filters ask for.
FACTS = [
    {
        "objectId": f"pump-{n % 3}",
        "model": "abb.pump",
        "variable": ("speed", "temperatur-é")[n % 2],
        "quality": n,
        "value": n - 5 if n % 4 else {"bar": n, "unit": "b"},
    }
    for n in range(12)
]

FILTERS = {
    "number": ("value > 0", lambda f: isinstance(f["value"], int) and f["value"] > 0),
    "string": ("objectId = 'pump-1'", lambda f: f["objectId"] == "pump-1"),
    "list": (
        "objectId IN ['pump-0', 'pump-2'] AND NOT quality < 4",
        lambda f: f["objectId"] in ("pump-0", "pump-2") and f["quality"] >= 4,
    ),
    "text beyond ASCII": ("variable ENDS_WITH 'é'", lambda f: f["variable"].endswith("é")),
    "inside the value": (
        "value.bar >= 4",
        lambda f: isinstance(f["value"], dict) and f["value"]["bar"] >= 4,
    ),
    "missing": ("timestamp = null AND model = 'abb.pump'", lambda f: True),
    "nothing": ("objectId = 'valve'", lambda f: False),
}
#: Over HTTP a timestamp is added where there is none.
NEVER_OVER_HTTP = {"missing"}


def as_properties(server, tenant):
    """Scalars as application properties; a map cannot be one and stays in the body."""
    messages = []
    for facts in FACTS:
        scalars = {name: each for name, each in facts.items() if not isinstance(each, dict)}
        body = json.dumps({"value": facts["value"]}).encode()
        messages.append(Message(body=body, properties=scalars, content_type="application/json"))
    over_amqp(server, tenant, messages)


def as_json(server, tenant):
    over_amqp(server, tenant, [Message(body=json.dumps(facts).encode()) for facts in FACTS])


def as_json_text(server, tenant):
    over_amqp(server, tenant, [Message(body=json.dumps(facts)) for facts in FACTS])


def as_json_array(server, tenant):
    over_amqp(server, tenant, [Message(body=json.dumps(FACTS).encode()), Message(body=b"[]")])


def over_http_one_by_one(server, tenant):
    for facts in FACTS:
        server.publish(facts, token=server.token(tenant=tenant))


def over_http_array(server, tenant):
    server.publish(FACTS, token=server.token(tenant=tenant))


def over_http_ndjson(server, tenant):
    lines = b"".join(json.dumps(facts).encode() + b"\n" for facts in FACTS)
    server.publish(lines, token=server.token(tenant=tenant), content_type="application/x-ndjson")


WAYS = {
    "AMQP application properties": as_properties,
    "AMQP JSON body": as_json,
    "AMQP JSON text": as_json_text,
    "AMQP JSON array": as_json_array,
    "HTTP object": over_http_one_by_one,
    "HTTP array": over_http_array,
    "HTTP NDJSON": over_http_ndjson,
}


def has_backlog(server, access, *, token: str, count: int) -> bool:
    return server.shown(access, token=token)["backlog"] == count


@pytest.mark.parametrize("way", WAYS)
def test_a_subscription_receives_exactly_what_its_filter_lets_through(server, tenant, way):
    token = server.token(tenant=tenant)
    chosen = [name for name in FILTERS if "HTTP" not in way or name not in NEVER_OVER_HTTP]
    feeds = {name: server.subscribe(FILTERS[name][0], token=token) for name in chosen}

    WAYS[way](server, tenant)

    for name, access in feeds.items():
        expected = [facts["quality"] for facts in FACTS if FILTERS[name][1](facts)]
        # Alone the service knows it with the publisher's answer; in a cluster the node that serves a
        # feed reads the log a moment later.
        eventually(
            partial(has_backlog, server, access, token=token, count=len(expected)),
            seconds=10 if hasattr(server, "cluster") else 0,
        )
        messages = receive_all(access)
        assert [quality_of(message) for message in messages] == expected, name
        numbers = sequence_numbers(messages)
        assert numbers == sorted(set(numbers))


def test_a_message_over_http_arrives_as_it_was_sent(server, tenant):
    token = server.token(tenant=tenant)
    access = server.subscribe("objectId = 'o'", token=token)
    sent = {
        "objectId": "o",
        "variable": "v",
        "value": [1, {"é": None}],
        "timestamp": "2026-01-01T00:00:00Z",
    }

    server.publish(sent, token=token)

    [message] = receive_all(access)
    assert json.loads(bytes_of(message.body)) == sent
    assert message.content_type == "application/json"
    assert message.properties["objectId"] == "o"
    assert message.properties["ability-messagetype"] == "timeSeries"


def test_a_message_over_amqp_arrives_as_it_was_sent(server, tenant):
    token = server.token(tenant=tenant)
    access = server.subscribe("quality = 1", token=token)
    sent = Message(
        id="m-1",
        subject="s",
        body={"any": ["value", 1, True]},
        properties={"quality": 1, "colour": "blue"},
        correlation_id="c",
        reply_to="r",
    )

    over_amqp(server, tenant, [sent])

    [message] = receive_all(access)
    assert (message.id, message.subject, message.correlation_id, message.reply_to) == (
        "m-1",
        "s",
        "c",
        "r",
    )
    assert message.body == {"any": ["value", 1, True]}
    assert message.properties == {"quality": 1, "colour": "blue"}
    assert message.delivery_count == 0


def test_several_topics_do_not_mix(server, tenant):
    token = server.token(tenant=tenant)
    feeds = {
        "events": server.subscribe("objectId = 'o'", topic="events", token=token),
        "alarms": server.subscribe("objectId = 'o'", topic="alarms", token=token),
        "platformEvents": server.subscribe("objectId = 'o'", topic="platformEvents", token=token),
    }
    bodies = {
        "events": {"objectId": "o", "event": "e"},
        "alarms": {"objectId": "o", "alarm": "a"},
        "platformEvents": {"objectId": "o", "eventType": "t"},
    }

    for topic, body in bodies.items():
        server.publish(body, topic=topic, token=token)

    for topic, access in feeds.items():
        [message] = receive_all(access)
        body = json.loads(bytes_of(message.body))
        assert bodies[topic].items() <= body.items()


def test_nothing_of_another_tenant_ever(server, tenant):
    other = f"{tenant}-other"
    own_token, other_token = server.token(tenant=tenant), server.token(tenant=other)
    own = server.subscribe("value > 0", token=own_token)
    foreign = server.subscribe("value > 0", token=other_token)

    server.publish(
        {"objectId": "theirs", "variable": "v", "value": 1, "tenant": tenant, "tenantId": tenant},
        token=other_token,
    )
    over_amqp(server, other, [Message(properties={"value": 2, "tenantId": tenant})])
    server.publish({"objectId": "ours", "variable": "v", "value": 3}, token=own_token)

    [message] = receive_all(own)
    assert message.properties["objectId"] == "ours"
    assert len(receive_all(foreign)) == 2


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_a_subscription_of_another_tenant_does_not_exist(server, tenant, method):
    access = server.subscribe("value > 0", token=server.token(tenant=tenant))
    stranger = server.token(tenant=f"{tenant}-other")

    answer = server.call(method, f"/subscriptions/variables/{access.id}", token=stranger)

    assert answer.status == 404
    listed = server.call("GET", "/subscriptions", token=stranger).body["data"]
    assert listed == []
    assert server.shown(access, token=server.token(tenant=tenant))["filter"] == "value > 0"


def test_replay_gives_what_the_log_still_holds(server, tenant):
    token = server.token(tenant=tenant)
    server.publish(FACTS, token=token)

    earliest = server.subscribe("quality >= 10", token=token, startFrom="earliest")
    now = server.subscribe("quality >= 10", token=token)

    assert [quality_of(message) for message in receive_all(earliest)] == [10, 11]
    assert server.shown(now, token=token)["backlog"] == 0
