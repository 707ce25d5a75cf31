"""Who serves what, with the time and all that goes wrong in the test's hands."""

import asyncio

import pytest

from hotpath.cluster.cards import NodeCard, Shown
from hotpath.cluster.events import Happened
from hotpath.cluster.leases import SHARDS, Lease
from hotpath.cluster.membership import Timings, Turn
from hotpath.cluster.sharding import assign
from hotpath.clusterports import Entry
from hotpath.ports import LogFailure
from tests.cluster.world import World
from tests.support.clock import settle


@pytest.fixture
async def world():
    made = World(shards=12, offsets={"a": 0, "b": 240_000, "c": -600_000})
    yield made
    made.check_written()
    await made.close()


async def test_a_node_alone_serves_everything(world):
    await world.start("a")
    await world.advance(300)

    assert world.placed() == dict.fromkeys(range(12), "a")


async def test_nodes_that_start_together_take_each_its_own_and_move_nothing(world):
    await world.start("a", "b", "c")
    await world.advance(1_000)

    assert world.placed() == world.wanted()
    kinds = {event.what for node in world.nodes.values() for event in node.events}
    assert kinds == {Happened.TAKEN}
    assert sum(node.log.claims for node in world.nodes.values()) == 12


async def test_a_node_whose_id_was_taken_lets_go_of_everything(world):
    await world.start("a")
    await world.advance(500)
    node = world.nodes["a"]

    world.bucket.write("nodes.a", Shown(NodeCard("a", "another"), beat=1).write())
    await world.advance(1_500)

    assert node.serving.serving == {}
    assert world.placed() == {}


async def test_a_second_node_gets_its_half_and_no_other_shard_moves(world):
    await world.start("a")
    await world.advance(300)

    await world.start("b")
    await world.advance(1_000)

    assert world.placed() == world.wanted()
    taken = [event.shard for event in world.nodes["b"].events if event.what is Happened.TAKEN]
    assert len(taken) == 6
    assert not any(event.what is Happened.LOST for event in world.nodes["a"].events)


async def test_a_handover_flushes_before_the_next_owner_claims(world):
    await world.start("a")
    await world.advance(300)
    world.nodes["a"].serving.end_ms = 400

    await world.start("b")
    await world.advance(350)
    assert world.nodes["b"].log.claims == 0

    await world.advance(300)
    assert world.placed() == world.wanted()
    assert ("drop", 0) not in world.nodes["a"].serving.calls


async def test_a_shard_whose_serving_does_not_end_is_dropped_and_given(world):
    await world.start("a")
    await world.advance(300)
    world.nodes["a"].serving.end_ms = 3_600_000

    await world.start("b")
    await world.advance(6_000)

    assert world.placed() == world.wanted()


async def test_others_take_over_within_five_seconds_after_a_kill(world):
    await world.start("a", "b", "c")
    await world.advance(3_000)
    assert world.placed() == world.wanted()
    before = world.placed()

    await world.kill("c")
    elapsed = 0
    for elapsed in range(0, 5_000, 50):  # noqa: B007
        if world.placed() == world.wanted():
            break
        await world.advance(50)
    else:
        pytest.fail("not taken over within 5 s")

    assert elapsed <= 3_200
    moved = {shard for shard, name in before.items() if world.placed()[shard] != name}
    assert moved == {s for s, name in enumerate(assign(12, "abc")) if assign(12, "ab")[s] != name}


async def test_a_clean_stop_hands_over_at_once(world):
    await world.start("a", "b", "c")
    await world.advance(3_000)
    before_ms = world.clock.ticks_ms()

    await world.stop("c")

    assert world.clock.ticks_ms() - before_ms <= 500
    await world.advance(500)
    assert world.placed() == world.wanted()


async def test_the_last_node_that_stops_leaves_every_lease_given_up(world):
    await world.start("a")
    await world.advance(300)

    await world.stop("a")

    values = [e.value for key, e in world.bucket.entries.items() if key.startswith(SHARDS)]
    assert len(values) == 12
    assert all(b'"held": false' in value for value in values)
    assert not any(key.startswith("nodes.") for key in world.bucket.entries)


async def test_a_node_that_is_cut_off_stops_serving_before_another_takes_over(world):
    await world.start("a", "b")
    await world.advance(3_000)

    world.nodes["a"].cut()
    await world.advance(2_000)
    served = set(world.placed().values())
    assert served == {"b"}
    assert len(world.placed()) == 6, "nobody took over yet"

    await world.advance(2_000)
    assert world.placed() == dict.fromkeys(range(12), "b")

    world.nodes["a"].heal()
    await world.advance(5_000)
    assert world.placed() == world.wanted()


async def test_a_short_cut_moves_nothing_and_takes_no_epoch(world):
    await world.start("a", "b")
    await world.advance(3_000)
    epochs = [world.nodes["a"].ownership.epoch(shard) for shard in range(12)]

    world.nodes["a"].cut()
    await world.advance(1_500)
    world.nodes["a"].heal()
    await world.advance(3_000)

    assert world.placed() == world.wanted()
    assert [world.nodes["a"].ownership.epoch(shard) for shard in range(12)] == epochs


async def test_while_no_node_can_write_nobody_is_taken_for_dead(world):
    await world.start("a", "b", "c")
    await world.advance(3_000)
    count = {name: len(node.events) for name, node in world.nodes.items()}

    world.bucket.stalled = True
    await world.advance(20_000)
    assert world.placed() == {}, "all are fenced"
    world.bucket.stalled = False
    await world.advance(3_000)

    assert world.placed() == world.wanted()
    for name, node in world.nodes.items():
        kinds = {event.what for event in node.events[count[name] :]}
        assert kinds <= {Happened.PAUSED, Happened.RESUMED, Happened.FAILED}


async def test_with_time_to_linger_a_standstill_of_the_bucket_pauses_nobody():
    world = World(shards=12, timings=Timings(linger_ms=10_000))
    await world.start("a", "b")
    await world.advance(3_000)
    count = {name: len(node.events) for name, node in world.nodes.items()}

    world.bucket.stalled = True
    await world.advance(8_000)
    assert world.placed() == world.wanted()
    world.bucket.stalled = False
    await world.advance(3_000)

    assert world.placed() == world.wanted()
    assert all(len(node.events) == count[name] for name, node in world.nodes.items())
    await world.close()


async def test_a_paused_node_looks_at_each_lease_before_it_goes_on(world):
    await world.start("a")
    await world.advance(300)
    world.bucket.stalled = True
    await world.advance(5_000)
    # The watch has not told of it yet.
    world.bucket.revision += 1
    key = f"{SHARDS}4"
    other = Lease("z", "z1", 9, held=True).write()
    world.bucket.entries[key] = Entry(key, other, world.bucket.revision)

    world.bucket.stalled = False
    await world.advance(2_000)

    assert set(world.placed()) == set(range(12)) - {4}
    assert ("drop", 4) in world.nodes["a"].serving.calls


async def test_a_node_that_stops_while_it_is_cut_off_ends_in_time(world):
    await world.start("a", "b")
    await world.advance(3_000)
    node = world.nodes["a"]
    node.cut()

    await world.stop("a", within_ms=4_000)

    assert node.serving.serving == {}
    await world.advance(4_000)
    assert world.placed() == dict.fromkeys(range(12), "b")


async def test_a_node_that_stood_still_for_minutes_serves_nothing_when_it_goes_on(world):
    await world.start("a", "b")
    await world.advance(3_000)
    frozen = world.nodes["a"]

    frozen.freeze()
    await world.advance(180_000, step=500)
    assert world.placed() == dict.fromkeys(range(12), "b")
    frozen.thaw()
    world.check()
    assert not any(frozen.serves(shard) for shard in range(12))

    await world.advance(5_000)
    assert world.placed() == world.wanted()
    assert Happened.LOST in {event.what for event in frozen.events}


async def test_the_one_that_stood_still_takes_nobody_for_dead(world):
    await world.start("a", "b")
    await world.advance(3_000)
    turns = []
    node = world.nodes["a"]
    heard = node.membership.on_turn
    node.membership.on_turn = lambda turn, card: (turns.append((turn, card.id)), heard(turn, card))

    node.freeze()
    await world.advance(60_000, step=500)
    node.thaw()
    await world.advance(1_000)

    assert (Turn.DIED, "b") not in turns


async def test_a_claim_that_came_late_shuts_out_the_owner_who_takes_its_shard_again(world):
    await world.start("a", "b")
    await world.advance(3_000)
    shard = next(s for s, name in world.placed().items() if name == "b")
    owner = world.nodes["b"]
    epoch = owner.ownership.epoch(shard)

    await world.nodes["a"].log.claim(shard)
    world.write_everywhere()
    assert not owner.serves(shard), "it has noticed with its next write"
    await world.advance(1_000)
    world.write_everywhere()

    assert owner.serves(shard)
    assert owner.ownership.epoch(shard) == epoch + 1
    assert (shard, owner.log.name, epoch + 1) in world.journals.written


async def test_after_its_claim_a_node_looks_whether_the_lease_is_still_its_own(world):
    def be_overtaken(node):
        claim = node.log.claim

        async def overtaken(shard):
            recovered = await claim(shard)
            if shard == 4 and node.log.claims <= 12:
                # The watch has not told of it yet.
                world.bucket.revision += 1
                other = Lease("z", "z1", 9, held=True).write()
                key = f"{SHARDS}4"
                world.bucket.entries[key] = Entry(key, other, world.bucket.revision)
            return recovered

        node.log.claim = overtaken

    await world.start("a", prepare=be_overtaken)
    await world.advance(1_000)
    assert 4 not in world.placed()
    assert ("begin", 4) not in world.nodes["a"].serving.calls

    await world.advance(4_000)
    assert world.placed()[4] == "a"
    assert world.nodes["a"].ownership.epoch(4) == 10


async def test_a_claim_is_tried_again_a_few_times_and_then_the_lease_is_given_up(world):
    def refuse(node):
        node.log.refusals = 5 * 12

    await world.start("a", prepare=refuse)
    await world.advance(200)
    assert world.placed() == {}

    await world.advance(6_000)

    assert world.placed() == dict.fromkeys(range(12), "a")
    failed = [e for e in world.nodes["a"].events if e.what is Happened.FAILED]
    assert len(failed) == 12
    assert all(event.detail == "no quorum" for event in failed)


async def test_a_swap_whose_answer_was_lost_is_looked_up(world):
    await world.start("a")
    await world.advance(300)
    await world.start("b")
    world.nodes["b"].seat.unanswered = 3
    await world.advance(6_000)

    assert world.placed() == world.wanted()


async def test_changes_told_twice_and_late_make_no_difference(world):
    for name in ("a", "b", "c"):
        await world.start(name)
        world.nodes[name].seat.repeats = True
        world.nodes[name].seat.delay_ms = 40
    await world.advance(6_000)

    assert world.placed() == world.wanted()

    await world.stop("b")
    await world.advance(2_000)
    assert world.placed() == world.wanted()


async def test_a_fast_restart_takes_its_shards_back_within_five_seconds(world):
    await world.start("a", "b")
    await world.advance(3_000)
    await world.kill("a")
    await world.start("a")

    await world.advance(5_000)

    assert world.placed() == world.wanted()


async def test_a_lease_that_was_removed_by_hand_is_taken_anew_with_a_higher_epoch(world):
    await world.start("a")
    await world.advance(300)
    epoch = world.nodes["a"].ownership.epoch(3)

    world.bucket.write(f"{SHARDS}3", None)
    await world.advance(500)

    assert world.placed()[3] == "a"
    assert world.nodes["a"].ownership.epoch(3) > epoch


@pytest.mark.parametrize("value", [b"", b"{", b"[]", b"17", b'{"node": 1}'], ids=repr)
async def test_a_lease_that_cannot_be_read_changes_nothing(world, value):
    await world.start("a")
    await world.advance(300)

    world.bucket.write(f"{SHARDS}3", value)
    await world.advance(500)

    assert world.placed()[3] == "a"


async def test_keys_that_name_no_shard_are_passed_over(world):
    await world.start("a")
    world.bucket.write(f"{SHARDS}99", Lease("x", "y", 1, held=True).write())
    world.bucket.write(f"{SHARDS}x", b"?")
    await world.advance(300)

    assert len(world.placed()) == 12


async def test_a_fault_in_what_serves_costs_that_shard_only_and_is_tried_again(world):
    failed = []

    def break_it(node):
        begin = node.serving.begin

        async def breaks(shard, recovered):
            if shard == 5 and len(failed) < 2:
                failed.append(shard)
                raise ZeroDivisionError
            await begin(shard, recovered)

        node.serving.begin = breaks

    await world.start("a", prepare=break_it)
    await world.advance(3_000)

    assert failed == [5, 5]
    assert world.placed() == dict.fromkeys(range(12), "a")


async def test_everybody_knows_the_owner_of_a_shard(world):
    await world.start("a", "b")
    await world.advance(3_000)

    for node in world.nodes.values():
        for shard, name in world.placed().items():
            assert node.ownership.owner(shard).id == name

    heard = []
    world.nodes["a"].ownership.on_owner = heard.append
    mine = {shard for shard, name in world.placed().items() if name == "b"}
    await world.kill("b")
    await world.advance(4_000)
    assert mine <= set(heard)


async def test_a_start_without_the_bucket_fails_and_leaves_nothing_behind(world):
    await world.start("a")
    await world.advance(300)
    node = world.make("b")
    node.cut()

    joining = asyncio.ensure_future(node.membership.join())
    await settle()
    await world.advance(2_500)
    with pytest.raises(LogFailure):
        await joining


def test_timings_that_could_not_work_are_refused():
    with pytest.raises(ValueError, match="two renewals"):
        Timings(renew_ms=1_000, fence_ms=1_500, dead_ms=5_000)
    with pytest.raises(ValueError, match="dead_ms"):
        Timings(renew_ms=500, fence_ms=2_000, dead_ms=2_200)
