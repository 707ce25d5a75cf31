"""Publishing links: deliveries of peers become messages of a topic.

All deliveries that one read brought go to the log together; they are accepted and settled when
the commit that holds them is durable. Credit is topped up as long as the log keeps up. A delivery
that is no message is rejected by itself; one that is too large ends its link.
"""

from typing import Final

from hotpath.amqp import capi, conditions
from hotpath.amqp.conditions import (
    DECODE_ERROR,
    MESSAGE_SIZE,
    TRANSFER_LIMIT,
    Condition,
    condition_of,
)
from hotpath.amqp.context import Host
from hotpath.amqp.ends import Handles, Inlet, delivery_of, refer
from hotpath.amqp.inbound import Assembler, Oversize
from hotpath.amqp.rights import LinkRight
from hotpath.model.errors import HotpathError
from hotpath.model.names import TopicKey
from hotpath.service.publish import Published
from hotpath.wire.batching import split_envelope
from hotpath.wire.jsonbody import split_array
from hotpath.wire.message import normalise
from hotpath.wire.types import WireError

VIA: Final = "amqp"

#: A descriptor as a small ulong, an ulong and a symbol: how a message begins.
_SECTION_STARTS: Final = (b"\x00\x53", b"\x00\x80", b"\x00\xa3")


class Ingress:
    """Our end of one publishing link."""

    __slots__ = (
        "_assembler",
        "_detached",
        "_gone",
        "_host",
        "_link",
        "_pending",
        "_relief_due",
        "right",
        "topic",
        "twin",
    )

    def __init__(
        self, link: capi.LinkPtr, *, host: Host, topic: TopicKey, right: LinkRight
    ) -> None:
        self.topic = topic
        self.right = right
        self._link = link
        self._host = host
        bytes_max = host.context.settings.max_message_bytes
        self._assembler = Assembler(link, bytes_max=bytes_max)
        self.twin = Inlet(refer(link), bytes_max)
        self._pending = 0
        self._relief_due = False
        self._detached: bool | None = None
        self._gone = False
        self.top_up()

    # From the engine

    def on_delivery(self, _: capi.DeliveryPtr) -> None:
        """Take in what the twin leaves: deliveries of several frames, aborted ones, large ones.

        The rest is done by `submit` when all of it has been read.
        """
        if self._gone:
            return
        held = self._assembler.held_bytes
        try:
            complete = self._assembler.read()
        except Oversize:
            self._refuse_oversize()
            return
        finally:
            if held or self._assembler.held_bytes:
                self._host.hold_bytes(self._assembler.held_bytes - held)
        self.twin.suspended = bool(self._assembler.held_bytes)
        if complete is not None:
            self.twin.add(refer(complete[0]), complete[1])
            self._host.note_filled(self)

    def on_flow(self) -> None:
        """Nothing: credit is ours to give."""

    def on_detach(self, *, closed: bool) -> None:
        """Answer, but only after what was sent before has its outcome."""
        self.submit()
        if self._gone:
            # What was submitted has ended the link with an error: both sides have detached.
            self._host.engine.finish(self._link, closed=True)
            return
        self._detached = closed
        self._finish_if_done()

    def on_lost(self) -> None:
        """The link is gone; what was submitted still becomes durable."""
        self.submit()
        self._leave()

    def _leave(self) -> None:
        self._gone = True
        self._host.hold_bytes(-self._assembler.held_bytes)
        self.twin.take()
        self._host.forget(self.right)
        self.right.end = None

    def close(self, condition: Condition) -> None:
        """Detach with an error; what was sent before and is not answered stays open."""
        if not self._gone:
            self._leave()
            self._host.engine.close_link(self._link, condition)
            self._host.mark()

    # To the log

    def submit(self) -> None:
        """Hand everything that has been read to the log."""
        taken = self.twin.take()
        if taken is None:
            return
        payloads, deliveries, odd = taken
        if self.right.ended(self._host.context.clock.now_ms()):
            self._host.end_right(self.right)
            return
        if odd:
            payloads, deliveries = self._look_at(payloads, deliveries, frozenset(odd))
        self._append(payloads, deliveries)
        self.top_up()

    def _look_at(
        self, raws: list[bytes], deliveries: Handles, odd: frozenset[int]
    ) -> tuple[list[bytes], Handles]:
        """Messages as they are stored, and the deliveries that stand for them; others rejected."""
        payloads: list[bytes] = []
        taken: list[object] = []
        for index, raw in enumerate(raws):
            if index not in odd:
                payloads.append(raw)
                taken.append(deliveries[index])
                continue
            delivery = delivery_of(deliveries[index])
            try:
                payloads += self._messages_of(raw, delivery)
            except WireError as error:
                self._reject_malformed(delivery, error)
            else:
                taken.append(deliveries[index])
        return payloads, Handles(taken)

    def _messages_of(self, raw: bytes, delivery: capi.DeliveryPtr) -> list[bytes]:
        """The stored messages that a delivery stands for. Raises WireError."""
        elements_max = self._host.context.settings.max_array_elements
        tags = self._host.batches.tags
        if tags and (tag := capi.delivery_tag(delivery)) in tags and _holds_messages(raw):
            tags.discard(tag)
            return [normalise(message) for message in split_envelope(raw)]
        stored = normalise(raw)
        elements = split_array(stored, elements_max)
        return [stored] if elements is None else elements

    def _append(self, payloads: list[bytes], taken: Handles) -> None:
        """Append what there is; `taken` get their outcome when it is durable."""
        if not payloads:
            taken.settle(capi.ACCEPTED)
            return
        self._host.earned += len(payloads)
        published = self._when_published(taken)
        self._host.context.publishing.submit(self.topic, payloads, published, via=VIA)

    def _when_published(self, taken: Handles) -> Published:
        """What gives deliveries their outcome once it is known."""
        self._pending += 1

        def published(error: HotpathError | None) -> None:
            self._pending -= 1
            if self._gone:
                return
            if error is None:
                taken.settle(capi.ACCEPTED)
            else:
                condition = condition_of(error)
                for delivery in taken:
                    self._reject(delivery_of(delivery), condition)
            self._finish_if_done()
            self._host.mark()

        return published

    def _reject_malformed(self, delivery: capi.DeliveryPtr, error: WireError) -> None:
        """Tell the publisher of a delivery that is no message."""
        self._reject(delivery, Condition(DECODE_ERROR, str(error), {"offset": error.offset}))
        self._host.context.metrics.messages_refused.labels(VIA, "malformed").inc()

    @staticmethod
    def _reject(delivery: capi.DeliveryPtr, condition: Condition) -> None:
        local = capi.disposition_condition(capi.delivery_local(delivery))
        conditions.write(local, condition)
        capi.delivery_update(delivery, capi.REJECTED)
        capi.delivery_settle(delivery)

    def _finish_if_done(self) -> None:
        """Answer a detach that waited."""
        if self._detached is not None and not self._pending and not self._gone:
            self._leave()
            self._host.engine.finish(self._link, closed=self._detached)

    def _refuse_oversize(self) -> None:
        limit = self._host.context.settings.max_message_bytes
        text = f"a message is at most {limit} bytes"
        self._host.context.metrics.messages_refused.labels(VIA, "too-large").inc()
        self.submit()
        self.close(Condition(MESSAGE_SIZE, text, {"limit-bytes": limit}))

    # Credit

    def top_up(self) -> None:
        """Give credit as long as the log keeps up."""
        if self._gone or self._detached is not None:
            return
        context = self._host.context
        full = context.settings.publish_credit
        credit = capi.link_credit(self._link)
        if credit < 0:
            text = "more deliveries were sent than there was credit for"
            self.close(Condition(TRANSFER_LIMIT, text, {"credit": full}))
        elif context.publishing.congested or self._host.stopping:
            self._wait_for_relief()
        elif credit <= full // 2:
            capi.link_flow(self._link, full - credit)
            self._host.mark()

    def _wait_for_relief(self) -> None:
        if self._relief_due or self._host.stopping:
            return
        self._relief_due = True

        def relieved() -> None:
            self._relief_due = False
            self.top_up()

        self._host.context.publishing.when_relieved(relieved)


def _holds_messages(raw: bytes) -> bool:
    """Whether the first data section begins like a message, which no text does.

    The mark of a batch is found by the delivery-tag, and a delivery of another link may have the
    same one.
    """
    try:
        return split_envelope(raw)[0][:2] in _SECTION_STARTS
    except WireError:
        return False
