"""Runs an example as a reader would: a file of its own, a token, the address of the service."""

import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

from tests.support.process import ROOT

EXAMPLES = ROOT / "examples"


def environment(service, **more):
    """What an example reads."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith("HOTPATH_")}
    return {
        **kept,
        "HOTPATH_TOKEN": service.token(),
        "HOTPATH_URL": service.urls["http"],
        "PYTHONWARNINGS": "ignore",
        **more,
    }


def command_of(name):
    return {".sh": ["bash"], ".mjs": ["node"]}.get(Path(name).suffix, [sys.executable])


@contextmanager
def started(service, name, *arguments, **more):
    """The example, running; it is gone when the block is left."""
    process = subprocess.Popen(
        [*command_of(name), EXAMPLES / name, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(service, **more),
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def finished(process, *, seconds=40):
    """Its output once it has ended well."""
    said, complained = process.communicate(timeout=seconds)
    assert process.returncode == 0, complained
    return said


def subscriptions(service):
    """The tenant's subscriptions."""
    return service.call("GET", "/subscriptions").body["data"]


def reading(number, **changes):
    """A reading of one boiler."""
    return {"objectId": "boiler-1", "variable": "temperature", "value": number, **changes}
