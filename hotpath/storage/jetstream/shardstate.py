"""What a shard's journal says, in as few records as say it.

A journal is a row of records: progress of subscriptions (in full, or what has changed), which dead
letters there are, and who took the shard over. Records are taken in order; taking one twice changes
nothing. `ShardState` keeps, encoded, those that still matter, so that the journal can be written
anew without what later records have replaced, and without decoding anything.
"""

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

from hotpath.model.names import SubscriptionId
from hotpath.model.subscription import Progress, ProgressDelta
from hotpath.ports import Recovered
from hotpath.storage.encoding import (
    Damaged,
    Forgotten,
    decode_entries,
    encode_delta,
    encode_forgotten,
    encode_progress,
    parse_progress,
)

_HEAD: Final = struct.Struct("<BI")
_NAME: Final = struct.Struct("<H")
#: Records of one subscription's progress that are kept before they are made one.
_RECORDS_MAX: Final = 32


class Kind(IntEnum):
    """What a record is about."""

    DELTA = 1
    FORGOTTEN = 2
    PROGRESS = 3
    BURIED = 4
    COUNTED = 5
    UNBURIED = 6
    CLAIMED = 7
    CHECKED = 8


_KINDS: Final = frozenset(Kind)
#: Numbers that stand in a record for each dead letter.
_WIDTHS: Final = {Kind.BURIED: 3, Kind.COUNTED: 2, Kind.UNBURIED: 1}


@dataclass(slots=True)
class Record:
    """One record; `raw` is what is stored of it."""

    kind: Kind
    raw: bytes
    subscription: SubscriptionId | None = None
    delta: ProgressDelta | None = None
    """Of a DELTA, unless it consists of several parts."""
    numbers: tuple[int, ...] = ()
    """Of dead letters: sequence number, delivery count, bytes; as many of these as it says."""


# Making records


def _framed(kind: Kind, body: bytes) -> bytes:
    return _HEAD.pack(kind, len(body)) + body


def delta_record(subscription: SubscriptionId, delta: ProgressDelta) -> Record:
    """What has changed in a subscription's progress."""
    raw = _framed(Kind.DELTA, encode_delta(subscription, delta))
    return Record(Kind.DELTA, raw, subscription, delta)


def progress_record(subscription: SubscriptionId, progress: Progress) -> Record:
    """A subscription's progress in full."""
    body = _named(subscription) + encode_progress(progress).encode()
    return Record(Kind.PROGRESS, _framed(Kind.PROGRESS, body), subscription)


def forgotten_record(subscription: SubscriptionId) -> Record:
    """Everything earlier about a subscription is void."""
    return Record(
        Kind.FORGOTTEN, _framed(Kind.FORGOTTEN, encode_forgotten(subscription)), subscription
    )


def letters_record(kind: Kind, subscription: SubscriptionId, numbers: Sequence[int]) -> Record:
    """What becomes of dead letters: BURIED, COUNTED or UNBURIED."""
    body = _named(subscription) + struct.pack(f"<{len(numbers)}Q", *numbers)
    return Record(kind, _framed(kind, body), subscription, numbers=tuple(numbers))


def claimed_record(node: str) -> Record:
    """Somebody has taken the shard over."""
    return Record(Kind.CLAIMED, _framed(Kind.CLAIMED, node.encode()))


def checked_record() -> Record:
    """Nothing but that the shard was still held."""
    return Record(Kind.CHECKED, _framed(Kind.CHECKED, b""))


def _named(subscription: SubscriptionId) -> bytes:
    name = subscription.encode()
    return _NAME.pack(len(name)) + name


# Reading records


def read_records(body: bytes) -> Iterator[Record]:
    """The records that stand back to back. Raises Damaged."""
    at = 0
    while at < len(body):
        try:
            kind, size = _HEAD.unpack_from(body, at)
        except struct.error as error:
            raise Damaged("a record is cut off") from error
        end = at + _HEAD.size + size
        if end > len(body) or kind not in _KINDS:
            raise Damaged("a record is cut off")
        yield _read(Kind(kind), body[at:end])
        at = end


def _read(kind: Kind, raw: bytes) -> Record:
    body = raw[_HEAD.size :]
    if kind in (Kind.CLAIMED, Kind.CHECKED):
        return Record(kind, raw)
    if kind in (Kind.DELTA, Kind.FORGOTTEN):
        entries = decode_entries(body)
        if not entries:
            raise Damaged("a record is empty")
        first = entries[0]
        if isinstance(first, Forgotten):
            return Record(kind, raw, first.subscription)
        return Record(kind, raw, first[0], first[1] if len(entries) == 1 else None)
    subscription, rest = _split(body)
    width = _WIDTHS.get(kind)
    if width is None:
        return Record(kind, raw, subscription)
    if len(rest) % (8 * width):
        raise Damaged("a record is cut off")
    return Record(kind, raw, subscription, numbers=struct.unpack(f"<{len(rest) // 8}Q", rest))


def _split(body: bytes) -> tuple[SubscriptionId, bytes]:
    try:
        (size,) = _NAME.unpack_from(body)
        name = body[_NAME.size : _NAME.size + size].decode()
    except (struct.error, UnicodeDecodeError) as error:
        raise Damaged("a record is cut off") from error
    return SubscriptionId(name), body[_NAME.size + size :]


def _apply(progress: Progress | None, raw: bytes) -> Progress:
    """Progress after one more record of it. Raises Damaged."""
    kind, _ = _HEAD.unpack_from(raw)
    body = raw[_HEAD.size :]
    if kind == Kind.PROGRESS:
        try:
            return parse_progress(_split(body)[1].decode())
        except UnicodeDecodeError as error:
            raise Damaged("a snapshot is unreadable") from error
    progress = progress or Progress(0)
    for entry in decode_entries(body):
        if not isinstance(entry, Forgotten):
            progress.apply(entry[1])
    return progress


# The state


@dataclass(slots=True)
class _Known:
    """What matters of one subscription."""

    records: list[bytes] = field(default_factory=list)
    """Of its progress, encoded."""
    plain: ProgressDelta | None = None
    """The last of them, when it does no more than move the cursor."""
    dead: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Delivery count and bytes of its dead letters, by sequence number."""


class ShardState:
    """All that is known of a shard, record by record."""

    def __init__(self) -> None:
        self._known: dict[SubscriptionId, _Known] = {}

    def take(self, record: Record) -> None:
        """Take in a record that is durable. Raises Damaged."""
        subscription = record.subscription
        if subscription is None:
            return
        if record.kind is Kind.FORGOTTEN:
            self._known.pop(subscription, None)
            return
        known = self._known.get(subscription)
        if known is None:
            known = self._known[subscription] = _Known()
        match record.kind:
            case Kind.PROGRESS:
                known.records, known.plain = [record.raw], None
            case Kind.DELTA:
                self._take_delta(known, record)
            case _:
                _take_letters(known.dead, record)

    def _take_delta(self, known: _Known, record: Record) -> None:
        if _covers(record.delta, known.plain):
            known.records.pop()
        known.records.append(record.raw)
        known.plain = record.delta if record.delta and _is_plain(record.delta) else None
        if len(known.records) > _RECORDS_MAX and record.subscription is not None:
            known.records = [progress_record(record.subscription, _folded(known)).raw]
            known.plain = None

    def letters(self, subscription: SubscriptionId) -> dict[int, tuple[int, int]]:
        """Delivery counts and bytes of a subscription's dead letters."""
        known = self._known.get(subscription)
        return known.dead if known is not None else {}

    def all_letters(self) -> Iterator[tuple[SubscriptionId, int]]:
        """Every dead letter of the shard."""
        for subscription, known in self._known.items():
            for seq in known.dead:
                yield subscription, seq

    def records(self) -> Iterator[bytes]:
        """Records that say all of it."""
        for subscription, known in self._known.items():
            yield from known.records
            if known.dead:
                numbers = [n for seq, kept in sorted(known.dead.items()) for n in (seq, *kept)]
                yield letters_record(Kind.BURIED, subscription, numbers).raw

    def recover(self, recovered: Recovered) -> None:
        """Add all of it to what a log knows at its opening."""
        for _ in self.recovering(recovered):
            pass

    def recovering(self, recovered: Recovered) -> Iterator[None]:
        """As `recover`, a subscription at each step."""
        for subscription, known in self._known.items():
            try:
                if known.records:
                    recovered.progress[subscription] = _folded(known)
            except Damaged as error:
                recovered.damage.append(f"progress of {subscription}: {error}")
            if known.dead:
                letters = sorted(known.dead.items())
                recovered.dead[subscription] = {seq: count for seq, (count, _) in letters}
                recovered.dead_sizes[subscription] = {seq: size for seq, (_, size) in letters}
            yield


def _folded(known: _Known) -> Progress:
    progress: Progress | None = None
    for raw in known.records:
        progress = _apply(progress, raw)
    return progress or Progress(0)


def _take_letters(dead: dict[int, tuple[int, int]], record: Record) -> None:
    width = _WIDTHS[record.kind]
    for row in _rows(record.numbers, width):
        match record.kind, *row:
            case Kind.BURIED, seq, count, size:
                dead[seq] = (count, size)
            case Kind.COUNTED, seq, count if seq in dead:
                dead[seq] = (count, dead[seq][1])
            case Kind.UNBURIED, seq:
                dead.pop(seq, None)
            case _:
                pass


def _rows(numbers: Sequence[int], width: int) -> Iterable[Sequence[int]]:
    return (numbers[at : at + width] for at in range(0, len(numbers), width))


def _is_plain(delta: ProgressDelta) -> bool:
    return not (delta.settled or delta.counts or delta.deferred or delta.modified)


def _covers(later: ProgressDelta | None, earlier: ProgressDelta | None) -> bool:
    """Whether the earlier one, which moves the cursor only, says nothing that the later does not."""
    if earlier is None or later is None:
        return False
    active = earlier.active_ms is None or (
        later.active_ms is not None and later.active_ms >= earlier.active_ms
    )
    return (
        active
        and later.cursor >= earlier.cursor
        and later.settled_total >= earlier.settled_total
        and later.delivered_total >= earlier.delivered_total
    )
