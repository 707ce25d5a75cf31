"""Batches, times and dead letters, read on a connection that cannot write.

A slice of the log is read with two statements whatever the number of batches: one for the keys,
one that returns all bodies as one blob. Each statement lets go of the interpreter lock, and a
reader that had to win it back for every row would starve beside a busy event loop. Bytes that
fail a checksum are then looked at row by row, so that damage costs only what it covers.
"""

import json
import sqlite3
from typing import Final

from hotpath.model.message import Batch, DeadLetter
from hotpath.model.names import SubscriptionId, TopicKey
from hotpath.storage.encoding import Damaged, payload_crc
from hotpath.storage.sqlite.catalogue import batch_table
from hotpath.storage.sqlite.rows import Found, RowKey, Span, build_batch, snapshot, spans
from hotpath.storage.sqlite.salvage import read_carefully

#: Batches of one slice; a reader that wants more asks again.
_ROWS_MAX: Final = 1024
#: Keys read at first, to learn how large the batches are.
_ROWS_FIRST: Final = 8


def read_batches(
    reader: sqlite3.Connection, topic: TopicKey, from_seq: int, bytes_max: int
) -> Found:
    """Batches from the one that holds `from_seq`, as `MessageLog.read`. Raises sqlite3.Error."""
    found = Found()
    with snapshot(reader):
        for span in spans(reader, topic):
            if span.end_seq <= from_seq:
                continue
            _read_span(reader, span, from_seq, bytes_max=bytes_max, found=found)
            if found.is_cut or found.byte_size >= bytes_max:
                break
    return found


def _read_span(
    reader: sqlite3.Connection, span: Span, from_seq: int, *, bytes_max: int, found: Found
) -> None:
    """Add a segment's batches, by the slice if nothing is damaged."""
    try:
        keys = _read_keys(reader, span, from_seq, bytes_max=bytes_max - found.byte_size)
        chosen = _choose(keys, from_seq, bytes_max - found.byte_size, must=not found.batches)
        batches = _read_bodies(reader, span, chosen) if chosen else []
    except (Damaged, sqlite3.DatabaseError):
        read_carefully(reader, span, from_seq, bytes_max=bytes_max, found=found)
        return
    found.batches += batches
    found.is_cut = len(keys) == _ROWS_MAX


def _read_keys(
    reader: sqlite3.Connection, span: Span, from_seq: int, *, bytes_max: int
) -> list[RowKey]:
    """Keys of the next batches, enough for `bytes_max`. Raises Damaged.

    Every key is a page to read, so the number asked for follows from the size of the first ones.
    """
    rows = _ROWS_FIRST
    while True:
        keys = _read_some_keys(reader, span, from_seq, rows)
        # The first may end before `from_seq`.
        size = sum(key.payload_bytes for key in keys[1:])
        if len(keys) < rows or size >= bytes_max or rows == _ROWS_MAX:
            return keys
        rows = min(_ROWS_MAX, 2 * rows + bytes_max * rows // max(size, 1))


def _read_some_keys(
    reader: sqlite3.Connection, span: Span, from_seq: int, rows: int
) -> list[RowKey]:
    table = batch_table(span.segment_id)
    row = reader.execute(
        f"""SELECT json_group_array(json_array(first_seq, count, enqueued_ms, crc, size))
        FROM (SELECT first_seq, count, enqueued_ms, crc, length(body) AS size FROM {table}
            WHERE first_seq >= ifnull(
                (SELECT first_seq FROM {table} WHERE first_seq <= ?
                    ORDER BY first_seq DESC LIMIT 1), 0)
            ORDER BY first_seq LIMIT ?)""",  # noqa: S608  # the name is a number of ours
        (from_seq, rows),
    ).fetchone()
    return [RowKey.of(item) for item in json.loads(row[0])]


def _choose(keys: list[RowKey], from_seq: int, bytes_max: int, *, must: bool) -> list[RowKey]:
    """The keys from the one that holds `from_seq` on, until there are bytes enough."""
    chosen: list[RowKey] = []
    size = 0
    for key in keys:
        if key.end_seq <= from_seq:
            continue
        if size >= bytes_max and (chosen or not must):
            break
        chosen.append(key)
        size += key.payload_bytes
    return chosen


def _read_bodies(reader: sqlite3.Connection, span: Span, keys: list[RowKey]) -> list[Batch]:
    """The batches of some keys, by one statement. Raises Damaged."""
    row = reader.execute(
        f"""SELECT CAST(group_concat(body, '') AS BLOB) FROM (
            SELECT body FROM {batch_table(span.segment_id)}
            WHERE first_seq BETWEEN ? AND ? ORDER BY first_seq)""",  # noqa: S608
        (keys[0].first_seq, keys[-1].first_seq),
    ).fetchone()
    blob = row[0]
    if not isinstance(blob, bytes) or len(blob) != sum(key.body_bytes for key in keys):
        raise Damaged("the bodies do not add up")
    batches = []
    at = 0
    for key in keys:
        batches.append(build_batch(span, key, blob[at : at + key.body_bytes]))
        at += key.body_bytes
    return batches


def seek_time(reader: sqlite3.Connection, topic: TopicKey, enqueued_ms: int) -> int | None:
    """First sequence number enqueued at or after a time; where there is none yet, the next one.

    The next one after what is durable: a batch that is being written has yet to get its place in
    time for whoever asks. None for a topic without batches. Enqueued times do not decrease along a
    topic, so keys are halved; no payload is read.
    """
    with snapshot(reader):
        all_spans = list(spans(reader, topic))
        for span in all_spans:
            if span.last_ms is not None and span.last_ms < enqueued_ms:
                continue
            found = _seek_in_span(reader, span, enqueued_ms)
            if found is not None:
                return found
        for span in reversed(all_spans):
            row = reader.execute(
                f"SELECT first_seq + count FROM {batch_table(span.segment_id)} "  # noqa: S608
                "ORDER BY first_seq DESC LIMIT 1"
            ).fetchone()
            if row is not None:
                return int(row[0])
    return None


def _seek_in_span(reader: sqlite3.Connection, span: Span, enqueued_ms: int) -> int | None:
    table = batch_table(span.segment_id)
    row = reader.execute(f"SELECT max(first_seq) FROM {table}").fetchone()  # noqa: S608
    if row[0] is None:
        return None
    low, high, found = span.first_seq, int(row[0]), None
    while low <= high:
        middle = (low + high) // 2
        # `middle` itself is seldom a key: the row at or after it decides.
        seq, at_ms = reader.execute(
            f"SELECT first_seq, enqueued_ms FROM {table} WHERE first_seq >= ? "  # noqa: S608
            "ORDER BY first_seq LIMIT 1",
            (middle,),
        ).fetchone()
        if at_ms >= enqueued_ms:
            found, high = int(seq), middle - 1
        else:
            low = seq + 1
    return found


def read_dead_letters(
    reader: sqlite3.Connection, subscription: SubscriptionId, from_seq: int, limit: int
) -> tuple[list[DeadLetter], list[str]]:
    """Dead letters in sequence order, and what had to be left out. Raises sqlite3.Error."""
    rows = reader.execute(
        """SELECT seq, enqueued_ms, reason, description, delivery_count, crc, payload
        FROM dead_letter WHERE subscription = ? AND seq >= ? ORDER BY seq LIMIT ?""",
        (subscription, from_seq, limit),
    ).fetchall()
    letters, damage = [], []
    for row in rows:
        try:
            letters.append(_letter(subscription, row))
        except Damaged as error:
            damage.append(f"dead letter {row[0]} of {subscription}: {error}")
    return letters, damage


def _letter(subscription: SubscriptionId, row: tuple[object, ...]) -> DeadLetter:
    """A dead letter whose checksum is right. Raises Damaged."""
    match row:
        case (int(seq), int(at_ms), str(reason), str(text), int(count), crc, bytes(payload)):
            if payload_crc(seq, at_ms, (subscription, reason, text), payload) != crc:
                raise Damaged("the checksum is wrong")
        case _:
            raise Damaged("it is unreadable")
    letter = DeadLetter(seq, enqueued_ms=at_ms, payload=payload, reason=reason, description=text)
    letter.delivery_count = count
    return letter


def warm_segment(reader: sqlite3.Connection, segment_id: int) -> None:
    """Bring a segment that will be dropped into the system's cache, off the writer thread.

    Dropping walks all its pages; on the writer that must not wait for the disk.
    """
    reader.execute(
        f"SELECT max(substr(body, -1)) FROM {batch_table(segment_id)}"  # noqa: S608
    ).fetchall()
