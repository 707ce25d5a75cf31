"""A process that writes a log until it is killed, and says on stdout what was answered.

    python -m tests.support.log_writer DIRECTORY SEED [POINT N]

With a point it kills itself the Nth time the writer passes there. Payloads follow from their
sequence number, so that whoever looks afterwards knows what must be in the log.
"""

import asyncio
import os
import random
import signal
import sys
from pathlib import Path

from hotpath.model.message import DeadLetter
from hotpath.model.names import SubscriptionId
from hotpath.model.subscription import Progress, ProgressDelta
from hotpath.ports import Commit
from hotpath.storage.segments import SegmentLimits
from hotpath.storage.sqlite.connection import SqliteOptions
from hotpath.storage.sqlite.database import SqliteDatabase
from hotpath.storage.sqlite.log import SqliteLog
from tests.support.logs import VARIABLES

SUBSCRIPTIONS = [SubscriptionId(f"s{n}") for n in range(5)]
LIMITS = SegmentLimits(bytes_max=40_000)
#: Bytes kept by retention: a few segments.
KEPT_BYTES = 400_000


def payload_of(seq: int) -> bytes:
    return b"message %d " % seq * (1 + seq % 40)


def make_commit(turn: int, next_seq: int, rng: random.Random) -> Commit:
    count = rng.choice([0, 1, 5, 60])
    end = next_seq + count
    name = SUBSCRIPTIONS[turn % 5]
    work = Commit(turn, progress=[(name, ProgressDelta(end, settled_total=turn))])
    if count:
        work.appends = [(VARIABLES, [payload_of(seq) for seq in range(next_seq, end)])]
    if turn % 7 == 0:
        letter = DeadLetter(turn, enqueued_ms=1, payload=payload_of(turn), reason="r")
        work.dead = [(name, letter)]
    if turn % 11 == 0:
        other = SUBSCRIPTIONS[(turn + 2) % 5]
        work.snapshots = [(other, Progress(end, settled_total=turn))]
    return work


def say(kind: str, *values: object) -> None:
    sys.stdout.write(" ".join(map(str, (kind, *values))) + "\n")
    sys.stdout.flush()


def killer(point: str, count: int):
    left = count

    def probe(name: str) -> None:
        nonlocal left
        if name == point:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    return probe


async def run(directory: Path, seed: int, probe) -> None:
    rng = random.Random(seed)
    options = SqliteOptions(limits=LIMITS, probe=probe, wal_bytes=200_000)
    log = SqliteLog(SqliteDatabase(directory, options))
    await log.open()
    turn = seed * 1000
    while True:
        turn += 1
        next_seq = (await log.bounds(VARIABLES)).next_seq
        works = [make_commit(turn, next_seq, rng)]
        if rng.random() < 0.3:
            turn += 1
            end = next_seq + sum(len(payloads) for _, payloads in works[0].appends)
            works.append(make_commit(turn, end, rng))
        pending = [log.commit(work) for work in works]
        for work, waiting in zip(works, pending, strict=True):
            batches = await waiting
            for batch in batches:
                say("appended", batch.first_seq, batch.end_seq)
            for name, full in work.snapshots:
                say("progress", name, full.horizon)
            for name, delta in work.progress:
                say("progress", name, delta.cursor)
            for name, letter in work.dead:
                say("dead", name, letter.seq)
        if turn % 40 == 0:
            changed = await log.trim(before_ms=0, bytes_max=KEPT_BYTES)
            for bounds in changed.values():
                say("trimmed", bounds.first_seq)


if __name__ == "__main__":
    point, times = (sys.argv[3], int(sys.argv[4])) if len(sys.argv) > 3 else ("", 0)
    asyncio.run(run(Path(sys.argv[1]), int(sys.argv[2]), killer(point, times)))
