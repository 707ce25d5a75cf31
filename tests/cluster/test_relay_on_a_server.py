"""The relay while a real nats-server goes away, and comes back."""

import asyncio

import pytest

from hotpath.model.errors import Unavailable
from tests.cluster.relaying import relayed_pair
from tests.support.nats import MISSING, nats_server


@pytest.fixture
def server(tmp_path):
    if MISSING:
        pytest.skip(MISSING)
    with nats_server(tmp_path / "nats") as started:
        yield started


@pytest.mark.slow
async def test_a_short_absence_of_the_server_is_bridged(server, tmp_path):
    async with relayed_pair(tmp_path, nats_url=server.url) as pair:
        subscription = await pair.owner.broker.subscribe()
        client = pair.client(subscription, credit=100)
        await pair.owner.broker.publish(1)
        await pair.until(lambda: client.seqs == [1])

        server.kill()
        client.complete()
        await pair.owner.broker.publish(2)
        server.start()

        await pair.until(lambda: client.seqs == [1, 2])
        await pair.until(lambda: client.confirmed == [{}])
        assert subscription.settled_total == 1
        assert not client.is_closed


@pytest.mark.slow
async def test_a_long_absence_ends_the_links_and_later_ones_find_everything(server, tmp_path):
    async with relayed_pair(tmp_path, nats_url=server.url) as pair:
        subscription = await pair.owner.broker.subscribe()
        client = pair.client(subscription, credit=100)
        await pair.owner.broker.publish(1, 2)
        await pair.until(lambda: client.seqs == [1, 2])

        server.kill()
        client.complete()
        await pair.until(lambda: client.is_closed)
        assert isinstance(client.receiver.ended, Unavailable)
        assert client.confirmed == []
        await asyncio.sleep(4)
        assert subscription.receivers == 0
        server.start()

        again = pair.client(subscription, credit=100)
        await pair.until(lambda: again.seqs == [1, 2])
        again.complete()
        await pair.until(lambda: again.confirmed == [{}])
        assert subscription.settled_total == 2
