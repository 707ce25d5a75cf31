"""A running service for the tests of the REST edge."""

import pytest

from tests.support.services import TestService, running_service


@pytest.fixture
async def service(tmp_path) -> TestService:
    """A service with default settings, and a rate limit that no test meets by chance."""
    async with running_service(
        tmp_path, rate_limit="1000000/second", rate_limit_burst=1_000_000
    ) as running:
        yield running
