"""The README's five minutes, run word by word, but for the ports."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
SECTION = re.compile(r"^## Five minutes$(.*?)^## ", re.MULTILINE | re.DOTALL)
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks():
    section = SECTION.search((ROOT / "README.md").read_text())
    assert section is not None
    return BLOCK.findall(section[1])


@pytest.fixture
def service(tmp_path):
    """What `make run` starts, in a fresh directory and on free ports."""
    command = [sys.executable, "-m", "hotpath", "serve", "--data-dir", "data"]
    ports = ["--http", "127.0.0.1:0", "--amqp", "127.0.0.1:0"]
    with subprocess.Popen(
        [*command, *ports], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        ready = json.loads(process.stdout.readline())
        yield ready["http"]
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0


@pytest.mark.slow
def test_five_minutes_work_word_by_word(service, tmp_path):
    script = ["set -euo pipefail"]
    for language, text in blocks():
        if language == "python":
            (tmp_path / "read_feed.py").write_text(text)
        elif language == "bash":
            script.append(text.replace("http://127.0.0.1:8080", service))
    env = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"}

    done = subprocess.run(
        ["bash", "-c", "\n".join(script)],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    subscription = json.loads((tmp_path / "subscription.json").read_text())
    assert set(subscription) == {"subscriptionId", "connectionURL", "sasToken"}
    assert re.search(r'"accepted": ?3', done.stdout)
    received = re.findall(r"'objectId': '(boiler-\d)'.*'value': ([\d.]+)", done.stdout)
    assert received == [("boiler-1", "95.5"), ("boiler-3", "102.4")]


def test_the_two_commands_exist_in_the_makefile():
    makefile = (ROOT / "Makefile").read_text()
    commands = re.findall(r"^make (\w+)", (ROOT / "README.md").read_text(), re.MULTILINE)

    assert {"demo", "test", "run"} <= set(commands)
    assert [name for name in commands if not re.search(rf"^{name}:", makefile, re.MULTILINE)] == []
