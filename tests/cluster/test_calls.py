"""Calls between nodes: what a network and another release may do to them."""

import asyncio
import random

import pytest

from hotpath.cluster.cards import NodeCard
from hotpath.cluster.relay import calls as module
from hotpath.cluster.relay.calls import Calls
from hotpath.cluster.relay.frames import (
    Damaged,
    Kind,
    NotServed,
    Op,
    Unreached,
    make_error,
    read_error,
    read_frame,
    read_items,
    split,
    write_error,
)
from hotpath.cluster.relay.messages import Outcome, What, read_outcome, read_pairs, read_taken
from hotpath.model.errors import Invalid, LimitReached, LockLost, NotFound, Unavailable, Unsupported
from hotpath.model.names import TenantId, Topic, TopicKey
from tests.support.bus import MemoryBus, Wire
from tests.support.clock import ManualClock, settle

A, B = NodeCard("a", "a1"), NodeCard("b", "b1")


class Two:
    def __init__(self, **options):
        self.clock = ManualClock()
        self.wire = Wire(**options)
        self.buses = MemoryBus(self.wire), MemoryBus(self.wire)
        self.a, self.b = (
            Calls(bus, self.clock, card, prefix="hp")
            for bus, card in zip(self.buses, (A, B), strict=True)
        )
        self.asked: list[bytes] = []
        self.b.answering = self.answer

    async def answer(self, op, body, caller):
        self.asked.append(body)
        return body[::-1]

    async def start(self):
        await self.a.start()
        await self.b.start()

    async def call(self, body=b"x", **options):
        call = asyncio.ensure_future(self.a.call(B, Op.ASK, body, **options))
        for _ in range(200):
            await settle()
            if call.done():
                break
            await self.clock.advance(100)
        return await call


@pytest.fixture
async def two():
    made = Two(payload_max=1_000)
    await made.start()
    yield made
    await made.a.stop()
    await made.b.stop()


async def test_a_call_is_answered(two):
    assert await two.call(b"abc") == b"cba"


async def test_large_bodies_go_in_parts_both_ways(two):
    body = random.Random(1).randbytes(50_000)

    assert await two.call(body) == body[::-1]
    assert two.asked == [body]


async def test_while_messages_are_lost_and_repeated_each_call_takes_effect_once(two):
    two.wire.dice, two.wire.loss = random.Random(7), 0.5

    for number in range(60):
        body = b"%d " % number
        assert await two.call(body, timeout_ms=60_000) == body[::-1]

    assert two.asked == [b"%d " % number for number in range(60)]


async def test_answers_are_kept_only_until_they_have_arrived(two):
    for _ in range(50):
        await two.call()

    [peer] = two.b._peers.values()
    assert len(peer.answers) <= 1
    await two.clock.advance(module.SILENT_MS * 2)
    assert two.b._peers == {}


async def test_while_one_call_takes_long_the_answers_of_others_are_not_kept(two):
    gate = asyncio.Event()

    async def answer(op, body, caller):
        if body == b"slow":
            await gate.wait()
        return body

    two.b.answering = answer
    slow = asyncio.ensure_future(two.a.call(B, Op.ASK, b"slow", timeout_ms=100_000))
    await settle()
    for number in range(100):
        await two.call(b"%d" % number)

    [peer] = two.b._peers.values()
    assert len(peer.answers) <= 2
    assert len(peer.done) >= 98
    gate.set()
    assert await slow == b"slow"
    await two.call()
    assert len(peer.done) <= 1


async def test_a_call_that_comes_again_after_its_answer_has_arrived_is_passed_over(two):
    sent = []
    send = two.a._send

    async def note(subject, frames, *, reply=""):
        sent.append((subject, frames, reply))
        await send(subject, frames, reply=reply)

    two.a._send = note
    gate = asyncio.Event()

    async def answer(op, body, caller):
        two.asked.append(body)
        if body == b"slow":
            await gate.wait()
        return body

    two.b.answering = answer
    slow = asyncio.ensure_future(two.a.call(B, Op.ASK, b"slow", timeout_ms=100_000))
    await settle()
    for body in (b"one", b"two"):
        await two.call(body)
    for subject, frames, reply in sent:
        await send(subject, frames, reply=reply)
    await settle()

    assert two.asked == [b"slow", b"one", b"two"]
    gate.set()
    assert await slow == b"slow"


async def test_a_repeated_call_that_is_still_being_answered_is_not_done_twice(two):
    gate = asyncio.Event()

    async def slow(op, body, caller):
        two.asked.append(body)
        await gate.wait()
        return b"done"

    two.b.answering = slow
    call = asyncio.ensure_future(two.a.call(B, Op.ASK, b"x", timeout_ms=10_000))
    await settle()
    await two.clock.advance(2_000)
    gate.set()
    await settle()

    assert await call == b"done"
    assert two.asked == [b"x"]


async def test_a_call_to_nobody_ends_by_its_time(two):
    await two.b.stop()

    with pytest.raises(Unreached):
        await two.call(timeout_ms=2_000)
    assert two.a._open == {}


async def test_a_call_without_a_connection_gets_through_when_it_is_back(two):
    two.buses[0].cut = True
    call = asyncio.ensure_future(two.a.call(B, Op.ASK, b"ab"))
    await two.clock.advance(1_000)
    two.buses[0].cut = False
    await two.clock.advance(500)

    assert await call == b"ba"


@pytest.mark.parametrize(
    "error",
    [NotFound("a"), LimitReached("b"), LockLost("c"), Unavailable("d"), NotServed("e")],
    ids=lambda error: error.code,
)
async def test_an_error_comes_as_it_was_raised(two, error):
    async def fails(op, body, caller):
        raise error

    two.b.answering = fails
    with pytest.raises(type(error), match=error.detail):
        await two.call()


async def test_a_fault_of_the_answer_is_told_as_an_internal_error(two):
    async def breaks(op, body, caller):
        raise ZeroDivisionError

    two.b.answering = breaks
    with pytest.raises(Unavailable, match="internal error"):
        await two.call()


async def test_a_body_that_cannot_be_read_is_refused(two):
    async def reads(op, body, caller):
        return bytes(len(read_items(body, 3)))

    two.b.answering = reads
    with pytest.raises(Unsupported):
        await two.call(b"\xff\xff")


async def test_a_call_of_another_version_is_refused_and_said_so(two):
    heard = []
    await two.buses[0].listen("hp.back.z.z1.7", lambda _s, payload, _r: heard.append(payload))
    [frame] = split(Kind.CALL, 7, bytes((Op.ASK, 0)), payload_max=1_000)

    await two.buses[0].send("hp.node.b.b1", b"\x09" + frame[1:], reply="hp.back.z.z1.7")
    await settle()

    answer = read_frame(heard[0])
    assert answer.kind == Kind.ERROR
    assert isinstance(read_error(answer.body), Unsupported)
    assert two.asked == []


async def test_a_call_that_a_release_does_not_know_is_refused_and_said_so(two):
    heard = []
    await two.buses[0].listen("hp.back.z.z1.7", lambda _s, payload, _r: heard.append(payload))
    [frame] = split(Kind.CALL, 7, b"\xfa\x00", payload_max=1_000)

    await two.buses[0].send("hp.node.b.b1", frame, reply="hp.back.z.z1.7")
    await settle()

    assert isinstance(read_error(read_frame(heard[0]).body), Unsupported)


async def test_any_bytes_are_passed_over_or_answered(two):
    dice = random.Random(3)
    [good] = split(Kind.CALL, 9, bytes((Op.ASK, 0)) + b"abc", payload_max=1_000)
    for _ in range(500):
        raw = bytearray(good if dice.random() < 0.7 else dice.randbytes(dice.randrange(60)))
        for _ in range(dice.randrange(4)):
            if raw:
                raw[dice.randrange(len(raw))] = dice.randrange(256)
        subject = dice.choice(("hp.node.b.b1", "hp.back.b.b1.1", "hp.back.b.b1.x"))
        await two.buses[0].send(subject, bytes(raw), reply="hp.back.z.z1.1")
    await settle()

    assert await two.call(b"abc") == b"cba"


async def test_half_bodies_of_one_caller_are_bounded(two):
    for number in range(1, 500):
        first, *_ = split(Kind.CALL, number, bytes(3_000), payload_max=1_000)
        await two.buses[0].send("hp.node.b.b1", first, reply="hp.back.z.z1.1")
    await settle()

    [peer] = two.b._peers.values()
    assert len(peer.partial) <= module.PARTIAL_MAX


async def test_calls_under_way_end_when_the_node_stops(two):
    two.buses[0].cut = True
    call = asyncio.ensure_future(two.a.call(B, Op.ASK, b""))
    await settle()

    await two.a.stop()

    with pytest.raises(Unreached):
        await call


def test_a_body_too_large_for_its_parts_is_refused():
    with pytest.raises(Damaged):
        split(Kind.CALL, 1, bytes(2_000), payload_max=257)


def test_an_error_of_an_unknown_kind_is_unavailable():
    assert isinstance(make_error("new-in-a-later-release", "x"), Unavailable)
    assert isinstance(read_error(write_error(Invalid([]))), Invalid)


KEY = TopicKey(TenantId("acme"), Topic.VARIABLES)


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        [1, 2, 3, b"1", None, None, b"", b""],
        [1, 2, 3, b"", None, None, b"", b""],
        [1, 2, 3, bytes(16), None, None, bytes(16), b""],
        [1, 2, 3, b"\x01" + bytes(7), None, None, b"\x05" + bytes(7), b"abc"],
        [1, 2, 3, b"\x01" + bytes(7) + b"\xff" * 8, None, None, bytes(16), b""],
        [1, "2", 3, b"\x01" + bytes(7), None, None, bytes(8), b""],
        [1, 2, 3, b"\x01" + bytes(7), None, {1: 2}, bytes(8), b""],
    ],
    ids=range(9),
)
def test_messages_that_do_not_fit_are_refused(value):
    with pytest.raises(Damaged):
        read_taken(value, KEY, now_ms=0)


@pytest.mark.parametrize(
    "value",
    [None, [], [9, 1, b"", True, None, "", ""], [1, 1, b"", True, 5, "", ""]],
    ids=range(4),
)
def test_outcomes_that_do_not_fit_are_refused(value):
    with pytest.raises(Damaged):
        read_outcome(value)


def test_an_outcome_is_read_as_it_was_written():
    outcome = Outcome(What.DEFER, 7, [1, 2], failed=False, properties={"a": 1}, reason="r")

    assert read_outcome(outcome.write()) == outcome


def test_half_a_pair_is_refused():
    with pytest.raises(Damaged):
        read_pairs(bytes(8))
