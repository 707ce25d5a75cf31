"""One workload through the index and the scan: what a message, an add and a filter cost.

Rates and the slowest add are of the thread's own processor time, which on an idle machine is the
time that passes: what else runs on the machine then slows them only by what it takes of the
caches. The times of single messages are those that pass.
"""

import gc
import time
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.index.workloads import Message, Workload
from bench.stats import summarise
from hotpath.core.keeping import BLOCKS_A_FILTER, KEEPING
from qel import Filter, FilterIndex, compile_filter
from qel.index import ScanIndex

MEMORY_FILTERS_MAX = 20_000
"""So many filters say what one takes; tracing memory is slow."""

SCAN_ASKS = 200_000
"""About so many single filters are asked in the scan, and a message at least."""

SECONDS_MAX = 2.0
"""A round stops after this time, should a message be dear."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What was measured, medians over the rounds."""

    workload: str
    filters: int
    matches: float
    """Filters that a message matches, on average."""
    events_per_s: float
    p50_us: float
    p99_us: float
    scan_us: float
    """What the linear scan takes for a message, in the same run."""
    compiles_per_s: float
    adds_per_s: float
    removes_per_s: float
    bytes_per_filter: float
    """The index with its filters."""
    add_max_ms: float
    """The slowest single add."""

    @property
    def speedup(self) -> float:
        """How many times faster than the scan."""
        return self.scan_us / (1e6 / self.events_per_s)


def _time_messages(
    match: Callable[[Message], object], messages: Sequence[Message]
) -> tuple[float, list[float]]:
    """Seconds for one message on average, and the times of single ones."""
    for message in messages[:20]:
        match(message)
    count = 0
    start = time.thread_time()
    for message in messages:
        match(message)
        count += 1
        if not count % 64 and time.thread_time() - start > SECONDS_MAX:
            break
    mean = (time.thread_time() - start) / count
    singles = []
    for message in messages[:count]:
        start = time.perf_counter()
        match(message)
        singles.append(time.perf_counter() - start)
        if sum(singles[-1:]) * len(singles) > SECONDS_MAX:
            break
    return mean, sorted(singles)


def _fill(filters: Sequence[Filter]) -> tuple[FilterIndex[int], float, float]:
    """An index of all filters, the seconds that took, and the slowest add.

    The cycle collector is told of each filter, as the service does.
    """
    index: FilterIndex[int] = FilterIndex()
    slowest = 0.0
    # In the service a filter is added as soon as it is compiled.
    gc.collect()
    gc.freeze()
    begin = last = time.thread_time()
    for key, one in enumerate(filters):
        index.add(key, one)
        KEEPING.add_known(BLOCKS_A_FILTER)
        now = time.thread_time()
        slowest = max(slowest, now - last)
        last = now
    return index, last - begin, slowest


def _empty(index: FilterIndex[int], size: int) -> float:
    """Remove all filters; the seconds that took."""
    start = time.thread_time()
    for key in range(size):
        index.remove(key)
        KEEPING.add_known(-BLOCKS_A_FILTER)
    took = time.thread_time() - start
    gc.unfreeze()
    return took


def _bytes_per_filter(workload: Workload) -> float:
    texts = workload.filters[:MEMORY_FILTERS_MAX]
    gc.collect()
    tracemalloc.start()
    try:
        index, _, _ = _fill([compile_filter(text, workload.topic) for text in texts])
        gc.collect()
        used = tracemalloc.get_traced_memory()[0] / len(index)
    finally:
        tracemalloc.stop()
    _empty(index, len(texts))
    return used


def _scan_us(filters: Sequence[Filter], workload: Workload, index: FilterIndex[int]) -> float:
    """Microseconds of the scan for a message; its answers are compared with the index's."""
    scan: ScanIndex[int] = ScanIndex()
    for key, one in enumerate(filters):
        scan.add(key, one)
    messages = workload.messages[: max(2, min(1000, SCAN_ASKS // len(filters)))]
    seconds, count = 0.0, 0
    for message in messages:
        scan.match(message)  # what is made at the first use is not measured
        start = time.thread_time()
        wanted = scan.match(message)
        seconds += time.thread_time() - start
        count += 1
        if wanted != index.match(message):
            raise AssertionError(f"{workload.name}: index and scan disagree about {message}")
        if seconds > SECONDS_MAX:
            break
    return 1e6 * seconds / count


def measure(workload: Workload, rounds: int) -> Cost:
    """Measure a workload.

    Raises:
        AssertionError: The index and the scan disagree.
    """
    size = len(workload.filters)
    start = time.thread_time()
    filters = [compile_filter(text, workload.topic) for text in workload.filters]
    compile_s = time.thread_time() - start
    index, add_s, add_max_s = _fill(filters)
    scan_us = _scan_us(filters, workload, index)
    timed = [_time_messages(index.match, workload.messages) for _ in range(rounds)]
    matched = [len(index.match(message)) for message in workload.messages[:200]]
    remove_s = _empty(index, size)
    del index, filters
    return Cost(
        workload=workload.name,
        filters=size,
        matches=sum(matched) / len(matched),
        events_per_s=1 / summarise([mean for mean, _ in timed]).median,
        p50_us=1e6 * summarise([times[len(times) // 2] for _, times in timed]).median,
        p99_us=1e6 * summarise([times[len(times) * 99 // 100] for _, times in timed]).median,
        scan_us=scan_us,
        compiles_per_s=size / compile_s,
        adds_per_s=size / add_s,
        removes_per_s=size / remove_s,
        bytes_per_filter=_bytes_per_filter(workload),
        add_max_ms=1e3 * add_max_s,
    )
