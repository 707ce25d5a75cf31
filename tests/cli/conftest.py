"""One running service for the tests of client commands; its API minutes are 0.2 seconds long."""

import itertools

import pytest

from tests.cli.service import Service

FREE_PORTS = ("--http", "127.0.0.1:0", "--amqp", "127.0.0.1:0")
MINUTE = 0.2
_tenants = itertools.count(1)


@pytest.fixture(scope="session")
def shared(tmp_path_factory):
    data_dir = tmp_path_factory.mktemp("service") / "data"
    service = Service(data_dir, *FREE_PORTS, "--minute", str(MINUTE), "--rate-limit", "1000/second")
    service.start()
    yield service
    code, rest = service.stop()
    assert (code, rest) == (0, "")


@pytest.fixture
def service(shared, monkeypatch):
    """The running service, with a tenant of the test's own."""
    tenant = f"tenant-{next(_tenants)}"
    monkeypatch.setattr(
        shared,
        "environment",
        lambda **more: {
            **Service.environment(shared),
            "HOTPATH_TENANT": tenant,
            **more,
        },
    )
    return shared


@pytest.fixture
def own_service(tmp_path):
    """Starts services of the test's own, and ends those that still run."""
    started = []

    def start(*options, data_dir=tmp_path / "data"):
        service = Service(data_dir, *(options or FREE_PORTS))
        started.append(service)
        return service.start()

    yield start
    for service in started:
        if service.process.poll() is None:
            service.kill()
