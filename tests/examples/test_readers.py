"""The examples that read a feed, against the running service."""

import json
import re
import shutil

import pytest

from tests.examples.running import EXAMPLES, finished, reading, started, subscriptions
from tests.support.process import ROOT, eventually

pytestmark = pytest.mark.slow

VALUES = [91, 95, 99, 93]


def publish_to_reader(service):
    """Publish once the example has attached; one reading in between is not its own."""
    eventually(lambda: [each for each in subscriptions(service) if each["clients"]], seconds=30)
    service.publish([reading(value) for value in [*VALUES[:2], 20, *VALUES[2:]]])


@pytest.mark.interop
@pytest.mark.parametrize("name", ["python_servicebus.py", "python_servicebus_aio.py"])
def test_servicebus_reads_what_matches_and_cleans_up(service, name):
    with started(service, name, "value > 90", len(VALUES)) as example:
        publish_to_reader(service)
        said = finished(example)

    assert [json.loads(line)["value"] for line in said.splitlines()] == VALUES
    assert subscriptions(service) == []


@pytest.fixture
def node_example(tmp_path):
    """An example beside the packages that its reader would have installed."""
    packages = ROOT / "tests" / "interop" / "node" / "node_modules"
    if shutil.which("node") is None or not packages.is_dir():
        pytest.skip("node or its packages are not there: make node")
    (tmp_path / "node_modules").symlink_to(packages)
    return lambda name: shutil.copy(EXAMPLES / name, tmp_path)


@pytest.mark.interop
@pytest.mark.parametrize("name", ["node_rhea.mjs", "node_servicebus.mjs"])
def test_node_reads_what_matches_and_cleans_up(service, node_example, name):
    with started(service, node_example(name), "value > 90", len(VALUES)) as example:
        publish_to_reader(service)
        said = finished(example)

    assert [json.loads(line)["value"] for line in said.splitlines()] == VALUES
    eventually(lambda: not subscriptions(service))


def test_curl_shows_what_matches_and_cleans_up(service):
    with started(service, "curl_feed.sh", "value > 90") as example:
        said = finished(example)

    shown = [line.split()[1:] for line in said.splitlines()]
    assert shown == [["waiting", "boiler-1", "95.5"], ["waiting", "boiler-3", "102.4"]]
    assert subscriptions(service) == []


def test_curl_shows_what_is_wrong(service):
    with started(service, "curl_feed.sh", "valeu >") as example:
        _, complained = example.communicate(timeout=30)

    assert example.returncode != 0
    assert "error" in complained
    assert subscriptions(service) == []


def test_the_plot_shows_the_series_between_its_ends(service):
    with started(service, "live_plot.py", "value > 90", len(VALUES), COLUMNS="40") as example:
        publish_to_reader(service)
        said = finished(example)

    assert "boiler-1 temperature = 93" in said
    assert "91 to 99" in said
    columns = [
        line.strip("│").strip(" \n") for line in said.splitlines() if re.search("[▁-█]", line)
    ]
    # The highest value alone reaches the top; every value is at least a line at the bottom.
    assert len(columns[0]) == 1
    assert len(columns[-1]) == len(VALUES)
    assert subscriptions(service) == []
