"""A stream's secrets: sealed in its record, hidden in memory, two of them while one takes over."""

import hmac
from dataclasses import dataclass

from typing_extensions import override

from hotpath.auth.sealing import SealingKey


class SecretValue:
    """A secret in memory. Whoever signs with it asks for it; nobody prints it by accident."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The secret as its owner wrote it."""
        return self._text

    @override
    def __repr__(self) -> str:
        return "SecretValue(***)"

    @override
    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SecretValue):
            return NotImplemented
        return hmac.compare_digest(self._text.encode(), other.reveal().encode())

    @override
    def __hash__(self) -> int:
        return hash(self._text)


@dataclass(frozen=True, slots=True)
class StreamSecrets:
    """What a stream signs with."""

    current: SecretValue | None = None
    old: SecretValue | None = None
    old_until_ms: int = 0
    """Until when the old one signs too, wall clock."""

    def signing(self, now_ms: int) -> list[SecretValue]:
        """Those that sign now, the current one first."""
        old = self.old if now_ms < self.old_until_ms else None
        return [secret for secret in (self.current, old) if secret is not None]

    def rotated(self, secret: SecretValue, *, until_ms: int) -> "StreamSecrets":
        """With a new secret; the current one signs beside it for a while."""
        return StreamSecrets(secret, self.current, until_ms)

    def sealed(self, key: SealingKey, stream: str) -> dict[str, object]:
        """The columns of a record."""
        return {
            "secret": _seal(key, self.current, f"{stream}/current"),
            "old_secret": _seal(key, self.old, f"{stream}/old"),
            "old_until_ms": self.old_until_ms,
        }


def open_secrets(key: SealingKey, stream: str, record: dict[str, object]) -> StreamSecrets:
    """The secrets of a record. Raises CannotOpen."""
    until_ms = record.get("old_until_ms")
    return StreamSecrets(
        _open(key, record.get("secret"), f"{stream}/current"),
        _open(key, record.get("old_secret"), f"{stream}/old"),
        until_ms if isinstance(until_ms, int) else 0,
    )


def _seal(key: SealingKey, secret: SecretValue | None, bound_to: str) -> bytes | None:
    return None if secret is None else key.seal(secret.reveal(), bound_to=bound_to)


def _open(key: SealingKey, sealed: object, bound_to: str) -> SecretValue | None:
    if not isinstance(sealed, bytes):
        return None
    return SecretValue(key.open(sealed, bound_to=bound_to))
