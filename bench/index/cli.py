"""The command line: `python -m bench.index`."""

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

from bench import report
from bench.errors import UsageError
from bench.index.adversarial import adversarial
from bench.index.measure import Cost, measure
from bench.index.plot import draw
from bench.index.workloads import MAKERS, Workload, workloads
from bench.report import Row, render
from hotpath.interpreter import tune_interpreter

EXIT_OK, EXIT_FAILED, EXIT_USAGE = 0, 1, 2

SIZES = (10, 100, 1_000, 10_000, 100_000)


def _sizes(text: str) -> tuple[int, ...]:
    try:
        sizes = tuple(int(word.replace("_", "")) for word in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError("expected numbers, such as 10,1000") from None
    if not all(1 <= size <= 1_000_000 for size in sizes):
        raise argparse.ArgumentTypeError("a size is 1 to 1,000,000 filters")
    return sizes


def build_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.index", description=__doc__)
    add = parser.add_argument
    add("--workloads", default=",".join(MAKERS), metavar="NAME,…",
        help=f"{', '.join(MAKERS).replace('%', '%%')} (all); empty: none")  # fmt: skip
    add("--sizes", type=_sizes, default=SIZES, metavar="N,N", help="numbers of filters")
    add("--adversarial", type=int, default=0, metavar="N", help="also sets of N dear filters")
    add("--rounds", type=int, default=5, help="rounds of which the median is taken (5)")
    add("--seed", type=int, default=1, help="seed of filters and messages (1)")
    add("--out", type=Path, help="write all numbers to this JSON file")
    add("--plot", type=Path, help="write a plot to this PNG file (needs matplotlib)")
    return parser


def _chosen(options: argparse.Namespace) -> Iterator[Workload]:
    names = [name for name in options.workloads.split(",") if name]
    unknown = [name for name in names if name not in MAKERS]
    if unknown:
        raise UsageError(f"no workload {unknown[0]}; there are {', '.join(MAKERS)}")
    yield from workloads(names, options.sizes, options.seed)
    if options.adversarial:
        yield from adversarial(options.adversarial)


def table(costs: Sequence[Cost]) -> str:
    """One line a workload and size."""
    rows: list[Row] = [
        ("workload", "filters", "matches", "messages/s", "p50 us", "p99 us", "scan us",
         "x scan", "texts/s", "adds/s", "removes/s", "max add ms", "B/filter"),
    ]  # fmt: skip
    rows += [
        (
            cost.workload,
            f"{cost.filters:,}",
            f"{cost.matches:,.1f}",
            f"{cost.events_per_s:,.0f}",
            f"{cost.p50_us:,.1f}",
            f"{cost.p99_us:,.1f}",
            f"{cost.scan_us:,.0f}",
            f"{cost.speedup:,.1f}",
            f"{cost.compiles_per_s:,.0f}",
            f"{cost.adds_per_s:,.0f}",
            f"{cost.removes_per_s:,.0f}",
            f"{cost.add_max_ms:.1f}",
            f"{cost.bytes_per_filter:,.0f}",
        )
        for cost in costs
    ]
    return render(rows)


def _run(options: argparse.Namespace) -> int:
    # Filters bring no full pass of the collector nearer, so this loop has nothing to do.
    with closing(asyncio.new_event_loop()) as loop:
        leave_as_it_was = tune_interpreter(loop)
        try:
            return _measure_all(options)
        finally:
            leave_as_it_was()


def _measure_all(options: argparse.Namespace) -> int:
    about = report.environment(Path(tempfile.gettempdir()))
    costs = []
    for workload in _chosen(options):
        costs.append(measure(workload, options.rounds))
        last = costs[-1]
        print(
            f"{last.workload}, {last.filters:,} filters: {last.events_per_s:,.0f} messages/s",
            file=sys.stderr,
        )
    print(table(costs))
    if options.out is not None:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        document = {"environment": about, "seed": options.seed, "costs": [*map(asdict, costs)]}
        options.out.write_text(json.dumps(document, indent=1) + "\n")
    if options.plot is not None:
        draw(costs, options.plot)
    return EXIT_OK


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it and return the exit status: 0 done, 1 index and scan disagree, 2 wrong usage."""
    options = build_parser().parse_args(arguments)
    try:
        return _run(options)
    except UsageError as error:
        print(f"bench.index: {error}", file=sys.stderr)
        return EXIT_USAGE
    except AssertionError as error:
        print(f"bench.index: {error}", file=sys.stderr)
        return EXIT_FAILED
