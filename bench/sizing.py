"""How large a cluster must be: a small model, and ``python -m bench.sizing`` to ask it.

Its costs are measured by ``python -m bench cluster`` on one, two and three nodes, and by the other
benchmarks; what it says of a hundred nodes is said by the same formulas and was never measured.

A message costs the node that takes it in `take_us`, every node that follows its topic `read_us`,
and the node of each subscription that it matches `match_us` there and `deliver_us` for handing it
out and settling it. Of n nodes, each has its share of subscriptions and of publishers.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

#: Share of a processor that may be used: what is above it is for takeovers and bursts.
LOAD_MAX: Final = 0.5
#: Bytes of a subscription without a client: live on its owner, as a definition on every node.
LIVE_BYTES: Final = 3_400
KNOWN_BYTES: Final = 1_300
LINK_BYTES: Final = 18_000
#: A node that takes over has to take up so many subscriptions a second, and its clients may wait.
TAKEN_PER_S: Final = 5_000
TAKEOVER_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Division:
    """Processor time of each node for a message, microseconds; the first one takes it in."""

    nodes: int
    subscriptions: int
    cpu_us: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Costs:
    """Processor time, microseconds."""

    take_us: float
    read_us: float
    match_us: float
    """For each subscription that a message matches, with nobody there to read it."""
    matches: int
    """Subscriptions that a message matches in all."""
    deliver_us: float = 5.0

    def other_us(self, subscriptions: int, nodes: int) -> float:
        """Of a message on a node that has not taken it in."""
        matched = self.matches if subscriptions else 0
        return self.read_us + self.match_us * matched / nodes

    def first_us(self, subscriptions: int, nodes: int) -> float:
        """Of a message on the node that has taken it in."""
        return self.take_us + self.other_us(subscriptions, nodes)


def fit(found: Sequence[Division], *, matches: int) -> Costs:
    """The costs that come nearest to measurements on one node and on several.

    Least squares of the relative errors. Without subscriptions nobody follows a topic, so only
    measurements with some count.
    """
    rows: list[tuple[list[float], float]] = []
    for each in found:
        for place, measured in enumerate(each.cpu_us if each.subscriptions else ()):
            factors = [1.0 if place == 0 else 0.0, 1.0, matches / each.nodes]
            rows.append(([factor / measured for factor in factors], 1.0))
    matrix = [[sum(r[i] * r[j] for r, _ in rows) for j in range(3)] for i in range(3)]
    right = [sum(r[i] * wanted for r, wanted in rows) for i in range(3)]
    take_us, read_us, match_us = solve(matrix, right)
    return Costs(take_us, max(read_us, 0.0), max(match_us, 0.0), matches)


def solve(matrix: Sequence[Sequence[float]], right: Sequence[float]) -> list[float]:
    """Linear equations, by elimination. Raises ZeroDivisionError when they do not settle it."""
    rows = [[*row, value] for row, value in zip(matrix, right, strict=True)]
    size = len(rows)
    for at in range(size):
        best = max(range(at, size), key=lambda row: abs(rows[row][at]))
        rows[at], rows[best] = rows[best], rows[at]
        rows[at] = [value / rows[at][at] for value in rows[at]]
        for other in range(size):
            if other != at:
                factor = rows[other][at]
                rows[other] = [
                    value - factor * own for value, own in zip(rows[other], rows[at], strict=True)
                ]
    return [row[-1] for row in rows]


def check_model(costs: Costs, found: Sequence[Division]) -> float:
    """How far the model is off for any node with subscriptions, as a share of what was measured."""
    worst = 0.0
    for each in found:
        if not each.subscriptions:
            continue
        for place, measured in enumerate(each.cpu_us):
            said = costs.other_us(each.subscriptions, each.nodes)
            said += costs.take_us if place == 0 else 0.0
            worst = max(worst, abs(said - measured) / measured)
    return worst


@dataclass(frozen=True, slots=True)
class Demand:
    """What is asked of a cluster."""

    subscriptions: int
    clients: int
    """Subscriptions that somebody reads."""
    messages_per_s: float
    fan_out: float
    """Subscriptions that a message matches."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a cluster of so many nodes would do with it."""

    nodes: int
    load: float
    """Processors that each node needs; the service uses one."""
    memory_bytes: float
    takeover_s: float
    """Until the subscriptions of a node that died are all served again."""

    @property
    def problems(self) -> list[str]:
        """What is too much."""
        return [
            text
            for text, wrong in (
                ("a node needs more processor time than it may use", self.load > LOAD_MAX),
                ("memory is beyond 16 GB a node", self.memory_bytes > 16e9),
                ("a takeover takes longer than 5 s", self.takeover_s > TAKEOVER_S),
            )
            if wrong
        ]


def answer(costs: Costs, demand: Demand, nodes: int) -> Answer:
    """Size a cluster of so many nodes."""
    per_message = costs.take_us / nodes + costs.read_us
    per_message += (costs.match_us + costs.deliver_us) * demand.fan_out / nodes
    owned = demand.subscriptions / nodes
    memory = owned * LIVE_BYTES + demand.subscriptions * KNOWN_BYTES
    memory += demand.clients / nodes * LINK_BYTES + 200e6
    taken = owned / max(nodes - 1, 1)
    return Answer(
        nodes=nodes,
        load=demand.messages_per_s * per_message / 1e6,
        memory_bytes=memory,
        takeover_s=2.5 + taken / TAKEN_PER_S,
    )


def nodes_for(costs: Costs, demand: Demand, *, most: int = 1_000) -> Answer | None:
    """The smallest cluster that can do it; None when none can: adding nodes does not help."""
    for nodes in range(3, most + 1):
        found = answer(costs, demand, nodes)
        if not found.problems:
            return found
    return None


def ceiling_per_s(costs: Costs) -> float:
    """Messages a second of all topics that every node reads, at which nodes do nothing else."""
    return LOAD_MAX * 1e6 / costs.read_us


def main(arguments: Sequence[str] | None = None) -> int:
    """Ask the model."""
    parser = argparse.ArgumentParser(prog="python -m bench.sizing", description=__doc__)
    parser.add_argument("--subscriptions", type=int, default=10_000_000)
    parser.add_argument("--clients", type=int, default=100_000)
    parser.add_argument("--messages", type=float, default=5_000.0, help="a second")
    parser.add_argument("--fan-out", type=float, default=10.0)
    parser.add_argument("--nodes", type=int, default=100)
    for name, default in (("take-us", 60.0), ("read-us", 25.0), ("match-us", 1.0)):
        parser.add_argument(f"--{name}", type=float, default=default, help="measured on a machine")
    options = parser.parse_args(arguments)
    costs = Costs(options.take_us, options.read_us, options.match_us, 0)
    demand = Demand(options.subscriptions, options.clients, options.messages, options.fan_out)
    found = answer(costs, demand, options.nodes)
    print(
        f"{found.nodes} nodes: {found.load:.2f} of a processor each, "
        f"{found.memory_bytes / 1e9:.1f} GB, takeover {found.takeover_s:.1f} s"
    )
    for problem in found.problems:
        print(f"  {problem}")
    least = nodes_for(costs, demand)
    print(f"least: {least.nodes} nodes" if least else "no number of nodes can do this")
    print(f"nodes that follow all of it can read {ceiling_per_s(costs):,.0f} messages a second")
    return 0


if __name__ == "__main__":
    sys.exit(main())
