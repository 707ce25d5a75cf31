"""Is one commit slower than another? ``python -m bench guard BASE`` (``make bench-compare BASE=…``).

Both commits are built, each into a virtual environment of its own, and run in turn on this
machine: base, head, head, base, base, head … Whatever else the machine does hits both, so what is
looked at is each pair. For every measure the logarithms of the ratios head/base of all pairs are
averaged, and a sign-flip permutation test says how often chance alone would give an average as far
from 0: without a difference, each pair might as well have come out the other way round. With
several measures the limit is divided by their number (Bonferroni). A change counts when it is both
beyond chance and larger than `--tolerance`; exit status 1 when one is for the worse.
"""

import argparse
import hashlib
import math
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path

from bench.errors import RunError, UsageError
from bench.measure import Result, measure
from bench.places import peers_directory
from bench.report import Row, costs_us, render, write_document
from bench.stats import Interval, bootstrap, sign_flip
from bench.workload import Workload, default_connections

CHECKOUT = Path(__file__).parents[1]
#: The working tree as it is, uncommitted changes included.
TREE = "tree"
ALPHA = 0.05
ROUNDS_MIN = 6
SEED = 7
BUILD_TIMEOUT_S = 900.0


@dataclass(frozen=True, slots=True)
class Measure:
    """One thing that is compared, pair by pair."""

    workload: str
    name: str
    more_is_better: bool
    base: tuple[float, ...]
    head: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the pairs of one measure say."""

    workload: str
    name: str
    change: float
    """Geometric mean of head/base, less 1."""
    interval: Interval
    """Bootstrap interval of the change, 95 %."""
    chance: float
    """How often a difference as large comes without any cause."""
    is_beyond_noise: bool
    is_worse: bool


def judge(measures: Sequence[Measure], *, tolerance: float) -> list[Verdict]:
    """A verdict for each measure; together they are wrong in 5 % of runs without a change."""
    limit = ALPHA / max(1, len(measures))
    return [_judge_one(each, limit, tolerance) for each in measures]


def _judge_one(each: Measure, limit: float, tolerance: float) -> Verdict:
    logs = [math.log(new / old) for old, new in zip(each.base, each.head, strict=True)]
    chance = sign_flip(logs, random.Random(SEED))
    change = math.exp(sum(logs) / len(logs)) - 1
    beyond = chance <= limit and abs(change) > tolerance
    low, high = bootstrap(logs, random.Random(SEED))
    return Verdict(
        workload=each.workload,
        name=each.name,
        change=change,
        interval=Interval(math.exp(low) - 1, math.exp(high) - 1),
        chance=chance,
        is_beyond_noise=beyond,
        is_worse=beyond and (change < 0) == each.more_is_better,
    )


# Building


def resolve(reference: str) -> str:
    """The commit that a name stands for; the tree stays the tree.

    Raises:
        UsageError: If there is no such commit.
    """
    if reference == TREE:
        return TREE
    found = _git("rev-parse", "--verify", "--quiet", f"{reference}^{{commit}}")
    if found.returncode:
        raise UsageError(f"{reference!r} is no commit of this repository")
    return found.stdout.strip()


def _git(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["git", "-C", str(CHECKOUT), *arguments], capture_output=True, text=True, check=False
    )


def build(commit: str) -> Path:
    """The `hotpath` command of a commit, in a virtual environment that is kept for next time.

    Raises:
        RunError: If it cannot be built.
    """
    if commit == TREE:
        return _build_into(_tree_key(), _copy_tree)
    return _build_into(commit, lambda place: _check_out(commit, place))


def _tree_key() -> str:
    """A name for the working tree's content."""
    digest = hashlib.sha256()
    for name in _tree_files():
        path = CHECKOUT / name
        if path.is_file() and name.startswith(("hotpath/", "qel/", "setup", "pyproject")):
            digest.update(f"{name}\0".encode() + path.read_bytes())
    return f"{TREE}-{digest.hexdigest()[:16]}"


def _tree_files() -> list[str]:
    listed = _git("ls-files", "-z", "--cached", "--others", "--exclude-standard")
    return sorted(name for name in listed.stdout.split("\0") if name)


def _copy_tree(place: Path) -> None:
    for name in _tree_files():
        source = CHECKOUT / name
        if source.is_file():
            target = place / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)


def _check_out(commit: str, place: Path) -> None:
    added = _git("worktree", "add", "--detach", "--force", str(place), commit)
    if added.returncode:
        raise RunError(f"{commit} cannot be checked out: {added.stderr[-800:]}")


def _build_into(key: str, lay_out: Callable[[Path], None]) -> Path:
    home = peers_directory() / "builds" / key
    command = home / "bin" / "hotpath"
    if command.exists():
        return command
    print(f"building {key[:16]}", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="bench-build-") as name:
        place = Path(name) / "tree"
        try:
            lay_out(place)
            _run([sys.executable, "-m", "venv", str(home)])
            pip = [str(home / "bin/python"), "-m", "pip", "install", "--quiet"]
            _run([*pip, "--disable-pip-version-check", str(place)])
        except RunError:
            shutil.rmtree(home, ignore_errors=True)
            raise
        finally:
            _git("worktree", "remove", "--force", str(place))
    return command


def _run(command: Sequence[str]) -> None:
    made = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=BUILD_TIMEOUT_S
    )
    if made.returncode:
        raise RunError(f"{command[0]} failed: {made.stderr[-1500:]}")


# Measuring


@contextmanager
def _using(command: Path) -> Iterator[None]:
    """Measure this hotpath."""
    before = os.environ.get("HOTPATH_BENCH_COMMAND")
    os.environ["HOTPATH_BENCH_COMMAND"] = str(command)
    try:
        yield
    finally:
        if before is None:
            del os.environ["HOTPATH_BENCH_COMMAND"]
        else:
            os.environ["HOTPATH_BENCH_COMMAND"] = before


def run_pairs(
    commands: Mapping[str, Path], workloads: Sequence[Workload], *, rounds: int, work_dir: Path
) -> dict[tuple[str, str], list[Result]]:
    """All rounds of base and head, by workload and side; who goes first alternates.

    Raises:
        RunError: If a round is not complete.
    """
    found: dict[tuple[str, str], list[Result]] = {}
    for number, workload in product(range(1, rounds + 1), workloads):
        for side in ("base", "head") if number % 2 else ("head", "base"):
            with _using(commands[side]):
                result = measure("hotpath", workload, round_number=number, work_dir=work_dir)
            if result.problems:
                raise RunError(f"{side}, {workload.label}: {'; '.join(result.problems)}")
            found.setdefault((workload.label, side), []).append(result)
            cost = costs_us([result])[0]
            print(
                f"{workload.label}: {side} round {number}: {result.deliver_rate:,.0f} "
                f"delivered/s, {cost:.2f} us/delivery",
                file=sys.stderr,
                flush=True,
            )
    return found


def measures_of(found: Mapping[tuple[str, str], Sequence[Result]]) -> list[Measure]:
    """What is compared: deliveries a second, and processor time for each."""
    measures = []
    for label in dict.fromkeys(label for label, _ in found):
        base, head = found[label, "base"], found[label, "head"]
        rates = [tuple(one.deliver_rate for one in side) for side in (base, head)]
        costs = [tuple(costs_us(side)) for side in (base, head)]
        measures += [
            Measure(label, "deliveries/s", True, *rates),
            Measure(label, "us/delivery", False, *costs),
        ]
    return measures


def add_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """The options."""
    parser = commands.add_parser("guard", help="two commits in turn: is the difference real?")
    parser.add_argument("base", help="a commit")
    parser.add_argument("--head", default="HEAD", help=f"a commit, or {TREE!r}: as it lies (HEAD)")
    parser.add_argument("--fan-out", default="1,10", metavar="N,N")
    parser.add_argument("--subscriptions", type=int, help="selective filters, as for throughput")
    parser.add_argument("--rounds", type=int, default=10, help="pairs (10)")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--tolerance", type=float, default=3.0, metavar="PERCENT",
        help="changes below this never count (3)")  # fmt: skip
    parser.add_argument("--work-dir", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--out", type=Path, help="write all numbers to this JSON file")


def _workloads(options: argparse.Namespace) -> list[Workload]:
    try:
        fan_outs = [int(text) for text in options.fan_out.split(",")]
    except ValueError as error:
        raise UsageError(f"--fan-out: expected numbers like 1,10: {error}") from error
    return [
        Workload(
            fan_out=fan_out,
            subscriptions=options.subscriptions or fan_out,
            message_bytes=323,
            seconds=options.seconds,
            rate=None,
            window=1_000,
            credit=1_000,
            connections=default_connections(options.subscriptions or fan_out),
            settle="second",
        )
        for fan_out in fan_outs
    ]


def check_rounds(rounds: int, measures: int) -> None:
    """Refuse what could never say anything.

    Raises:
        UsageError: If so few pairs cannot be beyond chance whatever they are.
    """
    needed = max(ROUNDS_MIN, math.ceil(math.log2(2 * measures / ALPHA)))
    if rounds < needed:
        raise UsageError(f"--rounds: at least {needed} pairs can tell a difference from chance")


def run(options: argparse.Namespace) -> int:
    """Build, measure, judge and print; 1 when head is slower beyond noise."""
    loads = _workloads(options)
    check_rounds(options.rounds, 2 * len(loads))
    commits = {"base": resolve(options.base), "head": resolve(options.head)}
    commands = {side: build(commit) for side, commit in commits.items()}
    found = run_pairs(commands, loads, rounds=options.rounds, work_dir=options.work_dir)
    verdicts = judge(measures_of(found), tolerance=options.tolerance / 100)
    print(table(verdicts))
    worse = [each for each in verdicts if each.is_worse]
    print(f"\n{summary(verdicts)}")
    if options.out is not None:
        runs = [{**commits, **asdict(each)} for each in verdicts]
        write_document(options.out, runs, options.work_dir)
        print(f"written: {options.out}", file=sys.stderr)
    return 1 if worse else 0


def summary(verdicts: Sequence[Verdict]) -> str:
    """The result in a sentence."""
    beyond = [each for each in verdicts if each.is_beyond_noise]
    if any(each.is_worse for each in beyond):
        return "head is slower than base, beyond noise"
    if beyond:
        return "head is faster than base, beyond noise"
    unseen = max((high - low) / 2 for low, high in (each.interval for each in verdicts))
    return f"no difference beyond noise; one below some {unseen:.0%} would not have been seen"


def table(verdicts: Sequence[Verdict]) -> str:
    """One line a measure."""
    rows: list[Row] = [("workload", "measure", "head to base", "95 % interval", "chance", "says")]
    for each in verdicts:
        low, high = each.interval
        said = "SLOWER" if each.is_worse else "faster" if each.is_beyond_noise else "noise"
        rows.append(
            (
                each.workload,
                each.name,
                f"{each.change:+.1%}",
                f"{low:+.1%} to {high:+.1%}",
                f"{each.chance:.4f}",
                said,
            )
        )
    return render(rows)
