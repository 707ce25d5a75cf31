"""What all nodes know: records are loaded once, and then watched.

A change is handed on in its order; what comes while the records are being loaded waits until they
are. `sight` is how a node waits for a change of another one's, or of its own.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

from hotpath.clusterports import Change, SharedRecordStore, Stop
from hotpath.ports import LogFailure
from hotpath.telemetry import get_logger

Changed = Callable[[str, dict[str, object] | None], None]
Record = dict[str, object]

#: How long that may take: whoever takes a shard over does not wait for an election of a leader.
_WAIT_S: Final = 0.6
#: When that has failed it is not tried again for so long: many shards are taken over at once.
_FAILED_S: Final = 2.0
_LOOK_S: Final = 0.1

_log = get_logger("hotpath.cluster.definitions")


class Definitions:
    """Watches the records.

    Attributes:
        settle: Waits until what was seen has taken effect.
    """

    def __init__(self, store: SharedRecordStore) -> None:
        self._store = store
        self._changed: dict[str, Changed] = {}
        self._early: list[Change] | None = []
        self._stop_watch: Stop | None = None
        self._moved = asyncio.Event()
        self._failed_at = -_FAILED_S
        self.settle: list[Callable[[], Awaitable[None]]] = []

    def on(self, kind: str, changed: Changed) -> None:
        """Say who hears of the records of a kind."""
        self._changed[kind] = changed

    async def watch(self) -> None:
        """Begin; changes are handed on after `loaded`. Raises LogFailure."""
        self._stop_watch = await self._store.watch(self._heard, kinds=list(self._changed))

    def loaded(self) -> None:
        """Everything there was is known."""
        early, self._early = self._early or [], None
        for change in early:
            self._hand_on(change)

    async def stop(self) -> None:
        """Hear nothing more."""
        if self._stop_watch is not None:
            stop, self._stop_watch = self._stop_watch, None
            await stop()

    def _heard(self, change: Change) -> None:
        if self._early is not None:
            self._early.append(change)
        else:
            self._hand_on(change)
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()

    def _hand_on(self, change: Change) -> None:
        changed = self._changed.get(change.kind)
        if changed is None:
            return
        try:
            changed(change.key, change.record)
        except Exception:  # noqa: BLE001 - the edge of a callback
            _log.exception("a changed record broke", extra={"kind": change.kind})

    async def sight(self, number: int) -> None:
        """Wait until a change, by its number, has taken effect here."""
        while self._store.seen < number:
            # Of a damaged record nobody hears.
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_S):
                    await self._moved.wait()
        for settled in self.settle:
            await settled()

    async def is_up_to_date(self) -> bool:
        """Wait until all changes made by now have taken effect; False when that takes too long."""
        loop = asyncio.get_running_loop()
        if loop.time() - self._failed_at < _FAILED_S:
            return False
        try:
            async with asyncio.timeout(_WAIT_S):
                await self.sight(await self._store.newest())
        except (LogFailure, TimeoutError):
            self._failed_at = loop.time()
            _log.warning("the records cannot be read up to their end")
            return False
        return True
