"""Child processes, their resources, and what the brokers say when they start."""

import os
import stat
import sys
from pathlib import Path

import pytest

from bench.abuse import Round, calmest
from bench.children import Child
from bench.clients import Link, ReceiverReport, SenderReport, write_links
from bench.errors import RunError, UsageError
from bench.hotpath_broker import Addresses, address_of
from bench.peers import check_filters
from bench.procfs import (
    TICKS_PER_SECOND,
    parse_stat,
    parse_status,
    parse_stolen,
    read_usage,
    stolen_s,
)
from bench.rabbitmq_broker import configuration, definitions
from bench.report import file_system
from tests.unit.bench.results import make_workload


def python_child(code: str, log: Path) -> Child:
    return Child([sys.executable, "-S", "-c", code], log=log)


@pytest.mark.slow
def test_a_child_is_gone_when_its_block_ends_by_an_error(tmp_path: Path) -> None:
    child = python_child("print('up', flush=True); input()", tmp_path / "log")

    def fail_in_the_block() -> None:
        with child:
            child.read_line(10)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_in_the_block()

    with pytest.raises(ProcessLookupError):
        os.kill(child.pid, 0)


@pytest.mark.slow
def test_a_child_that_ends_early_gives_its_last_words(tmp_path: Path) -> None:
    code = "import sys; sys.exit('no such disk')"
    with (
        python_child(code, tmp_path / "log") as child,
        pytest.raises(RunError, match="no such disk"),
    ):
        child.wait_for_log("ready", 10)


@pytest.mark.slow
def test_telling_a_child_that_has_gone_is_no_error(tmp_path: Path) -> None:
    with python_child("", tmp_path / "log") as child:
        child.finish(10)
        with python_child("", tmp_path / "other") as other:
            while other.running:
                pass
            other.tell("5")


def test_cpu_time_is_found_behind_a_command_with_blanks_and_parentheses() -> None:
    fields = ["S", *["0"] * 10, str(TICKS_PER_SECOND * 2), str(TICKS_PER_SECOND), *["0"] * 30]

    assert parse_stat(f"42 (beam ) (x) {' '.join(fields)}") == 3.0


def test_memory_is_read_in_bytes() -> None:
    assert parse_status("Name:\tx\nVmHWM:\t    20 kB\nVmRSS:\t    12 kB\n") == (12_288, 20_480)


def test_a_process_without_memory_lines_counts_nothing() -> None:
    assert parse_status("Name:\tkthread\n") == (0, 0)


def test_the_usage_of_this_process_is_plausible() -> None:
    usage = read_usage(os.getpid())

    assert usage.cpu_s > 0
    assert 1_000_000 < usage.rss_bytes <= usage.rss_peak_bytes


def test_the_link_table_is_for_its_owner_only(tmp_path: Path) -> None:
    table = write_links([Link(0, "a", "SharedAccessSignature sr=a"), Link(1, "b")], tmp_path)

    assert table.read_text() == "0\ta\tSharedAccessSignature sr=a\n1\tb\t\n"
    assert stat.S_IMODE(table.stat().st_mode) == 0o600


def test_the_ready_line_gives_both_addresses() -> None:
    line = '{"event":"ready","http":"http://127.0.0.1:1","amqp":"amqp://127.0.0.1:2"}'

    assert Addresses.parse(line) == Addresses("http://127.0.0.1:1", "127.0.0.1:2")


@pytest.mark.parametrize("line", ["", "nonsense", "[]", '{"event":"ready"}', '{"event":"x"}'])
def test_another_line_is_not_ready(line: str) -> None:
    with pytest.raises(RunError, match="not a ready line"):
        Addresses.parse(line)


@pytest.mark.parametrize(
    "url",
    [
        "amqp://127.0.0.1:5672/variables/Subscriptions/7f",
        "amqps://hub.example.com/variables/Subscriptions/7f",
    ],
)
def test_the_address_is_the_path_of_the_connection_url(url: str) -> None:
    assert address_of(url) == "variables/Subscriptions/7f"


@pytest.mark.parametrize("text", ["", "Segmentation fault", '{"client":"other"}', "[1]"])
def test_what_is_no_report_is_an_error(text: str) -> None:
    with pytest.raises(RunError):
        SenderReport.parse(text)
    with pytest.raises(RunError):
        ReceiverReport.parse(text)


def test_every_peer_queue_is_durable_and_bound() -> None:
    layout = definitions(3, {})

    names = [queue["name"] for queue in layout["queues"]]
    assert len(set(names)) == 3
    assert all(queue["durable"] for queue in layout["queues"])
    assert [binding["destination"] for binding in layout["bindings"]] == names


def test_the_peer_listens_on_loopback_only() -> None:
    text = configuration(4711, Path("/somewhere/definitions.json"))

    assert "listeners.tcp.1 = 127.0.0.1:4711\n" in text


def test_the_peer_has_no_filters_to_compare() -> None:
    with pytest.raises(UsageError, match="does not filter"):
        check_filters("rabbitmq", make_workload(fan_out=1, subscriptions=100))


def test_the_root_file_system_has_a_type() -> None:
    assert file_system(Path("/")) != "unknown"


def test_what_the_host_has_taken_is_read() -> None:
    text = "cpu  10 2 30 400 5 0 7 150 0 0\ncpu0 1 2 3 4 5 6 7 8 9 10\n"
    assert parse_stolen(text) == 150 / TICKS_PER_SECOND
    assert stolen_s() >= 0


def test_rounds_that_lacked_the_processor_do_not_count() -> None:
    rounds = [Round(p99_ms, stolen, True) for p99_ms, stolen in ((9, 0.3), (2, 0), (4, 0.02))]
    rounds += [Round(5, 0.01, True), Round(1, 0.005, True)]
    assert [each.p99_ms for each in calmest(rounds, 3)] == [2, 5, 1]
    assert [each.p99_ms for each in calmest(rounds, 4)] == [2, 5, 1, 4]
