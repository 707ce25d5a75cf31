"""Feeds as edges see them, whoever serves them: here, or another node of a cluster.

An edge attaches to what it *knows* of a subscription: its live state, or its definition alone. The
embedded service knows nothing else than live ones, and what it gives an edge is the services
themselves. In a cluster the same calls lead to wherever the subscription is served.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Protocol, cast

from hotpath.core.feed import Taken
from hotpath.core.locks import Accepted, Holding
from hotpath.core.subscription import Subscription
from hotpath.core.usual_plain import Submits, Twin
from hotpath.model.errors import HotpathError
from hotpath.model.subscription import SubscriptionSpec
from hotpath.ports import LogFailure
from hotpath.service.commit import Committer
from hotpath.service.deferred import Received
from hotpath.service.deliver import Count, Delivering
from hotpath.service.peek import Peeked
from hotpath.service.settle import Settling

Known = Subscription | SubscriptionSpec
"""A subscription that is served here, or the definition of any."""

Refused = Mapping[tuple[int, int], HotpathError]
"""Messages, by number and lock serial, whose outcome was refused, and why."""


def spec_of(known: Known) -> SubscriptionSpec:
    """The definition of what is known."""
    return known.spec if isinstance(known, Subscription) else known


# Receiving


class SubscriptionView(Protocol):
    """A subscription as one sees it who receives from it."""

    @property
    def spec(self) -> SubscriptionSpec:
        """What it is."""
        ...

    @property
    def behind_at(self) -> int | None:
        """Not None while there may be more than is in memory."""
        ...

    @property
    def ready_count(self) -> int:
        """Messages that can be taken at once."""
        ...

    def has_more(self) -> bool:
        """Whether another pull may give something."""
        ...


class FeedView(Protocol):
    """A feed as one sees it who receives from it."""

    @property
    def missing(self) -> int | None:
        """Not None while it is being found out whether there is more."""
        ...


class FarReceiver(Protocol):
    """A receiver whose feed another node serves: which outcomes hold is that node's to say."""

    def complete_runs(self, runs: Iterable[tuple[int, Sequence[int]]]) -> None:
        """Settle messages for good: the serial of a lock, and numbers under it."""
        ...

    def modify(
        self, held: tuple[int, int], properties: Mapping[str, object], *, optional: bool
    ) -> None:
        """Give a message properties with the outcome that comes next.

        If they are too much the outcome is refused, or with `optional` counts without them.
        """
        ...

    def then(self, done: Callable[[Refused], None]) -> None:
        """Call back when all outcomes so far are durable, with those that were refused.

        When that cannot be known the receiver ends, and nothing is called.
        """
        ...


class Attached(Protocol):
    """A receiver.

    Attributes:
        credit: How many messages it would take now, which its edge may tell; None: not known.
    """

    credit: Callable[[], int | None]

    @property
    def subscription(self) -> SubscriptionView:
        """Whose feed."""
        ...

    @property
    def feed(self) -> FeedView:
        """The subscription itself, or its dead letters."""
        ...

    @property
    def pending(self) -> int:
        """Messages that are taken and cannot be handed out yet."""
        ...

    @property
    def ended(self) -> HotpathError | None:
        """Once `closed` has been called: why; None when the subscription is gone for good."""
        ...

    @property
    def far(self) -> FarReceiver | None:
        """Itself, when another node serves the feed."""
        ...


class Delivers(Protocol):
    """As `hotpath.service.deliver.Delivering`."""

    def attach(
        self,
        known: Known,
        *,
        dead: bool,
        lock: bool,
        wake: Callable[[], None],
        closed: Callable[[], None],
    ) -> Attached:
        """Add a receiver. Raises LimitReached, NotFound; another node refuses by `closed`."""
        ...

    def detach(self, receiver: Attached) -> None:
        """Remove a receiver; what it holds under lock goes back."""
        ...

    def pull(self, receiver: Attached, limit: int) -> list[Taken]:
        """Take up to `limit` messages."""
        ...

    def pull_run(self, receiver: Attached, limit: int, *, now_ms: int) -> Holding | None:
        """Lock the next messages, all of one batch, where that is all that there is to do."""
        ...

    @property
    def tally(self) -> dict[Count, int] | None:
        """Where an edge that takes what `pull_run` would give counts it; None: it has to ask."""
        ...

    def count_pulled(self) -> None:
        """Add to the metrics what `pull_run` has given, and what was counted in the tally."""
        ...


class Settles(Protocol):
    """As `hotpath.service.settle.Settling`; of a far feed everything is taken as held."""

    def complete_accepted(
        self,
        subscription: SubscriptionView,
        feed: FeedView,
        accepted: Accepted,
        late: list[object],
    ) -> tuple[int, int]:
        """Settle what a link end has gathered."""
        ...

    def complete_all(self, ends: list[Submits], waiting: list[tuple[Twin, int]]) -> int:
        """Settle what link ends have gathered, or have them do it; how many were settled here."""
        ...

    def count_completed(self) -> None:
        """Add to the metrics what was completed."""
        ...

    def modify(
        self, feed: FeedView, held: Iterable[tuple[int, int]], properties: Mapping[str, object]
    ) -> None:
        """Give messages properties, before their outcome. Raises LimitReached."""
        ...

    def abandon(
        self,
        subscription: SubscriptionView,
        feed: FeedView,
        seq: int,
        serial: int,
        *,
        failed: bool = True,
    ) -> bool:
        """Give a message back."""
        ...

    def defer(self, subscription: SubscriptionView, feed: FeedView, seq: int, serial: int) -> bool:
        """Set a message aside."""
        ...

    def dead_letter(
        self,
        subscription: SubscriptionView,
        feed: FeedView,
        held: tuple[int, int],
        *,
        reason: str,
        description: str = "",
        properties: dict[str, object] | None = None,
    ) -> bool:
        """Copy a message to the dead letters. Raises LimitReached."""
        ...


class Confirms(Protocol):
    """As `hotpath.service.commit.Committer`, for those who wait."""

    def then(self, done: Callable[[LogFailure | None], None]) -> None:
        """Call back when everything handed in here so far is durable."""
        ...

    def settled(self) -> Awaitable[None]:
        """Wait for everything so far, far outcomes too. Raises LogFailure."""
        ...


# Managing


class What(IntEnum):
    """What becomes of messages."""

    COMPLETE = 1
    ABANDON = 2
    DEFER = 3
    DEAD_LETTER = 4


@dataclass(frozen=True, slots=True)
class Disposition:
    """One outcome for messages that are named by their locks."""

    what: What
    held: Sequence[tuple[int, int]]
    """Number and lock serial of each."""
    properties: dict[str, object] = field(default_factory=dict)
    """To be given to the messages; those of a dead letter are put into its copy."""
    reason: str = ""
    description: str = ""


class FeedCalls(Protocol):
    """What may be asked of one feed besides receiving; locks given here end with `close`."""

    def spec(self) -> SubscriptionSpec:
        """The definition as it is now. Raises NotFound when it is gone."""
        ...

    async def renew(self, held: Sequence[tuple[int, int]]) -> list[int]:
        """Extend locks, all or none; their new ends, monotonic. Raises LockLost, NotFound."""
        ...

    async def peek(self, from_seq: int, *, count: int, bytes_max: int) -> list[Peeked]:
        """As `hotpath.service.peek.Peeking.peek`. Raises NotFound, Unavailable."""
        ...

    async def receive(self, seqs: Sequence[int], *, lock: bool) -> list[Received]:
        """As `hotpath.service.deferred.Deferrals.receive`. Raises NotFound, Unavailable."""
        ...

    async def settle(self, disposition: Disposition) -> None:
        """Give messages an outcome if all their locks are held; durable when it returns.

        Raises LockLost, LimitReached, NotFound, Unavailable, LogFailure.
        """
        ...

    def close(self) -> None:
        """Give locks back."""
        ...


class CallsOf(Protocol):
    """Where to ask about a feed."""

    def __call__(self, known: Known, *, dead: bool) -> FeedCalls:
        """The calls of a subscription's feed, or of its dead letters."""
        ...


@dataclass(frozen=True, slots=True)
class FeedServices:
    """What an edge is given for feeds."""

    delivering: Delivers
    settling: Settles
    committer: Confirms
    calls: CallsOf

    @classmethod
    def here(
        cls, delivering: Delivering, settling: Settling, committer: Committer, calls: CallsOf
    ) -> "FeedServices":
        """The services themselves: all that an edge hands them, it has got from them."""
        return cls(cast("Delivers", delivering), cast("Settles", settling), committer, calls)
