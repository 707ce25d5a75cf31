"""Who has claimed a shard is the only one who changes anything of it."""

import asyncio
from dataclasses import replace

import pytest

from hotpath.clusterports import shard_of
from hotpath.model.message import DeadLetter
from hotpath.model.names import SubscriptionId
from hotpath.model.subscription import Progress, ProgressDelta
from hotpath.ports import Commit, LogFailure, Scheduled
from tests.support.logs import VARIABLES
from tests.support.nats import Proxy
from tests.support.nodes import Node, needs_server, nodes_on

pytestmark = needs_server

SUB = SubscriptionId("sub-1")
SHARD = shard_of(SUB, 4)
#: Of another shard.
OTHER = next(SubscriptionId(f"o{n}") for n in range(99) if shard_of(f"o{n}", 4) != SHARD)
OTHER_SHARD = shard_of(OTHER, 4)
LETTER = DeadLetter(5, enqueued_ms=1, payload=b"dead", reason="r")


@pytest.fixture
async def nodes():
    async with nodes_on() as nodes:
        yield nodes


async def move(node: Node, cursor: int, subscription: SubscriptionId = SUB) -> None:
    await node.log.commit(Commit(1, progress=[(subscription, ProgressDelta(cursor))]))


async def test_a_claim_gives_exactly_the_confirmed_progress(nodes):
    first = await nodes.add()
    assert (await first.log.claim(SHARD)).progress == {}
    delta = ProgressDelta(7, settled=(9,), counts=((8, 2),), active_ms=4, settled_total=8)
    await first.log.commit(Commit(1, progress=[(SUB, delta)]))
    await first.log.commit(Commit(2, progress=[(SUB, ProgressDelta(8))]))

    recovered = await (await nodes.add()).log.claim(SHARD)

    expected = Progress(0)
    expected.apply(delta)
    expected.apply(ProgressDelta(8))
    assert recovered.progress == {SUB: expected}
    assert recovered.damage == []


async def test_progress_of_a_lost_shard_does_not_take_effect(nodes):
    former, owner = await nodes.add(), await nodes.add()
    await former.log.claim(SHARD)
    await former.log.claim(OTHER_SHARD)
    await move(former, 5)
    await owner.log.claim(SHARD)
    heard = []
    former.log.on_lost = lambda shard: heard.append((shard, commit.done()))

    commit = asyncio.ensure_future(
        former.log.commit(
            Commit(
                1,
                appends=[(VARIABLES, [b"appended"])],
                progress=[(SUB, ProgressDelta(50)), (OTHER, ProgressDelta(6))],
                snapshots=[(SUB, Progress(60))],
            )
        )
    )
    [batch] = await commit

    assert heard == [(SHARD, False)]
    assert list(batch.payloads) == [b"appended"]
    third = await nodes.add()
    assert (await third.log.claim(SHARD)).progress == {SUB: Progress(5)}
    assert (await third.log.claim(OTHER_SHARD)).progress == {OTHER: Progress(6)}
    [read] = await third.log.read(VARIABLES, 1, bytes_max=1)
    assert list(read.payloads) == [b"appended"]


async def test_a_loss_is_told_once(nodes):
    former, owner = await nodes.add(), await nodes.add()
    await former.log.claim(SHARD)
    await owner.log.claim(SHARD)

    for cursor in (1, 2, 3):
        await move(former, cursor)

    assert former.lost == [SHARD]
    assert owner.lost == []


async def test_a_shard_that_was_never_claimed_is_not_written_for(nodes):
    stranger, owner = await nodes.add(), await nodes.add()
    await move(stranger, 9)

    assert (await owner.log.claim(SHARD)).progress == {}
    assert stranger.lost == []


async def test_a_lost_shard_can_be_claimed_again(nodes):
    former, owner = await nodes.add(), await nodes.add()
    await former.log.claim(SHARD)
    await owner.log.claim(SHARD)
    await move(owner, 7)
    await move(former, 3)

    recovered = await former.log.claim(SHARD)
    await move(former, 8)

    assert recovered.progress == {SUB: Progress(7)}
    assert (await owner.log.claim(SHARD)).progress == {SUB: Progress(8)}


async def test_a_released_shard_goes_over_with_everything_that_was_handed_in(nodes):
    first, second = await nodes.add(), await nodes.add()
    await first.log.claim(SHARD)
    for cursor in range(1, 20):
        first.log.commit(Commit(1, progress=[(SUB, ProgressDelta(cursor))]))

    await first.log.release(SHARD)

    assert (await second.log.claim(SHARD)).progress == {SUB: Progress(19)}
    await move(first, 99)
    assert first.lost == []
    assert (await first.log.claim(SHARD)).progress == {SUB: Progress(19)}


REMOVALS = {
    "removing a dead letter": Commit(2, dead_removals=[(SUB, 5)]),
    "counting a dead letter": Commit(2, dead_updates=[(SUB, 5, 3)]),
    "forgetting the subscription": Commit(2, forgotten=[SUB]),
    "burying another": Commit(
        2, dead=[(SUB, DeadLetter(6, enqueued_ms=1, payload=b"x", reason="r"))]
    ),
}


@pytest.mark.parametrize("work", REMOVALS.values(), ids=REMOVALS.keys())
async def test_dead_letters_of_a_lost_shard_stay_as_they_are(nodes, work):
    former, owner = await nodes.add(), await nodes.add()
    await former.log.claim(SHARD)
    await former.log.commit(Commit(1, progress=[(SUB, ProgressDelta(6))], dead=[(SUB, LETTER)]))
    await owner.log.claim(SHARD)

    await former.log.commit(work)

    assert former.lost == [SHARD]
    for node in (owner, await nodes.add()):
        recovered = await node.log.claim(SHARD)
        assert (recovered.dead, recovered.dead_sizes) == ({SUB: {5: 0}}, {SUB: {5: 4}})
        [letter] = await node.log.dead_letters(SUB, from_seq=1, limit=9)
        assert (letter.seq, letter.payload, letter.delivery_count) == (5, b"dead", 0)


async def test_copies_that_nothing_tells_of_are_swept_out(nodes):
    """A node that copied a message and then died, or had lost the shard."""
    former, owner = await nodes.add(), await nodes.add()
    await former.log.claim(SHARD)
    await owner.log.claim(SHARD)
    await former.log.commit(Commit(1, dead=[(SUB, LETTER)]))
    stray = former.names.letter(SUB, 5)
    assert await _last(owner, stray) is not None

    await owner.log.claim(SHARD)
    await owner.log.close()

    assert await _last(former, stray) is None


async def _last(node: Node, subject: str):
    found = await node.link.api("STREAM.INFO." + node.names.kept, {"subjects_filter": subject})
    return (found["state"].get("subjects") or {}).get(subject)


async def test_a_cancelled_message_of_a_lost_shard_stays_scheduled(nodes):
    former, owner = await nodes.add(), await nodes.add()
    shard = former.names.shard_of_schedule(VARIABLES)
    message = Scheduled(VARIABLES, 3, 9000, b"later")
    await former.log.claim(shard)
    await former.log.commit(Commit(1, scheduled=[message]))
    assert (await owner.log.claim(shard)).scheduled == [message]

    await former.log.commit(Commit(2, scheduled_removals=[(VARIABLES, 3)]))

    assert former.lost == [shard]
    assert (await owner.log.claim(shard)).scheduled == [message]


async def test_any_node_may_schedule_what_the_owner_then_finds(nodes):
    stranger, owner = await nodes.add(), await nodes.add()
    shard = owner.names.shard_of_schedule(VARIABLES)
    message = Scheduled(VARIABLES, 3, 9000, b"later")

    await stranger.log.commit(Commit(1, scheduled=[message]))

    assert (await owner.log.claim(shard)).scheduled == [message]


async def test_what_two_nodes_append_under_one_name_enters_the_topic_once(nodes):
    former, owner = await nodes.add(), await nodes.add()
    appends = [(VARIABLES, [b"other"]), (VARIABLES, [b"due"]), (VARIABLES, [b"due too"])]
    work = Commit(1, appends=appends, once={1: "due-3", 2: "due-4"})

    [_, *first] = await former.log.commit(work)
    [_, *second] = await owner.log.commit(work)
    [_, *third] = await owner.log.commit(work)

    assert [batch.first_seq for batch in first] == [batch.first_seq for batch in second]
    assert [batch.first_seq for batch in first] == [batch.first_seq for batch in third]
    read = await owner.log.read(VARIABLES, 1, bytes_max=10_000)
    found = sorted(payload for batch in read for payload in batch.payloads)
    assert found == [b"due", b"due too", b"other", b"other", b"other"]


async def test_many_appends_with_names_keep_their_order(nodes):
    node = await nodes.add()
    payloads = [b"%d" % number for number in range(100)]
    appends = [(VARIABLES, [payload]) for payload in payloads]
    names = {place: f"due-{place}" for place in range(100)}

    await node.log.commit(Commit(1, appends=appends, once=names))

    read = await node.log.read(VARIABLES, 1, bytes_max=100_000)
    assert [payload for batch in read for payload in batch.payloads] == payloads


async def test_of_two_who_claim_at_once_one_loses(nodes):
    rivals = [await nodes.add(), await nodes.add()]
    for turn in range(1, 6):
        outcomes = await asyncio.gather(
            *(rival.log.claim(SHARD) for rival in rivals), return_exceptions=True
        )
        assert all(isinstance(o, LogFailure) or o.damage == [] for o in outcomes)
        for rival in rivals:
            rival.lost.clear()
            await move(rival, turn)
        assert sum(not rival.lost and rival.log.holds(SHARD) for rival in rivals) == 1


@pytest.fixture
async def proxy(nodes):
    proxy = await Proxy(int(nodes.urls[0].rpartition(":")[2])).start()
    yield proxy
    await proxy.stop()


async def test_an_entry_that_was_given_up_and_arrives_late_is_known_of(nodes, proxy):
    """The commit was refused; what it wrote all the same must not look like somebody else's."""
    node = await nodes.add(proxy.url, options=replace(nodes.options, commit_seconds=2.0))
    await node.log.claim(SHARD)
    await move(node, 1)
    waiting = asyncio.ensure_future(move(node, 2))
    await asyncio.sleep(0)
    proxy.stall_answers()
    await asyncio.sleep(0.05)
    await waiting_fails(waiting)
    proxy.mend()

    await eventually_moves(node, 3)

    assert node.lost == []
    assert (await (await nodes.add()).log.claim(SHARD)).progress[SUB].horizon == 3


async def waiting_fails(waiting) -> None:
    with pytest.raises(LogFailure):
        await asyncio.wait_for(waiting, 20)


async def eventually_moves(node: Node, cursor: int) -> None:
    for _ in range(50):
        try:
            await move(node, cursor)
        except LogFailure:
            continue
        return
    raise AssertionError("commits never succeed again")
