"""How the interpreter is set for a process with one busy loop."""

import asyncio
import gc
import sys
from asyncio.sslproto import SSLProtocol
from collections.abc import Callable, Iterator
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


#: Bound methods of itself that a socket transport of asyncio keeps, in one version or another.
_OF_ITSELF: Final = ("_read_ready_cb", "_write_ready")


def socket_transport(transport: asyncio.BaseTransport) -> asyncio.BaseTransport:
    """What a transport that stands sends through: with TLS it is another one."""
    inner = getattr(getattr(transport, "_ssl_protocol", None), "_transport", None)
    return inner if isinstance(inner, asyncio.BaseTransport) else transport


def release(transport: asyncio.BaseTransport | None) -> None:
    """Let go of the `socket_transport` of a lost connection, so that it is freed at once.

    asyncio's own refer to themselves: each would stay until the collector looks at everything
    (`core/keeping.py`), and nothing else that comes and goes in numbers makes that necessary.
    """
    kept = getattr(transport, "__dict__", {})
    for name in _OF_ITSELF:
        if name in kept:
            kept[name] = _nothing


def _nothing() -> None:
    """For a connection that is lost there is nothing to read or to write."""


def tune_interpreter(loop: asyncio.AbstractEventLoop) -> Callable[[], None]:
    """Settings of the interpreter that belong to a process with one busy loop.

    The writer thread needs the GIL a few times a commit; at the default switch interval of 5 ms
    a busy loop makes each of those a wait of 5 ms.

    The cyclic garbage collector works in short passes (`core/keeping.py`); the rare ones that take
    longer are calls of the loop.

    Returns:
        What ends those passes.
    """
    sys.setswitchinterval(0.0005)
    # asyncio gives every TLS connection a buffer of this size, from its first byte on: at its own
    # 256 KiB, thousands that are idle or never finish their handshake take gigabytes.
    SSLProtocol.max_size = TLS_BUFFER_BYTES

    def later(seconds: float, work: Callable[[], None]) -> None:
        # It may come from any thread.
        loop.call_soon_threadsafe(loop.call_later, seconds, work)

    KEEPING.start(later)
    return KEEPING.stop
