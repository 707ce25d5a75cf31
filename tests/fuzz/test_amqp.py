"""A whole service under hostile AMQP connections; `make fuzz` does ten million inputs of this.

The captures are of real clients (see `record.py`): unchanged, they get what those got. Regressions
are streams that once broke something. Then epochs with fixed seeds.
"""

import json

import pytest

from tests.fuzz import attack
from tests.fuzz.frames import read_stream, split
from tests.fuzz.seeds import REGRESSIONS
from tests.fuzz.world import running_world

SEEDS = ("slice-1", "slice-2")
INPUTS = 4_000
CAPTURES = sorted(attack.CORPUS.glob("*.bin"))


@pytest.mark.parametrize("path", CAPTURES, ids=lambda path: path.stem)
async def test_a_capture_is_understood(path, tmp_path, watch):
    stream = path.read_bytes()

    attacker = await attack.replay(split(stream), watch, directory=tmp_path)

    assert attacker.sink.sent > 200
    assert len(b"".join(attacker.stream)) == len(stream)


@pytest.mark.parametrize("path", CAPTURES, ids=lambda path: path.stem)
async def test_what_is_recorded_leads_as_far_in_few_reads_as_frame_by_frame(path, tmp_path, watch):
    stream = split(path.read_bytes())
    if attack.is_close(stream[-1]):
        stream.pop()
    attached = []
    for name, reads in (("few", attack.together(stream)), ("each", stream)):
        async with running_world(tmp_path / name, watch) as world:
            attacker = world.attack()
            for read in reads:
                attacker.feed(read)
                await world.rest()
            links = attacker._connection.engine.links.values()
            attached.append(sorted(type(link).__name__ for link in links))
            attacker.drop()
            await world.rest()

    assert attached[0] == attached[1]
    assert len(attack.together(stream)) < len(stream)


async def test_an_epoch_is_the_same_each_time(tmp_path, watch):
    tallies = [
        await attack.run_epoch(
            "again", attack.load_corpus(), watch, directory=tmp_path / str(at), inputs=300
        )
        for at in range(2)
    ]

    assert tallies[0] == tallies[1]


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
