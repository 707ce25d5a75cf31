"""How many connections there may be: in all, from one address, and without a right."""

from collections import Counter

from hotpath.config import Settings
from hotpath.telemetry import Metrics, get_logger

_log = get_logger("hotpath.amqp.admission")


class Ticket:
    """One connection's place, from its accept on."""

    def __init__(self, admission: "Admission", address: str, listener: str) -> None:
        self.address = address
        self.listener = listener
        self._admission = admission
        self._authorized = False
        self._left = False

    def authorize(self) -> None:
        """The connection has its first right."""
        if not self._authorized and not self._left:
            self._authorized = True
            self._admission.without_right -= 1

    def leave(self) -> None:
        """The connection is gone; further calls do nothing."""
        if not self._left:
            self.authorize()
            self._left = True
            self._admission.drop(self)


class Admission:
    """Gives out tickets.

    Attributes:
        total: Connections there are.
        without_right: Those that have no right yet.
    """

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self.total = 0
        self.without_right = 0
        self._settings = settings
        self._metrics = metrics
        self._by_address: Counter[str] = Counter()

    def enter(self, address: str, listener: str) -> Ticket | None:
        """A place for a new connection, or None when a bound is reached."""
        cause = self._full(address)
        if cause is not None:
            self._metrics.refused_connections.labels(cause).inc()
            _log.warning("connection refused", extra={"peer": address, "cause": cause})
            return None
        self.total += 1
        self.without_right += 1
        self._by_address[address] += 1
        self._metrics.connections.labels(listener).inc()
        return Ticket(self, address, listener)

    def _full(self, address: str) -> str | None:
        settings = self._settings
        if self.total >= settings.max_connections:
            return "total"
        if self._by_address[address] >= settings.max_connections_per_address:
            return "address"
        if self.without_right >= settings.max_connections_unauthenticated:
            return "unauthenticated"
        return None

    def drop(self, ticket: Ticket) -> None:
        """A place is free again."""
        self.total -= 1
        self._by_address[ticket.address] -= 1
        if not self._by_address[ticket.address]:
            del self._by_address[ticket.address]
        self._metrics.connections.labels(ticket.listener).dec()
