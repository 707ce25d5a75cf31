"""Names of streams and subjects.

Tenants, subscriptions and keys of records may be any text; a name may hold little more than
letters and digits. What does not fit is written as its bytes in hexadecimal, capitals too, since
the servers make directories of these names and some file systems take a for A. Two texts never get
the same name: long ones end in a SHA-256 digest.
"""

from functools import lru_cache
from hashlib import sha256
from typing import Final
from urllib.parse import quote, unquote

from hotpath.clusterports import shard_of, shard_of_topic
from hotpath.model.names import SubscriptionId, TopicKey

_PLAIN: Final = frozenset(b"abcdefghijklmnopqrstuvwxyz0123456789-")
#: A name longer than this is cut, and a digest says which one it was.
_NAME_MAX: Final = 120
#: Under these a topic's stream says whose it is.
TENANT: Final = "hotpath-tenant"
TOPIC: Final = "hotpath-topic"
#: Numbers that one batch may use: the number of a message is its batch's times this, plus its place.
BATCH_NUMBERS: Final = 4_096


def token(text: str) -> str:
    """A text as part of a name; never empty, and no two texts get the same."""
    raw = text.encode("utf-8", "surrogatepass")
    if len(raw) <= _NAME_MAX:
        name = "".join(chr(byte) if byte in _PLAIN else f"_{byte:02x}" for byte in raw)
        if len(name) <= _NAME_MAX:
            return f"k{name}"
    return f"h{sha256(raw).hexdigest()}"


def written(text: str) -> str:
    """Any text as one that JSON and its readers leave as it is."""
    return quote(text, safe=" @:", errors="surrogatepass")


def read(text: str) -> str:
    """What was written."""
    return unquote(text, errors="surrogatepass")


def topic_name(topic: TopicKey) -> str:
    """A topic in words, for messages."""
    return f"{topic.tenant}/{topic.topic.value}"


def first_number(batch: int) -> int:
    """The sequence number of the first message of a stream's nth message."""
    return batch * BATCH_NUMBERS


def batch_number(seq: int) -> int:
    """Which message of the stream holds a sequence number."""
    return max(seq, 0) // BATCH_NUMBERS


#: Asked for every subscription that a commit concerns.
_shard_of: Final = lru_cache(65_536)(shard_of)


class Names:
    """All names of one cluster's streams and subjects."""

    def __init__(self, prefix: str, *, shards: int) -> None:
        self._prefix = prefix
        self._shards = shards
        self.journals = f"{prefix}-JOURNAL"
        self.kept = f"{prefix}-KEPT"
        self.records = f"{prefix}-RECORDS"
        self.all_topics = f"{prefix}.log.>"
        self.all_journals = f"{prefix}.journal.>"
        self.all_kept = f"{prefix}.kept.>"
        self.all_records = f"{prefix}.record.>"
        self.alive = f"{prefix}.kept.alive"

    # Topics

    def topic_stream(self, topic: TopicKey) -> str:
        """The stream of a topic."""
        return f"{self._prefix}-LOG-{token(topic.tenant)}-{topic.topic.value}"

    def topic_subject(self, topic: TopicKey) -> str:
        """The subject of all batches of a topic."""
        return f"{self._prefix}.log.{token(topic.tenant)}.{topic.topic.value}"

    # Shards

    def shard_of(self, subscription: SubscriptionId) -> int:
        """The shard of a subscription."""
        return _shard_of(subscription, self._shards)

    def shard_of_schedule(self, topic: TopicKey) -> int:
        """The shard that a topic's scheduled messages belong to."""
        return shard_of_topic(topic, self._shards)

    def journal(self, shard: int) -> str:
        """The subject of a shard's journal."""
        return f"{self._prefix}.journal.{shard}"

    # What is kept by its name

    def letters(self, subscription: SubscriptionId) -> str:
        """The subjects of a subscription's dead letters, without the number."""
        return f"{self._prefix}.kept.dead.{self.shard_of(subscription)}.{token(subscription)}"

    def letter(self, subscription: SubscriptionId, seq: int) -> str:
        """The subject of a dead letter."""
        return f"{self.letters(subscription)}.{seq}"

    def letters_of_shard(self, shard: int) -> str:
        """The subjects of all dead letters of a shard."""
        return f"{self._prefix}.kept.dead.{shard}.>"

    def scheduled(self, topic: TopicKey, number: int) -> str:
        """The subject of a scheduled message."""
        shard = self.shard_of_schedule(topic)
        place = f"{token(topic.tenant)}.{topic.topic.value}.{number}"
        return f"{self._prefix}.kept.due.{shard}.{place}"

    def scheduled_of_shard(self, shard: int) -> str:
        """The subjects of all scheduled messages of a shard."""
        return f"{self._prefix}.kept.due.{shard}.>"

    # Records

    def record(self, kind: str, key: str) -> str:
        """The subject of a record; what stands before a slash can be looked for by itself."""
        head, slash, tail = key.partition("/")
        behind = f"s{token(tail)}" if slash else "n"
        return f"{self._prefix}.record.{kind}.{token(head)}.{behind}"

    def records_of(self, kind: str, prefix: str) -> str:
        """Subjects among which are those of all records whose keys begin with a text."""
        head, slash, _ = prefix.partition("/")
        return f"{self._prefix}.record.{kind}.{token(head) if slash else '*'}.*"
