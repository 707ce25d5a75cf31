"""What standing by costs: ``python -m bench idle``.

Memory for each subscription that nobody reads and for each idle connection with a link, and the
latency of a good client beside them all.
"""

import argparse
import asyncio
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.abuse import good_client, scene, workload
from bench.clients import Endpoint, Login, start_receiver
from bench.hotpath_broker import create_many
from bench.procfs import read_usage
from bench.report import render, write_document
from bench.workload import Workload

#: What is promised, bytes.
LINK_BYTES_MAX = 60_000
SUBSCRIPTION_BYTES_MAX = 4_096


@dataclass(frozen=True, slots=True)
class Finding:
    """One round."""

    subscriptions: int
    links: int
    start_bytes: int
    subscription_bytes: float
    """Resident memory for each subscription."""
    link_bytes: float
    """Resident memory for each connection with a link, on top."""
    quiet_ms: float
    beside_ms: float
    """The good client's p99, alone and beside the idle ones."""
    complete: bool

    @property
    def kept(self) -> bool:
        """Whether the bounds held."""
        small = self.subscription_bytes < SUBSCRIPTION_BYTES_MAX
        return self.complete and small and self.link_bytes < LINK_BYTES_MAX


def _idle(subscriptions: int, links: int) -> Workload:
    """Subscriptions to objects that nobody publishes, each link on its own connection."""
    return Workload(
        fan_out=1,
        subscriptions=subscriptions,
        message_bytes=323,
        seconds=1,
        rate=None,
        window=1,
        credit=100,
        connections=links,
        settle="second",
    )


def examine(subscriptions: int, links: int, *, seconds: float, work_dir: Path) -> Finding:
    """One round on a broker of its own.

    Raises:
        BenchError: If the broker or a client fails to run.
    """
    load, idle = workload(seconds), _idle(subscriptions, subscriptions)
    with tempfile.TemporaryDirectory(prefix="bench-idle-", dir=work_dir) as name:
        directory = Path(name)
        with scene(load, directory) as stage:
            quiet = good_client(stage.endpoint, load, directory)
            pid = stage.endpoint.pid
            start = read_usage(pid).rss_bytes
            found = asyncio.run(create_many(stage.http, stage.token, idle, prefix="idle"))
            with_subscriptions = read_usage(pid).rss_bytes
            endpoint = Endpoint(
                server=stage.endpoint.server,
                publish_address=stage.endpoint.publish_address,
                publisher=stage.endpoint.publisher,
                subscriber=Login(user="bench"),
                links=tuple(found[:links]),
                pid=pid,
                settle="second",
            )
            apart = directory / "idle"
            apart.mkdir()
            with start_receiver(endpoint, _idle(links, links), apart):
                with_links = read_usage(pid).rss_bytes
                beside = good_client(stage.endpoint, load, directory)
    return Finding(
        subscriptions=subscriptions,
        links=links,
        start_bytes=start,
        subscription_bytes=(with_subscriptions - start) / subscriptions,
        link_bytes=(with_links - with_subscriptions) / links,
        quiet_ms=quiet.p99_ms,
        beside_ms=beside.p99_ms,
        complete=quiet.complete and beside.complete,
    )


def run(options: argparse.Namespace) -> int:
    """Examine, print, and write what was asked for; 1 when a bound did not hold."""
    findings = [
        examine(
            options.subscriptions,
            min(options.links, options.subscriptions),
            seconds=options.seconds,
            work_dir=options.work_dir,
        )
        for _ in range(options.rounds)
    ]
    rows = [("idle", "bytes/subscription", "bytes/link", "p99 quiet ms", "p99 beside ms", "ok")]
    rows += [
        (
            f"{each.subscriptions:,} subscriptions, {each.links:,} links",
            f"{each.subscription_bytes:,.0f}",
            f"{each.link_bytes:,.0f}",
            f"{each.quiet_ms:.1f}",
            f"{each.beside_ms:.1f}",
            "yes" if each.kept else "NO",
        )
        for each in findings
    ]
    print(render(rows))
    if options.out is not None:
        write_document(options.out, [asdict(each) for each in findings], options.work_dir)
        print(f"written: {options.out}", file=sys.stderr)
    return 0 if all(each.kept for each in findings) else 1
