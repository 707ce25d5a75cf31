"""Webhook streams through kills under load; see `tests.fault.crash.streams`."""

import pytest

from tests.fault.crash.ledger import Violation
from tests.fault.crash.streams import StreamRounds

SEED = 20261122
KILLS = 4


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("part", [0, 1])
async def test_every_accepted_value_arrives_or_is_a_dead_letter(tmp_path, part):
    print(f"seed {SEED + part}")
    (tmp_path / "data").mkdir(mode=0o700)
    rounds = StreamRounds(tmp_path / "data", seed=SEED + part, kills=KILLS)

    await rounds.work()

    accepted = sum(map(len, rounds.accepted.values()))
    print(f"{accepted} values accepted, {sum(map(len, rounds.dead.values()))} dead letters")
    assert accepted > 20


def test_the_check_notices_a_lost_value(tmp_path):
    rounds = StreamRounds(tmp_path, seed=1, kills=0)
    rounds.accepted["p0"] = ["v"]

    assert rounds._missing() == ["a: v"]


@pytest.mark.parametrize(
    ("changed", "created"), [(1, "t0"), (0, "t1")], ids=["wrong-changed", "wrong-createdAt"]
)
def test_the_check_notices_a_state_that_was_lost(tmp_path, changed, created):
    rounds = StreamRounds(tmp_path, seed=1, kills=0)
    first = {"id": "p0", "value": "v", "changed": 1, "createdAt": "t0", "lastUpdatedAt": "t0"}
    second = {**first, "changed": changed, "createdAt": created, "lastUpdatedAt": "t1"}
    rounds._endpoint.got["a"] = {1: first, 2: second}

    with pytest.raises(Violation):
        rounds._check_states()
