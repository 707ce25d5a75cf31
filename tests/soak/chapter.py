"""One tenant's life: everybody at work, faults meanwhile, then quiet, drained and compared."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Final, Protocol

from hotpath.client.rest import RestClient
from tests.fault.crash.actors import Actor, Numbers
from tests.fault.crash.comparing import ACCEPT_ONLY, Comparison
from tests.fault.crash.control import LONG_TTL, PLANS, Control, Plan
from tests.fault.crash.ledger import Feed, Ledger, Mode, Outcome, Violation
from tests.fault.crash.publishers import AmqpPublisher, HttpPublisher
from tests.fault.crash.receivers import (
    LETTER_WEIGHTS,
    RANDOM_WEIGHTS,
    FencedReceiver,
    Receiver,
    RestlessReceiver,
)
from tests.fault.crash.rest import RestCalls
from tests.soak.actors import (
    BusReceiver,
    BusSender,
    LeavingReceiver,
    RenewingReader,
    SilentReceiver,
    SlowReceiver,
    make_noise,
)
from tests.soak.service import Service

#: How much later than it should a kill may have a subscription reaped, seconds.
LATE_S: Final = 60.0
#: Mean time between two cut connections, seconds.
CUT_EVERY_S: Final = 0.7
STEP_S: Final = 0.1
#: How long the disk is full.
FULL_S: Final = 2.0
READY_S: Final = 20.0

#: Life of the tokens that are renewed all the time, API minutes: five seconds.
SHORT_TOKEN: Final = 50.0
OWN_PLANS: Final = (
    Plan("slow", "variables", "quality = 6", lambda f: f["quality"] == 6, Mode.SECOND),
    Plan("silent", "variables", "quality = 4", lambda f: f["quality"] == 4, Mode.SECOND),
    Plan("left", "variables", "quality = 3", lambda f: f["quality"] == 3, Mode.SECOND),
    Plan(
        "renewed",
        "variables",
        "quality = 2",
        lambda f: f["quality"] == 2,
        Mode.SECOND,
        receivers=2,
        token_minutes=SHORT_TOKEN,
    ),
    Plan(
        "bus",
        "variables",
        "quality IN [0, 1]",
        lambda f: f["quality"] in (0, 1),
        Mode.SECOND,
        receivers=2,
    ),
)
TOPICS: Final = ["variables", "variables", "events"]


@dataclass(frozen=True, slots=True)
class Faults:
    """What happens to the service in one chapter, at shares of its time."""

    kills: tuple[float, ...] = ()
    full_disk: float | None = None


class Stoppable(Protocol):
    """Somebody who looks at this now and then."""

    over: bool


class Chapter:
    """See the module; `work` once."""

    def __init__(
        self, service: Service, rng: random.Random, *, name: str, seconds: float, faults: Faults
    ) -> None:
        self.ledger = Ledger()
        self._service = service
        self._rng = rng
        self._name = name
        self._seconds = seconds
        self._faults = faults
        self._control = Control(self.ledger, rng, late_s=LATE_S)
        self._numbers = Numbers()
        self._actors: list[Actor] = []
        self._others: list[Stoppable] = []
        self._over = False
        self._made = 0

    @property
    def counts(self) -> Counter[str]:
        """What happened."""
        return self.ledger.counts

    async def work(self, on_step: Callable[[], None]) -> None:
        """All of it; `on_step` is called ten times a second. Raises Violation, TimeoutError."""
        self._control.run_begins()
        self._control.run_ready()
        async with RestCalls(self._service.urls["http"], self._token()) as rest:
            for plan in (*PLANS, *OWN_PLANS):
                if await self._control.create(rest, plan) is None:
                    raise Violation("the service is gone")
            jobs = [asyncio.ensure_future(job) for job in self._jobs(rest)]
            try:
                await self._load(jobs, on_step)
            finally:
                await self._end(jobs)
            await self._compare(rest)

    def _token(self) -> str:
        return self._service.token(tenant=self._name, minutes=300)

    def _fork(self) -> random.Random:
        return random.Random(self._rng.random())

    # Everybody at work

    def _jobs(self, rest: RestCalls) -> list[Coroutine[None, None, None]]:
        feeds = {feed.name: feed for feed in self.ledger.feeds}
        jobs = [self._control.work(rest)]
        works: list[Callable[[], Coroutine[None, None, None]]] = [
            self._publish,
            self._publish,
            lambda: self._http_publish(rest),
            lambda: self._read(FencedReceiver(*self._whose(), feed=feeds["all"], numbers=self._numbers)),
            lambda: self._read(self._plain(feeds["events"])),
            lambda: self._read(self._plain(feeds["delete"])),
            lambda: self._read(Receiver(*self._whose(), feed=feeds["random"], weights=RANDOM_WEIGHTS)),
            lambda: self._read(self._undertaker(feeds["random"])),
            *[lambda: self._read(self._restless(feeds["competing"]))] * 3,
            lambda: self._read(SlowReceiver(*self._whose(), feed=feeds["slow"])),
            lambda: self._read(SilentReceiver(*self._whose(), feed=feeds["silent"])),
            lambda: self._read(LeavingReceiver(*self._whose(), feed=feeds["left"])),
            lambda: self._read_renewed(feeds["renewed"]),
            lambda: self._read_by_sdk(feeds["bus"]),
            lambda: self._send_by_sdk(rest),
            self._noise,
        ]  # fmt: skip
        return jobs + [self._again(work) for work in works]

    def _whose(self) -> tuple[Ledger, random.Random]:
        return self.ledger, self._fork()

    def _plain(self, feed: Feed) -> Receiver:
        return Receiver(*self._whose(), feed=feed, weights=ACCEPT_ONLY)

    def _undertaker(self, feed: Feed) -> Receiver:
        letters = feed.open_letters()
        return Receiver(*self._whose(), feed=letters, weights=LETTER_WEIGHTS)

    def _restless(self, feed: Feed) -> Receiver:
        weights = {Outcome.ACCEPT: 8, Outcome.RELEASE: 1}
        return RestlessReceiver(*self._whose(), feed=feed, weights=weights)

    async def _again(self, work: Callable[[], Coroutine[None, None, None]]) -> None:
        """Whoever was cut comes back. Raises Violation."""
        while not self._over:
            try:
                await work()
            except OSError:
                self.counts["could not connect"] += 1
            await asyncio.sleep(self._rng.random() * 0.1)

    async def _read(self, receiver: Receiver) -> None:
        # A lock would end under it; whose locks end is the ledger's business.
        receiver.held_share = 0.0
        await self._act(receiver, receiver.work(self._service.urls["amqp"], receiver.feed.token))

    async def _publish(self) -> None:
        # Under a new name each time: two connections of one publisher have no order.
        self._made += 1
        publisher = AmqpPublisher(
            *self._whose(), name=f"amqp-{self._made}", numbers=self._numbers, topics=TOPICS
        )
        await self._act(publisher, publisher.work(self._service.urls["amqp"], self._token()))

    async def _act(self, actor: Actor, work: Coroutine[None, None, None]) -> None:
        self._actors.append(actor)
        try:
            await work
        finally:
            self._actors.remove(actor)
            _leave(actor)
        if actor.violation is not None:
            raise actor.violation

    async def _http_publish(self, rest: RestCalls) -> None:
        self._made += 1
        name = f"http-{self._made}"
        await HttpPublisher(*self._whose(), name=name, numbers=self._numbers, topics=TOPICS).work(
            rest
        )

    async def _read_renewed(self, feed: Feed) -> None:
        async with RestClient(self._service.urls["http"], self._token) as rest:
            await RenewingReader(self.ledger, feed).work(rest, self._service.urls["amqp"])

    async def _read_by_sdk(self, feed: Feed) -> None:
        receiver = BusReceiver(*self._whose(), feed=feed)
        await self._until_over(receiver, receiver.work(self._service.urls["amqp"]))

    async def _send_by_sdk(self, rest: RestCalls) -> None:
        answer = await rest.call("POST", "/publishers/variables", {"sasTokenTTL": LONG_TTL})
        if answer is None or answer.status != 201:
            return
        self._made += 1
        sender = BusSender(*self._whose(), name=f"bus-{self._made}", numbers=self._numbers)
        work = sender.work(self._service.urls["amqp"], answer.body["sasToken"])
        await self._until_over(sender, work)
        path = f"/publishers/variables/{answer.body['publisherId']}"
        await rest.call("DELETE", path)

    async def _until_over(self, who: Stoppable, work: Coroutine[None, None, None]) -> None:
        self._others.append(who)
        try:
            await work
        finally:
            self._others.remove(who)

    async def _noise(self) -> None:
        host, _, port = self._service.urls["amqp"].partition("//")[2].partition(":")
        await make_noise(self._rng, host, int(port))
        self.counts["noise"] += 1

    # Faults

    async def _load(self, jobs: list[asyncio.Future[None]], on_step: Callable[[], None]) -> None:
        begun = time.monotonic()
        kills = [share * self._seconds for share in self._faults.kills]
        full = self._faults.full_disk
        # By the clock: on a busy machine there are few steps, and there is to be one cut at least.
        cut_s = self._rng.random() * min(CUT_EVERY_S, self._seconds / 2)
        while (passed := time.monotonic() - begun) < self._seconds:
            await asyncio.sleep(STEP_S)
            on_step()
            for job in jobs:
                if job.done() and (error := job.exception()) is not None:
                    raise error
            if passed >= cut_s and self._cut():
                cut_s = passed + self._rng.expovariate(1 / CUT_EVERY_S)
            if kills and passed >= kills[0]:
                kills.pop(0)
                await self._kill()
            if full is not None and passed >= full * self._seconds:
                full = None
                await self._fill_disk()

    def _cut(self) -> bool:
        """Cut one of the connections that there are; whether there was one."""
        there = [actor for actor in self._actors if actor.client is not None]
        if there:
            self._rng.choice(there).client.abort()
            self.counts["connections cut"] += 1
        return bool(there)

    async def _kill(self) -> None:
        await self._service.restart()
        # Afterwards: what was made up to the kill may be answered for only now.
        self._control.run_ended()
        self._control.run_begins()
        self._control.run_ready()
        self.counts["kills"] += 1

    async def _fill_disk(self) -> None:
        """Publishers are refused and come again; what was accepted stays."""
        before = self.counts["accepted"]
        self.ledger.stopping = True
        self._service.fill_disk()
        await asyncio.sleep(FULL_S)
        self._service.free_disk()
        deadline = time.monotonic() + READY_S
        while (await asyncio.to_thread(self._service.call, "GET", "/readyz")).status != 200:
            if time.monotonic() > deadline:
                raise Violation("not ready again after a full disk")
            await asyncio.sleep(0.1)
        # What was refused before may still be on its way.
        await asyncio.sleep(1)
        self.ledger.stopping = False
        self.counts["accepted around a full disk"] += self.counts["accepted"] - before
        self.counts["full disks"] += 1

    # The end

    async def _end(self, jobs: list[asyncio.Future[None]]) -> None:
        """Everybody goes; what is under way stays in doubt."""
        self._over = self._control.over = True
        for other in self._others:
            other.over = True
        for actor in list(self._actors):
            _leave(actor)
        await asyncio.wait(jobs, timeout=3)
        for job in jobs:
            job.cancel()
        for outcome in await asyncio.gather(*jobs, return_exceptions=True):
            if isinstance(outcome, Exception):
                raise outcome

    async def _compare(self, rest: RestCalls) -> None:
        for feed in self.ledger.feeds:
            if feed.name == "renewed":
                await self._control.renew(rest, feed, minutes=LONG_TTL - 1)
        comparison = Comparison(self.ledger, self._control, self._rng, numbers=self._numbers)
        await comparison.compare(self._service.urls["amqp"], rest)
        for feed in self.ledger.feeds:
            if not feed.deleted:
                await self._control.delete(rest, feed)


def _leave(actor: Actor) -> None:
    """What an actor holds is in doubt, and its connection is cut."""
    if isinstance(actor, Receiver):
        actor.forget()
    if actor.client is not None:
        actor.client.abort()
