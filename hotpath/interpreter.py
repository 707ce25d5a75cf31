"""How the interpreter is set for a process with one busy loop."""

import gc
import sys
from asyncio.sslproto import SSLProtocol
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from hotpath.core.keeping import KEEPING, Later

#: Read at once from a TLS connection.
TLS_BUFFER_BYTES: Final = 32_768


@contextmanager
def collector_off() -> Iterator[None]:
    """While thousands of subscriptions are made that stay: there is nothing to collect."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def tune_interpreter(later: Later) -> Callable[[], None]:
    """Settings of the interpreter that belong to a process with one busy loop.

    The writer thread needs the GIL a few times a commit; at the default switch interval of 5 ms
    a busy loop makes each of those a wait of 5 ms.

    The cyclic garbage collector works in short passes (`core/keeping.py`); the rare ones that take
    longer go through `later`.

    Returns:
        What ends those passes.
    """
    sys.setswitchinterval(0.0005)
    # asyncio gives every TLS connection a buffer of this size, from its first byte on: at its own
    # 256 KiB, thousands that are idle or never finish their handshake take gigabytes.
    SSLProtocol.max_size = TLS_BUFFER_BYTES
    KEEPING.start(later)
    return KEEPING.stop
