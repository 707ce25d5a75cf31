"""The load, the faults, and in the end the comparison."""

import asyncio
import itertools
import random
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from statistics import quantiles
from typing import Final

from tests.fault.cluster.clients import (
    AmqpPublisher,
    Client,
    HttpPublisher,
    LetterReader,
    Publisher,
    Receiver,
    plan,
)
from tests.fault.cluster.faults import Faults, choose
from tests.fault.cluster.journal import JournalWatch
from tests.fault.cluster.ledger import Broken, Feed, Ledger
from tests.fault.crash.rest import RestCalls
from tests.support.cluster import Cluster, tail

FEEDS: Final = 10
TENANT: Final = "crash"
PREFIX: Final = "hotpath"
#: How long all may take to be as before after a round, seconds.
RECOVER_S: Final = 45.0
#: How long what was accepted may take to come in the end.
DRAIN_S: Final = 60.0
#: A node that waits longer for a processor is late whatever it does: a share of a round.
STARVED: Final = 0.25
#: Quiet between two rounds.
BETWEEN_S: Final = (0.3, 1.5)
SETTINGS: Final = {
    "cluster_prefix": PREFIX,
    "lock_seconds": 10,
    "drain_seconds": 3,
    "rate_limit": "100000/second",
    "rate_limit_burst": 100_000,
    "log_level": "info",
}
#: What a node's log must not hold.
UNHANDLED: Final = ("Traceback", "ended by a bug", "callback broke", "never retrieved")


@dataclass(slots=True)
class Report:
    """What came of it."""

    seed: int
    rounds: int = 0
    seconds: float = 0.0
    kinds: Counter[str] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)
    journal: Counter[str] = field(default_factory=Counter)
    gap_s: dict[str, float] = field(default_factory=dict)
    """How long a feed stood in a round: over all feeds and rounds."""
    gap_by_kind_s: dict[str, dict[str, float]] = field(default_factory=dict)
    answer_gap_s: dict[str, float] = field(default_factory=dict)
    """How long a publisher got nothing accepted in a round."""
    gaps: list[tuple[int, str, str, float]] = field(default_factory=list)
    """All of them: the round, its fault, the feed, seconds."""
    waited: dict[int, float] = field(default_factory=dict)
    """By round: for which share of it a node waited for a processor."""
    gap_unstarved_s: dict[str, float] = field(default_factory=dict)
    """As `gap_s`, of rounds in which no node waited for more than `STARVED` of the time."""
    worst: list[str] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)

    def as_document(self) -> dict[str, object]:
        """For a JSON file."""
        values = ((each.name, getattr(self, each.name)) for each in fields(self))
        return {
            name: dict(value) if isinstance(value, Counter) else value for name, value in values
        }


def points(values: list[float]) -> dict[str, float]:
    """Percentiles of some seconds."""
    if not values:
        return {}
    cuts = quantiles(values, n=100, method="inclusive") if len(values) > 1 else values * 99
    named = {"p50": cuts[49], "p90": cuts[89], "p99": cuts[98], "max": max(values)}
    return {name: round(value, 3) for name, value in named.items()} | {"of": len(values)}


def waited_s(pids: Sequence[int]) -> dict[int, float]:
    """For how long each process was ready to run and had no processor, since its start."""
    found = {}
    for pid in pids:
        with suppress(OSError, ValueError, IndexError):
            found[pid] = int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9
    return found


class Run:
    """Some rounds on one cluster."""

    def __init__(
        self, cluster: Cluster, *, seed: int, say: Callable[[str], None], only: str = ""
    ) -> None:
        self.report = Report(seed)
        self.ledger = Ledger()
        self._cluster = cluster
        self._rng = random.Random(seed)
        self._say = say
        self._only = only
        self._clients: list[Client] = []
        self._jobs: list[asyncio.Future[None]] = []
        self._kinds: dict[int, str] = {}
        self._journal = JournalWatch(cluster.servers.urls, prefix=PREFIX)
        self._amqp = [node.urls["amqp"] for node in cluster.nodes]
        self._http = [node.urls["http"] for node in cluster.nodes]

    async def work(self, rounds: int, *, seconds: float = float("inf")) -> Report:
        """All of it; what is broken is in the report."""
        begun = time.monotonic()
        await self._journal.start()
        try:
            await self._create()
            await self._begin()
            await self._rounds(rounds, until=begun + seconds)
            await self._end()
        except (Broken, AssertionError, TimeoutError) as broken:
            self.report.violations.append(repr(broken)[:4_000])
        finally:
            await self._leave()
            await self._journal.stop()
        self.report.seconds = round(time.monotonic() - begun, 1)
        self._conclude()
        return self.report

    def token(self) -> str:
        """A bearer token for everything."""
        return self._cluster.nodes[0].token(tenant=TENANT, minutes=1_000)

    # The load

    async def _create(self) -> None:
        """Each subscription on the next node."""
        urls = itertools.cycle(self._http)
        for feed in plan(FEEDS):
            async with RestCalls(next(urls), self.token()) as rest:
                wanted = {"subscriptionTTL": 40_000, "sasTokenTTL": 39_000, "filter": feed.filter}
                answer = await rest.call("POST", "/subscriptions/variables", wanted)
            if answer is None or answer.status != 201:
                raise Broken(f"{answer} for a new subscription")
            feed.id, feed.token = answer.body["subscriptionId"], answer.body["sasToken"]
            self.ledger.feeds[feed.name] = feed

    async def _begin(self) -> None:
        numbers = itertools.count(1)
        for feed in self.ledger.feeds.values():
            for _ in range(3 if feed.name == "shared" else 1):
                self._add(Receiver(self.ledger, self._fork(), urls=self._amqp, feed=feed))
        for at in range(2):
            self._add(self._publisher(AmqpPublisher, f"amqp-{at}", self._amqp, numbers))
            self._add(self._publisher(HttpPublisher, f"http-{at}", self._http, numbers))
        await asyncio.sleep(1.0)

    def _publisher(
        self,
        kind: type[AmqpPublisher] | type[HttpPublisher],
        name: str,
        urls: list[str],
        numbers: "itertools.count[int]",
    ) -> Publisher:
        publisher = kind(self.ledger, self._fork(), urls=urls, name=name, numbers=numbers)
        publisher.token = self.token()
        return publisher

    def _add(self, client: Client) -> None:
        self._clients.append(client)
        self._jobs.append(asyncio.ensure_future(client.work()))

    def _fork(self) -> random.Random:
        return random.Random(self._rng.random())

    # The rounds

    async def _rounds(self, rounds: int, *, until: float) -> None:
        faults = Faults(self._cluster)
        for number in range(1, rounds + 1):
            if time.monotonic() > until:
                return
            nodes, servers = len(self._cluster.nodes), len(self._cluster.servers.servers)
            fault = choose(self._rng, nodes=nodes, servers=servers, only=self._only)
            self.ledger.round = number
            self._kinds[number] = fault.kind
            begun, before = time.monotonic(), waited_s(self._pids())
            await self._while_working(faults.carry_out(fault))
            await self._while_working(self._recovered(fault.text))
            await self._while_working(asyncio.sleep(self._rng.uniform(*BETWEEN_S)))
            self.report.rounds = number
            self.report.kinds[fault.kind] += 1
            self.report.waited[number] = self._waited(before, time.monotonic() - begun)
            gaps = [gap for (at, _), gap in self.ledger.gaps.items() if at == number]
            self._say(
                f"{number:4} {fault.text}: {time.monotonic() - begun:.1f} s, longest gap "
                f"{max(gaps, default=0.0):.2f} s, {self.ledger.counts['accepted']} accepted, "
                f"waiting for a processor {100 * self.report.waited[number]:.0f} %"
            )

    def _pids(self) -> list[int]:
        """The nodes that run."""
        return [n.process.pid for n in self._cluster.nodes if n.is_up and n.process is not None]

    def _waited(self, before: dict[int, float], took: float) -> float:
        """The share of a round for which a node was ready to run and did not; the largest one."""
        now = waited_s(self._pids())
        return max(((at - before.get(pid, 0.0)) / took for pid, at in now.items()), default=0.0)

    async def _while_working(self, work: Coroutine[None, None, None]) -> None:
        """Until it is done; whoever breaks meanwhile ends it. Raises Broken."""
        task = asyncio.ensure_future(work)
        try:
            await asyncio.wait([task, *self._jobs], return_when=asyncio.FIRST_COMPLETED)
            for job in self._jobs:
                if job.done():
                    job.result()
            await task
        finally:
            task.cancel()

    async def _recovered(self, after: str) -> None:
        """All servers healthy, all nodes ready, and every feed gets something again."""
        deadline = time.monotonic() + RECOVER_S
        came = {name: feed.last_came for name, feed in self.ledger.feeds.items()}
        while True:
            missing = [
                server.name
                for server in self._cluster.servers.servers
                if not await asyncio.to_thread(server.is_healthy)
            ]
            missing += [str(url) for url in self._http if not await self._is_ready(url)]
            missing += [n for n, at in came.items() if self.ledger.feeds[n].last_came == at]
            if not missing:
                return
            if time.monotonic() > deadline:
                raise Broken(f"not as before {RECOVER_S:.0f} s after {after}: {missing}")
            await asyncio.sleep(0.2)

    async def _is_ready(self, url: str) -> bool:
        async with RestCalls(url, self.token()) as rest:
            try:
                async with asyncio.timeout(3):
                    answer = await rest.call("GET", "/readyz")
            except TimeoutError:
                return False
        return answer is not None and answer.status == 200

    # The end

    async def _end(self) -> None:
        for client in self._clients:
            client.over = client.over or isinstance(client, Publisher)
        deadline = time.monotonic() + DRAIN_S
        while self.ledger.missing() and time.monotonic() < deadline:
            await self._while_working(asyncio.sleep(0.5))
        await self._while_working(asyncio.sleep(1.0))
        await self._leave()
        dead = {}
        told = await self._told_alike()
        for name, feed in self.ledger.feeds.items():
            dead[name] = await self._letters(feed, told[feed.id]["deadLettered"])
        self.ledger.check(dead)
        backlogs = {name: told[f.id]["backlog"] for name, f in self.ledger.feeds.items()}
        if any(backlogs.values()):
            raise Broken(f"everything was settled, and yet there are backlogs: {backlogs}")

    async def _letters(self, feed: Feed, expected: int) -> set[int]:
        if not expected:
            return set()
        reader = LetterReader(self.ledger, urls=self._amqp, feed=feed, expected=expected)
        async with asyncio.timeout(60):
            await reader.work()
        return reader.seqs

    async def _told_alike(self) -> dict[str, dict[str, int]]:
        """The figures of all subscriptions, which must be the same on every node."""
        chosen = ("backlog", "deadLettered", "filter", "createdAt")
        deadline = time.monotonic() + 20
        while True:
            told = []
            for url in self._http:
                async with RestCalls(url, self.token()) as rest:
                    listed = await rest.listed() or {}
                told.append({i: {n: e[n] for n in chosen} for i, e in listed.items()})
            alike = all(each == told[0] for each in told)
            empty = not any(entry["backlog"] for entry in told[0].values())
            if alike and empty and len(told[0]) == len(self.ledger.feeds):
                return told[0]
            if time.monotonic() > deadline:
                if not alike:
                    raise Broken(f"the nodes do not tell the same: {told}")
                return told[0]
            await asyncio.sleep(0.3)

    async def _leave(self) -> None:
        """Everybody goes."""
        for client in self._clients:
            client.over = True
        if self._jobs:
            await asyncio.wait(self._jobs, timeout=8)
        for job in self._jobs:
            job.cancel()
        outcomes = await asyncio.gather(*self._jobs, return_exceptions=True)
        self._jobs.clear()
        for outcome in outcomes:
            if isinstance(outcome, Broken):
                self.report.violations.append(repr(outcome))

    def _conclude(self) -> None:
        report, ledger = self.report, self.ledger
        self._journal.check()
        report.counts, report.journal = ledger.counts, self._journal.counts
        report.violations += self._journal.violations[:20]
        report.gap_s = points(list(ledger.gaps.values()))
        report.answer_gap_s = points(list(ledger.answer_gaps.values()))
        for kind in sorted(set(self._kinds.values())):
            found = [gap for (at, _), gap in ledger.gaps.items() if self._kinds.get(at) == kind]
            report.gap_by_kind_s[kind] = points(found)
        report.gaps = [
            (at, self._kinds.get(at, "before"), name, round(gap, 3))
            for (at, name), gap in ledger.gaps.items()
        ]
        report.gap_unstarved_s = points(
            [gap for at, _, _, gap in report.gaps if report.waited.get(at, 0.0) <= STARVED]
        )
        longest = sorted(ledger.gaps.items(), key=lambda item: -item[1])[:5]
        report.worst = [
            f"round {at} ({self._kinds.get(at, 'before')}), {name}: {gap:.2f} s, waiting for a "
            f"processor {100 * report.waited.get(at, 0.0):.0f} %"
            for (at, name), gap in longest
        ]
        for node in self._cluster.nodes:
            text = tail(node.stderr, 20_000_000)
            found = [line for line in text.splitlines() if any(m in line for m in UNHANDLED)]
            report.violations += [f"log of node-{node.number}: {line[:300]}" for line in found[:5]]
