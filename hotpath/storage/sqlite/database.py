"""The database file in use: who holds it, the writer, the readers, the checkpoints.

Log and store share one of these. Opening and closing happen on the log's side (`SqliteLog.open`,
`close`); the store works in between.
"""

import asyncio
import contextlib
import logging
import sqlite3
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from hotpath.ports import LogFailure
from hotpath.storage.sqlite.appending import Appender
from hotpath.storage.sqlite.checkpoint import Checkpointer
from hotpath.storage.sqlite.connection import (
    DATABASE_NAME,
    SqliteOptions,
    connect_reader,
    connect_writer,
    failure_from,
    require_sqlite,
)
from hotpath.storage.sqlite.directory import DirectoryLock
from hotpath.storage.sqlite.migrations import migrate
from hotpath.storage.sqlite.recovery import Opening, recover
from hotpath.storage.sqlite.wal import find_loss
from hotpath.storage.sqlite.writer import CallJob, GroupJob, Writer

CLOSED: Final = "the log is closed"

T = TypeVar("T")

_log = logging.getLogger("hotpath.storage")


@dataclass(slots=True)
class _Base:
    """What opening has taken hold of, before any thread runs."""

    lock: DirectoryLock
    connection: sqlite3.Connection
    appender: Appender


@dataclass(slots=True)
class _Threads:
    """Everything that works while the database is open."""

    writer: Writer
    checkpointer: Checkpointer
    readers: ThreadPoolExecutor


class SqliteDatabase:
    """One data directory. Nothing here blocks the event loop."""

    def __init__(self, directory: Path, options: SqliteOptions | None = None) -> None:
        self.options = options or SqliteOptions()
        self.path = directory / DATABASE_NAME
        self._directory = directory
        self._threads: _Threads | None = None
        self._local = threading.local()
        self._reader_connections: list[sqlite3.Connection] = []
        self._base: _Base | None = None

    @property
    def is_open(self) -> bool:
        """Whether work is taken."""
        return self._threads is not None

    @property
    def checkpoint_failures(self) -> int:
        """Checkpoints since the opening that failed, for want of space for example."""
        return 0 if self._threads is None else self._threads.checkpointer.failures

    async def open(self) -> Opening:
        """Take the directory, bring the schema up to date, read what is known.

        Raises LogFailure; then everything is released again.
        """
        if self._base is not None:
            raise LogFailure("the log is open already")
        opening = await asyncio.to_thread(self._open_in_thread)
        self._threads = self._start_threads(opening)
        return opening

    def _open_in_thread(self) -> Opening:
        require_sqlite()
        with contextlib.ExitStack() as undo:
            lock = DirectoryLock(self._directory)
            undo.callback(lock.release)
            try:
                connection = connect_writer(self.path, self.options)
                undo.callback(connection.close)
                opening = _open_database(connection, self.path, self.options)
            except (sqlite3.Error, OSError) as error:
                raise failure_from(error, self.path) from error
            undo.pop_all()
        appender = Appender(
            connection,
            opening.catalogue,
            limits=self.options.limits,
            probe=self.options.probe,
        )
        self._base = _Base(lock, connection, appender)
        return opening

    def _start_threads(self, opening: Opening) -> _Threads:
        base = self._base
        if base is None:
            raise LogFailure(CLOSED)
        checkpointer = Checkpointer(self.path, wal_bytes=self.options.wal_bytes)

        def write_group(group: Sequence[GroupJob]) -> None:
            checkpointer.group_starts_on_writer()
            try:
                byte_size = base.appender.write_group(group)
            except sqlite3.OperationalError:
                checkpointer.relieve_on_writer(base.connection)
                raise
            checkpointer.group_durable_on_writer(byte_size)

        writer = Writer(
            path=self.path,
            group_bytes_max=self.options.group_bytes_max,
            write_group=write_group,
            on_durable=opening.numbering.appended,
        )
        writer.start()
        checkpointer.start(
            lambda: writer.submit(CallJob(lambda: checkpointer.finish_on_writer(base.connection)))
        )
        readers = ThreadPoolExecutor(self.options.readers, thread_name_prefix="hotpath-read")
        return _Threads(writer, checkpointer, readers)

    # Work

    def submit(self, job: GroupJob) -> None:
        """Hand in a commit or record change; its future tells the end, also when closed."""
        if self._threads is None:
            job.future.set_exception(LogFailure(CLOSED))
        else:
            self._threads.writer.submit(job)

    async def call(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run something on the writer thread, after all that was handed in before.

        Raises LogFailure.
        """
        threads, base = self._threads, self._base
        if threads is None or base is None:
            raise LogFailure(CLOSED)
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()

        def run_on_writer() -> None:
            threads.writer.tell_loop(self._call_on_writer(base.connection, work, future))

        threads.writer.submit(CallJob(run_on_writer))
        return await future

    def _call_on_writer(
        self,
        connection: sqlite3.Connection,
        work: Callable[[sqlite3.Connection], T],
        future: "asyncio.Future[T]",
    ) -> Callable[[], None]:
        """Run `work`; what is left for the event loop is to tell its caller."""
        try:
            result = work(connection)
        except LogFailure as failure:
            return partial(_fail, future, failure)
        except Exception as error:  # noqa: BLE001  # the thread's edge: it must outlive any bug
            return partial(_fail, future, failure_from(error, self.path))
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        return partial(_succeed, future, result)

    async def query(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run something on a reading connection. Raises LogFailure."""
        if self._threads is None:
            raise LogFailure(CLOSED)
        loop = asyncio.get_running_loop()
        readers = self._threads.readers
        try:
            return await loop.run_in_executor(readers, self._query_in_thread, work)
        except sqlite3.Error as error:
            raise failure_from(error, self.path) from error

    def _query_in_thread(self, work: Callable[[sqlite3.Connection], T]) -> T:
        reader: sqlite3.Connection | None = getattr(self._local, "reader", None)
        if reader is None:
            reader = self._local.reader = connect_reader(self.path)
            self._reader_connections.append(reader)
        return work(reader)

    # Ending

    async def close(self, last: Callable[[sqlite3.Connection], None]) -> None:
        """Finish what was handed in, run `last` on the writer's connection, release everything.

        Raises LogFailure when `last` fails; everything is released all the same.
        """
        threads, base = self._threads, self._base
        if threads is None or base is None:
            return
        # From here on nothing is taken; what was handed in is still written.
        self._threads = None
        await asyncio.to_thread(threads.checkpointer.stop)
        await threads.writer.stop()
        await asyncio.to_thread(threads.readers.shutdown)
        await asyncio.to_thread(self._close_in_thread, base, last)

    def _close_in_thread(self, base: _Base, last: Callable[[sqlite3.Connection], None]) -> None:
        for reader in self._reader_connections:
            reader.close()
        self._reader_connections.clear()
        self._local = threading.local()
        try:
            last(base.connection)
            base.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        except sqlite3.Error as error:
            raise failure_from(error, self.path) from error
        finally:
            base.connection.close()
            base.lock.release()
            self._base = None


def _open_database(connection: sqlite3.Connection, path: Path, options: SqliteOptions) -> Opening:
    """Look at the write-ahead log before anything is written, then migrate and recover."""
    loss = None
    try:
        _, frames, _ = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        loss = find_loss(path.with_name(f"{path.name}-wal"), frames)
    except sqlite3.OperationalError as error:
        # No room to copy pages: what is there can be served all the same.
        _log.warning("checkpoint at opening failed", extra={"reason": str(error)})
    migrate(connection, options.probe)
    return recover(connection, loss)


def _succeed(future: "asyncio.Future[T]", result: T) -> None:
    if not future.done():
        future.set_result(result)


def _fail(future: "asyncio.Future[T]", failure: LogFailure) -> None:
    if not future.done():
        future.set_exception(failure)
