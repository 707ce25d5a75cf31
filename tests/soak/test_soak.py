"""A slice of `make soak`, and that it notices what it is there to notice."""

import json
import os
import subprocess
import sys

import pytest

from tests.soak.run import Report, Vitals, read_log
from tests.support.process import ROOT

#: Of the slice; `python -m tests.soak --seed` takes any other.
SEED = 20261122
SECONDS = 8


@pytest.mark.slow
@pytest.mark.interop
@pytest.mark.timeout(300)
def test_mixed_load_with_faults_breaks_no_promise():
    command = [sys.executable, "-m", "tests.soak", "--seconds", str(SECONDS), "--seed", str(SEED)]

    done = subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, timeout=280, env=os.environ, check=False
    )

    assert done.returncode == 0, done.stdout[-4_000:] + done.stderr[-4_000:]
    assert "0 promises broken" in done.stdout
    pairs = (line.strip().split(": ") for line in done.stdout.splitlines())
    counts = dict(pair for pair in pairs if len(pair) == 2)
    for name in ("kills", "full disks", "connections cut", "redelivered", "tokens renewed"):
        assert int(counts[name]) > 0, name


def test_an_unhandled_exception_in_the_log_is_found(tmp_path):
    log = tmp_path / "log"
    good = {"level": "error", "event": "commit failed"}
    bad = {"level": "error", "event": "connection ended by a bug", "exception": "Traceback …"}
    log.write_text(f"{json.dumps(good)}\n{json.dumps(bad)}\nTraceback (most recent call last):\n")

    seen, unhandled = read_log(log)

    assert seen["error: commit failed"] == 1
    assert len(unhandled) >= 2


@pytest.mark.parametrize(
    ("sizes", "slope"), [([100] * 9, 0), ([100, 100, 100, 100, 160, 220, 280], 60)]
)
def test_growth_shows_as_a_slope(sizes, slope):
    report = Report(lives=[Vitals(rss=[(60.0 * at, size) for at, size in enumerate(sizes)])])

    assert report.slope == pytest.approx(slope)
