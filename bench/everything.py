"""Everything that the documentation tells: ``python -m bench all``.

Stages, each with all its rounds: the load clients by themselves, fan-out with every installed
peer, large messages, selective filters, latency, memory at rest, start and catch-up, REST calls.
Results are written after each stage, and a run takes up stages into a file that is there already,
so that a stage can be repeated alone. `--docs` puts the tables into the pages and draws the plot;
``python -m bench docs FILE`` does only that.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench import backlog, idle, rest, self_test
from bench.errors import RunError, UsageError
from bench.figures import write_pages
from bench.measure import in_turn
from bench.peers import OURS, installed
from bench.report import environment, section
from bench.workload import Workload, default_connections

FAN_OUTS = (1, 10, 100)
SMALL, LARGE = 323, 4_096
SELECTIVE = (100, 10_000)
RATES = (1_000, 10_000)
#: A broker's start, creating what it needs, and its end; 10,000 subscriptions take longer.
ROUND_OVERHEAD_S, SELECTIVE_OVERHEAD_S = 7.0, 25.0
SECONDS_MIN = 2.0
STANDING = 10_000
LOGGED = 1_000_000

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Plan:
    """How long and how often."""

    rounds: int
    seconds: float
    peer_seconds: float
    peers: tuple[str, ...]
    work_dir: Path


def _load(
    fan_out: int = 1,
    *,
    seconds: float,
    subscriptions: int | None = None,
    size: int = SMALL,
    rate: float | None = None,
) -> Workload:
    """A point of the grid with the usual settings."""
    every = subscriptions or fan_out
    return Workload(
        fan_out=fan_out,
        subscriptions=every,
        message_bytes=size,
        seconds=seconds,
        rate=rate,
        window=1_000,
        credit=1_000,
        connections=default_connections(every),
        settle="second",
    )


def _turns(plan: Plan, loads: Sequence[Workload], peers: Sequence[str]) -> Document:
    results = in_turn(
        loads,
        [OURS, *peers],
        rounds=plan.rounds,
        work_dir=plan.work_dir,
        lenient=True,
        peer_seconds=min(plan.seconds, plan.peer_seconds),
    )
    return section(results)


# Stages


def _clients(plan: Plan, document: Document) -> Document:
    del document
    found = []
    for size in (SMALL, LARGE):
        with tempfile.TemporaryDirectory(prefix="bench-clients-") as name:
            count = 1_000_000 if size == SMALL else 200_000
            rounds = [self_test.transfer(size, count, Path(name)) for _ in range(plan.rounds)]
        rates = [received.rate for _, received in rounds]
        found.append({"message_bytes": size, "rate": statistics.median(rates)})
    return {"runs": found}


def _fan_out(plan: Plan, document: Document) -> Document:
    del document
    loads = [_load(fan_out, seconds=plan.seconds) for fan_out in FAN_OUTS]
    return _turns(plan, loads, plan.peers)


def _large(plan: Plan, document: Document) -> Document:
    del document
    loads = [_load(fan_out, seconds=plan.seconds, size=LARGE) for fan_out in FAN_OUTS]
    return _turns(plan, loads, plan.peers)


def _filters(plan: Plan, document: Document) -> Document:
    del document
    loads = [_load(seconds=plan.seconds, subscriptions=count) for count in SELECTIVE]
    return _turns(plan, loads, ())


def _latency(plan: Plan, document: Document) -> Document:
    """Hotpath at all rates, peers at the lowest, which each of them can do."""
    lowest = _turns(plan, [_load(seconds=plan.seconds, rate=RATES[0])], plan.peers)
    half = round(_maximum(plan, document) / 2)
    rates = [rate for rate in (*RATES[1:], half) if rate > RATES[0]]
    rest_of_it = _turns(plan, [_load(seconds=plan.seconds, rate=rate) for rate in rates], ())
    lowest["summary"] += rest_of_it["summary"]
    lowest["half_of_maximum"] = half
    return lowest


def _maximum(plan: Plan, document: Document) -> float:
    """Messages a second that hotpath takes at fan-out 1: as measured, or found out now."""
    known = document["sections"].get("fan-out") or _turns(
        plan, [_load(seconds=min(plan.seconds, 5.0))], ()
    )
    for line in known["summary"]:
        if line["broker"] == OURS and line["fan_out"] == 1:
            return float(line["publish_rate"]["median"])
    raise RunError("the stage fan-out has no figure for hotpath")


def _idle(plan: Plan, document: Document) -> Document:
    del document
    found = [
        idle.examine(STANDING, STANDING, seconds=5.0, work_dir=plan.work_dir)
        for _ in range(min(plan.rounds, 3))
    ]
    return {"runs": [asdict(each) for each in found]}


def _backlog(plan: Plan, document: Document) -> Document:
    del document
    found = [
        backlog.examine(LOGGED, STANDING, seconds=5.0, work_dir=plan.work_dir)
        for _ in range(plan.rounds)
    ]
    return {"runs": [asdict(each) for each in found]}


def _rest(plan: Plan, document: Document) -> Document:
    del document
    found = [
        rest.examine(5_000, connections=16, tokens=100, work_dir=plan.work_dir)
        for _ in range(plan.rounds)
    ]
    return {"runs": [asdict(each) for each in found]}


STAGES: Mapping[str, Callable[[Plan, Document], Document]] = {
    "clients": _clients,
    "fan-out": _fan_out,
    "large": _large,
    "filters": _filters,
    "latency": _latency,
    "idle": _idle,
    "backlog": _backlog,
    "rest": _rest,
}


# Time


def estimate_s(stage: str, plan: Plan) -> float:
    """How long a stage takes, roughly; a broker's backlog after sending is in the factor 1.3."""
    ours, theirs = 1.3 * plan.seconds, 1.5 * min(plan.seconds, plan.peer_seconds)
    turn = ours + ROUND_OVERHEAD_S + len(plan.peers) * (theirs + ROUND_OVERHEAD_S)
    alone = ours + ROUND_OVERHEAD_S
    return {
        "clients": 8.0 * plan.rounds,
        "fan-out": len(FAN_OUTS) * plan.rounds * turn,
        "large": len(FAN_OUTS) * plan.rounds * turn,
        "filters": plan.rounds * (2 * ours + ROUND_OVERHEAD_S + SELECTIVE_OVERHEAD_S),
        "latency": plan.rounds * (turn + 2 * alone),
        "idle": 70.0 * min(plan.rounds, 3),
        "backlog": 60.0 * plan.rounds,
        "rest": 12.0 * plan.rounds,
    }[stage]


def fit(plan: Plan, stages: Sequence[str], minutes: float | None) -> Plan:
    """The plan with as many seconds a round as the time allows.

    Raises:
        UsageError: If even the shortest rounds take longer.
    """
    while minutes is not None and _total_s(plan, stages) > 60 * minutes:
        if plan.seconds <= SECONDS_MIN:
            least = math_minutes(_total_s(plan, stages))
            raise UsageError(f"--minutes: {plan.rounds} rounds take about {least} at the least")
        plan = Plan(
            rounds=plan.rounds,
            seconds=max(SECONDS_MIN, 0.9 * plan.seconds),
            peer_seconds=max(SECONDS_MIN, 0.9 * plan.peer_seconds),
            peers=plan.peers,
            work_dir=plan.work_dir,
        )
    return plan


def _total_s(plan: Plan, stages: Sequence[str]) -> float:
    return sum(estimate_s(stage, plan) for stage in stages)


def math_minutes(seconds: float) -> int:
    """Whole minutes, at least one."""
    return max(1, round(seconds / 60))


# The command


def stage_names(text: str) -> tuple[str, ...]:
    """A comma-separated list of stages."""
    names = tuple(text.split(","))
    unknown = [name for name in names if name not in STAGES]
    if unknown:
        raise argparse.ArgumentTypeError(f"no such stage: {', '.join(unknown)}")
    return names


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """The options of `all` and `docs`."""
    parser = commands.add_parser("all", help="everything that the documentation tells")
    add = parser.add_argument
    add("--rounds", type=int, default=5, help="of each (5)")
    add("--seconds", type=float, default=60.0, help="sending time of a round of hotpath (60)")
    add("--peer-seconds", type=float, default=20.0, help="of a peer (20)")
    add("--minutes", type=float, help="shorten the rounds so that it takes about as long")
    add("--only", type=stage_names, metavar="STAGE,…", help="of: " + ", ".join(STAGES))
    add("--without-peers", action="store_true", help="leave the peers out")
    add("--work-dir", type=Path, default=Path(tempfile.gettempdir()))
    add("--out", type=Path, default=Path("bench/results/all.json"),
        help="results; stages that are in it already are kept (bench/results/all.json)")  # fmt: skip
    add("--docs", action="store_true", help="then write tables and plot into docs/")
    pages = commands.add_parser("docs", help="tables and plot of docs/ from a file of `all`")
    pages.add_argument("file", type=Path)
    pages.add_argument("--root", type=Path, default=Path(), help="of the checkout (.)")


def read_document(path: Path) -> Document:
    """A file of results.

    Raises:
        UsageError: If it cannot be read as one.
    """
    try:
        document: object = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from error
    if not isinstance(document, dict) or not isinstance(document.get("sections"), dict):
        raise UsageError(f"{path} holds no results of `python -m bench all`")
    return document


def run(options: argparse.Namespace) -> int:
    """Run the stages; 1 when a round was not complete."""
    there, missing = ({}, {}) if options.without_peers else installed()
    for name, reason in missing.items():
        print(f"note: {name} is left out: {reason}", file=sys.stderr)
    stages = options.only or tuple(STAGES)
    wanted = Plan(
        options.rounds, options.seconds, options.peer_seconds, tuple(there), options.work_dir
    )
    plan = fit(wanted, stages, options.minutes)
    minutes = math_minutes(_total_s(plan, stages))
    print(
        f"{plan.rounds} rounds of {plan.seconds:.0f} s, peers {plan.peer_seconds:.0f} s: "
        f"about {minutes} minutes",
        file=sys.stderr,
    )
    document = read_document(options.out) if options.out.exists() else {"sections": {}}
    for stage in stages:
        _run_stage(stage, plan, document)
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(document, indent=1) + "\n")
    print(f"written: {options.out}", file=sys.stderr)
    if options.docs:
        write_pages(document, Path())
    lines = [line for one in stages for line in document["sections"][one].get("summary", ())]
    return 0 if all(line["ok"] for line in lines) else 1


def _run_stage(stage: str, plan: Plan, document: Document) -> None:
    """Run one stage and put what it found into the document."""
    begun = time.monotonic()
    print(f"== {stage}", file=sys.stderr, flush=True)
    about = environment(plan.work_dir)
    found = STAGES[stage](plan, document)
    found["environment"] = about
    found["rounds"] = plan.rounds
    found["seconds"] = round(plan.seconds, 1)
    found["took_s"] = round(time.monotonic() - begun, 1)
    document["sections"][stage] = found


def write_docs(options: argparse.Namespace) -> int:
    """Write the tables and the plot from a file of results."""
    write_pages(read_document(options.file), options.root)
    return 0
