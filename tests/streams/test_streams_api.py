"""Every call on streams, and every way to get it wrong."""

import asyncio
import json
import re

import pytest

from hotpath.model.stream import StreamStatus
from hotpath.ports import LogFailure
from hotpath.webhooks.interface import DeadEvent, DeliveryAttempt, TestResult
from hotpath.wire.body import body_bytes
from tests.streams.conftest import BASE, KIND, STREAMS, URL, running_api

JSON_API = "application/vnd.api+json"
NEW = {"webhookUrl": URL, "pointIds": ["p"]}


def path(stream, rest="", query=KIND):
    return f"{STREAMS}/{stream['id']}{rest}?{query}"


def faults(body):
    return [
        (error.get("source", {}).get("pointer") or error.get("source", {}).get("parameter"))
        for error in body["errors"]
    ]


# Creating


async def test_a_stream_is_created_as_the_public_text_shows_it(api):
    status, stream, headers = await api.call(
        "POST", f"{STREAMS}?{KIND}", {**NEW, "webhookSecret": "webhook-secret-key"}
    )

    assert status == 201
    assert headers["Location"] == f"{STREAMS}/{stream['id']}"
    assert headers["Cache-Control"] == "no-store"
    assert re.fullmatch(r"[0-9a-f-]{36}", stream.pop("id"))
    assert stream == {
        "type": "point-stream",
        "attributes": {
            "partitionId": "acme",
            "webhookUrl": URL,
            "pointIds": ["p"],
            "status": "active",
            "createdAt": "2024-01-02T03:04:05Z",
            "updatedAt": "2024-01-02T03:04:05Z",
        },
    }


async def test_points_named_twice_are_merged_in_their_order(api):
    stream = await api.create("b", "a", "b")

    assert stream["attributes"]["pointIds"] == ["b", "a"]


async def test_a_secret_is_in_no_answer_and_in_no_record(api):
    stream = await api.create(webhookSecret="hush-hush")

    answers = [await api.call("GET", path(stream)), await api.call("GET", f"{STREAMS}?{KIND}")]
    records = await api.service.store.load("streams")
    assert "hush" not in json.dumps([stream, [body for _, body, _ in answers]])
    assert "hush" not in repr(records)
    assert [s.reveal() for s in api.service.core.streams.secrets(api.stream(stream))] == [
        "hush-hush"
    ]


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        pytest.param({"webhookUrl": None}, ["/webhookUrl"], id="no-url"),
        pytest.param({"webhookUrl": ""}, ["/webhookUrl"], id="empty-url"),
        pytest.param({"webhookUrl": "http://hooks.example.com/"}, ["/webhookUrl"], id="http"),
        pytest.param({"webhookUrl": "https://127.0.0.1/"}, ["/webhookUrl"], id="loopback"),
        pytest.param({"webhookUrl": "https://u:p@example.com/"}, ["/webhookUrl"], id="login"),
        pytest.param({"webhookUrl": "https://x.com/" + "a" * 2_048}, ["/webhookUrl"], id="long"),
        pytest.param({"pointIds": []}, ["/pointIds"], id="no-points"),
        pytest.param({"pointIds": "p"}, ["/pointIds"], id="points-no-list"),
        pytest.param({"pointIds": ["p", 5]}, ["/pointIds/1"], id="number-point"),
        pytest.param({"pointIds": ["p", ""]}, ["/pointIds/1"], id="empty-point"),
        pytest.param({"pointIds": ["x" * 257]}, ["/pointIds/0"], id="long-point"),
        pytest.param({"pointIds": ["p", "q\n"]}, ["/pointIds/1"], id="line-break"),
        pytest.param({"webhookSecret": ""}, ["/webhookSecret"], id="empty-secret"),
        pytest.param({"webhookSecret": 5}, ["/webhookSecret"], id="number-secret"),
        pytest.param({"webhookSecret": "s" * 1_025}, ["/webhookSecret"], id="long-secret"),
        pytest.param({"webhookSecret": "whsec_*"}, ["/webhookSecret"], id="no-base64"),
        pytest.param(
            {"webhookUrl": "https://[::1]/", "webhookSecret": "whsec_"},
            ["/webhookUrl", "/webhookSecret"],
            id="two",
        ),
    ],
)
async def test_a_bad_body_names_every_fault_and_creates_nothing(api, change, wrong):
    body = {key: value for key, value in {**NEW, **change}.items() if value is not None}

    status, answer, _ = await api.call("POST", f"{STREAMS}?{KIND}", body)

    assert (status, faults(answer)) == (400, wrong)
    assert list(api.service.core.streams.live()) == []
    assert await api.service.store.load("stream_points") == []


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"x"', b'{"pointIds":["a"],"pointIds":["b"]}'])
async def test_what_is_no_json_object_is_refused(api, body):
    for method, url in (("POST", f"{STREAMS}?{KIND}"), ("PUT", f"{STREAMS}/x/entities?{KIND}")):
        status, answer, _ = await api.call(
            method, url, data=body, headers={"Content-Type": "application/json"}
        )
        assert status in {400, 404}
        assert answer["errors"][0]["status"] == str(status)


async def test_unknown_fields_are_ignored(api):
    assert (await api.create(later={"a": 1}))["attributes"]["pointIds"] == ["p"]


async def test_a_body_over_the_limit_is_refused(tmp_path):
    async with running_api(tmp_path, max_stream_bytes=2_000) as api:
        status, answer, _ = await api.call(
            "POST", f"{STREAMS}?{KIND}", {**NEW, "pointIds": ["p" * 200] * 10}
        )

        assert status == 400
        assert answer["errors"][0]["meta"] == {"limitBytes": 2_000}


@pytest.mark.parametrize(
    ("settings", "points", "status"),
    [
        ({"points_per_stream_max": 2}, ["a", "b", "c"], 400),
        ({"stream_points_per_tenant_max": 2}, ["a", "b", "c"], 429),
        ({"streams_per_tenant_max": 1}, ["a"], 429),
    ],
)
async def test_limits_hold_and_what_was_refused_leaves_room(tmp_path, settings, points, status):
    async with running_api(tmp_path, **settings) as api:
        first = await api.create("a") if status == 429 and len(points) == 1 else None
        body = {**NEW, "pointIds": points}
        refused, answer, headers = await api.call("POST", f"{STREAMS}?{KIND}", body)
        if first is not None:
            assert (await api.call("DELETE", path(first)))[0] == 204
        created = await api.create("a", "b")
        added, _, _ = await api.call("PUT", path(created, "/entities"), {"pointIds": ["c"]})

        assert refused == status, answer
        assert ("Retry-After" in headers) is (status == 429)
        assert added == (200 if first else status)
        assert len(api.stream(created).feed.points) == (3 if first else 2)


async def test_a_condition_that_does_not_fit_points_is_refused(api):
    token = api.service.token(condition="objectId = 'x'")

    status, answer, _ = await api.call("POST", f"{STREAMS}?{KIND}", NEW, token=token)

    assert status == 400
    assert "condition" in answer["errors"][0]["detail"]


async def test_a_caller_with_a_condition_sees_streams_with_the_same_one_alone(api):
    token = api.service.token(condition="id STARTS_WITH 'p'")
    open_one = await api.create()
    _, narrow, _ = await api.call("POST", f"{STREAMS}?{KIND}", NEW, token=token)

    _, listed, _ = await api.call("GET", f"{STREAMS}?{KIND}", token=token)
    assert [each["id"] for each in listed["data"]] == [narrow["id"]]
    assert (await api.call("GET", path(open_one), token=token))[0] == 404
    assert (await api.call("GET", path(narrow)))[0] == 200


async def test_a_store_that_cannot_be_written_creates_nothing(api):
    for times in (1, 2):
        api.service.store.fail_next(LogFailure("disk"), times=times)
        status, _, headers = await api.call("POST", f"{STREAMS}?{KIND}", NEW)
        assert (status, headers["Retry-After"]) == (503, "5")
        api.service.store._failures.clear()
    assert list(api.service.core.streams.live()) == []
    assert not api.service.core.topics.subscriptions
    assert (await api.create())["attributes"]["status"] == "active"


# Rights


@pytest.mark.parametrize(
    ("claims", "status"),
    [
        ({"tenant": "acme"}, 200),
        ({"tenant": "other", "partitions": ("acme",)}, 200),
        ({"tenant": "other", "partitions": ("north",)}, 403),
        ({"tenant": "acme", "scope": "hotpath.subscribe:points"}, 200),
        ({"tenant": "acme", "scope": "hotpath.subscribe:variables"}, 403),
        ({"tenant": "acme", "scope": "hotpath.publish"}, 403),
    ],
)
async def test_the_token_must_grant_partition_and_scope(api, claims, status):
    token = api.service.token(claims.pop("scope", "hotpath.subscribe"), **claims)

    answered, body, headers = await api.call("GET", f"{STREAMS}?{KIND}", token=token)

    assert answered == status
    if status == 403:
        assert "insufficient_scope" in headers["WWW-Authenticate"]
        assert body["errors"][0]["code"] == "Forbidden"


async def test_a_call_without_a_token_is_unauthorized(api):
    status, body, headers = await api.call("GET", f"{STREAMS}?{KIND}", token="nonsense")

    assert status == 401
    assert headers["WWW-Authenticate"].startswith("Bearer")
    assert body["errors"][0]["status"] == "401"


async def test_streams_of_another_tenant_do_not_exist(api):
    stream = await api.create()
    token = api.service.token(tenant="other", partitions=("acme",))

    for method, rest, body in (
        ("GET", "", None),
        ("GET", "/entities", None),
        ("PUT", "/entities", {"pointIds": ["x"]}),
        ("DELETE", "", None),
        ("POST", "/test", None),
    ):
        status, _, _ = await api.call(method, path(stream, rest), body, token=token)
        assert status == 404, (method, rest)
    _, listed, _ = await api.call("GET", f"{STREAMS}?{KIND}", token=token)
    assert listed["data"] == []


async def test_streams_of_another_partition_do_not_exist(api):
    token = api.service.token(partitions=("north",))
    north = "/streaming/v1/partitions/north/streams"
    _, stream, _ = await api.call("POST", f"{north}?{KIND}", NEW, token=token)

    assert (await api.call("GET", path(stream)))[0] == 404
    assert (await api.call("GET", f"{north}/{stream['id']}?{KIND}", token=token))[0] == 200


async def test_control_calls_are_limited_and_values_are_not(tmp_path):
    async with running_api(tmp_path, rate_limit="1/hour", rate_limit_burst=2) as api:
        statuses = [(await api.call("GET", f"{STREAMS}?{KIND}"))[0] for _ in range(3)]
        values = [
            (await api.call("POST", f"{BASE}/points/values", {"id": "p", "value": n}))[0]
            for n in range(5)
        ]

    assert statuses == [200, 200, 429]
    assert values == [202] * 5


# The query


@pytest.mark.parametrize(
    "query", ["", "type=", "type=point", "type=Point-Stream", f"{KIND}&{KIND}"]
)
async def test_type_must_be_a_point_stream(api, query):
    stream = await api.create()
    calls = [
        ("POST", f"{STREAMS}?{query}", NEW),
        ("GET", f"{STREAMS}?{query}", None),
        ("GET", path(stream, query=query), None),
        ("DELETE", path(stream, query=query), None),
        *((m, path(stream, "/entities", query), NEW) for m in ("GET", "PUT", "DELETE")),
    ]

    for method, url, body in calls:
        status, answer, _ = await api.call(method, url, body)
        assert (status, faults(answer)) == (400, ["type"]), (method, url)


@pytest.mark.parametrize("kind", ["point-stream", "point-streams"])
async def test_both_ways_to_write_the_type_are_the_same(api, kind):
    stream = await api.create()

    assert (await api.call("GET", path(stream, query=f"type={kind}")))[0] == 200


@pytest.mark.parametrize("rest", ["/test", "/deliveries", "/dead-letters", "/dead-letters/redrive"])
async def test_type_is_optional_where_the_public_text_has_no_call(api, rest):
    stream = await api.create()
    method = "GET" if rest in {"/deliveries", "/dead-letters"} else "POST"

    for query, expected in (("", {200, 202}), (KIND, {200, 202}), ("type=x", {400})):
        status, _, _ = await api.call(method, path(stream, rest, query))
        assert status in expected


@pytest.mark.parametrize("limit", ["0", "1001", "-1", "x", "1.5", ""])
async def test_a_page_limit_that_is_none_is_refused(api, limit):
    for url in (STREAMS, path(await api.create(), "/entities", "")[:-1]):
        status, answer, _ = await api.call("GET", f"{url}?{KIND}&page[limit]={limit}")
        assert (status, faults(answer)) == (400, ["page[limit]"])


@pytest.mark.parametrize("cursor", ["x", "1", "1.", "9" * 30 + ".a", "²1.a", "c" * 257])
async def test_a_cursor_that_is_none_does_no_harm(api, cursor):
    await api.create()

    status, _, _ = await api.call("GET", f"{STREAMS}?{KIND}&page[cursor]={cursor}")

    assert status in {200, 400}


async def test_unknown_streams_are_not_found(api):
    for method, rest, body in (
        ("GET", "", None),
        ("DELETE", "", None),
        ("PUT", "/entities", {"pointIds": ["p"]}),
        ("POST", "/secret/rotate", {"webhookSecret": "x"}),
    ):
        status, answer, _ = await api.call(method, f"{STREAMS}/nobody{rest}?{KIND}", body)
        assert (status, answer["errors"][0]["code"]) == (404, "NotFound")


# Lists


async def test_streams_are_listed_page_by_page_oldest_first(api):
    created = []
    for number in range(5):
        await api.service.clock.advance(1)
        created.append((await api.create(f"p{number}"))["id"])

    seen, url = [], f"{STREAMS}?type=point-streams&page[limit]=2"
    while url:
        status, page, _ = await api.call("GET", url)
        assert status == 200
        assert set(page) == {"data", "links"}
        seen += [stream["id"] for stream in page["data"]]
        url = page["links"]["next"]

    assert seen == created


async def test_a_page_ends_when_its_streams_have_many_points(api, monkeypatch):
    monkeypatch.setattr("hotpath.webhooks.api.PAGE_POINTS", 3)
    for _ in range(3):
        await api.service.clock.advance(1)
        await api.create("a", "b")

    _, page, _ = await api.call("GET", f"{STREAMS}?{KIND}")

    assert len(page["data"]) == 1
    assert page["links"]["next"]


async def test_points_are_listed_page_by_page(api):
    stream = await api.create("c", "a", "ö/&?", "b")

    seen, url = [], path(stream, "/entities", f"{KIND}&page[limit]=3")
    while url:
        _, page, _ = await api.call("GET", url)
        seen += page["data"]
        url = page["links"]["next"]

    assert seen == [{"id": point, "type": "point"} for point in ("a", "b", "c", "ö/&?")]


# Points


async def test_adding_is_a_union_and_removing_passes_over_what_is_not_there(api):
    stream = await api.create("a")
    await api.service.clock.advance(2_000)

    status, added, _ = await api.call(
        "PUT", path(stream, "/entities"), {"pointIds": ["b", "a", "b"]}
    )
    again, same, _ = await api.call("PUT", path(stream, "/entities"), {"pointIds": ["b"]})
    removed, left, _ = await api.call(
        "DELETE", path(stream, "/entities"), {"pointIds": ["a", "never was", "a"]}
    )

    assert (status, again, removed) == (200, 200, 200)
    assert added["attributes"]["pointIds"] == same["attributes"]["pointIds"] == ["a", "b"]
    assert left["attributes"]["pointIds"] == ["b"]
    assert left["attributes"]["createdAt"] == stream["attributes"]["createdAt"]
    assert left["attributes"]["updatedAt"] == "2024-01-02T03:04:07Z"


async def test_a_stream_may_lose_all_its_points_and_stays(api):
    stream = await api.create("a", "b")

    _, empty, _ = await api.call("DELETE", path(stream, "/entities"), {"pointIds": ["a", "b"]})
    _, shown, _ = await api.call("GET", path(stream))
    _, points, _ = await api.call("GET", path(stream, "/entities"))

    assert empty["attributes"]["pointIds"] == shown["attributes"]["pointIds"] == []
    assert points["data"] == []
    assert await api.service.store.load("stream_points") == []


@pytest.mark.parametrize("written", [0, 1], ids=["nothing", "the-definition-alone"])
@pytest.mark.parametrize("method", ["PUT", "DELETE"])
async def test_a_change_that_cannot_be_written_changes_nothing(api, method, written):
    stream = await api.create("a", "b")
    api.service.store.fail_next(LogFailure("disk"), after=written)

    status, _, _ = await api.call(method, path(stream, "/entities"), {"pointIds": ["a", "c"]})

    _, shown, _ = await api.call("GET", path(stream))
    assert status == 503
    assert shown == stream


async def test_changes_of_one_stream_at_the_same_time_are_all_kept(api):
    stream = await api.create("p0")

    statuses = await asyncio.gather(
        *(
            api.call("PUT", path(stream, "/entities"), {"pointIds": [f"p{n}", f"q{n}"]})
            for n in range(20)
        )
    )

    assert {status for status, _, _ in statuses} == {200}
    assert len(api.stream(stream).feed.points) == 40


# Deleting


async def test_a_deleted_stream_is_gone_with_all_it_had(api):
    stream = await api.create("a", webhookSecret="x")
    ended = []
    api.service.core.streams.on_ended = ended.append

    status, body, _ = await api.call("DELETE", path(stream))

    assert (status, body) == (204, None)
    assert (await api.call("GET", path(stream)))[0] == 404
    assert (await api.call("DELETE", path(stream)))[0] == 404
    assert [each.id for each in ended] == [stream["id"]]
    assert ended[0].deleted
    for kind in ("streams", "stream_points"):
        assert await api.service.store.load(kind) == []


async def test_a_stream_that_cannot_be_deleted_stays(api):
    stream = await api.create()
    api.service.store.fail_next(LogFailure("disk"))

    assert (await api.call("DELETE", path(stream)))[0] == 503
    assert (await api.call("GET", path(stream)))[0] == 200


# Secrets


async def test_both_secrets_sign_while_one_takes_over(api):
    stream = await api.create(webhookSecret="old")
    live, streams = api.stream(stream), api.service.core.streams

    status, shown, _ = await api.call(
        "POST",
        path(stream, "/secret/rotate", ""),
        {"webhookSecret": "whsec_bmV3", "overlapSeconds": 60},
    )

    assert status == 200
    assert shown["attributes"] == stream["attributes"]
    assert [secret.reveal() for secret in streams.secrets(live)] == ["whsec_bmV3", "old"]
    await api.service.clock.advance(60_000)
    assert [secret.reveal() for secret in streams.secrets(live)] == ["whsec_bmV3"]


async def test_the_overlap_is_a_day_unless_told_otherwise(api):
    stream = await api.create(webhookSecret="old")
    live, streams = api.stream(stream), api.service.core.streams

    await api.call("POST", path(stream, "/secret/rotate"), {"webhookSecret": "new"})

    await api.service.clock.advance(86_400_000 - 1)
    assert len(streams.secrets(live)) == 2
    await api.service.clock.advance(1)
    assert len(streams.secrets(live)) == 1


@pytest.mark.parametrize(
    ("body", "wrong"),
    [
        ({}, ["/webhookSecret"]),
        ({"webhookSecret": ""}, ["/webhookSecret"]),
        ({"webhookSecret": "whsec_!"}, ["/webhookSecret"]),
        ({"webhookSecret": "x", "overlapSeconds": -1}, ["/overlapSeconds"]),
        ({"webhookSecret": "x", "overlapSeconds": 2_592_001}, ["/overlapSeconds"]),
        ({"webhookSecret": "x", "overlapSeconds": "60"}, ["/overlapSeconds"]),
        ({"webhookSecret": "x", "overlapSeconds": True}, ["/overlapSeconds"]),
    ],
)
async def test_a_rotation_that_is_wrong_changes_nothing(api, body, wrong):
    stream = await api.create(webhookSecret="old")

    status, answer, _ = await api.call("POST", path(stream, "/secret/rotate"), body)

    assert (status, faults(answer)) == (400, wrong)
    secrets = api.service.core.streams.secrets(api.stream(stream))
    assert [secret.reveal() for secret in secrets] == ["old"]


async def test_a_rotation_that_cannot_be_written_changes_nothing(api):
    stream = await api.create(webhookSecret="old")
    api.service.store.fail_next(LogFailure("disk"))

    status, _, _ = await api.call("POST", path(stream, "/secret/rotate"), {"webhookSecret": "n"})

    assert status == 503
    secrets = api.service.core.streams.secrets(api.stream(stream))
    assert [secret.reveal() for secret in secrets] == ["old"]


# Deliveries


async def test_a_test_tells_what_became_of_it(api):
    stream = await api.create()
    api.deliveries.result = TestResult(False, 500, 31, "the endpoint answered 500")

    status, body, _ = await api.call("POST", path(stream, "/test", ""))

    assert status == 200
    assert body == {
        "delivered": False,
        "httpStatus": 500,
        "durationMs": 31,
        "reason": "the endpoint answered 500",
    }


async def test_a_test_that_succeeds_makes_a_disabled_stream_active(api):
    stream = await api.create()
    live = api.stream(stream)
    await api.service.core.streams.report(live, StreamStatus.DISABLED, "410")
    _, disabled, _ = await api.call("GET", path(stream))

    _, body, _ = await api.call("POST", path(stream, "/test", ""))

    assert body["delivered"] is True
    assert body["reason"] is None
    assert (disabled["attributes"]["status"], disabled["attributes"]["statusReason"]) == (
        "disabled",
        "410",
    )
    assert live.status is StreamStatus.ACTIVE
    assert "statusReason" not in (await api.call("GET", path(stream)))[1]["attributes"]


async def test_attempts_are_listed_as_they_are_given(api):
    stream = await api.create()
    api.deliveries.attempts = [
        DeliveryAttempt(f"a{n}", "e", "p", 1, "failed", None, 5, "reset", 1_000) for n in range(3)
    ]

    _, page, _ = await api.call("GET", path(stream, "/deliveries", "page[limit]=2"))
    _, rest, _ = await api.call("GET", page["links"]["next"])

    assert [each["id"] for each in (*page["data"], *rest["data"])] == ["a0", "a1", "a2"]
    assert rest["links"]["next"] is None
    assert page["data"][0] == {
        "id": "a0",
        "eventId": "e",
        "pointId": "p",
        "attempt": 1,
        "status": "failed",
        "httpStatus": None,
        "durationMs": 5,
        "reason": "reset",
        "at": "1970-01-01T00:00:01.000Z",
    }


async def test_dead_letters_are_listed_and_redriven(api):
    stream = await api.create()
    api.deliveries.letters = [
        DeadEvent("7", b'{"id":"p","value":"1"}', "400", 1, 1_000, None),
        DeadEvent("8", b"no json", "gone", 0, None, None),
    ]

    _, page, _ = await api.call("GET", path(stream, "/dead-letters", ""))
    named = await api.call("POST", path(stream, "/dead-letters/redrive", ""), {"ids": ["8", "99"]})
    everything = await api.call("POST", path(stream, "/dead-letters/redrive", ""))

    assert page["data"][0] == {
        "id": "7",
        "event": {"id": "p", "value": "1"},
        "reason": "400",
        "attempts": 1,
        "firstAttemptAt": "1970-01-01T00:00:01.000Z",
        "lastAttemptAt": None,
    }
    assert page["data"][1]["event"] == {}
    assert (named[0], named[1]) == (202, {"redriven": 1})
    assert everything[1] == {"redriven": 2}
    assert api.deliveries.redriven == [["8", "99"], None]


@pytest.mark.parametrize("ids", ["7", [7], [""], {}])
async def test_ids_to_redrive_must_be_strings(api, ids):
    stream = await api.create()

    status, _, _ = await api.call("POST", path(stream, "/dead-letters/redrive"), {"ids": ids})

    assert status == 400


# Media types


@pytest.mark.parametrize(
    ("headers", "answered"),
    [
        ({}, "application/json"),
        ({"Accept": "*/*"}, "application/json"),
        ({"Accept": JSON_API}, JSON_API),
        ({"Accept": "application/json"}, "application/json"),
        ({"Content-Type": JSON_API, "Accept": "*/*"}, JSON_API),
        ({"Content-Type": JSON_API, "Accept": "application/json"}, "application/json"),
    ],
)
async def test_json_api_is_spoken_to_those_who_ask_for_it(api, headers, answered):
    headers = {"Content-Type": "application/json", **headers}
    good = await api.call(
        "POST", f"{STREAMS}?{KIND}", data=json.dumps(NEW).encode(), headers=headers
    )
    bad = await api.call("POST", f"{STREAMS}?{KIND}", data=b"{", headers=headers)

    assert (good[0], bad[0]) == (201, 400)
    assert good[2]["Content-Type"].startswith(answered)
    assert bad[2]["Content-Type"].startswith(answered)


async def test_other_media_types_are_refused_and_so_is_json_api_elsewhere(api):
    body = json.dumps(NEW).encode()

    text = await api.call("POST", f"{STREAMS}?{KIND}", data=body, headers={"Content-Type": "a/b"})
    other = await api.call("POST", "/qel/check", data=b"{}", headers={"Content-Type": JSON_API})

    assert text[0] == other[0] == 400
    assert "id" in other[1]["errors"][0]
    assert other[1]["errors"][0]["code"] == "400"


@pytest.mark.parametrize(
    ("method", "url", "status"),
    [("PATCH", f"{STREAMS}?{KIND}", 405), ("GET", "/streaming/v1/nothing", 404)],
)
async def test_refusals_of_the_server_have_the_same_shape(api, method, url, status):
    answered, body, headers = await api.call(method, url)

    assert answered == status
    [error] = body["errors"]
    assert error["status"] == str(status)
    assert error["id"] == headers["X-Request-Id"]
    assert ("Allow" in headers) is (status == 405)


# Values


async def stored(api):
    [topic] = [t.key for t in api.service.core.topics if t.key.topic == "points"]
    batches = await api.service.log.read(topic, 1, bytes_max=1 << 30)
    return [json.loads(body_bytes(p)) for batch in batches for p in batch.payloads]


async def test_values_are_accepted_alone_as_an_array_and_as_lines(api):
    url = f"{BASE}/points/values"
    one = await api.call("POST", url, {"id": "p", "value": 22})
    many = await api.call("POST", url, [{"id": "p", "value": "22"}, {"id": "q", "value": True}])
    lines = await api.call(
        "POST",
        url,
        data=b'{"id":"p","value":1e2,"qualityOfValue":1}\n\n{"id":"q","value":false}',
        headers={"Content-Type": "application/x-ndjson"},
    )

    assert [answer[:2] for answer in (one, many, lines)] == [
        (202, {"accepted": 1}),
        (202, {"accepted": 2}),
        (202, {"accepted": 2}),
    ]
    assert [(e["id"], e["value"], e["changed"]) for e in await stored(api)] == [
        ("p", "22", 1),
        ("p", "22", 0),
        ("q", "true", 1),
        ("p", "100", 1),
        ("q", "false", 1),
    ]
    assert (await stored(api))[0]["lastUpdatedAt"] == "2024-01-02T03:04:05.000Z"


async def test_of_a_bad_array_nothing_is_accepted(api):
    body = [{"id": "p", "value": 1}, {"id": "", "value": None}, 5]

    status, answer, _ = await api.call("POST", f"{BASE}/points/values", body)

    assert (status, faults(answer)) == (400, ["/1/id", "/1/value", "/2"])
    assert not [t for t in api.service.core.topics if t.key.topic == "points"]


async def test_of_bad_lines_those_before_are_accepted(api):
    status, answer, _ = await api.call(
        "POST",
        f"{BASE}/points/values",
        data=b'{"id":"p","value":1}\n{"id":"p"}\n{"id":"p","value":3}',
        headers={"Content-Type": "application/x-ndjson"},
    )

    assert status == 400
    assert answer["errors"][0]["meta"] == {"line": 2, "accepted": 1}
    assert len(await stored(api)) == 1


@pytest.mark.parametrize(
    ("claims", "status"),
    [
        ({"scope": "hotpath.publish"}, 202),
        ({"scope": "hotpath.publish:points"}, 202),
        ({"scope": "hotpath.publish:variables"}, 403),
        ({"scope": "hotpath.subscribe"}, 403),
        ({"scope": "hotpath.publish", "tenant": "other"}, 403),
        ({"scope": "hotpath.publish", "tenant": "other", "partitions": ("acme",)}, 202),
    ],
)
async def test_values_need_scope_and_partition(api, claims, status):
    token = api.service.token(claims.pop("scope"), **claims)

    answered, _, _ = await api.call(
        "POST", f"{BASE}/points/values", {"id": "p", "value": 1}, token=token
    )

    assert answered == status


async def test_too_many_points_are_refused_with_a_clear_error(tmp_path):
    async with running_api(tmp_path, points_per_tenant_max=1) as api:
        body = [{"id": "p", "value": 1}, {"id": "q", "value": 1}]
        status, answer, _ = await api.call("POST", f"{BASE}/points/values", body)

    assert status == 429
    assert "1 points at most" in answer["errors"][0]["detail"]


async def test_a_value_that_cannot_be_logged_is_refused(api):
    api.service.log.fail_next(LogFailure("disk", full=True))

    status, _, headers = await api.call("POST", f"{BASE}/points/values", {"id": "p", "value": 1})

    assert (status, headers["Retry-After"]) == (503, "5")
