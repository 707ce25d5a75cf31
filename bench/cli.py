"""The command line of ``python -m bench``; without arguments it lists what can be measured."""

import argparse
import signal
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from pathlib import Path
from types import FrameType

from bench import (
    abuse,
    backlog,
    cluster,
    everything,
    guard,
    idle,
    plot,
    report,
    rest,
    self_test,
    webhooks,
)
from bench.crowd import KINDS
from bench.errors import BenchError, RunError, UsageError
from bench.measure import in_turn
from bench.peers import OURS, PEERS, installed
from bench.workload import Workload, default_connections

EXIT_OK, EXIT_FAILED, EXIT_USAGE = 0, 1, 2


def positive_integers(text: str) -> tuple[int, ...]:
    """A comma-separated list of positive integers."""
    try:
        values = tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"expected numbers like 1,10, not {text!r}") from error
    if any(value < 1 for value in values):
        raise argparse.ArgumentTypeError("numbers must be at least 1")
    return values


def positive_number(text: str) -> float:
    """A finite number above 0."""
    try:
        value = float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"expected a number, not {text!r}") from error
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError("must be above 0")
    return value


def positive_integer(text: str) -> int:
    """One integer above 0."""
    values = positive_integers(text)
    if len(values) != 1:
        raise argparse.ArgumentTypeError("expected one number")
    return values[0]


def peer_names(text: str) -> tuple[str, ...]:
    """A comma-separated list of peers."""
    names = tuple(text.split(","))
    unknown = [name for name in names if name not in PEERS]
    if unknown:
        raise argparse.ArgumentTypeError(f"no such peer: {', '.join(unknown)}")
    return names


def _add_workload_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--fan-out", type=positive_integers, default=(1,), metavar="N,N")
    add("--size", type=positive_integers, default=(323,), metavar="BYTES,…", help="message sizes")
    add("--subscriptions", type=positive_integers, metavar="N,N",
        help="subscriptions in all, selecting by objectId (default: the fan-out, no selection)")  # fmt: skip
    add("--seconds", type=positive_number, default=10.0, help="sending time of a run (10)")
    add("--rounds", type=positive_integer, default=3)
    add("--window", type=positive_integer, default=1000, help="publisher's unsettled limit (1000)")
    add("--credit", type=positive_integer, default=1000, help="credit of a receiving link (1000)")
    add("--connections", type=positive_integer,
        help="receiving connections (default: one a subscription, at most 100)")  # fmt: skip
    add("--settle", choices=("second", "first", "delete"), default="second")
    add("--pin", action="store_true", help="broker on one processor, clients on the others")
    add("--work-dir", type=Path, default=Path(tempfile.gettempdir()),
        help="where brokers keep their files; a real disk, or fsync measures nothing")  # fmt: skip
    add("--out", type=Path, help="write all numbers to this JSON file")


def _add_standing_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    standing = commands.add_parser("idle", help="memory for subscriptions and links at rest")
    standing.add_argument("--links", type=positive_integer, default=10_000)
    away = commands.add_parser("backlog", help="start and catch-up with a full log")
    away.add_argument("--messages", type=positive_integer, default=1_000_000)
    for command in (standing, away):
        command.add_argument("--subscriptions", type=positive_integer, default=10_000)
        command.add_argument("--seconds", type=positive_number, default=5.0,
            help="of the client beside it (5)")  # fmt: skip
        command.add_argument("--rounds", type=positive_integer, default=1)
        command.add_argument("--work-dir", type=Path, default=Path(tempfile.gettempdir()))
        command.add_argument("--out", type=Path, help="write all numbers to this JSON file")


def build_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    throughput = commands.add_parser("throughput", help="as fast as hotpath accepts")
    latency = commands.add_parser("latency", help="publish to receive at fixed rates")
    latency.add_argument("--rates", type=positive_integers, default=(1000, 10000), metavar="N,N")
    peer = commands.add_parser("peer", help="hotpath and another broker in turn, with ratios")
    peer.add_argument("peer", choices=PEERS)
    peer.add_argument("--peer-only", action="store_true", help="leave hotpath out")
    compare = commands.add_parser("compare", help="hotpath and every installed peer in turn")
    compare.add_argument("--peers", type=peer_names, metavar="NAME,…",
        help="only these: " + ", ".join(PEERS))  # fmt: skip
    compare.add_argument("--plot", type=Path, help="draw it into this PNG")
    for command in (peer, compare):
        command.add_argument("--rates", type=positive_integers, metavar="N,N", help="fixed rates")
    for command in (throughput, latency, peer, compare):
        _add_workload_options(command)
    bad = commands.add_parser("abuse", help="a good client beside thousands of bad ones")
    bad.add_argument("--kind", action="append", choices=KINDS, help="only this one (repeatable)")
    bad.add_argument("--count", type=positive_integer, default=5_000, help="bad connections (5000)")
    bad.add_argument("--seconds", type=positive_number, default=10.0)
    bad.add_argument("--rounds", type=positive_integer, default=3, help="medians of (3)")
    bad.add_argument("--work-dir", type=Path, default=Path(tempfile.gettempdir()))
    _add_standing_commands(commands)
    many = commands.add_parser("cluster", help="a node of a cluster beside the service alone")
    many.add_argument("--subscriptions", type=positive_integer, default=30_000)
    many.add_argument("--seconds", type=positive_number, default=5.0)
    many.add_argument("--rounds", type=positive_integer, default=2)
    many.add_argument("--division-only", action="store_true", help="leave the throughput out")
    many.add_argument("--costs", type=Path, help="write the model's costs, for bench.sizing")
    many.add_argument("--work-dir", type=Path, default=Path(tempfile.gettempdir()))
    many.add_argument("--out", type=Path, help="write all numbers to this JSON file")
    rest.add_command(commands)
    everything.add_commands(commands)
    guard.add_command(commands)
    webhooks.add_command(commands)
    clients = commands.add_parser("clients", help="sender straight to receiver: their limit")
    clients.add_argument("--size", type=positive_integers, default=(323,), metavar="BYTES,…")
    clients.add_argument("--count", type=positive_integer, default=1_000_000)
    clients.add_argument("--rounds", type=positive_integer, default=3)
    return parser


def workloads(options: argparse.Namespace) -> list[Workload]:
    """The grid that the options span.

    Raises:
        UsageError: If a point of it is impossible.
    """
    rates: Sequence[int | None] = getattr(options, "rates", None) or (None,)
    grid = product(options.fan_out, options.subscriptions or (None,), options.size, rates)
    return [
        Workload(
            fan_out=fan_out,
            subscriptions=subscriptions or fan_out,
            message_bytes=size,
            seconds=options.seconds,
            rate=rate,
            window=options.window,
            credit=options.credit,
            connections=options.connections or default_connections(subscriptions or fan_out),
            settle=options.settle,
        )
        for fan_out, subscriptions, size, rate in grid
    ]


def brokers(options: argparse.Namespace) -> list[str]:
    """Which brokers take part, in the order of each round."""
    if options.command == "peer":
        return [options.peer] if options.peer_only else [OURS, options.peer]
    if options.command != "compare":
        return [OURS]
    there, missing = installed()
    for name in options.peers or missing:
        if name in missing:
            print(f"note: {name} is left out: {missing[name]}", file=sys.stderr)
    return [OURS, *(name for name in options.peers or there if name in there)]


def _compare(options: argparse.Namespace) -> int:
    workloads(options)  # wrong options end here, before anything is started
    if not options.work_dir.is_dir():
        raise UsageError(f"--work-dir: {options.work_dir} is not a directory")
    about = report.environment(options.work_dir)
    if about["file_system"] == "tmpfs":
        print("note: --work-dir is in memory; fsync costs nothing there", file=sys.stderr)
    results = in_turn(
        workloads(options),
        brokers(options),
        rounds=options.rounds,
        work_dir=options.work_dir,
        pinned=options.pin,
        lenient=options.command == "compare",
    )
    print(report.throughput_table(results))
    if any(result.workload.rate is not None for result in results):
        print("\n" + report.latency_table(results))
    for peer in sorted({result.broker for result in results} - {OURS}):
        found = report.ratios(results, OURS, peer)
        if found:
            print("\n" + report.ratio_table(found, OURS, peer))
    if getattr(options, "plot", None) is not None:
        plot.draw_results(results, options.plot)
    if options.out is not None:
        report.write_json(options.out, results, about)
    return EXIT_FAILED if any(result.problems for result in results) else EXIT_OK


#: Commands with a table of their own.
ALONE: Mapping[str, Callable[[argparse.Namespace], int]] = {
    "abuse": abuse.run,
    "all": everything.run,
    "backlog": backlog.run,
    "clients": self_test.run,
    "cluster": cluster.run,
    "docs": everything.write_docs,
    "guard": guard.run,
    "idle": idle.run,
    "rest": rest.run,
    "webhooks": webhooks.run,
}


def _stop(_number: int, _frame: FrameType | None) -> None:
    raise RunError("stopped by SIGTERM")  # unwinds every `with`, so no child is left behind


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status: 0 done, 1 failed or lossy, 2 wrong usage."""
    options = build_parser().parse_args(arguments)
    previous = signal.signal(signal.SIGTERM, _stop)
    try:
        return ALONE.get(options.command, _compare)(options)
    except UsageError as error:
        print(f"bench: {error}", file=sys.stderr)
        return EXIT_USAGE
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt:
        print("bench: stopped", file=sys.stderr)
        return EXIT_FAILED
    finally:
        signal.signal(signal.SIGTERM, previous)
