"""How many connections there may be: in all, from one address, and without a right.

Who has no right yet does not keep others out: when there are too many, the one that has been so
for longest goes, of those whose address has the most. A client that means well needs its place for
milliseconds. Addresses whose connections misbehave over and over are barred (`strikes`).
"""

from collections import Counter
from collections.abc import Callable
from itertools import islice
from typing import Final

from hotpath.amqp.strikes import Strikes
from hotpath.config import Settings
from hotpath.ports import Clock
from hotpath.telemetry import Metrics, Seldom, get_logger

#: Refused connections are reported so often, milliseconds; the metric counts them all.
REPORT_MS: Final = 1_000
#: Among so many that came first, the one is chosen that has to go.
EVICTION_CHOICE: Final = 32

_log = get_logger("hotpath.amqp.admission")


class Ticket:
    """One connection's place, from its accept on.

    Attributes:
        address: Where it comes from.
        listener: Where it came in.
        evict: Closes the connection, for want of places.
        since_ms: Since when it has a right; None if it has none.
    """

    def __init__(self, admission: "Admission", address: str, listener: str) -> None:
        self.address = address
        self.listener = listener
        self.evict: Callable[[], None] = _nothing
        self._admission = admission
        self.since_ms: int | None = None
        self._left = False

    def authorize(self) -> None:
        """The connection has its first right."""
        if self.since_ms is None and not self._left:
            self.since_ms = self._admission.vouched(self)

    def strike(self) -> None:
        """The connection is ended for what it did."""
        self._admission.strike(self)

    def leave(self) -> None:
        """The connection is gone; further calls do nothing."""
        if not self._left:
            self.authorize()
            self._left = True
            self.evict = _nothing
            self._admission.drop(self)


def _nothing() -> None:
    """What is called when there is no connection."""


class Admission:
    """Gives out tickets.

    Attributes:
        total: Connections there are.
    """

    def __init__(self, settings: Settings, metrics: Metrics, clock: Clock) -> None:
        self.total = 0
        self._settings = settings
        self._metrics = metrics
        self._clock = clock
        self._reports = Seldom(REPORT_MS)
        self._by_address: Counter[str] = Counter()
        self._unknown_by_address: Counter[str] = Counter()
        # In the order of their coming.
        self._unknown: dict[Ticket, None] = {}
        self._known: dict[str, dict[Ticket, None]] = {}
        self._strikes = Strikes(settings, clock)
        self._settled_ms = round(settings.strikes_seconds * 1000)

    def enter(self, address: str, listener: str) -> Ticket | None:
        """A place for a new connection, or None when a bound is reached."""
        cause = self._full(address)
        if cause is not None:
            self.refuse(address, cause)
            return None
        if self.without_right >= self._settings.max_connections_unauthenticated:
            self._evict_one()
        self.total += 1
        self._by_address[address] += 1
        self._unknown_by_address[address] += 1
        self._metrics.connections.labels(listener).inc()
        ticket = Ticket(self, address, listener)
        self._unknown[ticket] = None
        return ticket

    @property
    def without_right(self) -> int:
        """Connections that have no right yet."""
        return len(self._unknown)

    def _evict_one(self) -> None:
        leaving = self._least_welcome()
        self.refuse(leaving.address, "unauthenticated")
        evict = leaving.evict
        leaving.leave()
        evict()

    def _least_welcome(self) -> Ticket:
        """Of those without a right that came first, one whose address has the most of them."""
        first = islice(self._unknown, EVICTION_CHOICE)
        return max(first, key=lambda ticket: self._unknown_by_address[ticket.address])

    def refuse(self, address: str, cause: str) -> None:
        """Count and, once in a while, report a connection that gets no place."""
        self._metrics.refused_connections.labels(cause).inc()
        others = self._reports.take(self._clock.ticks_ms())
        if others is not None:
            fields = {"peer": address, "cause": cause, "others": others}
            _log.warning("connection refused", extra=fields)

    def _full(self, address: str) -> str | None:
        settings = self._settings
        if self._strikes.is_barred(address):
            return "barred"
        if self.total >= settings.max_connections:
            return "total"
        if self._by_address[address] >= settings.max_connections_per_address:
            return "address"
        if (
            self._unknown_by_address[address]
            >= settings.max_connections_unauthenticated_per_address
        ):
            return "unauthenticated address"
        return None

    def vouched(self, ticket: Ticket) -> int:
        """A connection has its first right, or is gone; the time."""
        del self._unknown[ticket]
        _take_one(self._unknown_by_address, ticket.address)
        self._known.setdefault(ticket.address, {})[ticket] = None
        return self._clock.ticks_ms()

    def strike(self, ticket: Ticket) -> None:
        """A connection is ended for what it did: too often, and its address is barred."""
        before_ms = self._clock.ticks_ms() - self._settled_ms
        known = self._known.get(ticket.address, {})
        settled = sum(
            1 for each in known if each.since_ms is not None and each.since_ms < before_ms
        )
        if self._strikes.note(ticket.address, settled=settled):
            seconds = self._settings.bar_seconds
            _log.warning("address barred", extra={"peer": ticket.address, "seconds": seconds})

    def drop(self, ticket: Ticket) -> None:
        """A place is free again."""
        self.total -= 1
        known = self._known[ticket.address]
        del known[ticket]
        if not known:
            del self._known[ticket.address]
        _take_one(self._by_address, ticket.address)
        self._metrics.connections.labels(ticket.listener).dec()


def _take_one(counter: Counter[str], address: str) -> None:
    counter[address] -= 1
    if not counter[address]:
        del counter[address]
