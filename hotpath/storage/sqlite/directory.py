"""The data directory: made private, held by one process at a time."""

import fcntl
import os
from pathlib import Path
from typing import Final

from hotpath.ports import LogFailure

_LOCK_NAME: Final = "hotpath.lock"


class DirectoryLock:
    """Holds a data directory from construction to `release`; the kernel ends it with the process.

    Raises LogFailure when the directory cannot be used or another process holds it.
    """

    def __init__(self, directory: Path) -> None:
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
            self._file = os.open(directory / _LOCK_NAME, flags, 0o600)
        except OSError as error:
            raise LogFailure(f"{directory} cannot be used: {error.strerror}") from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(self._file, 20, 0).decode(errors="replace").strip() or "unknown"
            os.close(self._file)
            raise LogFailure(f"{directory} is in use by another process ({holder})") from error
        self._note_holder()

    def _note_holder(self) -> None:
        """Leave the process id for the message of whoever comes second; a full disk is no fault."""
        try:
            os.ftruncate(self._file, 0)
            os.pwrite(self._file, f"{os.getpid()}\n".encode(), 0)
        except OSError:
            return

    def release(self) -> None:
        """Let others in."""
        os.close(self._file)
