"""A service of its own for each file's examples."""

import pytest

from tests.support.process import running_server


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    # The tests look on more often than an application would.
    unhurried = {"rate_limit": "10000/second", "rate_limit_burst": 10000}
    with running_server(tmp_path_factory.mktemp("examples") / "data", **unhurried) as running:
        yield running
