"""Messages between nodes in this process, and everything that a network does to them."""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from hotpath.clusterports import Stop
from hotpath.ports import LogFailure

Receive = Callable[[str, bytes, str], None]


@dataclass(slots=True)
class Wire:
    """What connects the nodes.

    `dice` and `loss` lose messages at random and repeat others as often.
    """

    payload_max: int = 1_048_576
    listeners: list[tuple[list[str], Receive, "MemoryBus"]] = field(default_factory=list)
    dice: random.Random | None = None
    loss: float = 0.0
    sent: int = 0

    def carry(self, subject: str, payload: bytes, reply: str) -> None:
        """Bring a message to whoever listens."""
        self.sent += 1
        copies = 1
        if self.dice is not None and self.dice.random() < self.loss:
            copies = self.dice.choice((0, 2))
        for _ in range(copies):
            self._carry(subject, payload, reply)

    def _carry(self, subject: str, payload: bytes, reply: str) -> None:
        names = subject.split(".")
        found = False
        for pattern, receive, bus in tuple(self.listeners):
            if not bus.cut and _matches(pattern, names):
                found = True
                asyncio.get_running_loop().call_soon(receive, subject, payload, reply)
        if not found and reply:
            self._carry(reply, b"", "")


def _matches(pattern: list[str], names: list[str]) -> bool:
    return len(pattern) == len(names) and all(
        wanted in ("*", name) for wanted, name in zip(pattern, names, strict=True)
    )


class MemoryBus:
    """One node's access to a `Wire`: a `hotpath.clusterports.Bus`."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self.cut = False

    @property
    def payload_max(self) -> int:
        """Bytes that one message may have."""
        return self._wire.payload_max

    async def send(self, subject: str, payload: bytes, *, reply: str = "") -> None:
        """Send, if there is a connection."""
        if self.cut:
            raise LogFailure("there is no connection")
        assert len(payload) <= self._wire.payload_max
        self._wire.carry(subject, payload, reply)

    async def listen(self, subject: str, receive: Receive) -> Stop:
        """Receive until the result is called."""
        listener = (subject.split("."), receive, self)
        self._wire.listeners.append(listener)

        async def stop() -> None:
            self._wire.listeners.remove(listener)

        return stop
