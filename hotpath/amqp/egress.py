"""Receiving links: a feed's messages become deliveries, and their outcomes are applied.

A wake-up or new credit puts the link on its connection's list; when the connection is flushed,
`pump` pulls what credit allows and sends it: one shared prefix, the sequence number, the stored
bytes. The delivery-tag is the lock token: sequence number and lock serial, 16 bytes.

Outcomes are gathered while a read is taken in, then applied at once. A receiver that settled
itself (receiver-settle-mode first) needs no answer. One that waits (second) is answered with the
same outcome when the commit that holds it is durable, or with `rejected` and
`com.microsoft:message-lock-lost` when the lock had ended.

    accepted                       complete
    rejected                       dead-letter; reason and description from the error's info
    released                       back to the feed, delivery count unchanged
    modified                       back to the feed, delivery count + 1
    modified, undeliverable-here   deferred
    ... with message-annotations   these are application-properties of it from then on
    settled without an outcome     as released
"""

from collections import deque
from collections.abc import Sequence
from functools import partial
from typing import Final, cast

from hotpath import native
from hotpath.amqp import capi
from hotpath.amqp.conditions import (
    RESOURCE_DELETED,
    Condition,
    condition_of,
    ended_with,
    lock_lost,
)
from hotpath.amqp.context import Host
from hotpath.amqp.ends import IN_C, Outlet, refer
from hotpath.amqp.outcomes import ENCODED, Outcome, rejection
from hotpath.amqp.rejection import read_rejection
from hotpath.amqp.rights import LinkRight
from hotpath.core.feed import Taken
from hotpath.core.locks import Holding
from hotpath.model.errors import LimitReached
from hotpath.model.message import Batch
from hotpath.model.names import subscription_path
from hotpath.ports import LogFailure
from hotpath.service.feeds import Attached, FarReceiver, Known, Refused, spec_of
from hotpath.service.modified import lay_over
from hotpath.telemetry import get_logger
from hotpath.wire.deadletter import simple_properties
from hotpath.wire.identity import with_message_id
from hotpath.wire.message import BrokerAnnotations, DeliveryPrefix, common_prefix
from hotpath.wire.types import WireError

#: Messages pulled at once: what a link may send before the next one has its turn.
PULL_MAX: Final = 512
#: And no more than there may be room for, if they are as small as this, bytes.
SMALL_BYTES: Final = 256

Held = tuple[int, int]
"""A locked message: its sequence number and the serial of its lock."""

_log = get_logger("hotpath.amqp.egress")


class _Run:
    """Pulled messages on their way out; `at` is the next one."""

    __slots__ = ("alike", "at", "payloads", "prefix", "taken")

    def __init__(self, taken: Taken, prefix: DeliveryPrefix | None, *, alike: bool) -> None:
        self.taken = taken
        # The log's memory of recent batches may let go of them meanwhile.
        self.payloads: Sequence[bytes] = taken.batch.payloads or ()
        self.prefix = prefix
        #: Whether the prefix and the stored bytes are all there is to each of them.
        self.alike = alike
        self.at = 0


class Egress:
    """Our end of one receiving link."""

    __slots__ = (
        "_extra",
        "_far",
        "_gone",
        "_host",
        "_is_settled",
        "_is_usual",
        "_link",
        "_maybe_more",
        "_receiver",
        "_session",
        "_unsent",
        "_window_bytes",
        "right",
        "twin",
    )

    def __init__(
        self,
        link: capi.LinkPtr,
        *,
        host: Host,
        known: Known,
        dead: bool,
        settled: bool,
        right: LinkRight,
    ) -> None:
        """Raises LimitReached when the subscription has too many receivers."""
        self.right = right
        self._link = link
        self._session = capi.link_session(link)
        self._host = host
        self._window_bytes = host.context.settings.output_bytes_max
        self.twin = Outlet(refer(link))
        self._unsent: deque[_Run] = deque()
        self._maybe_more = True
        self._gone = False
        spec = spec_of(known)
        source = subscription_path(spec.topic, spec.id)
        self._extra = BrokerAnnotations(deadletter_source=source) if dead else None
        # Of a subscription, under a lock, and sent as prefix and stored bytes.
        self._is_settled = settled
        self._is_usual = not (dead or settled or host.wants_message_ids)
        self._receiver: Attached = host.context.delivering.attach(
            known,
            dead=dead,
            lock=not settled,
            wake=host.waker(self),
            closed=self._on_closed,
        )
        self._receiver.credit = self.twin.credit
        self._far: FarReceiver | None = self._receiver.far
        self._is_usual = self._is_usual and self._far is None

    # Waking

    def on_wake(self) -> None:
        """There may be something to send."""
        if not self._gone:
            self._maybe_more = True
            self._host.want_pump(self)

    def _on_closed(self) -> None:
        """The feed is gone; unless that is for good, the peer is told to come again."""
        error = self._receiver.ended
        if error is not None:
            self.close(ended_with(error))
            return
        text = "the subscription was deleted"
        self.close(Condition(RESOURCE_DELETED, text, {"address": self.right.address.path}))

    def on_flow(self) -> None:
        """Pull: the twin has seen that there is something new to do."""
        self._maybe_more = True
        self._host.want_pump(self)

    @property
    def has_more(self) -> bool:
        """Whether another `pump` may send more."""
        return not self._gone and (bool(self._unsent) or self._maybe_more)

    # Sending

    def pump(self, room: int) -> int:
        """Pull and send up to about `room` bytes; how many it were."""
        if self._gone:
            return 0
        if self.right.ended(self._host.moment.now_ms):
            self._host.end_right(self.right)
            return 0
        if self._is_usual and not self._unsent:
            sent = self._pump_runs(room)
            if sent:
                return sent
        return self._pump_all(room)

    def _pump_runs(self, room: int) -> int:
        """As `pump`, as long as runs of messages, or parts of them, are all there is; 0 if not."""
        receiver, moment = self._receiver, self._host.moment
        limit = min(self.twin.allowance(self._window_bytes), PULL_MAX, 1 + room // SMALL_BYTES)
        pull, sent = self._host.context.delivering.pull_run, 0
        while limit > 0 and sent < room:
            holding = pull(receiver, limit, now_ms=moment.ticks_ms)
            if holding is None:
                break
            limit -= len(holding.seqs)
            sent += self._send_holding(holding, room - sent)
            if self._unsent or not receiver.subscription.ready_count:
                break
        self._maybe_more = receiver.subscription.has_more()
        return sent

    def _send_holding(self, holding: Holding, room: int) -> int:
        """Send what was locked together; what is not sent waits in a run."""
        moment, seqs, batch = self._host.moment, holding.seqs, cast("Batch", holding.batch)
        opening = moment.opening(batch.enqueued_ms, holding.until_ms)
        payloads: Sequence[bytes] = batch.payloads or ()
        at, sent = self.twin.send(opening, seqs, 0, batch.first_seq, holding.serial, payloads, room)
        return sent if at == len(seqs) else sent + self.keep_unsent(holding, at, room - sent)

    def keep_unsent(self, holding: Holding, at: int, room: int) -> int:
        """Let what was locked together wait from `at` on, but for `room` bytes; how many it were.

        The message there may be one that does not go out as prefix and stored bytes.
        """
        seqs, batch = holding.seqs, cast("Batch", holding.batch)
        run = self._run_of(Taken(batch, seqs, None, holding.serial, holding.until_ms))
        run.at = at
        self._unsent.append(run)
        sent = self._send(room)
        self.twin.watch(self.twin.credit(), bool(self._unsent))
        return sent

    def _pump_all(self, room: int) -> int:
        """As `pump`, whatever there is."""
        if capi.session_outgoing_bytes(self._session) >= self._window_bytes:
            # The peer's session window is closed: what is sent now would wait in memory.
            self._host.want_pump_after_read(self)
            return 0
        if not self._unsent:
            self._pull(room)
        sent = self._send(room)
        if not self._unsent and not self._maybe_more and self.twin.draining():
            self._drained()
        self.twin.watch(self.twin.credit(), bool(self._unsent))
        return sent

    def _pull(self, room: int) -> None:
        """Take what credit allows, and what may fit into so many bytes."""
        limit = min(self.twin.credit(), PULL_MAX, 1 + room // SMALL_BYTES)
        self._maybe_more = False
        if limit <= 0:
            return
        context = self._host.context
        taken = context.delivering.pull(self._receiver, limit)
        # What `pull` set aside as expired counts too, so this may look once too often.
        self._maybe_more = sum(len(part.seqs) for part in taken) >= limit
        for part in taken:
            self._unsent.append(self._run_of(part))

    def _run_of(self, part: Taken) -> _Run:
        """Prepare what the messages of one taking have in common."""
        if part.counts is not None:
            return _Run(part, None, alike=False)
        prefix = self._prefix(part, 0)
        return _Run(part, prefix, alike=not self._host.wants_message_ids)

    def _prefix(self, part: Taken, count: int) -> DeliveryPrefix:
        until_ms = self._host.moment.wall_ms(part.until_ms) if part.serial else None
        if self._extra is None:
            return common_prefix(part.batch.enqueued_ms, until_ms, count)
        return DeliveryPrefix(
            enqueued_ms=part.batch.enqueued_ms,
            locked_until_ms=until_ms,
            delivery_count=count,
            extra=self._extra,
        )

    def _send(self, room: int) -> int:
        """Send unsent messages while there is room; how many bytes it were."""
        sent = 0
        while self._unsent and sent < room:
            run = self._unsent[0]
            at = run.at
            sent += self._send_run(run, room - sent)
            if self._is_settled:
                # No outcome will come: to have taken it is all that a receiver can do.
                self._host.earned += run.at - at
            if run.at < len(run.taken.seqs):
                break
            self._unsent.popleft()
        return sent

    def _send_run(self, run: _Run, room: int) -> int:
        """Send messages of one batch: those that are alike in one go, each other by itself."""
        taken, sent = run.taken, 0
        while run.at < len(taken.seqs) and sent < room:
            if run.alike and run.prefix is not None:
                run.at, size = self.twin.send(
                    run.prefix.opening,
                    taken.seqs,
                    run.at,
                    taken.batch.first_seq,
                    taken.serial,
                    run.payloads,
                    room - sent,
                )
                sent += size
                if run.at == len(taken.seqs) or sent >= room:
                    break
            encoded = self._encode(run, run.at)
            run.at += 1
            if encoded is not None:
                self.twin.send_one(taken.seqs[run.at - 1], taken.serial, encoded)
                sent += len(encoded)
        return sent

    def _encode(self, run: _Run, at: int) -> bytes | None:
        """The bytes of one delivery; None when the stored message is damaged."""
        taken = run.taken
        seq = taken.seqs[at]
        prefix = run.prefix
        if prefix is None:
            prefix = self._prefix(taken, taken.counts[at] if taken.counts else 0)
        try:
            stored = run.payloads[seq - taken.batch.first_seq]
            if taken.modified is not None:
                stored = lay_over(stored, taken.modified.get(seq))
            if self._host.wants_message_ids:
                stored = with_message_id(stored, str(seq))
            return prefix.wire(seq, stored)
        except (WireError, IndexError) as error:
            # Its lock ends, and after some deliveries it is set aside.
            where = {"address": self.right.address.path, "seq": seq, "reason": str(error)}
            _log.error("stored message damaged", extra=where)
            return None

    def _drained(self) -> None:
        """Give unused credit back, unless what is there must be read from disk first."""
        receiver = self._receiver
        feed, subscription = receiver.feed, receiver.subscription
        itself: object = subscription
        behind = feed is itself and subscription.behind_at is not None
        if feed.missing is None and not behind and not receiver.pending:
            capi.link_drained(self._link)

    # Outcomes

    def on_delivery(self, delivery: capi.DeliveryPtr) -> None:
        """Nothing: the twin hears of deliveries."""

    def on_outcome(self, reference: object, held: Held, outcome: Outcome) -> None:
        """Apply an outcome that is not `accepted`; the twin gathers those for `submit`."""
        self._host.earned += 1
        settling, receiver = self._host.context.settling, self._receiver
        where = (receiver.subscription, receiver.feed)
        kept: bool | None
        match outcome.state:
            case capi.REJECTED:
                kept = self._set_aside(reference, held, outcome)
            case capi.MODIFIED if not self._modify(reference, held, outcome):
                kept = None
            case capi.MODIFIED if outcome.undeliverable:
                kept = settling.defer(*where, *held)
            case _:
                failed = outcome.state == capi.MODIFIED
                kept = settling.abandon(*where, *held, failed=failed)
        if kept is None or outcome.settled:
            return
        if kept:
            self._echo_when_durable(reference, held, outcome.state)
        else:
            self._reject(reference, lock_lost())

    def submit(self) -> None:
        """Complete what was accepted, in one go."""
        if self._far is not None:
            self._submit_far(self._far)
            return
        receiver, settling = self._receiver, self._host.context.settling
        late: list[object] = []
        done, waiting = settling.complete_accepted(
            receiver.subscription, receiver.feed, self.twin, late
        )
        self._host.earned += done
        if late:
            self.answer_late(late)
        if waiting:
            self._host.confirmations.add(self.twin, waiting)

    def answer_late(self, late: list[object]) -> None:
        """Tell of deliveries whose lock had ended before they were accepted."""
        self._answer(late, rejection(lock_lost()))

    def _submit_far(self, far: FarReceiver) -> None:
        """As `submit`; which locks hold is known when it is durable."""
        taken = self.twin.take()
        if taken is None:
            return
        runs, waiting = taken
        far.complete_runs(runs)
        self._host.earned += sum(len(seqs) for _, seqs in runs)
        if waiting:
            # Those that wait come last.
            held = [(seq, serial) for serial, seqs in runs for seq in seqs][-len(waiting) :]
            far.then(partial(self._answer_far, waiting, held, capi.ACCEPTED))

    def _answer_far(
        self, waiting: list[object], held: list[Held], state: int, refused: Refused
    ) -> None:
        """Settle with the receiver's own outcome, but for what was refused."""
        if self._gone:
            return
        kept = []
        for reference, each in zip(waiting, held, strict=True):
            error = refused.get(each)
            if error is None:
                kept.append(reference)
            else:
                self._reject(reference, condition_of(error))
        self._answer(kept, ENCODED[state])

    def _set_aside(self, reference: object, held: Held, outcome: Outcome) -> bool | None:
        """Dead-letter a message; False when the lock was lost, None when that is refused.

        Then it stays locked; a receiver that settled itself cannot be told.
        """
        reason, description, more = read_rejection(outcome.error)
        receiver = self._receiver
        try:
            return self._host.context.settling.dead_letter(
                receiver.subscription,
                receiver.feed,
                held,
                reason=reason,
                description=description,
                properties=more,
            )
        except LimitReached as error:
            if not outcome.settled:
                self._reject(reference, condition_of(error))
            return None

    def _modify(self, reference: object, held: Held, outcome: Outcome) -> bool:
        """Give a message the properties of the outcome `modified` (§3.4.5); False if refused.

        Then it stays locked. A receiver that settled itself cannot be told: the outcome counts.
        """
        properties = simple_properties(outcome.annotations)
        try:
            if self._far is None:
                self._host.context.settling.modify(self._receiver.feed, (held,), properties)
            else:
                self._far.modify(held, properties, optional=outcome.settled)
        except WireError:
            pass
        except LimitReached as error:
            if not outcome.settled:
                self._reject(reference, condition_of(error))
                return False
            where = {"address": self.right.address.path, "reason": error.detail}
            _log.info("properties not kept", extra=where)
        return True

    def _reject(self, reference: object, condition: Condition) -> None:
        self._answer([reference], rejection(condition))

    def _answer(self, references: list[object], outcome: bytes) -> None:
        self.twin.answer(references, outcome)
        self._host.mark()

    def _echo_when_durable(self, reference: object, held: Held, state: int) -> None:
        """Settle with the receiver's own outcome once the commit that holds it is durable."""
        if self._far is not None:
            self._far.then(partial(self._answer_far, [reference], [held], state))
            return

        def durable(failure: LogFailure | None) -> None:
            if not self._gone and failure is None:
                self._answer([reference], ENCODED[state])

        self._host.context.committer.then(durable)

    # Ending

    def on_detach(self, *, closed: bool) -> None:
        """Give back what is locked, and answer."""
        self._leave()
        self._host.engine.finish(self._link, closed=closed)

    def on_lost(self) -> None:
        """Give back what is locked."""
        self._leave()

    def close(self, condition: Condition) -> None:
        """Give back what is locked, and detach with an error."""
        if not self._gone:
            self._leave()
            self._host.engine.close_link(self._link, condition)
            self._host.mark()

    def _leave(self) -> None:
        if self._gone:
            return
        # Outcomes that came before the end of the link count.
        self.submit()
        self._host.context.settling.count_completed()
        self._gone = True
        self.twin.clear()
        self._unsent.clear()
        self._host.forget(self.right)
        self.right.end = None
        self._host.context.delivering.detach(self._receiver)


if IN_C:
    native.learn({"Egress": Egress, "LinkRight": LinkRight})
