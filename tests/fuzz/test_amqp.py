"""A whole service under hostile AMQP connections; `make fuzz` does ten million inputs of this.

The captures are of real clients (see `record.py`): unchanged, they get what those got. Regressions
are streams that once broke something. Then epochs with fixed seeds.
"""

import json

import pytest

from tests.fuzz import attack
from tests.fuzz.frames import read_stream, split
from tests.fuzz.seeds import REGRESSIONS

SEEDS = ("slice-1", "slice-2")
INPUTS = 4_000
CAPTURES = sorted(attack.CORPUS.glob("*.bin"))


@pytest.mark.parametrize("path", CAPTURES, ids=lambda path: path.stem)
async def test_a_capture_is_understood(path, tmp_path, watch):
    stream = path.read_bytes()

    attacker = await attack.replay(split(stream), watch, directory=tmp_path)

    assert attacker.sink.sent > 200
    assert len(b"".join(attacker.stream)) == len(stream)


def test_the_captures_are_of_many_clients_and_hold_every_performative():
    streams = [read_stream(path.read_bytes()) for path in CAPTURES]
    codes = {part.code for stream in streams for part in stream.parts if hasattr(part, "code")}

    assert len({path.stem.split("--")[0] for path in CAPTURES}) >= 9
    assert codes >= {*range(0x10, 0x19), 0x41}


@pytest.mark.parametrize(
    "path", sorted((REGRESSIONS / "amqp").glob("*.json")), ids=lambda path: path.stem
)
async def test_what_was_mended_stays_so(path, tmp_path, watch):
    reads = [bytes.fromhex(read) for read in json.loads(path.read_text())]

    await attack.replay(reads, watch, directory=tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
async def test_nobody_notices_hostile_connections(seed, tmp_path, watch):
    print("seed", seed)

    tally = await attack.run_epoch(
        seed, attack.load_corpus(), watch, directory=tmp_path, inputs=INPUTS
    )

    print(tally)
    assert tally.inputs >= INPUTS
    assert tally.connections > 100
