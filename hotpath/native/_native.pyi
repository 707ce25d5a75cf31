"""What the C helper offers; addresses are integers."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

_Kept = TypeVar("_Kept")

def bind(table: dict[str, int]) -> None:
    """Take over Proton's functions by their addresses; before all that has to do with Proton."""

def output(transport: object, /) -> tuple[bytes, bool]:
    """All that a transport has to send, and whether nothing will follow any more."""

def intake(raw: bytes, /) -> bytes | None:
    """The stored form of a usual message; None for one that must be looked at with care."""

def all_plain(payloads: Sequence[bytes]) -> bool:
    """Whether every stored message starts with its bare message."""

def any_may_expire(payloads: Sequence[bytes]) -> bool:
    """Whether some message may have an end."""

def frame(payloads: Sequence[bytes]) -> bytes:
    """The end offset of each payload (u32, little endian), then all of them.

    Raises ValueError when they are more than 4 GiB.
    """

def cut(body: bytes, count: int, /) -> list[bytes] | None:
    """The payloads of a framed batch; None when its index does not fit it."""

class Puller:
    """Reads a fixed set of names, given by their UTF-8, out of messages."""

    def __new__(
        cls, wanted: dict[bytes, str], timestamp: Callable[[int], object], seed: int, /
    ) -> Puller: ...
    def pull_all(
        self,
        payloads: Sequence[bytes],
        careful: Callable[[bytes], dict[str, object]],
        body: Callable[[bytes, int, dict[str, object]], None],
        /,
    ) -> list[dict[str, object]]:
        """One mapping a message.

        `careful` reads what is not encoded as usual, `body` adds what the body at an offset has.
        """

class Handles:
    """Addresses of deliveries that wait for their outcome."""

    def __new__(cls, addresses: list[object], /) -> Handles: ...
    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> object: ...
    def __iter__(self) -> Iterator[object]: ...
    def settle(self, state: int, /) -> None:
        """Give all an outcome and settle them; then there are none left."""

    def seqs(self) -> list[int]:
        """The sequence number of each."""

class Inlet:
    """Our end of a publishing link."""

    suspended: bool
    def __new__(cls, link: object, bytes_max: int, /) -> Inlet: ...
    def add(self, address: object, raw: bytes, /) -> None:
        """Add a delivery that has been put together, to be looked at with care."""

    def take(self) -> tuple[list[bytes], Handles, list[int]] | None:
        """Payloads, their deliveries, and the indexes of those to be looked at with care."""

class Outlet:
    """Our end of a receiving link."""

    def __new__(cls, link: object, /) -> Outlet: ...
    def __len__(self) -> int: ...
    def send(
        self,
        opening: bytes,
        seqs: Sequence[int],
        at: int,
        first_seq: int,
        serial: int,
        payloads: Sequence[bytes],
        room: int,
        /,
    ) -> tuple[int, int]:
        """Send from `at` on until `room` is used up or a message is not plain.

        The index of the next one, and the bytes sent. Flow is watched as after `watch`.
        """

    def send_one(self, seq: int, serial: int, encoded: bytes, /) -> None:
        """Send a message that is encoded already."""

    def complete(
        self,
        unsettled: dict[int, _Kept],
        locked: object,
        done: list[int],
        late: list[object],
        /,
    ) -> int:
        """Take out what was accepted since the last time and is still under its lock.

        Numbers go to `done`; to `late` go deliveries that wait for our outcome and whose lock was
        lost. How many others wait for it now, until `confirm`.
        """

    def confirm(self, count: int, /) -> None:
        """Tell the first of those that wait that they are accepted; none if there are none."""

    def take(self) -> tuple[list[tuple[int, list[int]]], Handles] | None:
        """What was accepted since the last time, where the locks are looked up elsewhere.

        Runs of a lock's serial and its messages; and the deliveries that wait for our outcome.
        """

    def pop(self, address: object, /) -> tuple[int, int] | None:
        """Sequence number and serial of a delivery, which is forgotten; None for no such one."""

    def clear(self) -> None:
        """Forget all deliveries."""

    def allowance(self, bytes_max: int, /) -> int:
        """The credit that may be used up without a further look.

        -1 when the peer drains, or so many bytes wait for its session window.
        """

    def credit(self) -> int:
        """The link's credit."""

    def draining(self) -> bool:
        """Whether the receiver drains."""

    def watch(self, credit_seen: int, unsent: bool, /) -> None:
        """Tell of flow when the credit is another, and always while something is unsent."""

class Ends:
    """The link ends of one connection."""

    def __new__(cls, collector: object, /) -> Ends: ...
    def add(self, link: object, end: object, native: Inlet | Outlet | None, /) -> None:
        """Tell a link end what happens on its link."""

    def remove(self, link: object, /) -> None:
        """Forget a link, if it is there."""

    def clear(self) -> None:
        """Forget all links."""

    def drain(self, filled: list[object], careful: bool, /) -> bool:
        """Take in events; whether one is left for Python.

        Ends that have gathered something are added to `filled`. `careful`: all messages are to be
        looked at with care.
        """
