"""A service in memory, its time in the test's hands, and peers that stand back to back with it."""

import pytest

from tests.cluster.far import far_broker
from tests.support.broker import running_broker
from tests.support.wire import MemoryPeer, plain, sasl_init

#: What these test holds whichever node of a cluster a client comes to.
WHEREVER = {
    "test_expiry_and_schedule",
    "test_management",
    "test_modified",
    "test_receiving",
    "test_release",
    "test_revocation",
    "test_settlement",
}


def pytest_generate_tests(metafunc):
    module = metafunc.module.__name__.rpartition(".")[2]
    if module in WHEREVER and "broker" in metafunc.fixturenames:
        metafunc.parametrize("broker", ["here", "elsewhere"], indirect=True)


@pytest.fixture
async def broker(request, tmp_path):
    """A service; with `elsewhere` its subscriptions are served by another node than its clients."""
    elsewhere = getattr(request, "param", "here") == "elsewhere"
    async with (far_broker if elsewhere else running_broker)(tmp_path) as running:
        yield running


@pytest.fixture
def feed_of():
    """The address of a subscription's feed."""
    return lambda subscription: f"variables/Subscriptions/{subscription.spec.id}"


@pytest.fixture
def connect(broker):
    """A peer with an open connection, by a SAS token, or without any right."""

    async def connected(token: str | None = None, **options) -> MemoryPeer:
        peer = MemoryPeer(broker, **options)
        await peer.login(plain("any", token) if token else sasl_init(b"ANONYMOUS"))
        peer.open()
        await peer.pump()
        return peer

    return connected


@pytest.fixture
def receiver_on(broker, connect, feed_of):
    """A peer that receives a subscription's feed, and its link."""

    async def receiving(subscription, *, credit: int = 10, below: str = "", **options):
        peer = await connect(broker.sas(feed_of(subscription)))
        link = peer.receiver(feed_of(subscription) + below, credit=credit, **options)
        await peer.pump()
        return peer, link

    return receiving


@pytest.fixture
def publisher_to(broker, connect):
    """A peer that publishes with a publisher's token, and its link."""

    async def publishing(topic_address: str = "variables"):
        token = broker.publisher_sas(await broker.open_publisher())
        peer = await connect(token)
        link = peer.sender(topic_address)
        await peer.pump()
        return peer, link

    return publishing
