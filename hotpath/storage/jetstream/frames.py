"""What the messages of the streams hold, as bytes.

Every message carries a CRC-32 over its content and its subject, so that neither damage nor a
message in the wrong place is taken for what it is not. Decoders raise Damaged and nothing else.

- A batch: head (format, number of messages, enqueued time), then the body as in other logs.
- A journal entry: head (format, number of the entry before it, who wrote it), then records.
- A kept message (dead letter, scheduled message): a JSON list, then the payload.
"""

import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from zlib import crc32

from hotpath.model.message import Batch, DeadLetter
from hotpath.model.names import TenantId, Topic, TopicKey
from hotpath.ports import Scheduled
from hotpath.storage.encoding import Damaged, decode_body, encode_body
from hotpath.storage.jetstream.naming import first_number
from hotpath.storage.jetstream.server import Stored

_BATCH: Final = struct.Struct("<IBHq")
_ENTRY: Final = struct.Struct("<IBQ16s")
_KEPT: Final = struct.Struct("<IBI")
_FORMAT: Final = 1
#: Bytes that a batch's message has besides the payloads: head, ends, and room for what NATS adds.
BATCH_OVERHEAD: Final = 1_024


def seal(subject: str, head_and_body: bytes) -> bytes:
    """Content with its checksum in front."""
    return struct.pack("<I", crc32(head_and_body, crc32(subject.encode()))) + head_and_body


def _check(stored: Stored, head: struct.Struct) -> None:
    """Raises Damaged when a message is not what was written there."""
    body = stored.body
    if len(body) < head.size:
        raise Damaged("it is cut off")
    (crc,) = struct.unpack_from("<I", body)
    if crc32(memoryview(body)[4:], crc32(stored.subject.encode())) != crc:
        raise Damaged("the checksum is wrong")
    if body[4] != _FORMAT:
        raise Damaged(f"it has the unknown format {body[4]}")


def unseal(stored: Stored) -> bytes:
    """Content that was sealed as it was. Raises Damaged."""
    if len(stored.body) < 4:
        raise Damaged("it is cut off")
    content = stored.body[4:]
    if crc32(content, crc32(stored.subject.encode())) != int.from_bytes(stored.body[:4], "little"):
        raise Damaged("the checksum is wrong")
    return content


# Batches


def encode_batch(subject: str, payloads: Sequence[bytes], enqueued_ms: int) -> bytes:
    """A batch as a message. Raises ValueError when it is more than 4 GiB."""
    head = _BATCH.pack(0, _FORMAT, len(payloads), enqueued_ms)
    return seal(subject, head[4:] + encode_body(payloads))


def decode_batch(topic: TopicKey, stored: Stored) -> Batch:
    """The batch in a message. Raises Damaged."""
    _check(stored, _BATCH)
    _, _, count, enqueued_ms = _BATCH.unpack_from(stored.body)
    payloads = decode_body(stored.body[_BATCH.size :], count)
    return Batch(topic, first_number(stored.seq), enqueued_ms=enqueued_ms, payloads=payloads)


def batch_time(stored: Stored) -> int:
    """When a batch was enqueued, without reading it; damage is not looked for."""
    if len(stored.body) < _BATCH.size:
        return 0
    enqueued_ms: int = _BATCH.unpack_from(stored.body)[3]
    return enqueued_ms


# Journal entries


@dataclass(frozen=True, slots=True)
class Entry:
    """One message of a journal."""

    previous: int
    """Number of the entry before it, 0 for none."""
    writer: bytes
    """16 bytes: whose it is, to tell one's own entry from another's."""
    records: bytes


def encode_entry(subject: str, entry: Entry) -> bytes:
    """A journal entry as a message."""
    head = _ENTRY.pack(0, _FORMAT, entry.previous, entry.writer)
    return seal(subject, head[4:] + entry.records)


def decode_entry(stored: Stored) -> Entry:
    """The journal entry in a message. Raises Damaged."""
    _check(stored, _ENTRY)
    _, _, previous, writer = _ENTRY.unpack_from(stored.body)
    return Entry(previous, writer, stored.body[_ENTRY.size :])


# Kept messages


def encode_letter(subject: str, letter: DeadLetter) -> bytes:
    """A dead letter as a message."""
    words = [letter.seq, letter.enqueued_ms, letter.reason, letter.description]
    return _encode_kept(subject, words, letter.payload)


def decode_letter(stored: Stored) -> DeadLetter:
    """The dead letter in a message. Raises Damaged."""
    words, payload = _decode_kept(stored)
    match words:
        case [int(seq), int(enqueued_ms), str(reason), str(description)]:
            return DeadLetter(
                seq,
                enqueued_ms=enqueued_ms,
                payload=payload,
                reason=reason,
                description=description,
            )
        case _:
            raise Damaged("it is no dead letter")


def encode_scheduled(subject: str, message: Scheduled) -> bytes:
    """A scheduled message as a message."""
    topic = message.topic
    words = [topic.tenant, topic.topic.value, message.number, message.due_ms]
    return _encode_kept(subject, words, message.payload)


def decode_scheduled(stored: Stored) -> Scheduled:
    """The scheduled message in a message. Raises Damaged."""
    words, payload = _decode_kept(stored)
    match words:
        case [str(tenant), str(name), int(number), int(due_ms)]:
            try:
                topic = TopicKey(TenantId(tenant), Topic(name))
            except ValueError as error:
                raise Damaged(f"there is no topic {name!r}") from error
            return Scheduled(topic, number, due_ms, payload)
        case _:
            raise Damaged("it is no scheduled message")


def encode_number(subject: str, number: int) -> bytes:
    """A number as a message."""
    return _encode_kept(subject, [number], b"")


def decode_number(stored: Stored) -> int:
    """The number in a message. Raises Damaged."""
    words, _ = _decode_kept(stored)
    match words:
        case [int(number)]:
            return number
        case _:
            raise Damaged("it is no number")


def _encode_kept(subject: str, words: Sequence[object], payload: bytes) -> bytes:
    text = json.dumps(words).encode()
    return seal(subject, _KEPT.pack(0, _FORMAT, len(text))[4:] + text + payload)


def _decode_kept(stored: Stored) -> tuple[list[object], bytes]:
    _check(stored, _KEPT)
    size: int = _KEPT.unpack_from(stored.body)[2]
    end = _KEPT.size + size
    try:
        words = json.loads(stored.body[_KEPT.size : end])
    except (ValueError, RecursionError) as error:
        raise Damaged("it is unreadable") from error
    if not isinstance(words, list) or end > len(stored.body):
        raise Damaged("it is unreadable")
    return words, stored.body[end:]
