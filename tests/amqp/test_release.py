"""A connection that is gone is freed at once, without the cycle collector.

What is alive for a while is hidden from the collector (`core/keeping.py`):
a cycle would then stay until the next full pass.
"""

import asyncio
import gc
from collections import Counter

from proton.utils import BlockingConnection

from hotpath.amqp.connection import Connection
from hotpath.amqp.egress import Egress
from hotpath.service.deliver import Receiver
from tests.support.broker import running_broker

WATCHED = (Connection, Egress, Receiver)


def alive():
    # By type, not isinstance: other tests leave objects that raise when asked for their class.
    return Counter(type(each).__name__ for each in gc.get_objects() if type(each) in WATCHED)


def read_and_leave(url, token, path):
    """What is alive while a client reads."""
    client = BlockingConnection(
        url, user="x", password=token, allowed_mechs="PLAIN", allow_insecure_mechs=True, timeout=10
    )
    client.create_receiver(path, credit=10).receive(timeout=10)
    client.create_sender("$cbs")
    found = alive()
    client.close()
    return found


async def test_a_connection_leaves_no_cycle_behind(tmp_path):
    async with running_broker(tmp_path) as broker:
        url = f"amqp://127.0.0.1:{await broker.listen()}"
        subscription = await broker.subscribe()
        path = f"variables/Subscriptions/{subscription.spec.id}"
        await broker.publish(1)
        gc.collect()
        before = alive()
        gc.disable()
        try:
            between = await asyncio.to_thread(read_and_leave, url, broker.sas(path), path)
            for _ in range(100):
                if not alive() - before:
                    break
                await asyncio.sleep(0.01)
            left = alive() - before
        finally:
            gc.enable()

    assert set(between - before) == {"Connection", "Egress", "Receiver"}
    assert not left
