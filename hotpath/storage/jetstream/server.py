"""What JetStream is asked to do, with everything that can be repeated repeated within a bound.

Storing and looking go to a stream's leader; reading many messages at once goes to any of its
servers, which may be a moment behind. Who must not miss anything says up to where it has to come.
"""

import asyncio
import base64
import binascii
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from secrets import token_hex
from typing import Final, NamedTuple, TypeVar

from nats.aio.msg import Msg

from hotpath.ports import LogFailure
from hotpath.storage.jetstream.link import JsonMap, Link, Refused, Unanswered, status_of

#: Errors of JetStream by their numbers.
_NO_STREAM: Final = 10059
_NO_MESSAGE: Final = 10037
_NAME_IN_USE: Final = 10058
_WRONG_LAST: Final = frozenset({10071, 10164})
#: Pauses between attempts, seconds; the last one repeats.
_PAUSES: Final = (0.02, 0.05, 0.1, 0.2, 0.4)
#: One reading of many messages.
READ_COUNT: Final = 512
READ_BYTES: Final = 4_194_304
#: How long one may take that is repeated soon anyway, seconds.
_READ_S: Final = 1.0
_NANO: Final = 1_000_000_000

ResultT = TypeVar("ResultT")


class Stored(NamedTuple):
    """A message of a stream."""

    seq: int
    subject: str
    body: bytes


class Ack(NamedTuple):
    """A stream has a message; `repeated`: it had it already."""

    seq: int
    repeated: bool


class Mismatch(Exception):
    """The subject's last message was not the one that was expected."""


@dataclass(frozen=True, slots=True)
class StreamSpec:
    """A stream as it is wanted."""

    name: str
    subjects: str
    one_each: bool = False
    """Whether each subject keeps its last message only."""
    all_or_none: bool = False
    """Whether several messages at once are wanted, where the server can do that."""
    metadata: dict[str, str] = field(default_factory=dict)
    first: int = 0
    """The number that its first message gets, if it is not there yet; 0: 1."""


class StreamState(NamedTuple):
    """What a stream holds: messages `first` to `last` with so many bytes."""

    first: int
    last: int
    messages: int
    byte_size: int


class JetStream:
    """Calls to JetStream through a link; every one ends within its time."""

    def __init__(self, link: Link, *, replicas: int, duplicate_seconds: float) -> None:
        self._link = link
        self._replicas = replicas
        self._duplicate_seconds = duplicate_seconds
        self._batch_prefix = token_hex(8)
        self._batches = count(1)

    # Within a time

    def until(self, seconds: float) -> float:
        """A point in the loop's time."""
        return asyncio.get_running_loop().time() + seconds

    async def persist(self, attempt: Callable[[], Awaitable[ResultT]], until: float) -> ResultT:
        """Try until it succeeds, is refused for good, or the time is up. Raises LogFailure."""
        tries = 0
        loop = asyncio.get_running_loop()
        cause: Exception
        while True:
            try:
                return await attempt()
            except Unanswered as error:
                cause = error
            except Refused as refused:
                if not refused.passes:
                    raise refused.failure() from refused
                cause = refused
            left = until - loop.time()
            pause = _PAUSES[min(tries, len(_PAUSES) - 1)]
            if left <= pause:
                raise LogFailure(f"JetStream has not confirmed in time: {cause}") from cause
            tries += 1
            await asyncio.sleep(pause)
            await self._link.until_connected(until - loop.time() - pause)

    # Streams

    async def ensure(self, spec: StreamSpec, until: float) -> StreamState:
        """Make a stream if it is not there. Raises LogFailure.

        One that is there stays as it is: its copies and limits are the operator's to change.
        """
        found = await self.state(spec.name, until)
        if found is not None:
            return found
        wanted: JsonMap = {
            "name": spec.name,
            "subjects": [spec.subjects],
            "retention": "limits",
            "discard": "old" if spec.one_each else "new",
            "max_msgs_per_subject": 1 if spec.one_each else -1,
            "storage": "file",
            "num_replicas": self._replicas,
            "duplicate_window": int(self._duplicate_seconds * _NANO),
            "allow_direct": True,
            "allow_msg_ttl": spec.one_each,
            **({"allow_atomic": True} if spec.all_or_none and self._link.takes_all_or_none else {}),
            "metadata": spec.metadata,
            **({"first_seq": spec.first} if spec.first else {}),
        }
        answer = await self.persist(lambda: self._make(spec.name, wanted), until)
        return _state_of(answer)

    async def _make(self, name: str, wanted: JsonMap) -> JsonMap:
        try:
            return await self._link.api(f"STREAM.CREATE.{name}", wanted)
        except Refused as refused:
            if refused.code != _NAME_IN_USE:
                raise
        # Somebody else made it at this moment, with settings of another version maybe.
        return await self._link.api(f"STREAM.INFO.{name}", {})

    async def state(self, stream: str, until: float) -> StreamState | None:
        """What a stream holds, as its leader has it; None when there is none."""
        answer = await self.persist(lambda: self._seek(f"STREAM.INFO.{stream}", {}), until)
        return None if answer is None else _state_of(answer)

    async def metadata(self, stream: str, until: float) -> dict[str, str]:
        """What was written down with a stream. Raises LogFailure."""
        answer = await self.persist(lambda: self._seek(f"STREAM.INFO.{stream}", {}), until)
        config = {} if answer is None else answer.get("config")
        return dict(config.get("metadata") or {}) if isinstance(config, dict) else {}

    async def subjects(self, stream: str, subject: str, until: float) -> list[str]:
        """Subjects that a stream has messages on. Raises LogFailure."""
        found: list[str] = []
        while True:
            question: JsonMap = {"subjects_filter": subject, "offset": len(found)}
            answer = await self.persist(
                lambda q=question: self._seek(f"STREAM.INFO.{stream}", q),  # type: ignore[misc]
                until,
            )
            state = None if answer is None else answer.get("state")
            page = state.get("subjects") if isinstance(state, dict) else None
            if not isinstance(page, dict) or not page:
                return found
            found.extend(page)
            if answer is None or len(found) >= _number(answer.get("total")):
                return found

    async def streams(
        self, subjects: str, until: float
    ) -> list[tuple[dict[str, str], StreamState]]:
        """Metadata and contents of all streams with such subjects."""
        found: list[tuple[dict[str, str], StreamState]] = []
        while True:
            question: JsonMap = {"subject": subjects, "offset": len(found)}
            answer = await self.persist(lambda q=question: self._link.api("STREAM.LIST", q), until)  # type: ignore[misc]
            page = answer.get("streams")
            if not isinstance(page, list) or not page:
                return found
            for stream in page:
                metadata = stream.get("config", {}).get("metadata") or {}
                found.append((metadata, _state_of(stream)))
            if len(found) >= _number(answer.get("total")):
                return found

    async def purge(
        self, stream: str, *, until: float, subject: str | None = None, below: int | None = None
    ) -> None:
        """Remove what is below a number, or on a subject, or both. Raises LogFailure."""
        question: JsonMap = {}
        if subject is not None:
            question["filter"] = subject
        if below is not None:
            question["seq"] = below
        await self.persist(lambda: self._link.api(f"STREAM.PURGE.{stream}", question), until)

    # Storing

    async def store(
        self,
        subject: str,
        body: bytes,
        *,
        until: float,
        name: str = "",
    ) -> Ack:
        """Store a message once, however often it must be sent. Raises LogFailure.

        `name` is what a repetition is recognised by; without one, a repetition does no harm.
        """
        headers = {"Nats-Msg-Id": name} if name else None

        async def attempt() -> Ack:
            return _ack_of(await self._link.ask(subject, body, headers=headers))

        return await self.persist(attempt, until)

    async def store_after(self, subject: str, body: bytes, *, last: int, ttl: int = 0) -> Ack:
        """Store a message if `last` is the subject's last one, 0 for none; one attempt.

        Raises Mismatch, Refused, or Unanswered when nothing is known.
        """
        headers = {"Nats-Expected-Last-Subject-Sequence": str(last)}
        if ttl:
            headers["Nats-TTL"] = str(ttl)
        try:
            return _ack_of(await self._link.ask(subject, body, headers=headers))
        except Refused as refused:
            if refused.code in _WRONG_LAST:
                raise Mismatch from refused
            raise

    async def store_all_after(self, messages: Sequence[tuple[str, bytes, int]]) -> list[int]:
        """Store messages (subject, content, number of the subject's last one) all or none.

        One attempt, at most 1,000 messages; their numbers. Raises as `store_after`.
        """
        name = f"{self._batch_prefix}-{next(self._batches)}"
        questions = [
            (
                subject,
                body,
                {
                    "Nats-Batch-Id": name,
                    "Nats-Batch-Sequence": str(place),
                    "Nats-Expected-Last-Subject-Sequence": str(last),
                },
            )
            for place, (subject, body, last) in enumerate(messages, 1)
        ]
        questions[-1][2]["Nats-Batch-Commit"] = "1"
        try:
            ack = _ack_of(await self._link.ask_last(questions))
        except Refused as refused:
            if refused.code in _WRONG_LAST:
                raise Mismatch from refused
            raise
        return list(range(ack.seq - len(messages) + 1, ack.seq + 1))

    # Looking

    async def last(self, stream: str, subject: str, until: float) -> Stored | None:
        """The last message of a subject, which may have wildcards. Raises LogFailure."""
        return await self._get(stream, {"last_by_subj": subject}, until)

    async def next(self, stream: str, subject: str, seq: int, until: float) -> Stored | None:
        """The first message of a subject from a number on. Raises LogFailure."""
        return await self._get(stream, {"seq": seq, "next_by_subj": subject}, until)

    async def _get(self, stream: str, question: JsonMap, until: float) -> Stored | None:
        answer = await self.persist(lambda: self._seek(f"STREAM.MSG.GET.{stream}", question), until)
        message = None if answer is None else answer.get("message")
        if not isinstance(message, dict):
            return None
        try:
            body = base64.b64decode(str(message.get("data") or ""))
        except binascii.Error as error:
            raise LogFailure("the answer of JetStream is unreadable") from error
        return Stored(_number(message.get("seq")), str(message.get("subject")), body)

    async def _seek(self, name: str, question: JsonMap) -> JsonMap | None:
        """A call whose answer may be that there is none."""
        try:
            return await self._link.api(name, question)
        except Refused as refused:
            if refused.code in (_NO_STREAM, _NO_MESSAGE):
                return None
            raise

    # Reading

    async def read(
        self,
        stream: str,
        subject: str,
        seq: int,
        *,
        until: float,
        bytes_max: int = READ_BYTES,
        count: int = READ_COUNT,
    ) -> list[Stored]:
        """Messages of a subject from a number on, as one of the servers has them.

        At least one if that server has any. Raises LogFailure.
        """
        question = {
            "seq": max(seq, 1),
            "next_by_subj": subject,
            "batch": count,
            "max_bytes": max(1, min(bytes_max, READ_BYTES)),
        }
        payload = json.dumps(question).encode()
        return await self.persist(lambda: self._read(stream, payload), until)

    def reader(self, stream: str, subject: str) -> Callable[[int], Awaitable[list[Stored]]]:
        """As `read`, from the number it is given on, within a moment."""
        return lambda seq: self.read(stream, subject, seq, until=self.until(_READ_S))

    async def _read(self, stream: str, payload: bytes) -> list[Stored]:
        arrived: asyncio.Queue[Msg | None] = asyncio.Queue()
        reply = self._link.expect(arrived.put_nowait)
        found: list[Stored] = []
        try:
            await self._link.send(f"$JS.API.DIRECT.GET.{stream}", payload, reply=reply)
            while True:
                async with asyncio.timeout(self._link.request_seconds):
                    message = await arrived.get()
                if message is None:
                    raise Unanswered("the connection to NATS was lost")
                stored = _stored_of(message)
                if stored is None:
                    return found
                found.append(stored)
        except TimeoutError as error:
            raise Unanswered("NATS did not answer in time") from error
        finally:
            self._link.unexpect(reply)

    async def scan(
        self, stream: str, subject: str, *, until: float, from_seq: int = 1
    ) -> list[Stored]:
        """All messages of a subject from a number on, none missing that the leader has now.

        Raises LogFailure.
        """
        found: list[Stored] = []
        last = await self.last(stream, subject, until)
        at = from_seq
        while last is not None and at <= last.seq:
            part = await self.read(stream, subject, at, until=until)
            if not part:
                # This server is behind, or what was there has been removed meanwhile.
                last = await self.last(stream, subject, until)
                following = None if last is None else await self.next(stream, subject, at, until)
                part = [] if following is None else [following]
            if not part:
                break
            found.extend(part)
            at = part[-1].seq + 1
        return found


def _stored_of(message: Msg) -> Stored | None:
    """A message of a reading; None at its end. Raises Unanswered."""
    headers = message.headers or {}
    status = status_of(message) if not message.data else ""
    if status in ("204", "404"):
        return None
    seq = headers.get("Nats-Sequence", "")
    if status or not seq.isdigit():
        raise Unanswered(f"JetStream cannot read now ({status})")
    return Stored(int(seq), headers.get("Nats-Subject", ""), message.data)


def _ack_of(answer: JsonMap) -> Ack:
    seq = answer.get("seq")
    if not isinstance(seq, int):
        raise Unanswered("the answer of JetStream is unreadable")
    return Ack(seq, bool(answer.get("duplicate")))


def _state_of(answer: JsonMap) -> StreamState:
    state = answer.get("state")
    if not isinstance(state, dict):
        raise LogFailure("the answer of JetStream is unreadable")
    names = ("first_seq", "last_seq", "messages", "bytes")
    return StreamState(*(_number(state.get(name)) for name in names))


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0
