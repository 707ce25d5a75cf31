"""A running service for every test that asks for one."""

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from tests.unit.service.rig import Rig

Start = Callable[..., Awaitable[Rig]]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Start a service with given settings; all are stopped at the end of the test."""
    rigs: list[Rig] = []

    async def begin(**options: object) -> Rig:
        rig = Rig(**options)
        rigs.append(rig)
        return await rig.start()

    yield begin
    for rig in rigs:
        await rig.stop()


@pytest.fixture
async def rig(start: Start) -> Rig:
    return await start()
