"""Calls about subscriptions that need their live state, answered by whoever serves them.

What a caller may see is checked where the call comes in: every node has the definitions. While a
subscription moves the call waits for some seconds.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from hotpath.cluster.cards import NodeCard
from hotpath.cluster.relay import answers
from hotpath.cluster.relay.asking import Moving, RelayAsking
from hotpath.cluster.relay.frames import Op, read_items, write_items
from hotpath.cluster.relay.messages import as_int, as_list, as_text
from hotpath.cluster.relay.owner import RelayOwner
from hotpath.core.subscription import Subscription
from hotpath.model.names import SubscriptionId
from hotpath.model.subscription import SubscriptionSpec
from hotpath.service.admin import SubscriptionFigures
from hotpath.service.control import FeedLook, LocalControl
from hotpath.service.why import Account

_FIGURES: Final = "figures"
_ACCOUNT: Final = "account"
_MATCHED: Final = "matched"
_UNSETTLED: Final = "unsettled"

Served = Callable[[SubscriptionId], Subscription | None]
"""The live state of a subscription that this node serves now, or None."""


class RelayedControl:
    """A `hotpath.service.control.SubscriptionControl` of all subscriptions in the cluster."""

    def __init__(
        self, *, asking: RelayAsking, owner: RelayOwner, local: LocalControl, served: Served
    ) -> None:
        self._asking = asking
        self._local = local
        self._served = served
        self._far = _FarControl(asking)
        owner.asked_of_all[_FIGURES] = self._answer_figures
        owner.asked[_ACCOUNT] = self._answer_account
        owner.asked[_MATCHED] = self._answer_matched
        owner.asked[_UNSETTLED] = self._answer_unsettled

    # Asking

    def _of(self, spec: SubscriptionSpec) -> "LocalControl | _FarControl":
        """Who answers for a subscription now."""
        return self._far if self._served(spec.id) is None else self._local

    async def figures(self, specs: Sequence[SubscriptionSpec]) -> list[SubscriptionFigures]:
        """What has become of subscriptions so far. Raises Unavailable."""
        found: dict[SubscriptionId, SubscriptionFigures] = {}
        left = {spec.id: spec for spec in specs}

        async def ask() -> None:
            here = [spec for spec in left.values() if self._served(spec.id) is not None]
            await self._far.gather(_without(left, here), left, found)
            for each in await self._local.figures(here):
                found[each.spec.id] = each
            for spec in here:
                left.pop(spec.id, None)
            if left:
                raise Moving("some of the subscriptions move to other nodes; try again")

        await self._asking.patiently(ask)
        return [found[spec.id] for spec in specs if spec.id in found]

    async def account(self, spec: SubscriptionSpec, seq: int, *, condition: str | None) -> Account:
        """What became of a message. Raises NotFound, Invalid, Unavailable."""
        return await self._asking.patiently(
            lambda: self._of(spec).account(spec, seq, condition=condition)
        )

    async def matched(self, spec: SubscriptionSpec, *, limit: int, after: int | None) -> FeedLook:
        """What the log holds of it. Raises NotFound, Unavailable."""
        return await self._asking.patiently(
            lambda: self._of(spec).matched(spec, limit=limit, after=after)
        )

    async def unsettled(
        self, spec: SubscriptionSpec, *, limit: int, after: int, dead: bool
    ) -> FeedLook:
        """What is not settled, or the dead letters. Raises NotFound, Unavailable."""
        return await self._asking.patiently(
            lambda: self._of(spec).unsettled(spec, limit=limit, after=after, dead=dead)
        )

    # Answering

    async def _answer_figures(self, question: bytes) -> bytes:
        """Rows of those that are served here, and the names of those that are not."""
        names = [as_text(name) for name in as_list(read_items(question, 1)[0])]
        specs, others = [], []
        for name in names:
            subscription = self._served(SubscriptionId(name))
            if subscription is not None:
                specs.append(subscription.spec)
            elif not self._asking.serves(name):
                others.append(name)
        rows = [answers.write_figures(each) for each in await self._local.figures(specs)]
        return write_items(rows, others)

    async def _answer_account(self, subscription: Subscription, question: bytes) -> bytes:
        seq, condition = read_items(question, 2)
        given = None if condition is None else as_text(condition)
        spec = subscription.spec
        return answers.write_account(await self._local.account(spec, as_int(seq), condition=given))

    async def _answer_matched(self, subscription: Subscription, question: bytes) -> bytes:
        limit, after = read_items(question, 2)
        from_seq = None if after is None else as_int(after)
        spec = subscription.spec
        return answers.write_look(
            await self._local.matched(spec, limit=as_int(limit), after=from_seq)
        )

    async def _answer_unsettled(self, subscription: Subscription, question: bytes) -> bytes:
        limit, after, dead = read_items(question, 3)
        look = await self._local.unsettled(
            subscription.spec, limit=as_int(limit), after=as_int(after), dead=dead is True
        )
        return answers.write_look(look)


class _FarControl:
    """Asks other nodes; raises `Moving` besides what they answer."""

    def __init__(self, asking: RelayAsking) -> None:
        self._asking = asking

    async def gather(
        self,
        specs: Iterable[SubscriptionSpec],
        left: dict[SubscriptionId, SubscriptionSpec],
        found: dict[SubscriptionId, SubscriptionFigures],
    ) -> None:
        """Ask each owner once for all figures, and take out of `left` who is answered for.

        Raises Moving, Unavailable.
        """
        groups: dict[NodeCard, list[SubscriptionSpec]] = {}
        for spec in specs:
            card = self._asking.owner_of(spec)
            if card is not None:
                groups.setdefault(card, []).append(spec)
        for card, group in groups.items():
            rows, others = await self._ask_figures(card, group)
            found.update((each.spec.id, each) for each in rows)
            for spec in group:
                if spec.id not in others:
                    left.pop(spec.id, None)

    async def _ask_figures(
        self, card: NodeCard, specs: list[SubscriptionSpec]
    ) -> tuple[list[SubscriptionFigures], set[str]]:
        """Figures, and which subscriptions another node serves by now."""
        question = write_items([spec.id for spec in specs])
        body = write_items(_FIGURES, "", question)
        answer = await self._asking.ask_node(card, Op.ASK, body)
        known: dict[str, SubscriptionSpec] = {spec.id: spec for spec in specs}

        def read() -> tuple[list[SubscriptionFigures], set[str]]:
            rows, others = read_items(answer, 2)
            return (
                [answers.read_figures(row, known) for row in as_list(rows)],
                {as_text(name) for name in as_list(others)},
            )

        return answers.understand(read)

    async def account(self, spec: SubscriptionSpec, seq: int, *, condition: str | None) -> Account:
        """What became of a message."""
        answer = await self._ask(spec, _ACCOUNT, write_items(seq, condition))
        return answers.understand(lambda: answers.read_account(answer, spec))

    async def matched(self, spec: SubscriptionSpec, *, limit: int, after: int | None) -> FeedLook:
        """What the log holds of it."""
        answer = await self._ask(spec, _MATCHED, write_items(limit, after))
        return answers.understand(lambda: answers.read_look(answer))

    async def unsettled(
        self, spec: SubscriptionSpec, *, limit: int, after: int, dead: bool
    ) -> FeedLook:
        """What is not settled, or the dead letters."""
        answer = await self._ask(spec, _UNSETTLED, write_items(limit, after, dead))
        return answers.understand(lambda: answers.read_look(answer))

    async def _ask(self, spec: SubscriptionSpec, name: str, question: bytes) -> bytes:
        return await self._asking.ask_owner(spec, Op.ASK, write_items(name, spec.id, question))


def _without(
    left: dict[SubscriptionId, SubscriptionSpec], here: list[SubscriptionSpec]
) -> list[SubscriptionSpec]:
    names = {spec.id for spec in here}
    return [spec for name, spec in left.items() if name not in names]
