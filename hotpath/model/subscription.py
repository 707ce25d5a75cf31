"""Subscriptions and publishers as they are stored, and a subscription's progress.

A subscription's *progress* is what has become of the messages its filter matched:

    seq is settled  <=>  seq < horizon and seq not in unsettled, or seq in settled

`unsettled` lists the exceptions below the horizon, `settled` those at or above it. Messages that
the filter does not match count as settled; which ones match follows from the filter and the log.
Between full snapshots the log keeps small `ProgressDelta`s, one a commit and changed subscription.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import NamedTuple

from hotpath.model.names import PublisherId, SubscriptionId, TenantId, Topic, TopicKey


@dataclass(frozen=True, slots=True)
class SubscriptionSpec:
    """What a subscription is; after its creation only `generation` changes, by replacement."""

    id: SubscriptionId
    tenant: TenantId
    topic: Topic
    filter: str
    """QEL as its creator wrote it."""
    condition: str | None
    """QEL that the creator's rights add to the filter (AND), or None."""
    ttl_ms: int
    """Idle time after which it is deleted."""
    sas_ttl_ms: int
    """Default life of its feed tokens."""
    start_seq: int
    """First sequence number that belongs to it."""
    created_ms: int
    creator: str = ""
    """The principal's `sub`, for the audit trail."""
    ttl_minutes: float = 0.0
    """As asked for, in API minutes."""
    sas_ttl_minutes: float = 0.0
    """As asked for, in API minutes."""
    generation: int = 0
    """How often its tokens have been revoked; only tokens of this generation count."""

    @property
    def key(self) -> TopicKey:
        """The log it reads."""
        return TopicKey(self.tenant, self.topic)


@dataclass(frozen=True, slots=True)
class PublisherSpec:
    """A right to publish to one topic of one tenant, until its token ends."""

    id: PublisherId
    tenant: TenantId
    topic: Topic
    created_ms: int
    expires_ms: int
    creator: str = ""


class ProgressDelta(NamedTuple):
    """What one commit changes in a subscription's progress.

    Everything below `cursor` is settled; `settled` are further ones at or above it. `counts`
    holds changed delivery counts, `deferred` changed deferral (True: deferred). A delta that is
    applied twice changes nothing.
    """

    cursor: int
    settled: tuple[int, ...] = ()
    counts: tuple[tuple[int, int], ...] = ()
    deferred: tuple[tuple[int, bool], ...] = ()
    active_ms: int | None = None
    """Last activity, service time; None when this commit does not renew it."""
    settled_total: int = 0
    """Messages settled since creation, this commit included."""
    delivered_total: int = 0
    """Deliveries sent since creation."""
    modified: tuple[tuple[int, bytes], ...] = ()
    """All application-properties that receivers have given a message, as an encoded map."""


@dataclass(slots=True)
class Progress:
    """A subscription's settled messages and delivery counts, in full."""

    horizon: int
    unsettled: set[int] = field(default_factory=set)
    settled: set[int] = field(default_factory=set)
    counts: dict[int, int] = field(default_factory=dict)
    deferred: set[int] = field(default_factory=set)
    active_ms: int = 0
    settled_total: int = 0
    """Messages settled since creation."""
    delivered_total: int = 0
    """Deliveries sent since creation."""
    matched_total: int = 0
    """Messages below `counted_to` that matched since creation."""
    counted_to: int = 0
    """Up to which sequence number `matched_total` counts."""
    modified: dict[int, bytes] = field(default_factory=dict)
    """Application-properties that receivers have given messages, as encoded maps."""
    _floor: int = field(default=0, init=False, repr=False, compare=False)
    """Nothing that is known here is below."""

    def is_settled(self, seq: int) -> bool:
        """Whether `seq` is done with."""
        if seq < self.horizon:
            return seq not in self.unsettled
        return seq in self.settled

    @property
    def cursor(self) -> int:
        """First sequence number that may be unsettled: everything before it is settled."""
        return min(self.unsettled, default=self.horizon)

    def apply(self, delta: ProgressDelta) -> None:
        """Take in what a later commit changed."""
        self._settle_below(delta.cursor)
        self.horizon = max(self.horizon, delta.cursor)
        for seq in delta.settled:
            self._settle(seq)
        self.counts.update(item for item in delta.counts if not self.is_settled(item[0]))
        self.modified.update(item for item in delta.modified if not self.is_settled(item[0]))
        for seq, is_deferred in delta.deferred:
            if is_deferred and not self.is_settled(seq):
                self.deferred.add(seq)
            else:
                self.deferred.discard(seq)
        if delta.active_ms is not None:
            self.active_ms = max(self.active_ms, delta.active_ms)
        self.settled_total = max(self.settled_total, delta.settled_total)
        self.delivered_total = max(self.delivered_total, delta.delivered_total)

    def _settle(self, seq: int) -> None:
        """Note one message as settled; what else is known of it means nothing any more."""
        if seq >= self.horizon:
            self.settled.add(seq)
        self.unsettled.discard(seq)
        self.counts.pop(seq, None)
        self.modified.pop(seq, None)
        self.deferred.discard(seq)

    def _settle_below(self, cursor: int) -> None:
        """Forget everything below a cursor; costs what lies between it and the last one."""
        if cursor <= self._floor:
            return
        for known, forget in (
            (self.unsettled, self.unsettled.discard),
            (self.settled, self.settled.discard),
            (self.deferred, self.deferred.discard),
            (self.counts, self.counts.__delitem__),
            (self.modified, self.modified.__delitem__),
        ):
            for seq in _below(known, self._floor, cursor):
                forget(seq)
        self._floor = cursor


def _below(known: Collection[int], floor: int, cursor: int) -> list[int]:
    """Which of `known` (none of them below `floor`) are below `cursor`, by the shorter way."""
    if cursor - floor < len(known):
        return [seq for seq in range(floor, cursor) if seq in known]
    return [seq for seq in known if seq < cursor]
