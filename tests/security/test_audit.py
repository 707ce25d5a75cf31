"""The audit log: one line a control call, with who, what, when and the result, and no secret."""

import hashlib
import json
import logging

import pytest

from hotpath.rest.calls import Guard
from hotpath.rest.routes import ROUTES
from hotpath.telemetry import _WideFormatter
from tests.support.broker import running_broker
from tests.support.services import running_service
from tests.support.wire import MemoryPeer, plain, sasl_init

GOOD = {"subscriptionTTL": 60, "sasTokenTTL": 10, "filter": "value > 3"}


@pytest.fixture
def audit(caplog):
    """The audit lines so far, as the JSON log shows them."""
    caplog.set_level(logging.INFO)
    shape = _WideFormatter(as_json=True)

    def lines() -> list[dict]:
        records = [each for each in caplog.records if each.name == "hotpath.audit"]
        return [json.loads(shape.format(record)) for record in records]

    return lines


@pytest.fixture
async def service(tmp_path):
    async with running_service(tmp_path) as running:
        yield running


def control_calls():
    return [route for route in ROUTES if route.guard is Guard.CONTROL]


def path_of(route) -> str:
    return route.path.format(
        type="variables", subscriptionId="s1", publisherId="p1", name="k1", sequenceNumber="1"
    )


async def test_every_control_call_leaves_one_line(service, audit) -> None:
    for route in control_calls():
        await service.call(route.method, path_of(route), headers={"X-Request-Id": route.name})

    found = audit()
    assert [(line["operation"], line["request_id"]) for line in found] == [
        (route.name, route.name) for route in control_calls()
    ]
    for line, route in zip(found, control_calls(), strict=True):
        assert (line["tenant"], line["subject"], line["remote"]) == ("acme", "tester", "127.0.0.1")
        assert (line["method"], line["path"]) == (route.method, path_of(route))
        assert line["status"] >= 200
        assert line["at"]
        assert line["took_ms"] >= 0


@pytest.mark.parametrize(
    ("token", "status"),
    [("", 401), ("nonsense", 401), ("unscoped", 403)],
    ids=["none", "bad", "without the scope"],
)
async def test_refused_calls_are_in_it_too(service, audit, token: str, status: int) -> None:
    token = service.token("hotpath.publish") if token == "unscoped" else token
    await service.call(
        "POST", "/subscriptions/variables", headers={"Authorization": f"Bearer {token}".strip()}
    )

    [line] = audit()
    assert line["status"] == status
    assert line["reason"]
    assert line["tenant"] == ("acme" if status == 403 else None)
    assert line["token_id"] == (hashlib.sha256(token.encode()).hexdigest()[:16] if token else None)


async def test_a_call_that_a_bug_ends_is_in_it(service, audit, monkeypatch) -> None:
    async def explode(*_):
        raise RuntimeError("a bug")

    monkeypatch.setattr(service.core.admin, "create", explode)
    await service.call("POST", "/subscriptions/variables", json=GOOD)

    [line] = audit()
    assert line["status"] == 500


async def test_it_tells_what_the_call_was_about(service, audit) -> None:
    _, made, _ = await service.call("POST", "/subscriptions/variables", json=GOOD)
    _, publisher, _ = await service.call("POST", "/publishers/variables")
    await service.call("POST", f"/subscriptions/variables/{made['subscriptionId']}/revoke")
    await service.call("DELETE", f"/publishers/variables/{publisher['publisherId']}")
    await service.call("POST", "/admin/keys", json={"name": "plant", "tenant": "acme"})
    await service.call("POST", "/admin/keys/plant/retire")

    found = audit()
    assert [line.get("subscription") for line in found[::2]][:2] == [made["subscriptionId"]] * 2
    assert [line.get("publisher") for line in found[1:4:2]] == [publisher["publisherId"]] * 2
    assert [line.get("key_name") for line in found[4:]] == ["plant", "plant"]
    assert found[4]["key_tenant"] == "acme"


async def test_it_holds_no_secret(service, audit) -> None:
    _, made, _ = await service.call("POST", "/subscriptions/variables", json=GOOD)
    _, key, _ = await service.call("POST", "/admin/keys", json={"tenant": "acme"})

    text = json.dumps(audit())
    assert made["sasToken"] not in text
    assert key["secret"] not in text
    assert service.token() not in text


async def test_logins_tokens_and_attaches_over_amqp_leave_one_line_each(tmp_path, audit) -> None:
    async with running_broker(tmp_path) as broker:
        subscription = await broker.subscribe()
        address = f"variables/Subscriptions/{subscription.spec.id}"
        peer = MemoryPeer(broker, container="reader")
        await peer.login(plain("any", broker.sas(address)))
        peer.open()
        peer.receiver(address, name="mine")
        peer.receiver("events/Subscriptions/other", name="theirs")
        await peer.pump()
        await peer.put_token(broker.sas(address))
        await peer.put_token("SharedAccessSignature nonsense")

    login, mine, theirs, put, refused = audit()
    assert (login["operation"], login["mechanism"], login["result"]) == (
        "login",
        "PLAIN",
        "accepted",
    )
    for line in (mine, theirs, put, refused):
        assert (line["container"], bool(line["remote"]), bool(line["at"])) == ("reader", True, True)
    assert (mine["operation"], mine["link"], mine["address"]) == ("attach", "mine", address)
    assert (mine["result"], mine["incoming"], mine["key_name"]) == ("accepted", False, "hotpath")
    assert (theirs["link"], theirs["result"]) == ("theirs", "refused")
    assert theirs["reason"].startswith("amqp:unauthorized-access: ")
    assert (put["operation"], put["result"]) == ("putToken", "accepted")
    assert (refused["operation"], refused["result"]) == ("putToken", "refused")
    assert refused["reason"]


async def test_a_refused_login_over_amqp_leaves_a_line(tmp_path, audit) -> None:
    async with running_broker(tmp_path) as broker:
        peer = MemoryPeer(broker)
        await peer.login(plain("any", "no token"))
        await peer.pump()

    [line] = audit()
    assert (line["operation"], line["result"], line["tenant"]) == ("login", "refused", None)
    assert line["reason"]
    assert "no token" not in str(line)


async def test_what_a_peer_says_is_cut_in_the_audit_log(tmp_path, audit) -> None:
    async with running_broker(tmp_path) as broker:
        peer = MemoryPeer(broker, container="c" * 5_000)
        await peer.login(sasl_init(b"ANONYMOUS"))
        peer.open()
        peer.receiver("x" * 5_000, name="n" * 5_000)
        await peer.pump()

    [line] = audit()
    assert {len(line["container"]), len(line["link"]), len(line["address"])} == {512}
