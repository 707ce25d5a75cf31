"""How the interpreter is set for a process with one busy loop."""

import gc
import sys
from asyncio.sslproto import SSLProtocol
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from hotpath.core.keeping import KEEPING

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


def tune_interpreter() -> None:
    """Settings of the interpreter that belong to a process with one busy loop.

    The writer thread needs the GIL a few times a commit; at the default switch interval of 5 ms
    a busy loop makes each of those a wait of 5 ms.

    The cyclic garbage collector runs seldom, and not over what stays for good: the hot path makes
    many short-lived tuples and no cycles, and at the default threshold the young ones would be
    walked every few messages. What comes with subscriptions later is kept out of its way, too.
    """
    sys.setswitchinterval(0.0005)
    # asyncio gives every TLS connection a buffer of this size, from its first byte on: at its own
    # 256 KiB, thousands that are idle or never finish their handshake take gigabytes.
    SSLProtocol.max_size = TLS_BUFFER_BYTES
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 10, 20)
    KEEPING.is_on = True
