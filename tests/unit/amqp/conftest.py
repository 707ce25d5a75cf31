"""What tests of the AMQP edge's parts share."""

import pytest

from tests.support.receiver import Raw


@pytest.fixture(params=["c", "python"])
def kind(request):
    return request.param


@pytest.fixture
def server(kind, monkeypatch):
    made = Raw(kind, monkeypatch)
    yield made
    made.engine.free()


@pytest.fixture
def in_c(monkeypatch):
    """Of the variant in C, which keeps deliveries itself."""
    made = Raw("c", monkeypatch)
    yield made
    made.engine.free()
