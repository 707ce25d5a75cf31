r"""Shared access signatures: issuing and reading the tokens that open feeds over AMQP.

A token is `SharedAccessSignature sr=<R>&sig=<S>&se=<E>&skn=<N>`: the URL-encoded resource, the
signature, its end in Unix seconds, and the name of the key that signed it. The signature is the
HMAC-SHA256 of `R + "\n" + E` with R exactly as it stands in the token, because encoders differ;
its key is the text of the secret as UTF-8 bytes, whatever the text looks like.

Reading a token says that a key of the ring signed it and that it has not ended. What it opens is
the business of `hotpath.service.access`.
"""

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote, unquote

from hotpath.model.errors import Unauthorized
from hotpath.model.names import TenantId, resource_segments

SCHEME: Final = "SharedAccessSignature "

#: Longest token that is looked at, characters.
TOKEN_CHARS_MAX: Final = 8_192
_RESOURCE_CHARS_MAX: Final = 4_096
_SIGNATURE_CHARS_MAX: Final = 256
_FIELDS: Final = frozenset({"sr", "sig", "se", "skn"})

_KEY_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,128}")
#: Twelve digits reach the year 33658.
_SECONDS: Final = re.compile(r"[0-9]{1,12}")
#: All of ASCII that is not unreserved (RFC 3986 §2.3), as `quote` writes it.
_ESCAPED: Final = {code: quote(chr(code), safe="") for code in range(128)}
_VISIBLE: Final = re.compile(r"[!-~]+")

#: Signs in the place of a key that does not exist.
_STAND_IN: Final = secrets.token_urlsafe(32)
# One sentence for a wrong signature and an unknown key: which key names exist is nobody's business.
_NOT_OURS: Final = "the signature of the token is not valid"


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A secret that signs tokens, and the name by which tokens refer to it.

    Raises:
        ValueError: The name has characters that encoders disagree about, or the secret is empty.
    """

    name: str
    secret: str = field(repr=False)
    """Key text; its UTF-8 bytes are the HMAC key."""
    tenant: TenantId | None = None
    """Whose key it is; None for the service's own, which signs the tokens of REST calls."""
    created_ms: int = 0

    def __post_init__(self) -> None:
        if not _KEY_NAME.fullmatch(self.name):
            raise ValueError("a key name is 1 to 128 characters of A-Z, a-z, 0-9, _ and -")
        if not self.secret:
            raise ValueError("a key needs a secret")


class KeyRing:
    """The keys whose signatures count. The newest one of the service's own signs.

    A key is rotated by adding a newer one (`replace`): tokens of the older key stay valid as long
    as it is in the ring.
    """

    def __init__(self, keys: Iterable[SigningKey]) -> None:
        self._by_name: dict[str, SigningKey] = {}
        self._current: SigningKey | None = None
        self.replace(keys)

    def replace(self, keys: Iterable[SigningKey]) -> None:
        """Put other keys in the place of all there are; the ring is unchanged on an error.

        Raises:
            ValueError: Two keys share a name.
        """
        by_name: dict[str, SigningKey] = {}
        current: SigningKey | None = None
        for key in keys:
            if key.name in by_name:
                raise ValueError(f"there are two keys named {key.name}")
            by_name[key.name] = key
            if key.tenant is None and (current is None or key.created_ms >= current.created_ms):
                current = key
        self._by_name, self._current = by_name, current

    @property
    def current(self) -> SigningKey:
        """The key that signs what this service issues.

        Raises:
            LookupError: None of the keys is the service's own.
        """
        if self._current is None:
            raise LookupError("the key ring has no key of the service's own")
        return self._current

    def get(self, name: str) -> SigningKey | None:
        """The key of a name, or None."""
        return self._by_name.get(name)

    def __len__(self) -> int:
        return len(self._by_name)


@dataclass(frozen=True, slots=True)
class SasClaims:
    """What a valid token says."""

    segments: tuple[str, ...]
    """Path of its resource in lower case, without scheme and authority; () for everything."""
    key: SigningKey
    """The key that signed it."""
    until_ms: int
    """Wall-clock end; at this millisecond it is over."""


def issue(key: SigningKey, resource_uri: str, *, expires_s: int) -> str:
    """Sign a token for a resource and everything below it, valid until `expires_s`."""
    resource = _escape(resource_uri)
    signature = _escape(_sign(key.secret, resource, str(expires_s)))
    # The name of a key has no character that would have to be escaped.
    return f"{SCHEME}sr={resource}&sig={signature}&se={expires_s}&skn={key.name}"


def _escape(text: str) -> str:
    """Percent-encoded text (RFC 3986 §2.1)."""
    return text.translate(_ESCAPED) if text.isascii() else quote(text, safe="")


def is_sas(text: str) -> bool:
    """Whether a credential claims to be a shared access signature."""
    return text.startswith(SCHEME)


def read_sas(token: str, ring: KeyRing, *, now_ms: int) -> SasClaims:
    """What a token says, if a key of `ring` signed it and it has not ended; there is no leeway.

    Raises:
        Unauthorized: For any other text, and nothing else for any text at all.
    """
    fields = _split(token)
    resource, end = fields["sr"], fields["se"]
    key = _find(ring, fields["skn"])
    # An unknown name costs the same work as a known one.
    secret = _STAND_IN if key is None else key.secret
    expected = _sign(secret, resource, end).encode()
    given = unquote(fields["sig"]).encode("utf-8", "surrogatepass")
    if not hmac.compare_digest(expected, given) or key is None:
        raise Unauthorized(_NOT_OURS)
    until_ms = int(end) * 1000
    if now_ms >= until_ms:
        raise Unauthorized("the token has expired")
    return SasClaims(tuple(resource_segments(resource)), key, until_ms)


def _split(token: str) -> dict[str, str]:
    """The four fields of a token as they stand in it. Raises Unauthorized."""
    if not is_sas(token) or len(token) > TOKEN_CHARS_MAX:
        raise Unauthorized("this is no shared access signature")
    fields: dict[str, str] = {}
    for part in token[len(SCHEME) :].split("&", len(_FIELDS)):
        name, separator, value = part.partition("=")
        if not separator or name not in _FIELDS or name in fields:
            raise Unauthorized("a shared access signature has sr, sig, se and skn, each once")
        fields[name] = value
    if fields.keys() != _FIELDS:
        raise Unauthorized("a shared access signature has sr, sig, se and skn, each once")
    if not _SECONDS.fullmatch(fields["se"]):
        raise Unauthorized("se is not a time in Unix seconds")
    if not _VISIBLE.fullmatch(fields["sr"]) or len(fields["sr"]) > _RESOURCE_CHARS_MAX:
        raise Unauthorized("sr is not a URL-encoded resource")
    if not _VISIBLE.fullmatch(fields["sig"]) or len(fields["sig"]) > _SIGNATURE_CHARS_MAX:
        raise Unauthorized(_NOT_OURS)
    return fields


def _find(ring: KeyRing, encoded: str) -> SigningKey | None:
    """The key that `skn` names; some clients encode the name twice."""
    once = unquote(encoded)
    return ring.get(once) or ring.get(unquote(once))


def _sign(secret: str, resource: str, end: str) -> str:
    """The signature as base64 text; both parts are ASCII."""
    digest = hmac.new(secret.encode(), f"{resource}\n{end}".encode(), hashlib.sha256).digest()
    return base64.b64encode(digest).decode()
