"""Frames made up from the specification: sound on the outside, unusual inside.

Handles, channels, delivery-ids and addresses come from small ranges, so that what is made up meets
what the connection already has.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from itertools import count
from uuid import UUID

from hotpath.amqp.management_fields import lock_token
from hotpath.wire.types import Array, Described, Int, Symbol, Timestamp, UInt, ULong, encode
from tests.fuzz import identities
from tests.fuzz.frames import Frame
from tests.fuzz.values import ADDRESSES, VALUES

BATCH_FORMAT = encode(UInt(2147563264))
_NULL, _TRUE, _FALSE = b"\x40", b"\x41", b"\x42"
_OUTCOMES = tuple(
    encode(Described(ULong(code), fields))
    for code, fields in (
        (0x24, []), (0x24, []), (0x26, []), (0x25, []), (0x27, [True, False]), (0x27, [None, True]),
        (0x25, [Described(ULong(0x1D), [Symbol("com.microsoft:dead-letter"), "why",
                {Symbol("DeadLetterReason"): "r", Symbol("DeadLetterErrorDescription"): "d"}])]),
        (0x27, [True, True, {Symbol("x-opt-enqueued-time"): "y"}]), (0x23, [UInt(5), 7]),
    )
)  # fmt: skip
_ERROR = encode(Described(ULong(0x1D), [Symbol("a:b"), "text", None]))
_FILTERS = tuple(
    encode(value)
    for value in (
        None, {}, {Symbol("x"): Described(Symbol("com.microsoft:session-filter"), None)},
        {Symbol("s"): Described(ULong(0x468C00000004), "value > 1")},
        {Symbol("a:b"): Described(ULong(0x1370000000C), "s")}, {Symbol("no-local"): 5},
    )
)  # fmt: skip


@dataclass(slots=True)
class Known:
    """How things stand on a connection, as far as its client can know: what will be understood.

    A connection ends with the first frame that names what is not there, and all behind it is fed
    in vain: so most frames name what is.

    Attributes:
        senders: Channels and handles of the client's sending links.
        receivers: Those of its receiving links.
        sessions: Channels of its sessions, each with the id of its next delivery.
        names: How many links have been given a name.
        unfinished: Links on which a delivery has begun and not ended.
        locks: Sequence numbers and serials of locks that somebody holds.
    """

    senders: list[tuple[int, int]] = field(default_factory=list)
    receivers: list[tuple[int, int]] = field(default_factory=list)
    sessions: dict[int, int] = field(default_factory=dict)
    names: int = 0
    unfinished: set[tuple[int, int]] = field(default_factory=set)
    locks: list[tuple[int, int]] = field(default_factory=list)

    def take(self, frame: Frame | None) -> None:
        """Follow what the client sends."""
        if frame is None or frame.kind:
            return
        channel, fields = frame.channel, frame.fields
        if frame.code == 0x11:
            self.sessions.setdefault(channel, 0)
        elif frame.code == 0x12 and len(fields) > 2:
            links = self.receivers if fields[2] in (b"\x41", b"\x56\x01") else self.senders
            links.append((channel, _read_uint(fields[1])))
        elif frame.code == 0x14 and fields[1:2] not in ([], [b"\x40"]):
            self.sessions[channel] = _read_uint(fields[1]) + 1
        elif frame.code == 0x16 and fields:
            self.drop(channel, _read_uint(fields[0]))
        elif frame.code == 0x17:
            self.end(channel)

    @property
    def links(self) -> list[tuple[int, int]]:
        """All links."""
        return self.senders + self.receivers

    def drop(self, channel: int, handle: int) -> None:
        """A link is gone."""
        self.unfinished.discard((channel, handle))
        for links in (self.senders, self.receivers):
            if (channel, handle) in links:
                links.remove((channel, handle))

    def end(self, channel: int) -> None:
        """A session is gone."""
        self.sessions.pop(channel, None)
        self.unfinished = {link for link in self.unfinished if link[0] != channel}
        self.senders[:] = [link for link in self.senders if link[0] != channel]
        self.receivers[:] = [link for link in self.receivers if link[0] != channel]


def _read_uint(raw: bytes) -> int:
    """An encoded uint; what is none is 0."""
    return int.from_bytes(raw[1:5], "big")


def u32(number: int) -> bytes:
    """An encoded uint."""
    return b"\x70" + (number & 0xFFFFFFFF).to_bytes(4, "big")


def _number(rng: random.Random) -> bytes:
    """A number that some counter may have reached, or one that none has."""
    if rng.random() < 0.8:
        return u32(rng.randrange(12))
    return u32(rng.choice((100, 2047, 2048, 65535, 2**31 - 1, 2**31, 2**32 - 1, 2**32 - 2)))


def _odd_or(rng: random.Random, usual: bytes) -> bytes:
    return rng.choice(VALUES) if rng.random() < 0.02 else usual


def _pick(rng: random.Random, *choices: bytes) -> bytes:
    return choices[rng.randrange(len(choices))]


@cache
def _address(address: str | None) -> bytes:
    return encode(address)


def _list(code: int, fields: list[bytes]) -> bytes:
    body = b"".join(fields)
    size = (len(body) + 4).to_bytes(4, "big") + len(fields).to_bytes(4, "big")
    return b"\x00\x53" + bytes((code,)) + b"\xd0" + size + body


def _terminus(rng: random.Random, code: int) -> bytes:
    chance = rng.random()
    if chance < 0.04:
        return rng.choice(VALUES)
    address = _address(rng.choice(ADDRESSES))
    fields = [address, _number(rng), _NULL, _number(rng), _pick(rng, _FALSE, _FALSE, _TRUE), _NULL]
    if code == 0x28:
        mode = _pick(rng, _NULL, b"\xa3\x04move", b"\xa3\x04copy", b"\xa3\x01x")
        fields += [mode, rng.choice(_FILTERS), rng.choice(_OUTCOMES), _NULL]
    if chance < 0.2:
        fields[rng.randrange(len(fields))] = rng.choice(VALUES)
    return _list(code, fields[: rng.randint(0, len(fields))] if chance < 0.3 else fields)


def attach(rng: random.Random, known: Known) -> Frame:
    """A link to anything, in either direction."""
    receiving = rng.random() < 0.5
    channel, chance = _channel(rng, known), rng.random()
    handle = next(handle for handle in count() if (channel, handle) not in known.links)
    if chance < 0.04:
        handle = rng.choice((rng.randrange(12), 255, 256, 2**31, 2**32 - 1))
    elif channel in known.sessions:
        (known.receivers if receiving else known.senders).append((channel, handle))
    known.names += 1
    number = known.names if rng.random() < 0.96 else rng.randrange(8)
    name = b"l" + bytes((97 + number % 26, 97 + number // 26 % 26))
    target = _list(0x30, []) if rng.random() < 0.03 else _terminus(rng, 0x29)
    fields = [
        b"\xa1\x03" + name, u32(handle), _TRUE if receiving else _FALSE,
        b"\x50" + bytes((rng.randrange(4),)), b"\x50" + bytes((rng.randrange(3),)),
        _terminus(rng, 0x28), target, _NULL, _FALSE, u32(0), _pick(rng, _NULL, b"\x80" + b"\xff" * 8),
        _NULL, _NULL, _pick(rng, _NULL, b"\xc1\x01\x00"),
    ]  # fmt: skip
    return Frame(0x12, fields, channel=channel)


def _link(rng: random.Random, known: Known, links: list[tuple[int, int]]) -> tuple[int, bytes]:
    """Channel and encoded handle: of one of the links, or of anything."""
    if links and rng.random() < 0.98:
        channel, handle = rng.choice(links)
        return channel, u32(handle)
    return _channel(rng, known), _number(rng)


def flow(rng: random.Random, known: Known) -> Frame:
    """Credit, drains, windows, echoes."""
    channel, handle = _channel(rng, known), _NULL
    if known.receivers and rng.random() < 0.85:
        channel, handle = _link(rng, known, known.receivers)
    fields = [
        _number(rng), _number(rng), _number(rng), _number(rng), handle, _number(rng), _pick(rng, u32(10), u32(0), u32(1), u32(2**32 - 1), _number(rng)), u32(0),
        _pick(rng, _FALSE, _TRUE), _pick(rng, _FALSE, _FALSE, _TRUE),
    ]  # fmt: skip
    fields[1] = _pick(rng, u32(2048), u32(2**31 - 1), fields[1])
    fields[3] = _pick(rng, u32(2048), fields[3])
    return Frame(0x13, fields, channel=channel)


def transfer(rng: random.Random, payload: bytes, known: Known) -> list[Frame]:
    """A delivery in one frame or in several, or a part of one."""
    tag = rng.choice((b"", b"a", b"t" * 32, b"t" * 33, rng.randbytes(16)))
    channel, handle = _link(rng, known, known.senders)
    link = (channel, _read_uint(handle))
    goes_on = link in known.unfinished and rng.random() < 0.97
    number = known.sessions.get(channel, 0) if rng.random() < 0.985 else rng.randrange(2**32)
    if not goes_on:
        known.sessions[channel] = (number + 1) & 0xFFFFFFFF
    first = Frame(0x14, [
        handle, _odd_or(rng, u32(number)), b"\xa0" + bytes((len(tag),)) + tag,
        BATCH_FORMAT if rng.random() < 0.15 else u32(0), _pick(rng, _FALSE, _FALSE, _TRUE),
        _pick(rng, *[_FALSE] * 9, _TRUE), _NULL, _pick(rng, _NULL, _NULL, *_OUTCOMES), _FALSE,
        _pick(rng, *[_FALSE] * 9, _TRUE),
    ], payload, channel=channel)  # fmt: skip
    if goes_on:
        first.fields[1:4] = [_NULL, _NULL, _NULL]
    frames = [first] if rng.random() < 0.85 or not payload else _cut(rng, first)
    more, aborted = frames[-1].fields[5] == _TRUE, frames[-1].fields[9] == _TRUE
    (known.unfinished.add if more and not aborted else known.unfinished.discard)(link)
    return frames


def _cut(rng: random.Random, whole: Frame) -> list[Frame]:
    """A transfer as several frames, of which the last may be missing."""
    cuts = sorted(rng.randrange(len(whole.payload) + 1) for _ in range(rng.randrange(1, 4)))
    bounds = list(zip([0, *cuts], [*cuts, len(whole.payload)], strict=True))
    frames = []
    for number, (start, stop) in enumerate(bounds):
        part = whole.copy()
        part.payload = whole.payload[start:stop]
        if number:
            part.fields[1:4] = [_NULL, _NULL, _NULL]
        part.fields[5] = _FALSE if number == len(bounds) - 1 else _TRUE
        frames.append(part)
    return frames[: rng.choice((9, 9, 9, 1, 2))]


def disposition(rng: random.Random, known: Known) -> Frame:
    """Outcomes for one delivery or for many."""
    first = rng.randrange(40) if rng.random() < 0.98 else 2**32 - 3
    last = first + rng.choice((0, 0, 0, 1, 1, 5, 5, 20, 100, 2_000))
    if rng.random() < 0.02:
        last = first + rng.choice((2**31 - 2, 2**31 - 1, 2**31, 2**32 - 2))
    outcome = rng.choice(VALUES) if rng.random() < 0.1 else rng.choice(_OUTCOMES)
    role = _pick(rng, _TRUE, _TRUE, _FALSE)
    settled = _pick(rng, _TRUE, _TRUE, _FALSE)
    return Frame(
        0x15, [role, u32(first), u32(last), settled, outcome], channel=_channel(rng, known)
    )


def begin(rng: random.Random, known: Known) -> Frame:
    """A session."""
    channel, chance = rng.randrange(8), rng.random()
    if chance < 0.9:
        channel = next(channel for channel in count() if channel not in known.sessions)
    known.sessions.setdefault(channel, 0)
    remote = _pick(rng, *[_NULL] * 18, b"\x60\x00\x00", b"\x60\xff\xff")
    window = _pick(rng, u32(2048), u32(0), u32(1), u32(2**32 - 1))
    fields = [remote, _number(rng), window, window, _pick(rng, u32(255), _number(rng))]
    return Frame(0x11, fields, channel=channel)


def detach(rng: random.Random, known: Known) -> Frame:
    """The end of a link, or a pause of it."""
    error = _pick(rng, _NULL, _NULL, _ERROR)
    channel, handle = _link(rng, known, known.links)
    known.drop(channel, _read_uint(handle))
    return Frame(0x16, [handle, _pick(rng, _TRUE, _FALSE), error], channel=channel)


def end(rng: random.Random, known: Known) -> Frame:
    """The end of a session."""
    channel = _channel(rng, known)
    known.end(channel)
    return Frame(0x17, [_odd_or(rng, _NULL)], channel=channel)


def open_(rng: random.Random, _: Known) -> Frame:
    """The beginning of a connection; seldom the first."""
    size = _pick(rng, u32(65536), u32(512), u32(0), u32(511), u32(2**32 - 1))
    idle = _pick(rng, _NULL, u32(1), u32(1000), u32(2**32 - 1))
    fields = [b"\xa1\x01c", _NULL, size, b"\x60\xff\xff", idle, _NULL, _NULL, _NULL, _NULL]
    fields.append(_odd_or(rng, b"\xc1\x01\x00"))
    return Frame(0x10, fields)


def close(rng: random.Random, _: Known) -> Frame:
    """The end of the connection."""
    return Frame(0x18, [_odd_or(rng, _NULL)])


def _channel(rng: random.Random, known: Known) -> int:
    if known.sessions and rng.random() < 0.99:
        return rng.choice(tuple(known.sessions))
    return rng.choice((0, 0, 0, 1, 1, 2, 31, 32, 65535))


_KINDS: tuple[tuple[Callable[[random.Random, Known], Frame], int], ...] = (
    (attach, 44), (flow, 50), (disposition, 40), (begin, 4), (detach, 12), (end, 1), (open_, 1),
    (close, 1),
)  # fmt: skip
_MAKERS = tuple(maker for maker, weight in _KINDS for _ in range(weight))
_TRANSFER_WEIGHT = 60


def frames(rng: random.Random, payloads: list[bytes], known: Known) -> list[Frame]:
    """Any frame; transfers carry one of the payloads, and may take several frames."""
    at = rng.randrange(len(_MAKERS) + _TRANSFER_WEIGHT)
    if at >= len(_MAKERS) and known.senders:
        return transfer(rng, rng.choice(payloads), known)
    maker = _MAKERS[at % len(_MAKERS)]
    if maker in (flow, detach) and not known.links:
        maker = attach
    if maker in (close, open_) and rng.random() < 0.6:
        maker = disposition
    if not known.sessions and rng.random() < 0.9:
        return [begin(rng, known)]
    return [maker(rng, known)]


# Messages


def _section(code: int, value: object) -> bytes:
    return encode(Described(ULong(code), value))


def request(rng: random.Random, known: Known) -> bytes:
    """A request to `$cbs` or to a management node."""
    reply_to = rng.choice((None, "la", "lb", "here", 5))
    identity = rng.choice((None, "id", 7, identities.token("")[:40], b"x"))
    if rng.random() < 0.3:
        properties, body = _put_token(rng)
    else:
        properties, body = _management(rng, known)
    return (
        _section(0x73, [identity, None, None, None, reply_to])
        + _section(0x74, properties)
        + _section(0x77, body)
    )


def _put_token(rng: random.Random) -> tuple[dict[object, object], object]:
    path = rng.choice((identities.feed(1), identities.feed(2), "variables", "", "x"))
    if rng.random() < 0.3:
        path = f"variables/Publishers/{identities.publisher_id(1)}"
    token: object = identities.token(path)
    if rng.random() < 0.3:
        token = rng.choice((None, 5, "", "a.b.c", "eyJhbGciOiJub25lIn0.e30.", b"x", {"a": 1}))
    kind = rng.choice(("servicebus.windows.net:sastoken", "jwt", None))
    name = rng.choice((f"amqp://localhost/{path}", path, None, 7, "x" * 5_000))
    return {"operation": "put-token", "type": kind, "name": name}, token


_NUMBERS = (0, 1, 2, 5, -1, 2**31, 2**63 - 1, -(2**63))
_OPERATIONS = (
    "renew-lock", "peek-message", "update-disposition", "receive-by-sequence-number",
    "enumerate-rules", "add-rule", "schedule-message", "cancel-scheduled-message", "set-session-state",
    "no-such-thing",
)  # fmt: skip
_STATUSES = ("completed", "abandoned", "suspended", "defered", "defered", "nonsense", None)


def _locks(rng: random.Random, known: Known) -> object:
    tokens = tuple(_lock(rng, known.locks) for _ in range(rng.randrange(4)))
    return Array(0x98, tokens) if rng.random() < 0.9 else list(tokens)


def _lock(rng: random.Random, locks: list[tuple[int, int]]) -> UUID:
    """A lock token: a sequence number and a serial, both small where the service is young."""
    if locks and rng.random() < 0.8:
        return lock_token(*rng.choice(locks))
    return lock_token(rng.randrange(1, 12), rng.randrange(1, 12))


def _management(rng: random.Random, known: Known) -> tuple[dict[object, object], object]:
    name = rng.choice(_OPERATIONS)
    seqs = [seq for seq, _ in known.locks]
    numbers = tuple(rng.choice((*_NUMBERS, *seqs)) for _ in range(rng.randrange(1, 4)))
    message = encode(Described(ULong(0x75), b'{"value": 1}'))
    due = Timestamp(identities.RECORDED_S * 1000 + rng.choice((-5, 1_000, 60_000, 2**60)))
    scheduled = _section(0x72, {Symbol("x-opt-scheduled-enqueue-time"): due}) + message
    body: dict[object, object] = {
        "lock-tokens": _locks(rng, known),
        "sequence-numbers": Array(0x81, numbers) if rng.random() < 0.9 else list(numbers),
        "from-sequence-number": rng.choice((*_NUMBERS, *seqs)),
        "message-count": Int(rng.choice((0, 1, 10, 2**31 - 1, -1))),
        "disposition-status": rng.choice(_STATUSES),
        "receiver-settle-mode": rng.choice((UInt(0), UInt(1), UInt(9))),
        "messages": [{"message": scheduled, "message-id": "m"}] * rng.randrange(3),
        "top": Int(rng.choice((0, 5, -1))), "skip": Int(rng.choice((0, 1, -1))),
        "deadletter-reason": "r", "properties-to-modify": {"a": rng.choice((1, None, [1]))},
    }  # fmt: skip
    for key in list(body):
        if rng.random() < 0.15:
            del body[key]
    return {"operation": rng.choice(("com.microsoft:", "")) + name}, body


def message(rng: random.Random) -> bytes:
    """A message as a publisher might send it."""
    body = rng.choice((
        _section(0x75, b'{"value": 9, "objectId": "a"}'), _section(0x77, {"value": 1.5, "t": [1, 2]}),
        _section(0x77, "text"), _section(0x76, [1, None]), _section(0x75, b"x" * rng.randrange(3_000)),
        _section(0x75, b'[{"value": 1}, {"value": 2}]'), b"", _section(0x75, _section(0x75, b"{}")),
    ))  # fmt: skip
    parts = [
        _section(0x70, [True, None, UInt(rng.choice((0, 1000, 2**32 - 1)))]),
        _section(
            0x72, {Symbol("x-opt-a"): 1, Symbol("x-opt-scheduled-enqueue-time"): Timestamp(5)}
        ),
        _section(0x73, ["id", b"user", "to"]),
        _section(
            0x74, {"value": rng.choice((1, -5, 2.5, "x", None, 2**63 - 1)), "quality": Int(3)}
        ),
    ]
    return b"".join(part for part in parts if rng.random() < 0.5) + body
