"""A receiver of which every byte is written here, and the engine that it speaks to."""

from hotpath.wire.types import Described, UByte, UInt, ULong
from tests.support.link_ends import OPENING, PLAIN, End, Holding, Server, complete
from tests.support.wire import AMQP_HEADER, frame, performative, read_performative, split_frames

ACCEPTED = Described(ULong(0x24), [])
RELEASED = Described(ULong(0x26), [])
END = frame(performative(0x17))


def begin(channel: int = 0, *, window: int = 10_000) -> bytes:
    return frame(performative(0x11, None, UInt(0), UInt(window), UInt(100)), channel=channel)


def attach(name: str, handle: int, *, channel: int = 0, settled: bool = False) -> bytes:
    modes = (UByte(1), UByte(0)) if settled else (UByte(0), UByte(1))
    source, target = Described(ULong(0x28), ["feed"]), Described(ULong(0x29), ["here"])
    return frame(
        performative(0x12, name, UInt(handle), True, *modes, source, target), channel=channel
    )


def flow(
    credit: int, *, handle: int = 0, channel: int = 0, window: int = 10_000, seen: int = 0
) -> bytes:
    session = (UInt(seen), UInt(window), UInt(0), UInt(100))
    link = (UInt(handle), UInt(0), UInt(credit))
    return frame(performative(0x13, *session, *link), channel=channel)


def told(
    first: int,
    last: int | None = None,
    state: object = ACCEPTED,
    *,
    settled: bool | None = True,
    channel: int = 0,
    role: object = True,
) -> bytes:
    """A disposition of a receiver."""
    ids = (UInt(first), None if last is None else UInt(last))
    return frame(performative(0x15, role, *ids, settled, state), channel=channel)


def detach(handle: int = 0, *, channel: int = 0) -> bytes:
    return frame(performative(0x16, UInt(handle), True), channel=channel)


class Raw(Server):
    """A server, and everything that it has sent."""

    def open(self, *, max_frame: int = 65_536, window: int = 10_000, channel: int = 0):
        """Open the connection and a session."""
        self.receive(
            AMQP_HEADER
            + frame(performative(0x10, "peer", None, UInt(max_frame)))
            + begin(channel, window=window)
        )
        self.sent()
        return self

    def feed(
        self,
        *,
        handle: int = 0,
        channel: int = 0,
        credit: int = 100,
        window: int = 10_000,
        settled: bool = False,
    ):
        """Attach a receiving link; its end and twin."""
        name = f"{channel}-{handle}-{len(self.links)}"
        self.receive(attach(name, handle, channel=channel, settled=settled))
        end = End()
        twin = self.accept(self.impl.Outlet, end)
        self.sent()
        self.receive(flow(credit, handle=handle, channel=channel, window=window))
        return end, twin

    def sent(self) -> list[bytes]:
        """The frames that have been written since the last time."""
        return split_frames(self.output())

    def told(self) -> list[tuple[int, int, int, int]]:
        """The dispositions among them: channel, first, last, code of the state."""
        found = []
        for raw in self.sent():
            value = read_performative(raw)
            if value is not None and value.descriptor == 0x15:
                role, first, last, settled, state = value.value[:5]
                assert (role, settled) == (False, True)
                channel = int.from_bytes(raw[6:8], "big")
                found.append((channel, first, first if last is None else last, state.descriptor))
        return found


def send(twin, *seqs: int, serial: int = 7) -> None:
    for seq in seqs:
        twin.send_one(seq, serial, OPENING + PLAIN[0])


def transfers(frames: list[bytes]) -> list[tuple[int, bytes, object]]:
    """Delivery-id, tag and settled of each transfer."""
    values = [read_performative(raw) for raw in frames]
    fields = [value.value for value in values if value is not None and value.descriptor == 0x14]
    return [(each[1], each[2], each[4] if len(each) > 4 else None) for each in fields]


def token(seq: int, serial: int = 7) -> bytes:
    return seq.to_bytes(8, "big") + serial.to_bytes(8, "big")


def accepted(twin, *, serial: int = 7) -> tuple[list[int], int]:
    """The numbers that are taken out of a table with everything under one lock, and who waits."""
    done, late, waiting = complete(twin, dict.fromkeys(range(1000), Holding(serial)))
    assert late == []
    return sorted(done), waiting
