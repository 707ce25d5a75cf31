"""What the C helper offers; addresses are integers."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol, TypeVar

class _Submits(Protocol):
    def submit(self) -> None: ...

_Kept = TypeVar("_Kept")
_End = TypeVar("_End")
_Metric = TypeVar("_Metric")
_Name = TypeVar("_Name")
_Delta = TypeVar("_Delta")
_Subscription = TypeVar("_Subscription")
_Twin = TypeVar("_Twin")

def bind(table: dict[str, int]) -> None:
    """Take over Proton's functions by their addresses; before all that has to do with Proton."""

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

def learn(classes: dict[str, object]) -> None:
    """Take over where the attributes of classes lie, by the names of these; and some objects.

    They have slots alone. What is not learnt is looked at in Python. Raises TypeError.
    """

def route_all(
    pulled: list[_Name], first_seq: int, match: Callable[[_Name], Iterable[_Subscription]]
) -> dict[_Subscription, list[int]]:
    """Which subscriptions get which messages of a batch, by their numbers.

    `match` says who gets a message of which this was pulled.
    """

def offer_all(
    hits: dict[_Subscription, list[int]],
    batch: object,
    behind: set[_Subscription],
    active_ms: int,
    mark_ms: int,
    touch: Callable[[_Subscription], object],
    wake: Callable[[_Subscription], object],
    /,
) -> None:
    """Queue what has matched in a batch, note that its subscriptions are active, then wake.

    See `hotpath.core.usual_plain`. Raises TypeError when one is not exactly a `Subscription`.
    """

class Waker:
    """Lets a link end send at the next flush of its connection, which is marked for it."""

    def __new__(cls, end: object, pumps: object, host: object, /) -> Waker: ...
    def __call__(self) -> None: ...

def pump_all(
    due: dict[_End, None],
    again: dict[_End, None],
    after_read: dict[_End, None],
    room: int,
    moment: object,
    now_ms: int,
    ticks_ms: int,
    counted: dict[_Metric, int],
    /,
) -> int:
    """Let link ends send; the room that is left. Those that may send more are put into `again`.

    But for those in `after_read`. What is locked here without a question is counted in `counted`;
    an end of which there is anything else to be thought of is asked to `pump`.
    """

def complete_all(
    ends: Sequence[_Submits],
    waiting: list[tuple[_Twin, int]],
    touched: dict[_Subscription, None],
    /,
) -> int:
    """Settle what link ends have gathered, or ask them to `submit`; how many messages.

    Who waits for an answer is added to `waiting`, changed subscriptions to `touched`.
    """

def confirm_all(waiting: list[tuple[Outlet, int]], /) -> None:
    """`Outlet.confirm` for each."""

def collect_all(
    touched: dict[_Subscription, None],
    routed_to: Callable[[_Subscription], int],
    progress: list[tuple[_Name, _Delta]],
    /,
) -> list[_Subscription]:
    """Add what has changed of subscriptions; those of which the caller has to do it."""

def encode_all(
    progress: list[tuple[_Name, _Delta]], careful: Callable[[_Name, _Delta], bytes], /
) -> list[bytes]:
    """Journal entries; `careful` encodes those of which there is more than usual to be told."""

def note_first(
    first: dict[_Name, int], progress: list[tuple[_Name, _Delta]], number: int, /
) -> None:
    """Keep a number for each name that has none."""

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
    """Addresses of incoming deliveries that wait for their outcome."""

    def __new__(cls, addresses: list[object], /) -> Handles: ...
    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> object: ...
    def __iter__(self) -> Iterator[object]: ...
    def settle(self, state: int, /) -> None:
        """Give all an outcome and settle them; then there are none left."""

class Inlet:
    """Our end of a publishing link."""

    suspended: bool
    def __new__(cls, link: object, bytes_max: int, /) -> Inlet: ...
    def add(self, address: object, raw: bytes, /) -> None:
        """Add a delivery that has been put together, to be looked at with care."""

    def take(self) -> tuple[list[bytes], Handles, list[int]] | None:
        """Payloads, their deliveries, and the indexes of those to be looked at with care."""

class Outlet:
    """Our end of a receiving link; messages under a lock are sent once it is one of `Ends`.

    What it has sent is known by its delivery-id, and to Proton only until it is written.
    """

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

        The index of the next one, and the bytes sent, of which Proton keeps no more than it must
        (`Ends.spill`). Flow is watched as after `watch`.
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

        Numbers go to `done`; to `late` go delivery-ids that wait for our outcome and whose lock was
        lost. How many others wait for it now, until `confirm`.
        """

    def confirm(self, count: int, /) -> None:
        """Tell the first of those that wait that they are accepted; none if there are none."""

    def answer(self, ids: list[object], outcome: bytes, /) -> None:
        """Settle deliveries with an encoded outcome.

        It goes out in front of what Proton has to say; nothing does behind a close, or when the
        link has been left. Raises ValueError when it does not fit a frame of 512 bytes.
        """

    def take(self) -> tuple[list[tuple[int, list[int]]], list[object]] | None:
        """What was accepted since the last time, where the locks are looked up elsewhere.

        Runs of a lock's serial and its messages; and the deliveries that wait for our outcome.
        """

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

    def __new__(cls, collector: object, transport: object, /) -> Ends: ...
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

    def follow(self, chunk: bytes | bytearray, pos: int, size: int, filled: list[object], /) -> int:
        """Pass frames of a peer, and take in what it has accepted.

        Ends that have gathered something are added to `filled`. The place of the first frame that
        begins or ends a session, that tells of deliveries and is not there whole or written as
        usual, that has an unusual head, or that has not come so far that one could tell.
        """

    def end(self, channel: int, /) -> None:
        """A peer has ended the session of a channel."""

    def accept(
        self, channel: int, first: int, last: int, settled: bool, filled: list[object], /
    ) -> None:
        """A peer has accepted deliveries on one of its channels."""

    def pick(self, channel: int, first: int, last: int, /) -> list[tuple[object, object, int, int]]:
        """Forget deliveries, and tell of each: end, delivery-id, sequence number, serial."""

    def spill(self) -> None:
        """Take out of Proton what there is to send now; it comes with the next `output`."""

    def output(self) -> tuple[bytes, bool]:
        """All that there is to send, and whether nothing will follow any more.

        Transfers of messages under a lock are completed, and from now on known by delivery-id.
        """
