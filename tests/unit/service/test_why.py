"""What became of a message: each of its fates, told from what is there anyway."""

import pytest

import qel
from hotpath.model.errors import Unavailable
from hotpath.model.names import TopicKey
from hotpath.ports import LogFailure
from hotpath.service.look import matching
from hotpath.service.why import Fate
from hotpath.wire.encoder import encode, encode_list
from hotpath.wire.stored import HEADER_MARK
from hotpath.wire.values import UInt
from tests.unit.service.rig import KEY, Rig, message


async def ask(rig: Rig, subscription, seq: int, condition: str | None = None):
    compiled = None if condition is None else qel.compile_filter(condition, "variables")
    return await rig.core.whys.ask(subscription, seq, condition=compiled)


async def publish_with_life(rig: Rig, value: float, *, ttl_ms: int) -> None:
    header = HEADER_MARK + encode_list([encode(None), encode(None), encode(UInt(ttl_ms))])
    await rig.core.publishing.publish(KEY, [header + message(value)], via="test")


async def test_no_such_message(rig) -> None:
    subscription = await rig.create()

    empty = await ask(rig, subscription, 1)
    await rig.publish(1)
    beyond = await ask(rig, subscription, 2)

    assert empty.fate is beyond.fate is Fate.NO_SUCH_MESSAGE
    assert "none yet" in empty.detail
    assert "the last one of this topic is 1" in beyond.detail


async def test_before_the_start(rig) -> None:
    await rig.publish(1)
    subscription = await rig.create("value > 0")

    found = await ask(rig, subscription, 1)

    assert found.fate is Fate.BEFORE_START
    assert found.judgement.truth is True


@pytest.mark.parametrize(
    ("text", "truth", "because"),
    [
        ("value > 5", False, "value > 5 is false, value is 1"),
        ("model = 'x'", None, "model = 'x' is unknown, model is missing or null"),
    ],
    ids=["false", "unknown"],
)
async def test_not_matched(rig, text: str, truth: bool | None, because: str) -> None:
    subscription = await rig.create(text)
    await rig.publish(1)

    found = await ask(rig, subscription, 1)

    assert found.fate is Fate.NOT_MATCHED
    assert (found.judgement.truth, found.judgement.because) == (truth, because)


async def test_waiting_locked_settled(rig) -> None:
    subscription = await rig.create()
    await rig.publish(1, 2)
    waiting = await ask(rig, subscription, 1)
    reader = rig.read(subscription)
    reader.pull(1)
    locked = await ask(rig, subscription, 1)
    reader.complete(1)
    settled = await ask(rig, subscription, 1)

    assert [each.fate for each in (waiting, locked, settled)] == [
        Fate.WAITING,
        Fate.LOCKED,
        Fate.SETTLED,
    ]
    assert locked.locked_until_ms == rig.clock.now_ms() + 60_000
    assert (await ask(rig, subscription, 2)).fate is Fate.WAITING


async def test_given_back_waits_again_with_its_count(rig) -> None:
    subscription = await rig.create()
    await rig.publish(1)
    reader = rig.read(subscription)
    reader.pull()
    reader.abandon(1)

    found = await ask(rig, subscription, 1)

    assert (found.fate, found.delivery_count) == (Fate.WAITING, 1)


async def test_deferred(rig) -> None:
    subscription = await rig.create()
    await rig.publish(1)
    reader = rig.read(subscription)
    reader.pull()
    reader.defer(1)

    assert (await ask(rig, subscription, 1)).fate is Fate.DEFERRED


async def test_dead_lettered_with_its_reason(rig) -> None:
    subscription = await rig.create()
    await rig.publish(1)
    reader = rig.read(subscription)
    reader.pull()
    reader.dead_letter(1, reason="Broken", description="a bad sensor")
    await rig.core.committer.settled()

    found = await ask(rig, subscription, 1)

    assert found.fate is Fate.DEAD_LETTERED
    assert (found.letter.reason, found.letter.description) == ("Broken", "a bad sensor")


async def test_a_dead_letter_is_known_when_the_log_has_dropped_it(start) -> None:
    rig = await start(segment_bytes=1)
    subscription = await rig.create()
    await rig.publish(1)
    reader = rig.read(subscription)
    reader.pull()
    reader.dead_letter(1, reason="Broken")
    await rig.core.committer.settled()
    await outlive(rig)

    found = await ask(rig, subscription, 1)

    assert found.fate is Fate.DEAD_LETTERED
    assert found.judgement.truth is True


async def outlive(rig: Rig) -> None:
    """Publish, and let retention take all that was there before."""
    rig.core.topics.tail._bytes_max = 0
    await rig.clock.advance(2 * 3_600_000)
    await rig.publish(99)
    changed = await rig.log.trim(before_ms=rig.clock.now_ms() - 3_600_000, bytes_max=None)
    assert changed
    for key, bounds in changed.items():
        rig.core.topics.get(key).first_seq = bounds.first_seq


async def test_removed_by_retention(start) -> None:
    rig = await start(segment_bytes=1)
    subscription = await rig.create("value > 1000")
    await rig.publish(1)
    await outlive(rig)

    found = await ask(rig, subscription, 1)

    assert (found.fate, found.judgement, found.seen) == (Fate.REMOVED, None, None)


async def test_behind(start) -> None:
    rig = await start(ready_max=100)
    subscription = await rig.create()
    for base in range(0, 300, 100):
        await rig.publish(*range(base, base + 100))

    assert (await ask(rig, subscription, 1)).fate is Fate.WAITING
    assert (await ask(rig, subscription, 300)).fate is Fate.BEHIND


async def test_expired_while_it_waited_and_gone_when_its_turn_came(rig) -> None:
    subscription = await rig.create()
    await publish_with_life(rig, 1, ttl_ms=1_000)
    alive = await ask(rig, subscription, 1)
    await rig.clock.advance(2_000)
    expired = await ask(rig, subscription, 1)
    rig.read(subscription).pull()
    gone = await ask(rig, subscription, 1)

    assert [each.fate for each in (alive, expired, gone)] == [
        Fate.WAITING,
        Fate.EXPIRED,
        Fate.SETTLED,
    ]
    assert alive.expires_ms == rig.clock.now_ms() - 1_000
    assert "time to live" in gone.detail


async def test_settled_before_a_restart_stays_so(start) -> None:
    rig = await start()
    subscription = await rig.create()
    await rig.publish(1, 2, 3)
    reader = rig.read(subscription)
    reader.pull(2)
    reader.complete(1)
    await rig.core.committer.settled()
    await rig.crash()

    fates = [(await ask(rig, rig.again(subscription), seq)).fate for seq in (1, 2, 3)]

    assert fates[0] is Fate.SETTLED
    assert set(fates[1:]) <= {Fate.WAITING, Fate.BEHIND}


async def test_what_the_asker_may_not_see_is_not_told(rig) -> None:
    subscription = await rig.create()
    await rig.publish(7, objectId="secret")

    found = await ask(rig, subscription, 1, condition="objectId = 'mine'")

    assert (found.fate, found.judgement, found.seen) == (Fate.NOT_MATCHED, None, None)
    assert "secret" not in found.detail


async def test_fates_of_many_are_those_of_each(rig) -> None:
    subscription = await rig.create("value != 3")
    await rig.publish(1, 2, 3, 4, 5)
    reader = rig.read(subscription)
    reader.pull(2)
    reader.complete(1)
    looking = rig.core.looking

    found = await looking.latest(KEY, 10, passes=matching(subscription))
    fates = rig.core.whys.fates(subscription, found.messages)

    assert [seen.seq for seen in found.messages] == [1, 2, 4, 5]
    assert fates == [Fate.SETTLED, Fate.LOCKED, Fate.WAITING, Fate.WAITING]
    for seen, fate in zip(found.messages, fates, strict=True):
        assert (await ask(rig, subscription, seen.seq)).fate is fate


async def test_unreadable_dead_letters_are_said(rig, monkeypatch) -> None:
    subscription = await rig.create()
    await rig.publish(1)
    rig.core.settling.dead_letters(subscription).add([1])

    async def fail(*_args, **_options):
        raise LogFailure("the disk is gone")

    monkeypatch.setattr(rig.log, "dead_letters", fail)

    with pytest.raises(Unavailable):
        await ask(rig, subscription, 1)


async def test_another_tenants_numbers_say_nothing(rig) -> None:
    subscription = await rig.create()
    await rig.publish(1, 2, 3, key=TopicKey("rival", KEY.topic))

    assert (await ask(rig, subscription, 1)).fate is Fate.NO_SUCH_MESSAGE
