"""Waiting for something to happen, but not for ever."""

import asyncio

from hotpath.ports import Clock
from hotpath.service.clock import sleep_until


async def wait_for(event: asyncio.Event, clock: Clock, *, until_ms: int) -> None:
    """Wait until an event is set or a monotonic time has come; the event is clear afterwards."""
    sleeping = asyncio.ensure_future(sleep_until(clock, until_ms))
    waking = asyncio.ensure_future(event.wait())
    try:
        await asyncio.wait({sleeping, waking}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        sleeping.cancel()
        waking.cancel()
    event.clear()
