"""Messages that enter their topic's log later.

A scheduled message is durable from its acceptance and known by a number until it is due or
cancelled; entering the log and leaving the schedule are one commit. Due times are wall clock.
"""

from collections.abc import Callable, Sequence
from heapq import heapify, heappop, heappush
from typing import Final, NamedTuple, Protocol

from hotpath.model.errors import LimitReached, Unavailable
from hotpath.model.names import TenantId, TopicKey
from hotpath.ports import Clock, LogFailure, Scheduled, TimerHandle
from hotpath.service.commit import Committer
from hotpath.service.publish import Published, Together, refusal
from hotpath.wire.message import due_ms

#: The timer looks at the wall clock at least this often, so that it notices a jump.
LOOK_MS: Final = 5_000
RETRY_MS: Final = 1_000
#: Entries of the heap up to which nobody looks for cancelled ones among them.
HEAP_MIN: Final = 1_024


class _Held(NamedTuple):
    """What a tenant has scheduled."""

    messages: int
    byte_size: int


_NOTHING: Final = _Held(0, 0)


class Schedules(Protocol):
    """What an edge asks of whoever keeps what is not due yet."""

    async def keep(self, topic: TopicKey, messages: Sequence[tuple[bytes, int]]) -> list[int]:
        """As `Scheduling.keep`. Raises LimitReached, Unavailable."""
        ...

    async def withdraw(self, topic: TopicKey, numbers: Sequence[int]) -> bool:
        """As `Scheduling.withdraw`. Raises Unavailable."""
        ...


class Scheduling:
    """Keeps what is not due yet."""

    def __init__(
        self,
        *,
        committer: Committer,
        clock: Clock,
        per_tenant_max: int,
        bytes_max: int,
        mark: tuple[int, int] = (0, 1),
    ) -> None:
        """With a `mark` (r, m), all numbers given are r modulo m: nobody else's, where m are."""
        self._committer = committer
        self._clock = clock
        self._per_tenant_max = per_tenant_max
        self._bytes_max = bytes_max
        self._waiting: dict[tuple[TopicKey, int], Scheduled] = {}
        # On its way to the schedule; and due, on its way to the log.
        self._keeping: dict[tuple[TopicKey, int], Scheduled] = {}
        self._releasing: dict[tuple[TopicKey, int], Scheduled] = {}
        self._heap: list[tuple[int, int, TopicKey]] = []
        self._held: dict[TenantId, _Held] = {}
        self._last_number = 0
        self._rest, self._modulus = mark
        self._timer: TimerHandle | None = None
        self._timer_at_ms = 0
        self._closed = False

    def resume(self, messages: list[Scheduled]) -> None:
        """Take over what was scheduled before a restart."""
        for message in messages:
            self._count(message, 1)
            self._enter(message)
        self._arm()

    def sort_out(self, payloads: Sequence[bytes]) -> tuple[list[bytes], list[tuple[bytes, int]]]:
        """Messages that enter the log at once, and those that are due later, with their times."""
        now_ms = self._clock.now_ms()
        at_once: list[bytes] = []
        later: list[tuple[bytes, int]] = []
        for payload in payloads:
            due = due_ms(payload)
            if due is None or due <= now_ms:
                at_once.append(payload)
            else:
                later.append((payload, due))
        return at_once, later

    def check_room(self, tenant: TenantId, *, count: int, byte_size: int) -> None:
        """Raises LimitReached when a tenant may not have so many scheduled messages more."""
        held = self._held.get(tenant, _NOTHING)
        if held.messages + count > self._per_tenant_max:
            raise LimitReached("this tenant has as many scheduled messages as are allowed")
        if held.byte_size + byte_size > self._bytes_max:
            text = f"the scheduled messages of a tenant may take {self._bytes_max} bytes"
            raise LimitReached(text)

    async def keep(self, topic: TopicKey, messages: Sequence[tuple[bytes, int]]) -> list[int]:
        """Keep messages with their due times, all or none; durable when it returns their numbers.

        Raises LimitReached, Unavailable.
        """
        byte_size = sum(len(payload) for payload, _ in messages)
        self.check_room(topic.tenant, count=len(messages), byte_size=byte_size)
        waiting = Together(len(messages))
        numbers = [
            self.schedule(topic, payload, due_ms=due, done=waiting.one_done)
            for payload, due in messages
        ]
        await waiting.all_done()
        return numbers

    async def withdraw(self, topic: TopicKey, numbers: Sequence[int]) -> bool:
        """Cancel messages, all or none; False when one of them is not there, else durable.

        Raises Unavailable.
        """
        numbers = list(dict.fromkeys(numbers))
        if any((topic, number) not in self._waiting for number in numbers):
            return False
        waiting = Together(len(numbers))
        for number in numbers:
            self.cancel(topic, number, waiting.one_done)
        await waiting.all_done()
        return True

    def schedule(self, topic: TopicKey, payload: bytes, *, due_ms: int, done: Published) -> int:
        """Keep a message until `due_ms` (wall clock); `done` hears when it is durable.

        Returns the number that names it. Raises LimitReached.
        """
        self.check_room(topic.tenant, count=1, byte_size=len(payload))
        message = Scheduled(topic, self._next_number(), due_ms, payload)

        # It counts from now on: what waits for the log takes memory too.
        self._count(message, 1)
        key = (topic, message.number)
        self._keeping[key] = message

        def kept(failure: LogFailure | None) -> None:
            if self._keeping.pop(key, None) is None:
                done(Unavailable("the schedule is kept elsewhere by now; try again"))
                return
            if failure is not None:
                self._count(message, -1)
                done(refusal(failure))
                return
            self._enter(message)
            self._arm()
            done(None)

        self._committer.schedule(message, kept)
        return message.number

    def cancel(self, topic: TopicKey, number: int, done: Published) -> bool:
        """Forget a message that is not due yet; False when there is none with this number."""
        message = self._waiting.pop((topic, number), None)
        if message is None:
            return False
        self._count(message, -1)
        self._committer.unschedule(topic, number)
        self._committer.then(lambda failure: done(None if failure is None else refusal(failure)))
        return True

    def _next_number(self) -> int:
        # Wall clock and a counter: never used twice, also over a restart.
        lowest = max(self._last_number + 1, self._clock.now_ms() << 20)
        self._last_number = lowest + (self._rest - lowest) % self._modulus
        return self._last_number

    def _enter(self, message: Scheduled) -> None:
        self._last_number = max(self._last_number, message.number)
        self._waiting[(message.topic, message.number)] = message
        heappush(self._heap, (message.due_ms, message.number, message.topic))
        if len(self._heap) > HEAP_MIN and len(self._heap) > 2 * len(self._waiting):
            # More than half of them were cancelled and may not be due for years.
            self._heap = [entry for entry in self._heap if (entry[2], entry[1]) in self._waiting]
            heapify(self._heap)

    def _count(self, message: Scheduled, change: int) -> None:
        """One more or one less, with its bytes."""
        tenant = message.topic.tenant
        before = self._held.get(tenant, _NOTHING)
        byte_size = before.byte_size + change * len(message.payload)
        now = _Held(before.messages + change, byte_size)
        self._held[tenant] = now
        if not now.messages:
            del self._held[tenant]

    def _arm(self) -> None:
        """Set the timer for the earliest due time."""
        if not self._heap or self._closed:
            return
        wait_ms = min(max(self._heap[0][0] - self._clock.now_ms(), 0), LOOK_MS)
        at_ms = self._clock.ticks_ms() + wait_ms
        if self._timer is not None:
            if self._timer_at_ms <= at_ms:
                return
            self._timer.cancel()
        self._timer_at_ms = at_ms
        self._timer = self._clock.call_at(at_ms, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        now_ms = self._clock.now_ms()
        while self._heap and self._heap[0][0] <= now_ms:
            _, number, topic = heappop(self._heap)
            message = self._waiting.pop((topic, number), None)
            if message is not None:
                self._release(message)
        self._arm()

    def _release(self, message: Scheduled) -> None:
        """Append a due message; when the log refuses, try again a little later."""
        key = (message.topic, message.number)
        self._releasing[key] = message

        def released(failure: LogFailure | None) -> None:
            if self._releasing.get(key) is not message:
                return
            if failure is None:
                del self._releasing[key]
                self._count(message, -1)
            else:
                self._put_off(message)

        self._committer.append_due(message, released)

    def _put_off(self, message: Scheduled) -> None:
        """Try again to append a due message, a little later."""
        key = (message.topic, message.number)
        self._releasing[key] = message

        def again() -> None:
            if self._releasing.get(key) is message:
                del self._releasing[key]
                self._enter(message)
                self._arm()

        self._clock.call_at(self._clock.ticks_ms() + RETRY_MS, again)

    def give_up(self, is_given_up: Callable[[TopicKey], bool]) -> None:
        """Forget what is scheduled for topics: it is somebody else's by now."""
        for held in (self._keeping, self._waiting, self._releasing):
            for key in [key for key in held if is_given_up(key[0])]:
                self._count(held.pop(key), -1)

    def close(self) -> None:
        """Stop the timer; what is not due yet stays in the log."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
