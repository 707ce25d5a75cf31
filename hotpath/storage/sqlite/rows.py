"""Batch rows as a reader meets them: which segment, which key, and whether the bytes are right."""

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, Self

from hotpath.model.message import Batch
from hotpath.model.names import TopicKey
from hotpath.storage.encoding import Damaged, batch_crc, decode_body

#: Beyond every sequence number: the end of the segment that still grows.
FAR: Final = 1 << 62


@dataclass(slots=True)
class Found:
    """Batches of a slice, and what had to be left out, in words."""

    batches: list[Batch] = field(default_factory=list)
    damage: list[str] = field(default_factory=list)
    is_cut: bool = False
    """A bound on rows was reached: what follows in the segment has not been looked at."""

    @property
    def byte_size(self) -> int:
        """Payload bytes found."""
        return sum(batch.byte_size for batch in self.batches)


@dataclass(frozen=True, slots=True)
class Span:
    """A segment as a reader sees it; `end_seq` is where the next one begins."""

    topic: TopicKey
    segment_id: int
    first_seq: int
    end_seq: int
    last_ms: int | None
    """Enqueued time of its last batch; None while it grows."""

    def describe(self, from_seq: int, end_seq: int) -> str:
        """A range of its messages, in words."""
        name = f"{self.topic.tenant}/{self.topic.topic}"
        if end_seq >= FAR:
            return f"{name}: messages from {from_seq} on"
        return f"{name}: messages {from_seq} to {end_seq - 1}"


@dataclass(frozen=True, slots=True)
class RowKey:
    """All of a batch's row but its body."""

    first_seq: int
    count: int
    enqueued_ms: int
    crc: int
    body_bytes: int

    @classmethod
    def of(cls, values: Sequence[object]) -> Self:
        """Columns as read. Raises Damaged when one is no number."""
        numbers = [value for value in values if isinstance(value, int)]
        if len(numbers) != 5:
            raise Damaged("a batch's key is unreadable")
        return cls(*numbers)

    @property
    def end_seq(self) -> int:
        """The sequence number after the last message."""
        return self.first_seq + self.count

    @property
    def payload_bytes(self) -> int:
        """Bytes of the payloads without their index."""
        return self.body_bytes - 4 * self.count


@contextlib.contextmanager
def snapshot(reader: sqlite3.Connection) -> Iterator[None]:
    """One state of the database for several statements. Raises sqlite3.Error."""
    reader.execute("BEGIN")
    try:
        yield
    finally:
        # A statement that met damage is reset here, and reports the damage once more.
        with contextlib.suppress(sqlite3.DatabaseError):
            reader.execute("ROLLBACK")
        if reader.in_transaction:
            reader.execute("ROLLBACK")


def spans(reader: sqlite3.Connection, topic: TopicKey) -> list[Span]:
    """Segments of a topic in order. Raises sqlite3.Error."""
    rows = reader.execute(
        """SELECT segment.id, first_seq, last_ms FROM segment JOIN topic ON topic.id = topic_id
        WHERE tenant = ? AND name = ? ORDER BY first_seq""",
        (topic.tenant, topic.topic.value),
    ).fetchall()
    ends = [first_seq for _, first_seq, _ in rows[1:]] + [FAR]
    return [
        Span(topic, number, first_seq, end_seq, last_ms)
        for (number, first_seq, last_ms), end_seq in zip(rows, ends, strict=False)
    ]


def build_batch(span: Span, key: RowKey, body: bytes) -> Batch:
    """A batch whose checksum is right. Raises Damaged."""
    row = (key.first_seq, key.count, key.enqueued_ms)
    if batch_crc(span.segment_id, row, body) != key.crc:
        raise Damaged("the checksum is wrong")
    payloads = decode_body(body, key.count)
    return Batch(span.topic, key.first_seq, enqueued_ms=key.enqueued_ms, payloads=payloads)
