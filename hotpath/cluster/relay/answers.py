"""The bodies of answers about subscriptions: figures, looks, and what became of a message."""

from collections.abc import Callable
from typing import Final, TypeVar

from hotpath.cluster.relay.frames import Damaged, read_items, write_items
from hotpath.cluster.relay.messages import as_int, as_list, as_text
from hotpath.model.errors import Unavailable
from hotpath.model.message import DeadLetter
from hotpath.model.subscription import SubscriptionSpec
from hotpath.service.admin import SubscriptionFigures, compile_filter
from hotpath.service.control import FeedLook, InFeed
from hotpath.service.look import Seen
from hotpath.service.reasons import Judge
from hotpath.service.why import Account, Fate

_Value = TypeVar("_Value")

_FIGURES: Final = 8


def understand(read: Callable[[], _Value]) -> _Value:
    """What an answer says. Raises Unavailable when it cannot be read."""
    try:
        return read()
    except Damaged as fault:
        raise Unavailable(
            f"the node that serves the subscription cannot be understood: {fault}"
        ) from fault


# Figures


def write_figures(found: SubscriptionFigures) -> list[object]:
    """As a value of a body."""
    return [
        found.spec.id,
        found.last_activity_ms,
        found.expires_ms,
        found.backlog,
        found.locked,
        found.delivered,
        found.dead_lettered,
        found.clients,
    ]


def read_figures(value: object, specs: dict[str, SubscriptionSpec]) -> SubscriptionFigures:
    """Figures of one of some subscriptions. Raises Damaged."""
    items = as_list(value)
    if len(items) < _FIGURES or (spec := specs.get(as_text(items[0]))) is None:
        raise Damaged("figures lack something")
    active_ms, expires_ms, backlog, locked, delivered, dead, clients = map(
        as_int, items[1:_FIGURES]
    )
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


# Looks


def write_look(look: FeedLook) -> bytes:
    """A body."""
    rows = [[*each.seen, each.fate.value, each.delivery_count] for each in look.messages]
    return write_items(rows, look.upto, look.more)


def read_look(body: bytes) -> FeedLook:
    """A look from its body. Raises Damaged."""
    rows, upto, more = read_items(body, 3)
    return FeedLook([_read_in_feed(row) for row in as_list(rows)], as_int(upto), more is True)


def _read_in_feed(value: object) -> InFeed:
    items = as_list(value)
    if len(items) < 5:
        raise Damaged("a message lacks something")
    return InFeed(_read_seen(items[:3]), _read_fate(items[3]), as_int(items[4]))


def _read_seen(value: object) -> Seen:
    items = as_list(value)
    if len(items) < 3 or not isinstance(items[2], bytes):
        raise Damaged("a message lacks something")
    return Seen(as_int(items[0]), as_int(items[1]), items[2])


def _read_fate(value: object) -> Fate:
    try:
        return Fate(as_text(value))
    except ValueError as fault:
        raise Damaged(str(fault)) from fault


# What became of a message


def write_account(account: Account) -> bytes:
    """A body; the judgement follows from the message and is not in it."""
    letter = account.letter
    return write_items(
        account.seq,
        account.fate.value,
        account.detail,
        None if account.seen is None else list(account.seen),
        account.judgement is not None,
        account.expires_ms,
        account.delivery_count,
        account.locked_until_ms,
        None if letter is None else _letter_items(letter),
    )


def _letter_items(letter: DeadLetter) -> list[object]:
    return [letter.seq, letter.enqueued_ms, letter.payload, letter.reason, letter.description]


def read_account(body: bytes, spec: SubscriptionSpec) -> Account:
    """What became of a message of a subscription. Raises Damaged."""
    seq, fate, detail, seen, judged, expires, count, locked, letter = read_items(body, 9)
    message = None if seen is None else _read_seen(seen)
    judgement = None
    if judged is True and message is not None:
        judgement = Judge(compile_filter(spec)).explain(message.stored)
    return Account(
        as_int(seq),
        _read_fate(fate),
        as_text(detail),
        seen=message,
        judgement=judgement,
        expires_ms=_optional(expires),
        delivery_count=as_int(count),
        locked_until_ms=_optional(locked),
        letter=None if letter is None else _read_letter(letter),
    )


def _optional(value: object) -> int | None:
    return None if value is None else as_int(value)


def _read_letter(value: object) -> DeadLetter:
    items = as_list(value)
    if len(items) < 5 or not isinstance(items[2], bytes):
        raise Damaged("a dead letter lacks something")
    return DeadLetter(
        as_int(items[0]),
        enqueued_ms=as_int(items[1]),
        payload=items[2],
        reason=as_text(items[3]),
        description=as_text(items[4]),
    )
