"""Which messages have a time to live, and whose is over."""

from hotpath.core.feed import Taken
from hotpath.model.message import Batch
from hotpath.wire.message import expires_ms, may_expire
from hotpath.wire.runs import any_may_expire


def is_lasting(batch: Batch) -> bool:
    """Whether no message of a batch has a time to live."""
    payloads = batch.payloads or ()
    return not any_may_expire(payloads) or not any(_may_end(each, batch) for each in payloads)


def _may_end(stored: bytes, batch: Batch) -> bool:
    """Whether a message has a time to live."""
    return may_expire(stored) and expires_ms(stored, batch.enqueued_ms) is not None


def has_ended(stored: bytes, enqueued_ms: int, now_ms: int) -> bool:
    """Whether a message's time to live is over."""
    end = expires_ms(stored, enqueued_ms)
    return end is not None and end <= now_ms


def without(part: Taken, gone: frozenset[int]) -> Taken:
    """A part without some of its messages."""
    left = [index for index, seq in enumerate(part.seqs) if seq not in gone]
    counts = [part.counts[index] for index in left] if part.counts else None
    return part._replace(seqs=[part.seqs[index] for index in left], counts=counts)
