"""Whether a write-ahead log has lost commits to damage.

SQLite reads the log up to the first frame whose checksum fails, which is right for a write that a
crash has cut off, and silent about a durable commit whose bytes have rotted. A cut-off write is
never followed by another commit, since each is flushed before the next begins: two or more commit
frames behind the point where reading stopped are damage. File layout: sqlite.org/fileformat.html
§4.
"""

import struct
from pathlib import Path
from typing import BinaryIO, Final

_HEADER: Final = struct.Struct(">8I")
_FRAME: Final = struct.Struct(">6I")
_MAGIC_LITTLE: Final = 0x377F0682
_MAGIC_BIG: Final = 0x377F0683
_MASK: Final = 0xFFFFFFFF


def find_loss(wal: Path, frames_read: int) -> str | None:
    """What was lost, in words, or None.

    Args:
        wal: The log as it was found; nothing may have been written since.
        frames_read: How many frames SQLite took from it.
    """
    if not wal.exists():
        return None
    with wal.open("rb") as file:
        header = file.read(_HEADER.size)
        if len(header) < _HEADER.size:
            return None
        if not _is_header(header):
            return "the header of the write-ahead log is damaged: the last commits are lost"
        commits = _count_commits(file, header, frames_read)
    if commits < 2:
        return None
    return f"the write-ahead log is damaged: the last {commits} commits are lost"


def _is_header(header: bytes) -> bool:
    """Whether the header's checksum is right (§4.2)."""
    magic, *_, sum_0, sum_1 = _HEADER.unpack(header)
    if magic not in {_MAGIC_LITTLE, _MAGIC_BIG}:
        return False
    words = struct.unpack("<6I" if magic == _MAGIC_LITTLE else ">6I", header[:24])
    first = second = 0
    for even, odd in zip(words[::2], words[1::2], strict=True):
        first = (first + even + second) & _MASK
        second = (second + odd + first) & _MASK
    return (first, second) == (sum_0, sum_1)


def _count_commits(file: BinaryIO, header: bytes, frames_read: int) -> int:
    """Commit frames of this generation of the log behind the ones that were read."""
    _, _, page_size, _, salt_1, salt_2, _, _ = _HEADER.unpack(header)
    size = _FRAME.size + (65_536 if page_size == 1 else page_size)
    commits = 0
    at = _HEADER.size + frames_read * size
    while True:
        file.seek(at)
        frame = file.read(_FRAME.size)
        if len(frame) < _FRAME.size:
            return commits
        _, pages_after, frame_salt_1, frame_salt_2, _, _ = _FRAME.unpack(frame)
        # One frame's own header may be what is damaged: its neighbours still tell.
        if (frame_salt_1, frame_salt_2) == (salt_1, salt_2):
            commits += bool(pages_after)
        at += size
