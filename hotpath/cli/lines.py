"""Lines of a file or pipe, read beside the event loop and handed over as they come."""

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Final

#: Bytes read at a time.
READ_BYTES: Final = 262_144
#: Longest line; the service's limit is far below.
LINE_BYTES_MAX: Final = 128 * 1024 * 1024


class LineTooLong(ValueError):
    """A line over the limit, or a file without any line ends that is."""


async def read_chunks(descriptor: int) -> AsyncIterator[bytes]:
    """The bytes of a file descriptor as they arrive. Raises OSError."""
    loop = asyncio.get_running_loop()
    while chunk := await loop.run_in_executor(None, os.read, descriptor, READ_BYTES):
        yield chunk


async def read_lines(chunks: AsyncIterator[bytes]) -> AsyncIterator[tuple[int, bytes]]:
    """The lines with their numbers, from 1; blank ones are left out.

    Raises:
        LineTooLong: at the first one over the limit.
    """
    number = 0
    rest: list[bytes] = []
    size = 0
    async for chunk in chunks:
        *whole, last = chunk.split(b"\n")
        for line in whole:
            number += 1
            full = b"".join((*rest, line)) if rest else line
            rest, size = [], 0
            if full.strip():
                yield number, full
        if last:
            rest.append(last)
            size += len(last)
        if size > LINE_BYTES_MAX:
            raise LineTooLong(f"line {number + 1} is over {LINE_BYTES_MAX} bytes")
    full = b"".join(rest)
    if full.strip():
        yield number + 1, full
