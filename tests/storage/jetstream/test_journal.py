"""A shard's journal: bounded, checked, and as good as what was confirmed."""

import asyncio
import random

import pytest

from hotpath.clusterports import shard_of
from hotpath.model.message import DeadLetter
from hotpath.model.names import SubscriptionId
from hotpath.model.subscription import Progress, ProgressDelta
from hotpath.ports import Commit, LogFailure
from hotpath.storage.jetstream.server import JetStream
from tests.support.nodes import Node, needs_server, nodes_on, until

pytestmark = needs_server

SUB = SubscriptionId("sub-1")
SHARD = shard_of(SUB, 4)
NAMES = [SubscriptionId(f"s{n}") for n in range(400) if shard_of(f"s{n}", 4) == SHARD]


@pytest.fixture
async def nodes():
    async with nodes_on(journal_bytes=10_000) as nodes:
        yield nodes


async def journal_size(node: Node) -> tuple[int, int]:
    """Messages and bytes in the journals' stream."""
    found = await node.link.api("STREAM.INFO." + node.names.journals, {})
    return found["state"]["messages"], found["state"]["bytes"]


async def journal_numbers(node: Node) -> list[int]:
    """Numbers of the entries of the shard's journal."""
    node_server = JetStream(node.link, replicas=1, duplicate_seconds=60)
    entries = await node_server.scan(
        node.names.journals, node.names.journal(SHARD), until=node_server.until(5)
    )
    return [entry.seq for entry in entries]


async def test_a_journal_stays_small_however_much_progress_there_is(nodes):
    node = await nodes.add()
    await node.log.claim(SHARD)
    names = NAMES[:10]
    expected = {}
    for turn in range(1, 301):
        delta = ProgressDelta(turn, settled=(turn + 3,), active_ms=turn, settled_total=turn)
        await node.log.commit(Commit(turn, progress=[(name, delta) for name in names]))
        for name in names:
            expected.setdefault(name, Progress(0)).apply(delta)

    messages, size = await journal_size(node)

    assert size < 60_000
    assert messages < 200
    assert (await (await nodes.add()).log.claim(SHARD)).progress == expected


async def test_idle_subscriptions_outlive_every_renewal(nodes):
    node = await nodes.add()
    await node.log.claim(SHARD)
    idle, busy = NAMES[:60], NAMES[60]
    letter = DeadLetter(3, enqueued_ms=1, payload=b"p", reason="r")
    snapshots = [(name, Progress(n, settled={n + 5})) for n, name in enumerate(idle)]
    await node.log.commit(Commit(1, snapshots=snapshots, dead=[(idle[0], letter)]))
    for turn in range(1, 120):
        counts = tuple((turn + n, 1) for n in range(1, 40))
        delta = ProgressDelta(turn, counts=counts)
        await node.log.commit(Commit(1, progress=[(busy, delta)]))

    assert (await journal_numbers(node))[0] > 2
    recovered = await (await nodes.add()).log.claim(SHARD)
    assert {name: recovered.progress[name] for name in idle} == dict(snapshots)
    assert recovered.progress[busy].horizon == 119
    assert recovered.dead == {idle[0]: {3: 0}}


async def test_a_renewal_that_ends_half_way_costs_nothing(nodes):
    """The journal has been written anew, and what it replaces is still there."""
    node = await nodes.add()
    await node.log.claim(SHARD)
    await node.log.commit(Commit(1, progress=[(SUB, ProgressDelta(4, settled=(6,)))]))
    before = await journal_numbers(node)
    purges = []

    async def fail(*_, **__):
        purges.append(1)
        raise LogFailure("no purge")

    node.log._server.purge = fail
    with pytest.raises(LogFailure):
        await node.log._journals.renew(SHARD, asyncio.get_running_loop().time() + 5)
    await node.log.commit(Commit(1, progress=[(SUB, ProgressDelta(5))]))

    assert purges
    assert len(await journal_numbers(node)) == len(before) + 2
    recovered = await (await nodes.add()).log.claim(SHARD)
    expected = Progress(0)
    expected.apply(ProgressDelta(4, settled=(6,)))
    expected.apply(ProgressDelta(5))
    assert recovered.progress == {SUB: expected}
    assert recovered.damage == []


async def test_a_former_owner_does_not_renew(nodes):
    former, owner = await nodes.add(), await nodes.add()
    await former.log.claim(SHARD)
    await owner.log.claim(SHARD)
    await owner.log.commit(Commit(1, progress=[(SUB, ProgressDelta(8))]))

    assert not await former.log._journals.renew(SHARD, asyncio.get_running_loop().time() + 5)

    assert (await owner.log.claim(SHARD)).progress == {SUB: Progress(8)}


async def test_a_snapshot_larger_than_an_entry_is_kept(nodes):
    node = await nodes.add()
    await node.log.claim(SHARD)
    big = {name: Progress(5, settled=set(range(10, 8000))) for name in NAMES[:20]}
    await node.log.commit(Commit(1, snapshots=list(big.items())))
    await node.log.commit(Commit(2, progress=[(NAMES[0], ProgressDelta(6))]))

    recovered = await (await nodes.add()).log.claim(SHARD)

    big[NAMES[0]].apply(ProgressDelta(6))
    assert recovered.progress == big


# Damage


async def overwrite(node: Node, seq: int, body: bytes | None) -> None:
    """Remove an entry, and put another one behind the last."""
    stream = node.names.journals
    await node.link.api(f"STREAM.MSG.DELETE.{stream}", {"seq": seq})
    if body is not None:
        await node.link.request(node.names.journal(SHARD), body)


async def test_an_entry_that_is_missing_is_reported_and_costs_what_it_said(nodes):
    node = await nodes.add()
    await node.log.claim(SHARD)
    for cursor, name in enumerate(NAMES[:3], 1):
        await node.log.commit(Commit(1, progress=[(name, ProgressDelta(cursor))]))
    numbers = await journal_numbers(node)

    await overwrite(node, numbers[2], None)

    recovered = await (await nodes.add()).log.claim(SHARD)
    assert recovered.progress == {NAMES[0]: Progress(1), NAMES[2]: Progress(3)}
    assert recovered.damage == [
        f"journal of shard {SHARD}: entries between {numbers[1]} and {numbers[3]} are missing"
    ]


@pytest.mark.parametrize(
    "body",
    [b"", b"x", b"\x00" * 40, bytes(range(200))],
    ids=["nothing", "a byte", "zeros", "all sorts"],
)
async def test_an_entry_that_is_no_entry_is_reported(nodes, body):
    node = await nodes.add()
    await node.log.claim(SHARD)
    await node.log.commit(Commit(1, progress=[(SUB, ProgressDelta(4))]))
    await node.link.request(node.names.journal(SHARD), body)

    recovered = await (await nodes.add()).log.claim(SHARD)

    assert recovered.progress == {SUB: Progress(4)}
    [said] = recovered.damage
    assert said.startswith(f"journal of shard {SHARD}, entry ")


async def test_a_dead_letter_whose_copy_is_damaged_is_reported_and_left_out(nodes):
    node = await nodes.add()
    await node.log.claim(SHARD)
    letters = [DeadLetter(n, enqueued_ms=1, payload=b"p", reason="r") for n in (1, 2, 3)]
    await node.log.commit(Commit(1, dead=[(SUB, letter) for letter in letters]))
    await node.link.request(node.names.letter(SUB, 2), b"rubbish")
    await node.link.api(f"STREAM.PURGE.{node.names.kept}", {"filter": node.names.letter(SUB, 3)})

    found = await node.log.dead_letters(SUB, from_seq=1, limit=9)

    assert [letter.seq for letter in found] == [1]
    assert len(node.damage) == 2


# Copies are cleared up


async def kept_messages(node: Node) -> int:
    found = await node.link.api("STREAM.INFO." + node.names.kept, {})
    return found["state"]["messages"]


async def test_removed_dead_letters_leave_no_copies(nodes):
    node = await nodes.add()
    await node.log.claim(SHARD)
    letters = [DeadLetter(n, enqueued_ms=1, payload=b"p", reason="r") for n in range(1, 6)]
    await node.log.commit(Commit(1, dead=[(SUB, letter) for letter in letters]))
    assert await kept_messages(node) == 5

    await node.log.commit(Commit(2, dead_removals=[(SUB, 1), (SUB, 2)]))
    await node.log._writing.finish()
    assert await kept_messages(node) == 3

    await node.log.commit(Commit(3, forgotten=[SUB]))
    await node.log._writing.finish()
    assert await kept_messages(node) == 0


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_owners_in_turn_never_undo_what_was_confirmed(nodes, seed):
    """Nodes claim at random, also what they have lost; each commit's word must hold."""
    print(f"seed {seed}")
    rng = random.Random(seed)
    members = [await nodes.add() for _ in range(3)]
    confirmed = 0
    for turn in range(1, 80):
        node = rng.choice(members)
        if rng.random() < 0.3 or not node.log.holds(SHARD):
            recovered = await node.log.claim(SHARD)
            found = recovered.progress.get(SUB, Progress(0)).horizon
            assert found == confirmed
            node.lost.clear()
        await node.log.commit(Commit(turn, progress=[(SUB, ProgressDelta(turn))]))
        if not node.lost:
            confirmed = turn
        node.lost.clear()
    await until(lambda: confirmed > 0)


# Several shards with one request


@pytest.mark.parametrize("at_once", [True, False], ids=["at once", "one by one"])
async def test_progress_of_many_shards_is_all_kept(at_once):
    async with nodes_on(shards=16) as nodes:
        node = await nodes.add()
        assert node.link.takes_all_or_none
        node.log._journals._can_add_at_once = at_once
        for shard in range(16):
            await node.log.claim(shard)
        names = [SubscriptionId(f"s{n}") for n in range(60)]
        for turn in range(1, 6):
            work = Commit(turn, progress=[(name, ProgressDelta(turn)) for name in names])
            await node.log.commit(work)

        other = await nodes.add()
        found = {}
        for shard in range(16):
            recovered = await other.log.claim(shard)
            assert recovered.damage == []
            found |= recovered.progress
        assert found == {name: Progress(5) for name in names}


async def test_entries_of_several_nodes_at_once_have_the_numbers_that_are_assumed():
    """The answer names the last number of several messages; nothing may stand between them."""
    async with nodes_on(shards=16) as nodes:
        members = [await nodes.add(), await nodes.add()]
        for shard in range(16):
            await members[shard % 2].log.claim(shard)
        names = [SubscriptionId(f"s{n}") for n in range(60)]

        async def work(node: Node) -> None:
            for turn in range(1, 40):
                await node.log.commit(
                    Commit(turn, progress=[(name, ProgressDelta(turn)) for name in names])
                )

        await asyncio.gather(*map(work, members))

        for shard in range(16):
            node = members[shard % 2]
            server = JetStream(node.link, replicas=1, duplicate_seconds=60)
            last = await server.last(
                node.names.journals, node.names.journal(shard), server.until(5)
            )
            assert last is not None
            assert node.log._journals._shards[shard].last == last.seq
        assert [node.lost for node in members] == [[], []]


async def test_of_several_shards_at_once_only_the_lost_one_is_left_out():
    async with nodes_on(shards=8) as nodes:
        former, owner = await nodes.add(), await nodes.add()
        for shard in range(8):
            await former.log.claim(shard)
        await owner.log.claim(3)
        names = [SubscriptionId(f"s{n}") for n in range(60)]

        await former.log.commit(Commit(1, progress=[(name, ProgressDelta(9)) for name in names]))

        assert former.lost == [3]
        third = await nodes.add()
        for shard in range(8):
            recovered = await third.log.claim(shard)
            mine = [name for name in names if third.shard_of(name) == shard]
            expected = {} if shard == 3 else {name: Progress(9) for name in mine}
            assert recovered.progress == expected
