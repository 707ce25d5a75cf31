"""Application-properties that receivers give messages with abandon and defer.

A message is stored once for all its subscriptions, so what one receiver adds is kept beside the
message, with the subscription's progress, and laid over it at each further delivery there: when it
comes again, when it is looked at, and in its copy among the dead letters.
"""

from collections.abc import Mapping, Sequence
from typing import Final, cast

from hotpath.core.locks import LockTable
from hotpath.model.errors import LimitReached
from hotpath.wire.deadletter import with_application_properties
from hotpath.wire.types import WireError, decode, encode

#: What receivers may give one message, encoded bytes.
MESSAGE_BYTES_MAX: Final = 4_096
#: What they may give all unsettled messages of a subscription together.
SUBSCRIPTION_BYTES_MAX: Final = 262_144


def note(locks: LockTable, seqs: Sequence[int], properties: Mapping[str, object]) -> None:
    """Give messages properties, in place of those of the same names; to all of them or none.

    Raises LimitReached.
    """
    given = {seq: encode({**given_to(locks, seq), **properties}) for seq in seqs}
    if any(len(each) > MESSAGE_BYTES_MAX for each in given.values()):
        text = f"properties given to a message may take {MESSAGE_BYTES_MAX} bytes"
        raise LimitReached(text)
    before = sum(len(locks.modified.get(seq, b"")) for seq in given)
    after = locks.modified_bytes - before + sum(map(len, given.values()))
    if after > SUBSCRIPTION_BYTES_MAX:
        text = f"properties given to messages may take {SUBSCRIPTION_BYTES_MAX} bytes"
        raise LimitReached(f"{text} on a subscription")
    for seq, each in given.items():
        locks.modify(seq, each)


def given_to(locks: LockTable, seq: int) -> dict[str, object]:
    """What a message was given."""
    return read(locks.modified.get(seq))


def lay_over(stored: bytes, given: bytes | None) -> bytes:
    """A stored message with what it was given; a damaged one stays as it is."""
    try:
        return with_application_properties(stored, read(given))
    except WireError:
        return stored


def read(given: bytes | None) -> dict[str, object]:
    """What was given, from its encoding."""
    return {} if given is None else cast("dict[str, object]", decode(given)[0])
