"""The end: drain every feed, read its dead letters, and compare with the ledger."""

import asyncio
import contextlib
import random
from typing import Final

from tests.fault.crash.actors import Numbers
from tests.fault.crash.control import Control
from tests.fault.crash.ledger import END, Feed, Ledger, Outcome, Violation, wall_ms
from tests.fault.crash.receivers import DeadLetterReader, Receiver
from tests.fault.crash.rest import RestCalls

ACCEPT_ONLY: Final = {Outcome.ACCEPT: 1}
#: So long nothing may come of a feed that is not at its end.
DRAIN_SECONDS: Final = 30.0


class Comparison:
    """Compares a service that nobody else uses any more with what its clients know."""

    def __init__(
        self, ledger: Ledger, control: Control, rng: random.Random, *, numbers: Numbers
    ) -> None:
        self.ledger = ledger
        self._control = control
        self._rng = rng
        self._numbers = numbers

    async def compare(self, url: str, rest: RestCalls) -> None:
        """Raises Violation, TimeoutError."""
        # What was sent for later comes into the log first, with some time for a slow machine.
        await asyncio.sleep(max(0, self.ledger.last_due_ms + 700 - wall_ms()) / 1000)
        before = await figures(rest)
        self._control.check(before)
        feeds = [feed for feed in self.ledger.feeds if not feed.deleted]
        await self._send_end(rest)
        await asyncio.gather(*(self._drain(feed, url) for feed in feeds))
        for feed in feeds:
            await self._read_dead_letters(feed, url, before[feed.id]["deadLettered"])
        for feed in feeds:
            told = before[feed.id]
            self.ledger.check_feed(feed, backlog=told["backlog"], dead=told["deadLettered"])
        if any(feed.name == "all" for feed in feeds) and any(f.name == "events" for f in feeds):
            self.ledger.check_log()
        self.ledger.counts["feeds compared"] += len(feeds)

    def _fork(self) -> random.Random:
        return random.Random(self._rng.random())

    async def _send_end(self, rest: RestCalls) -> None:
        for topic in ("variables", "events"):
            facts = {**self._numbers.take(), "objectId": END, "quality": -1, "event": "e"}
            group = self.ledger.sending(topic, "end", [facts])
            answer = await rest.call("POST", f"/messages/{topic}", facts)
            if answer is None or answer.status != 202:
                raise Violation(f"{answer} for the last message")
            self.ledger.accepted(group)

    async def _drain(self, feed: Feed, url: str) -> None:
        receiver = Receiver(self.ledger, self._fork(), feed=feed, weights=ACCEPT_ONLY)
        receiver.draining = True
        if not await receiver.attach(url, feed.token):
            raise receiver.violation or Violation(f"{feed.name}: no link")
        while not receiver.at_end.is_set():
            before = len(feed.drained)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(DRAIN_SECONDS):
                    await receiver.at_end.wait()
            if len(feed.drained) == before and not receiver.at_end.is_set():
                raise receiver.violation or Violation(f"{feed.name}: the end never comes")
        if receiver.violation is not None:
            raise receiver.violation
        await receiver.leave()

    async def _read_dead_letters(self, feed: Feed, url: str, expected: int) -> None:
        reader = DeadLetterReader(self.ledger, self._fork())
        try:
            await reader.read(feed, url, expected=expected)
        except TimeoutError:
            text = f"{feed.name}: {expected} dead letters told, {len(feed.dead)} come"
            raise reader.violation or Violation(text) from None
        if reader.violation is not None:
            raise reader.violation


async def figures(rest: RestCalls) -> dict[str, dict]:
    """All subscriptions when their figures have come to rest: they are completed after a start."""
    same, last = 0, None
    async with asyncio.timeout(20):
        while same < 4:
            listed = await rest.listed()
            if listed is None:
                raise Violation("the service is gone")
            now = {
                identity: (entry["backlog"], entry["deadLettered"])
                for identity, entry in listed.items()
            }
            same = same + 1 if now == last else 0
            last = now
            await asyncio.sleep(0.05)
    return listed
