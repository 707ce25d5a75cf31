"""A group of commits as few statements.

Every statement lets go of Python's interpreter lock and has to get it back from a busy event loop,
so the usual group, which appends to one topic and moves some progress, is a single statement: an
insert into a temporary view whose trigger writes the batches and the journal row. Whatever else
happens makes the group an explicit transaction. What the catalogue says changes only after the
commit.
"""

import json
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from hotpath.model.message import Batch
from hotpath.model.names import TopicKey
from hotpath.ports import Commit
from hotpath.storage.encoding import (
    batch_crc,
    encode_body,
    encode_deltas,
    encode_forgotten,
    encode_progress,
    journal_crc,
    note_first,
    payload_crc,
    progress_crc,
)
from hotpath.storage.segments import Segment, SegmentLimits
from hotpath.storage.sqlite.catalogue import Catalogue, TopicLog, batch_table
from hotpath.storage.sqlite.connection import is_corruption
from hotpath.storage.sqlite.writer import GroupJob, RecordJob

#: Rows of one insert; each number of rows is a statement of its own to prepare.
_ROWS_MAX: Final = 16
_NO_JOURNAL: Final = (None, None, None)
#: Needless journal rows that one group removes, so that none takes long.
_JOURNAL_ROWS_MAX: Final = 1000

_Row = tuple[int, int, int, int, int, bytes]


@dataclass(slots=True)
class _Growth:
    """What a group adds to one topic; `segment` is the new state of its last segment."""

    topic: TopicLog
    segment: Segment
    is_new_topic: bool
    is_new_segment: bool
    rows: list[_Row] = field(default_factory=list)


@dataclass(slots=True)
class _Plan:
    """A group's work before anything is written."""

    growths: dict[TopicKey, _Growth]
    journal_id: int
    journal: bytes
    is_plain: bool
    """Nothing but appends to existing segments and progress deltas."""
    journal_from: int = 0
    """Journal rows below this number have been removed; 0 when none were."""

    @property
    def fits_one_statement(self) -> bool:
        """Whether no transaction needs to be opened."""
        rows = sum(len(growth.rows) for growth in self.growths.values())
        return self.is_plain and len(self.growths) <= 1 and rows <= _ROWS_MAX


class Appender:
    """Writes groups through the writer's connection; used on the writer thread only."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        catalogue: Catalogue,
        *,
        limits: SegmentLimits,
        probe: Callable[[str], None],
    ) -> None:
        self._connection = connection
        self._catalogue = catalogue
        self._limits = limits
        self._probe = probe
        self._views: set[int] = set()

    def write_group(self, group: Sequence[GroupJob]) -> int:
        """Make a group durable and return its size in bytes. Raises, then nothing is written."""
        plan = self._plan(group)
        connection = self._connection
        try:
            if plan.fits_one_statement:
                self._write_at_once(plan)
            else:
                connection.execute("BEGIN IMMEDIATE")
                self._write_parts(plan, group)
                self._probe("before-commit")
                connection.execute("COMMIT")
        except BaseException as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            if is_corruption(error):
                self._seal(plan)
            raise
        self._probe("after-commit")
        self._settle(plan)
        self._settle_progress(plan, group)
        return len(plan.journal) + sum(len(row[5]) for row in _rows(plan))

    # Planning

    def _plan(self, group: Sequence[GroupJob]) -> _Plan:
        growths: dict[TopicKey, _Growth] = {}
        entries: list[bytes] = []
        is_plain = True
        for job in group:
            if isinstance(job, RecordJob):
                is_plain = False
                continue
            for batch in job.batches:
                self._plan_batch(growths, batch)
            entries += encode_deltas(job.work.progress)
            entries.extend(map(encode_forgotten, job.work.forgotten))
            is_plain = is_plain and _is_plain(job.work)
        is_plain = is_plain and not any(growth.is_new_segment for growth in growths.values())
        journal_id = self._catalogue.last_journal_id + 1
        return _Plan(growths, journal_id, b"".join(entries), is_plain)

    def _plan_batch(self, growths: dict[TopicKey, _Growth], batch: Batch) -> None:
        if not batch.count or batch.payloads is None:
            return
        growth = growths.get(batch.topic)
        if growth is None:
            growth = growths[batch.topic] = self._plan_growth(batch, growths)
        segment = growth.segment
        body = encode_body(batch.payloads)
        segment.byte_size += batch.byte_size
        segment.last_ms = batch.enqueued_ms
        key = (batch.first_seq, batch.count, batch.enqueued_ms)
        growth.rows.append((*key, segment.byte_size, batch_crc(segment.id, key, body), body))

    def _plan_growth(self, batch: Batch, growths: dict[TopicKey, _Growth]) -> _Growth:
        """Take the topic's last segment or begin one."""
        catalogue = self._catalogue
        fresh = list(growths.values())
        topic = catalogue.topics.get(batch.topic)
        is_new_topic = topic is None
        if topic is None:
            topic = TopicLog(catalogue.last_topic_id + 1 + sum(g.is_new_topic for g in fresh))
        last = topic.segments[-1] if topic.segments and not topic.sealed else None
        if last is not None and not last.is_full(self._limits, batch.enqueued_ms):
            return _Growth(topic, replace(last), is_new_topic, is_new_segment=False)
        number = catalogue.last_segment_id + 1 + sum(g.is_new_segment for g in fresh)
        at_ms = batch.enqueued_ms
        segment = Segment(number, batch.topic, batch.first_seq, first_ms=at_ms, last_ms=at_ms)
        return _Growth(topic, segment, is_new_topic, is_new_segment=True)

    def _settle(self, plan: _Plan) -> None:
        """Let the catalogue know what has been written."""
        catalogue = self._catalogue
        catalogue.last_journal_id = plan.journal_id
        for key, growth in plan.growths.items():
            topic = growth.topic
            catalogue.topics[key] = topic
            catalogue.last_topic_id = max(catalogue.last_topic_id, topic.id)
            catalogue.last_segment_id = max(catalogue.last_segment_id, growth.segment.id)
            if growth.is_new_segment:
                topic.segments.append(growth.segment)
                topic.sealed = False
            else:
                topic.segments[-1] = growth.segment

    def _settle_progress(self, plan: _Plan, group: Sequence[GroupJob]) -> None:
        """Keep account of which journal rows are still needed."""
        catalogue = self._catalogue
        catalogue.oldest_journal_id = max(catalogue.oldest_journal_id, plan.journal_from)
        first_deltas = catalogue.first_deltas
        for job in group:
            if isinstance(job, RecordJob):
                continue
            for subscription, _ in job.work.snapshots:
                first_deltas.pop(subscription, None)
            note_first(first_deltas, job.work.progress, plan.journal_id)
            for subscription in job.work.forgotten:
                first_deltas.pop(subscription, None)

    def _seal(self, plan: _Plan) -> None:
        """Let the next append begin a segment: the damage may be in the growing ones."""
        for growth in plan.growths.values():
            growth.topic.sealed = True

    # One statement

    def _write_at_once(self, plan: _Plan) -> None:
        journal = self._journal_row(plan)
        if not plan.growths:
            if plan.journal:
                self._connection.execute("INSERT INTO journal VALUES (?, ?, ?)", journal)
            return
        growth = next(iter(plan.growths.values()))
        if plan.journal:
            view = self._view(growth.segment.id)
            places = ",".join(["(?,?,?,?,?,?,?,?,?)"] * len(growth.rows))
            values = [*growth.rows[0], *journal]
            for row in growth.rows[1:]:
                values += (*row, *_NO_JOURNAL)
            self._connection.execute(f"INSERT INTO {view} VALUES {places}", values)  # noqa: S608
        else:
            self._write_rows(growth)

    def _view(self, segment_id: int) -> str:
        """The view that writes batches of a segment together with a journal row."""
        view = f"append_{segment_id}"
        if segment_id in self._views:
            return view
        table = batch_table(segment_id)
        columns = "first_seq, count, enqueued_ms, end_bytes, crc, body"
        # The name is a number of ours, no foreign text.
        self._connection.execute(
            f"""CREATE TEMP VIEW IF NOT EXISTS {view} AS SELECT {columns},
                0 AS journal_id, 0 AS journal_crc, NULL AS journal FROM {table}"""  # noqa: S608
        )
        self._connection.execute(
            f"""CREATE TEMP TRIGGER IF NOT EXISTS {view}_insert INSTEAD OF INSERT ON {view} BEGIN
                INSERT INTO {table} VALUES (new.first_seq, new.count, new.enqueued_ms,
                    new.end_bytes, new.crc, new.body);
                INSERT INTO journal SELECT new.journal_id, new.journal_crc, new.journal
                    WHERE new.journal IS NOT NULL;
                END"""  # noqa: S608
        )
        self._views.add(segment_id)
        return view

    def _forget_view(self, segment_id: int) -> None:
        """Drop the view of a segment that no longer grows."""
        if segment_id in self._views:
            self._connection.execute(f"DROP VIEW IF EXISTS append_{segment_id}")
            self._views.discard(segment_id)

    # One transaction of several statements

    def _write_parts(self, plan: _Plan, group: Sequence[GroupJob]) -> None:
        for growth in plan.growths.values():
            self._begin_segment(growth)
            self._write_rows(growth)
        self._probe("after-append")
        for job in group:
            if isinstance(job, RecordJob):
                self._connection.executemany(job.statement, job.rows)
            else:
                self._write_snapshots(job.work, plan)
                self._write_dead_letters(job.work)
                self._write_scheduled(job.work)
                self._write_rest(job.work)
        self._write_journal(plan)

    def _begin_segment(self, growth: _Growth) -> None:
        """Write what a new topic or segment needs before its first row."""
        execute = self._connection.execute
        segment, topic = growth.segment, growth.topic
        if growth.is_new_topic:
            row = (topic.id, segment.topic.tenant, segment.topic.topic.value, segment.first_seq)
            execute("INSERT INTO topic VALUES (?, ?, ?, ?)", row)
        if not growth.is_new_segment:
            return
        if topic.segments:
            old = topic.segments[-1]
            closing = (old.last_ms, old.byte_size, old.id)
            execute("UPDATE segment SET last_ms = ?, byte_size = ? WHERE id = ?", closing)
            self._forget_view(old.id)
        opening = (segment.id, topic.id, segment.first_seq, segment.first_ms)
        execute("INSERT INTO segment VALUES (?, ?, ?, ?, NULL, NULL)", opening)
        execute(
            f"""CREATE TABLE {batch_table(segment.id)} (
                first_seq INTEGER PRIMARY KEY, count INTEGER NOT NULL,
                enqueued_ms INTEGER NOT NULL, end_bytes INTEGER NOT NULL,
                crc INTEGER NOT NULL, body BLOB NOT NULL)"""
        )
        self._probe("segment-roll")

    def _write_rows(self, growth: _Growth) -> None:
        table = batch_table(growth.segment.id)
        for start in range(0, len(growth.rows), _ROWS_MAX):
            rows = growth.rows[start : start + _ROWS_MAX]
            places = ",".join(["(?,?,?,?,?,?)"] * len(rows))
            values = [value for row in rows for value in row]
            self._connection.execute(f"INSERT INTO {table} VALUES {places}", values)  # noqa: S608

    def _journal_row(self, plan: _Plan) -> tuple[int, int, bytes]:
        return plan.journal_id, journal_crc(plan.journal_id, plan.journal), plan.journal

    def _write_journal(self, plan: _Plan) -> None:
        if plan.journal:
            row = self._journal_row(plan)
            self._connection.execute("INSERT INTO journal VALUES (?, ?, ?)", row)

    def _write_snapshots(self, work: Commit, plan: _Plan) -> None:
        """Replace progress by snapshots, all in one statement; drop deltas they make needless."""
        if work.snapshots:
            rows = []
            for subscription, progress in work.snapshots:
                text = encode_progress(progress)
                crc = progress_crc(subscription, plan.journal_id, text)
                rows.append((subscription, crc, text))
            self._connection.execute(
                """INSERT OR REPLACE INTO progress (subscription, journal_id, crc, body)
                SELECT json_extract(value, '$[0]'), ?, json_extract(value, '$[1]'),
                    json_extract(value, '$[2]') FROM json_each(?)""",
                (plan.journal_id, json.dumps(rows)),
            )
            self._trim_journal(work, plan)

    def _trim_journal(self, work: Commit, plan: _Plan) -> None:
        """Remove rows that no subscription needs, oldest first."""
        catalogue = self._catalogue
        covered = (subscription for subscription, _ in work.snapshots)
        floor = catalogue.journal_floor(covered, default=plan.journal_id)
        if floor >= plan.journal_id:
            # Without a condition SQLite drops the rows by the page.
            self._connection.execute("DELETE FROM journal")
            plan.journal_from = plan.journal_id
        elif floor > catalogue.oldest_journal_id:
            plan.journal_from = min(floor, catalogue.oldest_journal_id + _JOURNAL_ROWS_MAX)
            self._connection.execute("DELETE FROM journal WHERE id < ?", (plan.journal_from,))

    def _write_dead_letters(self, work: Commit) -> None:
        many = self._connection.executemany
        if work.dead:
            rows = []
            for subscription, letter in work.dead:
                texts = (subscription, letter.reason, letter.description)
                crc = payload_crc(letter.seq, letter.enqueued_ms, texts, letter.payload)
                key = (subscription, letter.seq, letter.enqueued_ms)
                told = (letter.reason, letter.description, letter.delivery_count)
                rows.append((*key, *told, crc, letter.payload))
            many("INSERT OR REPLACE INTO dead_letter VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
            self._probe("dead-letter")
        if work.dead_updates:
            counts = [(count, subscription, seq) for subscription, seq, count in work.dead_updates]
            many(
                "UPDATE dead_letter SET delivery_count = ? WHERE subscription = ? AND seq = ?",
                counts,
            )
        if work.dead_removals:
            many("DELETE FROM dead_letter WHERE subscription = ? AND seq = ?", work.dead_removals)

    def _write_scheduled(self, work: Commit) -> None:
        many = self._connection.executemany
        if work.scheduled:
            rows = []
            for message in work.scheduled:
                key = (message.topic.tenant, message.topic.topic.value)
                crc = payload_crc(message.number, message.due_ms, key, message.payload)
                rows.append((*key, message.number, message.due_ms, crc, message.payload))
            many("INSERT OR REPLACE INTO scheduled VALUES (?, ?, ?, ?, ?, ?)", rows)
        if work.scheduled_removals:
            gone = [(key.tenant, key.topic.value, n) for key, n in work.scheduled_removals]
            many("DELETE FROM scheduled WHERE tenant = ? AND name = ? AND number = ?", gone)

    def _write_rest(self, work: Commit) -> None:
        """Drop what is forgotten and note the heartbeat."""
        if work.forgotten:
            gone = [(subscription,) for subscription in work.forgotten]
            self._connection.executemany("DELETE FROM progress WHERE subscription = ?", gone)
            self._connection.executemany("DELETE FROM dead_letter WHERE subscription = ?", gone)
        if work.alive_ms is not None:
            beat = ("alive_ms", work.alive_ms)
            self._connection.execute("INSERT OR REPLACE INTO state VALUES (?, ?)", beat)


def _is_plain(work: Commit) -> bool:
    """Whether a commit holds nothing but appends and progress deltas."""
    return not (
        work.snapshots
        or work.dead
        or work.dead_updates
        or work.dead_removals
        or work.scheduled
        or work.scheduled_removals
        or work.forgotten
        or work.alive_ms is not None
    )


def _rows(plan: _Plan) -> Iterator[_Row]:
    for growth in plan.growths.values():
        yield from growth.rows
