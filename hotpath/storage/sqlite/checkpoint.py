"""Moving the write-ahead log into the file, beside the commits instead of inside one.

A thread copies pages with passive checkpoints, which never hold up the writer. The little that is
committed meanwhile is copied by the writer itself between two commits; only then is everything
copied, and the next commit starts the write-ahead log from its beginning. That bounds its size.

While the thread copies, a reading transaction pins the log so that no commit can start it over:
SQLite before 3.51.3 may lose pages when that happens during a checkpoint (its "WAL-reset bug").
The pin only holds while frames exist that are not copied yet, which is why a second pass needs
proof of a commit that began after the pin of the first.
"""

import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from hotpath.storage.sqlite.connection import connect_reader

#: What a group costs in pages besides its content: tree, journal and header pages.
_GROUP_OVERHEAD_BYTES: Final = 16_384
_PASSES_MAX: Final = 3
#: So many times the wanted size may gather before commits wait for the thread, at most so long.
_WAIT_FACTOR: Final = 4
_WAIT_S: Final = 2.0
_CHECKPOINT: Final = "PRAGMA wal_checkpoint(PASSIVE)"


class Checkpointer:
    """Watches what the writer writes, and copies it when there is enough."""

    def __init__(self, path: Path, *, wal_bytes: int) -> None:
        self._path = path
        self._wal_bytes = wal_bytes
        self._ask_finish: Callable[[], None] = lambda: None
        self._written_bytes = 0
        self._started = 0
        self._durable = 0
        self._is_busy = False
        self._stopping = False
        self._wanted = threading.Event()
        self._copied = threading.Event()
        self._thread = threading.Thread(target=self._run, name="hotpath-checkpoint", daemon=True)
        self.failures = 0

    def start(self, ask_finish: Callable[[], None]) -> None:
        """Begin watching; `ask_finish` must make the writer call `finish_on_writer`."""
        self._ask_finish = ask_finish
        self._thread.start()

    def stop(self) -> None:
        """End the thread after what it is at."""
        self._stopping = True
        self._wanted.set()
        self._thread.join()

    # On the writer thread

    def group_starts_on_writer(self) -> None:
        """Note that a group begins to be written."""
        self._started += 1

    def group_durable_on_writer(self, byte_size: int) -> None:
        """Note that this group is committed; wakes the thread when enough has gathered."""
        self._durable = self._started
        self._written_bytes += byte_size + _GROUP_OVERHEAD_BYTES
        if self._written_bytes >= self._wal_bytes and not self._is_busy:
            self._is_busy = True
            self._copied.clear()
            self._wanted.set()
        elif self._is_busy and self._written_bytes >= _WAIT_FACTOR * self._wal_bytes:
            # The thread gets too little of the machine: a longer log would only make it worse.
            self._copied.wait(_WAIT_S)

    def finish_on_writer(self, connection: sqlite3.Connection) -> None:
        """Copy the rest; no commit can come in between."""
        try:
            connection.execute(_CHECKPOINT).fetchall()
        except sqlite3.Error:
            # A full disk, for example: the log stays longer and the next round tries again.
            self.failures += 1
        self._written_bytes = 0
        self._is_busy = False

    def relieve_on_writer(self, connection: sqlite3.Connection) -> None:
        """After a failed write: let the log start over if it can, for the sake of its space."""
        if not self._is_busy:
            self.finish_on_writer(connection)

    # On the thread

    def _run(self) -> None:
        while True:
            self._wanted.wait()
            self._wanted.clear()
            if self._stopping:
                return
            try:
                self._copy_pages()
            except sqlite3.Error:
                self.failures += 1
            self._ask_finish()
            self._copied.set()

    def _copy_pages(self) -> None:
        pin = connect_reader(self._path)
        worker = sqlite3.connect(self._path, isolation_level=None)
        try:
            worker.execute("PRAGMA wal_autocheckpoint = 0")
            for _ in range(_PASSES_MAX):
                started = self._copy_pinned(pin, worker)
                if self._durable <= started:
                    return
        finally:
            worker.close()
            pin.close()

    def _copy_pinned(self, pin: sqlite3.Connection, worker: sqlite3.Connection) -> int:
        """One pass; the number of groups that had begun when the log was pinned."""
        pin.execute("BEGIN")
        try:
            pin.execute("SELECT count(*) FROM state").fetchall()
            started = self._started
            worker.execute(_CHECKPOINT).fetchall()
        finally:
            pin.execute("COMMIT")
        return started
