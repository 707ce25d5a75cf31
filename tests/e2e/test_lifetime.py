"""A subscription's life: renewed, deleted, reaped when idle, and its tokens' ends."""

import time

import pytest
from proton import Timeout
from proton.utils import LinkDetached

from tests.e2e.feeds import attach_by_password, put_token
from tests.support.process import (
    access_of,
    amqp_connection,
    eventually,
    running_server,
)

pytestmark = [pytest.mark.slow, pytest.mark.interop]

#: An API minute, seconds: the shortest TTL is 5 minutes, so a second and a half.
MINUTE = 0.3
SHORT = {"subscriptionTTL": 5.5, "sasTokenTTL": 5}
MESSAGE = {"objectId": "o", "variable": "v", "value": 1}


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """A server whose minutes are short."""
    with running_server(tmp_path_factory.mktemp("quick") / "data", minute=MINUTE) as running:
        yield running


def is_there(server, access, token):
    return server.call("GET", f"/subscriptions/variables/{access.id}", token=token).status == 200


def test_an_idle_subscription_is_reaped_after_its_time(quick, tenant):
    token = quick.token(tenant=tenant)
    begun = time.monotonic()
    access = quick.subscribe("value > 0", token=token, **SHORT)

    eventually(lambda: not is_there(quick, access, token), seconds=8)

    assert time.monotonic() - begun >= SHORT["subscriptionTTL"] * MINUTE
    assert quick.call("GET", "/subscriptions", token=token).body["data"] == []
    path = f"/subscriptions/variables/{access.id}"
    assert quick.call("PUT", path, token=token).status == 404
    assert quick.call("DELETE", path, token=token).status == 404
    assert attach_by_password(access, token, access.address) == "amqp:not-found"


def test_a_matching_message_keeps_a_subscription_alive(quick, tenant):
    token = quick.token(tenant=tenant)
    access = quick.subscribe("value > 0", token=token, **SHORT)
    deadline = time.monotonic() + 2 * SHORT["subscriptionTTL"] * MINUTE

    def published_for_long_enough():
        quick.publish(MESSAGE, token=token)
        assert is_there(quick, access, token)
        return time.monotonic() > deadline

    eventually(published_for_long_enough, seconds=10)


def test_a_message_that_does_not_match_keeps_nothing_alive(quick, tenant):
    token = quick.token(tenant=tenant)
    access = quick.subscribe("value > 5", token=token, **SHORT)

    def gone():
        quick.publish(MESSAGE, token=token)
        return not is_there(quick, access, token)

    eventually(gone, seconds=8)


def test_an_attached_client_keeps_a_subscription_alive(quick, tenant):
    token = quick.token(tenant=tenant)
    access = quick.subscribe("value > 0", token=token, **SHORT)
    with amqp_connection(access.host, token) as connection:
        receiver = connection.create_receiver(access.address, credit=1)
        with pytest.raises(Timeout):
            receiver.receive(timeout=2 * SHORT["subscriptionTTL"] * MINUTE)
        assert is_there(quick, access, token)

    eventually(lambda: not is_there(quick, access, token), seconds=8)


def test_looking_and_renewing_keep_nothing_alive(quick, tenant):
    token = quick.token(tenant=tenant)
    access = quick.subscribe("value > 0", token=token, **SHORT)
    path = f"/subscriptions/variables/{access.id}"

    eventually(lambda: quick.call("PUT", path, token=token).status == 404, seconds=8)


def test_a_link_is_detached_when_its_token_ends_and_the_connection_stays(quick, tenant):
    token = quick.token(tenant=tenant)
    access = quick.subscribe("value > 0", token=token, subscriptionTTL=600, sasTokenTTL=5)
    lasting = quick.subscribe("value > 0", token=token, subscriptionTTL=600, sasTokenTTL=500)

    with amqp_connection(access.host, None) as connection:
        assert put_token(connection, access.token, access.url)[0] in (200, 202)
        assert put_token(connection, lasting.token, lasting.url)[0] in (200, 202)
        first = connection.create_receiver(access.address, credit=1)
        second = connection.create_receiver(lasting.address, credit=1)

        with pytest.raises(LinkDetached) as ended:
            first.receive(timeout=10)

        assert ended.value.condition == "amqp:unauthorized-access"
        quick.publish(MESSAGE, token=token)
        assert second.receive(timeout=5).properties["value"] == 1
        second.accept()


def test_an_ended_token_is_refused_and_a_renewed_one_goes_on(quick, tenant):
    token = quick.token(tenant=tenant)
    access = quick.subscribe("value > 0", token=token, subscriptionTTL=600, sasTokenTTL=5)
    quick.publish(MESSAGE, token=token)

    eventually(lambda: attach_by_password(access, access.token, access.address), seconds=8)
    assert attach_by_password(access, access.token, access.address) == "amqp:unauthorized-access"
    body = {"sasTokenTTL": 500}
    answer = quick.call("PUT", f"/subscriptions/variables/{access.id}", body, token=token)

    assert answer.status == 200
    renewed = access_of(answer)
    assert (renewed.id, renewed.url) == (access.id, access.url)
    assert renewed.token != access.token
    with amqp_connection(renewed.host, renewed.token) as connection:
        receiver = connection.create_receiver(renewed.address, credit=1)
        assert receiver.receive(timeout=5).properties["value"] == 1
        receiver.accept()


def test_an_older_token_stays_good_to_its_end(server, tenant):
    token = server.token(tenant=tenant)
    access = server.subscribe("value > 0", token=token)

    answer = server.call("PUT", f"/subscriptions/variables/{access.id}", token=token)

    assert answer.status == 200
    assert attach_by_password(access, access.token, access.address) is None
    assert attach_by_password(access, answer.body["sasToken"], access.address) is None


def test_deleting_detaches_who_is_there(server, tenant):
    token = server.token(tenant=tenant)
    access = server.subscribe("value > 0", token=token)
    with amqp_connection(access.host, access.token) as connection:
        receiver = connection.create_receiver(access.address, credit=1)
        assert server.shown(access, token=token)["clients"] == 1

        answer = server.call("DELETE", f"/subscriptions/variables/{access.id}", token=token)

        assert (answer.status, answer.body) == (204, None)
        with pytest.raises(LinkDetached) as ended:
            receiver.receive(timeout=5)
    assert ended.value.condition == "amqp:resource-deleted"
    assert not is_there(server, access, token)
