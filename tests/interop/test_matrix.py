"""Every scenario with every client of another project; `make interop` runs all of them.

Without HOTPATH_INTEROP=full only the quick ones run. With it, docs/interop.md is written.
"""

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.cluster import ClusterService
from tests.interop.harness import Client, Service
from tests.interop.matrix import write
from tests.interop.scenarios import (
    IMPLEMENTATIONS,
    LONGER,
    ROOT,
    SCENARIOS,
    SECONDS,
    Implementation,
)

FULL = os.environ.get("HOTPATH_INTEROP") == "full"
CLUSTER = bool(os.environ.get("HOTPATH_TEST_CLUSTER"))

pytestmark = [pytest.mark.interop, pytest.mark.slow]

_bases = itertools.count(1_000, 1_000)


def _cases() -> Iterator[object]:
    for implementation in IMPLEMENTATIONS:
        for scenario in SCENARIOS:
            if scenario in implementation.unsupported:
                continue
            if FULL or scenario in implementation.quick:
                yield pytest.param(implementation, scenario, id=f"{implementation.name}-{scenario}")


class Bench:
    """The service, and the programs that have been started."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.service = (ClusterService if CLUSTER else Service)(directory, usual_ports=FULL)
        self.clients: dict[str, Client] = {}
        self.results: dict[tuple[str, str], str] = {}

    def client(self, implementation: Implementation) -> Client:
        client = self.clients.get(implementation.name)
        if client is None:
            log = self.directory / f"{implementation.name.replace('/', '-')}.log"
            env = {"NODE_EXTRA_CA_CERTS": str(self.service.ca)}
            client = Client(implementation.command, log=log, env=env)
            self.clients[implementation.name] = client
        return client

    def stop(self) -> None:
        for client in self.clients.values():
            client.stop()
        self.service.stop()


@pytest.fixture(scope="session")
def workbench(tmp_path_factory):
    made = Bench(tmp_path_factory.mktemp("interop"))
    yield made
    made.stop()
    if FULL and not CLUSTER and len(made.results) == len(list(_cases())):
        write(ROOT / "docs" / "interop.md", made.results)


@pytest.mark.timeout(260)
@pytest.mark.parametrize(("implementation", "scenario"), list(_cases()))
def test_client(workbench, implementation, scenario):
    if not implementation.needs.exists():
        workbench.results[implementation.name, scenario] = "not run"
        pytest.skip(f"{implementation.name} is not installed: run tests/interop/install")
    client = workbench.client(implementation)

    seconds = implementation.seconds.get(scenario) or LONGER.get(scenario, SECONDS)
    outcome, reason = client.run(scenario, workbench.service, base=next(_bases), seconds=seconds)

    workbench.results[implementation.name, scenario] = outcome
    logs = "\n".join(path.name for path in workbench.directory.glob("*.log"))
    assert outcome == "passed", f"{reason}\nsee {workbench.directory}: {logs}"
