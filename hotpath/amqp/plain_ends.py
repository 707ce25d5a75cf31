"""The link ends of `hotpath.amqp.ends` in Python; see there, and `hotpath/native/_native.pyi`.

References are Proton's pointers themselves.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from struct import Struct
from typing import Any, Final, TypeVar

from hotpath.amqp import capi
from hotpath.wire.stored import is_plain

#: Copied out of Proton at once, bytes.
OUTPUT_BYTES: Final = 262_144
#: Deliveries of at least this size are read by `hotpath.amqp.inbound`.
READ_BYTES: Final = 131_072

_OUTPUT: Final = capi.allocate("char[]", OUTPUT_BYTES)
_ROOM: Final = capi.allocate("char[]", READ_BYTES)

_TAG_BYTES: Final = 16
_TAG_ROOM: Final = capi.allocate("char[]", _TAG_BYTES)
_TAG: Final = capi.tag_of(_TAG_ROOM, _TAG_BYTES)
_TAG_VIEW: Final = capi.view(_TAG_ROOM, _TAG_BYTES)
_pack_tag = Struct(">QQ").pack_into
_pack_seq = Struct(">Q").pack

Held = tuple[int, int, capi.DeliveryPtr]
"""Sequence number, lock serial, delivery."""

_seq_and_serial = itemgetter(0, 1)
_serial = itemgetter(1)

_Kept = TypeVar("_Kept")


def output(transport: capi.TransportPtr) -> tuple[bytes, bool]:
    """All that a transport has to send, and whether nothing will follow any more."""
    pending, peek, pop = capi.transport_pending, capi.transport_peek, capi.transport_pop
    chunks = []
    while (size := pending(transport)) > 0:
        size = peek(transport, _OUTPUT, min(size, OUTPUT_BYTES))
        chunks.append(capi.unpack(_OUTPUT, size))
        pop(transport, size)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks), size < 0


def _settle(deliveries: Sequence[capi.DeliveryPtr], state: int) -> None:
    update, settle = capi.delivery_update, capi.delivery_settle
    for delivery in deliveries:
        update(delivery, state)
        settle(delivery)


class Handles:
    """Deliveries that wait for their outcome."""

    __slots__ = ("_deliveries", "_seqs")

    def __init__(self, deliveries: list[capi.DeliveryPtr], seqs: list[int] | None = None) -> None:
        self._deliveries = deliveries
        self._seqs = seqs or [0] * len(deliveries)

    def __len__(self) -> int:
        return len(self._deliveries)

    def __getitem__(self, index: int) -> capi.DeliveryPtr:
        return self._deliveries[index]

    def __iter__(self) -> Iterator[capi.DeliveryPtr]:
        return iter(self._deliveries)

    def settle(self, state: int) -> None:
        """Give all an outcome and settle them; then there are none left."""
        _settle(self._deliveries, state)
        self._deliveries, self._seqs = [], []

    def seqs(self) -> list[int]:
        """The sequence number of each."""
        return self._seqs


class Inlet:
    """Our end of a publishing link."""

    __slots__ = ("_bytes_max", "_deliveries", "_link", "_raws", "noted", "suspended")

    def __init__(self, link: capi.LinkPtr, bytes_max: int) -> None:
        self._link = link
        self._bytes_max = bytes_max
        self._raws: list[bytes] = []
        self._deliveries: list[capi.DeliveryPtr] = []
        self.suspended = False
        self.noted = False

    def on_delivery(self, _: capi.DeliveryPtr) -> bool:
        """Take in a delivery of one frame; whether it is left for somebody else."""
        link = self._link
        if self.suspended:
            return True
        delivery = capi.link_current(link)
        if not delivery:
            return False
        size = capi.delivery_pending(delivery)
        if not 0 < size < READ_BYTES or size > self._bytes_max:
            return True
        if capi.delivery_partial(delivery) or capi.delivery_aborted(delivery):
            return True
        capi.link_recv(link, _ROOM, READ_BYTES)
        self._raws.append(capi.unpack(_ROOM, size))
        self._deliveries.append(delivery)
        capi.link_advance(link)
        return False

    def note(self) -> bool:
        """Whether something was gathered for the first time since it was last taken."""
        first = not self.noted and bool(self._raws)
        self.noted = self.noted or first
        return first

    def add(self, delivery: capi.DeliveryPtr, raw: bytes) -> None:
        """Add a delivery that has been put together."""
        self._raws.append(raw)
        self._deliveries.append(delivery)
        self.noted = True

    def take(self) -> tuple[list[bytes], Handles, list[int]] | None:
        """Messages as they came, their deliveries, and that all are to be looked at."""
        if not self._raws:
            return None
        raws, handles = self._raws, Handles(self._deliveries)
        self._raws, self._deliveries, self.noted = [], [], False
        return raws, handles, list(range(len(raws)))


class Outlet:
    """Our end of a receiving link."""

    __slots__ = (
        "_accepted",
        "_credit_seen",
        "_echo",
        "_held",
        "_link",
        "_unsent",
        "_waiting",
        "noted",
    )

    def __init__(self, link: capi.LinkPtr) -> None:
        self._link = link
        self._held: dict[capi.DeliveryPtr, Held] = {}
        self._accepted: list[Held] = []
        self._echo: list[Held] = []
        self._waiting: list[capi.DeliveryPtr] = []
        self._credit_seen = 0
        self._unsent = False
        self.noted = False

    def __len__(self) -> int:
        return len(self._held)

    def send(  # as its twin in C
        self,
        opening: bytes,
        seqs: Sequence[int],
        at: int,
        first_seq: int,
        serial: int,
        payloads: Sequence[bytes],
        room: int,
    ) -> tuple[int, int]:
        """Send from `at` on until `room` is used up or a message is not plain; then `watch`."""
        sent = 0
        for index in range(at, len(seqs)):
            seq = seqs[index]
            place = seq - first_seq
            if sent >= room or not 0 <= place < len(payloads) or not is_plain(payloads[place]):
                self.watch(self.credit(), True)
                return index, sent
            encoded = opening + _pack_seq(seq) + payloads[place]
            self.send_one(seq, serial, encoded)
            sent += len(encoded)
        self.watch(self.credit(), False)
        return max(at, len(seqs)), sent

    def send_one(self, seq: int, serial: int, encoded: bytes) -> None:
        """Send a message that is encoded already."""
        link = self._link
        _pack_tag(_TAG_VIEW, 0, seq, serial)
        delivery = capi.delivery_new(link, _TAG)
        capi.link_send(link, encoded, len(encoded))
        if serial:
            self._held[delivery] = (seq, serial, delivery)
            capi.link_advance(link)
        else:
            capi.delivery_settle(delivery)

    def on_delivery(self, delivery: capi.DeliveryPtr) -> bool:
        """Note what was accepted; whether it is another outcome."""
        held = self._held.get(delivery)
        if held is None:
            return False
        if capi.delivery_remote_state(delivery) != capi.ACCEPTED:
            return True
        del self._held[delivery]
        if capi.delivery_settled(delivery):
            capi.delivery_settle(delivery)
            self._accepted.append(held)
        else:
            self._echo.append(held)
        return False

    def note(self) -> bool:
        """Whether something was gathered for the first time since it was last taken."""
        first = not self.noted and bool(self._accepted or self._echo)
        self.noted = self.noted or first
        return first

    def complete(
        self,
        unsettled: dict[int, _Kept],
        locked: object,
        done: list[int],
        late: list[object],
    ) -> int:
        """Take out what was accepted and is under its lock; how many wait for `confirm` now."""
        self.noted = False
        accepted, echo = self._accepted, self._echo
        self._accepted, self._echo = [], []
        for held in accepted:
            _take_out(unsettled, locked, held, done)
        # Proton reports ranges in any order; in this one it answers with ranges.
        echo.sort(key=_seq_and_serial)
        before = len(self._waiting)
        for held in echo:
            kept = _take_out(unsettled, locked, held, done)
            (self._waiting if kept else late).append(held[2])
        return len(self._waiting) - before

    def confirm(self, count: int) -> None:
        """Tell the first of those that wait that they are accepted; none if there are none."""
        _settle(self._waiting[:count], capi.ACCEPTED)
        del self._waiting[:count]

    def take(self) -> tuple[list[tuple[int, list[int]]], Handles] | None:
        """Runs of what was accepted since the last time, and who waits for our outcome."""
        self.noted = False
        accepted, echo = self._accepted, self._echo
        if not accepted and not echo:
            return None
        self._accepted, self._echo = [], []
        # Proton reports ranges in any order; in this one it answers with ranges.
        echo.sort(key=_seq_and_serial)
        runs = [
            (serial, [held[0] for held in run])
            for part in (accepted, echo)
            for serial, run in groupby(part, _serial)
        ]
        return runs, Handles([held[2] for held in echo], [held[0] for held in echo])

    def pop(self, delivery: capi.DeliveryPtr) -> tuple[int, int] | None:
        """Sequence number and serial of a delivery, which is forgotten."""
        held = self._held.pop(delivery, None)
        return None if held is None else held[:2]

    def clear(self) -> None:
        """Forget all deliveries."""
        self._held, self._accepted, self._echo, self._waiting = {}, [], [], []

    def allowance(self, bytes_max: int) -> int:
        """The credit that may be used up without a further look; -1 where one is needed."""
        link = self._link
        full = capi.session_outgoing_bytes(capi.link_session(link)) >= bytes_max
        return -1 if full or capi.link_get_drain(link) else capi.link_credit(link)

    def credit(self) -> int:
        """The link's credit."""
        return capi.link_credit(self._link)

    def draining(self) -> bool:
        """Whether the receiver drains."""
        return capi.link_get_drain(self._link)

    def watch(self, credit_seen: int, unsent: bool) -> None:
        """Tell of flow when the credit is another, and always while something is unsent."""
        self._credit_seen, self._unsent = credit_seen, unsent

    def wants_flow(self) -> bool:
        """Whether flow is to be told now."""
        link = self._link
        changed = self._unsent or capi.link_credit(link) != self._credit_seen
        return changed or capi.link_get_drain(link)


def _take_out(unsettled: dict[int, _Kept], locked: object, held: Held, done: list[int]) -> bool:
    """Take a message out if it is still under its lock."""
    seq, serial, _ = held
    holding: Any = unsettled.get(seq)
    if holding is None or holding.serial != serial or holding.state is not locked:
        return False
    del unsettled[seq]
    done.append(seq)
    return True


class Ends:
    """The link ends of one connection."""

    __slots__ = ("_collector", "_ends")

    def __init__(self, collector: capi.CollectorPtr) -> None:
        self._collector = collector
        self._ends: dict[capi.LinkPtr, tuple[object, Inlet | Outlet | None]] = {}

    def add(self, link: capi.LinkPtr, end: object, native: Inlet | Outlet | None) -> None:
        """Tell a link end what happens on its link."""
        self._ends[link] = end, native

    def remove(self, link: capi.LinkPtr) -> None:
        """Forget a link, if it is there."""
        self._ends.pop(link, None)

    def clear(self) -> None:
        """Forget all links."""
        self._ends.clear()

    def drain(self, filled: list[object], careful: bool) -> bool:  # noqa: ARG002
        """Take in events; whether one is left for somebody else."""
        peek, pop, kind_of = capi.collector_peek, capi.collector_pop, capi.event_type
        event_link, is_delivery, is_flow = capi.event_link, capi.DELIVERY, capi.LINK_FLOW
        collector, end_of = self._collector, self._ends.get
        while event := peek(collector):
            kind = kind_of(event)
            if kind == is_delivery:
                found = end_of(event_link(event))
                if self._on_delivery(capi.event_delivery(event), found, filled):
                    return True
            elif kind == is_flow:
                found = end_of(event_link(event))
                if found is not None and _wants_flow(found[1]):
                    return True
            else:
                return True
            pop(collector)
        return False

    @staticmethod
    def _on_delivery(
        delivery: capi.DeliveryPtr,
        found: tuple[object, Inlet | Outlet | None] | None,
        filled: list[object],
    ) -> bool:
        """Tell an end; whether the event is left for somebody else."""
        if found is None:
            # Its link is on its way out.
            capi.delivery_settle(delivery)
            return False
        end, twin = found
        if twin is None or twin.on_delivery(delivery):
            return True
        if twin.note():
            filled.append(end)
        return False


def _wants_flow(twin: Inlet | Outlet | None) -> bool:
    return twin is None or (isinstance(twin, Outlet) and twin.wants_flow())
