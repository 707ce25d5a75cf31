"""How large a cluster must be: a small model, and ``python -m bench.sizing`` to ask it.

Its costs are measured by ``python -m bench cluster`` on one, two and three nodes; what it says of a
hundred nodes is said by the same formulas and was never measured.

A node's processor time is the sum of what it has to do: to be there, to take batches and their
messages in, to read every batch of its topics and the messages in it, to match, to hand out and
have settled, and to keep connections. Of n nodes, each has its share of subscriptions, publishers
and receivers; all of them read everything.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import Final

#: Share of a processor that may be used: what is above it is for takeovers and bursts.
LOAD_MAX: Final = 0.5
LINK_BYTES: Final = 18_000
#: A node that takes over has to take up so many subscriptions a second, and its clients may wait.
TAKEN_PER_S: Final = 5_000
TAKEOVER_S: Final = 5.0
#: Until others begin to take over.
NOTICED_S: Final = 2.5
MEMORY_MAX: Final = 16e9
#: A node commits what has come meanwhile so often, seconds: that makes its batches.
COMMIT_S: Final = 0.002
#: A share of a processor that nobody sizes a cluster by: of less, errors are told as shares of it.
LEAST: Final = 0.025


@dataclass(frozen=True, slots=True)
class Amounts:
    """What a node had to do, or what each of these costs; always in this order."""

    seconds: float = 0.0
    """Of being there."""
    taken_batches: float = 0.0
    """Taken in from publishers and stored."""
    taken: float = 0.0
    """Messages in them."""
    read_batches: float = 0.0
    """Read from the log, by every node."""
    read: float = 0.0
    """Messages in them."""
    matches: float = 0.0
    """A message and one subscription of this node that it matches."""
    deliveries: float = 0.0
    """Handed out and settled, beyond the match."""
    link_seconds: float = 0.0
    """Of connections with a link, for each second."""


@dataclass(frozen=True, slots=True)
class Work:
    """One node in one measurement."""

    load: str
    nodes: int
    node: int
    amounts: Amounts
    cpu_us: float


@dataclass(frozen=True, slots=True)
class Storing:
    """The server that leads the log in one measurement."""

    nodes: int
    seconds: float
    batches: float
    cpu_us: float


@dataclass(frozen=True, slots=True)
class Costs:
    """Processor time in microseconds and memory in bytes."""

    node: Amounts
    store_us: float = 0.0
    """On the server that leads a topic's stream, for each batch."""
    push_us: float = 0.0
    """There, for each batch and node that reads it."""
    base_bytes: float = 90e6
    known_bytes: float = 1_200.0
    """For each subscription of the cluster, on every node."""
    live_bytes: float = 7_000.0
    """For each that a node serves."""

    def said_us(self, amounts: Amounts) -> float:
        """Processor time for some work."""
        pairs = zip(astuple(amounts), astuple(self.node), strict=True)
        return float(sum(amount * cost for amount, cost in pairs))


# Fitting


def fit(works: Sequence[Work]) -> Amounts:
    """The costs that come nearest to what was measured; none of them is below nothing.

    Least squares of the relative errors.
    """
    rows = [[each / work.cpu_us for each in astuple(work.amounts)] for work in works]
    return Amounts(*_least(rows))


def fit_storing(found: Sequence[Storing]) -> tuple[float, float]:
    """The costs of storing a batch, and of pushing it to a node."""
    rows = [
        [each / at.cpu_us for each in (at.seconds, at.batches, at.batches * at.nodes)]
        for at in found
    ]
    _, store_us, push_us = _least(rows)
    return store_us, push_us


def fit_memory(found: Sequence[tuple[int, int, float]]) -> tuple[float, float, float]:
    """Bytes of a node alone, of a known and of a live subscription.

    From how many nodes, subscriptions and bytes there were.
    """
    rows = [
        [each / rss for each in (1.0, float(known), known / nodes)] for nodes, known, rss in found
    ]
    base, known_bytes, live_bytes = _least(rows)
    return base, known_bytes, live_bytes


def _least(rows: Sequence[Sequence[float]]) -> list[float]:
    """Factors of the columns whose sum comes nearest to 1 in every row, none below 0."""
    kept = [at for at in range(len(rows[0])) if any(row[at] for row in rows)]
    while True:
        matrix = [[sum(row[i] * row[j] for row in rows) for j in kept] for i in kept]
        found = dict(
            zip(kept, solve(matrix, [sum(row[i] for row in rows) for i in kept]), strict=True)
        )
        least = min(found, key=lambda at: found[at])
        if found[least] >= 0.0:
            return [found.get(at, 0.0) for at in range(len(rows[0]))]
        kept.remove(least)


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


def errors(costs: Costs, works: Sequence[Work]) -> list[float]:
    """How far the model is off for each, as a share of what was measured, or of `LEAST`."""
    return [
        (costs.said_us(work.amounts) - work.cpu_us)
        / max(work.cpu_us, LEAST * 1e6 * work.amounts.seconds)
        for work in works
    ]


# Sizing


@dataclass(frozen=True, slots=True)
class Demand:
    """What is asked of a cluster."""

    subscriptions: int
    clients: int
    """Subscriptions that somebody reads."""
    messages_per_s: float
    """Of all topics that every node has subscriptions on."""
    fan_out: float
    """Subscriptions that a message matches, each read by a client."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a cluster of so many nodes would do with it."""

    nodes: int
    load: float
    """Processors that each node needs; the service uses one."""
    reading: float
    """Of these, for reading what all nodes read: it stays, however many there are."""
    server_load: float
    """Processors that the server needs which leads the log."""
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
                ("memory is beyond 16 GB a node", self.memory_bytes > MEMORY_MAX),
                ("a takeover takes longer than 5 s", self.takeover_s > TAKEOVER_S),
            )
            if wrong
        ]


def answer(costs: Costs, demand: Demand, nodes: int) -> Answer:
    """Size a cluster of so many nodes."""
    rate = demand.messages_per_s
    batches = rate / max(1.0, rate / nodes * COMMIT_S)
    matches = rate * demand.fan_out / nodes
    reading = Amounts(read_batches=batches, read=rate)
    own = Amounts(
        seconds=1.0,
        taken_batches=batches / nodes,
        taken=rate / nodes,
        matches=matches,
        deliveries=matches,
        link_seconds=demand.clients / nodes,
    )
    owned = demand.subscriptions / nodes
    memory = costs.base_bytes + owned * costs.live_bytes + demand.subscriptions * costs.known_bytes
    return Answer(
        nodes=nodes,
        load=(costs.said_us(own) + costs.said_us(reading)) / 1e6,
        reading=costs.said_us(reading) / 1e6,
        server_load=batches * (costs.store_us + nodes * costs.push_us) / 1e6,
        memory_bytes=memory + demand.clients / nodes * LINK_BYTES,
        takeover_s=NOTICED_S + owned / max(nodes - 1, 1) / TAKEN_PER_S,
    )


def nodes_for(costs: Costs, demand: Demand, *, most: int = 1_000) -> Answer | None:
    """The smallest cluster that can do it; None when none can: adding nodes does not help."""
    for nodes in range(3, most + 1):
        found = answer(costs, demand, nodes)
        if not found.problems:
            return found
    return None


def ceiling_per_s(costs: Costs, *, batch: float) -> float:
    """Messages a second that every node reads, at which nodes do nothing else."""
    return LOAD_MAX * 1e6 / (costs.node.read + costs.node.read_batches / batch)


def as_json(costs: Costs) -> str:
    """Costs as `read_costs` takes them."""
    return json.dumps(asdict(costs), indent=2)


def read_costs(path: Path) -> Costs:
    """Costs from a file. Raises OSError, ValueError, TypeError."""
    read = json.loads(path.read_text())
    return Costs(Amounts(**read.pop("node")), **read)


def _said(costs: Costs, demand: Demand, nodes: int) -> None:
    found = answer(costs, demand, nodes)
    print(
        f"{found.nodes} nodes: {found.load:.2f} of a processor each ({found.reading:.2f} for "
        f"reading), {found.memory_bytes / 1e9:.1f} GB, takeover {found.takeover_s:.1f} s, "
        f"{found.server_load:.2f} of a processor on the server that leads the log"
    )
    for problem in found.problems:
        print(f"  {problem}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Ask the model."""
    parser = argparse.ArgumentParser(prog="python -m bench.sizing", description=__doc__)
    parser.add_argument("--subscriptions", type=int, default=10_000_000)
    parser.add_argument("--clients", type=int, default=100_000)
    parser.add_argument("--messages", type=float, default=5_000.0, help="a second")
    parser.add_argument("--fan-out", type=float, default=10.0)
    parser.add_argument("--nodes", type=int, default=100)
    parser.add_argument(
        "--costs", type=Path, help="what `python -m bench cluster --costs` has written"
    )
    options = parser.parse_args(arguments)
    try:
        costs = MEASURED if options.costs is None else read_costs(options.costs)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        parser.error(f"--costs: {error}")
    demand = Demand(options.subscriptions, options.clients, options.messages, options.fan_out)
    _said(costs, demand, options.nodes)
    least = nodes_for(costs, demand)
    print(f"least: {least.nodes} nodes" if least else "no number of nodes can do this")
    for batch in (1, 32):
        most = ceiling_per_s(costs, batch=batch)
        print(
            f"nodes that follow all of it can read {most:,.0f} messages a second at {batch} a batch"
        )
    return 0


#: As measured on the machine that docs/scaling.md names.
MEASURED: Final = Costs(
    Amounts(
        seconds=12_070.0,
        taken_batches=1_093.0,
        taken=11.5,
        read_batches=489.0,
        read=2.8,
        matches=2.9,
        deliveries=11.1,
        link_seconds=66.0,
    ),
    store_us=183.0,
    push_us=87.0,
    base_bytes=89e6,
    known_bytes=1_190.0,
    live_bytes=6_960.0,
)

if __name__ == "__main__":
    sys.exit(main())
