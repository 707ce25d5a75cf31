"""The record store on SQLite: a table a kind, with columns as records bring them.

sqlite-utils makes and widens the tables; rows go through the writer with the log's commits, so
that changes which wait at the same time share one flush to disk. Columns have no type of their
own: a value comes back as it was put in.
"""

import asyncio
import re
import sqlite3
import sys
from collections.abc import Iterable, Sequence
from typing import Final

from hotpath.ports import LogFailure
from hotpath.storage.sqlite.database import SqliteDatabase
from hotpath.storage.sqlite.tables import Database
from hotpath.storage.sqlite.writer import RecordJob

_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,62}")
_KEY: Final = "record_key"
_PREFIX: Final = "record_"


class SqliteStore:
    """A `RecordStore` in the same file as the log, whose opening and closing it shares."""

    def __init__(self, database: SqliteDatabase) -> None:
        self._database = database
        self._columns: dict[str, set[str]] = {}
        # For each table, its columns in the order of the statement that puts a record.
        self._puts: dict[str, tuple[list[str], str]] = {}

    async def load(self, kind: str, *, prefix: str = "") -> list[dict[str, object]]:
        """Records in the order of their creation, None in columns that a record left out."""
        table = _table(kind)
        return await self._database.query(lambda reader: _load(reader, table, prefix))

    async def everything(self) -> dict[str, list[tuple[str, dict[str, object]]]]:
        """Keys and records of every kind there is, in the order of their creation."""
        return await self._database.query(_everything)

    async def put(self, kind: str, key: str, record: dict[str, object]) -> None:
        """Create or replace a record; a replaced one keeps its place in the order."""
        await self.put_many(kind, [(key, record)])

    async def put_many(self, kind: str, records: Sequence[tuple[str, dict[str, object]]]) -> None:
        """Create or replace records in one transaction; replaced ones keep their places."""
        if not records:
            return
        table = _table(kind)
        await self._widen(table, {name for _, record in records for name in record})
        columns, statement = self._puts[table]
        # Columns that this record leaves out lose their old value.
        await self._change(
            statement,
            [(key, *[record.get(column) for column in columns]) for key, record in records],
        )

    async def delete(self, kind: str, keys: Iterable[str]) -> None:
        """Remove records; keys that are not there are passed over."""
        table = _table(kind)
        rows: list[tuple[object, ...]] = [(key,) for key in keys]
        await self._widen(table, set())
        if rows:
            await self._change(f"DELETE FROM {table} WHERE {_KEY} = ?", rows)  # noqa: S608

    async def _change(self, statement: str, rows: list[tuple[object, ...]]) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._database.submit(RecordJob(statement, rows, future))
        await future

    async def _widen(self, table: str, wanted: set[str]) -> None:
        """Make sure the table and its columns exist."""
        known = self._columns.get(table)
        if known is not None and known.issuperset(wanted):
            return
        for column in wanted:
            if not _NAME.fullmatch(column) or column == _KEY:
                raise LogFailure(f"{column!r} is no name for a column")
        columns = await self._database.call(
            lambda writer: _widen_on_writer(writer, table, sorted(wanted))
        )
        # Of two calls at a time the later one, which knows more, may be heard first.
        columns |= self._columns.get(table, set())
        self._columns[table] = columns
        self._puts[table] = _put_statement(table, columns)


def _table(kind: str) -> str:
    if not _NAME.fullmatch(kind):
        raise LogFailure(f"{kind!r} is no kind of record")
    return f"{_PREFIX}{kind}"


def _everything(reader: sqlite3.Connection) -> dict[str, list[tuple[str, dict[str, object]]]]:
    tables = reader.execute(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND substr(name, 1, ?) = ?",
        (len(_PREFIX), _PREFIX),
    ).fetchall()
    found: dict[str, list[tuple[str, dict[str, object]]]] = {}
    for (table,) in tables:
        keys = reader.execute(f"SELECT {_KEY} FROM {table} ORDER BY rowid")  # noqa: S608
        records = _load(reader, table, "")
        found[table.removeprefix(_PREFIX)] = [
            (str(key), record) for (key,), record in zip(keys, records, strict=True)
        ]
    return found


def _put_statement(table: str, known: set[str]) -> tuple[list[str], str]:
    """The columns of a table in order, and the statement that creates or replaces a row."""
    columns = sorted(known)
    names = ", ".join(f'"{name}"' for name in (_KEY, *columns))
    places = ", ".join("?" * (len(columns) + 1))
    changes = ", ".join(f'"{name}" = excluded."{name}"' for name in columns)
    conflict = f"UPDATE SET {changes}" if changes else "NOTHING"
    # Names have been checked against _NAME; values are parameters.
    return columns, (
        f"INSERT INTO {table} ({names}) VALUES ({places}) "  # noqa: S608
        f"ON CONFLICT ({_KEY}) DO {conflict}"
    )


def _widen_on_writer(connection: sqlite3.Connection, name: str, wanted: list[str]) -> set[str]:
    """Create the table or add columns; all columns it has then."""
    database = Database(connection, recursive_triggers=False, execute_plugins=False)
    table = database.table(name)
    connection.execute("BEGIN IMMEDIATE")
    # The type `bytes` gives a column no affinity: "7", 7 and 7.0 stay what they are.
    if not table.exists():
        connection.execute(database.create_table_sql(name, {_KEY: str}, pk=_KEY))
    columns = set(table.columns_dict) - {_KEY}
    for column in wanted:
        if column not in columns:
            connection.execute(f'ALTER TABLE {name} ADD COLUMN "{column}" BLOB')
            columns.add(column)
    connection.execute("COMMIT")
    return columns


def _behind(prefix: str) -> str:
    """The first key behind all that begin with a prefix, in SQLite's order of code points."""
    last = ord(prefix[-1]) + 1
    if last > sys.maxunicode:
        return _behind(prefix[:-1]) if len(prefix) > 1 else prefix * 64
    # Half of a surrogate pair is no character.
    return prefix[:-1] + chr(0xE000 if last == 0xD800 else last)


def _load(reader: sqlite3.Connection, table: str, prefix: str) -> list[dict[str, object]]:
    # What begins with the prefix is a run in the key's index.
    chosen = f"WHERE {_KEY} >= ? AND {_KEY} < ?" if prefix else ""
    parameters = (prefix, _behind(prefix)) if prefix else ()
    try:
        cursor = reader.execute(
            f"SELECT * FROM {table} {chosen} ORDER BY rowid",  # noqa: S608
            parameters,
        )
    except sqlite3.OperationalError:
        exists = reader.execute(
            "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", (table,)
        ).fetchone()
        if exists:
            raise
        return []
    names = [column[0] for column in cursor.description]
    return [
        {name: value for name, value in zip(names, row, strict=True) if name != _KEY}
        for row in cursor
    ]
