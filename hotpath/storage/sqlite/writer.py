"""The thread that owns the writing connection.

Jobs are taken in order. Commits and record changes that wait at the same time become durable in
one transaction (group commit); if that fails each is tried alone, so that one that does not fit
does not fail its neighbours. Any other call is a barrier between groups. Results reach the event
loop with one wake-up a group.
"""

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Final

from hotpath.model.message import Batch
from hotpath.ports import Commit, LogFailure
from hotpath.storage.sqlite.connection import failure_from

_GROUP_JOBS_MAX: Final = 256


@dataclass(slots=True)
class CommitJob:
    """A commit that waits for the writer."""

    work: Commit
    batches: list[Batch]
    future: asyncio.Future[list[Batch]]

    @property
    def byte_size(self) -> int:
        """Payload bytes."""
        return sum(batch.byte_size for batch in self.batches)

    @property
    def begins_group(self) -> bool:
        """Whether no earlier commit may share its transaction: a snapshot replaces what it did."""
        return bool(self.work.snapshots)


@dataclass(slots=True)
class RecordJob:
    """One statement on a record table, with its rows of parameters."""

    statement: str
    rows: list[tuple[object, ...]]
    future: asyncio.Future[None]

    byte_size = 0
    begins_group = False


@dataclass(slots=True)
class CallJob:
    """Something else that must run on the writer thread; `run` delivers its own result."""

    run: Callable[[], None]


GroupJob = CommitJob | RecordJob
_Stop = None


class Writer:
    """Runs jobs on a thread of its own.

    `write_group` makes jobs durable together, on the writer thread; it raises and leaves nothing
    behind, or returns. `on_durable` hears of appended batches in the event loop, before the
    commit's caller does and also when that caller has given up.
    """

    def __init__(
        self,
        *,
        path: Path,
        group_bytes_max: int,
        write_group: Callable[[Sequence[GroupJob]], None],
        on_durable: Callable[[list[Batch]], None],
    ) -> None:
        self._path = path
        self._group_bytes_max = group_bytes_max
        self._write_group = write_group
        self._on_durable = on_durable
        self._queue: SimpleQueue[GroupJob | CallJob | None] = SimpleQueue()
        self._held: GroupJob | CallJob | None = None
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run_on_writer, name="hotpath-writer")
        self._thread.daemon = True

    def start(self) -> None:
        """Begin taking jobs."""
        self._thread.start()

    def submit(self, job: GroupJob | CallJob) -> None:
        """Hand in a job; never blocks."""
        self._queue.put(job)

    async def stop(self) -> None:
        """Finish what was handed in and end the thread."""
        self._queue.put(_Stop)
        await asyncio.to_thread(self._thread.join)

    def tell_loop(self, callback: Callable[[], None]) -> None:
        """Run something in the event loop; passed over when the loop is gone."""
        try:
            self._loop.call_soon_threadsafe(callback)
        except RuntimeError:
            return

    # On the writer thread

    def _run_on_writer(self) -> None:
        while True:
            job = self._take()
            if job is None:
                return
            if isinstance(job, CallJob):
                job.run()
                continue
            group = self._gather(job)
            self.tell_loop(partial(self._resolve, self._settle_group(group)))

    def _take(self) -> GroupJob | CallJob | None:
        held, self._held = self._held, None
        return held if held is not None else self._queue.get()

    def _gather(self, first: GroupJob) -> list[GroupJob]:
        """Add to `first` what waits behind it, up to the next barrier."""
        group = [first]
        size = first.byte_size
        while size < self._group_bytes_max and len(group) < _GROUP_JOBS_MAX:
            try:
                job = self._queue.get_nowait()
            except Empty:
                break
            if job is None:
                self._queue.put(_Stop)
                break
            if isinstance(job, CallJob) or job.begins_group:
                self._held = job
                break
            group.append(job)
            size += job.byte_size
        return group

    def _settle_group(self, group: list[GroupJob]) -> list[tuple[GroupJob, LogFailure | None]]:
        """Write jobs together or, if that fails, each alone."""
        failure = self._try(group)
        if failure is None or len(group) == 1:
            return [(job, failure) for job in group]
        return [(job, self._try([job])) for job in group]

    def _try(self, group: list[GroupJob]) -> LogFailure | None:
        try:
            self._write_group(group)
        except LogFailure as failure:
            return failure
        except (sqlite3.Error, ValueError, OverflowError, MemoryError) as error:
            return failure_from(error, self._path)
        except Exception as error:  # noqa: BLE001  # the thread's edge: it must outlive any bug
            return LogFailure(f"the log failed: {error!r}")
        return None

    # In the event loop

    def _resolve(self, outcomes: list[tuple[GroupJob, LogFailure | None]]) -> None:
        """Answer in order; a caller that has given up is passed over."""
        for job, failure in outcomes:
            if isinstance(job, CommitJob) and failure is None:
                self._on_durable(job.batches)
            if job.future.done():
                continue
            if failure is not None:
                job.future.set_exception(failure)
            elif isinstance(job, CommitJob):
                job.future.set_result(job.batches)
            else:
                job.future.set_result(None)
