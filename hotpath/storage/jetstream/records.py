"""Records on JetStream: one subject each, of which the last message counts.

A message holds the key, the place in the order of creation and the columns. A record that is
removed leaves a mark, so that whoever watches sees it go; marks vanish after a time. Changes say
which message of the subject they replace, so that two nodes do not undo each other's unseen.
"""

import asyncio
import base64
import json
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from hotpath.clusterports import Change, Stop
from hotpath.ports import LogFailure
from hotpath.storage.encoding import Damaged
from hotpath.storage.jetstream.following import Following
from hotpath.storage.jetstream.frames import seal, unseal
from hotpath.storage.jetstream.kept import together
from hotpath.storage.jetstream.link import Link, Refused, Unanswered
from hotpath.storage.jetstream.naming import Names
from hotpath.storage.jetstream.options import LogOptions
from hotpath.storage.jetstream.server import JetStream, Mismatch, Stored, StreamSpec
from hotpath.telemetry import get_logger

_PAUSE_S: Final = 0.02

_log = get_logger("hotpath.jetstream")


class _Place(NamedTuple):
    """Where a record stands: its subject's last message, and its place by creation."""

    last: int
    made: int
    """0 when the record is gone."""
    kind: str = ""
    key: str = ""


@dataclass(frozen=True, slots=True)
class _Written:
    """What a message says."""

    kind: str
    key: str
    made: int
    """Number of the message that created it; 0: this one."""
    record: dict[str, object] | None


class JetStreamStore:
    """A `SharedRecordStore` over the same link as the log."""

    def __init__(self, link: Link, options: LogOptions) -> None:
        options.check()
        self._link = link
        self._options = options
        self._names = Names(options.prefix, shards=options.shards)
        self._server = JetStream(
            link, replicas=options.replicas, duplicate_seconds=options.duplicate_seconds
        )
        self._places: dict[str, _Place] = {}
        self._columns: dict[str, dict[str, None]] = {}
        self._is_open = False
        self._written = 0
        self._seen = 0

    async def open(self) -> None:
        """See to the stream. Raises LogFailure."""
        if not self._is_open:
            await self._server.ensure(self._spec(), self._until())
            self._is_open = True

    def _spec(self) -> StreamSpec:
        return StreamSpec(self._names.records, self._names.all_records, one_each=True)

    # The port

    async def load(self, kind: str, *, prefix: str = "") -> list[dict[str, object]]:
        """Records in the order of their creation, None in columns that a record left out."""
        await self.open()
        found: list[tuple[int, dict[str, object]]] = []
        subjects = self._names.records_of(_checked(kind), prefix)
        for stored in await self._server.scan(self._names.records, subjects, until=self._until()):
            written = self._read(stored)
            if written is None:
                continue
            made = self._note(stored, written)
            if written.record is not None and written.key.startswith(prefix):
                found.append((made, written.record))
        columns = self._columns.get(kind, {})
        return [
            {column: record.get(column) for column in columns}
            for _, record in sorted(found, key=lambda item: item[0])
        ]

    async def put(self, kind: str, key: str, record: dict[str, object]) -> None:
        """Create or replace a record; a replaced one keeps its place in the order."""
        await self.put_many(kind, [(key, record)])

    async def put_many(self, kind: str, records: Sequence[tuple[str, dict[str, object]]]) -> None:
        """Create or replace records; created ones come in the order in which they are given."""
        await self.open()
        columns = self._columns.setdefault(_checked(kind), {})
        # The last one of a key counts, at the place of the first.
        wanted: dict[str, dict[str, object]] = {}
        for key, record in records:
            columns.update(dict.fromkeys(record))
            wanted[key] = dict(record)
        until = self._until()
        await together(lambda k=key: self._write(kind, k, wanted[k], until) for key in wanted)  # type: ignore[misc]

    async def create(self, kind: str, key: str, record: dict[str, object]) -> bool:
        """Create a record unless there is one; whether it was created. Raises LogFailure."""
        await self.open()
        self._columns.setdefault(_checked(kind), {}).update(dict.fromkeys(record))
        subject, until = self._names.record(kind, key), self._until()
        while not (place := await self._look(subject, until)).made:
            if await self._replace(kind, key, dict(record), place):
                return True
            if asyncio.get_running_loop().time() + _PAUSE_S > until:
                raise LogFailure(f"a record could not be written in time: {kind}")
            await asyncio.sleep(_PAUSE_S)
        return False

    @property
    def written(self) -> int:
        """The number of the last message that was written here."""
        return self._written

    @property
    def seen(self) -> int:
        """The number of the last message that the watch has told."""
        return self._seen

    async def newest(self) -> int:
        """The number of the stream's last message. Raises LogFailure."""
        await self.open()
        state = await self._server.state(self._names.records, self._until())
        return 0 if state is None else state.last

    async def delete(self, kind: str, keys: Iterable[str]) -> None:
        """Remove records; keys that are not there are passed over."""
        await self.open()
        _checked(kind)
        until = self._until()
        await together(lambda k=key: self._write(kind, k, None, until) for key in list(keys))  # type: ignore[misc]

    async def watch(
        self, changed: Callable[[Change], None], *, kinds: Collection[str] = ()
    ) -> Stop:
        """Tell of every change from now on, of some kinds or of all. Raises LogFailure."""
        await self.open()
        tasks: set[asyncio.Task[None]] = set()
        wanted = tuple(self._names.records_of(_checked(kind), "")[:-3] for kind in kinds)

        def tell(stored: Stored) -> None:
            change = self._change(stored, wanted)
            self._seen = max(self._seen, stored.seq)
            if change is not None:
                changed(change)

        def resumed(silent: float) -> None:
            if silent >= self._options.tombstone_seconds / 2:
                # Marks of what was removed meanwhile may have vanished.
                task = asyncio.ensure_future(self._tell_vanished(changed))
                tasks.add(task)
                task.add_done_callback(tasks.discard)

        state = await self._server.state(self._names.records, self._until())
        self._seen = max(self._seen, 0 if state is None else state.last)
        stream = self._names.records
        read = self._server.reader(stream, self._names.all_records)
        following = Following(self._link, stream, deliver=tell, resumed=resumed, read=read)
        await following.start(1 if state is None else state.last + 1)

        async def stop() -> None:
            await following.stop()
            for task in list(tasks):
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        return stop

    def _change(self, stored: Stored, wanted: tuple[str, ...]) -> Change | None:
        """What a message tells; None when nobody wants to know, or it is damaged."""
        if wanted and not stored.subject.startswith(wanted):
            return None
        written = self._read(stored)
        if written is None:
            return None
        self._note(stored, written)
        return Change(written.kind, written.key, self._widened(written))

    async def _tell_vanished(self, changed: Callable[[Change], None]) -> None:
        """Tell of records that are known and not there any more."""
        before = {subject: place for subject, place in self._places.items() if place.made}
        try:
            there = await self._server.subjects(
                self._names.records, self._names.all_records, self._until()
            )
        except LogFailure as failure:
            _log.error("removed records not looked for", extra={"reason": failure.detail})
            return
        for subject in before.keys() - set(there):
            place = self._places.get(subject)
            if place == before[subject]:
                del self._places[subject]
                changed(Change(place.kind, place.key, None))

    def _widened(self, written: _Written) -> dict[str, object] | None:
        if written.record is None:
            return None
        columns = self._columns.get(written.kind, {})
        return {column: written.record.get(column) for column in columns}

    # Writing

    async def _write(
        self, kind: str, key: str, record: dict[str, object] | None, until: float
    ) -> None:
        """Write one record, or that it is gone, over what is known or else looked up."""
        subject = self._names.record(kind, key)
        place = self._places.get(subject)
        if place is None and record is None:
            place = await self._look(subject, until)
        while not await self._replace(kind, key, record, place or _Place(0, 0)):
            if asyncio.get_running_loop().time() + _PAUSE_S > until:
                raise LogFailure(f"a record could not be written in time: {kind}")
            await asyncio.sleep(_PAUSE_S)
            place = await self._look(subject, until)

    async def _replace(
        self, kind: str, key: str, record: dict[str, object] | None, place: _Place
    ) -> bool:
        """Write one record if it still stands at a place; whether that is known to be done."""
        made = place.made
        if record is None and not made:
            return True
        subject = self._names.record(kind, key)
        content = _encode(_Written(kind, key, made, self._complete(kind, record)))
        ttl = self._options.tombstone_seconds if record is None else 0
        try:
            ack = await self._server.store_after(
                subject, seal(subject, content), last=place.last, ttl=ttl
            )
        except (Mismatch, Unanswered):
            return False
        except Refused as refused:
            if not refused.passes:
                raise refused.failure() from refused
            return False
        made = 0 if record is None else made or ack.seq
        self._places[subject] = _Place(ack.seq, made, kind, key)
        self._written = max(self._written, ack.seq)
        return True

    def _complete(self, kind: str, record: dict[str, object] | None) -> dict[str, object] | None:
        """A record with all columns that its kind has had."""
        if record is None:
            return None
        return {column: record.get(column) for column in self._columns.get(kind, {})}

    async def _look(self, subject: str, until: float) -> _Place:
        """Where a record stands now."""
        stored = await self._server.last(self._names.records, subject, until)
        written = None if stored is None else self._read(stored)
        if stored is None:
            self._places.pop(subject, None)
            return _Place(0, 0)
        if written is None:
            return _Place(stored.seq, stored.seq)
        self._note(stored, written)
        return self._places[subject]

    # Reading

    def _note(self, stored: Stored, written: _Written) -> int:
        """Remember where a record stands; its place by creation."""
        made = 0 if written.record is None else written.made or stored.seq
        known = self._places.get(stored.subject)
        if known is None or known.last <= stored.seq:
            self._places[stored.subject] = _Place(stored.seq, made, written.kind, written.key)
        if written.record is not None:
            self._columns.setdefault(written.kind, {}).update(dict.fromkeys(written.record))
        return made

    def _read(self, stored: Stored) -> _Written | None:
        """What a message says; None when it is damaged, which is reported."""
        try:
            return _decode(unseal(stored))
        except Damaged as error:
            _log.error("record damaged", extra={"what": f"{stored.subject}: {error}"})
            return None

    def _until(self) -> float:
        return self._server.until(self._options.commit_seconds)


def _checked(kind: str) -> str:
    """A kind of records; it is part of subjects as it is. Raises LogFailure."""
    if not (kind.isascii() and kind.replace("_", "a").isalnum()):
        raise LogFailure(f"{kind!r} is no kind of record")
    return kind


def _encode(written: _Written) -> bytes:
    """A message. Raises LogFailure for values that no record may hold."""
    record = written.record
    columns = None if record is None else {name: _packed(value) for name, value in record.items()}
    # Keys may hold halves of characters, which UTF-8 cannot say but JSON can.
    return json.dumps([written.kind, written.key, written.made, columns]).encode()


def _packed(value: object) -> object:
    match value:
        case None | str() | int() | float():
            return value
        case bytes():
            return [base64.b64encode(value).decode()]
        case _:
            raise LogFailure(f"a record cannot hold {type(value).__name__}")


def _decode(body: bytes) -> _Written:
    """What a message says. Raises Damaged."""
    try:
        match json.loads(body):
            case [str(kind), str(key), int(made), None]:
                return _Written(kind, key, made, None)
            case [str(kind), str(key), int(made), dict(columns)]:
                values = {str(name): _unpacked(value) for name, value in columns.items()}
                return _Written(kind, key, made, values)
            case _:
                raise Damaged("it is no record")
    except (ValueError, RecursionError) as error:
        raise Damaged("it is unreadable") from error


def _unpacked(value: object) -> object:
    match value:
        case [str(text)]:
            return base64.b64decode(text)
        case _:
            return value
