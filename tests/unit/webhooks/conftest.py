"""Endpoints on the loopback."""

import pytest

from tests.support.endpoint import FakeEndpoint, webhook_rig


@pytest.fixture
async def endpoint():
    """One that takes everything until it is told otherwise."""
    made = await FakeEndpoint().start()
    yield made
    await made.stop()


@pytest.fixture
async def rig(tmp_path):
    """The service with its webhook edge."""
    async with webhook_rig(tmp_path) as made:
        yield made
