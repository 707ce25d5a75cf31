"""The model of a cluster's size: what it is fitted to it says again, and what it warns of."""

import pytest

from bench.sizing import Costs, Demand, Division, answer, check_model, fit, main, nodes_for

COSTS = Costs(take_us=50.0, read_us=20.0, match_us=0.5, matches=300)


def measured(costs: Costs, nodes: int) -> Division:
    first = costs.first_us(30_000, nodes)
    others = [costs.other_us(30_000, nodes)] * (nodes - 1)
    return Division(nodes, 30_000, (first, *others))


def test_costs_are_found_again_from_what_they_would_give():
    found = [measured(COSTS, nodes) for nodes in (1, 2, 3)]

    costs = fit(found, matches=300)

    assert (costs.take_us, costs.read_us, costs.match_us) == pytest.approx((50.0, 20.0, 0.5))
    assert check_model(costs, found) < 0.001


def test_a_model_that_does_not_fit_says_so():
    found = [measured(COSTS, nodes) for nodes in (1, 2)]
    found.append(Division(3, 30_000, (900.0, 900.0, 900.0)))

    assert check_model(fit(found, matches=300), found) > 0.2


def test_what_others_match_falls_as_nodes_are_added():
    works = [COSTS.other_us(30_000, nodes) for nodes in (1, 2, 3)]

    assert works == sorted(works, reverse=True)


def test_more_nodes_help_until_reading_alone_is_too_much():
    some = Demand(1_000_000, 10_000, messages_per_s=2_000, fan_out=100)
    too_many = Demand(1_000_000, 10_000, messages_per_s=30_000, fan_out=1)

    least = nodes_for(COSTS, some)

    assert least is not None
    assert answer(COSTS, some, least.nodes - 1).problems
    assert nodes_for(COSTS, too_many) is None


def test_every_node_knows_every_subscription():
    demand = Demand(10_000_000, 0, messages_per_s=0, fan_out=0)

    assert answer(COSTS, demand, 1_000).memory_bytes > 10e9


def test_the_command_says_what_is_too_much(capsys):
    assert main(["--nodes", "3", "--subscriptions", "10000000"]) == 0

    assert "beyond 16 GB" in capsys.readouterr().out
