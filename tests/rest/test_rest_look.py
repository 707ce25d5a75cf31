"""Calls that only look: topics, messages, explanations, and what became of a message."""

import json

import pytest

from hotpath.model.names import TenantId, Topic, TopicKey
from hotpath.wire.jsonbody import encode_json

GOOD = {"subscriptionTTL": 60, "sasTokenTTL": 10, "startFrom": "earliest"}


async def publish(service, *values: float, tenant: str = "acme", **others) -> None:
    body = [{"objectId": "p1", "variable": "t", "value": value, **others} for value in values]
    token = service.token(tenant=tenant)
    status, _, _ = await service.call("POST", "/messages/variables", json=body, token=token)
    assert status == 202


async def subscribe(service, text: str = "true", **options) -> str:
    _, made, _ = await service.call(
        "POST", "/subscriptions/variables", json={**GOOD, "filter": text}, **options
    )
    return f"/subscriptions/variables/{made['subscriptionId']}"


def numbers(answer) -> list[int]:
    return [message["sequenceNumber"] for message in answer["data"]]


# Who calls


async def test_the_caller_learns_who_it_is(service) -> None:
    token = service.token("hotpath.subscribe:events", sub="ann", condition="quality > 1")

    status, who, _ = await service.call("GET", "/me", token=token)

    assert status == 200
    assert (who["tenant"], who["subject"], who["scopes"]) == (
        "acme",
        "ann",
        ["hotpath.subscribe:events"],
    )
    assert who["condition"] == "quality > 1"
    assert who["expiresAt"] == "2024-01-02T04:04:05.000Z"
    assert who["minuteSeconds"] == 60


# Topics


async def test_topics_tell_what_they_hold_and_how_fast(service) -> None:
    await publish(service, *range(20))
    await publish(service, 1, tenant="rival")

    _, answer, _ = await service.call("GET", "/topics")

    found = {topic["type"]: topic for topic in answer["data"]}
    assert set(found) == {"platformEvents", "variables", "events", "alarms"}
    assert found["events"]["lastMessageAt"] is None
    variables = found["variables"]
    assert (variables["messages"], variables["nextSequenceNumber"]) == (20, 21)
    assert variables["ratePerSecond"] == 2.0
    assert variables["lastMessageAt"] == "2024-01-02T03:04:05.000Z"
    assert {"name": "quality", "type": "number"} in variables["properties"]
    assert found["platformEvents"]["openProperties"]


async def test_topics_are_those_the_token_covers(service) -> None:
    token = service.token("hotpath.subscribe:alarms")

    _, answer, _ = await service.call("GET", "/topics", token=token)

    assert [topic["type"] for topic in answer["data"]] == ["alarms"]


# Messages of a topic


async def test_the_last_messages_come_oldest_first(service) -> None:
    await publish(service, *range(30))

    _, answer, _ = await service.call("GET", "/topics/variables/messages?last=3")

    assert numbers(answer) == [28, 29, 30]
    last = answer["data"][-1]
    assert last["body"]["value"] == 29
    assert last["contentType"] == "application/json"
    assert last["applicationProperties"]["objectId"] == "p1"
    assert not last["truncated"]


async def test_a_condition_hides_what_lies_outside_of_it(service) -> None:
    await publish(service, 1, 2, 3)
    await publish(service, 4, objectId="p2")
    token = service.token(condition="objectId = 'p2'")

    _, listed, _ = await service.call("GET", "/topics/variables/messages", token=token)
    _, tried, _ = await service.call(
        "POST", "/topics/variables/explain", json={"filter": "true OR value > 0"}, token=token
    )

    assert numbers(listed) == numbers(tried) == [4]
    assert listed["looked"] == 4


@pytest.mark.parametrize(
    ("body", "shown", "truncated"),
    [
        (b'{"a": NaN, "b": 1e999}', {"a": "nan", "b": "inf"}, False),
        (b"\xff\x00", "\\xff\x00", False),
        (b"[" * 200 + b"]" * 200, None, False),
        (b'"' + b"x" * 70_000 + b'"', None, True),
        (b'{"a": ' + b"1" * 400 + b"}", {"a": "…"}, False),
    ],
    ids=["no numbers", "no text", "nested deep", "large", "long number"],
)
async def test_whatever_a_message_holds_is_shown_as_json(
    service, body: bytes, shown, truncated: bool
) -> None:
    key = TopicKey(TenantId("acme"), Topic.VARIABLES)
    await service.core.publishing.publish(key, [encode_json(body, {"n": 1})], via="test")

    _, answer, _ = await service.call("GET", "/topics/variables/messages")

    [message] = answer["data"]
    assert message["truncated"] is truncated
    if shown is not None:
        assert message["body"] == shown
    assert len(json.dumps(message)) < 2_000


@pytest.mark.parametrize("last", ["0", "101", "x", "", "1e2", "-1"])
async def test_a_bad_last_is_refused(service, last: str) -> None:
    status, answer, _ = await service.call("GET", f"/topics/variables/messages?last={last}")

    assert status == 400
    assert answer["errors"][0]["meta"]["pointer"] == "/last"


# Explaining


async def test_a_filter_is_explained_on_the_last_messages_newest_first(service) -> None:
    await publish(service, 1, 5, 9)

    _, answer, _ = await service.call(
        "POST",
        "/topics/variables/explain",
        json={"filter": "value>3 and not model='x'", "last": 2},
    )

    assert (answer["valid"], answer["canonical"]) == (True, "value > 3 AND NOT model = 'x'")
    assert numbers(answer) == [3, 2]
    assert [message["matches"] for message in answer["data"]] == [None, None]
    tree = answer["data"][0]["explanation"]
    assert (tree["kind"], tree["truth"]) == ("and", None)
    assert [part["kind"] for part in tree["parts"]] == ["predicate", "not"]
    assert tree["parts"][0]["because"] == "value > 3 is true, value is 9"
    assert "model is missing or null" in answer["data"][0]["because"]


async def test_a_wrong_filter_is_an_answer_with_its_place(service) -> None:
    await publish(service, 1)

    status, answer, _ = await service.call(
        "POST", "/topics/variables/explain", json={"filter": "value > 3 AND\n objctId = 'a'"}
    )

    assert status == 200
    assert (answer["valid"], answer["data"]) == (False, [])
    [error] = answer["errors"]
    assert (error["line"], error["column"]) == (2, 2)
    assert "objectId" in error["suggestion"]


async def test_a_very_large_filter_is_tried_on_fewer_messages(service) -> None:
    await publish(service, *range(100))
    text = " OR ".join(f"value = {number}" for number in range(200))

    _, answer, _ = await service.call(
        "POST", "/topics/variables/explain", json={"filter": text, "last": 100}
    )

    assert len(answer["data"]) == 4096 // 200
    assert answer["matched"] == len(answer["data"])


@pytest.mark.parametrize(
    "body",
    [{}, {"filter": 3}, {"filter": "true", "last": 0}, {"filter": "true", "last": True}, []],
    ids=["empty", "no text", "none", "boolean", "array"],
)
async def test_a_bad_request_to_explain_is_refused(service, body) -> None:
    status, _, _ = await service.call("POST", "/topics/variables/explain", json=body)

    assert status == 400


# A subscription's messages


async def test_a_tail_shows_what_matches_and_takes_nothing(service) -> None:
    path = await subscribe(service, "value > 2")
    await publish(service, 1, 2, 3, 4, 5)

    _, first, _ = await service.call("GET", f"{path}/messages?limit=2")
    _, again, _ = await service.call("GET", f"{path}/messages?limit=2")
    await publish(service, 0, 6)
    _, new, _ = await service.call("GET", f"{path}/messages?after={first['next']}")
    _, figures, _ = await service.call("GET", path)

    assert numbers(first) == numbers(again) == [4, 5]
    assert (numbers(new), new["next"], new["more"]) == ([7], 7, False)
    assert (figures["backlog"], figures["locked"], figures["delivered"]) == (4, 0, 0)


async def test_a_tail_goes_on_over_what_has_been_settled(service) -> None:
    path = await subscribe(service)
    await publish(service, 1, 2)
    take(service, path.rpartition("/")[2])

    _, matched, _ = await service.call("GET", f"{path}/messages")
    _, unsettled, _ = await service.call("GET", f"{path}/messages?show=unsettled")

    assert [(m["sequenceNumber"], m["state"]) for m in matched["data"]] == [
        (1, "settled"),
        (2, "locked"),
    ]
    assert numbers(unsettled) == [2]


def take(service, identity: str) -> None:
    """Receive everything; settle the first message."""
    core = service.core
    subscription = core.topics.subscriptions[identity]
    receiver = core.delivering.attach(
        subscription, dead=False, lock=True, wake=lambda: None, closed=lambda: None
    )
    taken = core.delivering.pull(receiver, 100)
    core.settling.complete(subscription, subscription, [(taken[0].seqs[0], taken[0].serial)])


@pytest.mark.parametrize("show", ["unsettled", "matched"])
async def test_pages_of_a_tail_lose_nothing(service, show: str) -> None:
    path = await subscribe(service, "value != 4")
    await publish(service, *range(1, 10))
    found, after = [], 0

    for _ in range(10):
        _, page, _ = await service.call("GET", f"{path}/messages?show={show}&limit=3&after={after}")
        found += numbers(page)
        after = page["next"]
        if not page["more"]:
            break

    assert found == [1, 2, 3, 5, 6, 7, 8, 9]


async def test_dead_letters_are_shown_with_their_reason(service) -> None:
    path = await subscribe(service)
    await publish(service, 1)
    bury(service, path.rpartition("/")[2])
    await service.core.committer.settled()

    _, page, _ = await service.call("GET", f"{path}/messages?show=deadLettered")
    _, why, _ = await service.call("GET", f"{path}/messages/1")

    assert [message["state"] for message in page["data"]] == ["deadLettered"]
    assert page["data"][0]["applicationProperties"]["DeadLetterReason"] == "Broken"
    assert (why["state"], why["deadLetterReason"]) == ("deadLettered", "Broken")
    assert why["deadLetterDescription"] == "a bad sensor"


def bury(service, identity: str) -> None:
    core = service.core
    subscription = core.topics.subscriptions[identity]
    receiver = core.delivering.attach(
        subscription, dead=False, lock=True, wake=lambda: None, closed=lambda: None
    )
    [taken] = core.delivering.pull(receiver, 1)
    core.settling.dead_letter(
        subscription,
        subscription,
        (taken.seqs[0], taken.serial),
        reason="Broken",
        description="a bad sensor",
    )


@pytest.mark.parametrize(
    ("query", "pointer"),
    [("limit=0", "/limit"), ("after=-1", "/after"), ("show=all", "/show"), ("limit=x", "/limit")],
)
async def test_a_bad_query_of_a_tail_is_refused(service, query: str, pointer: str) -> None:
    path = await subscribe(service)

    status, answer, _ = await service.call("GET", f"{path}/messages?{query}")

    assert status == 400
    assert answer["errors"][0]["meta"]["pointer"] == pointer


# Why


async def test_why_tells_fate_reason_and_message(service) -> None:
    path = await subscribe(service, "value > 2 AND objectId = 'p1'")
    await publish(service, 1, 3)

    _, unmatched, _ = await service.call("GET", f"{path}/messages/1")
    _, waiting, _ = await service.call("GET", f"{path}/messages/2")
    _, beyond, _ = await service.call("GET", f"{path}/messages/3")

    assert (unmatched["state"], unmatched["matches"]) == ("notMatched", False)
    assert unmatched["because"] == "value > 2 is false, value is 1"
    assert (waiting["state"], waiting["matches"]) == ("waiting", True)
    assert waiting["message"]["body"]["value"] == 3
    assert (beyond["state"], beyond["message"]) == ("noSuchMessage", None)


@pytest.mark.parametrize("seq", ["0", "-1", "x", "1.5", "9223372036854775808", "%31%20", "٣"])
async def test_what_is_no_sequence_number_is_not_found(service, seq: str) -> None:
    path = await subscribe(service)

    status, _, _ = await service.call("GET", f"{path}/messages/{seq}")

    assert status == 404


async def test_why_hides_what_the_token_may_not_see(service) -> None:
    condition = "objectId = 'p2'"
    token = service.token(condition=condition)
    path = await subscribe(service, "value > 0", token=token)
    await publish(service, 1)

    _, why, _ = await service.call("GET", f"{path}/messages/1", token=token)

    assert (why["state"], why["matches"], why["message"]) == ("notMatched", False, None)
    assert why["explanation"] is None
    assert "p1" not in json.dumps(why)


# Rights, on all of them

CALLS = [
    ("GET", "/topics/variables/messages", None),
    ("POST", "/topics/variables/explain", {"filter": "true"}),
    ("GET", "{subscription}/messages", None),
    ("GET", "{subscription}/messages/1", None),
]


@pytest.mark.parametrize(("method", "path", "body"), CALLS)
@pytest.mark.parametrize(
    ("scope", "status"),
    [("hotpath.publish", 403), ("hotpath.subscribe:alarms", 403), ("hotpath.subscribe", 200)],
)
async def test_the_scope_must_cover_the_topic(
    service, method: str, path: str, body, scope: str, status: int
) -> None:
    path = path.format(subscription=await subscribe(service))

    answered, _, _ = await service.call(method, path, json=body, token=service.token(scope))

    assert answered == status


@pytest.mark.parametrize(("method", "path", "body"), CALLS[2:])
@pytest.mark.parametrize(
    "claims", [{"tenant": "rival"}, {"condition": "value > 0"}], ids=["tenant", "condition"]
)
async def test_anothers_subscription_does_not_exist(
    service, method: str, path: str, body, claims
) -> None:
    path = path.format(subscription=await subscribe(service))

    status, _, _ = await service.call(method, path, json=body, token=service.token(**claims))

    assert status == 404


@pytest.mark.parametrize(("method", "path", "body"), CALLS[:2])
async def test_anothers_messages_are_not_there(service, method: str, path: str, body) -> None:
    await publish(service, 1, tenant="rival")

    _, answer, _ = await service.call(method, path, json=body)

    assert answer["data"] == []


@pytest.mark.parametrize(("method", "path", "body"), CALLS[:2])
async def test_a_condition_that_does_not_fit_the_topic_is_refused(
    service, method: str, path: str, body
) -> None:
    token = service.token(condition="severity = 'high'")

    status, _, _ = await service.call(method, path, json=body, token=token)

    assert status == 400
