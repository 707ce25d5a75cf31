"""`hotpath backup`: a copy of a data directory, taken while the service works or while it rests.

It reads the files as their owner does and needs no running service. The copy is made in one read
transaction, so it holds everything that was answered before it began, and no half of anything.
"""

import os
import shutil
import sqlite3
from pathlib import Path
from typing import Final

import click

from hotpath.auth.keys import DEVELOPMENT_KEY_FILE, write_private
from hotpath.auth.sealing import SEALING_KEY_FILE
from hotpath.cli.configfile import config_option
from hotpath.cli.options import data_dir_option, json_option, option
from hotpath.cli.output import to_line
from hotpath.cli.running import Failure
from hotpath.ports import LogFailure
from hotpath.storage.sqlite.backup import copy_database
from hotpath.storage.sqlite.connection import DATABASE_NAME

_MEBIBYTE: Final = 1_048_576


@click.command("backup")
@config_option
@click.argument("target", type=click.Path(path_type=Path))
@data_dir_option
@option("--check", is_flag=True, help="Read the whole copy and check it before it counts.")
@json_option
def command(*, target: Path, data_dir: Path, check: bool, as_json: bool) -> None:
    """Copy the data directory to the new directory TARGET, also while the service works.

    The copy is a data directory itself: to restore, let a service start on it. It holds secrets
    (signing keys, the development key, the key of webhook secrets) and is readable by its owner alone.
    """
    if not (data_dir / DATABASE_NAME).is_file():
        raise Failure(f"--data-dir {data_dir}: there is no {DATABASE_NAME} in it")
    if target.exists():
        raise Failure(f"{target} exists already; name a new directory")
    draft = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        draft.mkdir(mode=0o700, parents=True)
        fill(data_dir, draft, check=check)
        draft.rename(target)
    except LogFailure as failure:
        raise Failure(f"no backup: {failure.detail}") from failure
    except OSError as error:
        raise Failure(f"no backup: {error}") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    size = (target / DATABASE_NAME).stat().st_size
    if as_json:
        click.echo(to_line({"backup": str(target), "bytes": size}))
    else:
        click.echo(f"{target}: {size / _MEBIBYTE:.1f} MiB")


def fill(data_dir: Path, target: Path, *, check: bool) -> None:
    """Copy what a data directory needs into another. Raises LogFailure, OSError."""
    copy_database(data_dir / DATABASE_NAME, target / DATABASE_NAME)
    if check:
        _check(target / DATABASE_NAME)
    for name in (DEVELOPMENT_KEY_FILE, SEALING_KEY_FILE):
        if (data_dir / name).is_file():
            write_private(target / name, (data_dir / name).read_bytes())


def _check(path: Path) -> None:
    """Raises LogFailure when SQLite finds the file damaged."""
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
    try:
        found = [str(row[0]) for row in connection.execute("PRAGMA integrity_check(5)")]
    except sqlite3.Error as error:
        found = [str(error)]
    finally:
        connection.close()
    if found != ["ok"]:
        raise LogFailure("the copy is damaged: " + "; ".join(found))
