"""Bytes and checksums of what a log holds, on whichever storage.

A batch is one blob: the end offset of each payload (u32), then the payloads. Journal rows hold
the progress deltas of one group of commits back to back. Snapshots are JSON, being rare and worth
reading by eye. Every row carries a CRC-32 over its content and its key, so that neither damage nor
a row in the wrong place is taken for a message. Decoders raise Damaged and nothing else.
"""

import json
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain, pairwise
from typing import Final
from zlib import crc32

from hotpath import native
from hotpath.model.names import SubscriptionId
from hotpath.model.subscription import Progress, ProgressDelta

if native.ENABLED:
    from hotpath.native import _native
    from hotpath.native._native import cut, frame

    native.learn({"ProgressDelta": ProgressDelta})


class Damaged(Exception):
    """Stored bytes that are not what was written."""


@dataclass(frozen=True, slots=True)
class Forgotten:
    """A journal entry: everything earlier about the subscription is void."""

    subscription: SubscriptionId


JournalEntry = tuple[SubscriptionId, ProgressDelta] | Forgotten

_BATCH_KEY: Final = struct.Struct("<qqqq")
_LETTER_KEY: Final = struct.Struct("<qq")
_ENTRY: Final = struct.Struct("<BHqqqqIII")
_DELTA, _FORGOTTEN, _MODIFIED = 0, 1, 2
_NO_ACTIVITY: Final = -1


# Batches


def encode_body(payloads: Sequence[bytes]) -> bytes:
    """Payloads as one blob. Raises ValueError when they are more than 4 GiB."""
    if native.ENABLED:
        return frame(payloads)
    try:
        ends = struct.pack(f"<{len(payloads)}I", *accumulate(map(len, payloads)))
    except struct.error as error:
        raise ValueError("a batch is larger than 4 GiB") from error
    return b"".join((ends, *payloads))


def decode_body(body: bytes, count: int) -> list[bytes]:
    """The payloads of a blob. Raises Damaged."""
    if native.ENABLED:
        found = cut(body, count)
        if found is not None:
            return found
    base = 4 * count
    if count < 1 or len(body) < base:
        raise Damaged("a batch is shorter than its index")
    ends = struct.unpack_from(f"<{count}I", body, 0)
    edges = [base, *(base + end for end in ends)]
    if edges[-1] != len(body) or any(start > end for start, end in pairwise(edges)):
        raise Damaged("the index of a batch does not fit it")
    return [body[start:end] for start, end in pairwise(edges)]


def batch_crc(segment_id: int, key: tuple[int, int, int], body: bytes) -> int:
    """Checksum of a batch's row.

    Args:
        segment_id: Whose table the row is in.
        key: First sequence number, number of messages, enqueued time.
        body: Its blob.
    """
    return crc32(body, crc32(_BATCH_KEY.pack(segment_id, *key)))


# The journal of progress


def journal_crc(row_id: int, body: bytes) -> int:
    """Checksum of a journal row."""
    return crc32(body, row_id & 0xFFFFFFFF)


def encode_delta(subscription: SubscriptionId, delta: ProgressDelta) -> bytes:
    """One journal entry."""
    name = subscription.encode()
    head = _ENTRY.pack(
        _DELTA,
        len(name),
        delta.cursor,
        _NO_ACTIVITY if delta.active_ms is None else delta.active_ms,
        delta.settled_total,
        delta.delivered_total,
        len(delta.settled),
        len(delta.counts),
        len(delta.deferred),
    )
    tail = b"".join(_encode_modified(name, *item) for item in delta.modified)
    if not (delta.settled or delta.counts or delta.deferred):
        return head + name + tail
    numbers = [*delta.settled, *chain(*delta.counts), *chain(*delta.deferred)]
    return head + name + struct.pack(f"<{len(numbers)}q", *numbers) + tail


def encode_deltas(progress: Sequence[tuple[SubscriptionId, ProgressDelta]]) -> list[bytes]:
    """Journal entries."""
    if native.ENABLED:
        return _native.encode_all(list(progress), encode_delta)
    return [encode_delta(*item) for item in progress]


def note_first(
    first: dict[SubscriptionId, int],
    progress: list[tuple[SubscriptionId, ProgressDelta]],
    number: int,
) -> None:
    """Keep the number of a journal row for each subscription in it that has none."""
    if native.ENABLED:
        _native.note_first(first, progress, number)
        return
    for subscription, _ in progress:
        first.setdefault(subscription, number)


def _encode_modified(name: bytes, seq: int, properties: bytes) -> bytes:
    """An entry of its own for what receivers have given a message: few messages have that."""
    head = _ENTRY.pack(_MODIFIED, len(name), seq, _NO_ACTIVITY, 0, 0, len(properties), 0, 0)
    return head + name + properties


def encode_forgotten(subscription: SubscriptionId) -> bytes:
    """One journal entry that voids all earlier ones."""
    name = subscription.encode()
    return _ENTRY.pack(_FORGOTTEN, len(name), 0, 0, 0, 0, 0, 0, 0) + name


def decode_journal(row_id: int, *, crc: int, body: bytes) -> list[JournalEntry]:
    """The entries of a journal row whose checksum is right. Raises Damaged."""
    if journal_crc(row_id, body) != crc:
        raise Damaged("the checksum is wrong")
    return decode_entries(body)


def decode_entries(body: bytes) -> list[JournalEntry]:
    """Journal entries that stand back to back. Raises Damaged."""
    entries: list[JournalEntry] = []
    at = 0
    try:
        while at < len(body):
            entry, at = _decode_entry(body, at)
            entries.append(entry)
    except (struct.error, UnicodeDecodeError) as error:
        raise Damaged("a journal entry is cut off") from error
    return entries


def _decode_entry(body: bytes, at: int) -> tuple[JournalEntry, int]:
    kind, size, cursor, active, settled_total, delivered, *lengths = _ENTRY.unpack_from(body, at)
    at += _ENTRY.size
    if len(body) < at + size:
        raise Damaged("a journal entry is cut off")
    subscription = SubscriptionId(body[at : at + size].decode())
    at += size
    if kind == _FORGOTTEN:
        return Forgotten(subscription), at
    settled_n, counts_n, deferred_n = lengths
    if kind == _MODIFIED:
        end = at + settled_n
        if len(body) < end:
            raise Damaged("a journal entry is cut off")
        given = ((cursor, body[at:end]),)
        return (subscription, ProgressDelta(cursor=0, modified=given)), end
    total = settled_n + 2 * counts_n + 2 * deferred_n
    if len(body) < at + 8 * total:
        raise Damaged("a journal entry is cut off")
    numbers = struct.unpack_from(f"<{total}q", body, at) if total else ()
    pairs = numbers[settled_n:]
    couples = tuple(zip(pairs[::2], pairs[1::2], strict=True))
    delta = ProgressDelta(
        cursor=cursor,
        settled=numbers[:settled_n],
        counts=couples[:counts_n],
        deferred=tuple((seq, bool(is_deferred)) for seq, is_deferred in couples[counts_n:]),
        active_ms=None if active == _NO_ACTIVITY else active,
        settled_total=settled_total,
        delivered_total=delivered,
    )
    return (subscription, delta), at + 8 * total


# Snapshots of progress


def encode_progress(progress: Progress) -> str:
    """A snapshot as JSON text."""
    # Lists of integers look the same in Python and JSON; formatting them is several times faster
    # than an encoder, and ten thousand snapshots may be due at once.
    return (
        f"[{progress.horizon},{sorted(progress.unsettled)},{sorted(progress.settled)},"
        f"{list(chain(*progress.counts.items()))},{sorted(progress.deferred)},"
        f"{progress.active_ms},{progress.settled_total},{progress.delivered_total},"
        f"{progress.matched_total},{progress.counted_to}{_modified_text(progress)}]"
    )


def _modified_text(progress: Progress) -> str:
    """What receivers have given messages; nothing where there is none, as there mostly is."""
    if not progress.modified:
        return ""
    return "," + json.dumps({seq: given.hex() for seq, given in progress.modified.items()})


def decode_progress(subscription: str, journal_id: int, *, crc: int, text: str) -> Progress:
    """The snapshot in a row whose checksum is right. Raises Damaged."""
    if progress_crc(subscription, journal_id, text) != crc:
        raise Damaged("the checksum is wrong")
    return parse_progress(text)


def parse_progress(text: str) -> Progress:
    """The snapshot in a text. Raises Damaged."""
    try:
        horizon, unsettled, settled, counts, deferred, *rest = json.loads(text)
        active_ms, settled_total, delivered_total, matched_total, counted_to, *more = rest
        modified = more[0] if more else {}
        return Progress(
            horizon=horizon,
            unsettled=set(unsettled),
            settled=set(settled),
            counts=dict(zip(counts[::2], counts[1::2], strict=True)),
            deferred=set(deferred),
            active_ms=active_ms,
            settled_total=settled_total,
            delivered_total=delivered_total,
            matched_total=matched_total,
            counted_to=counted_to,
            modified={int(seq): bytes.fromhex(given) for seq, given in modified.items()},
        )
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise Damaged("a snapshot is unreadable") from error


def progress_crc(subscription: str, journal_id: int, text: str) -> int:
    """Checksum of a snapshot's row."""
    return crc32(text.encode(), crc32(subscription.encode(), journal_id & 0xFFFFFFFF))


# Copied messages


def payload_crc(seq: int, time_ms: int, texts: Iterable[str], payload: bytes) -> int:
    """Checksum of a dead letter or a scheduled message; its delivery count is not covered."""
    crc = crc32(_LETTER_KEY.pack(seq, time_ms))
    for text in texts:
        crc = crc32(text.encode() + b"\0", crc)
    return crc32(payload, crc)
