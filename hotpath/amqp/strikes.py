"""Addresses whose connections have to be ended for what they do, over and over, are barred.

A strike is a connection that was ended for what it did: a login that failed, a handshake that took
too long, bytes that are no AMQP, a bound that was passed. They are forgotten at an even rate. An
address that has too many gets no new connection for a while; those that stand are left alone, for
behind one address there may be many clients. For the same reason one with clients that have been
there for long has more strikes to spend.
"""

from collections import OrderedDict
from typing import Final, TypeVar

from hotpath.config import Settings
from hotpath.ports import Clock

#: Addresses whose strikes are known at a time; the one that had none for longest is forgotten.
ADDRESSES_MAX: Final = 10_000

_T = TypeVar("_T")


class Strikes:
    """Counts them by address."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._clock = clock
        self._max = settings.strikes_max
        self._per_ms = settings.strikes_max / (settings.strikes_seconds * 1000)
        self._bar_ms = round(settings.bar_seconds * 1000)
        listed = (settings.never_barred or "").split(",")
        self._never = frozenset(address.strip() for address in listed)
        # How many, and as of when; the latest last.
        self._counts: OrderedDict[str, tuple[float, int]] = OrderedDict()
        self._barred_until_ms: OrderedDict[str, int] = OrderedDict()

    def __len__(self) -> int:
        return len(self._counts) + len(self._barred_until_ms)

    def is_barred(self, address: str) -> bool:
        """Whether an address gets no new connections now."""
        if not self._barred_until_ms:
            return False
        until_ms = self._barred_until_ms.get(address)
        if until_ms is None:
            return False
        if until_ms > self._clock.ticks_ms():
            return True
        del self._barred_until_ms[address]
        return False

    def note(self, address: str, *, settled: int) -> bool:
        """A connection was ended for what it did; whether its address is barred from now on.

        Args:
            address: Where it came from.
            settled: Connections from there that have been well-behaved for long.
        """
        if not self._max or address in self._never:
            return False
        now_ms = self._clock.ticks_ms()
        count, at_ms = self._counts.pop(address, (0.0, now_ms))
        count = max(count - (now_ms - at_ms) * self._per_ms, 0.0) + 1
        if count <= self._max * (1 + settled):
            _keep(self._counts, address, (count, now_ms))
            return False
        _keep(self._barred_until_ms, address, now_ms + self._bar_ms)
        return True


def _keep(table: OrderedDict[str, _T], address: str, value: _T) -> None:
    table[address] = value
    table.move_to_end(address)
    if len(table) > ADDRESSES_MAX:
        table.popitem(last=False)
