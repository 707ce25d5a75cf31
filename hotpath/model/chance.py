"""Random numbers of the operating system, fetched by the page.

A call into the kernel costs more than everything else about an identifier, and a thousand
identifiers a second are wanted. What is given out is forgotten; the process never forks.
"""

import os
from typing import Final

_PAGE_BYTES: Final = 4_096
_VERSION_MASK: Final = ~((0xF << 76) | (0x3 << 62))
#: Version 4, and the variant of RFC 9562 §4.1.
_VERSION_BITS: Final = (0x4 << 76) | (0x2 << 62)


class RandomPage:
    """Bytes that nobody can foretell."""

    __slots__ = ("_at", "_page")

    def __init__(self) -> None:
        self._page = b""
        self._at = 0

    def take(self, count: int) -> bytes:
        """So many bytes, at most a page, none of them ever given before."""
        at, end = self._at, self._at + count
        if end > len(self._page):
            self._page = os.urandom(_PAGE_BYTES)
            at, end = 0, count
        self._at = end
        return self._page[at:end]


_PAGE: Final = RandomPage()


def random_bits(count: int) -> int:
    """A number of so many bits, each as likely as any other."""
    return int.from_bytes(_PAGE.take((count + 7) // 8)) >> (-count % 8)


def random_hex() -> str:
    """A UUID of version 4 (RFC 9562 §5.4) as 32 digits."""
    number = int.from_bytes(_PAGE.take(16))
    return f"{number & _VERSION_MASK | _VERSION_BITS:032x}"


def random_uuid() -> str:
    """A UUID of version 4 (RFC 9562 §5.4) as text."""
    text = random_hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
