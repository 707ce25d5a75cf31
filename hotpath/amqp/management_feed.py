"""Management of a feed or of its dead letters: locks, looking, deferred messages, outcomes."""

from typing import Final

from hotpath.amqp.conditions import MESSAGE_NOT_FOUND, Condition, Refused
from hotpath.amqp.context import Host
from hotpath.amqp.management_fields import (
    NOTHING,
    Body,
    Operation,
    lock_token,
    read_number,
    read_numbers,
    read_text,
    read_tokens,
    refuse,
)
from hotpath.model.errors import NotFound, Unsupported
from hotpath.service.feeds import Disposition, Known, What, spec_of
from hotpath.wire.deadletter import simple_properties
from hotpath.wire.identity import with_message_id
from hotpath.wire.message import BrokerAnnotations, DeliveryPrefix
from hotpath.wire.sections import AMQP_VALUE, DATA, iter_sections
from hotpath.wire.types import Array, Described, Timestamp, ULong, WireError

#: Messages of one peek.
PEEK_MAX: Final = 1_000
RULE_NAME: Final = "$Default"

_STATUSES: Final = {
    "completed": What.COMPLETE,
    "abandoned": What.ABANDON,
    "defered": What.DEFER,
    "suspended": What.DEAD_LETTER,
}

_TIMESTAMP: Final = 0x83
_DEFERRED: Final = 1
_EMPTY_BODY: Final = b"\x00\x53\x75\xa0\x00"

# Descriptors of the Service Bus family.
_RULE: Final = ULong(0x13700000004)
_SQL_FILTER: Final = ULong(0x1370000006)
_EMPTY_ACTION: Final = ULong(0x13700000005)


class FeedOperations:
    """What may be asked of one feed; locks given here end with the connection."""

    def __init__(self, host: Host, known: Known, *, dead: bool) -> None:
        self._host = host
        self._context = host.context
        self._calls = host.context.calls(known, dead=dead)
        spec = spec_of(known)
        source = f"{spec.topic.value}/Subscriptions/{spec.id}"
        self._source = source if dead else None

    def by_name(self) -> dict[str, Operation]:
        """From the names of operations to them."""
        return {
            "renew-lock": self.renew,
            "peek-message": self.peek,
            "receive-by-sequence-number": self.receive,
            "update-disposition": self.settle,
            "enumerate-rules": self.list_rules,
        }

    def close(self) -> None:
        """Give locks back."""
        self._calls.close()

    async def renew(self, body: Body) -> object:
        """`renew-lock`: extend locks; their new ends."""
        self._calls.spec()
        ends = await self._calls.renew(read_tokens(body))
        stamps = tuple(Timestamp(self._wall_ms(end)) for end in ends)
        return {"expirations": Array(_TIMESTAMP, stamps)}

    def _wall_ms(self, ticks_ms: int) -> int:
        clock = self._context.clock
        return ticks_ms - clock.ticks_ms() + clock.now_ms()

    # Looking

    async def peek(self, body: Body) -> object:
        """`peek-message`: messages from a sequence number on, neither locked nor settled."""
        if body.get("session-id") is not None:
            raise Unsupported("message sessions are not supported")
        self._calls.spec()
        count = min(read_number(body, "message-count"), PEEK_MAX)
        found = await self._calls.peek(
            read_number(body, "from-sequence-number"),
            count=count,
            bytes_max=self._context.settings.max_message_bytes,
        )
        messages: list[object] = []
        for peeked in found:
            prefix = DeliveryPrefix(
                enqueued_ms=peeked.enqueued_ms,
                delivery_count=peeked.delivery_count,
                extra=self._extra(deferred=peeked.deferred),
            )
            raw = self._wire(prefix, peeked.seq, peeked.stored)
            if raw is not None:
                bare = body.get("omit-message-body") is True
                messages.append({"message": _without_body(raw) if bare else raw})
        return {"messages": messages} if messages else NOTHING

    def _extra(self, *, deferred: bool) -> BrokerAnnotations:
        return BrokerAnnotations(
            message_state=_DEFERRED if deferred else 0, deadletter_source=self._source
        )

    def _wire(self, prefix: DeliveryPrefix, seq: int, stored: bytes) -> bytes | None:
        """A message as it is delivered; None when it is damaged."""
        try:
            if self._host.wants_message_ids:
                stored = with_message_id(stored, str(seq))
            return prefix.wire(seq, stored)
        except WireError:
            return None

    # Deferred messages

    async def receive(self, body: Body) -> object:
        """`receive-by-sequence-number`: take deferred messages, under a lock or for good."""
        self._calls.spec()
        seqs, mode = (
            read_numbers(body, "sequence-numbers"),
            read_number(body, "receiver-settle-mode"),
        )
        if mode > 1:
            raise refuse("`receiver-settle-mode` is 0 (first) or 1 (second)")
        try:
            taken = await self._calls.receive(seqs, lock=mode == 1)
        except NotFound as error:
            info = {"sequence-numbers": len(seqs)}
            raise Refused(Condition(MESSAGE_NOT_FOUND, error.detail, info)) from error
        messages: list[object] = []
        for message in taken:
            token = lock_token(message.seq, message.serial)
            prefix = DeliveryPrefix(
                enqueued_ms=message.enqueued_ms,
                locked_until_ms=self._wall_ms(message.until_ms) if message.serial else None,
                delivery_count=message.delivery_count,
                extra=self._extra(deferred=True),
                # azure-servicebus before 7.14 for Python looks for the token only there.
                lock_token=token,
            )
            raw = self._wire(prefix, message.seq, message.stored)
            if raw is not None:
                messages.append({"message": raw, "lock-token": token})
        return {"messages": messages}

    # Outcomes

    async def settle(self, body: Body) -> object:
        """`update-disposition`: settle messages by their lock tokens, durably."""
        status = read_text(body, "disposition-status")
        what = _STATUSES.get(status)
        if what is None:
            raise refuse("`disposition-status` is completed, abandoned, defered or suspended")
        more = _properties(body)
        reason = read_text(body, "deadletter-reason")
        description = read_text(body, "deadletter-description")
        self._calls.spec()
        held = read_tokens(body)
        await self._calls.settle(Disposition(what, held, more, reason, description))
        return None

    # Rules

    async def list_rules(self, body: Body) -> object:
        """`enumerate-rules`: the filter, shown as the one rule there is."""
        spec = self._calls.spec()
        if body.get("skip") or body.get("top") == 0:
            return NOTHING
        rule = Described(
            _RULE,
            [
                Described(_SQL_FILTER, [spec.filter, 20]),
                Described(_EMPTY_ACTION, []),
                RULE_NAME,
                Timestamp(spec.created_ms),
            ],
        )
        return {"rules": [{"rule-description": rule}]}


def _properties(body: Body) -> dict[str, object]:
    """What a message gets besides; simple values only. Raises Invalid."""
    given = body.get("properties-to-modify")
    if given is None:
        return {}
    if not isinstance(given, dict):
        raise refuse("`properties-to-modify` must be a map")
    return simple_properties({str(key): value for key, value in given.items()})


def _without_body(raw: bytes) -> bytes:
    """A message with an empty body."""
    for section in iter_sections(raw):
        if DATA <= section.code <= AMQP_VALUE:
            return raw[: section.start] + _EMPTY_BODY
    return raw
