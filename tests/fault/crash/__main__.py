"""`python -m tests.fault.crash`: as many crash points as asked for, and the numbers at the end."""

import argparse
import asyncio
import random
import sys
import time

from tests.fault.crash.points import choose
from tests.fault.crash.rounds import SEQUENCE, Report, run_points

#: Kills after which it says how far it is.
EVERY = 60


def main() -> int:
    """Run; 1 when a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.fault.crash", description=__doc__)
    parser.add_argument("--points", type=int, default=60, help="how many kills")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    parser.add_argument("--first", type=int, default=0, help="number of the first point")
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    begun = time.monotonic()
    total = Report()
    end = options.first + options.points
    for first in range(options.first, end, SEQUENCE):
        points = [choose(options.seed, index) for index in range(first, min(first + SEQUENCE, end))]
        report = asyncio.run(run_points(points, seed=options.seed))
        total.add(report)
        for text in report.violations:
            print(f"BROKEN {text}", flush=True)
        if total.points % EVERY < SEQUENCE:
            print(f"{total.points} kills, {len(total.violations)} promises broken", flush=True)
    print_report(total, time.monotonic() - begun)
    return 1 if total.violations else 0


def print_report(report: Report, seconds: float) -> None:
    """The numbers."""
    missed = sum(report.missed.values())
    print(f"\n{report.points} kills in {seconds:.0f} s, {missed} of them after the time was up")
    for name in sorted(report.reached | report.missed):
        text = f", {report.missed[name]} not reached" if report.missed[name] else ""
        print(f"  {name:20} {report.reached[name]:5}{text}")
    for name, count in sorted(report.counts.items()):
        print(f"  {name}: {count}")
    print(f"  longest seen after it should have been reaped: {report.overdue_s:.2f} s")
    print(f"{len(report.violations)} promises broken")


if __name__ == "__main__":
    sys.exit(main())
