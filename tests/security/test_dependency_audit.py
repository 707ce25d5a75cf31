"""The dependency audit fails loudly with findings and never takes silence for good news."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / ".ci" / "audit"
GOOD = {"name": "good", "version": "1", "vulns": []}
BAD = {"name": "bad", "version": "2", "vulns": [{"id": "X-2024-1", "fix_versions": ["3"]}]}
UNKNOWN = {"name": "unknown", "skip_reason": "not found"}
OURS = {"name": "hotpath", "skip_reason": "editable"}


def audit(tmp_path, report, *options):
    path = tmp_path / "report.json"
    path.write_text(report if isinstance(report, str) else json.dumps({"dependencies": report}))
    done = subprocess.run(
        [sys.executable, SCRIPT, "--report", path, *options],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("report", "options", "code", "said"),
    [
        ([GOOD, OURS], [], 0, "1 packages"),
        ([GOOD, BAD], [], 1, "bad 2: X-2024-1, fixed in 3"),
        ([BAD, UNKNOWN], ["--skip-unreachable"], 1, "X-2024-1"),
        ([GOOD, UNKNOWN], ["--skip-unreachable"], 2, "unknown"),
        ([UNKNOWN], [], 2, "not reachable"),
        ([UNKNOWN], ["--skip-unreachable"], 0, "SKIPPED"),
        ("", [], 2, "could not be asked"),
        ("", ["--skip-unreachable"], 0, "SKIPPED"),
    ],
    ids=[
        "good",
        "bad",
        "bad beside unknown",
        "one unknown",
        "all unknown",
        "all unknown in CI",
        "no report",
        "no report in CI",
    ],
)
def test_verdict(tmp_path, report, options, code, said):
    found, text = audit(tmp_path, report, *options)

    assert found == code, text
    assert said in text
