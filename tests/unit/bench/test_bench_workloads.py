"""Which subscriptions a workload makes, and what each of them must receive."""

from dataclasses import replace
from typing import Any

import pytest

from bench.errors import UsageError
from bench.measure import count_uneven
from bench.workload import default_connections
from tests.unit.bench.results import RECEIVER, SENDER, make_result, make_workload


def test_without_selection_every_subscription_takes_everything() -> None:
    workload = make_workload(fan_out=10, subscriptions=10)

    assert {workload.filter_of(index) for index in range(10)} == {"quality >= 0"}


def test_with_selection_each_object_has_fan_out_subscriptions() -> None:
    workload = make_workload(fan_out=2, subscriptions=6)

    filters = [workload.filter_of(index) for index in range(6)]

    assert workload.objects == 3
    assert filters[:3] == filters[3:]
    assert filters[1] == "objectId = 'obj-00000001' AND quality >= 0"
    assert len(set(filters)) == 3


@pytest.mark.parametrize(
    "numbers",
    [
        pytest.param({"fan_out": 0}, id="no fan-out"),
        pytest.param({"fan_out": 10, "subscriptions": 5}, id="fewer subscriptions than fan-out"),
        pytest.param({"fan_out": 2, "subscriptions": 5}, id="objects of unequal fan-out"),
        pytest.param({"connections": 2}, id="more connections than subscriptions"),
    ],
)
def test_an_impossible_workload_is_refused(numbers: dict[str, int]) -> None:
    with pytest.raises(UsageError):
        make_workload(**numbers)


def test_connections_are_filled_evenly_and_in_order() -> None:
    workload = make_workload(fan_out=10, subscriptions=10, connections=4)

    assert [workload.connection_of(index) for index in range(10)] == [0, 0, 0, 1, 1, 2, 2, 2, 3, 3]


def test_subscribers_share_connections_only_beyond_a_hundred() -> None:
    assert [default_connections(number) for number in (1, 100, 10_000)] == [1, 100, 100]


def test_a_wrong_count_on_any_link_shows_even_when_the_total_is_right() -> None:
    workload = make_workload(fan_out=2, subscriptions=2)

    assert count_uneven(workload, 10, [10, 10]) == 0
    assert count_uneven(workload, 10, [9, 11]) == 2


def test_selective_links_share_the_messages_in_turn() -> None:
    workload = make_workload(fan_out=2, subscriptions=6)

    # Seven messages over three objects: the first has three, the others two.
    assert count_uneven(workload, 7, [3, 2, 2, 3, 2, 2]) == 0
    assert count_uneven(workload, 7, [2, 3, 2, 3, 2, 2]) == 2


def test_a_complete_round_has_no_problem() -> None:
    assert make_result().problems == []


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        pytest.param({"received": 990}, "10 deliveries lost", id="lost"),
        pytest.param({"received": 1001}, "1 deliveries too many", id="duplicated"),
        pytest.param({"disordered": 3}, "3 deliveries out of order", id="out of order"),
        pytest.param({"uneven_links": 2}, "2 subscriptions with a wrong count", id="uneven"),
        pytest.param(
            {"sender": replace(SENDER, accepted=999)},
            "1 messages without an outcome",
            id="no outcome",
        ),
        pytest.param(
            {"sender": replace(SENDER, accepted=999, refused=1)},
            "1 messages refused",
            id="refused",
        ),
        pytest.param(
            {"receiver": replace(RECEIVER, settled=998)},
            "2 deliveries not settled",
            id="not settled",
        ),
        pytest.param(
            {"receiver": replace(RECEIVER, foreign=1)}, "1 deliveries altered", id="altered"
        ),
        pytest.param({"sender": replace(SENDER, error="gone")}, "publisher: gone", id="publisher"),
        pytest.param({"receiver": replace(RECEIVER, error="cut")}, "receiver: cut", id="receiver"),
    ],
)
def test_anything_wrong_with_a_round_is_named(changes: dict[str, Any], problem: str) -> None:
    assert make_result(**changes).problems == [problem]
