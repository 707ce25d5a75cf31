"""The message log on SQLite."""

import asyncio
import logging
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from hotpath.model.message import Batch, DeadLetter
from hotpath.model.names import SubscriptionId, TopicKey
from hotpath.ports import Bounds, Commit, LogFailure, Recovered
from hotpath.storage.numbering import Numbering
from hotpath.storage.segments import Segment, choose_expired
from hotpath.storage.sqlite.backup import copy_database
from hotpath.storage.sqlite.catalogue import Catalogue, batch_table
from hotpath.storage.sqlite.connection import is_corruption
from hotpath.storage.sqlite.database import CLOSED, SqliteDatabase
from hotpath.storage.sqlite.reading import (
    read_batches,
    read_dead_letters,
    seek_time,
    warm_segment,
)
from hotpath.storage.sqlite.writer import CommitJob

#: Reports of damage that are remembered, so that each is made once.
_REPORTS_MAX: Final = 1000

_log = logging.getLogger("hotpath.storage")


class SqliteLog:
    """A `MessageLog` in a data directory that one process holds.

    `on_damage` is called in the event loop for everything that had to be left out, once each;
    by default that is logged.
    """

    def __init__(
        self, database: SqliteDatabase, *, on_damage: Callable[[str], None] | None = None
    ) -> None:
        self._database = database
        self._numbering = Numbering()
        self._catalogue = Catalogue()
        self._on_damage = on_damage or _log_damage
        self._reported: set[str] = set()

    async def open(self) -> Recovered:
        """Take the data directory. Raises LogFailure when it is in use, too new or unreadable."""
        opening = await self._database.open()
        self._numbering, self._catalogue = opening.numbering, opening.catalogue
        return opening.recovered

    def commit(self, work: Commit) -> Awaitable[list[Batch]]:
        """Hand a commit to the writer; its numbers are given now."""
        future: asyncio.Future[list[Batch]] = asyncio.get_running_loop().create_future()
        if not self._database.is_open:
            future.set_exception(LogFailure(CLOSED))
            return future
        self._database.submit(CommitJob(work, self._numbering.number(work), future))
        return future

    async def read(self, topic: TopicKey, from_seq: int, *, bytes_max: int) -> list[Batch]:
        """Read batches on a reader thread; damaged ones are left out and reported."""
        found = await self._database.query(
            lambda reader: read_batches(reader, topic, from_seq, bytes_max)
        )
        self._report(found.damage)
        return found.batches

    async def bounds(self, topic: TopicKey) -> Bounds:
        """What the topic holds, from memory."""
        self._check_open()
        return self._numbering.bounds(topic)

    def topics(self) -> list[TopicKey]:
        """All topics that have ever had a message. Raises LogFailure."""
        self._check_open()
        return list(self._catalogue.topics)

    async def seek(self, topic: TopicKey, enqueued_ms: int) -> int:
        """Search the keys of the batches for a time."""
        # Asked before: what is committed while it is searched must not be passed over.
        oldest = self._numbering.oldest(topic)
        found = await self._database.query(lambda reader: seek_time(reader, topic, enqueued_ms))
        return oldest if found is None else max(oldest, found)

    async def trim(self, *, before_ms: int, bytes_max: int | None) -> dict[TopicKey, Bounds]:
        """Drop segments one by one, so that commits come in between.

        When that fails half-way, what is gone is told and the rest is tried next time.
        """
        expired = await self._database.call(
            lambda _: choose_expired(
                self._catalogue.segments(), before_ms=before_ms, bytes_max=bytes_max
            )
        )
        changed: dict[TopicKey, Bounds] = {}
        for segment in expired:
            try:
                await self._drop(segment, changed)
            except LogFailure as failure:
                if not changed:
                    raise
                _log.error("retention stopped", extra={"reason": failure.detail})
                break
        return changed

    async def _drop(self, segment: Segment, changed: dict[TopicKey, Bounds]) -> None:
        await self._database.query(lambda reader: _warm(reader, segment))
        first_seq = await self._database.call(lambda writer: self._drop_on_writer(writer, segment))
        changed[segment.topic] = self._numbering.trimmed(segment.topic, first_seq)

    def _drop_on_writer(self, connection: sqlite3.Connection, segment: Segment) -> int:
        """Drop one segment in a transaction of its own; the topic's new first number."""
        segments = self._catalogue.topics[segment.topic].segments
        try:
            self._drop_table(connection, segment)
        except sqlite3.DatabaseError as error:
            if not is_corruption(error):
                raise
            connection.execute("ROLLBACK")
            # Its pages stay lost, but it must not stand in the way of retention for ever.
            connection.execute("DELETE FROM segment WHERE id = ?", (segment.id,))
        segments[:] = [other for other in segments if other.id != segment.id]
        return segments[0].first_seq

    def _drop_table(self, connection: sqlite3.Connection, segment: Segment) -> None:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("DELETE FROM segment WHERE id = ?", (segment.id,))
        connection.execute(f"DROP TABLE {batch_table(segment.id)}")
        self._database.options.probe("segment-drop")
        connection.execute("COMMIT")

    async def dead_letters(
        self, subscription: SubscriptionId, *, from_seq: int, limit: int
    ) -> list[DeadLetter]:
        """Read dead letters on a reader thread; damaged ones are left out and reported."""
        letters, damage = await self._database.query(
            lambda reader: read_dead_letters(reader, subscription, from_seq, limit)
        )
        self._report(damage)
        return letters

    async def backup(self, target: Path) -> None:
        """Copy the database, records included, to a new file while it is in use.

        Raises LogFailure when the target exists or cannot be written.
        """
        self._check_open()
        await asyncio.to_thread(copy_database, self._database.path, target)

    async def close(self) -> None:
        """Finish what was handed in and release the directory."""
        numbers = [
            (next_seq, key.tenant, key.topic.value)
            for key, next_seq in self._numbering.next_seqs().items()
        ]

        def keep_numbers(connection: sqlite3.Connection) -> None:
            # Numbers of failed commits stay unused also after a restart.
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(
                "UPDATE topic SET next_seq = max(next_seq, ?) WHERE tenant = ? AND name = ?",
                numbers,
            )
            connection.execute("COMMIT")

        try:
            await self._database.close(keep_numbers)
        except LogFailure as failure:
            # Everything that was answered is durable; only a tidy end is missing.
            _log.warning("log closed untidily", extra={"reason": failure.detail})

    def _check_open(self) -> None:
        if not self._database.is_open:
            raise LogFailure(CLOSED)

    def _report(self, damage: list[str]) -> None:
        for text in damage:
            if text not in self._reported and len(self._reported) < _REPORTS_MAX:
                self._reported.add(text)
                self._on_damage(text)


def _warm(reader: sqlite3.Connection, segment: Segment) -> None:
    try:
        warm_segment(reader, segment.id)
    except sqlite3.DatabaseError as error:
        if not is_corruption(error):
            raise


def _log_damage(text: str) -> None:
    _log.error("log damaged", extra={"what": text})
