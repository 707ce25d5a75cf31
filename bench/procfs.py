"""CPU time and memory of a process tree, from /proc."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process and its children have used up to now."""

    cpu_s: float
    rss_bytes: int
    rss_peak_bytes: int

    def cpu_since(self, earlier: "Usage") -> float:
        """CPU seconds between two readings."""
        return self.cpu_s - earlier.cpu_s


def parse_stat(text: str) -> float:
    """User and system seconds in the text of ``/proc/PID/stat``."""
    # The command in parentheses may hold blanks; fields are counted from behind it.
    fields = text.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND


def parse_status(text: str) -> tuple[int, int]:
    """Resident bytes now and at the peak, in the text of ``/proc/PID/status``."""
    fields = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    return size_bytes(fields.get("VmRSS", "0 kB")), size_bytes(fields.get("VmHWM", "0 kB"))


def size_bytes(text: str) -> int:
    """A ``/proc`` size such as ``12 kB``, in bytes."""
    return int(text.removesuffix("kB")) * 1024


def parse_stolen(text: str) -> float:
    """Processor seconds that the host has given to others, in the text of ``/proc/stat``."""
    return int(text.split()[8]) / TICKS_PER_SECOND


def stolen_s() -> float:
    """Since this (virtual) machine was started, all processors together; 0 where nobody says."""
    try:
        return parse_stolen(Path("/proc/stat").read_text())
    except (OSError, IndexError, ValueError):
        return 0.0


def process_tree(pid: int) -> Iterator[int]:
    """The process and its living descendants."""
    yield pid
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = task.read_text().split()
        except OSError:
            continue
        for child in children:
            yield from process_tree(int(child))


def read_usage(pid: int) -> Usage:
    """Sum over the process tree; processes that end meanwhile are left out."""
    cpu_s, rss, peak = 0.0, 0, 0
    for member in process_tree(pid):
        root = Path(f"/proc/{member}")
        try:
            cpu_s += parse_stat((root / "stat").read_text())
            member_rss, member_peak = parse_status((root / "status").read_text())
        except OSError:
            continue
        rss, peak = rss + member_rss, peak + member_peak
    return Usage(cpu_s, rss, peak)
