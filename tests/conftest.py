"""What holds for all tests: they share a process, and it holds what was collected of all."""

import gc
import logging
import os
import sys
from collections.abc import Iterator

import pytest

from hotpath.core.keeping import Keeping


def pytest_collection_finish() -> None:
    """Take what thousands of collected tests are made of out of the collector's sight.

    A pass over it takes half a second, and tests ask for one by the hundred.
    """
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    """End the servers that tests have shared, if any of them were used."""
    logs = sys.modules.get("tests.support.logs")
    if logs is not None:
        logs.close_shared()


@pytest.fixture(autouse=True, scope="session")
def _no_full_passes() -> Iterator[None]:
    """A service in a test's process leaves the collector alone, for the same reason.

    What it does with it in a process of its own has tests with such a process, and with a
    `Keeping` of their own.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hotpath.interpreter.KEEPING", _Idle())
        yield


class _Idle(Keeping):
    """Counts filters, and does nothing."""

    def start(self, later: object) -> None:
        """Not here."""


@pytest.fixture(autouse=True)
def _process_as_it_was() -> Iterator[None]:
    """A command sets the mask of new files and logging of its process, which here is the tests'."""
    root = logging.getLogger()
    level, handlers = root.level, set(root.handlers)
    mask = os.umask(0o022)
    os.umask(mask)
    yield
    os.umask(mask)
    root.setLevel(level)
    for handler in set(root.handlers) - handlers:
        if type(handler) is logging.StreamHandler:
            root.removeHandler(handler)
