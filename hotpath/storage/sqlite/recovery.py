"""What is known at the opening: topics, segments, progress, schedules; no payload is read.

Damage to a batch is found when the batch is read. Here it is found in the journal and snapshots of
progress and at the very end of a topic, where the next sequence number comes from: when that end
is unreadable, numbering goes on far behind it, since a number must never be given twice.
"""

import sqlite3
from dataclasses import dataclass, field
from typing import Final

from hotpath.model.names import SubscriptionId, TenantId, Topic, TopicKey
from hotpath.model.subscription import Progress
from hotpath.ports import Bounds, Recovered, Scheduled
from hotpath.storage.encoding import (
    Damaged,
    Forgotten,
    JournalEntry,
    decode_journal,
    decode_progress,
    payload_crc,
)
from hotpath.storage.numbering import Numbering
from hotpath.storage.segments import Segment
from hotpath.storage.sqlite.catalogue import Catalogue, TopicLog, batch_table
from hotpath.storage.sqlite.connection import is_corruption
from hotpath.storage.sqlite.rows import FAR, RowKey, Span, build_batch

#: How far numbering jumps when the end of a topic cannot be read.
NUMBER_GAP: Final = 1 << 32


@dataclass(slots=True)
class Opening:
    """Everything the adapters start from."""

    catalogue: Catalogue = field(default_factory=Catalogue)
    numbering: Numbering = field(default_factory=Numbering)
    recovered: Recovered = field(default_factory=Recovered)


def recover(connection: sqlite3.Connection, wal_loss: str | None) -> Opening:
    """Read the state of the database. Raises sqlite3.Error when its tables are unusable."""
    opening = Opening()
    if wal_loss is not None:
        opening.recovered.damage.append(wal_loss)
    _load_topics(connection, opening, gap=NUMBER_GAP if wal_loss is not None else 0)
    snapshot_ids = _load_snapshots(connection, opening)
    _apply_journal(connection, opening, snapshot_ids)
    _load_scheduled(connection, opening.recovered)
    for name, seq, count, size in connection.execute(
        "SELECT subscription, seq, delivery_count, length(payload) FROM dead_letter "
        "ORDER BY subscription, seq"
    ):
        opening.recovered.dead.setdefault(SubscriptionId(name), {})[seq] = count
        opening.recovered.dead_sizes.setdefault(SubscriptionId(name), {})[seq] = size
    row = connection.execute("SELECT value FROM state WHERE key = 'alive_ms'").fetchone()
    opening.recovered.alive_ms = None if row is None else row[0]
    return opening


# Topics


def _load_topics(connection: sqlite3.Connection, opening: Opening, *, gap: int) -> None:
    catalogue = opening.catalogue
    for number, tenant, name, next_seq in connection.execute("SELECT * FROM topic").fetchall():
        catalogue.last_topic_id = max(catalogue.last_topic_id, number)
        try:
            key = TopicKey(TenantId(tenant), Topic(name))
        except ValueError:
            opening.recovered.damage.append(f"a topic has the unknown name {name!r}")
            continue
        topic = TopicLog(number, _load_segments(connection, key, number))
        catalogue.topics[key] = topic
        _continue_topic(connection, opening, topic=topic, key=key, next_seq=next_seq + gap)
    row = connection.execute("SELECT max(id) FROM segment").fetchone()
    catalogue.last_segment_id = row[0] or 0


def _load_segments(connection: sqlite3.Connection, key: TopicKey, topic_id: int) -> list[Segment]:
    rows = connection.execute(
        """SELECT id, first_seq, first_ms, ifnull(last_ms, first_ms), ifnull(byte_size, 0)
        FROM segment WHERE topic_id = ? ORDER BY first_seq""",
        (topic_id,),
    )
    return [
        Segment(number, key, first_seq, first_ms=first_ms, last_ms=last_ms, byte_size=byte_size)
        for number, first_seq, first_ms, last_ms, byte_size in rows
    ]


def _continue_topic(
    connection: sqlite3.Connection,
    opening: Opening,
    *,
    topic: TopicLog,
    key: TopicKey,
    next_seq: int,
) -> None:
    """Find the end of a topic in its last batch."""
    last_ms = 0
    first_seq = topic.segments[0].first_seq if topic.segments else next_seq
    if topic.segments:
        segment = topic.segments[-1]
        last_ms = segment.first_ms
        try:
            next_seq = max(next_seq, _read_end(connection, segment))
            last_ms = segment.last_ms
        except Damaged as error:
            next_seq = max(next_seq, segment.first_seq) + NUMBER_GAP
            topic.sealed = True
            opening.recovered.damage.append(
                f"{key.tenant}/{key.topic}: the end of the log is damaged ({error}); "
                f"numbering goes on at {next_seq}"
            )
    opening.numbering.restore(key, Bounds(min(first_seq, next_seq), next_seq), last_ms=last_ms)


def _read_end(connection: sqlite3.Connection, segment: Segment) -> int:
    """Bring a growing segment up to its last batch; the sequence number after that.

    Raises Damaged.
    """
    try:
        row = connection.execute(
            f"SELECT first_seq, count, enqueued_ms, crc, body, end_bytes "  # noqa: S608
            f"FROM {batch_table(segment.id)} ORDER BY first_seq DESC LIMIT 1"
        ).fetchone()
    except sqlite3.DatabaseError as error:
        raise Damaged(str(error)) from error
    if row is None or not isinstance(row[4], bytes) or not isinstance(row[5], int):
        raise Damaged("the last batch is missing or unreadable")
    key = RowKey.of((*row[:4], len(row[4])))
    build_batch(Span(segment.topic, segment.id, 0, FAR, None), key, row[4])
    segment.last_ms = key.enqueued_ms
    segment.byte_size = row[5]
    return key.end_seq


# Progress


def _load_snapshots(connection: sqlite3.Connection, opening: Opening) -> dict[SubscriptionId, int]:
    """Snapshots of progress; the journal row from which on deltas come on top of each."""
    journal_ids: dict[SubscriptionId, int] = {}
    catalogue, recovered = opening.catalogue, opening.recovered
    for row in _read_all(connection, "progress", key="subscription", damage=recovered.damage):
        match row:
            case (str(name), int(journal_id), int(crc), str(text)):
                catalogue.last_journal_id = max(catalogue.last_journal_id, journal_id)
                journal_ids[SubscriptionId(name)] = journal_id
                try:
                    progress = decode_progress(name, journal_id, crc=crc, text=text)
                except Damaged as error:
                    recovered.damage.append(f"progress of {name}: {error}")
                else:
                    recovered.progress[SubscriptionId(name)] = progress
            case _:
                recovered.damage.append(f"progress of {row[0]!r} is unreadable")
    return journal_ids


def _apply_journal(
    connection: sqlite3.Connection, opening: Opening, snapshot_ids: dict[SubscriptionId, int]
) -> None:
    catalogue, recovered = opening.catalogue, opening.recovered
    for row in _read_all(connection, "journal", key="id", damage=recovered.damage):
        match row:
            case (int(row_id), int(crc), bytes(body)):
                catalogue.last_journal_id = max(catalogue.last_journal_id, row_id)
                catalogue.oldest_journal_id = catalogue.oldest_journal_id or row_id
                try:
                    entries = decode_journal(row_id, crc=crc, body=body)
                except Damaged as error:
                    recovered.damage.append(f"progress journal, row {row_id}: {error}")
                else:
                    _apply_entries(entries, row_id, snapshot_ids, opening)
            case _:
                recovered.damage.append(f"progress journal, row {row[0]!r} is unreadable")


def _apply_entries(
    entries: list[JournalEntry],
    row_id: int,
    snapshot_ids: dict[SubscriptionId, int],
    opening: Opening,
) -> None:
    """Bring progress up to a journal row; a later snapshot knows better."""
    progress, first_deltas = opening.recovered.progress, opening.catalogue.first_deltas
    for entry in entries:
        name = entry.subscription if isinstance(entry, Forgotten) else entry[0]
        if snapshot_ids.get(name, 0) > row_id:
            continue
        if isinstance(entry, Forgotten):
            progress.pop(name, None)
            first_deltas.pop(name, None)
        else:
            progress.setdefault(name, Progress(0)).apply(entry[1])
            first_deltas.setdefault(name, row_id)


def _read_all(
    connection: sqlite3.Connection, table: str, *, key: str, damage: list[str]
) -> list[tuple[object, ...]]:
    """All rows of a table by key; from both ends towards a damaged page if there is one."""
    rows, is_whole = _read_until_damage(connection, f"{table} ORDER BY {key}")
    if is_whole:
        return rows
    damage.append(f"the table of {table} is damaged in part")
    known = {row[0] for row in rows}
    tail, _ = _read_until_damage(connection, f"{table} ORDER BY {key} DESC")
    return rows + [row for row in reversed(tail) if row[0] not in known]


def _read_until_damage(
    connection: sqlite3.Connection, table: str
) -> tuple[list[tuple[object, ...]], bool]:
    """Rows up to a damaged page, and whether there was none."""
    rows: list[tuple[object, ...]] = []
    try:
        rows.extend(connection.execute(f"SELECT * FROM {table}"))  # noqa: S608  # ours
    except sqlite3.DatabaseError as error:
        if not is_corruption(error):
            raise
        return rows, False
    return rows, True


# Scheduled messages


def _load_scheduled(connection: sqlite3.Connection, recovered: Recovered) -> None:
    for row in connection.execute(
        "SELECT tenant, name, number, due_ms, crc, payload FROM scheduled "
        "ORDER BY tenant, name, number"
    ):
        match row:
            case (str(tenant), str(name), int(number), int(due_ms), crc, bytes(payload)) if (
                crc == payload_crc(number, due_ms, (tenant, name), payload)
            ):
                key = TopicKey(TenantId(tenant), Topic(name))
                recovered.scheduled.append(Scheduled(key, number, due_ms, payload))
            case _:
                recovered.damage.append(f"scheduled message {row[2]} of {row[0]}/{row[1]}")
