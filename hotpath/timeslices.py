"""How long this process's threads may be kept waiting for a processor by others that are busy.

Linux lets a busy thread go on for its time slice (1 to 3 ms, more with more processors) before
another of the same standing gets the processor. A commit goes from the loop's thread to the writer's and
back, so where processors are few it waits for such slices several times. A thread that asks for
shorter slices gets no more time in all, but gets it sooner.

From Linux 6.12 on, no privilege needed: `sched_setattr(2)` with `sched_runtime`, see
Documentation/scheduler/sched-eevdf.rst in the kernel's source. Earlier kernels take no notice.
"""

import ctypes
import platform
import struct
from typing import Final

#: The shortest that the kernel grants, nanoseconds.
SLICE_NS: Final = 100_000

#: `sched_setattr` and `sched_getattr` in the tables of system calls.
_CALLS: Final = {
    ("Linux", "x86_64"): (314, 315),
    ("Linux", "aarch64"): (274, 275),
    ("Linux", "riscv64"): (274, 275),
}
#: `struct sched_attr`: size, policy, flags, nice, priority, runtime, deadline, period.
_ATTRIBUTES: Final = struct.Struct("=IIQiIQQQ")
_SCHED_OTHER: Final = 0


def time_slice_ns(thread: int = 0) -> int | None:
    """What a thread has asked for (0: this one), or the system's own; None where it cannot be told."""
    found = _read(thread)
    return None if found is None else found[5]


def ask_for_short_slices() -> bool:
    """Ask for them, for this thread and those that it starts from now on.

    Whether they were granted as far as can be told: not where the system has none, or forbids the call, nor
    for a thread that an operator has given another scheduling policy, which is left as it is.
    """
    found = _read(0)
    if found is None or found[1] != _SCHED_OTHER:
        return False
    size, policy, flags, nice, *_ = found
    wanted = _ATTRIBUTES.pack(size, policy, flags, nice, 0, SLICE_NS, 0, 0)
    return _call(0, 0, wanted) is not None and time_slice_ns() == SLICE_NS


def _read(thread: int) -> tuple[int, ...] | None:
    told = _call(1, thread, bytes(_ATTRIBUTES.size), _ATTRIBUTES.size)
    return None if told is None else _ATTRIBUTES.unpack(told)


def _call(which: int, thread: int, attributes: bytes, *options: int) -> bytes | None:
    """The structure after a call; None when it failed or does not exist."""
    numbers = _CALLS.get((platform.system(), platform.machine()))
    if numbers is None or struct.calcsize("P") != 8:
        return None
    room = ctypes.create_string_buffer(attributes, len(attributes))
    words = [ctypes.c_long(word) for word in (numbers[which], thread)]
    rest = [ctypes.c_long(word) for word in (*options, 0)]
    failed = ctypes.CDLL(None).syscall(*words, room, *rest)
    return None if failed else room.raw
