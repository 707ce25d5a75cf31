"""The schema, made by numbered steps: each one transaction with its record, forward only.

A step that has been released is never changed; a new one is added behind it.
"""

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from hotpath.ports import LogFailure
from hotpath.storage.sqlite.tables import Database


@dataclass(frozen=True, slots=True)
class Migration:
    """One step of the schema."""

    number: int
    name: str
    apply: Callable[[Database], None]


def _create_log(database: Database) -> None:
    """Topics, their segments (the batches are in a table each), progress and copies."""
    for statement in (
        """CREATE TABLE topic (
            id INTEGER PRIMARY KEY, tenant TEXT NOT NULL, name TEXT NOT NULL,
            next_seq INTEGER NOT NULL, UNIQUE (tenant, name))""",
        """CREATE TABLE segment (
            id INTEGER PRIMARY KEY, topic_id INTEGER NOT NULL REFERENCES topic,
            first_seq INTEGER NOT NULL, first_ms INTEGER NOT NULL,
            last_ms INTEGER, byte_size INTEGER)""",
        "CREATE INDEX segment_by_topic ON segment (topic_id, first_seq)",
        "CREATE TABLE journal (id INTEGER PRIMARY KEY, crc INTEGER NOT NULL, body BLOB NOT NULL)",
        """CREATE TABLE progress (
            subscription TEXT PRIMARY KEY, journal_id INTEGER NOT NULL,
            crc INTEGER NOT NULL, body TEXT NOT NULL) WITHOUT ROWID""",
        """CREATE TABLE dead_letter (
            subscription TEXT NOT NULL, seq INTEGER NOT NULL, enqueued_ms INTEGER NOT NULL,
            reason TEXT NOT NULL, description TEXT NOT NULL, delivery_count INTEGER NOT NULL,
            crc INTEGER NOT NULL, payload BLOB NOT NULL, UNIQUE (subscription, seq))""",
        """CREATE TABLE scheduled (
            tenant TEXT NOT NULL, name TEXT NOT NULL, number INTEGER NOT NULL,
            due_ms INTEGER NOT NULL, crc INTEGER NOT NULL, payload BLOB NOT NULL,
            UNIQUE (tenant, name, number))""",
        "CREATE TABLE state (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID",
    ):
        database.execute(statement)


MIGRATIONS: Final = (Migration(1, "log", _create_log),)


def migrate(
    connection: sqlite3.Connection,
    probe: Callable[[str], None],
    *,
    migrations: tuple[Migration, ...] = MIGRATIONS,
) -> None:
    """Bring the schema up to date. Raises LogFailure when a newer release has written the file."""
    database = Database(connection, recursive_triggers=False, execute_plugins=False)
    current = int(connection.execute("PRAGMA user_version").fetchone()[0])
    newest = migrations[-1].number
    if current > newest:
        raise LogFailure(
            f"the database has schema version {current}, this release knows up to {newest}: "
            "it was written by a newer release"
        )
    for migration in migrations:
        if migration.number > current:
            _apply(database, migration, probe)


def _apply(database: Database, migration: Migration, probe: Callable[[str], None]) -> None:
    """Run one step; its record and the version number become visible with it or not at all."""
    connection = database.conn
    connection.execute("BEGIN IMMEDIATE")
    try:
        migration.apply(database)
        probe("migration")
        connection.execute(
            "CREATE TABLE IF NOT EXISTS migration (number INTEGER PRIMARY KEY, name TEXT NOT NULL)"
        )
        record = (migration.number, migration.name)
        connection.execute("INSERT INTO migration (number, name) VALUES (?, ?)", record)
        connection.execute(f"PRAGMA user_version = {migration.number}")
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
