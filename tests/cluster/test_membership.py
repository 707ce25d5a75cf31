"""Who is there, seen by several nodes with clocks of their own."""

import asyncio

import pytest

from hotpath.cluster.cards import NodeCard, Shown, read_shown
from hotpath.cluster.membership import DEPARTED_MAX, Membership, NodeIdTaken, Turn
from tests.cluster.world import NodeClock
from tests.support.clock import ManualClock, settle
from tests.support.coordination import Bucket, MemoryCoordination


class Members:
    def __init__(self):
        self.clock = ManualClock()
        self.bucket = Bucket()
        self.all: list[Membership] = []
        self.seats: list[MemoryCoordination] = []
        self.turns: list[tuple[str, Turn, str]] = []

    def make(self, name, run, *, off_ms=0):
        clock = NodeClock(self.clock, off_ms)
        seat = MemoryCoordination(self.bucket, clock)
        member = Membership(seat, clock, NodeCard(name, run, amqp_url=f"amqp://{name}"))
        member.on_turn = lambda turn, card: self.turns.append((name, turn, card.id))
        self.all.append(member)
        self.seats.append(seat)
        return member

    async def join(self, *names):
        for number, name in enumerate(names):
            await self.make(name, f"{name}1", off_ms=number * 300_000).join()
        await self.clock.advance(100)
        return self.all

    def of(self, name):
        return [(turn, who) for observer, turn, who in self.turns if observer == name]


@pytest.fixture
async def members():
    made = Members()
    yield made
    for member in made.all:
        await member.abandon()


async def test_nodes_see_each_other_whatever_their_wall_clocks_say(members):
    a, b = await members.join("a", "b")

    assert a.candidates() == b.candidates() == ["a", "b"]
    assert a.find("b", "b1").amqp_url == "amqp://b"
    assert [card.id for card in a.others()] == ["b"]
    await members.clock.advance(60_000)
    assert a.candidates() == b.candidates() == ["a", "b"]


async def test_a_jump_of_the_wall_clock_makes_no_difference(members):
    a, _ = await members.join("a", "b")

    members.clock.jump_wall(-3_600_000)
    await members.clock.advance(5_000)
    members.clock.jump_wall(7_200_000)
    await members.clock.advance(5_000)

    assert a.candidates() == ["a", "b"]
    assert not a.is_fenced()


async def test_who_is_silent_is_dead_after_its_time_and_not_before(members):
    a, b = await members.join("a", "b")
    await members.clock.advance(2_000)
    members.seats[1].gone()
    await b.abandon()

    await members.clock.advance(1_900)
    assert not a.is_gone("b", "b1")
    await members.clock.advance(700)

    assert a.is_gone("b", "b1")
    assert a.candidates() == ["a"]
    assert (Turn.DIED, "b") in members.of("a")


async def test_who_leaves_is_gone_at_once(members):
    a, b = await members.join("a", "b")

    b.announce_leaving()
    await settle()
    assert a.candidates() == b.candidates() == ["a"]
    assert a.find("b", "b1") is not None, "it still has what it has not given up"
    await b.leave()

    assert a.is_gone("b", "b1")
    assert b.is_fenced()
    assert members.of("a")[-2:] == [(Turn.LEAVING, "b"), (Turn.LEFT, "b")]


async def test_a_node_is_fenced_before_others_take_it_for_dead(members):
    a, b = await members.join("a", "b")
    await members.clock.advance(3_000)
    members.seats[1].cut = True
    fenced_ms = dead_ms = None
    for elapsed in range(0, 5_000, 25):
        if fenced_ms is None and b.is_fenced():
            fenced_ms = elapsed
        if dead_ms is None and a.is_gone("b", "b1"):
            dead_ms = elapsed
        await members.clock.advance(25)

    assert fenced_ms is not None
    assert dead_ms is not None
    assert fenced_ms + 400 <= dead_ms <= 3_100
    members.seats[1].heal()
    await members.clock.advance(2_000)
    assert not b.is_fenced()
    assert a.candidates() == ["a", "b"]
    assert [turn for turn, who in members.of("b") if who == "b"][-2:] == [
        Turn.FENCED,
        Turn.UNFENCED,
    ]


async def test_a_second_process_with_the_same_id_is_refused(members):
    await members.join("a")
    second = members.make("a", "a2")

    joining = asyncio.ensure_future(second.join())
    await members.clock.advance(4_000)

    with pytest.raises(NodeIdTaken, match="another node with the id 'a' is running"):
        await joining
    assert not members.all[0].is_fenced()


async def test_after_a_kill_the_same_id_joins_again_once_its_key_stands_still(members):
    a, b = await members.join("a", "b")
    members.seats[0].gone()
    await a.abandon()

    again = members.make("a", "a2")
    joining = asyncio.ensure_future(again.join())
    await members.clock.advance(3_000)
    await joining

    assert b.is_gone("a", "a1")
    assert b.find("a", "a2") is not None
    assert again.is_gone("a", "a1")


async def test_a_node_whose_key_was_taken_over_never_serves_again(members):
    a, _ = await members.join("a", "b")
    thief = Shown(NodeCard("a", "a9"), beat=1).write()

    members.bucket.write("nodes.a", thief)
    await members.clock.advance(2_000)

    assert a.is_fenced()
    assert (Turn.REPLACED, "a") in members.of("a")
    await members.clock.advance(10_000)
    assert a.is_fenced()
    assert members.bucket.entries["nodes.a"].value == thief


async def test_a_key_that_was_removed_by_hand_is_written_again(members):
    a, b = await members.join("a", "b")

    members.bucket.write("nodes.a", None)
    await members.clock.advance(1_500)

    assert not a.is_fenced()
    assert b.candidates() == ["a", "b"]
    assert not b.is_gone("a", "a1")


async def test_an_answer_that_was_lost_is_looked_up(members):
    a, b = await members.join("a", "b")

    members.seats[0].unanswered = 1
    await members.clock.advance(3_000)

    assert not a.is_fenced()
    assert b.candidates() == ["a", "b"]


async def test_the_holder_of_a_lease_that_was_never_seen_is_given_time(members):
    (a,) = await members.join("a")

    assert not a.is_gone("ghost", "g1")
    await members.clock.advance(1_000)
    assert not a.is_gone("ghost", "g1")
    await members.clock.advance(2_000)

    assert a.is_gone("ghost", "g1")


async def test_the_key_of_a_dead_node_is_removed_after_a_while(members):
    _, b = await members.join("a", "b")
    members.seats[1].gone()
    await b.abandon()

    await members.clock.advance(300_000)
    assert "nodes.b" in members.bucket.entries
    await members.clock.advance(320_000)

    assert "nodes.b" not in members.bucket.entries


@pytest.mark.parametrize(
    "value",
    [b"", b"null", b"[]", b"{}", b"\xff", b'{"id": 1, "run": "r", "beat": 1}', b'{"id": "z"}'],
    ids=repr,
)
async def test_a_key_that_cannot_be_read_is_passed_over(members, value):
    (a,) = await members.join("a")

    members.bucket.write("nodes.z", value)

    assert a.candidates() == ["a"]
    assert read_shown(value) is None


async def test_a_card_of_a_later_release_is_read_as_far_as_it_is_known(members):
    (a,) = await members.join("a")

    members.bucket.write("nodes.z", b'{"id": "z", "run": "r", "beat": 1, "zone": "eu"}')

    assert a.candidates() == ["a", "z"]


async def test_only_so_many_that_left_are_remembered(members):
    (a,) = await members.join("a")
    for number in range(DEPARTED_MAX + 5):
        members.bucket.write("nodes.z", Shown(NodeCard("z", f"r{number}"), beat=1).write())

    assert len(a._departed) <= DEPARTED_MAX


@pytest.mark.parametrize("name", ["", "a b", "a.b", "ä", "x" * 65, "*", ">"], ids=repr)
def test_a_node_id_that_cannot_be_part_of_a_key_is_refused(name):
    with pytest.raises(ValueError, match="node id"):
        NodeCard(name, "r")
