"""An engine with its link ends, in C or in Python, driven by hand: no connection, no service."""

from types import SimpleNamespace

import pytest

from hotpath.amqp import capi, plain_ends
from hotpath.amqp import engine as engine_module
from hotpath.amqp.gate import SessionGate
from hotpath.wire.jsonbody import encode_json
from tests.support.wire import Peer

OPENING = b"\x00\x53\x72opening"
PLAIN = [encode_json(b"{}", {"n": n}) for n in range(8)]
LOCKED = object()
FRAME_BYTES = 65_536
NAMES = ("Ends", "Handles", "Inlet", "Outlet")


def implementation(kind: str) -> SimpleNamespace:
    """One of the two, with what makes its references of pointers and back."""
    if kind == "python":
        own = {"refer": lambda pointer: pointer, "delivery_of": lambda reference: reference}
        return SimpleNamespace(**{name: getattr(plain_ends, name) for name in NAMES}, **own)
    helper = pytest.importorskip("hotpath.native._native", reason="the C helper is not built")
    table = capi.helper_table()
    assert table is not None
    helper.bind(table)
    own = {"refer": capi.address_of, "delivery_of": capi.delivery_at}
    return SimpleNamespace(**{name: getattr(helper, name) for name in NAMES}, **own)


class Holding:
    """A lock, or what was one."""

    def __init__(self, serial: int, state: object = LOCKED) -> None:
        self.serial = serial
        self.state = state


def complete(twin, unsettled):
    """What the twin takes out of a table: the numbers, deliveries that are late, who waits."""
    done: list[int] = []
    late: list[object] = []
    waiting = twin.complete(unsettled, LOCKED, done, late)
    return done, late, waiting


class End:
    """A link end that notes what it is told."""

    def __init__(self) -> None:
        self.told: list[object] = []
        self.flows = 0
        self.outcomes: list[tuple[object, tuple[int, int], object]] = []
        self.is_lost = False

    def on_delivery(self, delivery) -> None:
        self.told.append(delivery)

    def on_flow(self) -> None:
        self.flows += 1

    def on_outcome(self, reference, held, outcome) -> None:
        self.outcomes.append((reference, held, outcome))

    def on_detach(self, *, closed: bool) -> None: ...

    def on_lost(self) -> None:
        self.is_lost = True


class Server:
    """An engine and its owner; whoever speaks to it calls `receive`."""

    def __init__(self, kind: str, patch: pytest.MonkeyPatch) -> None:
        self.impl = implementation(kind)
        patch.setattr(engine_module, "Ends", self.impl.Ends)
        patch.setattr(engine_module, "refer", self.impl.refer)
        self.engine = engine_module.Engine(frame_bytes_max=FRAME_BYTES, sessions_max=10, idle_ms=0)
        self.gate = SessionGate(frame_bytes_max=FRAME_BYTES)
        self.careful = False
        self.filled: list[object] = []
        self.links: list[capi.LinkPtr] = []
        self.failures: list[object] = []

    # Bytes

    def receive(self, data: bytes) -> None:
        """Take in what a peer has sent, as a connection does."""
        chunk, size = self.gate.take(bytearray(data), len(data), self.engine)
        self.engine.push(chunk, size)
        self.drain()

    def drain(self) -> None:
        """Take in what has happened."""
        self.filled += self.engine.drain(self, careful=self.careful)

    def output(self) -> bytes:
        """What there is to send; its events are taken in as well."""
        out = self.engine.output()
        self.drain()
        return out

    # Links

    def accept(self, make, end: End | None = None):
        """Accept the link that was attached last, with what `make` gives it for its twin."""
        link = self.links[-1]
        capi.terminus_copy(capi.link_source(link), capi.link_remote_source(link))
        capi.terminus_copy(capi.link_target(link), capi.link_remote_target(link))
        capi.link_open(link)
        twin = make(self.impl.refer(link)) if make is not None else None
        self.engine.attach(link, end or End(), twin)
        return twin

    # The engine's owner

    def on_open(self) -> None:
        self.engine.open("server", {})

    def on_close(self) -> None:
        self.engine.close(None)

    def on_attach(self, link) -> None:
        self.links.append(link)

    def on_failure(self, condition) -> None:
        self.failures.append(condition)

    def on_deaf(self) -> None:
        self.failures.append(None)


class Pair(Server):
    """The same with a client of Proton's own, back to back."""

    def __init__(self, kind: str, patch: pytest.MonkeyPatch) -> None:
        super().__init__(kind, patch)
        self.peer = Peer().open()
        self.end = End()

    def exchange(self) -> None:
        """Carry bytes both ways until nothing moves."""
        for _ in range(6):
            self.receive(self.peer.output())
            self.peer.input(self.output())

    def open(self, make) -> object:
        """Open everything that the peer has opened; the twin of its last link."""
        self.exchange()
        twin = self.accept(make, self.end)
        self.exchange()
        return twin

    def outlet(self, *, credit: int = 100, **modes):
        """A receiving client and our end of its link."""
        receiver = self.peer.receiver("feed", credit=credit, **modes)
        twin = self.open(self.impl.Outlet)
        twin.watch(credit, False)
        self.end.flows = 0
        return receiver, twin

    def inlet(self, *, bytes_max: int = 1_000_000):
        """A publishing client and our end of its link."""
        sender = self.peer.sender("topic")
        twin = self.open(lambda link: self.impl.Inlet(link, bytes_max))
        capi.link_flow(self.links[-1], 100)
        self.exchange()
        return sender, twin
