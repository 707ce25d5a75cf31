"""What is kept by its name beside the log: dead letters, scheduled messages, the heartbeat.

A copy alone means nothing for a dead letter: the shard's journal says which there are. So a copy
that a node made after it had lost the shard, or that was left behind, does not show; the shard's
next owner sweeps it out.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final

from hotpath.model.message import DeadLetter
from hotpath.model.names import SubscriptionId, TopicKey
from hotpath.ports import Recovered, Scheduled
from hotpath.storage.encoding import Damaged
from hotpath.storage.jetstream.frames import (
    decode_letter,
    decode_number,
    decode_scheduled,
    encode_letter,
    encode_number,
    encode_scheduled,
)
from hotpath.storage.jetstream.naming import Names
from hotpath.storage.jetstream.server import JetStream, Stored

#: Calls of one kind that are on their way at the same time.
_AT_ONCE: Final = 32


async def together(calls: Iterable[Callable[[], Awaitable[object]]]) -> None:
    """Make calls, some at the same time; the first failure is raised once none is on its way."""
    slots = asyncio.Semaphore(_AT_ONCE)

    async def one(call: Callable[[], Awaitable[object]]) -> None:
        async with slots:
            await call()

    outcomes = await asyncio.gather(*map(one, calls), return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome


class Kept:
    """Messages that are found by name."""

    def __init__(
        self, server: JetStream, names: Names, *, on_damage: Callable[[str], None]
    ) -> None:
        self._server = server
        self._names = names
        self._on_damage = on_damage
        self._copying: dict[str, None] = {}

    # Dead letters

    async def copy(
        self, letters: Sequence[tuple[SubscriptionId, DeadLetter]], until: float
    ) -> None:
        """Keep copies of messages. Raises LogFailure."""
        copies = {self._names.letter(name, letter.seq): letter for name, letter in letters}
        self._copying.update(dict.fromkeys(copies))
        await together(
            lambda s=subject, x=letter: self._server.store(s, encode_letter(s, x), until=until)  # type: ignore[misc]
            for subject, letter in copies.items()
        )

    def copied(self, letters: Iterable[tuple[SubscriptionId, DeadLetter]]) -> None:
        """The journal tells of these copies now, or will not."""
        for name, letter in letters:
            self._copying.pop(self._names.letter(name, letter.seq), None)

    async def letters(
        self, subscription: SubscriptionId, seqs: Sequence[int], until: float
    ) -> list[DeadLetter]:
        """Dead letters by their numbers; damaged ones are left out and reported."""
        subjects = [self._names.letter(subscription, seq) for seq in seqs]
        found: dict[str, Stored | None] = {}

        async def look(subject: str) -> None:
            found[subject] = await self._server.last(self._names.kept, subject, until)

        await together(lambda s=subject: look(s) for subject in subjects)  # type: ignore[misc]
        return self._decoded(subscription, [found[subject] for subject in subjects])

    async def all_letters(
        self, subscription: SubscriptionId, *, from_seq: int, limit: int, until: float
    ) -> list[DeadLetter]:
        """Copies for a subscription, whoever has its shard."""
        subject = f"{self._names.letters(subscription)}.*"
        stored = await self._server.scan(self._names.kept, subject, until=until)
        letters = self._decoded(subscription, stored)
        chosen = sorted((x for x in letters if x.seq >= from_seq), key=lambda x: x.seq)
        return chosen[:limit]

    def _decoded(
        self, subscription: SubscriptionId, copies: Sequence[Stored | None]
    ) -> list[DeadLetter]:
        letters = []
        for stored in copies:
            if stored is None:
                self._on_damage(f"a dead letter of {subscription} is missing")
                continue
            try:
                letters.append(decode_letter(stored))
            except Damaged as error:
                self._on_damage(f"dead letter {stored.subject}: {error}")
        return letters

    async def remove_letters(
        self, letters: Iterable[tuple[SubscriptionId, int]], until: float
    ) -> None:
        """Remove copies that the journal tells of no longer. Raises LogFailure."""
        subjects = {self._names.letter(*letter) for letter in letters}
        await together(lambda s=subject: self._purge(s, until) for subject in subjects)  # type: ignore[misc]

    async def remove_all_letters(self, subscription: SubscriptionId, until: float) -> None:
        """Remove all copies of a subscription. Raises LogFailure."""
        await self._purge(f"{self._names.letters(subscription)}.*", until)

    async def next_number(self, until: float) -> int:
        """The number that the next copy gets, or a higher one. Raises LogFailure."""
        state = await self._server.state(self._names.kept, until)
        return 1 if state is None else state.last + 1

    async def sweep(self, shard: int, known: set[str], *, below: int, until: float) -> None:
        """Remove a shard's copies before a number, but for those known. Raises LogFailure."""
        subjects = await self._server.subjects(
            self._names.kept, self._names.letters_of_shard(shard), until
        )
        strays = set(subjects) - known - self._copying.keys()
        await together(
            lambda s=subject: self._server.purge(  # type: ignore[misc]
                self._names.kept, subject=s, below=below, until=until
            )
            for subject in strays
        )

    # Scheduled messages

    async def keep_scheduled(self, messages: Sequence[Scheduled], until: float) -> None:
        """Keep messages until they are due. Raises LogFailure."""
        named = [(self._names.scheduled(m.topic, m.number), m) for m in messages]
        await together(
            lambda s=subject, m=message: self._server.store(s, encode_scheduled(s, m), until=until)  # type: ignore[misc]
            for subject, message in named
        )

    async def remove_scheduled(
        self, messages: Iterable[tuple[TopicKey, int]], until: float
    ) -> None:
        """Remove messages that have become due or unwanted. Raises LogFailure."""
        subjects = {self._names.scheduled(*message) for message in messages}
        await together(lambda s=subject: self._purge(s, until) for subject in subjects)  # type: ignore[misc]

    async def recover_scheduled(self, shard: int, recovered: Recovered, until: float) -> None:
        """Add a shard's scheduled messages to what is recovered. Raises LogFailure."""
        subject = self._names.scheduled_of_shard(shard)
        for stored in await self._server.scan(self._names.kept, subject, until=until):
            try:
                recovered.scheduled.append(decode_scheduled(stored))
            except Damaged as error:
                recovered.damage.append(f"scheduled message {stored.subject}: {error}")

    # The heartbeat

    async def beat(self, alive_ms: int, until: float) -> None:
        """Note that the service is up. Raises LogFailure."""
        subject = self._names.alive
        await self._server.store(subject, encode_number(subject, alive_ms), until=until)

    async def last_beat(self, recovered: Recovered, until: float) -> None:
        """Add the last heartbeat to what is recovered. Raises LogFailure."""
        stored = await self._server.last(self._names.kept, self._names.alive, until)
        try:
            recovered.alive_ms = None if stored is None else decode_number(stored)
        except Damaged as error:
            recovered.damage.append(f"the last heartbeat: {error}")

    async def _purge(self, subject: str, until: float) -> None:
        await self._server.purge(self._names.kept, subject=subject, until=until)
