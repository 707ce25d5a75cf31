"""Signatures of deliveries, so that a receiver can tell ours from anybody's.

Two forms go with every request of a stream that has a secret, both over the raw body:

    X-Webhook-Signature  `sha256=` and the hex HMAC-SHA-256 of the body; the key is the secret's
                         UTF-8 bytes, whatever it looks like
    webhook-id, webhook-timestamp, webhook-signature
                         Standard Webhooks 1.0: `v1,` and the base64 HMAC-SHA-256 of
                         `id.timestamp.body`; the key is what follows `whsec_` in base64, or the
                         secret's UTF-8 bytes. The signed time is what protects against replay.

While a secret is being replaced, both sign: `webhook-signature` lists one signature for each,
separated by blanks. `X-Webhook-Signature` has room for one: the newest secret's; that of the older
one stands in `X-Webhook-Signature-Previous`.
"""

from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Sequence
from dataclasses import dataclass
from hmac import compare_digest, digest
from typing import Final

#: Before a secret that is base64 (Standard Webhooks 1.0, "Signature scheme").
BASE64_PREFIX: Final = "whsec_"

SIGNATURE: Final = "X-Webhook-Signature"
SIGNATURE_PREVIOUS: Final = "X-Webhook-Signature-Previous"
WEBHOOK_ID: Final = "webhook-id"
WEBHOOK_TIMESTAMP: Final = "webhook-timestamp"
WEBHOOK_SIGNATURE: Final = "webhook-signature"

#: How far a signed time may be from now, seconds (Standard Webhooks 1.0 leaves it open).
TOLERANCE_SECONDS: Final = 300


class BadSecret(ValueError):
    """A secret that cannot sign; the text says why, without the secret."""


@dataclass(frozen=True, slots=True, repr=False)
class SigningSecret:
    """The two keys of one secret; never shown."""

    body_key: bytes
    """For `X-Webhook-Signature`."""
    standard_key: bytes
    """For `webhook-signature`."""

    @classmethod
    def of(cls, text: str) -> "SigningSecret":
        """Read a secret as its owner wrote it. Raises BadSecret."""
        if not text:
            raise BadSecret("the secret is empty")
        body_key = text.encode()
        if not text.startswith(BASE64_PREFIX):
            return cls(body_key, body_key)
        encoded = text.removeprefix(BASE64_PREFIX)
        try:
            # Padding is often left out; too much of it does not matter.
            standard_key = b64decode(
                encoded.rstrip("=") + "=" * (-len(encoded.rstrip("=")) % 4), validate=True
            )
        except (Base64Error, ValueError) as error:
            raise BadSecret(f"what follows {BASE64_PREFIX} is not base64") from error
        if not standard_key:
            raise BadSecret(f"nothing follows {BASE64_PREFIX}")
        return cls(body_key, standard_key)


class Signer:
    """Signs the requests of one stream with its secrets, the newest first; none: not at all."""

    __slots__ = ("_secrets",)

    def __init__(self, secrets: Sequence[SigningSecret]) -> None:
        self._secrets = tuple(secrets)

    @classmethod
    def of(cls, texts: Sequence[str]) -> "Signer":
        """A signer with these secrets, the newest first. Raises BadSecret."""
        return cls([SigningSecret.of(text) for text in texts])

    def headers(self, webhook_id: str, *, at_s: int, body: bytes) -> list[tuple[str, str]]:
        """The headers of one request.

        `webhook-id` and `webhook-timestamp` are there without a secret too: a receiver drops
        repeated deliveries by the id.
        """
        lines = [(WEBHOOK_ID, webhook_id), (WEBHOOK_TIMESTAMP, str(at_s))]
        if not self._secrets:
            return lines
        names = (SIGNATURE, SIGNATURE_PREVIOUS)
        for name, secret in zip(names, self._secrets, strict=False):
            lines.append((name, body_signature(secret, body)))
        signed = signed_content(webhook_id, at_s=at_s, body=body)
        listed = " ".join(standard_signature(secret, signed) for secret in self._secrets)
        lines.append((WEBHOOK_SIGNATURE, listed))
        return lines


def body_signature(secret: SigningSecret, body: bytes) -> str:
    """The value of `X-Webhook-Signature`."""
    return "sha256=" + digest(secret.body_key, body, "sha256").hex()


def signed_content(webhook_id: str, *, at_s: int, body: bytes) -> bytes:
    """What Standard Webhooks signs."""
    return b"%b.%d.%b" % (webhook_id.encode(), at_s, body)


def standard_signature(secret: SigningSecret, signed: bytes) -> str:
    """One element of `webhook-signature`."""
    return "v1," + b64encode(digest(secret.standard_key, signed, "sha256")).decode()


class Refused(Exception):
    """A request that must not be believed; the text says why."""


def verify_body(secret: SigningSecret, body: bytes, *, signature: str | None) -> None:
    """Check `X-Webhook-Signature`. Raises Refused."""
    if signature is None:
        raise Refused(f"no {SIGNATURE}")
    if not compare_digest(body_signature(secret, body).encode(), signature.encode()):
        raise Refused(f"{SIGNATURE} is not this secret's")


def verify_standard(
    secret: SigningSecret,
    body: bytes,
    *,
    webhook_id: str | None,
    timestamp: str | None,
    signatures: str | None,
    now_s: float,
) -> None:
    """Check the Standard Webhooks headers and that the signed time is near `now_s`.

    Raises Refused.
    """
    if not webhook_id or not timestamp or not signatures:
        raise Refused(f"{WEBHOOK_ID}, {WEBHOOK_TIMESTAMP} or {WEBHOOK_SIGNATURE} is missing")
    if not timestamp.isascii() or not timestamp.isdecimal() or len(timestamp) > 15:
        raise Refused(f"{WEBHOOK_TIMESTAMP} is no time")
    at_s = int(timestamp)
    expected = standard_signature(secret, signed_content(webhook_id, at_s=at_s, body=body)).encode()
    given = signatures.split(" ")[:16]
    if not any([compare_digest(expected, each.encode()) for each in given]):  # noqa: C419 - all
        raise Refused(f"{WEBHOOK_SIGNATURE} has none of this secret's")
    if abs(now_s - at_s) > TOLERANCE_SECONDS:
        raise Refused(f"{WEBHOOK_TIMESTAMP} is more than {TOLERANCE_SECONDS} s from now")
