"""Rights, as values: a `Principal` for REST calls, `Grant`s for AMQP connections.

Tokens are read in `hotpath.auth.jwt` and `hotpath.auth.sas`; nothing behind the edges sees one.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from hotpath.auth.sas import SigningKey
from hotpath.model.names import Address, AddressKind, PublisherId, TenantId, Topic
from hotpath.model.subscription import SubscriptionSpec

SCOPE_PREFIX: Final = "hotpath."


class Permission(StrEnum):
    """What a principal may do; a scope is `hotpath.<permission>[:<topic>]`."""

    SUBSCRIBE = "subscribe"
    PUBLISH = "publish"
    ADMIN = "admin"


class Action(StrEnum):
    """What a link does."""

    LISTEN = "Listen"
    SEND = "Send"


@dataclass(frozen=True, slots=True)
class Principal:
    """The caller of a control call, as its JWT describes it."""

    tenant: TenantId
    subject: str
    scopes: frozenset[str]
    condition: str | None = None
    """QEL that is added (AND) to every filter of this caller."""
    partitions: frozenset[str] = frozenset()
    until_ms: int | None = None
    """When the token ends, wall clock; None for one without an end."""

    def may(self, permission: Permission, topic: Topic | None = None) -> bool:
        """Whether the scopes allow `permission`, on `topic` or (None) on all topics."""
        name = SCOPE_PREFIX + permission.value
        if name in self.scopes:
            return True
        return topic is not None and f"{name}:{topic.value}" in self.scopes

    def may_anywhere(self, permission: Permission) -> bool:
        """Whether the scopes allow `permission` on at least one topic."""
        return any(self.may(permission, topic) for topic in Topic)

    def sees(self, spec: SubscriptionSpec) -> bool:
        """Whether a subscription is the caller's own.

        It is when it belongs to the caller's tenant and, for a caller with a condition, carries
        the same one: else renewing the token of a wider feed would escape the condition.
        """
        return spec.tenant == self.tenant and self.condition in (None, spec.condition)


@dataclass(frozen=True, slots=True)
class Origin:
    """What a grant stands on: when that is revoked, so is the grant, before its time."""

    key: SigningKey
    publisher: PublisherId | None = None
    """Whose token it is."""
    feed: Address | None = None
    """Address of the subscription whose token it is."""
    generation: int = 0
    """Of that subscription's tokens."""


@dataclass(frozen=True, slots=True)
class Grant:
    """What one token gives to a connection.

    Attributes:
        actions: What links may do.
        segments: The resource path, in lower case; it covers itself and everything below.
        tenant: Whose topics a Send reaches and, for a Listen, whose subscriptions; None for a
            Listen that the resource alone narrows (a subscription's own token).
        until_ms: Wall-clock end; None for one without an end.
        topics: Topics it is narrowed to, or None for all.
        condition: As `Principal.condition`; a Listen then reaches only feeds that carry it.
        origin: What it can be revoked by; None when only its end ends it.
    """

    actions: frozenset[Action]
    segments: tuple[str, ...]
    tenant: TenantId | None
    until_ms: int | None
    topics: dict[Action, frozenset[Topic]] | None = None
    condition: str | None = None
    origin: Origin | None = None

    def covers(self, address: Address, action: Action, now_ms: int) -> bool:
        """Whether `action` on `address` lies within this grant at `now_ms` (wall clock)."""
        if action not in self.actions or self.ended(now_ms):
            return False
        if self.topics is not None and address.topic not in self.topics.get(action, ()):
            return False
        return _segments_of(address)[: len(self.segments)] == self.segments

    def ended(self, now_ms: int) -> bool:
        """Whether the token has ended; there is no leeway."""
        return self.until_ms is not None and now_ms >= self.until_ms


@dataclass(slots=True)
class Grants:
    """The grants of one connection, by the audience they were put for."""

    limit: int = 4_096
    _by_audience: dict[str, Grant] = field(default_factory=dict)
    # By what they cover: a connection with a thousand links has a thousand tokens.
    _by_segments: dict[tuple[str, ...], dict[str, Grant]] = field(default_factory=dict)

    def put(self, audience: str, grant: Grant) -> bool:
        """Add or renew a grant; False when the connection holds too many already."""
        if audience in self._by_audience:
            self._remove(audience)
        elif len(self._by_audience) >= self.limit:
            return False
        self._by_audience[audience] = grant
        self._by_segments.setdefault(grant.segments, {})[audience] = grant
        return True

    def _remove(self, audience: str) -> None:
        segments = self._by_audience.pop(audience).segments
        same = self._by_segments[segments]
        del same[audience]
        if not same:
            del self._by_segments[segments]

    def covering(self, address: Address, action: Action, now_ms: int) -> Grant | None:
        """The grant with the latest end that covers `action` on `address`, or None."""
        best: Grant | None = None
        for grant in self.all_covering(address, action, now_ms):
            if best is None or _later(grant, best):
                best = grant
        return best

    def all_covering(self, address: Address, action: Action, now_ms: int) -> list[Grant]:
        """Every grant that covers `action` on `address`."""
        path = _segments_of(address)
        return [
            grant
            for length in range(len(path) + 1)
            for grant in self._by_segments.get(path[:length], {}).values()
            if grant.covers(address, action, now_ms)
        ]

    def drop(self, is_revoked: Callable[[Grant], bool]) -> None:
        """Forget grants that have been revoked."""
        revoked = [name for name, grant in self._by_audience.items() if is_revoked(grant)]
        for name in revoked:
            self._remove(name)

    def prune(self, now_ms: int) -> None:
        """Forget grants that have ended."""
        ended = [name for name, grant in self._by_audience.items() if grant.ended(now_ms)]
        for name in ended:
            self._remove(name)

    def next_end_ms(self) -> int | None:
        """The earliest end of a grant, wall clock, or None."""
        ends = [g.until_ms for g in self._by_audience.values() if g.until_ms is not None]
        return min(ends, default=None)

    def __len__(self) -> int:
        return len(self._by_audience)


def _segments_of(address: Address) -> tuple[str, ...]:
    """The address in the form of `Grant.segments`."""
    return tuple(address.path.lower().split("/")) if address.path else ()


def _later(grant: Grant, other: Grant) -> bool:
    """Whether `grant` ends after `other`."""
    if other.until_ms is None:
        return False
    return grant.until_ms is None or grant.until_ms > other.until_ms


def action_for(kind: AddressKind, *, sending: bool) -> Action:
    """The action a link asks for: `sending` is seen from the client."""
    return Action.SEND if sending and kind is AddressKind.TOPIC else Action.LISTEN
