"""A three-node cluster behind a load balancer in the place of the one server of `tests/e2e`."""

import pytest

from tests.support.cluster_server import ClusterServer
from tests.support.nats import MISSING


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Three nodes for the tests of a module; each connection comes to the next of them."""
    if MISSING:
        pytest.skip(MISSING)
    directory = tmp_path_factory.mktemp("cluster") / "data"
    directory.mkdir(mode=0o700)
    running = ClusterServer(directory, rate_limit="10000/second", rate_limit_burst=10_000)
    try:
        yield running.start()
    finally:
        running.close()


@pytest.fixture
def tenant(request):
    """A tenant that no other test uses."""
    return f"tenant-{abs(hash(request.node.nodeid))}"
