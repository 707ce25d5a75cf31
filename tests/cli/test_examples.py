"""The examples do what they say, against the running service."""

import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "examples"


def start(service, name, *arguments):
    token = service.run("token").stdout.strip()
    return subprocess.Popen(
        [sys.executable, EXAMPLES / name, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=service.environment(HOTPATH_TOKEN=token, HOTPATH_URL=service.urls["http"]),
    )


def test_what_one_publishes_the_other_reads(service):
    reader = start(service, "read_feed.py", "objectId = 'oven-01'", "5")
    service.until_subscribed()

    publisher = start(service, "publish_readings.py", "5")
    published, publisher_said = publisher.communicate(timeout=30)
    read, reader_said = reader.communicate(timeout=30)

    assert (published, publisher_said) == ("5 readings are stored\n", "")
    assert reader.returncode == 0, reader_said
    assert len(read.splitlines()) == 5
    assert all(line.startswith("oven-01 temperature = ") for line in read.splitlines())
    assert service.subscriptions() == []
