"""Files that hold secrets are their owner's alone."""

import stat
from pathlib import Path
from typing import Final

from hotpath.auth.keys import DEVELOPMENT_KEY_FILE
from hotpath.auth.sealing import SEALING_KEY_FILE
from hotpath.telemetry import get_logger

#: What a data directory holds: the log with the signing keys, keys, addresses.
_OWN_FILES: Final = (
    "hotpath.db",
    "hotpath.db-wal",
    "hotpath.db-shm",
    "hotpath.lock",
    "service.json",
    DEVELOPMENT_KEY_FILE,
    SEALING_KEY_FILE,
)
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO

_log = get_logger("hotpath.files")


def prepare_directory(path: Path) -> None:
    """Create the data directory, closed to others; close its files that are not. Raises OSError.

    A directory that was there before keeps its mode: it may be somebody's on purpose.
    """
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if is_open_to_others(path):
        _log.warning("others may look into the data directory", extra={"directory": str(path)})
    for name in _OWN_FILES:
        if is_open_to_others(path / name):
            close_to_others(path / name)


def is_open_to_others(path: Path) -> bool:
    """Whether anybody but the owner may do anything with a file; False when it is not there."""
    try:
        return bool(path.stat().st_mode & _OTHERS)
    except OSError:
        return False


def close_to_others(path: Path) -> None:
    """Take all rights from others, and say so."""
    try:
        path.chmod(path.stat().st_mode & ~_OTHERS & 0o777)
    except OSError as error:
        _log.error(
            "a file with secrets is open to others",
            extra={"file": str(path), "reason": str(error)},
        )
    else:
        _log.warning("a file was open to others and is not any more", extra={"file": str(path)})


def warn_of_open_key(path: Path | None) -> None:
    """Say that a private key, which is the operator's to keep, can be read by others."""
    if path is not None and is_open_to_others(path):
        _log.warning("others may read the private key", extra={"file": str(path)})
