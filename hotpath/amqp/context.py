"""What the parts of this edge work with: the services, and the host of a link end."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

from hotpath.amqp.bounds import Outgoing, Shared
from hotpath.amqp.engine import Engine
from hotpath.amqp.fairness import Account, Fairness
from hotpath.amqp.frames import BatchMarks
from hotpath.amqp.moment import Confirmations, Moment
from hotpath.amqp.pumping import Pullable, Wakes
from hotpath.amqp.rights import LinkRight
from hotpath.auth.rights import Grant, Grants
from hotpath.config import Settings
from hotpath.ports import Clock
from hotpath.service.access import Access
from hotpath.service.feeds import CallsOf, Confirms, Delivers, Settles
from hotpath.service.points import PointPublishing
from hotpath.service.publish import Publishing
from hotpath.service.schedule import Schedules
from hotpath.telemetry import Metrics

if TYPE_CHECKING:
    from hotpath.amqp.cbs import CbsNode
    from hotpath.amqp.management import ManagementNodes

PRODUCT: Final = "hotpath"
#: Bytes of deliveries for one that is not favoured, each time, while some wait and the favoured are at
#: work: a fraction of a millisecond.
SMALL_SEND_BYTES: Final = 16_384


class Flushable(Protocol):
    """A connection as the turn sees it."""

    account: Account
    earned: int

    def flush(self, bytes_max: int | None = None) -> None:
        """Send what there is, and more deliveries up to about so many bytes."""
        ...


def _ignore(_: float) -> None:
    """How long a turn took is of no interest."""


class Turn:
    """Flushes each connection that something happened on once a turn of the event loop.

    Those that are not favoured as far as there is time for them (`fairness`).

    Args:
        fairness: Says who is favoured.
        on_flushed: Is told how long that took for those that are, seconds.
    """

    def __init__(
        self, fairness: Fairness, *, on_flushed: Callable[[float], None] = _ignore
    ) -> None:
        self._fairness = fairness
        self._on_flushed = on_flushed
        self._is_due = False
        self._dirty: dict[Flushable, None] = {}
        # Those for which there was no time.
        self._late: set[Flushable] = set()

    def mark(self, connection: Flushable) -> None:
        """See to it that a connection is flushed."""
        if connection not in self._late:
            self._dirty[connection] = None
            if not self._is_due:
                self._is_due = True
                asyncio.get_running_loop().call_soon(self._run)

    def _run(self) -> None:
        self._is_due = False
        dirty, self._dirty = self._dirty, {}
        fairness, others = self._fairness, []
        began = fairness.now()
        for connection in dirty:
            if not connection.account.is_favoured:
                # What it has sent may have been stored just now.
                fairness.note(connection.account, connection.earned)
            if not connection.account.is_favoured:
                others.append(connection)
            elif fairness.is_contended:
                # Who has only been there for long may be favoured, too.
                self._flush(connection, None if connection.earned else self._others_bytes)
            else:
                connection.flush()
        self._on_flushed(fairness.now() - began)
        for connection in others:
            if fairness.may_go(connection.account, sending=True):
                self._flush(connection, self._others_bytes)
            else:
                self._late.add(connection)
                go_on = partial(self._flush_late, connection)
                fairness.wait(connection.account, go_on, sending=True)

    def _flush_late(self, connection: Flushable) -> None:
        self._late.discard(connection)
        self._flush(connection, self._others_bytes)

    @property
    def _others_bytes(self) -> int | None:
        return SMALL_SEND_BYTES if self._fairness.is_pressed else None

    def _flush(self, connection: Flushable, bytes_max: int | None) -> None:
        started = self._fairness.now()
        connection.flush(bytes_max)
        self._fairness.charge(connection.account, started, connection.earned, sending=True)


@dataclass(frozen=True, slots=True)
class Context:
    """The services behind this edge; one for all connections."""

    access: Access
    publishing: Publishing
    delivering: Delivers
    settling: Settles
    committer: Confirms
    calls: CallsOf
    settings: Settings
    clock: Clock
    metrics: Metrics
    turn: Turn
    fairness: Fairness
    outgoing: Outgoing
    shared: Shared
    scheduling: Schedules
    points: PointPublishing


class Fillable(Protocol):
    """A link end that gathers while a read is taken in."""

    def submit(self) -> None:
        """Everything of this read is there."""
        ...


class Host(Protocol):
    """The connection of a link end, as the link end sees it."""

    context: Context
    batches: BatchMarks
    grants: Grants
    cbs: "CbsNode"
    management: "ManagementNodes"
    moment: Moment
    confirmations: Confirmations
    stopping: bool
    wants_message_ids: bool
    earned: int

    @property
    def engine(self) -> Engine:
        """The protocol engine."""
        ...

    def mark(self) -> None:
        """Something is to be sent."""
        ...

    def want_pump(self, end: Pullable) -> None:
        """A link end may have something to send."""
        ...

    def waker(self, end: Wakes) -> Callable[[], None]:
        """What lets a link end send at the next flush."""
        ...

    def want_pump_after_read(self, end: Pullable) -> None:
        """A link end can send again only when the peer has opened its session window."""
        ...

    def note_filled(self, end: Fillable) -> None:
        """A link end has gathered something: `submit` it after this read."""
        ...

    def abort(self) -> None:
        """Close at once."""
        ...

    def hold_bytes(self, change: int) -> None:
        """Incomplete deliveries take so many bytes more (or less) of memory."""
        ...

    def watch(self, right: LinkRight) -> None:
        """A link is there, until its right ends."""
        ...

    def forget(self, right: LinkRight) -> None:
        """A link is gone."""
        ...

    def end_right(self, right: LinkRight) -> None:
        """A right may have ended: detach its link unless another grant covers it."""
        ...

    def admit(self, audience: str, grant: Grant) -> bool:
        """Add a grant; False when the connection holds too many."""
        ...

    def audit(
        self,
        operation: str,
        *,
        grant: Grant | None = None,
        reason: str | None = None,
        **about: object,
    ) -> None:
        """Write a line of the audit log; see `hotpath.amqp.audit.note`."""
        ...
