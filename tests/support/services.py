"""The whole service without AMQP, in this process, with time in the test's hands."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from hotpath.assembly import Core
from hotpath.auth.jwt import TokenRules, TokenVerifier, make_verifier, mint
from hotpath.auth.keys import DevelopmentKey, load_development_key
from hotpath.config import Endpoint, Settings
from hotpath.edges import rest_services
from hotpath.rest.calls import Route
from hotpath.rest.server import RestEdge
from hotpath.service.control import SubscriptionControl
from hotpath.storage.memory import MemoryLog, MemoryStore
from tests.support.clock import ManualClock

ALL_SCOPES = "hotpath.subscribe hotpath.publish hotpath.admin"


@dataclass(slots=True)
class TestService:
    """A running service, and what tests need of its insides."""

    __test__ = False

    settings: Settings
    clock: ManualClock
    log: MemoryLog
    store: MemoryStore
    core: Core
    edge: RestEdge
    verifier: TokenVerifier
    key: DevelopmentKey
    session: aiohttp.ClientSession
    url: str
    unready: list[str] = field(default_factory=list)

    def token(
        self,
        scope: str = ALL_SCOPES,
        *,
        tenant: str = "acme",
        sub: str = "tester",
        minutes: float = 60,
        condition: str | None = None,
        partitions: tuple[str, ...] = (),
    ) -> str:
        """A development JWT."""
        return mint(
            self.key,
            TokenRules.of(self.settings),
            tenant=tenant,
            scopes=scope.split(),
            subject=sub,
            now_ms=self.clock.now_ms(),
            minutes=minutes,
            condition=condition,
            partitions=partitions,
        )

    def bearer(self, scope: str = ALL_SCOPES, **claims) -> dict[str, str]:
        """Headers of an authorised call."""
        return {"Authorization": f"Bearer {self.token(scope, **claims)}"}

    async def call(self, method: str, path: str, *, token: str | None = None, **options):
        """Make a call; (status, parsed body or None, headers)."""
        headers = {"Authorization": f"Bearer {token or self.token()}"}
        headers.update(options.pop("headers", {}))
        async with self.session.request(
            method, self.url + path, headers=headers, **options
        ) as response:
            body = await response.json() if await response.read() else None
            return response.status, body, response.headers


async def eventually(check: Callable[[], object], *, turns: int = 2_000) -> None:
    """Wait until something that goes over a socket has come true."""
    for _ in range(turns):
        if check():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("it has not come true")


@asynccontextmanager
async def running_service(
    data_dir: Path, *, routes: Callable[[Core], list[Route]] | None = None, **options: object
) -> AsyncIterator[TestService]:
    """Start a service on a free port of the loopback, and stop it."""
    settings = Settings(data_dir=data_dir, http="127.0.0.1:0", **options)
    core = Core(settings, log=MemoryLog(), store=MemoryStore(), clock=ManualClock())
    await core.open()
    async with serving_rest(core, routes=routes) as service:
        yield service
    await core.close()


@asynccontextmanager
async def serving_rest(
    core: Core,
    *,
    routes: Callable[[Core], list[Route]] | None = None,
    control: SubscriptionControl | None = None,
) -> AsyncIterator[TestService]:
    """The REST edge of a core that is open, on a free port of the loopback."""
    settings, clock, log, store = core.settings, core.clock, core.log, core.store
    assert isinstance(clock, ManualClock)
    assert isinstance(log, MemoryLog)
    assert isinstance(store, MemoryStore)
    unready: list[str] = []
    verifier = make_verifier(settings, now_ms=clock.now_ms, ticks_ms=clock.ticks_ms)
    edge = RestEdge(
        rest_services(
            core,
            verifier,
            connection_url=lambda path: f"amqp://feeds.example.com:5672/{path}",
            readiness=lambda: unready,
            control=control,
        ),
        routes=routes(core) if routes else (),
    )
    port = await edge.start(Endpoint("127.0.0.1:0"))
    async with aiohttp.ClientSession() as session:
        yield TestService(
            settings=settings,
            clock=clock,
            log=log,
            store=store,
            core=core,
            edge=edge,
            verifier=verifier,
            key=load_development_key(settings.data_dir),
            session=session,
            url=f"http://127.0.0.1:{port}",
            unready=unready,
        )
    await edge.stop()
    await verifier.close()
