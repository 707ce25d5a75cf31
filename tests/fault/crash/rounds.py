"""Run, kill, restart; in the end drain everything and compare with the ledger.

A sequence is one data directory with some kills. Its last start is a clean one, and so is its end.
"""

import asyncio
import json
import random
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from hotpath.auth.jwt import TokenRules, mint
from hotpath.auth.keys import load_development_key
from hotpath.config import Settings
from tests.fault.crash.actors import Actor, Numbers
from tests.fault.crash.child import Child, Orders
from tests.fault.crash.comparing import ACCEPT_ONLY, Comparison
from tests.fault.crash.control import MINUTE_S, PLANS, Control
from tests.fault.crash.ledger import MAX_DELIVERIES, Feed, Ledger, Mode, Outcome, Violation
from tests.fault.crash.points import ENDING, FRESH, RETENTION, Point
from tests.fault.crash.publishers import AmqpPublisher, HttpPublisher
from tests.fault.crash.receivers import (
    LETTER_WEIGHTS,
    RANDOM_WEIGHTS,
    FencedReceiver,
    Receiver,
    RestlessReceiver,
)
from tests.fault.crash.rest import RestCalls

#: Load after which a run is killed that has not come to its point.
RUN_SECONDS: Final = 3.0
#: Kills of one data directory.
SEQUENCE: Final = 6
SCOPES: Final = ("hotpath.subscribe", "hotpath.publish")
TOPICS: Final = ["variables", "variables", "events"]


@dataclass(slots=True)
class Report:
    """What came of a sequence or several."""

    points: int = 0
    reached: Counter[str] = field(default_factory=Counter)
    missed: Counter[str] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)
    overdue_s: float = 0.0
    """The longest that a subscription was seen after it should have been reaped."""

    def add(self, other: "Report") -> None:
        """Take in another one."""
        self.points += other.points
        self.reached.update(other.reached)
        self.missed.update(other.missed)
        self.counts.update(other.counts)
        self.violations += other.violations
        self.overdue_s = max(self.overdue_s, other.overdue_s)


class Rounds:
    """One data directory."""

    def __init__(self, points: Sequence[Point], *, seed: int, directory: Path) -> None:
        self.points = sorted(points, key=lambda point: point.name not in FRESH)
        self.report = Report()
        self.ledger = Ledger()
        self._rng = random.Random(f"{seed}:{points[0].index}:clients")
        self._control = Control(self.ledger, self._rng)
        self._numbers = Numbers()
        self._directory = directory
        self._retention = any(point.name in RETENTION for point in points)
        self._made: set[str] = set()

    async def work(self) -> Report:
        """Kill at every point, then compare. Violations are in the report."""
        now: object = "the start"
        try:
            for point in self.points:
                now = point.label
                await self._run(point)
            now = "the end"
            await self._finish()
        except (Violation, AssertionError, TimeoutError) as violation:
            self.report.violations.append(f"{now}: {violation!r}")
        self.report.counts.update(self.ledger.counts)
        self.report.overdue_s = self._control.overdue_s
        return self.report

    def _orders(self, point: Point | None) -> Orders:
        options: dict[str, object] = {
            "http": "127.0.0.1:0",
            "amqp": "127.0.0.1:0",
            "minute": MINUTE_S,
            "lock_seconds": 300,
            "max_deliveries": MAX_DELIVERIES,
            "rate_limit": "100000/second",
            "rate_limit_burst": 100_000,
        }
        if self._retention:
            options["retention_bytes"] = 1_048_576
        return Orders(
            self._directory,
            point=point.name if point else None,
            visit=point.count if point else 0,
            options=options,
            segment_bytes=2_000_000 if self._retention else 20_000,
        )

    def _token(self, tenant: str) -> str:
        rules = TokenRules.of(Settings(data_dir=self._directory))
        key = load_development_key(self._directory)
        now_ms = time.time_ns() // 1_000_000
        return mint(
            key, rules, tenant=tenant, scopes=SCOPES, subject="crash", now_ms=now_ms, minutes=60
        )

    # A run that is killed

    async def _run(self, point: Point) -> None:
        self._control.run_begins()
        child = Child(self._orders(point))
        try:
            urls = await child.ready()
            missed = False
            if urls is not None:
                self._control.run_ready()
                async with RestCalls(urls["http"], self._token("acme")) as rest:
                    missed = await self._under_load(child, urls, point, rest=rest)
            code = await child.ended(20)
            if code != -9:
                raise Violation(f"the service ended by itself with {code}")
        finally:
            child.close()
            self._control.run_ended()
            self.ledger.stopping = False
        self.report.points += 1
        (self.report.missed if missed else self.report.reached)[point.name or "random"] += 1

    async def _under_load(
        self, child: Child, urls: dict[str, str], point: Point, *, rest: RestCalls
    ) -> bool:
        """Let everybody work until the service is dead; whether the point was missed."""
        if not await self._prepare(rest):
            return False
        actors: list[Actor] = []
        jobs = [asyncio.ensure_future(job) for job in self._jobs(urls, rest, actors, point=point)]
        missed = await self._until_dead(child, point, jobs)
        async with asyncio.timeout(10):
            await asyncio.gather(*(a.client.lost.wait() for a in actors if a.client is not None))
        for job in jobs:
            job.cancel()
        ended = await asyncio.gather(*jobs, return_exceptions=True)
        for outcome in [actor.violation for actor in actors] + ended:
            if isinstance(outcome, Exception) and not isinstance(outcome, OSError):
                raise outcome
        return missed

    async def _until_dead(self, child: Child, point: Point, jobs: list[asyncio.Future]) -> bool:
        """Wait for the death at a named point, or bring it."""
        begun = time.monotonic()
        wanted = self.ledger.ticks + point.count
        broken = False
        while child.running and not broken:
            self._control.seen_up()
            await asyncio.sleep(0.002)
            if point.name is None and self.ledger.ticks >= wanted:
                child.kill()
                return False
            broken = any(job.done() and isinstance(job.exception(), Violation) for job in jobs)
            passed = time.monotonic() - begun
            if passed > RUN_SECONDS / 5 and point.name in ENDING and not self.ledger.stopping:
                self.ledger.stopping = True
                child.terminate()
            if passed > RUN_SECONDS:
                break
        alive = child.running
        child.kill()
        return alive

    async def _prepare(self, rest: RestCalls) -> bool:
        """Check the definitions and make what is missing; False when the service died."""
        listed = await rest.listed()
        if listed is None:
            return False
        self._control.check(listed)
        for plan in PLANS:
            if plan.name not in self._made:
                if await self._control.create(rest, plan) is None:
                    return False
                self._made.add(plan.name)
        return True

    def _jobs(
        self, urls: dict[str, str], rest: RestCalls, actors: list[Actor], *, point: Point
    ) -> list[Coroutine[None, None, None]]:
        url, token, ledger = urls["amqp"], self._token("acme"), self.ledger
        jobs = [self._control.work(rest)]
        names = (self._numbers, TOPICS)
        for name in ("amqp-1", "amqp-2"):
            publisher = AmqpPublisher(
                ledger, self._fork(), name=name, numbers=names[0], topics=names[1]
            )
            actors.append(publisher)
            jobs.append(publisher.work(url, token))
        http = HttpPublisher(ledger, self._fork(), name="http", numbers=names[0], topics=names[1])
        jobs.append(http.work(rest))
        if point.name in RETENTION:
            jobs.append(self._ballast(urls["http"]))
        for feed in ledger.feeds:
            if not feed.deleted and feed.mode is not Mode.COLD:
                jobs += self._reading(feed, url, actors)
        return jobs

    def _fork(self) -> random.Random:
        return random.Random(self._rng.random())

    def _reading(
        self, feed: Feed, url: str, actors: list[Actor]
    ) -> list[Coroutine[None, None, None]]:
        if feed.mode is Mode.FIRST:
            fenced = FencedReceiver(self.ledger, self._fork(), feed=feed, numbers=self._numbers)
            actors.append(fenced)
            return [fenced.work(url, self._token("acme"))]
        if not feed.ordered:
            return [self._come_and_go(feed, url, actors) for _ in range(3)]
        weights = RANDOM_WEIGHTS if feed.name == "random" else ACCEPT_ONLY
        receiver = Receiver(self.ledger, self._fork(), feed=feed, weights=weights)
        actors.append(receiver)
        if feed.name != "random":
            return [receiver.work(url, feed.token)]
        undertaker = Receiver(
            self.ledger, self._fork(), feed=feed.open_letters(), weights=LETTER_WEIGHTS
        )
        actors.append(undertaker)
        return [receiver.work(url, feed.token), undertaker.work(url, feed.token)]

    async def _come_and_go(self, feed: Feed, url: str, actors: list[Actor]) -> None:
        weights = {Outcome.ACCEPT: 8, Outcome.RELEASE: 1}
        while True:
            receiver = RestlessReceiver(self.ledger, self._fork(), feed=feed, weights=weights)
            actors.append(receiver)
            await receiver.work(url, feed.token)
            if receiver.violation is not None:
                raise receiver.violation

    async def _ballast(self, url: str) -> None:
        """Another tenant's messages, so many that retention drops segments."""
        body = [
            {"objectId": "b", "variable": "v", "value": "x" * 22_000, "quality": n}
            for n in range(100)
        ]
        async with RestCalls(url, self._token("ballast")) as rest:
            while (answer := await rest.call("POST", "/messages/variables", body)) is not None:
                if answer.status != 202:
                    raise Violation(f"{answer} for good messages")
                await asyncio.sleep(0.05)

    # The last start

    async def _finish(self) -> None:
        self._control.run_begins()
        child = Child(self._orders(None))
        try:
            urls = await child.ready()
            if urls is None:
                raise Violation("the service does not start any more")
            self._control.run_ready()
            async with RestCalls(urls["http"], self._token("acme")) as rest:
                end = Comparison(self.ledger, self._control, self._rng, numbers=self._numbers)
                await end.compare(urls["amqp"], rest)
                await self._control.see_all_reaped(rest)
            child.terminate()
            if (code := await child.ended(15)) != 0:
                raise Violation(f"the service ended with {code} when told to stop")
        finally:
            child.close()


async def run_points(points: Sequence[Point], *, seed: int, keep: Path | None = None) -> Report:
    """Run the points of one data directory; it is kept where something was found."""
    directory = Path(tempfile.mkdtemp(prefix="hotpath-crash-"))
    rounds = Rounds(points, seed=seed, directory=directory / "data")
    (directory / "data").mkdir(mode=0o700)
    report = await rounds.work()
    if report.violations:
        found = {"seed": seed, "points": [p.label for p in points], "found": report.violations}
        (directory / "found.json").write_text(json.dumps(found, indent=2))
        report.violations = [f"{text} (kept in {directory})" for text in report.violations]
    else:
        shutil.rmtree(directory, ignore_errors=True)
    return report
