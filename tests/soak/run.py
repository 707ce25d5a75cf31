"""Chapter after chapter, what the process took meanwhile, and what its log says."""

import json
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.fault.crash.ledger import Violation
from tests.soak.chapter import Chapter, Faults
from tests.soak.service import Service

#: Load of one chapter, seconds; draining and comparing come on top.
CHAPTER_S: Final = 50.0
#: Share of the time in which the process lives on, so that growth would show.
STEADY_SHARE: Final = 0.7
#: Resident memory that is never passed, bytes.
RSS_MAX: Final = 300 << 20
#: Growth of resident memory over the steady part that counts as none, bytes.
RSS_GROWTH_MAX: Final = 24 << 20
#: Descriptors more than after the first chapter that count as none: readers come and go.
DESCRIPTORS_MORE: Final = 6
#: Chapters that warm up: pools fill, code is imported.
WARM_UP: Final = 3
#: What a log line must not hold, whatever its level.
UNHANDLED: Final = ("Traceback", "ended by a bug", "callback broke", "never retrieved")


@dataclass(slots=True)
class Vitals:
    """What one life of the process took, after each chapter and at the most."""

    rss: list[tuple[float, int]] = field(default_factory=list)
    descriptors: list[int] = field(default_factory=list)


@dataclass(slots=True)
class Report:
    """What came of it."""

    seconds: float = 0.0
    chapters: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    lives: list[Vitals] = field(default_factory=lambda: [Vitals()])
    rss_max: int = 0
    descriptors_max: int = 0
    log: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)

    @property
    def steady(self) -> list[tuple[float, int]]:
        """Resident memory after the chapters of the first life, without those that warm up."""
        return self.lives[0].rss[WARM_UP:]

    @property
    def slope(self) -> float | None:
        """Bytes a minute over the first life, by least squares; None for too few points."""
        points = self.steady
        if len(points) < 3:
            return None
        mean_t = sum(t for t, _ in points) / len(points)
        mean_y = sum(y for _, y in points) / len(points)
        square = sum((t - mean_t) ** 2 for t, _ in points)
        return 60 * sum((t - mean_t) * (y - mean_y) for t, y in points) / square


class Soak:
    """One process, and everything that happens to it."""

    def __init__(self, service: Service, *, seconds: float, seed: int) -> None:
        self.report = Report()
        self._service = service
        self._seconds = seconds
        self._rng = random.Random(seed)
        self._begun = time.monotonic()

    async def work(self) -> Report:
        """Run; what is broken is in the report."""
        while (passed := time.monotonic() - self._begun) < self._seconds:
            seconds = max(min(CHAPTER_S, self._seconds - passed), 4.0)
            faults = self._faults(passed / self._seconds)
            try:
                await self._chapter(seconds, faults)
            except (Violation, AssertionError, TimeoutError) as violation:
                self.report.violations.append(f"chapter {self.report.chapters}: {violation!r}")
                break
        code = self._service.stop()
        if code != 0:
            self.report.violations.append(f"the service ended with {code} when told to stop")
        self.report.seconds = time.monotonic() - self._begun
        self._judge()
        return self.report

    def _faults(self, share: float) -> Faults:
        """A full disk in every chapter; kills only at the end, so that one life is long."""
        short = self._seconds < 2 * CHAPTER_S
        kills: tuple[float, ...] = ()
        if short or share >= STEADY_SHARE:
            kills = (0.6,) if short else (0.2, 0.45, 0.8)
        return Faults(kills=kills, full_disk=0.2 if short else 0.55)

    async def _chapter(self, seconds: float, faults: Faults) -> None:
        report = self.report
        report.chapters += 1
        chapter = Chapter(
            self._service,
            self._rng,
            name=f"soak-{report.chapters}",
            seconds=seconds,
            faults=faults,
        )
        try:
            await chapter.work(self._look)
        finally:
            report.counts.update(chapter.counts)
        self._note()
        print(self._line(), flush=True)

    def _look(self) -> None:
        """Ten times a second."""
        self.report.rss_max = max(self.report.rss_max, self._service.rss_bytes())
        self.report.descriptors_max = max(self.report.descriptors_max, self._service.descriptors())

    def _note(self) -> None:
        """After a chapter, when nobody is connected."""
        lives = self.report.lives
        while len(lives) < self._service.starts:
            lives.append(Vitals())
        at = time.monotonic() - self._begun
        lives[-1].rss.append((at, self._service.rss_bytes()))
        lives[-1].descriptors.append(self._service.descriptors())

    def _line(self) -> str:
        report, now = self.report, self.report.lives[-1]
        return (
            f"{now.rss[-1][0]:5.0f} s  chapter {report.chapters}: "
            f"{report.counts['accepted']} accepted, {report.counts['delivered']} delivered, "
            f"{now.rss[-1][1] / 1e6:.1f} MB, {now.descriptors[-1]} descriptors"
        )

    # Judging

    def _judge(self) -> None:
        report, broken = self.report, self.report.violations
        if report.rss_max > RSS_MAX:
            broken.append(f"resident memory rose to {report.rss_max / 1e6:.0f} MB")
        points = [size for _, size in report.steady]
        third = len(points) // 3
        if third:
            grown = (sum(points[-third:]) - sum(points[:third])) / third
            if grown > RSS_GROWTH_MAX:
                broken.append(f"resident memory grew by {grown / 1e6:.0f} MB")
        for life in report.lives:
            if life.descriptors and life.descriptors[-1] > life.descriptors[0] + DESCRIPTORS_MORE:
                broken.append(f"open files after each chapter: {life.descriptors}")
        report.log, unhandled = read_log(self._service.log)
        broken += unhandled


def read_log(path: Path) -> tuple[Counter[str], list[str]]:
    """How often each message was logged, and the lines that tell of an unhandled exception."""
    seen: Counter[str] = Counter()
    unhandled = []
    for line in path.read_text().splitlines():
        if any(mark in line for mark in UNHANDLED):
            unhandled.append(f"in the log: {line[:2000]}")
        try:
            record = json.loads(line)
            seen[f"{record['level']}: {record['event']}"] += 1
        except (ValueError, KeyError, TypeError):
            seen["not JSON"] += 1
            unhandled.append(f"in the log: {line[:2000]}")
    return seen, unhandled
