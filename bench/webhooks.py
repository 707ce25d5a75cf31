"""How fast events reach webhooks, and what a dead and a slow endpoint cost the others.

The whole service as its users run it, on disk with fsync: values go in over REST, events go out to
a receiver of its own process. Two measurements: deliveries a second as fast as it goes, and at a
fixed rate the age of events at healthy endpoints, with all endpoints healthy and with one of them
dead and one that takes 14 seconds for each answer. These two run side by side, each with a service
of its own, so that whatever else the machine does hits both.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from bench.children import Child, free_port
from bench.errors import RunError
from bench.hotpath_broker import Addresses, hotpath_command, mint_token
from bench.procfs import Usage, read_usage
from bench.stats import ratio, summarise

SETTINGS = {
    "HOTPATH_RATE_LIMIT": "1000000/second",
    "HOTPATH_WEBHOOK_ALLOW_HTTP": "1",
    "HOTPATH_WEBHOOK_ALLOW_NETWORKS": "127.0.0.0/8",
}
BASE = "/streaming/v1/partitions/bench"
READY_S = 30.0
#: Values of one body, and bodies under way at a time when it goes as fast as it can.
SLICE = 200
SENDERS = 4


@dataclass(frozen=True, slots=True)
class Plan:
    """One round."""

    endpoints: int
    points: int
    """Of each stream."""
    seconds: float
    rate: int | None
    """Values a second; None: as fast as they are accepted."""
    troubled: bool
    """Whether the last two endpoints are a dead and a slow one."""
    secret: bool = True


@contextmanager
def service(directory: Path) -> Iterator[tuple[str, str, int]]:
    """A running service: its address, a token, and its process."""
    data_dir = directory / "data"
    command = [*hotpath_command(), "serve", "--data-dir", str(data_dir)]
    command += ["--http", "127.0.0.1:0", "--amqp", "127.0.0.1:0"]
    with Child(command, log=directory / "hotpath.log", environment=SETTINGS) as child:
        addresses = Addresses.parse(child.read_line(READY_S))
        yield addresses.http, mint_token(data_dir), child.pid


class Stage:
    """A service and its receiver, running; a context manager."""

    def __init__(self) -> None:
        self._exits = ExitStack()

    def __enter__(self) -> "Stage":
        directory = Path(self._exits.enter_context(tempfile.TemporaryDirectory()))
        sink = [sys.executable, "-m", "bench.webhook_sink"]
        self.receiver = self._exits.enter_context(Child(sink, log=directory / "sink.log"))
        self.http, self.token, self.pid = self._exits.enter_context(service(directory))
        self.port = int(self.receiver.read_line(READY_S))
        self.before: Usage | None = None
        return self

    def __exit__(self, *_: object) -> None:
        self._exits.close()

    def mark(self) -> None:
        """The measurement begins now."""
        self.receiver.tell("mark")
        self.before = read_usage(self.pid)

    def report(self) -> dict[str, float]:
        """What was received, once nothing more comes, and what that cost."""
        result = _settled_report(self.receiver)
        usage = read_usage(self.pid)
        if self.before is not None:
            cpu_s = usage.cpu_since(self.before)
            result["service_us"] = cpu_s / max(result["count"], 1) * 1e6
        result["peak_mb"] = usage.rss_peak_bytes / 1e6
        return result


def run_together(*plans: Plan) -> list[dict[str, float]]:
    """One round of each plan, all at the same time: what their receivers measured.

    Whatever else the machine does hits all alike. Raises RunError when something does not answer
    as it should.
    """

    async def publish(stages: Sequence[Stage]) -> Sequence[float]:
        pairs = zip(plans, stages, strict=True)
        return await asyncio.gather(*(_publish(plan, stage) for plan, stage in pairs))

    with ExitStack() as exits:
        stages = [exits.enter_context(Stage()) for _ in plans]
        rates = asyncio.run(publish(stages))
        results = [stage.report() for stage in stages]
    for result, rate in zip(results, rates, strict=True):
        result["published_rate"] = rate
    return results


def _settled_report(receiver: Child) -> dict[str, float]:
    """The receiver's report once nothing more comes."""
    before = -1.0
    while True:
        receiver.tell("report")
        report: dict[str, float] = json.loads(receiver.read_line(READY_S))
        if report["count"] == before:
            return report
        before = report["count"]
        time.sleep(0.5)


async def _publish(plan: Plan, stage: Stage) -> float:
    """Create the streams and publish for the time of the round; values accepted a second."""
    headers = {"Authorization": f"Bearer {stage.token}"}
    async with aiohttp.ClientSession(stage.http, headers=headers) as session:
        healthy = await _create(session, plan, stage.port)
        for _ in range(3):
            await _send(session, healthy[:SLICE])  # Connections are there, code is warm.
        await asyncio.sleep(1)
        stage.mark()
        senders = SENDERS if plan.rate is None else 1
        return sum(
            await asyncio.gather(
                *(_keep_sending(session, plan, healthy, first=n) for n in range(senders))
            )
        )


async def _keep_sending(
    session: aiohttp.ClientSession, plan: Plan, healthy: Sequence[str], *, first: int
) -> float:
    """Publish for the time of the round; values accepted a second."""
    begun = time.monotonic()
    sent = 0
    at = first * SLICE
    while (now := time.monotonic()) < begun + plan.seconds:
        if plan.rate is not None and sent >= (now - begun) * plan.rate:
            await asyncio.sleep(0.005)
            continue
        count = SLICE if plan.rate is None else max(1, plan.rate // 50)
        points = [healthy[(at + n) % len(healthy)] for n in range(count)]
        if at % plan.endpoints < count:  # The last two endpoints get as much as any other.
            turn = at // plan.endpoints % plan.points
            points += [f"dead-{turn}", f"slow-{turn}"]
        await _send(session, points)
        sent += count
        at += count if plan.rate else count * SENDERS
    return sent / (time.monotonic() - begun)


async def _create(session: aiohttp.ClientSession, plan: Plan, port: int) -> list[str]:
    """One stream an endpoint; the points of the healthy ones, one of each in turn."""
    healthy = plan.endpoints - 2
    for index in range(plan.endpoints):
        points = [f"p{index}-{n}" for n in range(plan.points)]
        url = f"http://127.0.0.1:{port}/{index}"
        if index >= healthy:
            name = "dead" if index == healthy else "slow"
            points = [f"{name}-{n}" for n in range(plan.points)]
        if plan.troubled and index == healthy:
            url = f"http://127.0.0.1:{free_port()}/"
        elif plan.troubled and index == healthy + 1:
            url = f"http://127.0.0.1:{port}/slow"
        body: dict[str, object] = {"webhookUrl": url, "pointIds": points}
        if plan.secret:
            body["webhookSecret"] = "webhook-secret-key"
        path = f"{BASE}/streams?type=point-stream"
        async with session.post(path, json=body) as response:
            if response.status != 201:
                raise RunError(f"POST {path}: {response.status} {await response.text()}")
    return [f"p{index}-{n}" for n in range(plan.points) for index in range(healthy)]


async def _send(session: aiohttp.ClientSession, points: Sequence[str]) -> None:
    """Publish one value of each point: the moment it is due."""
    now_ns = time.monotonic_ns()
    values = [{"id": point, "value": str(now_ns)} for point in points]
    async with session.post(f"{BASE}/points/values", json=values) as response:
        if response.status not in (200, 202):
            raise RunError(f"points: {response.status} {await response.text()}")
        await response.read()


def add_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """`python -m bench webhooks`."""
    parser = commands.add_parser("webhooks", help="deliveries to webhooks, and their isolation")
    parser.add_argument("--endpoints", type=int, default=100)
    parser.add_argument("--points", type=int, default=10, help="points of each stream (10)")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each round (10)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rate", type=int, default=500, help="values/s of the isolation rounds")
    parser.add_argument("--only", choices=("throughput", "isolation"))
    parser.add_argument("--out", type=Path, help="write all numbers to this JSON file")


def run(options: argparse.Namespace) -> int:
    """Measure and print; the exit status."""
    results: dict[str, list[dict[str, float]]] = {}
    if options.only != "isolation":
        results["throughput"] = [_together(options, "throughput")[0] for _ in range(options.rounds)]
        rates = summarise([each["rate"] for each in results["throughput"]])
        print(f"throughput: {rates.median:,.0f} deliveries/s to {options.endpoints} endpoints "
              f"({rates.low:,.0f} to {rates.high:,.0f})")  # fmt: skip
    if options.only != "throughput":
        results["healthy"], results["troubled"] = [], []
        for _ in range(options.rounds):
            pair = _together(options, "healthy", "troubled")
            results["healthy"].append(pair[0])
            results["troubled"].append(pair[1])
        _print_isolation(options, results)
    if options.out is not None:
        options.out.write_text(json.dumps(results, indent=1) + "\n")
    return 0


def _together(options: argparse.Namespace, *kinds: str) -> list[dict[str, float]]:
    plans = [
        Plan(
            endpoints=options.endpoints,
            points=options.points,
            seconds=options.seconds,
            rate=None if kind == "throughput" else options.rate,
            troubled=kind == "troubled",
        )
        for kind in kinds
    ]
    results = run_together(*plans)
    for kind, result in zip(kinds, results, strict=True):
        shown = ", ".join(f"{name} {value:,.1f}" for name, value in result.items())
        print(f"{kind}: {shown}", file=sys.stderr)
    return results


def _print_isolation(
    options: argparse.Namespace, results: dict[str, list[dict[str, float]]]
) -> None:
    for name in ("p50_ms", "p99_ms"):
        healthy = [each[name] for each in results["healthy"]]
        troubled = [each[name] for each in results["troubled"]]
        both = ratio(troubled, healthy)
        print(
            f"{name} of healthy endpoints at {options.rate}/s: {summarise(healthy).median:.2f} all "
            f"healthy, {summarise(troubled).median:.2f} with one dead and one slow, "
            f"ratio {both.median:.3f} ({both.low:.3f} to {both.high:.3f})"
        )
