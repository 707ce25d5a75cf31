"""The service in a process of its own that kills itself at a named point.

Processes are forked from one that has imported everything, so that a thousand of them take
minutes. What is wrapped here is the service's own code at its seams; a name that is no longer
there fails the run.
"""

import asyncio
import functools
import inspect
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

from hotpath.amqp.listener import AmqpEdge
from hotpath.app import App
from hotpath.config import Settings
from hotpath.core.subscription import Subscription
from hotpath.service import liveness, upkeep
from hotpath.service.admin import Administration
from hotpath.service.commit import Committer
from hotpath.service.deliver import Delivering
from hotpath.service.settle import Settling
from hotpath.storage.segments import SegmentLimits
from hotpath.storage.sqlite import database
from hotpath.storage.sqlite.appending import Appender
from hotpath.storage.sqlite.checkpoint import Checkpointer
from hotpath.storage.sqlite.log import SqliteLog
from hotpath.storage.sqlite.store import SqliteStore
from hotpath.telemetry import set_up_logging

#: Heartbeats and with them checkpoints come often enough for a run of a second.
BEAT_MS: Final = 100
#: In the same proportion to them as in earnest.
MARK_MS: Final = 125
READY_SECONDS: Final = 20.0

#: Named points beside those of the writer: owner, method, and whether before or after it.
SEAMS: Final[dict[str, tuple[object, str, bool]]] = {
    "before-append": (Appender, "write_group", False),
    "gathered": (Committer, "_gather", True),
    "committed-unrouted": (Committer, "_succeeded", False),
    "answered-unsent": (Committer, "_succeeded", True),
    "handed-out": (Delivering, "pull", True),
    "completed": (Settling, "complete", True),
    "abandoned": (Settling, "abandon", True),
    "deferred": (Settling, "defer", True),
    "dead-letter-copy": (Settling, "_copy_aside", True),
    "cursor-move": (Subscription, "collect_delta", True),
    "snapshot": (Subscription, "snapshot", True),
    "snapshot-written": (Appender, "_write_snapshots", True),
    "journal-trimmed": (Appender, "_trim_journal", True),
    "wal-copy": (Checkpointer, "_copy_pages", False),
    "wal-copied": (Checkpointer, "_copy_pages", True),
    "wal-finished": (Checkpointer, "finish_on_writer", True),
    "create-unkept": (Administration, "_keep", False),
    "create-kept": (Administration, "_keep", True),
    "delete-kept": (Administration, "_unregister", False),
    "reap": (Administration, "end", False),
    "reap-kept": (SqliteStore, "delete", True),
    "draining": (AmqpEdge, "stop", False),
    "drained": (Committer, "close", False),
    "log-closed": (SqliteLog, "close", True),
    "opening": (database, "recover", False),
    "recovered": (SqliteLog, "open", True),
    "resumed": (Administration, "resume", True),
}


@dataclass(frozen=True, slots=True)
class Orders:
    """How the child is to run."""

    directory: Path
    point: str | None = None
    visit: int = 0
    options: dict[str, object] = field(default_factory=dict)
    segment_bytes: int = 20_000
    wal_bytes: int = 300_000


def make_killer(point: str | None, visit: int) -> Callable[[str], None]:
    """A probe that kills this process at a visit of a point."""
    left = visit

    def probe(name: str) -> None:
        nonlocal left
        if name == point:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    return probe


def plant(point: str | None, probe: Callable[[str], None]) -> None:
    """Call the probe at a seam of the service."""
    if point not in SEAMS:
        return
    owner, name, after = SEAMS[point]
    original = getattr(owner, name)

    @functools.wraps(original)
    def around(*args, **options):
        if not after:
            probe(point)
        result = original(*args, **options)
        if after:
            probe(point)
        return result

    @functools.wraps(original)
    async def around_waiting(*args, **options):
        if not after:
            probe(point)
        result = await original(*args, **options)
        if after:
            probe(point)
        return result

    setattr(owner, name, around_waiting if inspect.iscoroutinefunction(original) else around)


def serve(orders: Orders, pipe: Connection) -> None:
    """Run the service until it is killed or told to stop."""
    stderr = (orders.directory.parent / "stderr").open("a", buffering=1)
    os.dup2(stderr.fileno(), 2)
    sys.stderr = stderr
    set_up_logging("warning", as_json=False)
    probe = make_killer(orders.point, orders.visit)
    plant(orders.point, probe)
    upkeep.BEAT_MS = liveness.BEAT_MS = BEAT_MS
    liveness.MARK_MS = MARK_MS
    app = App(Settings(data_dir=orders.directory, **orders.options))
    log = app.core.log
    assert isinstance(log, SqliteLog)
    store = log._database
    store.options = replace(
        store.options,
        probe=probe,
        wal_bytes=orders.wal_bytes,
        limits=SegmentLimits(bytes_max=orders.segment_bytes),
    )
    asyncio.run(_serve(app, pipe))


async def _serve(app: App, pipe: Connection) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    pipe.send(await app.start())
    await stop.wait()
    await app.stop()


class Child:
    """The parent's side of one process."""

    _context = multiprocessing.get_context("forkserver")

    def __init__(self, orders: Orders) -> None:
        self._context.set_forkserver_preload(["tests.fault.crash.child"])
        self._pipe, theirs = self._context.Pipe(duplex=False)
        self._process = self._context.Process(target=serve, args=(orders, theirs), daemon=True)
        self._process.start()
        theirs.close()

    async def ready(self) -> dict[str, str] | None:
        """The addresses; None when the process died before it had any."""
        return await asyncio.to_thread(self._read_ready)

    def _read_ready(self) -> dict[str, str] | None:
        try:
            if not self._pipe.poll(READY_SECONDS):
                raise AssertionError("the service does not start")
            return self._pipe.recv()
        except EOFError:
            return None

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.is_alive()

    def kill(self) -> None:
        """kill -9."""
        if self.running:
            self._process.kill()

    async def ended(self, seconds: float) -> int | None:
        """The exit code (negative: the signal), or None after that time."""
        await asyncio.to_thread(self._process.join, seconds)
        return self._process.exitcode

    def terminate(self) -> None:
        """Ask it to stop."""
        self._process.terminate()

    def close(self) -> None:
        """Leave nothing behind."""
        if self.running:
            self._process.kill()
        self._process.join()
        self._pipe.close()
        self._process.close()
