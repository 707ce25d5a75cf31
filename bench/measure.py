"""One measurement: broker up, receivers attached, publisher runs, everything counted."""

import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

from bench.children import Child
from bench.clients import (
    Endpoint,
    ReceiverReport,
    SenderReport,
    start_receiver,
    start_sender,
)
from bench.errors import RunError
from bench.peers import BROKERS, OURS, check_filters
from bench.procfs import Usage, read_usage
from bench.workload import Workload

# Beyond the sending time: a backlog may take as long again, and more.
FINISH_FACTOR = 10
FINISH_BASE_S = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What one round of one workload on one broker gave."""

    broker: str
    workload: Workload
    round: int
    settle: str
    """The settle mode that ran; a broker may not offer the one asked for."""
    publish_rate: float
    """Accepted messages a second, from the first send to the last outcome."""
    deliver_rate: float
    """Deliveries a second over all subscriptions, from the first to the last."""
    sent: int
    expected: int
    """Deliveries that had to come: accepted messages times fan-out."""
    received: int
    uneven_links: int
    """Subscriptions whose count differs from what their filter selects."""
    disordered: int
    broker_cpu_s: float
    broker_idle_rss_bytes: int
    """Resident memory with all links attached, before the first message."""
    broker_peak_rss_bytes: int
    sender: SenderReport
    receiver: ReceiverReport

    @property
    def problems(self) -> list[str]:
        """Everything that makes the numbers worthless; empty for a good run."""
        found = [
            f"{self.expected - self.received} deliveries lost" * (self.received < self.expected),
            f"{self.received - self.expected} deliveries too many"
            * (self.received > self.expected),
            f"{self.uneven_links} subscriptions with a wrong count" * bool(self.uneven_links),
            f"{self.disordered} deliveries out of order" * bool(self.disordered),
            f"{self.receiver.foreign} deliveries altered" * bool(self.receiver.foreign),
            f"{self.sender.refused} messages refused" * bool(self.sender.refused),
            f"{self.receiver.unaccepted} settlements refused" * bool(self.receiver.unaccepted),
            f"{self.receiver.received - self.receiver.settled} deliveries not settled"
            * (self.receiver.settled < self.receiver.received),
            f"{self.sent - self.sender.accepted} messages without an outcome"
            * (self.sent > self.sender.accepted + self.sender.refused),
            f"publisher: {self.sender.error}" * bool(self.sender.error),
            f"receiver: {self.receiver.error}" * bool(self.receiver.error),
        ]
        return [problem for problem in found if problem]

    def as_json(self) -> dict[str, Any]:
        """All fields for the results file."""
        workload = {name: getattr(self.workload, name) for name in Workload.__slots__}
        own = {
            name: getattr(self, name)
            for name in Result.__slots__
            if name not in {"workload", "sender", "receiver"}
        }
        return {
            **own,
            "workload": workload,
            "problems": self.problems,
            "sender": {name: getattr(self.sender, name) for name in SenderReport.__slots__},
            "receiver": {name: getattr(self.receiver, name) for name in ReceiverReport.__slots__},
        }


def in_turn(
    workloads: Sequence[Workload],
    brokers: Sequence[str],
    *,
    rounds: int,
    work_dir: Path,
    pinned: bool = False,
    lenient: bool = False,
    peer_seconds: float | None = None,
) -> list[Result]:
    """Every workload, round by round, on one broker after the other.

    Brokers take turns within a round, so that a slow minute of the machine hits all of them.

    Args:
        workloads: What to measure.
        brokers: Keys of `BROKERS`, in the order of each round.
        rounds: How often each.
        work_dir: Where the brokers' directories are made.
        pinned: Keep hotpath on the first processor and its clients on the others.
        lenient: A peer takes no part in what it cannot do, and one that fails is reported and
            left out of the rest of the workload; otherwise that ends everything.
        peer_seconds: Sending time of peers, if not the workload's.

    Raises:
        BenchError: If a broker or a client fails to run.
    """
    results: list[Result] = []
    for workload in workloads:
        left = [name for name in brokers if BROKERS[name].filters or not workload.selective]
        for round_number, name in product(range(1, rounds + 1), left if lenient else brokers):
            if name not in left and lenient:
                continue
            try:
                result = measure(
                    name,
                    workload if name == OURS else _shortened(workload, peer_seconds),
                    round_number=round_number,
                    work_dir=work_dir,
                    pinned=pinned and name == OURS,
                )
            except RunError as error:
                if not lenient or name == OURS:
                    raise
                left.remove(name)
                print(f"{workload.label}: {name} is left out: {error}", file=sys.stderr)
                continue
            results.append(result)
            print(_line(result), file=sys.stderr, flush=True)
    return results


def _shortened(workload: Workload, seconds: float | None) -> Workload:
    return workload if seconds is None else replace(workload, seconds=seconds)


def _line(result: Result) -> str:
    verdict = "; ".join(result.problems) or "complete"
    return (
        f"{result.workload.label}: {result.broker} round {result.round}: "
        f"{result.publish_rate:,.0f} published/s, {result.deliver_rate:,.0f} delivered/s, {verdict}"
    )


def count_uneven(workload: Workload, accepted: int, per_link: Sequence[int]) -> int:
    """How many links did not get exactly the messages that their filter selects.

    Objects are published in turn, so the first ``accepted % objects`` of them have one more.
    """
    if not workload.selective:
        return sum(count != accepted for count in per_link)
    rounds, rest = divmod(accepted, workload.objects)
    wanted = (rounds + (index % workload.objects < rest) for index in range(len(per_link)))
    return sum(count != want for count, want in zip(per_link, wanted, strict=True))


def pin(child_pid: int, cpus: set[int]) -> None:
    """Keep a process, and what it starts from now on, on some processors."""
    for task in Path(f"/proc/{child_pid}/task").iterdir():
        os.sched_setaffinity(int(task.name), cpus)


def _transfer(
    endpoint: Endpoint, workload: Workload, directory: Path, cpus: set[int] | None
) -> tuple[SenderReport, ReceiverReport, Usage]:
    timeout_s = FINISH_BASE_S + FINISH_FACTOR * workload.seconds
    with start_receiver(endpoint, workload, directory) as receiver:
        _pin_client(receiver, cpus)
        idle = read_usage(endpoint.pid)
        with start_sender(endpoint, workload, directory) as sender:
            _pin_client(sender, cpus)
            sent = SenderReport.parse(sender.finish(timeout_s))
        receiver.tell(str(sent.accepted * workload.fan_out))
        received = ReceiverReport.parse(receiver.finish(timeout_s))
    return sent, received, idle


def _pin_client(client: Child, cpus: set[int] | None) -> None:
    if cpus is not None:
        pin(client.pid, cpus)


def measure(
    broker: str, workload: Workload, *, round_number: int, work_dir: Path, pinned: bool = False
) -> Result:
    """Run one workload once on one broker, from an empty directory.

    Args:
        broker: A key of ``BROKERS``.
        workload: What to send and receive.
        round_number: Which repetition this is.
        work_dir: Where the broker's directory is made, and removed afterwards.
        pinned: Give the broker the first processor and the clients the others.

    Raises:
        BenchError: If the broker or a client fails to run.
    """
    check_filters(broker, workload)
    processors = sorted(os.sched_getaffinity(0))
    if pinned and len(processors) < 2:
        raise RunError("pinning needs two processors")
    with (
        tempfile.TemporaryDirectory(prefix=f"bench-{broker}-", dir=work_dir) as name,
        BROKERS[broker].start(workload, Path(name)) as endpoint,
    ):
        if pinned:
            pin(endpoint.pid, {processors[0]})
        clients = set(processors[1:]) if pinned else None
        sent, received, idle = _transfer(endpoint, workload, Path(name), clients)
        usage = read_usage(endpoint.pid)
    return Result(
        broker=broker,
        workload=workload,
        round=round_number,
        settle=endpoint.settle,
        publish_rate=sent.rate,
        deliver_rate=received.rate,
        sent=sent.sent,
        expected=sent.accepted * workload.fan_out,
        received=received.received,
        uneven_links=count_uneven(workload, sent.accepted, received.per_link),
        disordered=received.disordered,
        broker_cpu_s=usage.cpu_since(idle),
        broker_idle_rss_bytes=idle.rss_bytes,
        broker_peak_rss_bytes=usage.rss_peak_bytes,
        sender=sent,
        receiver=received,
    )
