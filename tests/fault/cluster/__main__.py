"""`python -m tests.fault.cluster`: as many rounds as asked for, and what came of them."""

import argparse
import asyncio
import json
import random
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.fault.cluster.rounds import SETTINGS, Report, Run
from tests.support.cluster import running_cluster
from tests.support.nats import MISSING

#: A feed that stands for longer is looked into, seconds.
GAP_S: Final = 5.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; 1 when a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.fault.cluster", description=__doc__)
    parser.add_argument("--rounds", type=int, default=20, help="how many faults (20)")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="no more rounds after")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    parser.add_argument("--report", type=Path, help="write everything to this JSON file")
    parser.add_argument(
        "--keep", type=Path, help="keep logs and data here when it breaks or a feed stood for long"
    )
    parser.add_argument("--only", default="", help="only faults with this in their names")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="of nodes")
    options = parser.parse_args(arguments)
    if MISSING:
        print(MISSING, file=sys.stderr)
        return 2
    print(f"seed {options.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="cluster-crash-") as name:
        report = run(Path(name), options)
        is_slow = report.gap_s.get("max", 0.0) > GAP_S
        if (report.violations or is_slow) and options.keep is not None:
            shutil.copytree(name, options.keep, dirs_exist_ok=True)
    if options.report is not None:
        options.report.write_text(json.dumps(report.as_document(), indent=2) + "\n")
    print_report(report)
    return 1 if report.violations else 0


def run(directory: Path, options: argparse.Namespace) -> Report:
    """The rounds, on a cluster of their own."""
    settings = SETTINGS | dict(each.split("=", 1) for each in options.set)
    with running_cluster(directory, "--log-json", proxied=True, **settings) as cluster:
        work = Run(
            cluster,
            seed=options.seed,
            say=lambda text: print(text, flush=True),
            only=options.only,
        )
        return asyncio.run(work.work(options.rounds, seconds=options.seconds))


def print_report(report: Report) -> None:
    """The numbers."""
    print(f"\n{report.rounds} rounds in {report.seconds:.0f} s")
    for title, counts in (("", report.kinds), ("", report.counts), ("", report.journal)):
        for name, count in sorted(counts.items()):
            print(f"  {title}{name}: {count}")
    print(f"  longest time that a feed stood, s: {report.gap_s}")
    for kind, gap in report.gap_by_kind_s.items():
        print(f"    {kind}: {gap}")
    print(f"    where no node lacked a processor: {report.gap_unstarved_s}")
    print(f"  longest time without an accepted message, s: {report.answer_gap_s}")
    for text in report.worst:
        print(f"  {text}")
    for text in report.violations:
        print(f"BROKEN {text}")
    print(f"{len(report.violations)} promises broken")


if __name__ == "__main__":
    sys.exit(main())
