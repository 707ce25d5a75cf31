"""The service with its AMQP edge in this process, in memory, with time in the test's hands."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import qel
from hotpath.amqp.listener import AmqpEdge
from hotpath.assembly import Core
from hotpath.auth.jwt import TokenRules, TokenVerifier, make_verifier, mint
from hotpath.auth.keys import DevelopmentKey, load_development_key
from hotpath.auth.rights import Principal
from hotpath.auth.sas import SigningKey, issue
from hotpath.config import Endpoint, Settings
from hotpath.core.subscription import Subscription
from hotpath.edges import amqp_edge
from hotpath.model.names import PublisherId, TenantId, Topic, TopicKey, publisher_path
from hotpath.model.subscription import PublisherSpec
from hotpath.ports import Clock
from hotpath.service.access import Access
from hotpath.service.admin import NewSubscription
from hotpath.service.clock import SystemClock
from hotpath.storage.memory import MemoryLog, MemoryStore
from hotpath.wire.jsonbody import encode_json
from hotpath.wire.message import normalise
from tests.support.clock import ManualClock

SCOPES = ("hotpath.subscribe", "hotpath.publish")


@dataclass(slots=True)
class Broker:
    """A running service, and what tests need of its insides."""

    settings: Settings
    clock: Clock
    log: MemoryLog
    core: Core
    access: Access
    edge: AmqpEdge
    verifier: TokenVerifier
    key: DevelopmentKey
    ports: list[int] = field(default_factory=list)

    @property
    def manual(self) -> ManualClock:
        """The clock, to be advanced."""
        assert isinstance(self.clock, ManualClock)
        return self.clock

    async def listen(self, tls: ssl.SSLContext | None = None) -> int:
        """Open a listener on the loopback; its port."""
        port = await self.edge.start(Endpoint("127.0.0.1:0"), tls)
        self.ports.append(port)
        return port

    async def subscribe(
        self,
        filter_text: str = "",
        *,
        topic: Topic = Topic.VARIABLES,
        tenant: str = "acme",
        condition: str | None = None,
        **options,
    ) -> Subscription:
        """Create a subscription."""
        principal = Principal(TenantId(tenant), "tester", frozenset(SCOPES), condition)
        wanted = NewSubscription(
            topic=topic,
            filter=qel.compile_filter(filter_text or MATCH_ALL, topic.value),
            filter_text=filter_text or MATCH_ALL,
            ttl_minutes=60,
            sas_ttl_minutes=60,
            **options,
        )
        spec = await self.core.admin.create(principal, wanted)
        found = self.core.admin.find(topic, spec.id)
        assert found is not None
        return found

    async def delete(self, subscription: Subscription) -> None:
        """End a subscription."""
        spec = subscription.spec
        principal = Principal(spec.tenant, "tester", frozenset(SCOPES))
        await self.core.admin.delete(principal, spec.topic, spec.id)

    async def open_publisher(
        self, topic: Topic = Topic.VARIABLES, *, tenant: str = "acme"
    ) -> PublisherSpec:
        """Create a right to publish."""
        principal = Principal(TenantId(tenant), "tester", frozenset(SCOPES))
        return await self.core.publishers.open(principal, topic, ttl_minutes=60)

    def sas(self, path: str, *, seconds: float = 3600, key: SigningKey | None = None) -> str:
        """A token of the service's own key for a resource path."""
        expires_s = int(self.clock.now_ms() / 1000 + seconds)
        return issue(
            key or self.core.ring.current, f"amqp://feeds.example.com/{path}", expires_s=expires_s
        )

    def publisher_sas(self, publisher: PublisherSpec, *, seconds: float = 3600) -> str:
        """The token of a publisher."""
        return self.sas(publisher_path(publisher.topic, PublisherId(publisher.id)), seconds=seconds)

    def jwt(self, *, tenant: str = "acme", scopes: Iterable[str] = SCOPES, minutes=60.0, **claims):
        """A development JWT."""
        return mint(
            self.key,
            TokenRules.of(self.settings),
            tenant=tenant,
            scopes=scopes,
            subject="tester",
            now_ms=self.clock.now_ms(),
            minutes=minutes,
            **claims,
        )

    async def publish(
        self, *values: object, topic: Topic = Topic.VARIABLES, tenant: str = "acme"
    ) -> None:
        """Publish values as JSON messages past the edge."""
        payloads = [
            normalise(encode_json(json.dumps({"value": v}).encode(), {"value": v})) for v in values
        ]
        await self.core.publishing.publish(TopicKey(TenantId(tenant), topic), payloads, via="test")


#: A filter that lets everything through that has a value.
MATCH_ALL = "value = 0 OR value != 0"


@asynccontextmanager
async def running_broker(
    data_dir: Path, *, clock: Clock | None = None, log: MemoryLog | None = None, **options: object
) -> AsyncIterator[Broker]:
    """Compose the service; listeners are opened by the test."""
    settings = Settings(data_dir=data_dir, **options)
    clock = clock or ManualClock()
    log = log or MemoryLog()
    core = Core(settings, log=log, store=MemoryStore(), clock=clock)
    await core.open()
    verifier = make_verifier(settings, now_ms=clock.now_ms, ticks_ms=clock.ticks_ms)
    access = core.access(verifier)
    edge = amqp_edge(core, access)
    broker = Broker(
        settings=settings,
        clock=clock,
        log=log,
        core=core,
        access=access,
        edge=edge,
        verifier=verifier,
        key=load_development_key(data_dir),
    )
    try:
        yield broker
    finally:
        log.resume()
        await edge.stop(0)
        await verifier.close()
        await core.close()
        await asyncio.sleep(0)


__all__ = ["MATCH_ALL", "Broker", "ManualClock", "SystemClock", "running_broker"]
