"""The link ends of `hotpath.amqp.ends` in Python; see there, and `hotpath/native/_native.pyi`.

References are Proton's pointers themselves.
"""

import re
from collections.abc import Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from struct import Struct
from typing import Any, Final, TypeVar, cast

from hotpath.amqp import capi, conditions
from hotpath.amqp.outcomes import ENCODED, TERMINAL, Answered, delivery_outcome, read_outcome
from hotpath.wire.stored import is_plain

#: Copied out of Proton at once, bytes.
OUTPUT_BYTES: Final = 262_144
#: Bytes of deliveries that Proton is given before it must turn them into frames.
SPILL_BYTES: Final = 8_192
#: Deliveries of at least this size are read by `hotpath.amqp.inbound`.
READ_BYTES: Final = 131_072

_OUTPUT: Final = capi.allocate("char[]", OUTPUT_BYTES)
_ROOM: Final = capi.allocate("char[]", READ_BYTES)

_TAG_BYTES: Final = 16
_TAG_ROOM: Final = capi.allocate("char[]", _TAG_BYTES)
_TAG: Final = capi.tag_of(_TAG_ROOM, _TAG_BYTES)
_TAG_VIEW: Final = capi.view(_TAG_ROOM, _TAG_BYTES)
#: The first bytes of a frame that tell what it is: head, described, short descriptor, its code.
_HEAD_BYTES: Final = 12
#: A descriptor's constructor, and that of its code in one byte.
_DESCRIBED: Final = 0x0053
#: begin, disposition, end
_LOOKED_AT: Final = frozenset((0x11, 0x15, 0x17))
_UINT: Final = rb"(?:\x43|\x52.|\x70.{4})"
_ACCEPTED: Final = rb"\x41" + _UINT + rb"(?:\x40|" + _UINT + rb")[\x40-\x42]\x00\x53\x24\x45"
#: A disposition of a receiver, `accepted`, as it is written most often.
_USUAL: Final = re.compile(
    rb"\x00\x53\x15\xc0.(?:\x05" + _ACCEPTED + rb"|\x06" + _ACCEPTED + rb"[\x40-\x42])",
    re.DOTALL,
).fullmatch
#: Size, data offset, what follows the head of eight bytes, and the code.
_read_head: Final = Struct(">IBxxxHB").unpack_from

_pack_tag = Struct(">QQ").pack_into
_pack_seq = Struct(">Q").pack

Held = tuple[int, int, capi.DeliveryPtr]
"""Sequence number, lock serial, delivery."""

_seq_and_serial = itemgetter(0, 1)
_serial = itemgetter(1)

_Kept = TypeVar("_Kept")


class Handles:
    """Deliveries that wait for their outcome."""

    __slots__ = ("_deliveries",)

    def __init__(self, deliveries: list[capi.DeliveryPtr]) -> None:
        self._deliveries = deliveries

    def __len__(self) -> int:
        return len(self._deliveries)

    def __getitem__(self, index: int) -> capi.DeliveryPtr:
        return self._deliveries[index]

    def __iter__(self) -> Iterator[capi.DeliveryPtr]:
        return iter(self._deliveries)

    def settle(self, state: int) -> None:
        """Give all an outcome and settle them; then there are none left."""
        for delivery in self._deliveries:
            capi.delivery_update(delivery, state)
            capi.delivery_settle(delivery)
        self._deliveries = []


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

    def on_delivery(self, _: capi.DeliveryPtr, __: object) -> bool:
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
        "_given",
        "_held",
        "_link",
        "_unsent",
        "_waiting",
        "ends",
        "noted",
    )

    def __init__(self, link: capi.LinkPtr) -> None:
        self._link = link
        self._held: dict[capi.DeliveryPtr, Held] = {}
        self._accepted: list[Held] = []
        self._echo: list[Held] = []
        self._waiting: list[capi.DeliveryPtr] = []
        self._credit_seen = self._given = 0
        self._unsent = False
        self.ends: Ends | None = None
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
        self._given += len(encoded)
        if self._given >= SPILL_BYTES and self.ends is not None:
            self._given = 0
            self.ends.spill()

    def on_delivery(self, delivery: capi.DeliveryPtr, end: object) -> bool:
        """Note what was accepted, and tell the end of any other outcome."""
        state, settled = capi.delivery_remote_state(delivery), capi.delivery_settled(delivery)
        if delivery not in self._held or not (settled or state in TERMINAL):
            return False
        held = self._held.pop(delivery)
        if state == capi.ACCEPTED:
            (self._accepted if settled else self._echo).append(held)
        else:
            cast("Answered", end).on_outcome(delivery, held[:2], delivery_outcome(delivery))
        if settled:
            capi.delivery_settle(delivery)
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
        self.answer(self._waiting[:count], ENCODED[capi.ACCEPTED])
        del self._waiting[:count]

    def answer(self, deliveries: list[capi.DeliveryPtr], outcome: bytes) -> None:
        """Settle deliveries with an encoded outcome."""
        told = read_outcome(outcome)
        for delivery in deliveries:
            if told.error is not None:
                local = capi.disposition_condition(capi.delivery_local(delivery))
                conditions.write(local, told.error)
            capi.delivery_update(delivery, told.state)
            capi.delivery_settle(delivery)

    def take(self) -> tuple[list[tuple[int, list[int]]], list[capi.DeliveryPtr]] | None:
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
        return runs, [held[2] for held in echo]

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

    __slots__ = ("_collector", "_ends", "_spilled", "_transport")

    def __init__(self, collector: capi.CollectorPtr, transport: capi.TransportPtr) -> None:
        self._collector = collector
        self._transport = transport
        self._spilled: list[bytes] = []
        self._ends: dict[capi.LinkPtr, tuple[object, Inlet | Outlet | None]] = {}

    def add(self, link: capi.LinkPtr, end: object, native: Inlet | Outlet | None) -> None:
        """Tell a link end what happens on its link."""
        self._ends[link] = end, native
        if isinstance(native, Outlet):
            native.ends = self

    def remove(self, link: capi.LinkPtr) -> None:
        """Forget a link, if it is there."""
        _, native = self._ends.pop(link, (None, None))
        if isinstance(native, Outlet):
            native.ends = None

    def clear(self) -> None:
        """Forget all links."""
        for link in list(self._ends):
            self.remove(link)

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

    # Frames. Proton keeps the deliveries here, so these need not be looked at.

    def follow(
        self,
        chunk: bytes | bytearray,
        pos: int,
        size: int,
        filled: list[object],  # noqa: ARG002
    ) -> int:
        """Pass frames of a peer; the place of the first that is to be looked at closely."""
        while pos + _HEAD_BYTES <= size:
            length, offset, described, code = _read_head(chunk, pos)
            if described != _DESCRIBED or offset != 2 or length < _HEAD_BYTES:
                break
            if code in _LOOKED_AT and not _is_usual(chunk, pos, min(pos + length, size)):
                break
            pos += length
        return pos

    def end(self, channel: int) -> None:
        """A peer has ended the session of a channel."""

    def accept(
        self, channel: int, first: int, last: int, settled: bool, filled: list[object]
    ) -> None:
        """A peer has accepted deliveries."""

    def pick(
        self,
        channel: int,  # noqa: ARG002
        first: int,  # noqa: ARG002
        last: int,  # noqa: ARG002
    ) -> list[tuple[object, object, int, int]]:
        """Forget deliveries, and tell of each: end, reference, sequence number, serial."""
        return []

    def spill(self) -> None:
        """Take out of Proton what there is to send now; it comes with the next `output`."""
        self._take_out()

    def output(self) -> tuple[bytes, bool]:
        """All that there is to send, and whether nothing will follow any more."""
        closed = self._take_out()
        chunks, self._spilled = self._spilled, []
        return chunks[0] if len(chunks) == 1 else b"".join(chunks), closed

    def _take_out(self) -> bool:
        transport, pending, peek = self._transport, capi.transport_pending, capi.transport_peek
        while (size := pending(transport)) > 0:
            size = peek(transport, _OUTPUT, min(size, OUTPUT_BYTES))
            self._spilled.append(capi.unpack(_OUTPUT, size))
            capi.transport_pop(transport, size)
        return size < 0

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
        if twin is None or twin.on_delivery(delivery, end):
            return True
        if twin.note():
            filled.append(end)
        return False


def _is_usual(chunk: bytes | bytearray, pos: int, end: int) -> bool:
    """Whether a frame tells in the usual way what has been accepted: Proton reads that alike."""
    return bool(_USUAL(chunk, pos + 8, end)) and chunk[pos + 12] == end - pos - 13


def _wants_flow(twin: Inlet | Outlet | None) -> bool:
    return twin is None or (isinstance(twin, Outlet) and twin.wants_flow())
