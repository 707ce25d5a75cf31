"""One stream's deliveries: from its feed to its endpoint.

A `Pusher` is a receiver of the stream's subscription like any other: it pulls with the credit it
has, holds what it pulled under lock, and settles it. What is on its way stands in `Lanes`, at most
`window` events, by number and without payload; the rest stays in the log. The `Breaker` says how
many requests may be under way, the `Dispatcher` when this stream has its turn, the `Schedule` what
comes after a failure.

    pull → lanes → launch → exchange ─┬─ delivered  complete
              ↑                       ├─ failed     counted durably, back into its lane with a time
              └───────────────────────┘  given up   dead letter, with the reason

Attempts are counted in the subscription's progress, so a restart goes on where the schedule was.
An event that an endpoint has not taken within `lifetime_ms` is given up before the log's retention
takes it. A disabled stream sends nothing; its events go to the dead letters as they come.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Final

from hotpath.core.feed import Taken
from hotpath.model.errors import LimitReached, Unavailable
from hotpath.model.stream import StreamStatus
from hotpath.ports import LogFailure, TimerHandle
from hotpath.service.streams import Stream
from hotpath.service.streams_resume import KEY_CHANGED
from hotpath.webhooks.breaker import Breaker, Circuit
from hotpath.webhooks.context import Context
from hotpath.webhooks.history import DEAD_LETTERED, DELIVERED, FAILED
from hotpath.webhooks.journal import Journal
from hotpath.webhooks.lanes import Event, Lanes
from hotpath.webhooks.letters import Letters
from hotpath.webhooks.loading import in_memory, load
from hotpath.webhooks.redriving import Redriving
from hotpath.webhooks.reporting import Reporter
from hotpath.webhooks.retry import TOO_MANY_REQUESTS, Outcome, Verdict
from hotpath.webhooks.sending import Sending
from hotpath.webhooks.values import event_of, point_of

#: An endpoint that answers within this many milliseconds is quick.
QUICK_MS: Final = 1_000
#: How long after a failed read of the log the next one is tried, milliseconds.
READ_AGAIN_MS: Final = 1_000
#: How long after a dead letter was refused for want of room the next one is tried.
BURY_AGAIN_MS: Final = 60_000

EXHAUSTED: Final = "RetriesExhausted"
REJECTED: Final = "Rejected"
GONE: Final = "EndpointGone"
DISABLED: Final = "StreamDisabled"
EXPIRED: Final = "Expired"
UNREADABLE: Final = "Unreadable"


class Pusher:
    """See the module.

    Attributes:
        stream: Whose events.
        sending: Its requests.
        journal: What was attempted lately.
        in_flight: Requests under way.
        in_line: Kept by the dispatcher.
    """

    def __init__(
        self, stream: Stream, *, context: Context, letters: Letters, reporter: Reporter
    ) -> None:
        self.stream = stream
        self.in_flight = 0
        self.in_line = False
        self.sending = Sending(stream, context)
        self.journal = Journal(stream, context=context, reporter=reporter, sending=self.sending)
        self._context = context
        self._letters = letters
        self._reporter = reporter
        self._lanes = Lanes()
        self._breaker = Breaker(
            steps_ms=context.schedule.steps_ms,
            disable_after_ms=context.limits.disable_after_ms,
            status=stream.status,
            since_ms=stream.spec.status_ms,
        )
        self._maybe_more = True
        self._pump_scheduled = False
        self._proven = False
        self._closed = False
        self._delivered: list[tuple[int, int]] = []
        self._timer: TimerHandle | None = None
        self._timer_at = 0
        self._redriving = Redriving(stream, context=context, letters=letters)
        self._receiver = context.delivering.attach(
            stream.subscription, dead=False, lock=True, wake=self.wake, closed=self.close
        )

    # Waking and pulling

    def wake(self) -> None:
        """There may be something to pull."""
        self._maybe_more = True
        self._pump_soon()

    def _pump_soon(self) -> None:
        if not self._pump_scheduled and not self._closed:
            self._pump_scheduled = True
            asyncio.get_running_loop().call_soon(self._pump)

    def _pump(self) -> None:
        """Settle what was delivered, pull what there is room for, ask for a turn."""
        self._pump_scheduled = False
        self._flush()
        if self._closed or self._context.dispatcher.stopped:
            return
        width = self._context.limits.width
        while self._maybe_more and self._room() > 0 and self._lanes.ready < 2 * width:
            self._pull(min(self._room(), 4 * width))
        self._redriving.prepare(self._room(), self._lanes.insert, self._pump_soon)
        if self._breaker.status is StreamStatus.DISABLED:
            self._give_up_all()
        self._go_on()

    def _room(self) -> int:
        return self._context.limits.window - len(self._lanes)

    def _go_on(self) -> None:
        """Stand in line if there is something to send, and see to it that time is watched."""
        if self.has_more():
            self._context.dispatcher.want(self)
        self._arm()

    def _pull(self, limit: int) -> None:
        taken = self._context.delivering.pull(self._receiver, limit)
        self._maybe_more = sum(len(part.seqs) for part in taken) >= limit
        for part in taken:
            self._take_in(part)

    def _take_in(self, part: Taken) -> None:
        """Put pulled messages into their lanes."""
        batch, schedule = part.batch, self._context.schedule
        payloads = batch.payloads or ()
        for index, seq in enumerate(part.seqs):
            event = Event(
                seq,
                part.serial,
                point=point_of(payloads[seq - batch.first_seq], seq),
                batch=batch,
                enqueued_ms=batch.enqueued_ms,
            )
            if part.counts and part.counts[index]:
                event.attempts = part.counts[index]
                event.first_ms = event.last_ms = batch.enqueued_ms
                wait_ms = schedule.resumed_ms(
                    event.attempts,
                    enqueued_ms=batch.enqueued_ms,
                    now_ms=self._context.clock.now_ms(),
                )
                event.due_ms = self._context.clock.ticks_ms() + wait_ms if wait_ms else 0
            self._lanes.add(event)

    # Sending: what the dispatcher asks

    @property
    def quick(self) -> bool:
        """Whether its endpoint has lately answered at once."""
        return self._proven

    def has_more(self) -> bool:
        """Whether another `launch` may begin a request."""
        now_ms = self._context.clock.ticks_ms()
        width = self._breaker.width(now_ms, full=self._context.limits.width)
        if self._closed or self.in_flight >= width:
            return False
        self._lanes.next_due(now_ms)
        return self._lanes.ready > 0

    def launch(self) -> bool:
        """Begin one request, if there is one to make."""
        event = self._next()
        if event is None:
            self._pump_soon()
            return False
        self.in_flight += 1
        quick = self._proven
        stored = in_memory(event)
        if stored is None:
            self._context.tasks.spawn(self._load_and_send(event, quick=quick))
        else:
            self._send(event, stored, quick=quick)
        if self._lanes.ready < self._context.limits.width and self._maybe_more:
            self._pump_soon()
        return True

    def _next(self) -> Event | None:
        """The next event to send; those of points that are the stream's no more are let go."""
        while self.has_more():
            event = self._lanes.take(self._context.clock.ticks_ms())
            if event is None:
                return None
            if event.redriven or self._held(event):
                if not self._context.schedule.exhausted(event.attempts):
                    return event
                self._give_up(event, EXHAUSTED, "the attempts ended before a restart")
                continue
            self._complete(event)
        return None

    def _held(self, event: Event) -> bool:
        return self._context.streams.holds(self.stream, event.point, event.seq)

    async def _load_and_send(self, event: Event, *, quick: bool) -> None:
        try:
            stored = await load(self.stream, event, context=self._context, letters=self._letters)
        except (LogFailure, Unavailable):
            self._returned(quick=quick)
            self._lanes.again(event, due_ms=self._context.clock.ticks_ms() + READ_AGAIN_MS)
            self._go_on()
            return
        if self._closed:
            self._returned(quick=quick)
        elif stored is None:
            # The log has lost it; giving it up says so in the service's log.
            self._returned(quick=quick)
            self._give_up(event, UNREADABLE, "the log does not have it any more")
            self._pump_soon()
        else:
            self._send(event, stored, quick=quick)

    def _send(self, event: Event, stored: bytes, *, quick: bool) -> None:
        body = event_of(stored)
        if body is None:
            self._returned(quick=quick)
            self._give_up(event, UNREADABLE, "the stored message is damaged")
            self._pump_soon()
            return
        now_ms = self._context.clock.now_ms()
        event.last_ms = now_ms
        event.first_ms = event.first_ms or now_ms
        self.sending.send(event.seq, body, partial(self._answered, event, quick))

    def _returned(self, *, quick: bool) -> None:
        self.in_flight -= 1
        self._context.dispatcher.ended(quick=quick)

    # Outcomes

    def _answered(self, event: Event, quick: bool, outcome: Outcome) -> None:
        """An attempt has ended."""
        self._returned(quick=quick)
        if self._closed or (self._context.dispatcher.stopped and outcome.status is None):
            return  # Nobody's fault: it comes again after the start.
        attempt = event.attempts + 1
        status = self._apply(event, outcome)
        self.journal.note(event, outcome, attempt=attempt, status=status)
        self._report(outcome.reason)
        self._pump_soon()

    def _apply(self, event: Event, outcome: Outcome) -> str:
        """What becomes of an event; how its attempt is called."""
        now_ms, clock = self._context.clock.ticks_ms(), self._context.clock
        verdict = outcome.verdict
        self._proven = verdict is Verdict.DELIVERED and outcome.duration_ms <= QUICK_MS
        if verdict is Verdict.DELIVERED:
            if self._breaker.succeeded():
                self._lanes.hasten(now_ms)
            self._complete(event)
            return DELIVERED
        self._breaker.failed(now_ms, wall_ms=clock.now_ms())
        self._count_failure(event)
        if verdict is Verdict.GONE:
            self._breaker.gone()
            self._give_up(event, GONE, outcome.reason)
        elif verdict is Verdict.HOPELESS:
            self._give_up(event, REJECTED, outcome.reason)
        elif self._context.schedule.exhausted(event.attempts):
            self._give_up(event, EXHAUSTED, outcome.reason)
        else:
            self._wait(event, outcome, now_ms)
            return FAILED
        return DEAD_LETTERED

    def _count_failure(self, event: Event) -> None:
        """Durably, so that a restart goes on from there."""
        event.attempts += 1
        if not event.redriven:
            self._context.settling.fail(self.stream.subscription, event.seq, event.serial)

    def _wait(self, event: Event, outcome: Outcome, now_ms: int) -> None:
        """Put a failed event back until its next attempt."""
        schedule, draw = self._context.schedule, self._context.draw.random()
        wall_ms = self._context.clock.now_ms()
        asked_ms = schedule.asked_ms(outcome.retry_after, now_ms=wall_ms, draw=draw)
        event.asked = asked_ms is not None
        delay_ms = schedule.delay_ms(event.attempts, draw=draw) if asked_ms is None else asked_ms
        if asked_ms is not None and outcome.status == TOO_MANY_REQUESTS:
            self._breaker.hold(now_ms + asked_ms)
        self._lanes.again(event, due_ms=now_ms + max(delay_ms, 1))

    def _complete(self, event: Event) -> None:
        """An event is done with; the settlement goes out with others of this turn."""
        self._lanes.finish(event)
        if event.redriven:
            self._redriving.delivered(event)
        else:
            self._delivered.append((event.seq, event.serial))

    def _flush(self) -> None:
        delivered, self._delivered = self._delivered, []
        if delivered:
            subscription = self.stream.subscription
            self._context.settling.complete(subscription, subscription, delivered)

    def _give_up(self, event: Event, reason: str, description: str) -> None:
        """An event that is out goes to the dead letters, or stays there."""
        if self._bury(event, reason, description):
            self._lanes.finish(event)
        else:
            self._lanes.again(event, due_ms=self._context.clock.ticks_ms() + BURY_AGAIN_MS)

    def _bury(self, event: Event, reason: str, description: str) -> bool:
        """Set an event aside; False when there is no room for it."""
        if event.redriven:
            self._redriving.failed(event)
            return True
        try:
            self._letters.bury(self.stream, event, reason=reason, description=description)
        except LimitReached:
            return False
        return True

    def _give_up_those(
        self, chosen: Callable[[Event], bool], reason: str, description: str
    ) -> bool:
        """Set aside what is chosen and not out; False when there was no room for all."""
        refused_at = self._context.clock.ticks_ms() + BURY_AGAIN_MS
        refused = [
            event
            for event in self._lanes.remove(chosen)
            if not self._bury(event, reason, description)
        ]
        for event in refused:
            event.parked = True
            event.due_ms = refused_at
            self._lanes.add(event)
        return not refused

    def _give_up_all(self) -> None:
        """The stream is disabled: nothing waits any more."""
        now_ms = self._context.clock.ticks_ms()
        text = self.stream.reason or "the endpoint is not to be asked"
        if self._give_up_those(lambda e: not e.parked or e.due_ms <= now_ms, DISABLED, text):
            self._redriving.forget()
            if self._maybe_more:
                self._pump_soon()

    # Status

    def _report(self, reason: str) -> None:
        """Tell of a change of status."""
        status = self._breaker.status
        if status is StreamStatus.FAILING:
            reason = f"{self._breaker.failures} failed attempts in a row, the last one: {reason}"
        elif status is StreamStatus.ACTIVE:
            reason = ""
        self._reporter.report(self.stream, status, reason)

    @property
    def sealed(self) -> bool:
        """Whether the stream is disabled because its secret cannot be read any more."""
        return self.stream.status is StreamStatus.DISABLED and self.stream.reason == KEY_CHANGED

    def enable(self) -> None:
        """Somebody has shown, or says, that the endpoint is to be tried again."""
        if self._breaker.status is StreamStatus.DISABLED:
            self._breaker.enable()
            self._report("")
        self._pump_soon()

    def changed(self) -> None:
        """The stream's points, secrets or status have changed."""
        for event in self._lanes.remove(lambda e: not e.redriven and not self._held(e)):
            self._delivered.append((event.seq, event.serial))
        if self.sealed and self._context.streams.secrets(self.stream):
            self.enable()  # It has been given a new one.
        elif not self._reporter.pending(self.stream):
            was_disabled = self._breaker.status is StreamStatus.DISABLED
            if self.stream.status is StreamStatus.DISABLED and not was_disabled:
                self._breaker.gone()
            elif was_disabled and self.stream.status is not StreamStatus.DISABLED:
                self._breaker.enable()
        self._pump_soon()

    # Time

    def _arm(self) -> None:
        """Set the one timer to when something may be sent that may not be now."""
        now_ms = self._context.clock.ticks_ms()
        due_ms = self._lanes.next_due(now_ms)
        if self._lanes.ready:
            due_ms = now_ms
        opens_ms = self._breaker.opens_at(now_ms)
        at_ms = 0 if due_ms is None else max(due_ms, opens_ms or 0)
        if at_ms == self._timer_at and self._timer is not None:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if at_ms > now_ms and not self._closed:
            self._timer_at = at_ms
            self._timer = self._context.clock.call_at(at_ms, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._go_on()

    def sweep(self) -> None:
        """Now and then: give up what is too old, end what has failed for too long, tidy up."""
        wall_ms = self._context.clock.now_ms()
        self.sending.sweep()
        if self._breaker.overdue(wall_ms):
            hours = self._context.limits.disable_after_ms / 3_600_000
            reason = f"failing for {hours:g} hours without a success"
            self._reporter.report(self.stream, StreamStatus.DISABLED, reason)
        born_ms = wall_ms - self._context.limits.lifetime_ms
        down = self._breaker.circuit(self._context.clock.ticks_ms()) is not Circuit.CLOSED
        self._give_up_those(
            lambda e: e.enqueued_ms < born_ms and not e.redriven and (down or e.attempts > 0),
            EXPIRED,
            "not delivered in the time that the log keeps it",
        )
        self._pump_soon()

    # Dead letters once more

    def redrive(self, seqs: list[int]) -> int:
        """Send dead letters again; how many of them were not under way already."""
        count = self._redriving.choose(seqs)
        self.enable()
        return count

    # The end

    def close(self) -> None:
        """Stop at once; what is under way is given up, and comes again if the stream lives."""
        if self._closed:
            return
        self._flush()
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        self.sending.close()

    def stop(self) -> None:
        """Close, and let go of what is held."""
        self.close()
        self._context.delivering.detach(self._receiver)
