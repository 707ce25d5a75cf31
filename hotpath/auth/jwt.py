"""JSON Web Tokens: from the text of a bearer token to a `Principal`.

PyJWT checks the signature, `aud` and `iss`; `exp` and `nbf` are compared here with the clock that
the service is given. A token is accepted with RS256, ES256 or EdDSA by the public keys of the
configured sources, with HS256 only if a shared secret is configured. Which algorithm a key is for
follows from the key, so `none` and every confusion of algorithms have nothing to hold on to.

Everything wrong with a token is `Unauthorized`; nothing else is raised for any text.
"""

import hashlib
import math
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeGuard, cast

import jwt

from hotpath.auth.keys import DevelopmentKey, VerificationKey, load_development_key
from hotpath.auth.keysets import FixedKeys, KeyFile, KeySetUrl, KeySource
from hotpath.auth.rights import SCOPE_PREFIX, Principal
from hotpath.config import Settings
from hotpath.model.errors import Unauthorized
from hotpath.model.names import TenantId

#: Longest token that is looked at, characters.
TOKEN_CHARS_MAX: Final = 16_384
TENANT_CHARS_MAX: Final = 128
SUBJECT_CHARS_MAX: Final = 256
#: As long as a filter may be.
CONDITION_CHARS_MAX: Final = 4_096
LIST_LENGTH_MAX: Final = 1_000
#: Verified tokens that are remembered, and for how long; a withdrawn key counts no longer.
REMEMBERED_MAX: Final = 10_000
REMEMBERED_MS: Final = 60_000
#: RFC 2104 wants a key as long as the digest.
_SECRET_BYTES_MIN: Final = 32
#: The end of the year 9999; a later end means none sooner.
_SECONDS_MAX: Final = 253_402_300_799

_ALGORITHMS: Final = frozenset({"RS256", "ES256", "EdDSA", "HS256"})

Milliseconds = Callable[[], int]


@dataclass(frozen=True, slots=True)
class TokenRules:
    """What a token must say, and under which names."""

    audience: str | None = None
    issuer: str | None = None
    leeway_s: float = 30.0
    tenant_claim: str = "tenantId"
    scope_claim: str = "scope"
    permissions_claim: str = "permissions"
    condition_claim: str = "condition"
    partitions_claim: str = "partitions"

    @classmethod
    def of(cls, settings: Settings) -> "TokenRules":
        """The rules of the configuration."""
        return cls(
            audience=settings.jwt_audience,
            issuer=settings.jwt_issuer,
            leeway_s=settings.jwt_leeway_seconds,
            tenant_claim=settings.claim_tenant,
            scope_claim=settings.claim_scope,
            permissions_claim=settings.claim_permissions,
            condition_claim=settings.claim_condition,
            partitions_claim=settings.claim_partitions,
        )


class TokenVerifier:
    """Checks bearer tokens, and remembers for a while which ones were good."""

    def __init__(
        self, rules: TokenRules, sources: Sequence[KeySource], *, now_ms: Milliseconds
    ) -> None:
        self._rules = rules
        self._sources = tuple(sources)
        self._now_ms = now_ms
        self._remembered: OrderedDict[bytes, tuple[Principal, int]] = OrderedDict()

    async def verify(self, token: str) -> Principal:
        """The caller that a token describes.

        Raises:
            Unauthorized: The token is malformed, not signed by an accepted key, not for this
                service, over, not yet valid, or names no tenant.
        """
        if len(token) > TOKEN_CHARS_MAX or not token.isascii():
            raise Unauthorized("the token is malformed")
        digest = hashlib.sha256(token.encode()).digest()
        principal = self._recall(digest)
        if principal is not None:
            return principal
        claims = await self._check(token)
        end_ms = self._check_times(claims)
        principal = read_principal(claims, self._rules, until_ms=end_ms)
        self._remember(digest, principal, end_ms)
        return principal

    def problems(self) -> list[str]:
        """Why tokens may be refused that are good: sources without keys, in words."""
        return [text for source in self._sources if (text := source.problem()) is not None]

    async def close(self) -> None:
        """End what the sources have under way."""
        for source in self._sources:
            await source.close()

    # Signatures

    async def _check(self, token: str) -> dict[str, object]:
        """The claims of a token that an accepted key has signed."""
        algorithm, kid = _read_header(token)
        signed_wrong = False
        for source in self._sources:
            for key in await source.find(algorithm, kid):
                claims = self._decode(token, key)
                if claims is not None:
                    return claims
                signed_wrong = True
        if signed_wrong:
            raise Unauthorized("the signature of the token is not valid")
        raise Unauthorized("the key that signed the token is not known here")

    def _decode(self, token: str, key: VerificationKey) -> dict[str, object] | None:
        """The claims if `key` signed the token, None if not. Raises Unauthorized."""
        try:
            return jwt.decode(
                token,
                key.key,
                algorithms=[key.algorithm],
                audience=self._rules.audience,
                issuer=self._rules.issuer,
                options={
                    "require": ["exp"],
                    "verify_exp": False,
                    "verify_nbf": False,
                    "verify_iat": False,
                    # Without a configured audience, whom else the token is for does not matter.
                    "verify_aud": self._rules.audience is not None,
                },
            )
        except jwt.InvalidSignatureError:
            return None
        except jwt.InvalidAudienceError:
            raise Unauthorized("the token is not for this service (aud)") from None
        except jwt.InvalidIssuerError:
            raise Unauthorized("the token is not from the accepted issuer (iss)") from None
        except jwt.MissingRequiredClaimError as error:
            raise Unauthorized(f"the token has no {error.claim}") from None
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
            raise Unauthorized("the token is malformed") from None

    # Time

    def _check_times(self, claims: Mapping[str, object]) -> int:
        """The token's end in wall-clock milliseconds. Raises Unauthorized outside its time."""
        now_ms = self._now_ms()
        leeway_ms = round(self._rules.leeway_s * 1000)
        end_ms = _milliseconds(claims["exp"], "exp")
        if now_ms >= end_ms + leeway_ms:
            raise Unauthorized("the token has expired")
        if "nbf" in claims and now_ms < _milliseconds(claims["nbf"], "nbf") - leeway_ms:
            raise Unauthorized("the token is not valid yet (nbf)")
        return end_ms

    # Memory

    def _recall(self, digest: bytes) -> Principal | None:
        found = self._remembered.get(digest)
        if found is None:
            return None
        principal, until_ms = found
        if self._now_ms() >= until_ms:
            del self._remembered[digest]
            return None
        return principal

    def _remember(self, digest: bytes, principal: Principal, end_ms: int) -> None:
        leeway_ms = round(self._rules.leeway_s * 1000)
        until_ms = min(end_ms + leeway_ms, self._now_ms() + REMEMBERED_MS)
        self._remembered[digest] = (principal, until_ms)
        if len(self._remembered) > REMEMBERED_MAX:
            self._remembered.popitem(last=False)


def make_verifier(
    settings: Settings, *, now_ms: Milliseconds, ticks_ms: Milliseconds
) -> TokenVerifier:
    """The verifier that the configuration asks for; reads, and may make, key files.

    Raises:
        OSError: A key file can not be read or made.
        ValueError: A key, secret or URL can not be used, or no source of keys is left.
    """
    sources: list[KeySource] = []
    if settings.jwt_jwks_url:
        sources.append(KeySetUrl(settings.jwt_jwks_url, ticks_ms))
    if settings.jwt_public_key:
        sources.append(KeyFile(settings.jwt_public_key, ticks_ms))
    if settings.jwt_hs256_secret:
        secret = settings.jwt_hs256_secret.get_secret_value().encode()
        if len(secret) < _SECRET_BYTES_MIN:
            raise ValueError(f"jwt_hs256_secret needs at least {_SECRET_BYTES_MIN} bytes")
        sources.append(FixedKeys([VerificationKey("HS256", secret)]))
    if settings.uses_dev_key:
        key = load_development_key(settings.data_dir)
        sources.append(FixedKeys([key.verification_key()]))
    if not sources:
        raise ValueError("no source of token keys is configured, and jwt_dev_key is off")
    return TokenVerifier(TokenRules.of(settings), sources, now_ms=now_ms)


def mint(
    key: DevelopmentKey,
    rules: TokenRules,
    *,
    tenant: str,
    scopes: Iterable[str],
    subject: str,
    now_ms: int,
    minutes: float,
    partitions: Iterable[str] = (),
    condition: str | None = None,
) -> str:
    """A token of the development key; `minutes` are real ones, negative for an expired token."""
    issued_s = now_ms / 1000
    claims: dict[str, object] = {
        "sub": subject,
        rules.tenant_claim: tenant,
        rules.scope_claim: " ".join(scopes),
        "iat": math.floor(issued_s),
        "exp": math.ceil(issued_s + minutes * 60),
    }
    if rules.audience is not None:
        claims["aud"] = rules.audience
    if rules.issuer is not None:
        claims["iss"] = rules.issuer
    granted = list(partitions)
    if granted:
        claims[rules.partitions_claim] = granted
    if condition is not None:
        claims[rules.condition_claim] = condition
    return jwt.encode(claims, key.private, algorithm="EdDSA", headers={"kid": key.kid})


def read_principal(
    claims: Mapping[str, object], rules: TokenRules, *, until_ms: int | None
) -> Principal:
    """The caller that verified claims describe. Raises Unauthorized."""
    tenant = claims.get(rules.tenant_claim)
    if not _is_text(tenant, TENANT_CHARS_MAX) or not tenant.strip():
        raise Unauthorized(
            f"{rules.tenant_claim} of the token must name a tenant in 1 to {TENANT_CHARS_MAX} "
            "printable characters"
        )
    subject = claims.get("sub", "")
    if not _is_text(subject, SUBJECT_CHARS_MAX):
        raise Unauthorized("sub of the token is too long or not printable")
    return Principal(
        tenant=TenantId(tenant),
        subject=subject,
        scopes=_read_scopes(claims, rules),
        condition=_read_condition(claims, rules.condition_claim),
        partitions=_read_list(claims, rules.partitions_claim),
        until_ms=until_ms,
    )


def _read_scopes(claims: Mapping[str, object], rules: TokenRules) -> frozenset[str]:
    """What the token allows; scopes of other services are left out."""
    text = claims.get(rules.scope_claim, "")
    if not isinstance(text, str):
        raise Unauthorized(f"{rules.scope_claim} of the token must be a string")
    scopes = set(text.split(" ")) | _read_list(claims, rules.permissions_claim)
    return frozenset(scope for scope in scopes if scope.startswith(SCOPE_PREFIX))


def _read_condition(claims: Mapping[str, object], claim: str) -> str | None:
    """The condition; one that is there and no text is refused, for without it rights widen."""
    if claim not in claims:
        return None
    condition = claims[claim]
    if not isinstance(condition, str) or not condition.strip():
        raise Unauthorized(f"{claim} of the token must be a filter expression")
    if len(condition) > CONDITION_CHARS_MAX or not _is_unicode(condition):
        raise Unauthorized(f"{claim} of the token is longer than {CONDITION_CHARS_MAX} characters")
    return condition


def _read_list(claims: Mapping[str, object], claim: str) -> frozenset[str]:
    value = claims.get(claim, [])
    if not isinstance(value, list) or len(value) > LIST_LENGTH_MAX:
        raise Unauthorized(f"{claim} of the token must be an array of at most {LIST_LENGTH_MAX}")
    if not all(_is_text(item, SUBJECT_CHARS_MAX) for item in value):
        raise Unauthorized(f"{claim} of the token must be an array of short strings")
    return frozenset(cast("list[str]", value))


def _read_header(token: str) -> tuple[str, str | None]:
    """Algorithm and key id that a token names. Raises Unauthorized."""
    try:
        header = jwt.get_unverified_header(token)
    except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
        raise Unauthorized("the token is malformed") from None
    algorithm, kid = header.get("alg"), header.get("kid")
    if not isinstance(algorithm, str) or algorithm not in _ALGORITHMS:
        raise Unauthorized("the algorithm of the token is not accepted")
    # RFC 7515 §4.1.11: what is critical must be understood, and nothing critical is.
    if "crit" in header or not (kid is None or isinstance(kid, str)):
        raise Unauthorized("the header of the token is not accepted")
    return algorithm, kid


def _milliseconds(value: object, claim: str) -> int:
    """A NumericDate (RFC 7519 §2) in milliseconds. Raises Unauthorized."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
        raise Unauthorized(f"{claim} of the token is not a time")
    return round(min(value, _SECONDS_MAX) * 1000)


def _is_text(value: object, chars_max: int) -> TypeGuard[str]:
    """Whether a claim is text of a bounded length without control characters."""
    return (
        isinstance(value, str)
        and len(value) <= chars_max
        and _is_unicode(value)
        and not any(char < " " or "\x7f" <= char <= "\x9f" for char in value)
    )


def _is_unicode(text: str) -> bool:
    """Whether text has no lone surrogates, which JSON can write and UTF-8 cannot."""
    return not any("\ud800" <= char <= "\udfff" for char in text)
