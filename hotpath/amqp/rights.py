"""The right a link was attached with, which its connection watches until it ends."""

from collections.abc import Callable
from typing import Protocol

from hotpath.amqp.conditions import Condition
from hotpath.auth.rights import Action, Grant
from hotpath.model.names import Address


class Closable(Protocol):
    """A link end that its right can end."""

    def close(self, condition: Condition) -> None:
        """Detach with an error."""
        ...


class LinkRight:
    """What a link may do, until when.

    Attributes:
        address: The entity it reaches.
        action: What it does there.
        grant: What it stands on.
        until_ms: Wall-clock end of the grant it stands on; None for one without an end.
        end: The link end; None while it is being attached.
        reaches: Whether another grant leads to the same entity, not only to the same address.
    """

    __slots__ = ("action", "address", "end", "grant", "reaches", "until_ms")

    def __init__(self, address: Address, action: Action, grant: Grant) -> None:
        self.address = address
        self.action = action
        self.grant = grant
        self.until_ms = grant.until_ms
        self.end: Closable | None = None
        self.reaches: Callable[[Grant], bool] = lambda _: False

    def ended(self, now_ms: int) -> bool:
        """Whether it has ended at a wall-clock time."""
        return self.until_ms is not None and now_ms >= self.until_ms

    def extend(self, grant: Grant, now_ms: int) -> None:
        """Stand on another grant if it covers the same and lasts longer."""
        if self.until_ms is None:
            return
        if grant.until_ms is not None and grant.until_ms <= self.until_ms:
            return
        if grant.covers(self.address, self.action, now_ms) and self.reaches(grant):
            self.stand_on(grant)

    def stand_on(self, grant: Grant) -> None:
        """Last as long as another grant, which covers and reaches the same."""
        self.grant = grant
        self.until_ms = grant.until_ms
