"""Connections to the database file, and what SQLite's errors mean to callers."""

import os
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from hotpath.ports import LogFailure
from hotpath.storage.segments import SegmentLimits

DATABASE_NAME: Final = "hotpath.db"
#: Upsert and the JSON functions are needed.
_SQLITE_MIN: Final = (3, 35, 0)
_BUSY_S: Final = 5.0
#: Result codes of SQLite, without their extensions.
CORRUPT_CODES: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_PRIMARY: Final = 0xFF
#: Less room than this counts as a full disk when a write fails.
_ROOM_MIN_BYTES: Final = 1_048_576


@dataclass(frozen=True, slots=True)
class SqliteOptions:
    """How the database is written."""

    synchronous: str = "full"
    """`full`: a commit is on disk when it is answered. `normal`, `off`: it may not be."""
    limits: SegmentLimits = field(default_factory=SegmentLimits)
    wal_bytes: int = 16_777_216
    """Write-ahead log after which its content is moved into the file."""
    readers: int = 2
    """Threads that read."""
    group_bytes_max: int = 8_388_608
    """Payload bytes of commits that are made durable together."""
    pages_max: int | None = None
    """Size limit of the file in pages of 4096 bytes; None is SQLite's own."""
    probe: Callable[[str], None] = lambda _: None
    """Called on the writer thread at named points, for fault tests."""


def require_sqlite() -> None:
    """Raises LogFailure when the SQLite library is too old."""
    if sqlite3.sqlite_version_info < _SQLITE_MIN:
        wanted = ".".join(map(str, _SQLITE_MIN))
        raise LogFailure(f"SQLite {sqlite3.sqlite_version} is too old; {wanted} is needed")


def connect_writer(path: Path, options: SqliteOptions) -> sqlite3.Connection:
    """The one connection that writes; creates the file, readable by its owner only."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    connection = sqlite3.connect(
        path, _BUSY_S, isolation_level=None, check_same_thread=False, cached_statements=512
    )
    pragmas = [
        "page_size = 4096",
        "journal_mode = WAL",
        f"synchronous = {options.synchronous.upper()}",
        # Checkpoints run apart (`checkpoint`), never inside a commit.
        "wal_autocheckpoint = 0",
        f"journal_size_limit = {4 * options.wal_bytes}",
        # Some builds overwrite freed pages with zeros: dropping a segment would rewrite it all.
        "secure_delete = OFF",
        "temp_store = MEMORY",
        "cache_size = -2048",  # KiB: it mostly appends
    ]
    if options.pages_max is not None:
        pragmas.append(f"max_page_count = {options.pages_max}")
    try:
        for pragma in pragmas:
            connection.execute(f"PRAGMA {pragma}").fetchall()
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def connect_reader(path: Path) -> sqlite3.Connection:
    """A connection that cannot write."""
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=ro",
        _BUSY_S,
        uri=True,
        isolation_level=None,
        check_same_thread=False,
    )
    connection.execute("PRAGMA query_only = ON")
    return connection


def is_corruption(error: BaseException) -> bool:
    """Whether SQLite found the file itself damaged."""
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & _PRIMARY in CORRUPT_CODES


def failure_from(error: BaseException, path: Path) -> LogFailure:
    """What a caller is told about an error of SQLite or of the bytes handed to it."""
    code = getattr(error, "sqlite_errorcode", None)
    primary = None if code is None else code & _PRIMARY
    if primary == sqlite3.SQLITE_FULL:
        return LogFailure("no space left for the log", full=True)
    if primary == sqlite3.SQLITE_IOERR and _is_full(path):
        return LogFailure("no space left on the log's disk", full=True)
    if is_corruption(error):
        return LogFailure(f"{path} is damaged ({error}); restore a backup")
    name = getattr(error, "sqlite_errorname", type(error).__name__)
    return LogFailure(f"the log's database failed: {error} ({name})")


def _is_full(path: Path) -> bool:
    try:
        room = os.statvfs(path.parent)
    except OSError:
        return False
    return room.f_bavail * room.f_frsize < _ROOM_MIN_BYTES
