"""A slice of the coverage-guided runs, where atheris is installed (`pip install '.[fuzz]'`)."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TARGETS = ("values",)
RUNS = 200
SECONDS = 8


@pytest.mark.slow
@pytest.mark.timeout(200)
@pytest.mark.parametrize("target", TARGETS)
def test_a_short_guided_run_finds_nothing(target, tmp_path):
    if find_spec("atheris") is None:
        pytest.skip("atheris is not installed: pip install '.[fuzz]'")
    command = [
        sys.executable, "-m", "tests.fuzz.guided", target, "--runs", str(RUNS),
        "--seconds", str(SECONDS), "--seed", "1", "--failures", str(tmp_path / "failures"),
    ]  # fmt: skip

    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert ended.returncode == 0, ended.stderr[-4_000:]
    assert "number_of_executed_units" in ended.stderr
