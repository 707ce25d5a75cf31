"""The model of a cluster's size: what it is fitted to it says again, and what it warns of."""

import json
from dataclasses import asdict, replace

import pytest

from bench.sizing import (
    Amounts,
    Costs,
    Demand,
    Storing,
    Work,
    answer,
    as_json,
    ceiling_per_s,
    errors,
    fit,
    fit_memory,
    fit_storing,
    main,
    nodes_for,
    read_costs,
)

NODE = Amounts(
    seconds=10_000.0,
    taken_batches=300.0,
    taken=8.0,
    read_batches=150.0,
    read=4.0,
    matches=0.5,
    deliveries=5.0,
    link_seconds=20.0,
)
COSTS = Costs(NODE, store_us=60.0, push_us=10.0)

#: Batches, messages, matches, deliveries and links of some loads, in five seconds.
LOADS = {
    "nothing": (0, 0, 0, 0, 0),
    "links": (0, 0, 0, 0, 500),
    "singles": (1_000, 1_000, 0, 0, 0),
    "batches": (250, 8_000, 0, 0, 0),
    "matched": (250, 8_000, 2_400_000, 0, 0),
    "read": (250, 8_000, 96_000, 96_000, 12),
}


def works(nodes, costs=COSTS):
    """What each node would do in each of the loads, and how long it would take."""
    found = []
    for load, (batches, messages, matches, deliveries, links) in LOADS.items():
        for node in range(nodes):
            amounts = Amounts(
                seconds=5.0,
                taken_batches=0 if node else batches,
                taken=0 if node else messages,
                read_batches=batches,
                read=messages,
                matches=matches / nodes,
                deliveries=deliveries / nodes,
                link_seconds=5.0 * links / nodes,
            )
            found.append(Work(load, nodes, node, amounts, costs.said_us(amounts)))
    return found


def test_costs_are_found_again_from_what_they_would_give():
    found = [*works(1), *works(3)]

    node = fit(found)

    assert asdict(node) == pytest.approx(asdict(NODE), rel=1e-6)
    assert max(map(abs, errors(Costs(node), works(2)))) < 1e-6


def test_a_batch_is_told_from_its_messages():
    dear = Costs(replace(NODE, read_batches=1_000.0))

    assert fit([*works(1, dear), *works(3, dear)]).read_batches == pytest.approx(1_000.0)


def test_no_cost_is_below_nothing():
    found = [replace(work, cpu_us=work.cpu_us * (0.2 if work.load == "links" else 1.0))
             for work in [*works(1), *works(3)]]  # fmt: skip

    assert min(asdict(fit(found)).values()) >= 0.0


def test_a_model_that_does_not_fit_says_so():
    found = [*works(1), *works(2)]
    found[-1] = replace(found[-1], cpu_us=10 * found[-1].cpu_us)

    assert max(map(abs, errors(Costs(fit(found)), found))) > 0.35


def test_the_server_s_costs_are_found_again():
    found = [
        Storing(nodes, 5.0, batches, 5.0 * 900 + batches * (60.0 + nodes * 10.0))
        for nodes in (1, 2, 3)
        for batches in (0.0, 250.0, 1_000.0)
    ]

    assert fit_storing(found) == pytest.approx((60.0, 10.0))


def test_memory_is_told_apart_by_the_number_of_nodes():
    found = [(1, 0, 90e6), *((n, 30_000, 90e6 + 30_000 * (1_300 + 3_400 / n)) for n in (1, 2, 3))]

    assert fit_memory(found) == pytest.approx((90e6, 1_300.0, 3_400.0))


def test_more_nodes_help_until_reading_alone_is_too_much():
    some = Demand(1_000_000, 10_000, messages_per_s=2_000, fan_out=100)
    too_many = Demand(1_000_000, 10_000, messages_per_s=200_000, fan_out=1)

    least = nodes_for(COSTS, some)

    assert least is not None
    assert answer(COSTS, some, least.nodes - 1).problems
    assert nodes_for(COSTS, too_many) is None


def test_the_more_nodes_publish_the_smaller_are_the_batches_that_all_read():
    demand = Demand(0, 0, messages_per_s=5_000, fan_out=0)
    readings = [answer(COSTS, demand, nodes).reading for nodes in (3, 6, 10, 100)]

    assert readings == sorted(readings)
    assert readings[-1] == pytest.approx(5_000 * (150 + 4) / 1e6), "each message is a batch"
    assert ceiling_per_s(COSTS, batch=32) > 10 * ceiling_per_s(COSTS, batch=1)


def test_every_node_knows_every_subscription():
    demand = Demand(10_000_000, 0, messages_per_s=0, fan_out=0)

    assert answer(COSTS, demand, 1_000).memory_bytes > 10e9


def test_the_command_says_what_is_too_much(capsys):
    assert main(["--nodes", "3", "--subscriptions", "10000000"]) == 0

    assert "beyond 16 GB" in capsys.readouterr().out


def test_costs_are_read_as_they_were_written(tmp_path, capsys):
    path = tmp_path / "costs.json"
    path.write_text(as_json(COSTS))

    assert read_costs(path) == COSTS
    assert main(["--costs", str(path), "--nodes", "3", "--subscriptions", "1000"]) == 0
    assert "3 nodes" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["", "[]", "{}", json.dumps({"node": {"x": 1}})])
def test_what_is_no_file_of_costs_is_refused(tmp_path, capsys, text):
    path = tmp_path / "costs.json"
    path.write_text(text)

    with pytest.raises(SystemExit):
        main(["--costs", str(path)])
    assert "--costs" in capsys.readouterr().err
