"""Encoded AMQP values as trees, so that one value deep inside can be exchanged.

Sizes and counts around it are put right again: a decoder then meets a sound encoding that holds
something else, and not just the same "cut off" at each level.
"""

import random
import struct
from dataclasses import dataclass
from functools import lru_cache

from hotpath.wire.types import WireError, skip

COMPOUNDS = frozenset((0xC0, 0xC1, 0xD0, 0xD1))
_WIDE = {0xC0: 0xD0, 0xC1: 0xD1, 0xD0: 0xD0, 0xD1: 0xD1}
_DEPTH_MAX = 40

_pack_pair = struct.Struct(">II").pack


@dataclass(frozen=True, slots=True)
class Node:
    """A value: its bytes, and for lists, maps and described values what is inside."""

    raw: bytes
    code: int
    children: tuple["Node", ...] = ()

    def build(self, children: list[bytes]) -> bytes:
        """The same kind of value around other contents."""
        if self.code == 0:
            return b"\x00" + b"".join(children)
        body = b"".join(children)
        return bytes((_WIDE[self.code],)) + _pack_pair(len(body) + 4, len(children)) + body


def parse(buf: bytes, at: int = 0, depth: int = 0) -> Node:
    """The value at a place. Raises WireError or IndexError."""
    end = skip(buf, at)
    code = buf[at]
    raw = buf[at:end]
    if depth > _DEPTH_MAX or len(raw) < 2:
        return Node(raw, code)
    if code == 0:
        descriptor = parse(buf, at + 1, depth + 1)
        value = parse(buf, at + 1 + len(descriptor.raw), depth + 1)
        return Node(raw, 0, (descriptor, value))
    if code not in COMPOUNDS:
        return Node(raw, code)
    narrow = code in (0xC0, 0xC1)
    count = buf[at + 2] if narrow else int.from_bytes(buf[at + 5 : at + 9], "big")
    pos = at + (3 if narrow else 9)
    children = []
    for _ in range(count):
        if pos >= end:
            raise WireError("fewer elements than counted", pos)
        child = parse(buf, pos, depth + 1)
        children.append(child)
        pos += len(child.raw)
    return Node(raw, code, tuple(children))


@lru_cache(maxsize=4096)
def parse_all(buf: bytes) -> tuple[tuple[Node, ...], bytes]:
    """As many values as follow one another, and what is left behind them."""
    found: list[Node] = []
    at = 0
    while at < len(buf) and len(found) < 32:
        try:
            node = parse(buf, at)
        except (WireError, IndexError):
            break
        if not node.raw:
            break
        found.append(node)
        at += len(node.raw)
    return tuple(found), buf[at:]


def exchange(rng: random.Random, node: Node, new: bytes) -> bytes:
    """The value with something inside it (or itself, seldom) replaced, left out or doubled."""
    if not node.children or rng.random() < 0.08:
        return new
    inner = [child.raw for child in node.children]
    at = rng.randrange(len(inner))
    chance = rng.random()
    if chance < 0.06 and node.code:
        del inner[at]
    elif chance < 0.1 and node.code:
        inner.insert(at, inner[at])
    elif chance < 0.14 and node.code:
        inner.insert(at, new)
    else:
        # A described value is nearly always about what it holds.
        at = 1 if node.code == 0 and rng.random() < 0.95 else at
        inner[at] = exchange(rng, node.children[at], new)
    return node.build(inner)


def exchange_in(rng: random.Random, buf: bytes, new: bytes) -> bytes:
    """The same for bytes that hold several values in a row; others are returned as they are."""
    nodes, rest = parse_all(buf)
    if not nodes:
        return buf
    at = rng.randrange(len(nodes))
    parts = [node.raw for node in nodes]
    parts[at] = exchange(rng, nodes[at], new)
    return b"".join(parts) + rest
