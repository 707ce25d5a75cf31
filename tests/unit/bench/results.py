"""Builders of workloads and results for the tests of the benchmark."""

from dataclasses import replace
from typing import Any

from bench.clients import ReceiverReport, SenderReport
from bench.measure import Result
from bench.workload import Workload

WORKLOAD = Workload(
    fan_out=1,
    subscriptions=1,
    message_bytes=323,
    seconds=1.0,
    rate=None,
    window=100,
    credit=100,
    connections=1,
    settle="second",
)
SENDER = SenderReport(
    sent=1000,
    accepted=1000,
    refused=0,
    elapsed_s=1.0,
    rate=1000.0,
    cpu_s=0.1,
    accept_latency={},
    per_second=[1000],
    error="",
)
RECEIVER = ReceiverReport(
    received=1000,
    settled=1000,
    unaccepted=0,
    foreign=0,
    disordered=0,
    elapsed_s=1.0,
    rate=1000.0,
    cpu_s=0.1,
    per_link=[1000],
    latency={"p50": 500.0, "p90": 600.0, "p99": 700.0, "p99_9": 800.0, "max": 900.0},
    per_second=[1000],
    error="",
)


def make_workload(**changes: Any) -> Workload:
    """A small workload with some fields changed."""
    return replace(WORKLOAD, **changes)


def make_result(*, fan_out: int = 1, **changes: Any) -> Result:
    """A complete round of a thousand messages with some fields changed."""
    good = Result(
        broker="hotpath",
        workload=make_workload(fan_out=fan_out, subscriptions=fan_out),
        round=1,
        settle="second",
        publish_rate=1000.0,
        deliver_rate=1000.0,
        sent=1000,
        expected=1000,
        received=1000,
        uneven_links=0,
        disordered=0,
        broker_cpu_s=0.5,
        broker_idle_rss_bytes=1_000_000,
        broker_peak_rss_bytes=2_000_000,
        sender=SENDER,
        receiver=RECEIVER,
    )
    return replace(good, **changes)
