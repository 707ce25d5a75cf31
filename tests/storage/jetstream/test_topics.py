"""Batches of topics: their sizes, their times, and their order on several nodes."""

import asyncio
import subprocess
import sys
from itertools import pairwise

import pytest

from hotpath.model.names import TenantId
from hotpath.ports import Commit, LogFailure
from hotpath.storage.jetstream.naming import BATCH_NUMBERS, first_number
from tests.support.logs import VARIABLES, append
from tests.support.nats import nats_server
from tests.support.nodes import needs_server, nodes_on

pytestmark = needs_server

ALL = 1 << 40


@pytest.fixture
async def nodes():
    async with nodes_on() as nodes:
        yield nodes


async def stored(node):
    found, at = [], 1
    while batches := await node.log.read(VARIABLES, at, bytes_max=ALL):
        found += batches
        at = batches[-1].end_seq
    return found


async def test_an_append_of_more_messages_than_a_batch_has_numbers_for_gets_several(nodes):
    node = await nodes.add()
    payloads = [b"%d" % n for n in range(2 * BATCH_NUMBERS + 10)]

    batches = await node.log.commit(Commit(1, appends=[(VARIABLES, payloads)]))

    assert [batch.count for batch in batches] == [BATCH_NUMBERS, BATCH_NUMBERS, 10]
    read = await stored(node)
    assert [payload for batch in read for payload in batch.payloads] == payloads
    assert [batch.first_seq for batch in read] == [batch.first_seq for batch in batches]


async def test_an_append_of_more_bytes_than_a_message_takes_gets_several(tmp_path):
    with nats_server(tmp_path / "n", max_payload=1_048_576) as server:
        async with nodes_on(server.url, payload_min=1_048_576) as nodes:
            node = await nodes.add()
            payloads = [bytes([n]) * 300_000 for n in range(7)]

            batches = await node.log.commit(Commit(1, appends=[(VARIABLES, payloads)]))

            assert [batch.count for batch in batches] == [3, 3, 1]
            read = await stored(node)
            assert [payload for batch in read for payload in batch.payloads] == payloads


async def test_a_message_that_no_server_takes_is_refused_and_nothing_else(nodes):
    node = await nodes.add()
    large = bytes(node.link.payload_max)
    works = [append(VARIABLES, payload) for payload in (b"before", large, b"after")]

    outcomes = await asyncio.gather(*map(node.log.commit, works), return_exceptions=True)

    assert isinstance(outcomes[1], LogFailure)
    assert "more than NATS takes" in outcomes[1].detail
    read = await stored(node)
    assert [list(batch.payloads) for batch in read] == [[b"before"], [b"after"]]


async def test_a_node_whose_clock_is_behind_gives_no_earlier_times(nodes):
    ahead, behind = await nodes.add(), await nodes.add()
    await ahead.log.commit(append(VARIABLES, b"a", now_ms=900_000))

    [batch] = await behind.log.commit(append(VARIABLES, b"b", now_ms=1_000))

    assert batch.enqueued_ms == 900_000
    assert [b.enqueued_ms for b in await stored(ahead)] == [900_000, 900_000]


async def test_a_node_that_follows_knows_the_others_times(nodes):
    ahead, behind = await nodes.add(), await nodes.add()
    await behind.log.commit(append(VARIABLES, b"first", now_ms=1_000))
    heard = asyncio.Event()
    await behind.log.follow(
        VARIABLES, 1, lambda batch: heard.set() if batch.enqueued_ms == 900_000 else None
    )
    await ahead.log.commit(append(VARIABLES, b"a", now_ms=900_000))
    await asyncio.wait_for(heard.wait(), 10)

    [batch] = await behind.log.commit(append(VARIABLES, b"b", now_ms=2_000))

    assert batch.enqueued_ms == 900_000


async def test_numbers_of_nodes_that_append_at_once_never_meet(nodes):
    members = [await nodes.add() for _ in range(3)]
    commits = [
        member.log.commit(append(VARIABLES, *[b"x"] * (n % 5 + 1)))
        for n in range(40)
        for member in members
    ]

    batches = sorted((b for [b] in await asyncio.gather(*commits)), key=lambda b: b.first_seq)

    assert all(a.end_seq <= b.first_seq for a, b in pairwise(batches))
    assert batches[0].first_seq == first_number(1)


@pytest.mark.parametrize("in_flight", [1, 8])
async def test_commits_of_a_node_stay_in_order(in_flight):
    async with nodes_on(in_flight=in_flight) as nodes:
        node = await nodes.add()

        await asyncio.gather(*(node.log.commit(append(VARIABLES, b"%d" % n)) for n in range(100)))

        assert [b.payloads[0] for b in await stored(node)] == [b"%d" % n for n in range(100)]


@pytest.mark.parametrize("tenant", ["", "a.b", "*", "Ölpumpe ✓", "x" * 3000, "a/../b", "\ud800"])
async def test_a_tenant_may_have_any_name(nodes, tenant):
    node = await nodes.add()
    topic = VARIABLES._replace(tenant=TenantId(tenant))
    await node.log.commit(append(topic, b"a" * 100, now_ms=1))
    [last] = await node.log.commit(append(topic, b"b" * 100, now_ms=2))

    changed = await node.log.trim(before_ms=2, bytes_max=None)

    assert changed[topic].first_seq == last.first_seq
    [read] = await node.log.read(topic, 1, bytes_max=ALL)
    assert list(read.payloads) == [b"b" * 100]


def test_a_service_without_a_cluster_imports_no_client_of_nats():
    look = "import sys, hotpath.app, hotpath.cli; print('nats' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"
