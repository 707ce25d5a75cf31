"""The key ring's life: keys are made, retired and removed while the service runs.

    added ── retire ──> retired ── remove ──> gone

An added key counts at once; the newest of the service's own signs what is issued from then on,
and tokens of the older ones stay valid. A retired key counts no longer: its tokens are refused,
links that stand on them are ended. Each step is durable before it takes effect.
"""

import asyncio
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from hotpath.auth.sas import KeyRing, SigningKey
from hotpath.model.errors import Invalid, LimitReached, NotFound, Unavailable, Violation
from hotpath.model.names import TenantId
from hotpath.ports import Clock, LogFailure, RecordStore
from hotpath.service import records
from hotpath.telemetry import get_logger

#: Name of the key that signs feed tokens until another one is made.
FIRST_KEY: Final = "hotpath"
#: What a tenant may be called: no control characters.
_TENANT: Final = re.compile(r"(?=.*\S)[^\x00-\x1f\x7f-\x9f\ud800-\udfff]{1,128}")

_log = get_logger("hotpath.keys")


@dataclass(frozen=True, slots=True)
class KeptKey:
    """A key, and when it was retired (wall clock); None while it counts."""

    key: SigningKey
    retired_ms: int | None = None


class KeyRotation:
    """All signing keys there are, in the order of their making; those that count are the ring's.

    Attributes:
        on_retired: Called after a key has been retired, in the event loop.
    """

    def __init__(self, store: RecordStore, ring: KeyRing, clock: Clock, *, keys_max: int) -> None:
        self.on_retired: Callable[[], None] = lambda: None
        self._store = store
        self._ring = ring
        self._clock = clock
        self._keys_max = keys_max
        self._kept: dict[str, KeptKey] = {}
        self._turn = asyncio.Lock()

    async def open(self) -> None:
        """Bring back all keys; the first one is made when none can sign. Raises LogFailure."""
        await self._load()
        if not self._own():
            name = FIRST_KEY if FIRST_KEY not in self._kept else _new_name()
            await self._keep(KeptKey(new_key(name, None, self._clock.now_ms())))

    async def _load(self) -> None:
        for record in await self._store.load(records.KEYS):
            kept = self._read(record)
            if kept is not None:
                self._kept[kept.key.name] = kept
        self._fill_ring()

    @staticmethod
    def _read(record: records.Record) -> KeptKey | None:
        """A key from its record; None when it cannot be read."""
        try:
            return KeptKey(records.read_key(record), records.read_retired_ms(record))
        except (KeyError, TypeError, ValueError):
            # The record holds a secret: its name is all that may be told.
            _log.error("key unreadable", extra={"key_name": record.get("id")})
            return None

    def all(self) -> list[KeptKey]:
        """Every key, oldest first."""
        return list(self._kept.values())

    def signs(self, kept: KeptKey) -> bool:
        """Whether tokens are signed with this key now."""
        return kept.key == self._ring.current

    async def add(self, name: str | None, tenant: str | None) -> KeptKey:
        """Make a key, for the service itself or for a tenant.

        Raises:
            Invalid: the name or tenant is none, or the name is taken.
            LimitReached: there are as many keys as are allowed.
            Unavailable: the store cannot be written.
        """
        if tenant is not None and not _TENANT.fullmatch(tenant):
            raise Invalid([Violation("tenant must be 1 to 128 printable characters", "/tenant")])
        async with self._turn:
            if len(self._kept) >= self._keys_max:
                raise LimitReached(f"there are {self._keys_max} keys, as many as are allowed")
            name = _new_name() if name is None else name
            if name in self._kept:
                raise Invalid([Violation(f"there is a key named {name} already", "/name")])
            owner = None if tenant is None else TenantId(tenant)
            try:
                key = new_key(name, owner, self._next_ms())
            except ValueError as error:
                raise Invalid([Violation(str(error), "/name")]) from None
            return await self._change(KeptKey(key))

    async def retire(self, name: str) -> KeptKey:
        """Let a key count no longer; again does nothing.

        Raises:
            NotFound: there is no such key.
            Invalid: nothing would be left to sign with.
            Unavailable: the store cannot be written.
        """
        async with self._turn:
            kept = self._find(name)
            if kept.retired_ms is not None:
                return kept
            if self._own() == [kept.key]:
                raise Invalid([Violation(f"{name} is the only key that signs: add another first")])
            kept = await self._change(replace(kept, retired_ms=self._clock.now_ms()))
        self.on_retired()
        return kept

    async def remove(self, name: str) -> None:
        """Forget a retired key and its secret; its name is free again.

        Raises:
            NotFound: there is no such key.
            Invalid: it has not been retired.
            Unavailable: the store cannot be written.
        """
        async with self._turn:
            if self._find(name).retired_ms is None:
                raise Invalid([Violation(f"{name} is in use: retire it first")])
            try:
                await self._store.delete(records.KEYS, [name])
            except LogFailure as failure:
                raise Unavailable("the store cannot be written now; try again") from failure
            self._kept.pop(name, None)

    def _find(self, name: str) -> KeptKey:
        kept = self._kept.get(name)
        if kept is None:
            raise NotFound("there is no such key")
        return kept

    def _own(self) -> list[SigningKey]:
        """The service's own keys that count."""
        kept = self._kept.values()
        return [one.key for one in kept if one.key.tenant is None and one.retired_ms is None]

    def _next_ms(self) -> int:
        """When a key is made now: never before another, wherever the machine's time has gone."""
        newest = max((kept.key.created_ms for kept in self._kept.values()), default=0)
        return max(self._clock.now_ms(), newest)

    async def _change(self, kept: KeptKey) -> KeptKey:
        try:
            await self._keep(kept)
        except LogFailure as failure:
            raise Unavailable("the store cannot be written now; try again later") from failure
        return kept

    async def _keep(self, kept: KeptKey) -> None:
        record = {**records.key_record(kept.key), "retired_ms": kept.retired_ms}
        await self._store.put(records.KEYS, kept.key.name, record)
        self._kept[kept.key.name] = kept
        self._fill_ring()

    def _fill_ring(self) -> None:
        self._ring.replace(kept.key for kept in self._kept.values() if kept.retired_ms is None)


def new_key(name: str, tenant: TenantId | None, now_ms: int) -> SigningKey:
    """A key with a secret of its own. Raises ValueError for a name that is none."""
    return SigningKey(name, secrets.token_urlsafe(32), tenant=tenant, created_ms=now_ms)


def _new_name() -> str:
    return f"key-{secrets.token_hex(4)}"
