"""A running service for the tests of the REST edge."""

import pytest

from tests.cluster.relaying import relayed_pair
from tests.support.services import TestService, running_service, serving_rest

#: What these test holds whichever node of a cluster a call comes to.
WHEREVER = {"test_rest_look", "test_rest_subscriptions"}
RATE = {"rate_limit": "1000000/second", "rate_limit_burst": 1_000_000}


def pytest_generate_tests(metafunc):
    module = metafunc.module.__name__.rpartition(".")[2]
    if module in WHEREVER and "service" in metafunc.fixturenames:
        metafunc.parametrize("service", ["here", "elsewhere"], indirect=True)


@pytest.fixture
async def service(request, tmp_path) -> TestService:
    """A service with default settings, and a rate limit that no test meets by chance.

    With `elsewhere`, what needs a subscription's live state is asked of another node.
    """
    if getattr(request, "param", "here") == "here":
        async with running_service(tmp_path, **RATE) as running:
            yield running
        return
    async with relayed_pair(tmp_path, **RATE) as pair:
        pair.share_definitions()
        control = pair.asker.relay.control
        async with serving_rest(pair.owner.core, control=control) as running:
            yield running
