"""What a node shows of itself, as the value of its key: JSON, whose unknown fields are passed over.

A later release may add fields; what an earlier one reads keeps its name and meaning, so that nodes
of two releases see each other while one replaces the other.
"""

import json
import re
from dataclasses import asdict, dataclass, field
from secrets import token_hex
from typing import Final

#: What a node may be called: its id is part of keys and subjects.
NODE_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")

_TEXTS: Final = ("id", "run", "amqp_url", "http_url", "version")


def new_run() -> str:
    """A name for one life of a node's process."""
    return token_hex(8)


@dataclass(frozen=True, slots=True)
class NodeCard:
    """A node, in one run of it; whatever else it shows, that is which one it is."""

    id: str
    run: str
    amqp_url: str = field(default="", compare=False)
    """Where its clients reach it over AMQP, without a path."""
    http_url: str = field(default="", compare=False)
    version: str = field(default="", compare=False)
    started_ms: int = field(default=0, compare=False)
    """Its own wall clock at its start; for people."""

    def __post_init__(self) -> None:
        if NODE_ID.fullmatch(self.id) is None:
            raise ValueError("a node id is up to 64 letters, digits, '-' and '_'")


@dataclass(frozen=True, slots=True)
class Shown:
    """The value of a node's key at one moment."""

    card: NodeCard
    beat: int
    leaving: bool = False

    def write(self) -> bytes:
        """The value."""
        shown = {**asdict(self.card), "beat": self.beat, "leaving": self.leaving}
        return json.dumps(shown).encode()


def read_shown(value: bytes) -> Shown | None:
    """What a value shows; None when it cannot be read."""
    try:
        read = json.loads(value)
        texts = {name: read.get(name, "") for name in _TEXTS}
        if not texts["run"] or not all(isinstance(text, str) for text in texts.values()):
            return None
        card = NodeCard(**texts, started_ms=int(read.get("started_ms", 0)))
        return Shown(card, beat=int(read["beat"]), leaving=read.get("leaving") is True)
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
