"""A data directory as the first release (schema version 1) has left it, byte by byte.

Nothing here comes from the code under test: statements, row forms and checksums are written out,
so that they stay what they were when the code goes on. `python -m tests.support.database_v1 DIR`
makes one to look at.
"""

import json
import sqlite3
import struct
import sys
from dataclasses import dataclass, field
from pathlib import Path
from zlib import crc32

SUBSCRIPTION = "7d0c9d4e-6a5b-4c3d-8e2f-1a0b9c8d7e6f"
PUBLISHER = "0f1e2d3c-4b5a-4978-8695-a4b3c2d1e0f9"
SECRET = "the-secret-of-the-first-release-0123456789ab"
#: 2024-01-02T03:04:05Z
NOW_MS = 1_704_164_645_000
DAY_MS = 86_400_000

SCHEMA = """
PRAGMA page_size = 4096;
PRAGMA journal_mode = WAL;
CREATE TABLE topic (
    id INTEGER PRIMARY KEY, tenant TEXT NOT NULL, name TEXT NOT NULL,
    next_seq INTEGER NOT NULL, UNIQUE (tenant, name));
CREATE TABLE segment (
    id INTEGER PRIMARY KEY, topic_id INTEGER NOT NULL REFERENCES topic,
    first_seq INTEGER NOT NULL, first_ms INTEGER NOT NULL,
    last_ms INTEGER, byte_size INTEGER);
CREATE INDEX segment_by_topic ON segment (topic_id, first_seq);
CREATE TABLE journal (id INTEGER PRIMARY KEY, crc INTEGER NOT NULL, body BLOB NOT NULL);
CREATE TABLE progress (
    subscription TEXT PRIMARY KEY, journal_id INTEGER NOT NULL,
    crc INTEGER NOT NULL, body TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE dead_letter (
    subscription TEXT NOT NULL, seq INTEGER NOT NULL, enqueued_ms INTEGER NOT NULL,
    reason TEXT NOT NULL, description TEXT NOT NULL, delivery_count INTEGER NOT NULL,
    crc INTEGER NOT NULL, payload BLOB NOT NULL, UNIQUE (subscription, seq));
CREATE TABLE scheduled (
    tenant TEXT NOT NULL, name TEXT NOT NULL, number INTEGER NOT NULL,
    due_ms INTEGER NOT NULL, crc INTEGER NOT NULL, payload BLOB NOT NULL,
    UNIQUE (tenant, name, number));
CREATE TABLE state (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE migration (number INTEGER PRIMARY KEY, name TEXT NOT NULL);
INSERT INTO migration VALUES (1, 'log');
CREATE TABLE batches_1 (
    first_seq INTEGER PRIMARY KEY, count INTEGER NOT NULL,
    enqueued_ms INTEGER NOT NULL, end_bytes INTEGER NOT NULL,
    crc INTEGER NOT NULL, body BLOB NOT NULL);
CREATE TABLE record_subscriptions (record_key TEXT PRIMARY KEY, "id" BLOB, "tenant" BLOB,
    "topic" BLOB, "filter" BLOB, "condition" BLOB, "ttl_ms" BLOB, "sas_ttl_ms" BLOB,
    "start_seq" BLOB, "created_ms" BLOB, "creator" BLOB, "ttl_minutes" BLOB,
    "sas_ttl_minutes" BLOB);
CREATE TABLE record_publishers (record_key TEXT PRIMARY KEY, "id" BLOB, "tenant" BLOB,
    "topic" BLOB, "created_ms" BLOB, "expires_ms" BLOB, "creator" BLOB);
CREATE TABLE record_keys (record_key TEXT PRIMARY KEY, "id" BLOB, "secret" BLOB, "tenant" BLOB,
    "created_ms" BLOB);
PRAGMA user_version = 1;
"""


@dataclass(frozen=True)
class Contents:
    """What is in it."""

    events: list[dict[str, str]] = field(
        default_factory=lambda: [
            {"objectId": "pump-7", "event": name, "timestamp": "2024-01-01T00:00:00Z"}
            for name in ("started", "stopped", "failed", "started")
        ]
    )
    filter: str = "event != 'stopped'"
    settled_below: int = 3
    """The subscription's cursor: of what matches, `failed` and the last `started` are left."""
    dead_seq: int = 1


def message(event: dict[str, str]) -> bytes:
    """An event as it was stored: properties, application-properties, data."""
    body = json.dumps(event).encode()
    pairs = b"".join(_text(part) for pair in event.items() for part in pair)
    return (
        b"\x00\x53\x73\xc0\x19\x07\x40\x40\x40\x40\x40\x40\xa3\x10application/json"
        + b"\x00\x53\x74\xc1"
        + bytes([len(pairs) + 1, 2 * len(event)])
        + pairs
        + b"\x00\x53\x75\xa0"
        + bytes([len(body)])
        + body
    )


def _text(part: str) -> bytes:
    raw = part.encode()
    return b"\xa1" + bytes([len(raw)]) + raw


def make_v1(directory: Path, *, now_ms: int = NOW_MS, contents: Contents | None = None) -> Contents:
    """Write the data directory; `now_ms` is when it was last in use."""
    contents = contents or Contents()
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    connection = sqlite3.connect(directory / "hotpath.db", isolation_level=None)
    connection.executescript(SCHEMA)
    _write_log(connection, contents, now_ms)
    _write_progress(connection, contents, now_ms)
    _write_records(connection, contents, now_ms)
    connection.close()
    (directory / "hotpath.db").chmod(0o600)
    return contents


def _write_log(connection: sqlite3.Connection, contents: Contents, now_ms: int) -> None:
    """One topic, one segment, two batches."""
    payloads = [message(event) for event in contents.events]
    count = len(payloads)
    connection.execute("INSERT INTO topic VALUES (1, 'acme', 'events', ?)", (count + 1,))
    connection.execute("INSERT INTO segment VALUES (1, 1, 1, ?, NULL, NULL)", (now_ms - 2000,))
    end = 0
    for first, part in ((1, payloads[:2]), (3, payloads[2:])):
        ends, body, at = [], b"".join(part), 0
        for payload in part:
            at += len(payload)
            ends.append(at)
        blob = struct.pack(f"<{len(part)}I", *ends) + body
        end += len(blob)
        enqueued = now_ms - 2000 + first
        crc = crc32(blob, crc32(struct.pack("<qqqq", 1, first, len(part), enqueued)))
        row = (first, len(part), enqueued, end, crc, blob)
        connection.execute("INSERT INTO batches_1 VALUES (?, ?, ?, ?, ?, ?)", row)


def _write_progress(connection: sqlite3.Connection, contents: Contents, now_ms: int) -> None:
    """A snapshot, a delta after it, a dead letter, a scheduled message, a heartbeat."""
    text = f"[2,[],[],[],[],{now_ms - 1500},1,1,1,2]"
    crc = crc32(text.encode(), crc32(SUBSCRIPTION.encode(), 0))
    connection.execute("INSERT INTO progress VALUES (?, 0, ?, ?)", (SUBSCRIPTION, crc, text))
    name = SUBSCRIPTION.encode()
    head = (0, len(name), contents.settled_below, now_ms - 1000, 1, 1, 0, 0, 0)
    body = struct.pack("<BHqqqqIII", *head) + name
    connection.execute("INSERT INTO journal VALUES (1, ?, ?)", (crc32(body, 1), body))
    letter = message(contents.events[0])
    sums = crc32(struct.pack("<qq", contents.dead_seq, now_ms - 1999))
    for part in (SUBSCRIPTION, "bad", "reading"):
        sums = crc32(part.encode() + b"\0", sums)
    row = (SUBSCRIPTION, contents.dead_seq, now_ms - 1999, "bad", "reading", 1, crc32(letter, sums))
    connection.execute("INSERT INTO dead_letter VALUES (?, ?, ?, ?, ?, ?, ?, ?)", (*row, letter))
    connection.execute("INSERT INTO state VALUES ('alive_ms', ?)", (now_ms,))


def _write_records(connection: sqlite3.Connection, contents: Contents, now_ms: int) -> None:
    """A subscription, a publisher and the signing key."""
    connection.execute(
        "INSERT INTO record_subscriptions VALUES (?, ?, 'acme', 'events', ?, NULL, ?, ?, 1, ?,"
        " 'tester', 1440.0, 60.0)",
        (SUBSCRIPTION, SUBSCRIPTION, contents.filter, DAY_MS, 3_600_000, now_ms - 3000),
    )
    connection.execute(
        "INSERT INTO record_publishers VALUES (?, ?, 'acme', 'events', ?, ?, 'tester')",
        (PUBLISHER, PUBLISHER, now_ms - 3000, now_ms + DAY_MS),
    )
    connection.execute(
        "INSERT INTO record_keys VALUES ('hotpath', 'hotpath', ?, NULL, ?)", (SECRET, now_ms - 4000)
    )


if __name__ == "__main__":
    make_v1(Path(sys.argv[1]))
