"""Who may do what on the feed: wrong tokens, other resources, and conditions."""

import base64
import hashlib
import hmac
import json
from urllib.parse import parse_qsl, quote

import pytest
from proton import Message
from proton.utils import LinkDetached

from tests.e2e.feeds import (
    UNAUTHORIZED,
    attach_by_cbs,
    attach_by_password,
    over_amqp,
    quality_of,
    receive_all,
)
from tests.support.process import access_of, amqp_connection

pytestmark = [pytest.mark.slow, pytest.mark.interop]

NOT_FOUND = "amqp:not-found"


def fields_of(token):
    return dict(parse_qsl(token.removeprefix("SharedAccessSignature ")))


def token_of(fields):
    text = "&".join(f"{name}={quote(value, safe='')}" for name, value in fields.items())
    return f"SharedAccessSignature {text}"


WAYS = {"$cbs": attach_by_cbs, "PLAIN": attach_by_password}


@pytest.fixture
def feed(server, tenant):
    """A subscription, and the caller's token."""
    return server.subscribe("value > 0", token=server.token(tenant=tenant))


@pytest.mark.parametrize("way", WAYS)
def test_the_token_of_a_subscription_opens_it(feed, way):
    assert WAYS[way](feed, feed.token, feed.address) is None
    assert WAYS[way](feed, feed.token, f"{feed.address}/$DeadLetterQueue") is None


def a_changed_signature(token):
    fields = fields_of(token)
    first = "B" if fields["sig"][0] == "A" else "A"
    return token_of({**fields, "sig": first + fields["sig"][1:]})


def a_longer_life(token):
    fields = fields_of(token)
    return token_of({**fields, "se": str(int(fields["se"]) + 1)})


def another_resource(token):
    fields = fields_of(token)
    return token_of({**fields, "sr": fields["sr"].rpartition("/")[0]})


def another_key(token):
    return token_of({**fields_of(token), "skn": "nobody"})


def a_guessed_key(token):
    fields = fields_of(token)
    resource = quote(fields["sr"], safe="")
    digest = hmac.new(b"secret", f"{resource}\n{fields['se']}".encode(), hashlib.sha256).digest()
    return token_of({**fields, "sig": base64.b64encode(digest).decode()})


WRONG = {
    "changed signature": a_changed_signature,
    "longer life": a_longer_life,
    "another resource": another_resource,
    "another key": another_key,
    "guessed key": a_guessed_key,
    "no signature": lambda token: token.partition("&sig=")[0],
    "nonsense": lambda _: "SharedAccessSignature sr=&sig=&se=&skn=",
    "empty": lambda _: "x",
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("wrong", WRONG)
def test_a_tampered_token_opens_nothing(feed, way, wrong):
    token = WRONG[wrong](feed.token)
    assert token != feed.token

    assert WAYS[way](feed, token, feed.address) == UNAUTHORIZED


@pytest.mark.parametrize("way", WAYS)
def test_an_expired_token_opens_nothing(server, tenant, feed, way):
    token = server.token(tenant=tenant, minutes=-5)

    assert WAYS[way](feed, token, feed.address) == UNAUTHORIZED


@pytest.mark.parametrize("way", WAYS)
def test_a_token_opens_no_other_resource_whether_it_exists_or_not(server, tenant, feed, way):
    other = server.subscribe("value > 0", token=server.token(tenant=tenant))

    assert WAYS[way](feed, feed.token, other.address) == UNAUTHORIZED
    assert WAYS[way](feed, feed.token, "variables/Subscriptions/none") == UNAUTHORIZED
    assert WAYS[way](feed, feed.token, "variables") == UNAUTHORIZED


@pytest.mark.parametrize("way", WAYS)
def test_the_token_of_a_deleted_subscription_finds_nothing(server, tenant, feed, way):
    path = f"/subscriptions/variables/{feed.id}"
    assert server.call("DELETE", path, token=server.token(tenant=tenant)).status == 204

    assert WAYS[way](feed, feed.token, feed.address) == NOT_FOUND


def test_a_jwt_of_another_tenant_finds_nothing(server, tenant, feed):
    stranger = server.token(tenant=f"{tenant}-other")

    assert attach_by_password(feed, stranger, feed.address) == NOT_FOUND


def refused_sender(access, token, address):
    try:
        with amqp_connection(access.host, token) as connection:
            connection.create_sender(address).send(Message(properties={"value": 1}))
    except LinkDetached as error:
        return error.condition
    return None


def test_a_token_to_listen_cannot_send(feed):
    assert refused_sender(feed, feed.token, "variables") == UNAUTHORIZED


def test_a_token_to_send_cannot_listen_nor_send_elsewhere(server, tenant, feed):
    answer = server.call("POST", "/publishers/variables", token=server.token(tenant=tenant))
    publisher = access_of(answer)

    assert refused_sender(publisher, publisher.token, "variables") is None
    assert refused_sender(publisher, publisher.token, "events") == UNAUTHORIZED
    assert attach_by_password(publisher, publisher.token, feed.address) == UNAUTHORIZED


def test_a_jwt_without_the_scope_cannot_do_it(server, tenant, feed):
    only_publish = server.token(tenant=tenant, scope="hotpath.publish")
    only_listen = server.token(tenant=tenant, scope="hotpath.subscribe:variables")

    assert attach_by_password(feed, only_publish, feed.address) == UNAUTHORIZED
    assert attach_by_password(feed, only_listen, feed.address) is None
    assert refused_sender(feed, only_listen, "variables") == UNAUTHORIZED


def test_without_a_token_there_is_nothing(feed):
    with amqp_connection(feed.host, None) as connection, pytest.raises(LinkDetached) as refused:
        connection.create_receiver(feed.address)
    assert refused.value.condition == UNAUTHORIZED


# Conditions: what a caller's own right allows, whatever the filter says.

CONDITION = "objectId = 'own'"
WIDE = {
    "or": "value > 0 OR objectId != 'own'",
    "always": "value = 1 OR NOT value = 1",
    "negation": "NOT (objectId = 'own' AND value = 2)",
    "the other": "objectId = 'foreign'",
    "literal": "true",
    "null": "objectId != null",
}
BREAKING_OUT = {
    "parentheses": "value > 0) OR (value > 0",
    "comment": "value > 0 -- ",
    "quote": "objectId = 'own' OR 'a' = 'a",
    "semicolon": "value > 0; true",
}
BOTH = [
    {"objectId": name, "variable": "v", "value": value, "quality": value}
    for name in ("own", "foreign")
    for value in (1, 2)
]


@pytest.mark.parametrize("filter_text", WIDE.values(), ids=WIDE)
def test_no_filter_widens_a_condition(server, tenant, filter_text):
    everybody = server.token(tenant=tenant)
    narrow = server.token(tenant=tenant, condition=CONDITION)
    access = server.subscribe(filter_text, token=narrow, startFrom="earliest")

    server.publish(BOTH, token=everybody)
    over_amqp(server, tenant, [Message(body=json.dumps(facts).encode()) for facts in BOTH])

    messages = receive_all(access)
    objects = {
        (m.properties or {}).get("objectId") or json.loads(bytes(m.body))["objectId"]
        for m in messages
    }
    assert objects <= {"own"}
    assert all(quality_of(message) in (1, 2) for message in messages)
    assert bool(messages) == (filter_text != WIDE["the other"])


@pytest.mark.parametrize("filter_text", BREAKING_OUT.values(), ids=BREAKING_OUT)
def test_no_text_breaks_out_of_a_condition(server, tenant, filter_text):
    token = server.token(tenant=tenant, condition=CONDITION)
    wanted = {"subscriptionTTL": 60, "sasTokenTTL": 30, "filter": filter_text}

    answer = server.call("POST", "/subscriptions/variables", wanted, token=token)

    assert answer.status == 400


def test_a_caller_with_a_condition_does_not_see_wider_subscriptions(server, tenant, feed):
    narrow = server.token(tenant=tenant, condition=CONDITION)

    assert server.call("GET", f"/subscriptions/variables/{feed.id}", token=narrow).status == 404
    assert attach_by_password(feed, narrow, feed.address) == NOT_FOUND
