"""Options of ``python -m bench`` and the grid they span."""

import pytest

from bench.cli import EXIT_USAGE, brokers, build_parser, main, workloads


def test_lists_of_options_span_a_grid() -> None:
    options = build_parser().parse_args(
        ["throughput", "--fan-out", "1,10", "--size", "323,4096", "--seconds", "2"]
    )

    grid = [(one.fan_out, one.subscriptions, one.message_bytes) for one in workloads(options)]

    assert grid == [(1, 1, 323), (1, 1, 4096), (10, 10, 323), (10, 10, 4096)]


def test_latency_runs_once_for_each_rate() -> None:
    options = build_parser().parse_args(["latency", "--rates", "1000,40000"])

    assert [one.rate for one in workloads(options)] == [1000, 40000]


def test_throughput_has_no_rate() -> None:
    assert [one.rate for one in workloads(build_parser().parse_args(["throughput"]))] == [None]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        pytest.param(["throughput"], ["hotpath"], id="alone"),
        pytest.param(["peer", "rabbitmq"], ["hotpath", "rabbitmq"], id="in turn"),
        pytest.param(["peer", "rabbitmq", "--peer-only"], ["rabbitmq"], id="only the peer"),
    ],
)
def test_the_command_names_the_brokers(arguments: list[str], expected: list[str]) -> None:
    assert brokers(build_parser().parse_args(arguments)) == expected


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["throughput", "--fan-out", "0"], id="zero"),
        pytest.param(["throughput", "--fan-out", "1,x"], id="no number"),
        pytest.param(["throughput", "--seconds", "-1"], id="negative time"),
        pytest.param(["throughput", "--seconds", "nan"], id="not a time"),
        pytest.param(["throughput", "--rounds", "1,2"], id="a list of rounds"),
        pytest.param(["peer", "nobody"], id="unknown peer"),
        pytest.param([], id="no command"),
    ],
)
def test_wrong_options_end_with_the_usage_status(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)

    assert ended.value.code == EXIT_USAGE
    assert "usage:" in capsys.readouterr().err


def test_an_impossible_workload_ends_before_anything_starts(
    capsys: pytest.CaptureFixture[str],
) -> None:
    status = main(["throughput", "--fan-out", "3", "--subscriptions", "10"])

    assert status == EXIT_USAGE
    assert "multiple of fan-out" in capsys.readouterr().err


def test_a_missing_work_directory_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["throughput", "--work-dir", "/nonexistent/place"])

    assert status == EXIT_USAGE
    assert "/nonexistent/place" in capsys.readouterr().err
