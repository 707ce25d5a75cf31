"""What a cluster costs: ``python -m bench cluster``.

Throughput for each second of processor time, of the service alone and of a node of a cluster, in
turn; then the work of each node while the same subscriptions are divided among one, two and three
of them, and whether the model of `bench.sizing` says the same. These subscriptions are created in a
service alone and brought into the cluster with `hotpath migrate`.
"""

import argparse
from collections.abc import Sequence
from dataclasses import asdict, replace
from statistics import mean
from typing import Final

from bench.division import ALL_MATCH, LOADS, NODES, Found, divide
from bench.measure import in_turn
from bench.peers import NODE, NODE_OF_THREE, OURS
from bench.report import Row, render, throughput_table, write_document
from bench.sizing import (
    Amounts,
    Costs,
    Work,
    as_json,
    errors,
    fit,
    fit_memory,
    fit_storing,
)
from bench.workload import Workload

#: Of the subscriptions, one in so many matches a message.
OBJECTS: Final = 100
#: Beyond this the model is no good, as a share of what was measured.
ERROR_MAX: Final = 0.35
#: The model is made without these, and has to say them all the same.
HELD_OUT: Final = 2


def _load(fan_out: int, subscriptions: int, *, seconds: float) -> Workload:
    return Workload(
        fan_out=fan_out,
        subscriptions=subscriptions,
        message_bytes=323,
        seconds=seconds,
        rate=None,
        window=1_000,
        credit=1_000,
        connections=min(10, subscriptions),
        settle="second",
    )


def summed(works: Sequence[Work]) -> list[Work]:
    """Rounds of the same measurement as one."""
    groups: dict[tuple[str, int, int], list[Work]] = {}
    for work in works:
        groups.setdefault((work.load, work.nodes, work.node), []).append(work)
    return [Work(*key, _sum(group), sum(w.cpu_us for w in group)) for key, group in groups.items()]


def _sum(group: Sequence[Work]) -> Amounts:
    names = Amounts.__dataclass_fields__
    return Amounts(**{name: sum(getattr(w.amounts, name) for w in group) for name in names})


def model_of(found: Found) -> tuple[Costs, list[Work]]:
    """The costs, made without what was measured on `HELD_OUT` nodes; and all that was measured."""
    works = summed(found.works)
    node = fit([work for work in works if work.nodes != HELD_OUT])
    storing = [each for each in found.storing if each.nodes != HELD_OUT]
    return Costs(node, *fit_storing(storing), *fit_memory(found.memory)), works


def division_table(works: Sequence[Work], costs: Costs) -> str:
    """One line for each load and number of nodes: processor time of the nodes, and as it is said."""
    rows: list[Row] = [("load", "nodes", "first node ms/s", "others ms/s", "said: first, others",
                        "off by")]  # fmt: skip
    for load in LOADS:
        for nodes in NODES:
            group = [w for w in works if w.load == load.name and w.nodes == nodes]
            used = [w.cpu_us / 1e3 / w.amounts.seconds for w in group]
            said = [costs.said_us(w.amounts) / 1e3 / w.amounts.seconds for w in group]
            off = max(errors(costs, group), key=abs)
            rows.append((load.name, str(nodes), f"{used[0]:.0f}", _mean(used[1:]),
                         f"{said[0]:.0f}, {_mean(said[1:])}", f"{100 * off:+.0f} %"))  # fmt: skip
    return render(rows)


def _mean(values: Sequence[float]) -> str:
    return f"{mean(values):.0f}" if values else "-"


def matching_table(works: Sequence[Work], costs: Costs) -> str:
    """What matching takes on a node for each message: what is left without all else."""
    rows: list[Row] = [("nodes", "matches a message and node", "us of matching a message and node")]
    for nodes in NODES:
        group = [w for w in works if w.load == ALL_MATCH and w.nodes == nodes]
        rest = [costs.said_us(replace(w.amounts, matches=0)) for w in group]
        spent = mean((w.cpu_us - r) / w.amounts.read for w, r in zip(group, rest, strict=True))
        matches = mean(w.amounts.matches / w.amounts.read for w in group)
        rows.append((str(nodes), f"{matches:.0f}", f"{spent:.0f}"))
    return render(rows)


def cost_table(costs: Costs) -> str:
    """What each thing costs."""
    rows: list[Row] = [("what", "us")]
    rows += [
        (name.replace("_", " "), f"{value:,.2f}") for name, value in asdict(costs.node).items()
    ]
    rows += [("stored batch, on its server", f"{costs.store_us:,.2f}"),
             ("batch and reader, on its server", f"{costs.push_us:,.2f}")]  # fmt: skip
    return render(rows)


def run(options: argparse.Namespace) -> int:
    """Measure, print, and write what was asked for; 1 when a bound did not hold."""
    results = [] if options.division_only else in_turn(
        [_load(10, 10, seconds=options.seconds)],
        [OURS, NODE, NODE_OF_THREE],
        rounds=options.rounds,
        work_dir=options.work_dir,
    )  # fmt: skip
    if results:
        print(throughput_table(results) + "\n")
    found = divide(options.subscriptions, matches=options.subscriptions // OBJECTS,
                   seconds=options.seconds, rounds=options.rounds, work_dir=options.work_dir)  # fmt: skip
    costs, works = model_of(found)
    for table in (division_table(works, costs), matching_table(works, costs), cost_table(costs)):
        print(table + "\n")
    print(f"memory, bytes: {costs.base_bytes / 1e6:.0f} MB a node, {costs.known_bytes:,.0f} a known "
          f"and {costs.live_bytes:,.0f} more a live subscription")  # fmt: skip
    wrong = [abs(each) for each in errors(costs, works)]
    held_out = [abs(each) for each in errors(costs, [w for w in works if w.nodes == HELD_OUT])]
    print(f"the model is off by {100 * max(wrong):.0f} % at most, by {100 * max(held_out):.0f} % on "
          f"{HELD_OUT} nodes, which it was made without")  # fmt: skip
    if options.costs is not None:
        options.costs.write_text(as_json(costs) + "\n")
    if options.out is not None:
        document = [*(result.as_json() for result in results), *map(asdict, works), asdict(costs)]
        write_document(options.out, document, options.work_dir)
    good = not any(result.problems for result in results)
    return 0 if good and max(wrong) <= ERROR_MAX else 1
