"""Random histories of nodes, networks and clocks: what must hold at every step, and at the end."""

import os
import random

import pytest

from tests.cluster.world import World
from tests.support.clock import settle

NAMES = ("a", "b", "c", "d")
SHARDS = 6

#: How many histories are played, from seed 0 on, and how long each is.
HISTORIES = int(os.environ.get("CLUSTER_HISTORIES", "10"))
STEPS = 16

#: What may be done to a node, and how often; what makes no sense in its state is left out.
ACTIONS = {
    "start": 5,
    "kill": 2,
    "stop": 2,
    "cut": 3,
    "cut_log": 1,
    "heal": 2,
    "freeze": 2,
    "thaw": 2,
    "lose_answers": 1,
    "repeat": 1,
    "delay": 1,
    "slow_claims": 1,
    "late_claim": 1,
    "stall": 1,
    "unstall": 2,
    "write": 4,
    "jump": 1,
}
WAITS_MS = (0, 50, 350, 700, 1_500, 2_600, 5_000)


class History:
    """Does what a list of steps says."""

    def __init__(self) -> None:
        offsets = {"a": 0, "b": 180_000, "c": -420_000, "d": 3_600_000}
        self.world = World(shards=SHARDS, offsets=offsets)
        self.clean = True

    async def step(self, what: str, name: str) -> None:
        world = self.world
        node = world.nodes.get(name)
        if what == "start":
            if node is None or not node.alive:
                await world.start(name)
        elif what == "stall":
            world.bucket.stalled = True
        elif what == "unstall":
            world.bucket.stalled = False
        elif what == "write":
            world.write_everywhere()
        elif what == "jump":
            world.clock.jump_wall(-600_000)
        elif node is not None:
            await self.step_of(what, name)

    async def step_of(self, what: str, name: str) -> None:
        node = self.world.nodes[name]
        match what:
            case "kill":
                await self.world.kill(name)
            case "stop":
                if not node.clock.frozen:
                    await self.world.stop(name, within_ms=2_000)
            case "cut":
                node.cut()
            case "cut_log":
                node.log.cut = True
            case "heal":
                node.heal()
            case "freeze":
                node.freeze()
            case "thaw":
                node.thaw()
            case "lose_answers":
                node.seat.unanswered = 2
            case "repeat":
                node.seat.repeats = True
            case "delay":
                node.seat.delay_ms = 30
            case "slow_claims":
                node.log.claim_ms = 900
            case "late_claim":
                # As by a node that stood still between its lease and its claim.
                if not node.log.cut and not node.log.claim_ms:
                    await node.log.claim(0)
            case _:
                raise AssertionError(what)

    async def mend(self) -> None:
        """Everything works again, and every node that is wanted is there."""
        world = self.world
        world.bucket.stalled = False
        for node in list(world.nodes.values()):
            node.thaw() if node.clock.frozen else None
            node.heal()
            node.seat.unanswered = 0
            node.log.claim_ms = 0
        await world.advance(4_000)
        for name in list(world.nodes):
            if not world.nodes[name].alive:
                del world.nodes[name]
        if not world.nodes:
            await world.start("a")


async def _check_movement(world: World) -> None:
    """From a quiet state, one more node moves what belongs to it and no more."""
    newcomer = next((name for name in NAMES if name not in world.nodes), None)
    if newcomer is None:
        return
    before = world.placed()
    counts = {name: len(node.events) for name, node in world.nodes.items()}
    await world.start(newcomer)
    await world.advance(8_000, step=200)
    after = world.placed()
    assert after == world.wanted()
    moved = {shard for shard in before if before[shard] != after[shard]}
    touched = {
        event.shard
        for name, node in world.nodes.items()
        for event in node.events[counts.get(name, 0) :]
    }
    assert touched == moved


@pytest.mark.parametrize("seed", range(HISTORIES))
async def test_no_shard_is_served_twice_and_in_the_end_each_by_whom_it_belongs_to(seed):
    dice = random.Random(seed)
    print("seed", seed)
    history = History()
    world = history.world
    try:
        await world.start("a", "b")
        await world.advance(700)
        for what in dice.choices(list(ACTIONS), list(ACTIONS.values()), k=STEPS):
            name, wait_ms = dice.choice(NAMES), dice.choice(WAITS_MS)
            await history.step(what, name)
            await settle()
            world.check()
            await world.advance(wait_ms)
        await history.mend()
        # Whoever was shut out by a late claim notices when it writes.
        for _ in range(4):
            world.write_everywhere()
            await world.advance(4_000, step=200)
        assert world.placed() == world.wanted()
        world.write_everywhere()
        world.check_written()
        served = {shard for shard, _, _ in world.journals.written[-SHARDS:]}
        assert served == set(range(SHARDS))
        await _check_movement(world)
    finally:
        await world.close()
