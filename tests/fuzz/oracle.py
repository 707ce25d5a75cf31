"""What must not happen, whatever is fed: a result or a declared error, and nothing else.

`Watch` hears everything that nobody caught: an error in the log, an exception that reached the
event loop or was thrown away by the interpreter. Work is counted in Python calls, so that the
bound on it holds on a slow machine as on a fast one; processor time is only a bound for what
happens inside one call.
"""

import asyncio
import gc
import logging
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from hotpath.telemetry import _WideFormatter

PAGE = os.sysconf("SC_PAGE_SIZE")
#: Turns of the loop in which everything that an input has set off must be done.
TURNS_MAX = 5_000
#: Processor time of one call of a parser; a million times what it takes, none the less finite.
CPU_SECONDS_MAX = 20.0


class Violation(AssertionError):
    """Something that must not happen did."""


class _Ears(logging.Handler):
    """Keeps errors, and sees to it that every line can be written."""

    def __init__(self, heard: list[str]) -> None:
        super().__init__()
        self._heard = heard
        self._formatter = _WideFormatter(as_json=False)

    def emit(self, record: logging.LogRecord) -> None:
        text = self._formatter.format(record)
        if record.levelno >= logging.ERROR or record.exc_info:
            self._heard.append(text)


class Watch:
    """Listens for what nobody caught, while it is entered.

    Attributes:
        heard: What came up, in words.
    """

    def __init__(self, *, level: int = logging.WARNING) -> None:
        self.heard: list[str] = []
        self._level = level
        self._ears = _Ears(self.heard)

    def __enter__(self) -> "Watch":
        root = logging.getLogger()
        self._before = (root.level, sys.unraisablehook)
        root.addHandler(self._ears)
        root.setLevel(self._level)
        sys.unraisablehook = lambda found: self.heard.append(
            f"unraisable in {found.object!r}: {found.exc_value!r}"
        )
        return self

    def __exit__(self, *_: object) -> None:
        root = logging.getLogger()
        root.removeHandler(self._ears)
        root.setLevel(self._before[0])
        sys.unraisablehook = self._before[1]

    def listen(self, loop: asyncio.AbstractEventLoop) -> None:
        """Hear what reaches a loop."""

        def on_exception(_: asyncio.AbstractEventLoop, context: dict) -> None:
            error = context.get("exception")
            trace = "".join(traceback.format_exception(error)) if error is not None else ""
            self.heard.append(f"{context['message']}\n{trace}")

        loop.set_exception_handler(on_exception)

    def check(self, *, collect: bool = False) -> None:
        """Raises Violation when something has come up since the last time."""
        if collect:
            # A task whose exception nobody took says so when it is collected.
            gc.collect()
        if self.heard:
            heard, self.heard[:] = list(self.heard), []
            raise Violation("\n".join(heard)[:20_000])


async def come_to_rest() -> int:
    """Let the loop do everything there is to do; how many turns it took. Raises Violation."""
    ready = asyncio.get_running_loop()._ready  # type: ignore[attr-defined]
    for turn in range(TURNS_MAX):
        await asyncio.sleep(0)
        if not ready:
            return turn
    raise Violation(f"the loop is not done after {TURNS_MAX} turns")


@contextmanager
def calls_counted() -> Iterator[Callable[[], int]]:
    """Count calls of functions, Python's and C's, made in the block."""
    calls = 0

    def count(_frame: FrameType, event: str, _arg: object) -> None:
        nonlocal calls
        if event in {"call", "c_call"}:
            calls += 1

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        yield lambda: calls
    finally:
        sys.setprofile(before)


def cpu_bounded(call: Callable[[bytes], object], given: bytes) -> None:
    """Call, and see that no regular expression or C function runs away. Raises Violation."""
    began = time.thread_time()
    call(given)
    took = time.thread_time() - began
    if took > CPU_SECONDS_MAX:
        raise Violation(f"{took:.1f} s of processor time for {len(given)} bytes")


def resident_bytes() -> int:
    """What the process holds in memory now."""
    with open("/proc/self/statm", "rb") as statm:
        return int(statm.read().split()[1]) * PAGE
