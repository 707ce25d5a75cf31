"""Keys at rest: the development key pair, and public keys in PEM files.

A private file is made complete and readable by its owner alone before it gets its name, so that
neither a crash nor a second process ever sees half a key.
"""

import base64
import hashlib
import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)
from cryptography.x509 import load_pem_x509_certificate

DEVELOPMENT_KEY_FILE: Final = "dev-jwt.pem"
RSA_BITS_MIN: Final = 2048
_PEM_BYTES_MAX: Final = 1_048_576

PublicKey = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """A key that checks tokens, bound to the one algorithm it may be used with.

    The algorithm follows from the key and never from a token, so a public key can not be taken
    for a shared secret.
    """

    algorithm: str
    key: PublicKey | bytes = field(repr=False)
    kid: str | None = None
    """Identifier that tokens refer to it by; None matches any."""


@dataclass(frozen=True, slots=True)
class DevelopmentKey:
    """The key pair with which `hotpath token` signs on a developer's machine."""

    private: Ed25519PrivateKey = field(repr=False)
    kid: str

    def verification_key(self) -> VerificationKey:
        """The half that checks."""
        return VerificationKey("EdDSA", self.private.public_key(), self.kid)


def load_development_key(data_dir: Path) -> DevelopmentKey:
    """The development key of a data directory, made at the first use.

    Raises:
        OSError: The file can be neither read nor made.
        ValueError: The file holds no Ed25519 private key.
    """
    path = data_dir / DEVELOPMENT_KEY_FILE
    if not path.exists():
        pem = Ed25519PrivateKey.generate().private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
        )
        write_private(path, pem)
    try:
        private = load_pem_private_key(path.read_bytes(), password=None)
    except (TypeError, UnsupportedAlgorithm) as error:
        raise ValueError(f"{path} holds no usable private key") from error
    if not isinstance(private, Ed25519PrivateKey):
        raise ValueError(f"{path} holds no Ed25519 private key")  # noqa: TRY004 -- bad content
    return DevelopmentKey(private, _thumbprint(private.public_key()))


def write_private(path: Path, content: bytes) -> None:
    """Make a file that only its owner can read, unless there is one of that name already.

    Raises OSError.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        # A link never replaces: of two processes that start at once, the first one's key counts.
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink(missing_ok=True)


def read_public_keys(pem: bytes) -> list[VerificationKey]:
    """The keys of a PEM text: public keys or certificates, one after the other.

    Raises:
        ValueError: There is none, or one of a kind that no accepted algorithm uses.
    """
    if len(pem) > _PEM_BYTES_MAX:
        raise ValueError("a file of public keys is at most 1 MiB")
    found: list[VerificationKey] = []
    for block in pem.split(b"-----BEGIN ")[1:]:
        text = b"-----BEGIN " + block
        try:
            found.append(bind(_load_block(text), None))
        except UnsupportedAlgorithm as error:
            raise ValueError("a public key is of an unknown kind") from error
    if not found:
        raise ValueError("there is no public key in PEM form")
    return found


def _load_block(text: bytes) -> object:
    if text.startswith(b"-----BEGIN CERTIFICATE-----"):
        return load_pem_x509_certificate(text).public_key()
    return load_pem_public_key(text)


def bind(key: object, kid: str | None) -> VerificationKey:
    """Bind a public key to its algorithm. Raises ValueError when no accepted one uses it."""
    match key:
        case RSAPublicKey():
            if key.key_size < RSA_BITS_MIN:
                raise ValueError(f"an RSA key has at least {RSA_BITS_MIN} bits")
            return VerificationKey("RS256", key, kid)
        case EllipticCurvePublicKey():
            if not isinstance(key.curve, SECP256R1):
                raise ValueError("an elliptic-curve key is on the curve P-256")  # noqa: TRY004
            return VerificationKey("ES256", key, kid)
        case Ed25519PublicKey():
            return VerificationKey("EdDSA", key, kid)
        case _:
            raise ValueError("a public key is RSA, P-256 or Ed25519")


def _thumbprint(key: Ed25519PublicKey) -> str:
    """The key's identifier (RFC 7638, RFC 8037 §2): the same for the same key everywhere."""
    x = _base64url(key.public_bytes(Encoding.Raw, PublicFormat.Raw))
    canonical = f'{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}'
    return _base64url(hashlib.sha256(canonical.encode()).digest())


def _base64url(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
