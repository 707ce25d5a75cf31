"""A server process for the tests of a file."""

import pytest

from tests.support.process import running_server


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """One server on disk for the tests of a module; each test uses a tenant of its own."""
    directory = tmp_path_factory.mktemp("server") / "data"
    with running_server(directory, rate_limit="10000/second", rate_limit_burst=10000) as running:
        yield running


@pytest.fixture
def tenant(request):
    """A tenant that no other test uses."""
    return f"tenant-{abs(hash(request.node.nodeid))}"
