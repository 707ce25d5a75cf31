"""What a cluster costs: ``python -m bench cluster``.

Throughput for each second of processor time, of the service alone and of a node of a cluster, in
turn; then the work of each node while the same subscriptions are divided among one, two and three
of them. These are created in a service alone and brought into the cluster with `hotpath migrate`.
"""

import argparse
import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import aiohttp

from bench.backlog import broker
from bench.children import Child
from bench.clients import SenderReport, build_clients
from bench.cluster_broker import joined, keys_in, servers_up
from bench.errors import RunError
from bench.hotpath_broker import address_of, create_many, hotpath_command, mint_token, post
from bench.measure import in_turn
from bench.peers import NODE, NODE_OF_THREE, OURS
from bench.procfs import read_usage
from bench.report import render, throughput_table, write_document
from bench.sizing import Costs, Division, check_model, fit
from bench.workload import Workload

#: Subscriptions that each message matches.
MATCHES = 300
MIGRATE_S = 300.0
#: Beyond this the model is no good, as a share of what was measured.
ERROR_MAX = 0.35


def _load(fan_out: int, subscriptions: int, *, seconds: float) -> Workload:
    return Workload(
        fan_out=fan_out,
        subscriptions=subscriptions,
        message_bytes=323,
        seconds=seconds,
        rate=None,
        window=1_000,
        credit=1_000,
        connections=min(10, subscriptions),
        settle="second",
    )


@dataclass(frozen=True, slots=True)
class Share:
    """What one node used while messages were published at its cluster."""

    nodes: int
    subscriptions: int
    messages: int
    cpu_us: tuple[float, ...]
    """Processor time for each message, by node; the first one takes them in."""


def _fill(directory: Path, subscriptions: int) -> Path:
    """A data directory with so many subscriptions to a hundred objects."""
    data_dir = directory / "data"
    with broker(data_dir, directory / "embedded.log") as up:
        jwt = mint_token(data_dir)
        if subscriptions:
            load = _load(MATCHES, subscriptions, seconds=1)
            asyncio.run(create_many(up.addresses.http, jwt, load, prefix=""))
    return data_dir


def _migrate(data_dir: Path, servers: str, prefix: str) -> None:
    command = [*hotpath_command(), "migrate", "--data-dir", str(data_dir), "--json"]
    command += ["--cluster", servers, "--cluster-prefix", prefix]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=MIGRATE_S)
    if done.returncode:
        raise RunError(f"not migrated: {done.stderr[-800:]}")


async def _publisher(http: str, jwt: str) -> tuple[str, str]:
    headers = {"Authorization": f"Bearer {jwt}"}
    async with aiohttp.ClientSession(http, headers=headers) as session:
        made = await post(session, "/publishers/variables", {"sasTokenTTL": 300})
    return address_of(made["connectionURL"]), made["sasToken"]


def _publish(server: str, address: str, token: str, *, seconds: float, log: Path) -> int:
    command = [str(build_clients() / "load-send"), "--server", server, "--address", address]
    command += ["--seconds", str(seconds), "--size", "323", "--window", "1000", "--user", "bench"]
    # As fast as it goes: the cost of a commit is shared by many messages, that of matching is not.
    command += ["--objects", "100"]
    with Child(command, log=log, environment={"BENCH_TOKEN": token}) as sender:
        return SenderReport.parse(sender.finish(60 + seconds)).accepted


def share(directory: Path, prefix: str, nodes: int, *, servers: str, seconds: float,
          subscriptions: int, key_dir: Path) -> Share:  # fmt: skip
    """Publish at so many nodes and look at what each uses. Raises RunError."""
    place = directory / f"{prefix}-{nodes}"
    place.mkdir()
    with joined(place, nodes=nodes, servers=servers, prefix=prefix, key_dir=key_dir) as up:
        jwt = mint_token(key_dir)
        address, token = asyncio.run(_publisher(up[0].addresses.http, jwt))
        amqp = up[0].addresses.amqp
        log = place / "load-send.log"
        # Streams, filters and indexes are made at the first message.
        _publish(amqp, address, token, seconds=1, log=log)
        time.sleep(1)
        before = [read_usage(node.pid) for node in up]
        messages = _publish(amqp, address, token, seconds=seconds, log=log)
        time.sleep(0.5)
        used = [read_usage(node.pid).cpu_since(was) for node, was in zip(up, before, strict=True)]
    cpu_us = tuple(round(1e6 * seconds_ / max(messages, 1), 1) for seconds_ in used)
    return Share(nodes, subscriptions, messages, cpu_us)


def divide(subscriptions: int, *, seconds: float, work_dir: Path) -> list[Share]:
    """One, two and three nodes with the same subscriptions, and without any. Raises RunError."""
    found = []
    with ExitStack() as stack:
        name = stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-cl-", dir=work_dir))
        directory = Path(name)
        servers = stack.enter_context(servers_up(directory / "nats", 1))
        urls = ",".join(server.url for server in servers)
        key_dir = keys_in(directory)
        for prefix, count in (("none", 0), ("many", subscriptions)):
            apart = directory / f"fill-{prefix}"
            apart.mkdir()
            _migrate(_fill(apart, count), urls, prefix)
            for nodes in (1, 2, 3):
                found.append(
                    share(directory, prefix, nodes, servers=urls, seconds=seconds,
                          subscriptions=count, key_dir=key_dir)
                )  # fmt: skip
                print(found[-1], file=sys.stderr, flush=True)
    return found


def division_table(found: Sequence[Share], costs: Costs) -> str:
    """One line for each number of nodes, with what the model says."""
    rows = [
        ("subscriptions", "nodes", "first node us/msg", "others us/msg", "model: first, others")
    ]
    for each in found:
        others = each.cpu_us[1:]
        first, other = (
            costs.first_us(each.subscriptions, each.nodes),
            costs.other_us(each.subscriptions, each.nodes),
        )
        mean = f"{sum(others) / len(others):.0f}" if others else "-"
        rows.append(
            (
                f"{each.subscriptions:,}",
                str(each.nodes),
                f"{each.cpu_us[0]:.0f}",
                mean,
                f"{first:.0f}, {other:.0f}" if others else f"{first:.0f}",
            )
        )
    return render(rows)


def run(options: argparse.Namespace) -> int:
    """Measure, print, and write what was asked for; 1 when a bound did not hold."""
    results = in_turn(
        [_load(10, 10, seconds=options.seconds)],
        [OURS, NODE, NODE_OF_THREE],
        rounds=options.rounds,
        work_dir=options.work_dir,
    )
    print(throughput_table(results))
    shares = divide(options.subscriptions, seconds=options.seconds, work_dir=options.work_dir)
    divisions = [Division(each.nodes, each.subscriptions, each.cpu_us) for each in shares]
    costs = fit(divisions, matches=MATCHES)
    error = check_model(costs, divisions)
    print("\n" + division_table(shares, costs))
    print(f"\nthe model is off by {100 * error:.0f} % at most")
    if options.out is not None:
        document = [*(result.as_json() for result in results), *map(asdict, shares), asdict(costs)]
        write_document(options.out, document, options.work_dir)
    good = not any(result.problems for result in results)
    return 0 if good and error <= ERROR_MAX else 1
