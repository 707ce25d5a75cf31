"""Reading a segment in which something is damaged: row by row, around what cannot be read."""

import sqlite3
from typing import Final

from hotpath.storage.encoding import Damaged
from hotpath.storage.sqlite.catalogue import batch_table
from hotpath.storage.sqlite.connection import is_corruption
from hotpath.storage.sqlite.rows import Found, RowKey, Span, build_batch

_ROWS_MAX: Final = 1024

_Row = tuple[int, object, object, object, object]


def read_carefully(
    reader: sqlite3.Connection, span: Span, from_seq: int, *, bytes_max: int, found: Found
) -> None:
    """Add the batches that can be read, and in words what cannot.

    Goes on past any damage until there is a batch or the segment's end: a slice without a batch
    means that there is none. Raises sqlite3.Error for anything but damage.
    """
    at = _start_of(reader, span, from_seq)
    rows = 0
    while at < span.end_seq:
        if found.batches and (found.byte_size >= bytes_max or rows >= _ROWS_MAX):
            found.is_cut = True
            return
        rows += 1
        try:
            row = _row_from(reader, span, at)
        except sqlite3.DatabaseError as error:
            if not is_corruption(error):
                raise
            end = _find_readable(reader, span, at)
            found.damage.append(f"{span.describe(at, end)}: the database is damaged")
            at = end
            continue
        if row is None:
            return
        at = _take_row(span, row, from_seq, found)


def _take_row(span: Span, row: _Row, from_seq: int, found: Found) -> int:
    """Add one row's batch or say why not; where the next row is to be looked for."""
    body = row[4] if isinstance(row[4], bytes) else b""
    try:
        key = RowKey.of((*row[:4], len(body)))
        if key.end_seq > from_seq:
            found.batches.append(build_batch(span, key, body))
    except Damaged as error:
        first_seq, count = row[0], row[1]
        length = count if isinstance(count, int) and 0 < count <= len(body) else 1
        found.damage.append(f"{span.describe(first_seq, first_seq + length)}: {error}")
        return first_seq + 1
    return key.first_seq + 1


def _start_of(reader: sqlite3.Connection, span: Span, from_seq: int) -> int:
    """Key of the row that may hold `from_seq`."""
    try:
        row = reader.execute(
            f"SELECT max(first_seq) FROM {batch_table(span.segment_id)} "  # noqa: S608
            "WHERE first_seq <= ?",
            (from_seq,),
        ).fetchone()
    except sqlite3.DatabaseError as error:
        if not is_corruption(error):
            raise
        return max(from_seq, span.first_seq)
    return span.first_seq if row[0] is None else int(row[0])


def _row_from(reader: sqlite3.Connection, span: Span, at: int) -> _Row | None:
    row: _Row | None = reader.execute(
        f"SELECT first_seq, count, enqueued_ms, crc, body FROM {batch_table(span.segment_id)} "  # noqa: S608
        "WHERE first_seq >= ? ORDER BY first_seq LIMIT 1",
        (at,),
    ).fetchone()
    return row


def _is_readable(reader: sqlite3.Connection, span: Span, at: int) -> bool:
    try:
        _row_from(reader, span, at)
    except sqlite3.DatabaseError as error:
        if not is_corruption(error):
            raise
        return False
    return True


def _find_readable(reader: sqlite3.Connection, span: Span, at: int) -> int:
    """First position after an unreadable one that can be read, by doubling and halving steps."""
    low, step = at, 1
    while not _is_readable(reader, span, at + step):
        low = at + step
        if low >= span.end_seq:
            return span.end_seq
        step *= 2
    high = at + step
    while high - low > 1:
        middle = (low + high) // 2
        if _is_readable(reader, span, middle):
            high = middle
        else:
            low = middle
    return high
