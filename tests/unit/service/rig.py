"""The service between the edges and a memory log, and a reader that does what an edge does."""

from hotpath.assembly import Core
from hotpath.auth.rights import Principal
from hotpath.config import Settings
from hotpath.core.feed import Taken
from hotpath.core.subscription import Subscription
from hotpath.model.names import TenantId, Topic, TopicKey
from hotpath.service.admin import NewSubscription
from hotpath.service.deliver import Receiver
from hotpath.storage.memory import MemoryStore
from hotpath.storage.segments import SegmentLimits
from hotpath.wire.jsonbody import encode_json
from qel import compile_filter
from tests.support.clock import ManualClock, settle
from tests.support.fake_log import FaultyLog

TENANT = TenantId("acme")
KEY = TopicKey(TENANT, Topic.VARIABLES)
PRINCIPAL = Principal(TENANT, "tester", frozenset({"hotpath.subscribe"}))
EVERYTHING = "value >= 0"


def message(value: float, **others: object) -> bytes:
    """A stored message that filters can look at."""
    return encode_json(b"{}", {"value": value, **others})


class Rig:
    """A service that a test starts, kills and starts again on the same log and store."""

    def __init__(self, **options: object) -> None:
        self.limits = SegmentLimits(bytes_max=options.pop("segment_bytes", 65_536))
        self.settings = Settings(**{"retention_hours": 1.0, **options})
        self.clock = ManualClock()
        self.log = FaultyLog(self.limits)
        self.store = MemoryStore()
        self.core = Core(self.settings, log=self.log, store=self.store, clock=self.clock)

    async def start(self) -> "Rig":
        await self.core.open()
        await settle()
        return self

    async def crash(self) -> None:
        """Kill the service: what is not durable is gone. Then start it again."""
        await self.abandon()
        self.log.crash()
        self.core = Core(self.settings, log=self.log, store=self.store, clock=self.clock)
        await self.start()

    async def abandon(self) -> None:
        """Stop the tasks of a service that was killed, and take the log away from it."""
        core, nowhere = self.core, FaultyLog()
        core._recounting.cancel()
        core.upkeep._timer.cancel()
        core.scheduling.close()
        core.committer._log = core.topics.log = core.delivering._log = nowhere
        self.log.crash()
        await core.delivering.close()
        if core.committer._running is not None:
            core.committer._running.cancel()
        await settle()
        for timer in (core.settling._timer, core.committer._retry_timer):
            if timer is not None:
                timer.cancel()

    async def stop(self) -> None:
        self.log.resume_reads()
        await self.core.close()

    async def create(
        self,
        text: str = EVERYTHING,
        *,
        start_from_ms: int | None = None,
        topic: Topic = Topic.VARIABLES,
        ttl_minutes: float = 60,
        principal: Principal = PRINCIPAL,
    ) -> Subscription:
        wanted = NewSubscription(
            topic=topic,
            filter=compile_filter(text, topic.value),
            filter_text=text,
            ttl_minutes=ttl_minutes,
            sas_ttl_minutes=5,
            start_from_ms=start_from_ms,
        )
        spec = await self.core.admin.create(principal, wanted)
        return self.core.topics.subscriptions[spec.id]

    def again(self, subscription: Subscription) -> Subscription:
        """The same subscription after a restart."""
        return self.core.topics.subscriptions[subscription.spec.id]

    async def publish(self, *values: float, key: TopicKey = KEY, **others: object) -> None:
        await self.core.publishing.publish(
            key, [message(value, **others) for value in values], via="test"
        )

    def read(self, subscription: Subscription, **options: object) -> "Reader":
        return Reader(self.core, subscription, **options)

    def figures(self, subscription: Subscription):
        return self.core.admin.figures(subscription.spec)


class Reader:
    """An edge's link: pulls when it was woken, with the credit it has."""

    def __init__(
        self,
        core: Core,
        subscription: Subscription,
        *,
        dead: bool = False,
        lock: bool = True,
        credit: int = 1_000,
    ) -> None:
        self.core = core
        self.subscription = subscription
        self.credit = credit
        self.woken = 0
        self.closed = 0
        self.given: list[Taken] = []
        self.receiver: Receiver = core.delivering.attach(
            subscription, dead=dead, lock=lock, wake=self._wake, closed=self._close
        )

    def _wake(self) -> None:
        self.woken += 1

    def _close(self) -> None:
        self.closed += 1

    def pull(self, limit: int | None = None) -> list[int]:
        """Take what is there now; the sequence numbers."""
        taken = self.core.delivering.pull(self.receiver, self.credit if limit is None else limit)
        self.given += taken
        return [seq for part in taken for seq in part.seqs]

    async def read_all(self, *, rounds: int = 50) -> list[int]:
        """Pull until nothing comes any more, as often as something wakes the reader."""
        seqs = self.pull()
        for _ in range(rounds):
            before = self.woken
            await settle(30)
            if self.woken == before:
                break
            seqs += self.pull()
        return seqs

    def held(self, seq: int) -> tuple[int, int]:
        """A message and the serial of the last lock it was given under."""
        for part in reversed(self.given):
            if seq in part.seqs:
                return seq, part.serial
        raise AssertionError(f"{seq} was never given")

    def count(self, seq: int) -> int:
        """The earlier failed deliveries that its last delivery told."""
        for part in reversed(self.given):
            if seq in part.seqs:
                return part.counts[list(part.seqs).index(seq)] if part.counts else 0
        raise AssertionError(f"{seq} was never given")

    def payload(self, seq: int) -> bytes:
        for part in reversed(self.given):
            if seq in part.seqs:
                return part.batch.payloads[seq - part.batch.first_seq]
        raise AssertionError(f"{seq} was never given")

    def complete(self, *seqs: int) -> list[int]:
        settling, feed = self.core.settling, self.receiver.feed
        return settling.complete(self.subscription, feed, [self.held(seq) for seq in seqs])

    def abandon(self, seq: int, *, failed: bool = True) -> bool:
        settling, feed = self.core.settling, self.receiver.feed
        return settling.abandon(self.subscription, feed, *self.held(seq), failed=failed)

    def defer(self, seq: int) -> bool:
        return self.core.settling.defer(self.subscription, self.receiver.feed, *self.held(seq))

    def dead_letter(self, seq: int, **options: object) -> bool:
        return self.core.settling.dead_letter(
            self.subscription,
            self.receiver.feed,
            self.held(seq),
            **{"reason": "bad", **options},
        )

    def renew(self, seq: int) -> int | None:
        return self.core.settling.renew(self.receiver.feed, *self.held(seq))

    def detach(self) -> None:
        self.core.delivering.detach(self.receiver)
