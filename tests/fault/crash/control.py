"""Control calls at random: create, delete, renew, and what must be there after a restart."""

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from tests.fault.crash.ledger import END, Facts, Feed, Ledger, Mode, Violation, wall_ms
from tests.fault.crash.rest import Answer, RestCalls

#: Length of an API minute.
MINUTE_S: Final = 0.1
LONG_TTL: Final = 43_200
#: The shortest life of an idle subscription.
SHORT_TTL: Final = 5.5
EXTRAS_MAX: Final = 6
#: How much later than it should a kill may have a subscription reaped. The promise is 60 s, of
#: marks that are 25 s and heartbeats that are 20 s apart; `child` has them 200 times as often.
#: The rest, and `SLACK_S` once, is for a slow machine.
LATE_S: Final = 0.3
SLACK_S: Final = 0.7


@dataclass(frozen=True, slots=True)
class Plan:
    """A feed to be made."""

    name: str
    topic: str
    filter: str
    lets_through: Callable[[Facts], bool]
    mode: Mode
    start: str | None = None
    receivers: int = 1
    token_minutes: float = LONG_TTL - 1


PLANS: Final = (
    Plan("all", "variables", "value > 0", lambda _: True, Mode.FIRST, "earliest"),
    Plan("events", "events", "objectId != ''", lambda _: True, Mode.SECOND, "earliest"),
    Plan(
        "random",
        "variables",
        "objectId IN ['o0', 'o1', 'o2']",
        lambda facts: facts["objectId"] in ("o0", "o1", "o2"),
        Mode.SECOND,
    ),
    Plan(
        "competing",
        "variables",
        "quality >= 3",
        lambda facts: facts["quality"] >= 3,
        Mode.SECOND,
        receivers=3,
    ),
    Plan("delete", "variables", "objectId = 'o3'", lambda f: f["objectId"] == "o3", Mode.DELETE),
    Plan("cold", "variables", "quality = 5", lambda f: f["quality"] == 5, Mode.COLD),
)
EXTRA: Final = Plan(
    "extra", "variables", "quality IN [1, 2]", lambda f: f["quality"] in (1, 2), Mode.COLD
)
REPLAY: Final = Plan(
    "replay", "variables", "NOT objectId = 'o4'", lambda f: f["objectId"] != "o4", Mode.SECOND
)


@dataclass(slots=True)
class Short:
    """A subscription that nobody attaches to and nothing matches: it is reaped."""

    id: str
    up_s: float = 0.0
    """At most so long was the service up in its life."""
    created: float = 0.0
    up_least_s: float = 0.0
    """At least so long, before this run."""
    kills: int = 0
    gone: bool = False


class Control:
    """Creates and ends subscriptions, and remembers what it was told."""

    def __init__(self, ledger: Ledger, rng: random.Random, *, late_s: float = LATE_S) -> None:
        self._ledger = ledger
        self._rng = rng
        self._late_s = late_s
        self.shorts: list[Short] = []
        """Without a client or a match: the reaper's."""
        self.unanswered_creates = 0
        self.over = False
        self.run_begins()
        self.overdue_s = 0.0
        """The longest that one was seen after its time."""

    # Calls

    async def _call(
        self, rest: RestCalls, method: str, path: str, body: object = None
    ) -> Answer | None:
        """A call; None when its outcome is not known."""
        answer = await rest.call(method, path, body)
        if answer is not None and answer.status == 503 and self._ledger.stopping:
            return None
        return answer

    async def create(self, rest: RestCalls, plan: Plan, *, name: str = "") -> Feed | None:
        """Create a feed; None when the service died under the call."""
        ledger = self._ledger
        start, start_ms = plan.start, 0 if plan.start == "earliest" else None
        if plan is REPLAY:
            start_ms = wall_ms() - self._rng.randrange(800)
            start = datetime.fromtimestamp(start_ms / 1000, UTC).isoformat(timespec="milliseconds")
        feed = Feed(
            name=name or plan.name,
            topic=plan.topic,
            filter=f"{plan.filter} OR objectId = '{END}'",
            lets_through=lambda facts: plan.lets_through(facts) or facts["objectId"] == END,
            mode=plan.mode,
            asked=ledger.tick(),
            start_ms=start_ms,
            ordered=plan.receivers == 1,
        )
        times = {"subscriptionTTL": LONG_TTL, "sasTokenTTL": plan.token_minutes}
        body: dict[str, object] = {**times, "filter": feed.filter}
        if start is not None:
            body["startFrom"] = start
        answer = await self._call(rest, "POST", f"/subscriptions/{plan.topic}", body)
        if answer is None:
            self.unanswered_creates += 1
            return None
        _expect(answer, 201)
        feed.created = ledger.tick()
        feed.id, feed.token = answer.body["subscriptionId"], answer.body["sasToken"]
        ledger.feeds.append(feed)
        return feed

    async def delete(self, rest: RestCalls, feed: Feed) -> None:
        """Delete a feed."""
        feed.delete_asked = True
        answer = await self._call(rest, "DELETE", f"/subscriptions/{feed.topic}/{feed.id}")
        if answer is not None:
            _expect(answer, 204)
            feed.deleted = True
            self._ledger.tick()

    async def renew(self, rest: RestCalls, feed: Feed, *, minutes: float | None = None) -> None:
        """Get a fresh token, for as long as the first one or for so many minutes."""
        body = None if minutes is None else {"sasTokenTTL": minutes}
        answer = await self._call(rest, "PUT", f"/subscriptions/{feed.topic}/{feed.id}", body)
        if answer is not None:
            _expect(answer, 200)
            feed.token = answer.body["sasToken"]
            self._ledger.tick()

    async def create_short(self, rest: RestCalls) -> None:
        """Create one that will be reaped."""
        body = {"subscriptionTTL": SHORT_TTL, "sasTokenTTL": 5, "filter": "objectId = 'nobody'"}
        answer = await self._call(rest, "POST", "/subscriptions/alarms", body)
        if answer is None:
            self.unanswered_creates += 1
            return
        _expect(answer, 201)
        now = time.monotonic()
        self.shorts.append(Short(answer.body["subscriptionId"], self.begun - now, created=now))
        self._ledger.tick()

    async def work(self, rest: RestCalls) -> None:
        """Make random calls until it is over."""
        while not self.over:
            await asyncio.sleep(self._rng.random() * 0.06)
            extras = [
                feed
                for feed in self._ledger.feeds
                if feed.name == "extra" and not feed.delete_asked
            ]
            action = self._rng.choice(["create", "create", "replay", "delete", "renew", "short"])
            if action == "delete" and extras:
                await self.delete(rest, self._rng.choice(extras))
            elif action == "create" and len(extras) < EXTRAS_MAX:
                await self.create(rest, EXTRA)
            elif action == "replay" and not any(f.name == "replay" for f in self._ledger.feeds):
                await self.create(rest, REPLAY)
            elif action == "renew":
                live = [feed for feed in self._ledger.feeds if not feed.delete_asked]
                if live:
                    await self.renew(rest, self._rng.choice(live))
            elif action == "short":
                await self.create_short(rest)

    # After a restart

    def run_ended(self) -> None:
        """The service is down: idle time stands still."""
        up_s = time.monotonic() - self.begun
        for short in self.shorts:
            short.up_s += up_s
            short.up_least_s += self._least_in_run(short)
            short.kills += 1

    def run_begins(self) -> None:
        """The service is started."""
        self.begun = self._ready = self._seen = time.monotonic()

    def run_ready(self) -> None:
        """The service answers."""
        self._ready = self._seen = time.monotonic()

    def seen_up(self) -> None:
        """The service is still there."""
        self._seen = time.monotonic()

    def _least_in_run(self, short: Short) -> float:
        return max(0.0, self._seen - max(self._ready, short.created))

    async def see_all_reaped(self, rest: RestCalls) -> None:
        """Wait until none is left of those that are to be reaped. Raises Violation."""
        while any(not short.gone for short in self.shorts):
            await asyncio.sleep(0.05)
            listed = await rest.listed()
            if listed is None:
                raise Violation("the service is gone")
            self.seen_up()
            for short in self.shorts:
                self._check_short(short, short.id in listed)

    def check(self, listed: dict[str, dict]) -> None:
        """What was answered is there, what was deleted is not. Raises Violation."""
        known: set[str] = set()
        for feed in self._ledger.feeds:
            known.add(feed.id)
            if feed.deleted and feed.id in listed:
                raise Violation(f"deleted feed {feed.name} is back")
            if feed.id not in listed:
                if not feed.delete_asked:
                    raise Violation(f"feed {feed.name} is lost")
                feed.deleted = True
        for short in self.shorts:
            known.add(short.id)
            self._check_short(short, short.id in listed)
        strangers = listed.keys() - known
        if len(strangers) > self.unanswered_creates:
            raise Violation(f"{len(strangers)} subscriptions that nobody created")

    def _check_short(self, short: Short, there: bool) -> None:
        if short.gone and there:
            raise Violation("a reaped subscription is back")
        lived_s = short.up_s + time.monotonic() - self.begun
        if not there and not short.gone and lived_s < SHORT_TTL * MINUTE_S:
            raise Violation(f"a subscription was reaped after {lived_s:.3f} s")
        overdue_s = short.up_least_s + self._least_in_run(short) - SHORT_TTL * MINUTE_S
        if there:
            self.overdue_s = max(self.overdue_s, overdue_s)
        if there and overdue_s > self._late_s * short.kills + SLACK_S:
            raise Violation(
                f"a subscription is not reaped {overdue_s:.3f} s after its time, {short.kills} kills"
            )
        if not there and not short.gone:
            self._ledger.counts["reaped"] += 1
        short.gone = short.gone or not there


def _expect(answer: Answer, status: int) -> None:
    if answer.status != status:
        raise Violation(f"{status} expected, {answer} came")
