"""A service in memory, its time in the test's hands, and peers that stand back to back with it."""

import pytest

from tests.support.broker import running_broker
from tests.support.wire import MemoryPeer, plain, sasl_init


@pytest.fixture
async def broker(tmp_path):
    async with running_broker(tmp_path) as running:
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
