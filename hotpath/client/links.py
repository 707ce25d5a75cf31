"""Links of the client's engine: what is sent, what is received, and what became of it.

A link tells its owner by calling the functions that the owner put into its `on_…` attributes. It
is used from the event loop only, and never after its engine was freed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final

import cproton  # noqa: F401  # initialises the library behind cproton_ffi
from cproton_ffi import ffi, lib
from typing_extensions import override

from hotpath.client.errors import Condition


class Outcome(IntEnum):
    """Terminal delivery states (amqp-core-messaging-v1.0 §3.4), as the engine numbers them."""

    NONE = 0
    ACCEPTED = lib.PN_ACCEPTED
    REJECTED = lib.PN_REJECTED
    RELEASED = lib.PN_RELEASED
    MODIFIED = lib.PN_MODIFIED


def read_condition(pointer: Any) -> Condition | None:
    """Copy an error condition out of the engine; None when it is not set."""
    if pointer == ffi.NULL or not lib.pn_condition_is_set(pointer):
        return None
    name = ffi.string(lib.pn_condition_get_name(pointer)).decode(errors="replace")
    text = lib.pn_condition_get_description(pointer)
    return Condition(name, "" if text == ffi.NULL else ffi.string(text).decode(errors="replace"))


def _ignore(*_: object) -> None:
    """Stand in for a callback that the owner has no use for."""


class Link:
    """What sending and receiving links have in common."""

    def __init__(self, pointer: Any, address: str) -> None:
        self.pointer = pointer
        self.address = address
        self.is_open = False
        self.ended: Condition | None = None
        self.on_open: Callable[[], None] = _ignore
        self.on_end: Callable[[Condition], None] = _ignore
        #: For the engine: something about a delivery of this link has changed.
        self.on_delivery: Callable[[Any], None] = _ignore

    def close(self) -> None:
        """Detach for good; nothing is heard of the link any more."""
        self.on_end = self.on_open = _ignore
        lib.pn_link_close(self.pointer)

    def opened_by_peer(self) -> None:
        """The engine's event: the peer answered the attach."""
        self.is_open = True
        self.on_open()

    def ended_by_peer(self, condition: Condition | None) -> None:
        """The engine's event: the peer detached; told once."""
        if self.ended is None:
            self.ended = condition or Condition("amqp:link:detach-forced", "the link has ended")
            self.is_open = False
            lib.pn_link_close(self.pointer)
            self.on_end(self.ended)


class Outgoing(Link):
    """A link that messages are sent on, unsettled; the peer's outcome comes to `on_outcome`."""

    def __init__(self, pointer: Any, address: str) -> None:
        super().__init__(pointer, address)
        self.on_credit: Callable[[], None] = _ignore
        self.on_outcome: Callable[[int, Outcome, Condition | None], None] = _ignore
        self.on_delivery = self._take_outcome
        self._numbers: dict[Any, int] = {}
        self._next = 0
        self._tag = ffi.new("char[8]")
        self._tag_bytes = ffi.new("pn_bytes_t *", (8, self._tag))
        self._tag_view = ffi.buffer(self._tag)

    @property
    def credit(self) -> int:
        """How many messages the peer takes now."""
        return 0 if self.ended else int(lib.pn_link_credit(self.pointer))

    @property
    def unsettled(self) -> int:
        """Messages whose outcome has not come."""
        return len(self._numbers)

    def send(self, encoded: bytes) -> int:
        """Queue an encoded message; its number, by which `on_outcome` names it."""
        number = self._next
        self._next += 1
        self._tag_view[:] = number.to_bytes(8, "big")
        delivery = lib.pn_delivery(self.pointer, self._tag_bytes[0])
        lib.pn_link_send(self.pointer, encoded, len(encoded))
        lib.pn_link_advance(self.pointer)
        self._numbers[delivery] = number
        return number

    def _take_outcome(self, delivery: Any) -> None:
        """Settle what the peer has decided on."""
        state = lib.pn_delivery_remote_state(delivery)
        settled = lib.pn_delivery_settled(delivery)
        if not settled and state not in _TERMINAL:
            return
        number = self._numbers.pop(delivery, None)
        condition = None
        if state == lib.PN_REJECTED:
            condition = read_condition(
                lib.pn_disposition_condition(lib.pn_delivery_remote(delivery))
            )
        lib.pn_delivery_settle(delivery)
        if number is not None:
            outcome = Outcome(state) if state in _TERMINAL else Outcome.NONE
            self.on_outcome(number, outcome, condition)


_TERMINAL: Final = frozenset(state.value for state in Outcome if state)


@dataclass(slots=True, eq=False)
class Delivery:
    """A message that was received and waits for its outcome; `settle` once, or never."""

    link: "Incoming"
    pointer: Any
    encoded: bytes
    live: bool = True
    """False once settled or its link is gone; then settling is a no-op."""

    def settle(self, outcome: Outcome = Outcome.ACCEPTED) -> None:
        """Tell the peer the outcome, settled."""
        if self.live:
            self.live = False
            self.link.held.discard(self)
            lib.pn_delivery_update(self.pointer, outcome.value)
            lib.pn_delivery_settle(self.pointer)


class Incoming(Link):
    """A link that messages are received on; each comes whole to `on_message`."""

    def __init__(self, pointer: Any, address: str) -> None:
        super().__init__(pointer, address)
        self.on_message: Callable[[Delivery], None] = _ignore
        self.on_delivery = self._take_message
        self.held: set[Delivery] = set()

    def grant(self, credit: int) -> None:
        """Let the peer send so many messages more."""
        if credit > 0 and not self.ended:
            lib.pn_link_flow(self.pointer, credit)

    @override
    def close(self) -> None:
        """Detach for good; what is not settled yet goes back to the subscription."""
        self.let_go()
        super().close()

    def let_go(self) -> None:
        """Forget deliveries whose outcome was not told: the link or connection is gone."""
        for delivery in self.held:
            delivery.live = False
        self.held.clear()

    def _take_message(self, delivery: Any) -> None:
        """Take a delivery that is complete."""
        if lib.pn_delivery_aborted(delivery):
            lib.pn_delivery_settle(delivery)
            lib.pn_link_flow(self.pointer, 1)
            return
        if lib.pn_delivery_partial(delivery) or not lib.pn_delivery_readable(delivery):
            return
        size = lib.pn_delivery_pending(delivery)
        room = bytearray(size)
        lib.pn_link_recv(self.pointer, ffi.from_buffer(room), size)
        lib.pn_link_advance(self.pointer)
        received = Delivery(self, delivery, bytes(room))
        if lib.pn_delivery_settled(delivery):
            received.live = False
            lib.pn_delivery_settle(delivery)
        else:
            self.held.add(received)
        self.on_message(received)
