"""One server for all tests of a module; each cluster has names of its own there."""

import pytest

from tests.support.nats import MISSING, nats_server


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    if MISSING:
        pytest.skip(MISSING)
    with nats_server(tmp_path_factory.mktemp("nats")) as started:
        yield started
