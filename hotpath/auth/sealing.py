"""Secrets that customers entrust to the service, sealed for the database.

AES-256-GCM under a key that is not in the database: a copy of one without the other shows
nothing. Each sealed text is bound to what it belongs to and opens nowhere else.
"""

import base64
import binascii
import os
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from hotpath.auth.keys import write_private

#: The key that is made at the first start, in the data directory.
SEALING_KEY_FILE: Final = "webhook-secrets.key"
_KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12
#: How sealed texts begin; another scheme would begin otherwise.
_VERSION: Final = b"\x01"


class CannotOpen(ValueError):
    """Sealed with another key, for something else, or damaged."""


class SealingKey:
    """Seals and opens texts."""

    def __init__(self, key: bytes) -> None:
        """Raises ValueError when `key` has not 32 bytes."""
        if len(key) != _KEY_BYTES:
            raise ValueError(f"a sealing key has {_KEY_BYTES} bytes, not {len(key)}")
        self._cipher = AESGCM(key)

    def seal(self, text: str, *, bound_to: str) -> bytes:
        """A text for the database; opens only with the same key and `bound_to`."""
        nonce = os.urandom(_NONCE_BYTES)
        sealed = self._cipher.encrypt(nonce, text.encode(), bound_to.encode())
        return _VERSION + nonce + sealed

    def open(self, sealed: bytes, *, bound_to: str) -> str:
        """What was sealed. Raises CannotOpen."""
        if not sealed.startswith(_VERSION):
            raise CannotOpen("sealed in a way that this release does not know")
        nonce, rest = sealed[1 : 1 + _NONCE_BYTES], sealed[1 + _NONCE_BYTES :]
        try:
            return self._cipher.decrypt(nonce, rest, bound_to.encode()).decode()
        except (InvalidTag, ValueError):
            raise CannotOpen("sealed with another key, or damaged") from None


def load_sealing_key(data_dir: Path, key_file: Path | None) -> SealingKey:
    """The key of a file, or the data directory's own, which is made when it is not there.

    The file holds 32 random bytes in base64, as `openssl rand -base64 32` writes them.
    Raises OSError or ValueError.
    """
    path = key_file or data_dir / SEALING_KEY_FILE
    if key_file is None and not path.exists():
        write_private(path, base64.b64encode(os.urandom(_KEY_BYTES)) + b"\n")
    text = path.read_bytes().strip()
    try:
        return SealingKey(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"{path} holds no 32 bytes in base64: {error}") from None
