"""A process killed at any moment loses nothing that it had answered."""

import random
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from hotpath.storage.sqlite.connection import SqliteOptions
from hotpath.storage.sqlite.database import SqliteDatabase
from hotpath.storage.sqlite.log import SqliteLog
from tests.support.log_writer import LIMITS, payload_of
from tests.support.logs import VARIABLES

ROOT = Path(__file__).parents[2]
#: Of the random moments.
SEED = 20261121

pytestmark = pytest.mark.slow


class Expected:
    """What the killed process had answered: an independent account of it."""

    def __init__(self) -> None:
        self.end_seq = 1
        self.first_seq = 1
        self.cursors: dict[str, int] = {}
        self.dead: set[tuple[str, int]] = set()

    def note(self, line: str) -> None:
        kind, *values = line.split()
        match kind, values:
            case "appended", [first, end]:
                assert int(first) >= self.end_seq, "a number was given twice"
                self.end_seq = int(end)
            case "progress", [name, cursor]:
                self.cursors[name] = max(self.cursors.get(name, 0), int(cursor))
            case "dead", [name, seq]:
                self.dead.add((name, int(seq)))
            case "trimmed", [first]:
                self.first_seq = int(first)
            case _:
                raise AssertionError(line)


def run_until_killed(directory: Path, expected: Expected, *, arguments: Iterable, lines: int):
    """Run the writer; kill it after some lines unless it kills itself before."""
    command = [sys.executable, "-m", "tests.support.log_writer", str(directory)]
    process = subprocess.Popen(
        [*command, *map(str, arguments)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert process.stdout is not None
    with process:
        for number, line in enumerate(process.stdout, start=1):
            if line.endswith("\n"):
                expected.note(line)
            if number == lines:
                process.kill()
    return process.returncode


async def check(directory: Path, expected: Expected) -> None:
    log = SqliteLog(SqliteDatabase(directory, SqliteOptions(limits=LIMITS)))
    recovered = await log.open()
    assert recovered.damage == []

    bounds = await log.bounds(VARIABLES)
    assert bounds.next_seq >= expected.end_seq
    assert bounds.first_seq >= expected.first_seq
    at = bounds.first_seq
    while batches := await log.read(VARIABLES, at, bytes_max=100_000):
        for batch in batches:
            assert batch.first_seq == at, "a message is missing"
            for seq, payload in enumerate(batch.payloads or (), start=at):
                assert payload == payload_of(seq)
            at = batch.end_seq
    assert at == bounds.next_seq

    for name, cursor in expected.cursors.items():
        assert recovered.progress[name].cursor >= cursor, "a settlement is undone"
    for name, seq in expected.dead:
        assert seq in recovered.dead[name]
    await log.close()


async def test_kills_at_random_moments_lose_nothing(tmp_path):
    rng = random.Random(SEED)
    expected = Expected()

    for round_number in range(1, 9):
        lines = rng.randrange(1, 250)
        code = run_until_killed(tmp_path / "log", expected, arguments=[round_number], lines=lines)
        assert code == -9
        if round_number % 2 == 0:
            # Every other time the next process recovers from the kill by itself.
            await check(tmp_path / "log", expected)


POINTS = [
    ("migration", 1),
    ("after-append", 1),
    ("after-append", 20),
    ("before-commit", 1),
    ("before-commit", 25),
    ("after-commit", 1),
    ("after-commit", 90),
    ("segment-roll", 1),
    ("segment-roll", 6),
    ("segment-drop", 1),
    ("segment-drop", 3),
    ("dead-letter", 2),
]


@pytest.mark.parametrize(("point", "times"), POINTS, ids=[f"{p}-{n}" for p, n in POINTS])
async def test_a_kill_at_a_named_point_loses_nothing(tmp_path, point, times):
    expected = Expected()

    code = run_until_killed(tmp_path, expected, arguments=[1, point, times], lines=100_000)

    assert code == -9
    await check(tmp_path, expected)
    run_until_killed(tmp_path, expected, arguments=[2], lines=60)
    await check(tmp_path, expected)
