"""Changes to real captures and to frames: bit by bit, value by value, frame by frame."""

import random
import re
import struct

from tests.fuzz import grammar
from tests.fuzz.frames import HEADER, split, take_apart
from tests.fuzz.trees import exchange_in, parse_all
from tests.fuzz.values import VALUES

_pack_head = struct.Struct(">IBBH").pack
_read_head = struct.Struct(">IBBH").unpack_from
_EDGES = (0, 1, 0x3F, 0x40, 0x53, 0x7F, 0x80, 0xA1, 0xB1, 0xC0, 0xD0, 0xD1, 0xF0, 0xFF)
_WORD = re.compile(rb'"(?:[^"\\\\]|\\\\.)*"|[-+.\w]+|[^\s\w]')
_WORDS = (
    b'"a"', b'""', b"0", b"-1", b"5", b"60", b"1e400", b"-0.0", b"1" * 30, b"1" * 5_000, b"null",
    b"true", b"[]", b"{}", b"[" * 50, b"[" * 3_000 + b"]" * 3_000, b'{"a":' * 2_000, b"NaN",
    b'"\\ud800"', b'"\\u0000"', b'"' + b"x" * 5_000 + b'"', b"\xff", b'"objectId"', b'"value"',
    b'"timestamp"', b'"2026-01-01T00:00:00Z"', b'"9999-99-99"', b'"filter"', b'"value > 1"', b",",
    b"}", b"]", b":", b" AND ", b" OR ", b" NOT ", b"(", b")" * 70, b"(" * 70, b" IN ", b"[1, 'a']",
    b" = ", b" HAS ", b"'it''s'", b"'", b"`a`", b"value", b"quality", b"timestamp", b"a.b.c", b"\n",
)  # fmt: skip
#: Sizes for a frame's head.
_SIZES = (0, 4, 7, 8, 9, 65_535, 65_536, 65_537, 2**31, 2**32 - 1)


def havoc(rng: random.Random, raw: bytes, times: int = 3) -> bytes:
    """Bytes changed, removed, doubled, put in, cut off; whatever they mean."""
    if not raw:
        return rng.randbytes(rng.randrange(1, 20))
    out = bytearray(raw)
    for _ in range(rng.randrange(1, times + 1)):
        at = rng.randrange(len(out)) if out else 0
        match rng.randrange(9):
            case 0 | 1:
                out[at : at + 1] = bytes((rng.randrange(256),))
            case 2:
                out[at : at + 1] = bytes((rng.choice(_EDGES),))
            case 3:
                out[at : at + 1] = bytes((out[at] ^ (1 << rng.randrange(8)),)) if out else b"\0"
            case 4:
                del out[at : at + rng.randrange(1, 9)]
            case 5:
                out[at:at] = rng.randbytes(rng.randrange(1, 9))
            case 6:
                out[at:at] = out[at : at + rng.randrange(1, 40)]
            case 7:
                out[at:at] = rng.choice(VALUES)[:200]
            case _:
                if rng.random() < 0.3:
                    del out[at:]
                else:
                    out[at : at + 4] = struct.pack(">I", rng.choice(_SIZES))
    return bytes(out)


def json_text(rng: random.Random, text: bytes) -> bytes:
    """JSON or QEL with a few of its words exchanged for others."""
    for _ in range(rng.randrange(1, 4)):
        words = list(_WORD.finditer(text))
        if not words:
            break
        start, end = rng.choice(words).span()
        text = text[:start] + rng.choice(_WORDS) + text[end:]
    return text


def change_frame(rng: random.Random, raw: bytes, payloads: list[bytes]) -> bytes:
    """A frame with something inside it exchanged; its size is right nearly always."""
    if raw[:4] == HEADER or len(raw) < 12 or rng.random() < 0.08:
        return havoc(rng, raw)
    _, offset, kind, channel = _read_head(raw)
    nodes, rest = parse_all(raw[offset * 4 :])
    if not nodes:
        return havoc(rng, raw)
    body = nodes[0].raw
    payload = b"".join(node.raw for node in nodes[1:]) + rest
    chance = rng.random()
    if payload and chance < 0.5:
        payload = _change_payload(rng, payload, payloads)
    elif chance < 0.9:
        body = exchange_in(rng, body, rng.choice(VALUES))
    elif chance < 0.95:
        channel = rng.choice((0, 1, 31, 32, 65535))
    else:
        kind = rng.choice((0, 1, 2, 255))
    size = 8 + len(body) + len(payload)
    if rng.random() < 0.01:
        size = rng.choice(_SIZES)
    return _pack_head(size, 2, kind, channel) + body + payload


def _change_payload(rng: random.Random, payload: bytes, payloads: list[bytes]) -> bytes:
    chance = rng.random()
    if chance < 0.5:
        return exchange_in(rng, payload, rng.choice(VALUES))
    if chance < 0.75:
        return havoc(rng, payload)
    if chance < 0.9:
        return rng.choice(payloads)
    return payload[: rng.randrange(len(payload))]


def sequence(
    rng: random.Random, ahead: list[bytes], payloads: list[bytes], known: grammar.Known
) -> bytes:
    """One mutated sequence for a connection that stands somewhere: mostly a frame, seldom more.

    `ahead` is what the recorded client sends next; what is used of it is taken away.
    """
    parts: list[bytes] = []
    while True:
        chance = rng.random()
        if chance < 0.78 or not ahead:
            made = grammar.frames(rng, payloads, known)
            if chance < 0.03 and made[0].fields:
                made[0].fields[rng.randrange(len(made[0].fields))] = rng.choice(VALUES)
            parts += [frame.encode() for frame in made]
        else:
            raw = ahead[0] if chance < 0.81 else ahead.pop(0)
            if chance < 0.92:
                raw = change_frame(rng, raw, payloads)
            known.take(take_apart(raw))
            parts.append(raw)
        if rng.random() < 0.8 or len(parts) > 8:
            break
    joint = b"".join(parts)
    return havoc(rng, joint) if rng.random() < 0.015 else joint


def capture(rng: random.Random, stream: list[bytes], others: list[bytes], payloads: list[bytes]):
    """A whole capture with a few of its frames changed, moved, doubled, left out or put in."""
    parts = list(stream)
    for _ in range(rng.randrange(1, 5)):
        at = rng.randrange(len(parts)) if parts else 0
        match rng.randrange(8):
            case 0 | 1 | 2 if parts:
                parts[at] = change_frame(rng, parts[at], payloads)
            case 3 if parts:
                del parts[at]
            case 4 if parts:
                parts.insert(rng.randrange(len(parts)), parts[at])
            case 5:
                parts.insert(at, rng.choice(others))
            case 6:
                made = grammar.frames(rng, payloads, grammar.Known())
                parts[at:at] = [frame.encode() for frame in made]
            case _ if parts:
                parts[at] = havoc(rng, parts[at])
    return parts


def pieces(rng: random.Random, parts: list[bytes]) -> list[bytes]:
    """The same bytes as reads from a socket may cut them."""
    if rng.random() < 0.6:
        return [part for part in parts if part]
    whole = b"".join(parts)
    found, at = [], 0
    while at < len(whole):
        step = rng.choice((1, 7, 8, 9, 100, 1_000, 5_000))
        found.append(whole[at : at + step])
        at += step
    return found[:40] + ([b"".join(found[40:])] if found[40:] else [])


def payloads_of(streams: list[bytes]) -> list[bytes]:
    """What the transfers of captures carry."""
    found = (take_apart(raw) for stream in streams for raw in split(stream))
    return sorted({frame.payload for frame in found if frame is not None and frame.payload})
