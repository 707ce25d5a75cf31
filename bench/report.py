"""Tables for people, JSON for everything else."""

import json
import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.measure import Result
from bench.peers import installed
from bench.stats import Spread, ratio, summarise

Row = tuple[str, ...]


def group(results: Sequence[Result]) -> dict[tuple[str, str], list[Result]]:
    """Rounds of the same workload on the same broker, in the order they ran."""
    groups: dict[tuple[str, str], list[Result]] = {}
    for result in results:
        groups.setdefault((result.workload.label, result.broker), []).append(result)
    return groups


def render(rows: Sequence[Row]) -> str:
    """A plain table; the first row is the heading, all but the first column to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for number, row in enumerate(rows):
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  ".join(cells).rstrip())
        if number == 0:
            lines.append("  ".join("-" * width for width in widths))
    return "\n".join(lines)


def show_rate(spread: Spread) -> str:
    """Median and range of a rate, such as ``52,300 ±4 %``."""
    return f"{spread.median:,.0f} ±{spread.relative * 50:.0f} %"


def costs_us(rounds: Sequence[Result]) -> list[float]:
    """Processor time of the broker for each delivery, microseconds, round by round."""
    return [1e6 * one.broker_cpu_s / max(one.received, 1) for one in rounds]


def throughput_table(results: Sequence[Result]) -> str:
    """Rates, cost and memory, one line a workload and broker."""
    rows: list[Row] = [
        ("workload", "broker", "published/s", "delivered/s", "broker us/delivery", "peak MB", "ok")
    ]
    for (label, broker), rounds in group(results).items():
        good = sum(not one.problems for one in rounds)
        rows.append(
            (
                label,
                broker,
                show_rate(summarise([one.publish_rate for one in rounds])),
                show_rate(summarise([one.deliver_rate for one in rounds])),
                f"{summarise(costs_us(rounds)).median:.2f}",
                f"{max(one.broker_peak_rss_bytes for one in rounds) / 1e6:.0f}",
                f"{good}/{len(rounds)}",
            )
        )
    return render(rows)


def latency_table(results: Sequence[Result]) -> str:
    """Publish-to-receive percentiles in milliseconds, medians over the rounds."""
    percentiles = ("p50", "p90", "p99", "p99_9", "max")
    rows: list[Row] = [
        ("workload", "broker", "delivered/s", *(f"{name} ms" for name in percentiles), "ok")
    ]
    for (label, broker), rounds in group(results).items():
        latencies = [one.receiver.latency for one in rounds]
        cells = [
            f"{summarise([latency.get(name, 0.0) for latency in latencies]).median / 1e3:.2f}"
            for name in percentiles
        ]
        rate = f"{summarise([one.deliver_rate for one in rounds]).median:,.0f}"
        good = sum(not one.problems for one in rounds)
        rows.append((label, broker, rate, *cells, f"{good}/{len(rounds)}"))
    return render(rows)


def ratios(results: Sequence[Result], ours: str, theirs: str) -> dict[str, Spread]:
    """Delivery rate of one broker over another, by workload, for those that both ran."""
    groups = group(results)
    found = {}
    for label, broker in groups:
        other = groups.get((label, theirs))
        if broker != ours or other is None or not all(one.deliver_rate for one in other):
            continue
        # One that failed in a later round has fewer; the rounds it ran are compared.
        mine = [one.deliver_rate for one in groups[label, ours]][: len(other)]
        found[label] = ratio(mine, [one.deliver_rate for one in other][: len(mine)])
    return found


def ratio_table(found: dict[str, Spread], ours: str, theirs: str) -> str:
    """One line a workload."""
    rows: list[Row] = [("workload", f"{ours} / {theirs}", "lowest", "highest")]
    for label, spread in found.items():
        rows.append((label, f"{spread.median:.1f}", f"{spread.low:.1f}", f"{spread.high:.1f}"))
    return render(rows)


def file_system(path: Path) -> str:
    """Type of the file system below a path: what an fsync costs depends on it."""
    best, kind = "", "unknown"
    resolved = str(path.resolve())
    for line in Path("/proc/mounts").read_text().splitlines():
        mount, found = line.split()[1:3]
        inside = resolved == mount or resolved.startswith(mount.rstrip("/") + "/")
        if inside and len(mount) >= len(best):
            best, kind = mount, found
    return kind


def processor() -> str:
    """The processor's name."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def environment(work_dir: Path) -> dict[str, Any]:
    """What the numbers depend on beside the code."""
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "processor": processor(),
        "processors": os.cpu_count(),
        "load_before": os.getloadavg()[0],
        "kernel": platform.release(),
        "python": platform.python_version(),
        "file_system": file_system(work_dir),
        "peers": installed()[0],
    }


def summary(results: Sequence[Result]) -> list[dict[str, Any]]:
    """Medians and ranges for the results file."""
    lines = []
    for (label, broker), rounds in group(results).items():
        load = rounds[0].workload
        line: dict[str, Any] = {"workload": label, "broker": broker, "rounds": len(rounds)}
        line |= {name: getattr(load, name) for name in ("fan_out", "subscriptions", "rate")}
        line |= {"message_bytes": load.message_bytes, "selective": load.selective}
        line |= {"seconds": load.seconds, "settle": rounds[0].settle}
        line["us_per_delivery"] = summarise(costs_us(rounds)).median
        line["ok"] = all(not one.problems for one in rounds)
        for name in ("publish_rate", "deliver_rate", "broker_cpu_s", "broker_peak_rss_bytes"):
            spread = summarise([getattr(one, name) for one in rounds])
            line[name] = {"median": spread.median, "low": spread.low, "high": spread.high}
        line["latency_us"] = {
            name: summarise([one.receiver.latency.get(name, 0.0) for one in rounds]).median
            for name in ("p50", "p90", "p99", "p99_9", "max")
        }
        lines.append(line)
    return lines


def write_document(path: Path, runs: Sequence[dict[str, Any]], work_dir: Path) -> None:
    """Write the runs of a command with a table of its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {"environment": environment(work_dir), "runs": list(runs)}
    path.write_text(json.dumps(document, indent=1) + "\n")


def write_json(path: Path, results: Sequence[Result], about: dict[str, Any]) -> None:
    """Write everything that was measured."""
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {"environment": about, **section(results)}
    document["runs"] = [result.as_json() for result in results]
    path.write_text(json.dumps(document, indent=1) + "\n")


def section(results: Sequence[Result]) -> dict[str, Any]:
    """Medians, ranges and ratios to every peer that took part."""
    compared: dict[str, Any] = {}
    for peer in sorted({result.broker for result in results} - {"hotpath"}):
        found = ratios(results, "hotpath", peer)
        compared[peer] = {
            label: {"median": spread.median, "low": spread.low, "high": spread.high}
            for label, spread in found.items()
        }
    return {"summary": summary(results), "ratios": compared}
