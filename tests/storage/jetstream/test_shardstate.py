"""Records of a shard, and the state that keeps the fewest of them."""

import random

import pytest

from hotpath.model.names import SubscriptionId
from hotpath.model.subscription import Progress, ProgressDelta
from hotpath.ports import Recovered
from hotpath.storage.encoding import Damaged
from hotpath.storage.jetstream.shardstate import (
    Kind,
    ShardState,
    checked_record,
    claimed_record,
    delta_record,
    forgotten_record,
    letters_record,
    progress_record,
    read_records,
)

SUBS = [SubscriptionId(f"sub-{n}-é") for n in range(3)]


def random_record(rng: random.Random, turn: int, model: dict, dead: dict):
    name = rng.choice(SUBS)
    kind = rng.choice(["delta"] * 6 + ["plain"] * 6 + ["full", "forget", "bury", "count", "unbury"])
    match kind:
        case "delta":
            seqs = tuple(turn + n for n in range(1, rng.randint(1, 4)))
            given = ((turn + 9, b"given"),) if rng.random() < 0.3 else ()
            delta = ProgressDelta(
                turn, settled=seqs, counts=((turn + 7, 2),), active_ms=turn, modified=given
            )
        case "plain":
            active = rng.choice([None, turn])
            delta = ProgressDelta(rng.choice([turn, 1]), active_ms=active, settled_total=turn)
        case "full":
            model[name] = Progress(turn, unsettled={turn - 1}, counts={turn - 1: 3})
            return progress_record(name, model[name])
        case "forget":
            model.pop(name, None)
            dead.pop(name, None)
            return forgotten_record(name)
        case "bury":
            dead.setdefault(name, {})[turn] = (0, 10)
            return letters_record(Kind.BURIED, name, (turn, 0, 10))
        case "count":
            seq = rng.choice([*dead.get(name, {}), 0])
            if seq in dead.get(name, {}):
                dead[name][seq] = (turn, 10)
            return letters_record(Kind.COUNTED, name, (seq, turn))
        case _:
            seq = rng.choice([*dead.get(name, {}), 0])
            dead.get(name, {}).pop(seq, None)
            return letters_record(Kind.UNBURIED, name, (seq,))
    model.setdefault(name, Progress(0)).apply(delta)
    return delta_record(name, delta)


def recovered(state: ShardState) -> Recovered:
    found = Recovered()
    state.recover(found)
    return found


@pytest.mark.parametrize("seed", range(12))
def test_the_state_says_what_all_records_say(seed):
    print(f"seed {seed}")
    rng = random.Random(seed)
    model, dead = {}, {}
    state, replayed = ShardState(), ShardState()
    for turn in range(5, 400):
        record = random_record(rng, turn, model, dead)
        state.take(record)
        [read] = read_records(record.raw)
        replayed.take(read)

    renewed = ShardState()
    for record in read_records(b"".join(state.records())):
        renewed.take(record)

    for found in map(recovered, (state, replayed, renewed)):
        assert found.progress == model
        letters = {name: rows for name, rows in dead.items() if rows}
        assert found.dead == {
            name: {seq: count for seq, (count, _) in rows.items()} for name, rows in letters.items()
        }
        assert found.dead_sizes == {name: dict.fromkeys(rows, 10) for name, rows in letters.items()}
        assert found.damage == []


def test_moving_a_cursor_often_keeps_one_record():
    state = ShardState()
    for turn in range(1000):
        state.take(delta_record(SUBS[0], ProgressDelta(turn, active_ms=turn, settled_total=turn)))

    assert len(list(state.records())) == 1


def test_deltas_that_do_not_cover_each_other_are_folded():
    state = ShardState()
    for turn in range(1000):
        state.take(delta_record(SUBS[0], ProgressDelta(0, settled=(turn * 2 + 1,))))

    assert len(list(state.records())) <= 33
    assert recovered(state).progress[SUBS[0]].settled == {n * 2 + 1 for n in range(1000)}


WHOLE = b"".join(
    record.raw
    for record in (
        claimed_record("node-a"),
        checked_record(),
        progress_record(SUBS[0], Progress(3)),
        delta_record(SUBS[1], ProgressDelta(4, settled=(6,))),
        letters_record(Kind.BURIED, SUBS[1], (1, 2, 3)),
        forgotten_record(SUBS[2]),
    )
)


def test_what_is_cut_off_anywhere_is_damage_or_whole_records():
    ends = set()
    at = 0
    for record in read_records(WHOLE):
        at += len(record.raw)
        ends.add(at)
    for cut in range(1, len(WHOLE)):
        if cut in ends:
            list(read_records(WHOLE[:cut]))
        else:
            with pytest.raises(Damaged):
                list(read_records(WHOLE[:cut]))


@pytest.mark.parametrize("seed", range(5))
def test_any_bytes_give_records_or_damage(seed):
    print(f"seed {seed}")
    rng = random.Random(seed)
    for _ in range(300):
        spoilt = bytearray(WHOLE)
        for _ in range(rng.randint(1, 4)):
            spoilt[rng.randrange(len(spoilt))] = rng.randrange(256)
        state = ShardState()
        try:
            for record in read_records(bytes(spoilt)):
                state.take(record)
        except Damaged:
            continue
        recovered(state)
