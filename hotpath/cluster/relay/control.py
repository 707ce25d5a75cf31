"""Control calls about a subscription that another node serves.

What a caller may see and do is checked where the call comes in: every node has the definitions.
The owner is asked for what only it knows, and told what only it can do.
"""

from collections.abc import Awaitable, Callable
from typing import Final

from hotpath.cluster.relay.frames import Damaged, read_items, write_items
from hotpath.cluster.relay.messages import as_int, as_text
from hotpath.cluster.relay.node import Relay
from hotpath.core.subscription import Subscription
from hotpath.model.errors import Unavailable
from hotpath.model.subscription import SubscriptionSpec
from hotpath.service.admin import SubscriptionFigures

_FIGURES: Final = "figures"
_END: Final = "end"


class ControlAnswers:
    """The owner's side; what each call does comes from the service."""

    def __init__(
        self,
        relay: Relay,
        *,
        figures: Callable[[SubscriptionSpec], SubscriptionFigures],
        end: Callable[[Subscription, str], Awaitable[None]],
    ) -> None:
        self._figures = figures
        self._end = end
        relay.owner.asked[_FIGURES] = self._answer_figures
        relay.owner.asked[_END] = self._answer_end

    async def _answer_figures(self, subscription: Subscription, _: bytes) -> bytes:
        found = self._figures(subscription.spec)
        return write_items(
            found.last_activity_ms,
            found.expires_ms,
            found.backlog,
            found.locked,
            found.delivered,
            found.dead_lettered,
            found.clients,
        )

    async def _answer_end(self, subscription: Subscription, question: bytes) -> bytes:
        await self._end(subscription, as_text(read_items(question, 1)[0]))
        return b""


class RemoteControl:
    """The asking side."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay

    async def figures(self, spec: SubscriptionSpec) -> SubscriptionFigures:
        """As `Administration.figures`. Raises NotFound, Unavailable."""
        answer = await self._relay.ask(spec, _FIGURES, b"")
        try:
            numbers = [as_int(item) for item in read_items(answer, 7)]
        except Damaged as fault:
            raise Unavailable(f"the owner's answer cannot be read: {fault}") from fault
        active_ms, expires_ms, backlog, locked, delivered, dead, clients = numbers
        return SubscriptionFigures(
            spec=spec,
            last_activity_ms=active_ms,
            expires_ms=expires_ms,
            backlog=backlog,
            locked=locked,
            delivered=delivered,
            dead_lettered=dead,
            clients=clients,
        )

    async def end(self, spec: SubscriptionSpec, *, cause: str) -> None:
        """End a subscription; durable when it returns. Raises NotFound, Unavailable."""
        await self._relay.ask(spec, _END, write_items(cause))
