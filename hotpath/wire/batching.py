"""Batches as Azure Service Bus SDKs send them: many messages in one transfer.

The transfer has message-format 0x80013700, and its message holds one data section for each message,
which is encoded in full in there. What surrounds them (a message-id, a partition key) speaks of the
batch and is dropped.
"""

from typing import Final

from hotpath.wire.sections import DATA, data_content, iter_sections, walk
from hotpath.wire.values import WireError

MESSAGE_FORMAT: Final = 0x80013700
"""The message-format of a transfer that is a batch."""


def split_envelope(raw: bytes) -> list[bytes]:
    """Unpack a batch; the messages are as their publisher encoded them, each still unchecked.

    Raises:
        WireError: No AMQP message, or one whose body is not data sections.
    """
    messages = [data_content(raw, section) for section in walk(raw) if section.code == DATA]
    if not messages:
        raise WireError("batch without data sections")
    return messages


def looks_batched(raw: bytes) -> bool:
    """Whether every data section holds a whole message: for transfers of unknown format.

    A publisher that sends AMQP messages as opaque bodies of its own would be misread by this, so
    it is for where the message-format cannot be known.
    """
    try:
        if not _first_data(raw):
            return False
        for message in split_envelope(raw):
            walk(message)
    except WireError:
        return False
    return True


def _first_data(raw: bytes) -> bool:
    """Whether the first data section begins like a message; the cheap test that most fail."""
    for section in iter_sections(raw):
        if section.code == DATA:
            return data_content(raw, section)[:2] in (b"\x00\x53", b"\x00\x80", b"\x00\xa3")
    return False
