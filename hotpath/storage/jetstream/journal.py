"""The journals of shards: chains that only their owner can add to.

Every entry names the number of the entry before it, and the server refuses one that does not name
the last. Who claims a shard adds an entry; from then on whatever the former owner adds is refused,
because it cannot know that number. So a clock that is wrong, or a node that slept, does no harm.

When an entry is refused, or nothing is known of it, the chain itself tells: entries that follow the
last known one and are this log's own have taken effect, and anybody else's means that the shard is
lost. A journal that has grown is written anew at its own end, then what came before is removed;
a death between the two leaves records that say the same twice.
"""

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from secrets import token_bytes
from typing import Final

from hotpath.ports import LogFailure, Recovered
from hotpath.storage.encoding import Damaged
from hotpath.storage.jetstream.frames import Entry, decode_entry, encode_entry
from hotpath.storage.jetstream.link import Refused, Unanswered
from hotpath.storage.jetstream.naming import Names
from hotpath.storage.jetstream.options import LogOptions
from hotpath.storage.jetstream.server import JetStream, Mismatch, Stored
from hotpath.storage.jetstream.shardstate import (
    Record,
    ShardState,
    claimed_record,
    read_records,
)
from hotpath.telemetry import get_logger

#: Bytes of records in one entry.
ENTRY_BYTES: Final = 131_072
#: Entries after which a journal is written anew, unless what it says is large.
ENTRIES_MAX: Final = 128
#: How long to wait before looking again whether an entry on its way has arrived, seconds.
_PAUSE_S: Final = 0.05
_WRITER_BYTES: Final = 8
#: Subscriptions that are recovered in one turn of the loop: a few milliseconds.
_STEPS: Final = 200
#: Shards that one request may add to, and the server's error when it cannot do that at all.
_AT_ONCE_MAX: Final = 256
_NOT_AT_ONCE: Final = 10174

_log = get_logger("hotpath.jetstream")


@dataclass(slots=True)
class _Shard:
    """A claimed shard."""

    number: int
    subject: str
    last: int
    """Number of the last entry that is known."""
    state: ShardState = field(default_factory=ShardState)
    grown: int = 0
    """Bytes of entries since the journal was last written anew."""
    entries: int = 0
    """How many these are."""
    base: int = 0
    """Bytes it had then."""
    lost: bool = False

    def note(self, size: int) -> None:
        """The journal has grown by an entry."""
        self.grown += size
        self.entries += 1

    def is_overgrown(self, bytes_max: int) -> bool:
        """Whether it is due to be written anew.

        Many entries take the server long to remove at once, so few are enough where that is cheap.
        """
        much = self.grown > bytes_max or self.entries > ENTRIES_MAX
        return much and self.grown > 2 * self.base


@dataclass(slots=True)
class _Run:
    """What is to be added to one shard: portions, the first under the name given."""

    shard: _Shard
    name: bytes
    parts: list[list[Record]]

    def take_part(self) -> None:
        """The first portion is durable."""
        for record in self.parts.pop(0):
            self.shard.state.take(record)


class Journals:
    """Entries for claimed shards; one call at a time for each shard."""

    def __init__(self, server: JetStream, names: Names, options: LogOptions, *, node: str) -> None:
        self._server = server
        self._names = names
        self._options = options
        self._node = node
        self._writer = token_bytes(_WRITER_BYTES)
        self._numbers = count(1)
        self._shards: dict[int, _Shard] = {}
        self._can_add_at_once = True

    def holds(self, shard: int) -> bool:
        """Whether a shard is claimed and, as far as is known, not lost."""
        return shard in self._shards

    def state(self, shard: int) -> ShardState | None:
        """What is known of a claimed shard."""
        found = self._shards.get(shard)
        return None if found is None else found.state

    def drop(self, shard: int) -> None:
        """Add nothing more to a shard."""
        self._shards.pop(shard, None)

    # Claiming

    async def claim(self, number: int, until: float) -> Recovered:
        """Take a shard over; all that its journal says. Raises LogFailure."""
        self.drop(number)
        shard = _Shard(number, self._names.journal(number), 0)
        claim = await self._add_claim(shard, until)
        recovered = Recovered()
        entries = await self._server.scan(self._names.journals, shard.subject, until=until)
        await self._replay(shard, (entry for entry in entries if entry.seq <= claim), recovered)
        for done, _ in enumerate(shard.state.recovering(recovered), 1):
            if done % _STEPS == 0:
                await asyncio.sleep(0)
        if shard.last != claim:
            raise LogFailure(f"the journal of shard {number} cannot be read up to its end")
        if any(entry.seq > claim for entry in entries):
            raise LogFailure(f"shard {number} was claimed by somebody else at the same time")
        self._shards[number] = shard
        return recovered

    async def _add_claim(self, shard: _Shard, until: float) -> int:
        """Add the entry that shuts the former owner out; its number."""
        records = claimed_record(self._node).raw
        while True:
            found = await self._server.last(self._names.journals, shard.subject, until)
            last = 0 if found is None else found.seq
            entry = Entry(last, self._name(), records)
            try:
                body = encode_entry(shard.subject, entry)
                return (await self._server.store_after(shard.subject, body, last=last)).seq
            except (Mismatch, Unanswered):
                # Whoever was first is looked at, it may have been this very entry; then again.
                pass
            except Refused as refused:
                if not refused.passes:
                    raise refused.failure() from refused
            await self._pause(until, f"shard {shard.number} cannot be claimed")

    async def _replay(self, shard: _Shard, entries: Iterable[Stored], recovered: Recovered) -> None:
        for stored in entries:
            try:
                entry = decode_entry(stored)
                if shard.last and entry.previous != shard.last:
                    recovered.damage.append(
                        f"journal of shard {shard.number}: entries between {shard.last} "
                        f"and {stored.seq} are missing"
                    )
                for record in read_records(entry.records):
                    shard.state.take(record)
            except Damaged as error:
                recovered.damage.append(
                    f"journal of shard {shard.number}, entry {stored.seq}: {error}"
                )
            shard.last = stored.seq
            shard.note(len(stored.body))
            await asyncio.sleep(0)

    # Adding

    async def add(
        self, wanted: Mapping[int, Sequence[Record]], until: float
    ) -> dict[int, bool | LogFailure]:
        """Make records of held shards durable, each shard's in order.

        What became of each: True, False when the shard is lost, or why it is not known to be done.
        """
        runs = [
            _Run(self._shards[number], self._name(), list(_parts(records)))
            for number, records in wanted.items()
        ]
        small = [run for run in runs if len(run.parts) == 1]
        at_once = small[:_AT_ONCE_MAX]
        if self._can_add_at_once and len(at_once) > 1:
            await self._add_at_once(at_once)
        left = [run for run in runs if run.parts]
        outcomes = await asyncio.gather(*(self._finish(run, until) for run in left))
        added: dict[int, bool | LogFailure] = dict.fromkeys(wanted, True)
        for run, outcome in zip(left, outcomes, strict=True):
            added[run.shard.number] = outcome
        return added

    async def _add_at_once(self, runs: Sequence["_Run"]) -> None:
        """Try the entries of several shards in one go; what fails is tried one by one then."""
        messages = [
            (
                run.shard.subject,
                encode_entry(
                    run.shard.subject, Entry(run.shard.last, run.name, _joined_raw(run.parts[0]))
                ),
                run.shard.last,
            )
            for run in runs
        ]
        try:
            numbers = await self._server.store_all_after(messages)
        except (Mismatch, Unanswered):
            return
        except Refused as refused:
            if refused.code == _NOT_AT_ONCE:
                self._can_add_at_once = False
            return
        for run, (_, body, _), number in zip(runs, messages, numbers, strict=True):
            run.shard.last = number
            run.shard.note(len(body))
            run.take_part()

    async def _finish(self, run: "_Run", until: float) -> bool | LogFailure:
        """Add what is left of a run."""
        try:
            while run.parts:
                records = _joined_raw(run.parts[0])
                if not await self._add_entry(run.shard, records, run.name, until=until):
                    self.drop(run.shard.number)
                    return False
                run.take_part()
                run.name = self._name()
        except LogFailure as failure:
            return failure
        return True

    async def _add_entry(self, shard: _Shard, records: bytes, name: bytes, *, until: float) -> bool:
        """One entry at the end of the chain; False when somebody else has claimed the shard."""
        while True:
            entry = Entry(shard.last, name, records)
            body = encode_entry(shard.subject, entry)
            try:
                ack = await self._server.store_after(shard.subject, body, last=shard.last)
            except (Mismatch, Unanswered) as error:
                arrived = await self._catch_up(shard, name, until)
                if shard.lost or arrived:
                    return arrived
                reason = str(error) or "an entry is on its way"
            except Refused as refused:
                if not refused.passes:
                    raise refused.failure() from refused
                reason = refused.detail
            else:
                shard.last = ack.seq
                shard.note(len(body))
                return True
            await self._pause(until, f"JetStream has not confirmed in time: {reason}")

    async def _catch_up(self, shard: _Shard, own: bytes, until: float) -> bool:
        """Take in what the chain has after the last known entry; whether one's own is its last."""
        arrived = False
        for stored in await self._server.scan(
            self._names.journals, shard.subject, until=until, from_seq=shard.last + 1
        ):
            try:
                entry = decode_entry(stored)
            except Damaged as error:
                raise LogFailure(f"journal of shard {shard.number}: {error}") from error
            if entry.writer[:_WRITER_BYTES] != self._writer:
                shard.lost = True
                return False
            shard.last = stored.seq
            shard.note(len(stored.body))
            arrived = entry.writer == own
            if not arrived:
                # An entry that an earlier commit gave up on has taken effect after all.
                for record in read_records(entry.records):
                    shard.state.take(record)
        return arrived

    def _name(self) -> bytes:
        """What an entry is recognised by."""
        return self._writer + next(self._numbers).to_bytes(16 - _WRITER_BYTES, "big")

    async def _pause(self, until: float, reason: str) -> None:
        if asyncio.get_running_loop().time() + _PAUSE_S >= until:
            raise LogFailure(reason)
        await asyncio.sleep(_PAUSE_S)

    # Writing anew

    def overgrown(self) -> int | None:
        """A shard whose journal is due to be written anew."""
        for number, shard in self._shards.items():
            if shard.is_overgrown(self._options.journal_bytes):
                return number
        return None

    async def renew(self, number: int, until: float) -> bool:
        """Write a journal anew and remove what it replaces; False when the shard is lost.

        Raises LogFailure; then it is as good as before.
        """
        shard = self._shards[number]
        before, first = shard.grown, shard.last
        for part in list(_joined(shard.state.records())):
            if not await self._add_entry(shard, part, self._name(), until=until):
                self.drop(number)
                return False
        shard.base = shard.grown - before
        shard.grown = shard.entries = 0
        # What stands after the last entry from before is complete in itself.
        below = first + 1
        await self._server.purge(
            self._names.journals, subject=shard.subject, below=below, until=until
        )
        return True


def _joined_raw(records: Iterable[Record]) -> bytes:
    return b"".join(record.raw for record in records)


def _parts(records: Sequence[Record]) -> Iterator[list[Record]]:
    """Records in portions of an entry each."""
    part: list[Record] = []
    size = 0
    for record in records:
        if part and size + len(record.raw) > ENTRY_BYTES:
            yield part
            part, size = [], 0
        part.append(record)
        size += len(record.raw)
    if part:
        yield part


def _joined(records: Iterable[bytes]) -> Iterator[bytes]:
    """Encoded records in portions of an entry each; one at least, so that the chain has an end."""
    part: list[bytes] = []
    size = 0
    for raw in records:
        if part and size + len(raw) > ENTRY_BYTES:
            yield b"".join(part)
            part, size = [], 0
        part.append(raw)
        size += len(raw)
    yield b"".join(part)
