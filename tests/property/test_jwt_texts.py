"""Any text and any signed claims give a principal or Unauthorized; nothing else ever happens."""

import asyncio
import base64
import json

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from hotpath.auth.jwt import TokenRules, TokenVerifier
from hotpath.auth.keys import bind
from hotpath.auth.keysets import FixedKeys
from hotpath.model.errors import Unauthorized

KEY = Ed25519PrivateKey.generate()
NOW_MS = 1_700_000_000_000
VALUES = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)
CLAIMS = st.fixed_dictionaries(
    {},
    optional={
        "exp": VALUES | st.just(1_800_000_000),
        "nbf": VALUES,
        "iat": VALUES,
        "aud": VALUES,
        "iss": VALUES,
        "sub": VALUES,
        "jti": VALUES,
        "tenantId": VALUES | st.just("acme"),
        "scope": VALUES,
        "permissions": VALUES,
        "condition": VALUES,
        "partitions": VALUES,
    },
)


def read(text: str):
    verifier = TokenVerifier(
        TokenRules(), [FixedKeys([bind(KEY.public_key(), None)])], now_ms=lambda: NOW_MS
    )
    try:
        return asyncio.run(verifier.verify(text))
    except Unauthorized:
        return None


def encode(content: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).rstrip(b"=").decode()


def sign(header: object, claims: object) -> str:
    unsigned = f"{encode(header)}.{encode(claims)}"
    signature = base64.urlsafe_b64encode(KEY.sign(unsigned.encode())).rstrip(b"=").decode()
    return f"{unsigned}.{signature}"


@given(st.text() | st.from_regex(r"[\w=.-]{0,40}\.[\w=-]{0,40}\.[\w=-]{0,40}", fullmatch=True))
def test_any_text_is_refused(text: str) -> None:
    assert read(text) is None


@given(CLAIMS)
def test_any_signed_claims_give_a_bounded_principal_or_none(claims: dict[str, object]) -> None:
    principal = read(sign({"alg": "EdDSA"}, claims))

    if principal is not None:
        assert 1 <= len(principal.tenant.strip()) <= len(principal.tenant) <= 128
        assert principal.until_ms > NOW_MS - 30_001
        assert all(scope.startswith("hotpath.") for scope in principal.scopes)
        assert ("condition" in claims) == (principal.condition is not None)


@given(st.dictionaries(st.sampled_from(["alg", "kid", "typ", "crit", "b64", "jwk"]), VALUES))
def test_any_header_is_survived(header: dict[str, object]) -> None:
    claims = {"tenantId": "a", "exp": 1_800_000_000}

    principal = read(sign(header, claims))

    assert principal is None or header.get("alg") == "EdDSA"
