"""Watches every test here for what nobody caught."""

import pytest

from tests.fuzz import oracle


@pytest.fixture
def watch():
    with oracle.Watch() as watching:
        yield watching
        watching.check(collect=True)
