"""Importing the storage brings nothing along that it does not need."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PROGRAM = """
import sys
import hotpath.storage.sqlite.store, hotpath.storage.sqlite.migrations
assert {name!r} not in sys.modules, "it was imported"
import {name}
print({name}.MARK)
"""


@pytest.mark.parametrize("name", ["pandas", "numpy"])
def test_what_is_not_needed_is_not_imported_and_there_for_others(tmp_path, name):
    (tmp_path / f"{name}.py").write_text("MARK = 'imported by somebody else'\n")
    path = os.pathsep.join((str(tmp_path), str(ROOT)))

    said = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(name=name)],
        env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert (said.returncode, said.stdout) == (0, "imported by somebody else\n"), said.stderr
