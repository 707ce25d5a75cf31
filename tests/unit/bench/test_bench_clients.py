"""The C load clients, straight from one to the other."""

import shutil
import subprocess
from pathlib import Path

import pytest

from bench import self_test
from bench.clients import build_clients
from bench.errors import RunError

#: The first of them builds the clients, from Proton's source.
pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def programs() -> Path:
    if shutil.which("make") is None or shutil.which("cc") is None:
        pytest.skip("no C compiler: the load clients cannot be built")
    try:
        return build_clients()
    except RunError as error:
        pytest.skip(f"the load clients cannot be built: {error}")


@pytest.mark.slow
@pytest.mark.parametrize("size", [323, 4096, 100_000])
def test_every_message_arrives_once_in_order_and_is_settled(
    programs: Path, size: int, tmp_path: Path
) -> None:
    sent, received = self_test.transfer(size, 2000, tmp_path)

    assert programs.is_dir()
    assert (sent.sent, sent.accepted, sent.refused) == (2000, 2000, 0)
    assert (received.received, received.settled, received.foreign) == (2000, 2000, 0)
    assert received.latency["count"] == 2000
    assert sum(count for _, count in received.latency["buckets"]) == 2000
    assert received.latency["p50"] <= received.latency["p99"] <= received.latency["max"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(["--size", "20"], "--size: expected a number", id="too small"),
        pytest.param(["--rate", "fast"], "--rate: expected a number", id="no number"),
        pytest.param([], "usage: load-send", id="nothing to do"),
    ],
)
def test_wrong_options_are_explained(programs: Path, arguments: list[str], said: str) -> None:
    ended = subprocess.run(
        [programs / "load-send", *arguments], capture_output=True, text=True, check=False
    )

    assert ended.returncode == 2
    assert said in ended.stderr


@pytest.mark.slow
def test_a_broken_link_table_is_explained(programs: Path, tmp_path: Path) -> None:
    table = tmp_path / "links.tsv"
    table.write_text("0\ta\t\n2\tb\t\n")

    ended = subprocess.run(
        [programs / "load-recv", "--server", "127.0.0.1:1", "--links", table],
        capture_output=True,
        text=True,
        check=False,
    )

    assert ended.returncode == 2
    assert "connection numbers must start at 0 and rise by one" in ended.stderr


@pytest.mark.slow
def test_a_server_that_is_not_there_is_reported_as_json(programs: Path) -> None:
    ended = subprocess.run(
        [programs / "load-recv", "--server", "127.0.0.1:1", "--address", "a"],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )

    assert ended.returncode == 1
    assert "127.0.0.1:1: Connection refused" in ended.stdout
