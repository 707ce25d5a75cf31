"""`python -m tests.soak`: mixed load with random faults for as long as asked, and the numbers."""

import argparse
import asyncio
import logging
import random
import shutil
import sys
import tempfile
from pathlib import Path

from tests.soak.run import Report, Soak
from tests.soak.service import Service


def main() -> int:
    """Run; 1 when something is broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=1800.0)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    options = parser.parse_args()
    print(f"seed {options.seed}, {options.seconds:.0f} s", flush=True)
    # The SDK tells of each connection that is cut.
    logging.getLogger("azure").setLevel(logging.CRITICAL)
    directory = Path(tempfile.mkdtemp(prefix="hotpath-soak-"))
    service = Service(directory)
    try:
        service.start()
        report = asyncio.run(Soak(service, seconds=options.seconds, seed=options.seed).work())
    finally:
        service.close()
    print_report(report)
    if report.violations:
        print(f"kept in {directory}")
        return 1
    shutil.rmtree(directory, ignore_errors=True)
    return 0


def print_report(report: Report) -> None:
    """The numbers."""
    print(f"\n{report.seconds:.0f} s, {report.chapters} chapters, {len(report.lives)} lives")
    for name, count in sorted(report.counts.items()):
        print(f"  {name}: {count}")
    slope = report.slope
    told = "too short to tell" if slope is None else f"{slope / 1e6:+.3f} MB a minute"
    sizes = [size for _, size in report.steady]
    if sizes:
        told += f" ({sizes[0] / 1e6:.1f} to {sizes[-1] / 1e6:.1f} MB)"
    print(f"  resident memory: at most {report.rss_max / 1e6:.1f} MB; slope of a life {told}")
    ends = [life.descriptors[-1] for life in report.lives if life.descriptors]
    print(f"  open files: at most {report.descriptors_max}, after the chapters {ends}")
    for text, count in report.log.most_common(20):
        print(f"  log, {count}: {text}")
    for violation in report.violations:
        print(f"BROKEN {violation}")
    print(f"{len(report.violations)} promises broken")


if __name__ == "__main__":
    sys.exit(main())
