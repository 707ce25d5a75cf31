"""How fast the load clients are by themselves: sender straight to receiver, no broker."""

import argparse
import tempfile
from pathlib import Path

from bench.children import Child
from bench.clients import ReceiverReport, SenderReport, build_clients
from bench.errors import RunError
from bench.report import Row, render, show_rate
from bench.stats import summarise

READY_TIMEOUT_S = 10.0
FINISH_TIMEOUT_S = 300.0


def transfer(size: int, count: int, directory: Path) -> tuple[SenderReport, ReceiverReport]:
    """Send messages from one client to the other.

    Raises:
        RunError: If either fails or a message is lost.
    """
    programs = build_clients()
    receive = [str(programs / "load-recv"), "--listen", "127.0.0.1:0", "--count", str(count)]
    with Child([*receive, "--settle", "first"], log=directory / "load-recv.log") as receiver:
        port = receiver.wait_for_log("ready", READY_TIMEOUT_S).split()[1]
        send = [str(programs / "load-send"), "--server", f"127.0.0.1:{port}"]
        send += ["--address", "bench", "--count", str(count), "--size", str(size)]
        with Child(send, log=directory / "load-send.log") as sender:
            sent = SenderReport.parse(sender.finish(FINISH_TIMEOUT_S))
        received = ReceiverReport.parse(receiver.finish(FINISH_TIMEOUT_S))
    if received.received != count or sent.accepted != count or received.disordered:
        raise RunError(f"clients lost messages: {sent.accepted} of {count} accepted")
    return sent, received


def run(options: argparse.Namespace) -> int:
    """Measure every size and print a table; the exit status."""
    rows: list[Row] = [("message", "messages/s", "sender us", "receiver us")]
    for size in options.size:
        with tempfile.TemporaryDirectory(prefix="bench-clients-") as name:
            rounds = [transfer(size, options.count, Path(name)) for _ in range(options.rounds)]
        rows.append(
            (
                f"{size} B",
                show_rate(summarise([received.rate for _, received in rounds])),
                f"{summarise([1e6 * sent.cpu_s / sent.sent for sent, _ in rounds]).median:.2f}",
                f"{summarise([1e6 * r.cpu_s / r.received for _, r in rounds]).median:.2f}",
            )
        )
    print(render(rows))
    return 0
