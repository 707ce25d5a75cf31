"""The bodies of the calls: messages that were taken, and outcomes."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from struct import pack, unpack
from typing import Final

from hotpath.cluster.relay.frames import Damaged, make_error
from hotpath.core.feed import Taken
from hotpath.core.locks import FOREVER
from hotpath.model.errors import HotpathError
from hotpath.model.message import Batch
from hotpath.model.names import TopicKey
from hotpath.service.feeds import Disposition, What

#: Between the first and the last number of messages that come together: a batch's size bounds it.
SPAN_MAX: Final = 1 << 20


def write_numbers(numbers: Sequence[int]) -> bytes:
    """Whole numbers from 0 on, 8 bytes each."""
    return pack(f"<{len(numbers)}Q", *numbers)


def read_numbers(packed: object) -> list[int]:
    """Numbers from their bytes. Raises Damaged."""
    if not isinstance(packed, bytes) or len(packed) % 8:
        raise Damaged("numbers are not whole")
    return list(unpack(f"<{len(packed) // 8}Q", packed))


def as_int(value: object) -> int:
    """A number of a body. Raises Damaged."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise Damaged("a number is none")
    return value


def as_text(value: object) -> str:
    """A text of a body. Raises Damaged."""
    if not isinstance(value, str):
        raise Damaged("a text is none")
    return value


def as_list(value: object) -> list[object]:
    """A list of a body. Raises Damaged."""
    if not isinstance(value, list):
        raise Damaged("a list is none")
    return value


# Messages


def split_taken(part: Taken, count: int) -> tuple[Taken, Taken]:
    """The first `count` messages, and the others."""
    counts = part.counts
    head = part._replace(seqs=part.seqs[:count], counts=counts[:count] if counts else None)
    tail = part._replace(seqs=part.seqs[count:], counts=counts[count:] if counts else None)
    return head, tail


def write_taken(part: Taken, payloads: Sequence[bytes], *, now_ms: int) -> list[object]:
    """Messages of one taking, with how long their lock still holds."""
    first = part.batch.first_seq
    stored = [payloads[seq - first] for seq in part.seqs]
    left_ms = -1 if part.until_ms >= FOREVER else max(0, part.until_ms - now_ms)
    modified = None if part.modified is None else dict(part.modified)
    return [
        part.batch.enqueued_ms,
        part.serial,
        left_ms,
        write_numbers(part.seqs),
        None if part.counts is None else write_numbers(part.counts),
        modified,
        write_numbers([len(each) for each in stored]),
        b"".join(stored),
    ]


def read_taken(value: object, topic: TopicKey, *, now_ms: int) -> Taken:
    """Messages as the owner's `take` gave them; `now_ms` is before the owner was asked.

    Their batch holds what came, and nothing in the places between. Raises Damaged.
    """
    items = as_list(value)
    if len(items) < 8:
        raise Damaged("messages lack something")
    seqs = read_numbers(items[3])
    counts = None if items[4] is None else read_numbers(items[4])
    stored = _cut(items[7], read_numbers(items[6]))
    if not seqs or len(stored) != len(seqs) or seqs[-1] - seqs[0] >= SPAN_MAX:
        raise Damaged("messages do not fit their numbers")
    if any(later <= earlier for earlier, later in pairwise(seqs)):
        raise Damaged("messages are not in order")
    payloads = [b""] * (seqs[-1] - seqs[0] + 1)
    for seq, each in zip(seqs, stored, strict=True):
        payloads[seq - seqs[0]] = each
    batch = Batch(topic, seqs[0], enqueued_ms=as_int(items[0]), payloads=payloads)
    left_ms = as_int(items[2])
    until_ms = FOREVER if left_ms < 0 else now_ms + left_ms
    return Taken(batch, seqs, counts, as_int(items[1]), until_ms, _read_modified(items[5]))


def _read_modified(value: object) -> dict[int, bytes] | None:
    if value is None:
        return None
    if not isinstance(value, dict) or not all(isinstance(each, bytes) for each in value.values()):
        raise Damaged("properties of messages are none")
    return {as_int(seq): bytes(each) for seq, each in value.items()}


def _cut(joined: object, lengths: list[int]) -> list[bytes]:
    if not isinstance(joined, bytes) or sum(lengths) != len(joined):
        raise Damaged("messages lack bytes")
    ends = list(accumulate(lengths))
    return [joined[end - length : end] for end, length in zip(ends, lengths, strict=True)]


# Outcomes


@dataclass(frozen=True, slots=True)
class Outcome:
    """An outcome of messages under one lock."""

    what: What
    serial: int
    seqs: Sequence[int]
    failed: bool = True
    """Whether an abandoned message counts as a failed delivery."""
    properties: dict[str, object] | None = None
    """To be given to the messages first; those of a dead letter are put into its copy."""
    reason: str = ""
    description: str = ""
    optional: bool = False
    """Whether the outcome counts without the properties if they are too much."""

    def write(self) -> list[object]:
        """As a value of a body."""
        return [
            int(self.what),
            self.serial,
            write_numbers(self.seqs),
            self.failed,
            self.properties,
            self.reason,
            self.description,
            self.optional,
        ]


def read_outcome(value: object) -> Outcome:
    """An outcome from a body. Raises Damaged."""
    items = as_list(value)
    if len(items) < 8:
        raise Damaged("an outcome lacks something")
    return Outcome(
        _read_what(items[0]),
        as_int(items[1]),
        read_numbers(items[2]),
        failed=items[3] is True,
        properties=_read_properties(items[4]),
        reason=as_text(items[5]),
        description=as_text(items[6]),
        optional=items[7] is True,
    )


def _read_what(value: object) -> What:
    try:
        return What(as_int(value))
    except ValueError as fault:
        raise Damaged(str(fault)) from fault


def _read_properties(value: object) -> dict[str, object] | None:
    if value is not None and not isinstance(value, dict):
        raise Damaged("properties are no map")
    return value


def write_disposition(given: Disposition) -> list[object]:
    """As a value of a body."""
    return [
        int(given.what),
        write_pairs(given.held),
        given.properties,
        given.reason,
        given.description,
    ]


def read_disposition(value: object) -> Disposition:
    """A disposition from a body. Raises Damaged."""
    items = as_list(value)
    if len(items) < 5:
        raise Damaged("a disposition lacks something")
    return Disposition(
        _read_what(items[0]),
        read_pairs(items[1]),
        _read_properties(items[2]) or {},
        as_text(items[3]),
        as_text(items[4]),
    )


Refusals = dict[tuple[int, int], HotpathError]
"""Messages, by number and lock serial, whose outcome was refused, and why."""


def write_refusals(refused: Refusals) -> list[object]:
    """As a value of a body."""
    return [[*held, error.code, error.detail] for held, error in refused.items()]


def read_refusals(value: object) -> Refusals:
    """Refusals from a body. Raises Damaged."""
    rows = [as_list(row) for row in as_list(value)]
    if any(len(row) < 4 for row in rows):
        raise Damaged("a refusal lacks something")
    return {
        (as_int(row[0]), as_int(row[1])): make_error(as_text(row[2]), as_text(row[3]))
        for row in rows
    }


def write_pairs(pairs: Iterable[tuple[int, int]]) -> bytes:
    """Pairs of numbers."""
    return write_numbers([number for pair in pairs for number in pair])


def read_pairs(packed: object) -> list[tuple[int, int]]:
    """Pairs from their bytes. Raises Damaged."""
    numbers = read_numbers(packed)
    if len(numbers) % 2:
        raise Damaged("a pair is not whole")
    return list(zip(numbers[::2], numbers[1::2], strict=True))
