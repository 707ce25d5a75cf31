"""A backlog for somebody who was away: ``python -m bench backlog``.

How fast a subscription catches up with a million messages, what memory that takes, what others
notice of it, and how long a start takes with all of it in the log.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.abuse import good_client, workload
from bench.children import Child
from bench.clients import (
    Endpoint,
    Link,
    Login,
    ReceiverReport,
    SenderReport,
    build_clients,
    start_receiver,
)
from bench.errors import RunError
from bench.hotpath_broker import (
    READY_TIMEOUT_S,
    SETTINGS,
    Addresses,
    create_many,
    hotpath_command,
    mint_token,
    prepare,
)
from bench.procfs import read_usage
from bench.report import render, write_document
from bench.workload import Workload

FINISH_TIMEOUT_S = 600.0
#: What is promised.
CATCH_UP_MIN = 100_000.0
START_S_MAX = 5.0
GROWTH_MAX = 200_000_000


@dataclass(frozen=True, slots=True)
class Finding:
    """One round."""

    messages: int
    subscriptions: int
    publish_rate: float
    start_s: float
    """From the command to the ready line, everything in the log."""
    catch_up_rate: float
    """Messages a second, first to last, settled on both sides."""
    growth_bytes: int
    """Peak resident memory of the catch-up over that after the start."""
    quiet_ms: float
    beside_ms: float
    """Another client's p99 at a fixed rate, alone and beside the catch-up."""
    complete: bool

    @property
    def kept(self) -> bool:
        """Whether the bounds held."""
        fast = self.catch_up_rate >= CATCH_UP_MIN and self.start_s < START_S_MAX
        return self.complete and fast and self.growth_bytes < GROWTH_MAX


@dataclass(frozen=True, slots=True)
class Up:
    """A broker that is up."""

    addresses: Addresses
    pid: int
    start_s: float


@contextmanager
def broker(data_dir: Path, log: Path, *, log_level: str = "warning") -> Iterator[Up]:
    """A broker on a data directory. Raises RunError."""
    command = [*hotpath_command(), "serve", "--data-dir", str(data_dir), "--log-level", log_level]
    command += ["--http", "127.0.0.1:0", "--amqp", "127.0.0.1:0"]
    begun = time.monotonic()
    with Child(command, log=log, environment=SETTINGS) as child:
        addresses = Addresses.parse(child.read_line(READY_TIMEOUT_S))
        yield Up(addresses, child.pid, time.monotonic() - begun)


def _load(subscriptions: int) -> Workload:
    return Workload(
        fan_out=1,
        subscriptions=subscriptions,
        message_bytes=323,
        seconds=1,
        rate=None,
        window=4_000,
        credit=4_000,
        connections=1,
        settle="second",
    )


@dataclass(frozen=True, slots=True)
class Feeds:
    """The subscription that is left alone, the other client's, and the publisher."""

    behind: Link
    other: Link
    publish_address: str
    publish_token: str

    def endpoint(self, up: Up, link: Link) -> Endpoint:
        """For a client of one of them."""
        return Endpoint(
            server=up.addresses.amqp,
            publish_address=self.publish_address,
            publisher=Login(user="bench", secret=self.publish_token),
            subscriber=Login(user="bench"),
            links=(link,),
            pid=up.pid,
            settle="second",
        )


def _fill(up: Up, data_dir: Path, *, messages: int, subscriptions: int) -> tuple[Feeds, float]:
    """Create everything and publish the backlog; the publishing rate."""
    jwt = mint_token(data_dir)
    (behind,), address, token = asyncio.run(prepare(up.addresses.http, jwt, _load(1)))
    if subscriptions > 1:
        rest = _load(subscriptions)
        asyncio.run(create_many(up.addresses.http, jwt, rest, prefix="idle"))
    command = [str(build_clients() / "load-send"), "--server", up.addresses.amqp]
    command += ["--address", address, "--count", str(messages), "--size", "323"]
    command += ["--window", "4000", "--user", "bench", "--settle-timeout", "60"]
    log = data_dir.parent / "load-send.log"
    with Child(command, log=log, environment={"BENCH_TOKEN": token}) as sender:
        sent = SenderReport.parse(sender.finish(FINISH_TIMEOUT_S))
    if sent.accepted != messages:
        raise RunError(f"{sent.accepted} of {messages} messages were accepted")
    (other,), *_ = asyncio.run(prepare(up.addresses.http, jwt, _load(1)))
    return Feeds(behind, other, address, token), sent.rate


def _catch_up(
    up: Up, feeds: Feeds, *, messages: int, directory: Path
) -> tuple[ReceiverReport, int, int]:
    """Receive the backlog alone; the report, memory before and at the peak."""
    before = read_usage(up.pid).rss_bytes
    with start_receiver(feeds.endpoint(up, feeds.behind), _load(1), directory) as receiver:
        receiver.tell(str(messages))
        report = ReceiverReport.parse(receiver.finish(FINISH_TIMEOUT_S))
    return report, before, read_usage(up.pid).rss_peak_bytes


def _beside(
    up: Up, feeds: Feeds, again: Link, *, seconds: float, directory: Path
) -> tuple[float, float]:
    """The other client's p99 alone, and while somebody catches up with the same log."""
    load = workload(seconds)
    other = feeds.endpoint(up, feeds.other)
    quiet_ms = good_client(other, load, directory).p99_ms
    apart = directory / "beside"
    apart.mkdir()
    with start_receiver(feeds.endpoint(up, again), _load(1), apart):
        beside_ms = good_client(other, load, directory).p99_ms
    return quiet_ms, beside_ms


def examine(messages: int, subscriptions: int, *, seconds: float, work_dir: Path) -> Finding:
    """One round on a broker of its own.

    Raises:
        BenchError: If the broker or a client fails to run.
    """
    with tempfile.TemporaryDirectory(prefix="bench-backlog-", dir=work_dir) as name:
        directory = Path(name)
        data_dir = directory / "data"
        with broker(data_dir, directory / "first.log") as up:
            feeds, rate = _fill(up, data_dir, messages=messages, subscriptions=subscriptions)
        with broker(data_dir, directory / "second.log") as up:
            start_s = up.start_s
            report, before, peak = _catch_up(up, feeds, messages=messages, directory=directory)
            jwt = mint_token(data_dir)
            from_start = {"startFrom": "earliest"}
            (again,) = asyncio.run(
                create_many(up.addresses.http, jwt, _load(1), prefix="", more=from_start)
            )
            quiet_ms, beside_ms = _beside(up, feeds, again, seconds=seconds, directory=directory)
    return Finding(
        messages=messages,
        subscriptions=subscriptions,
        publish_rate=rate,
        start_s=start_s,
        catch_up_rate=report.rate,
        growth_bytes=peak - before,
        quiet_ms=quiet_ms,
        beside_ms=beside_ms,
        complete=report.received == messages == report.settled and not report.disordered,
    )


def run(options: argparse.Namespace) -> int:
    """Examine, print, and write what was asked for; 1 when a bound did not hold."""
    findings = [
        examine(
            options.messages,
            options.subscriptions,
            seconds=options.seconds,
            work_dir=options.work_dir,
        )
        for _ in range(options.rounds)
    ]
    heads = ("start s", "catch-up/s", "growth MB", "p99 quiet ms", "p99 beside ms", "ok")
    rows = [("backlog", *heads)]
    rows += [
        (
            f"{each.messages:,} messages, {each.subscriptions:,} subscriptions",
            f"{each.start_s:.1f}",
            f"{each.catch_up_rate:,.0f}",
            f"{each.growth_bytes / 1e6:.0f}",
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
