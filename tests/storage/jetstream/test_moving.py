"""What an embedded service leaves is in the cluster afterwards, under other numbers."""

import asyncio
import json
from contextlib import asynccontextmanager

import pytest

from hotpath.clusterports import shard_of
from hotpath.model.message import DeadLetter
from hotpath.model.names import SubscriptionId, TenantId, Topic, TopicKey
from hotpath.model.subscription import Progress, ProgressDelta
from hotpath.ports import Commit, Scheduled
from hotpath.storage.jetstream.link import Link
from hotpath.storage.jetstream.log import JetStreamLog
from hotpath.storage.jetstream.moving import Move, MoveRefused, Renumbering
from hotpath.storage.jetstream.options import LinkOptions, LogOptions
from hotpath.storage.jetstream.records import JetStreamStore
from hotpath.storage.segments import SegmentLimits
from hotpath.storage.sqlite.connection import SqliteOptions
from hotpath.storage.sqlite.database import SqliteDatabase
from hotpath.storage.sqlite.log import SqliteLog
from hotpath.storage.sqlite.store import SqliteStore
from tests.support.logs import next_prefix, shared_server
from tests.support.nats import free_ports
from tests.support.nodes import needs_server
from tests.support.process import run_command

pytestmark = needs_server

VARIABLES = TopicKey(TenantId("acme"), Topic.VARIABLES)
POINTS = TopicKey(TenantId("Äcme/2"), Topic.POINTS)
SUB, STREAM = SubscriptionId("sub"), SubscriptionId("stream")


@asynccontextmanager
async def embedded(directory, **options):
    database = SqliteDatabase(directory, SqliteOptions(**options))
    log, store = SqliteLog(database), SqliteStore(database)
    recovered = await log.open()
    try:
        yield log, store, recovered
    finally:
        await log.close()


@asynccontextmanager
async def clustered(options):
    link = Link(LinkOptions((shared_server().url,)))
    await link.open()
    log = JetStreamLog(link, options, node="moving")
    await log.open()
    try:
        yield log, JetStreamStore(link, options)
    finally:
        await log.close()
        await link.close()


@pytest.fixture
def options():
    return LogOptions(prefix=next_prefix(), shards=4)


async def fill(directory):
    """Batches of 1 to 5, some settled, a dead letter, something scheduled, records of all kinds."""
    async with embedded(directory) as (log, store, _):
        number = 0
        for size in (3, 1, 5, 2):
            payloads = [b"payload %d" % n for n in range(number, number + size)]
            number += size
            work = Commit(1_000 * number, appends=[(VARIABLES, payloads), (POINTS, payloads[:1])])
            await log.commit(work)
        letter = DeadLetter(2, enqueued_ms=3_000, payload=b"dead", reason="r", description="d")
        await log.commit(
            Commit(
                99_000,
                progress=[
                    (SUB, ProgressDelta(3, (5, 8), ((4, 2),), ((6, True),), 7, 4, 9)),
                    (STREAM, ProgressDelta(2)),
                ],
                dead=[(SUB, letter)],
                scheduled=[Scheduled(VARIABLES, 17, 5_000_000_000_000, b"later")],
                alive_ms=123,
            )
        )
        await log.commit(Commit(99_001, dead_updates=[(SUB, 2, 3)]))
        own = {"id": SUB, "tenant": VARIABLES.tenant, "topic": "variables", "start_seq": 2}
        await store.put("subscriptions", SUB, own)
        await store.put("streams", STREAM, {"id": STREAM, "tenant": POINTS.tenant, "start_seq": 1})
        chunk = {"stream": STREAM, "number": 0, "since": json.dumps({"p": 3})}
        await store.put("stream_points", f"{STREAM}/0", chunk)
        prefix = "%C3%84cme%2F2/"
        await store.put("points", f"{prefix}p", {"point": "p", "value": "1", "through": 5})
        await store.put("point_marks", prefix, {"tenant": POINTS.tenant, "seq": 4})
        await store.put("keys", "k", {"id": "k", "secret": "s"})


async def move(directory, target):
    async with embedded(directory) as (log, store, recovered):
        return await Move((log, store), target).work(recovered)


async def test_everything_is_there_with_its_place_in_the_log(tmp_path, options):
    await fill(tmp_path)

    async with clustered(options) as target:
        moved = await move(tmp_path, target)

        log, store = target
        batches = await log.read(VARIABLES, 1, bytes_max=1 << 20)
        numbers = {}
        for batch in batches:
            for seq, payload in enumerate(batch.payloads, batch.first_seq):
                numbers[int(payload.removeprefix(b"payload "))] = seq
        assert [numbers[n] for n in range(11)] == sorted(numbers.values())
        assert min(numbers.values()) > 11
        assert [batch.enqueued_ms for batch in batches] == [3_000, 4_000, 9_000, 11_000]
        shard = await log.claim(shard_of(SUB, options.shards))
        seq = {old: numbers[old - 1] for old in range(1, 12)}
        progress = shard.progress[SUB]
        assert progress.cursor == seq[3]
        assert {old for old in range(1, 12) if progress.is_settled(seq[old])} == {1, 2, 5, 8}
        assert (progress.counts, progress.deferred) == ({seq[4]: 2}, {seq[6]})
        assert (progress.active_ms, progress.settled_total, progress.delivered_total) == (7, 4, 9)
        [letter] = await log.dead_letters(SUB, from_seq=0, limit=10)
        assert (letter.seq, letter.payload, letter.reason) == (seq[2], b"dead", "r")
        assert letter.delivery_count == 3
        [record] = await store.load("subscriptions")
        assert record["start_seq"] == seq[2]
        points = await log.read(POINTS, 1, bytes_max=1 << 20)
        at = [batch.first_seq for batch in points]
        [chunk] = await store.load("stream_points")
        assert json.loads(chunk["since"]) == {"p": at[2]}
        [state], [mark] = await store.load("points"), await store.load("point_marks")
        assert state["through"] == (await log.bounds(POINTS)).next_seq
        assert mark["seq"] == at[3]
    assert moved.topics == {"acme/variables": 11, "Äcme/2/points": 4}
    assert (moved.counts["dead letters"], moved.counts["scheduled messages"]) == (1, 1)


async def test_what_is_scheduled_and_how_long_the_service_was_up_goes_on(tmp_path, options):
    await fill(tmp_path)
    async with clustered(options) as target:
        await move(tmp_path, target)

    link = Link(LinkOptions((shared_server().url,)))
    await link.open()
    log = JetStreamLog(link, options)
    recovered = await log.open()
    scheduled = [kept for shard in range(4) for kept in (await log.claim(shard)).scheduled]
    await log.close()
    await link.close()

    assert recovered.alive_ms == 123
    assert [(kept.number, kept.payload) for kept in scheduled] == [(17, b"later")]


async def test_a_cluster_that_has_something_already_is_left_alone(tmp_path, options):
    await fill(tmp_path)
    async with clustered(options) as target:
        await move(tmp_path, target)

        with pytest.raises(MoveRefused, match="already; name another prefix"):
            await move(tmp_path, target)


async def test_numbers_that_retention_has_taken_stay_below_the_new_ones(tmp_path, options):
    limits = SegmentLimits(bytes_max=1)
    async with embedded(tmp_path, limits=limits) as (log, store, _):
        for n in range(6):
            await log.commit(Commit(1_000 + n, appends=[(VARIABLES, [b"%d" % n])]))
        await log.trim(before_ms=1_003, bytes_max=None)
        first = (await log.bounds(VARIABLES)).first_seq
        assert first > 1
        await log.commit(Commit(2_000, snapshots=[(SUB, Progress(first, unsettled={1}))]))
        own = {"id": SUB, "tenant": VARIABLES.tenant, "topic": "variables", "start_seq": 1}
        await store.put("subscriptions", SUB, own)

    async with clustered(options) as target:
        await move(tmp_path, target)
        [record] = await target[1].load("subscriptions")
        bounds = await target[0].bounds(VARIABLES)

    assert record["start_seq"] == 1
    assert bounds.first_seq > 7


def test_runs_that_follow_each_other_are_one():
    numbers = Renumbering(next_old=10, next_new=8_192)
    numbers.add(1, 4_096, 4)
    numbers.add(5, 4_100, 2)
    numbers.add(8, 5_000, 2)

    assert len(numbers.olds) == 2
    assert [numbers.new(old) for old in (0, 1, 6, 7, 8, 9, 10, 99)] == [
        0,
        4_096,
        4_101,
        5_000,
        5_000,
        5_001,
        8_192,
        8_192,
    ]


def migrate(directory, prefix, *more, server=None):
    url = server or shared_server().url
    return run_command(
        "migrate", "--data-dir", str(directory), "--cluster", url, "--cluster-prefix", prefix, *more
    )


@pytest.mark.slow
async def test_the_command_says_what_it_moved(tmp_path):
    await fill(tmp_path)

    done = await asyncio.to_thread(migrate, tmp_path, next_prefix(), "--json")

    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["topics"] == {"acme/variables": 11, "Äcme/2/points": 4}
    assert (told["subscriptions"], told["keys"]) == (1, 1)


@pytest.mark.slow
async def test_the_command_refuses_what_it_cannot_do_and_says_why(tmp_path):
    await fill(tmp_path)
    prefix = next_prefix()

    first = await asyncio.to_thread(migrate, tmp_path, prefix)
    again = await asyncio.to_thread(migrate, tmp_path, prefix)
    nowhere = await asyncio.to_thread(
        migrate, tmp_path, prefix, server=f"nats://127.0.0.1:{free_ports(1)[0]}"
    )
    nothing = await asyncio.to_thread(migrate, tmp_path / "nothing", prefix)
    async with embedded(tmp_path):
        in_use = await asyncio.to_thread(migrate, tmp_path, next_prefix())

    assert first.returncode == 0
    assert "everything is in the cluster" in first.stdout
    for refused, why in (
        (again, "already; name another prefix"),
        (nowhere, "no connection to NATS"),
        (nothing, "there is no"),
        (in_use, "in use"),
    ):
        assert refused.returncode == 1
        assert why in refused.stderr
        assert "Traceback" not in refused.stderr
