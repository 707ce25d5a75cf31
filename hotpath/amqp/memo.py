"""Encoded deliveries that receivers share, for as long as they are likely to be asked for again.

A message goes to every receiver of a fan-out with the same bytes, as long as lock end and prefix
agree; joining prefix and message is then done once. The first receiver of a batch pays nothing:
only from the second on is kept what was joined.
"""

from collections import deque
from typing import Final

from hotpath.model.message import Batch

#: Joined bytes that are kept, all batches together; about.
MEMO_BYTES: Final = 8_388_608


class WireMemo:
    """Bounds what edges keep on batches."""

    def __init__(self, bytes_max: int = MEMO_BYTES) -> None:
        self._bytes_max = bytes_max
        self._bytes = 0
        self._kept: deque[tuple[Batch, int]] = deque()

    def slots(self, batch: Batch, key: int) -> list[bytes | None] | None:
        """Where deliveries of a batch with this key are kept, by position; None: not worth it.

        `key` stands for everything in front of the message but its sequence number.
        """
        if batch.wire_key != key:
            batch.wire_key = key
            batch.wire = None
            return None
        if batch.wire is None:
            batch.wire = [None] * batch.count
            self._keep(batch)
        return batch.wire

    def _keep(self, batch: Batch) -> None:
        self._kept.append((batch, batch.byte_size))
        self._bytes += batch.byte_size
        while self._bytes > self._bytes_max and len(self._kept) > 1:
            oldest, size = self._kept.popleft()
            self._bytes -= size
            oldest.wire = None
