"""Medians, spreads, ratios and tables of the benchmark."""

import pytest

from bench.report import ratio_table, ratios, render, show_rate, summary, throughput_table
from bench.stats import ratio, summarise
from tests.unit.bench.results import make_result


def test_an_even_number_of_rounds_gives_the_middle_of_the_two_in_the_middle() -> None:
    spread = summarise([4.0, 1.0, 3.0, 10.0])

    assert (spread.median, spread.low, spread.high, spread.rounds) == (3.5, 1.0, 10.0, 4)
    assert spread.relative == pytest.approx(9 / 3.5)


def test_a_median_of_zero_has_no_relative_spread() -> None:
    assert summarise([0.0, 0.0]).relative == 0.0


def test_nothing_cannot_be_summarised() -> None:
    with pytest.raises(ValueError, match="nothing"):
        summarise([])


def test_a_ratio_is_taken_round_by_round() -> None:
    # The machine was twice as slow in the second round, for both.
    spread = ratio([100.0, 50.0], [10.0, 5.0])

    assert (spread.median, spread.low, spread.high) == (10.0, 10.0, 10.0)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        pytest.param([1.0], [1.0, 2.0], id="different lengths"),
        pytest.param([1.0], [0.0], id="zero below the line"),
        pytest.param([], [], id="no rounds"),
    ],
)
def test_a_meaningless_ratio_is_refused(ours: list[float], theirs: list[float]) -> None:
    with pytest.raises(ValueError):
        ratio(ours, theirs)


def test_a_table_is_aligned_under_its_heading() -> None:
    table = render([("name", "rate"), ("a", "1,000"), ("long name", "5")])

    assert table.splitlines() == [
        "name        rate",
        "---------  -----",
        "a          1,000",
        "long name      5",
    ]


def test_a_rate_is_shown_with_half_its_range() -> None:
    assert show_rate(summarise([90.0, 100.0, 110.0])) == "100 ±10 %"


def test_rounds_of_a_workload_are_one_line_with_the_number_of_good_ones() -> None:
    good = make_result(deliver_rate=50_000.0)
    lossy = make_result(round=2, deliver_rate=60_000.0, received=999)

    lines = throughput_table([good, lossy]).splitlines()

    assert len(lines) == 3
    assert "55,000 ±9 %" in lines[2]
    assert lines[2].endswith("1/2")
    assert not summary([good, lossy])[0]["ok"]


def test_ratios_cover_only_what_both_brokers_ran() -> None:
    both = [
        make_result(deliver_rate=80_000.0),
        make_result(broker="rabbitmq", deliver_rate=8_000.0),
    ]
    alone = make_result(fan_out=10, deliver_rate=1.0)

    found = ratios([*both, alone], "hotpath", "rabbitmq")

    assert list(found) == ["fan-out 1, 323 B"]
    assert found["fan-out 1, 323 B"].median == 10.0
    assert "10.0" in ratio_table(found, "hotpath", "rabbitmq")
