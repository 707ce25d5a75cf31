"""Reading deliveries from an incoming link: frames to whole messages, within a bound.

Each new delivery has an event of its own, so one call reads at most one; what belongs to a
delivery of several frames is kept until its last one.
"""

from typing import Final

from hotpath.amqp import capi

#: Bytes read at once; a frame has at most `amqp_frame_bytes`, but several may have come.
READ_BYTES: Final = 131_072

_ROOM: Final = capi.allocate("char[]", READ_BYTES)


class Oversize(Exception):
    """A delivery is larger than it may be."""


class Assembler:
    """Puts the deliveries of one link together.

    Attributes:
        held_bytes: Bytes of a delivery that is not complete.
    """

    __slots__ = ("_bytes_max", "_link", "_parts", "held_bytes")

    def __init__(self, link: capi.LinkPtr, *, bytes_max: int) -> None:
        self._link = link
        self._bytes_max = bytes_max
        self._parts: list[bytes] = []
        self.held_bytes = 0

    def read(self) -> tuple[capi.DeliveryPtr, bytes] | None:
        """The delivery that is complete now, past which the link advances, or None.

        Raises Oversize.
        """
        link = self._link
        size = capi.link_recv(link, _ROOM, READ_BYTES)
        if 0 < size < READ_BYTES and not self._parts:
            delivery = capi.link_current(link)
            if delivery is not None and not capi.delivery_partial(delivery):
                if size > self._bytes_max:
                    raise Oversize
                raw = capi.unpack(_ROOM, size)
                capi.link_advance(link)
                return delivery, raw
        return self._read_slowly(size)

    def _read_slowly(self, size: int) -> tuple[capi.DeliveryPtr, bytes] | None:
        """Deliveries of several frames, empty ones and aborted ones."""
        link = self._link
        while size > 0:
            self.held_bytes += size
            if self.held_bytes > self._bytes_max:
                raise Oversize
            self._parts.append(capi.unpack(_ROOM, size))
            size = capi.link_recv(link, _ROOM, READ_BYTES)
        delivery = capi.link_current(link)
        if not delivery:
            return None
        if capi.delivery_aborted(delivery):
            self._forget()
            capi.delivery_settle(delivery)
            return None
        if capi.delivery_partial(delivery):
            return None
        raw = b"".join(self._parts)
        self._forget()
        capi.link_advance(link)
        return delivery, raw

    def _forget(self) -> None:
        self._parts = []
        self.held_bytes = 0
