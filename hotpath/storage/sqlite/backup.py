"""A copy of the database while it is in use."""

import os
import sqlite3
from pathlib import Path

from hotpath.ports import LogFailure
from hotpath.storage.sqlite.connection import connect_reader, failure_from


def copy_database(source: Path, target: Path) -> None:
    """Write a consistent copy of everything committed so far to a new file.

    Commits go on meanwhile; the write-ahead log cannot start over until the copy is done, so it
    grows by what is written in that time. Restored by placing the copy as `hotpath.db` in an
    empty data directory.

    Raises LogFailure when the target exists or cannot be written; it is then not there.
    """
    partial = target.with_name(target.name + ".partial")
    try:
        if target.exists():
            raise LogFailure(f"{target} exists already")
        os.close(os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    except OSError as error:
        raise LogFailure(f"{partial} cannot be written: {error.strerror}") from error
    try:
        _copy(source, partial)
        _flush(partial)
        partial.rename(target)
        _flush(target.parent)
    except (sqlite3.Error, OSError) as error:
        raise failure_from(error, target) from error
    finally:
        partial.unlink(missing_ok=True)


def _copy(source: Path, target: Path) -> None:
    reader = connect_reader(source)
    try:
        copy = sqlite3.connect(target, isolation_level=None)
        try:
            # In one step: a copy by parts begins anew at every commit.
            reader.backup(copy, pages=-1)
        finally:
            copy.close()
    finally:
        reader.close()


def _flush(path: Path) -> None:
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
