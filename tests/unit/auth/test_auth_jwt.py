"""Bearer tokens: who is let in, who is not, and what of the claims becomes the principal."""

import base64
import hashlib
import hmac
import json

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from hotpath.auth.jwt import (
    REMEMBERED_MAX,
    REMEMBERED_MS,
    TokenRules,
    TokenVerifier,
    make_verifier,
    mint,
)
from hotpath.auth.keys import VerificationKey, bind, load_development_key
from hotpath.auth.keysets import FixedKeys
from hotpath.auth.rights import Permission
from hotpath.config import Settings
from hotpath.model.errors import Unauthorized
from hotpath.model.names import Topic
from tests.support.clock import START_MS, ManualClock

NOW_S = START_MS // 1000
ED = Ed25519PrivateKey.generate()
RSA = rsa.generate_private_key(65537, 2048)
EC = ec.generate_private_key(ec.SECP256R1())
SECRET = b"0123456789abcdef0123456789abcdef"
GOOD = {"tenantId": "acme", "sub": "ann", "exp": NOW_S + 600, "scope": "hotpath.subscribe"}


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def verifier(clock: ManualClock, *keys: VerificationKey, **rules) -> TokenVerifier:
    chosen = keys or (bind(ED.public_key(), "k1"),)
    return TokenVerifier(TokenRules(**rules), [FixedKeys(chosen)], now_ms=clock.now_ms)


def token(claims=None, *, key=ED, algorithm="EdDSA", headers=None, **changes) -> str:
    content = {**(GOOD if claims is None else claims), **changes}
    return jwt.encode(content, key, algorithm=algorithm, headers=headers)


def without(name: str) -> dict:
    return {key: value for key, value in GOOD.items() if key != name}


def raw_token(header: object, payload: bytes, signature: bytes = b"x") -> str:
    def part(content: bytes) -> str:
        return base64.urlsafe_b64encode(content).rstrip(b"=").decode()

    return f"{part(json.dumps(header).encode())}.{part(payload)}.{part(signature)}"


def signed_raw(payload: bytes, header: dict | None = None) -> str:
    """A token with a payload that no library would write, properly signed."""
    unsigned = raw_token(header or {"alg": "EdDSA"}, payload).rpartition(".")[0]
    signature = base64.urlsafe_b64encode(ED.sign(unsigned.encode())).rstrip(b"=").decode()
    return f"{unsigned}.{signature}"


async def test_good_token_becomes_a_principal(clock: ManualClock) -> None:
    text = token(
        permissions=["hotpath.publish:variables", "other.scope"],
        condition="objectId = 'a'",
        partitions=["p1", "p2"],
    )

    principal = await verifier(clock).verify(text)

    assert principal.tenant == "acme"
    assert principal.subject == "ann"
    assert principal.scopes == {"hotpath.subscribe", "hotpath.publish:variables"}
    assert principal.may(Permission.PUBLISH, Topic.VARIABLES)
    assert not principal.may(Permission.PUBLISH, Topic.EVENTS)
    assert principal.condition == "objectId = 'a'"
    assert principal.partitions == {"p1", "p2"}
    assert principal.until_ms == (NOW_S + 600) * 1000


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [(RSA, "RS256"), (EC, "ES256"), (ED, "EdDSA")],
    ids=["RS256", "ES256", "EdDSA"],
)
async def test_each_public_key_checks_its_algorithm(clock: ManualClock, key, algorithm) -> None:
    checker = verifier(clock, bind(key.public_key(), None))

    assert (await checker.verify(token(key=key, algorithm=algorithm))).tenant == "acme"


async def test_shared_secret_counts_only_when_configured(clock: ManualClock) -> None:
    text = token(key=SECRET, algorithm="HS256")
    assert await verifier(clock, VerificationKey("HS256", SECRET)).verify(text)

    with pytest.raises(Unauthorized):
        await verifier(clock).verify(text)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"exp": NOW_S - 31}, id="expired-past-leeway"),
        pytest.param({"exp": "soon"}, id="exp-no-number"),
        pytest.param({"exp": True}, id="exp-boolean"),
        pytest.param({"exp": -5}, id="exp-negative"),
        pytest.param({"exp": None}, id="exp-null"),
        pytest.param({"nbf": NOW_S + 31}, id="not-yet-past-leeway"),
        pytest.param({"nbf": "x"}, id="nbf-no-number"),
        pytest.param({"tenantId": ""}, id="tenant-empty"),
        pytest.param({"tenantId": "  "}, id="tenant-blank"),
        pytest.param({"tenantId": 7}, id="tenant-number"),
        pytest.param({"tenantId": None}, id="tenant-null"),
        pytest.param({"tenantId": "t" * 129}, id="tenant-long"),
        pytest.param({"tenantId": "a\nb"}, id="tenant-control"),
        pytest.param({"tenantId": "a\x85b"}, id="tenant-c1-control"),
        pytest.param({"tenantId": "a\ud800"}, id="tenant-surrogate"),
        pytest.param({"sub": "s" * 257}, id="sub-long"),
        pytest.param({"sub": 5}, id="sub-number"),
        pytest.param({"scope": ["hotpath.admin"]}, id="scope-array"),
        pytest.param({"permissions": "hotpath.admin"}, id="permissions-string"),
        pytest.param({"permissions": [1]}, id="permissions-numbers"),
        pytest.param({"permissions": ["x"] * 1001}, id="permissions-many"),
        pytest.param({"condition": None}, id="condition-null"),
        pytest.param({"condition": ""}, id="condition-empty"),
        pytest.param({"condition": {"a": 1}}, id="condition-object"),
        pytest.param({"condition": "x" * 4097}, id="condition-long"),
        pytest.param({"partitions": "p1"}, id="partitions-string"),
    ],
)
async def test_wrong_claims_are_refused(clock: ManualClock, changes: dict) -> None:
    with pytest.raises(Unauthorized):
        await verifier(clock).verify(token(**changes))


@pytest.mark.parametrize("claim", ["exp", "tenantId"])
async def test_needed_claims_must_be_there(clock: ManualClock, claim: str) -> None:
    with pytest.raises(Unauthorized, match=claim):
        await verifier(clock).verify(token(without(claim)))


@pytest.mark.parametrize(
    "changes",
    [{"exp": NOW_S - 29}, {"nbf": NOW_S + 29}, {"exp": 1e18}, {"exp": NOW_S + 0.5}],
    ids=["expired", "not-yet", "far", "fraction"],
)
async def test_leeway_and_odd_times_are_accepted(clock: ManualClock, changes: dict) -> None:
    assert await verifier(clock).verify(token(**changes))


async def test_audience_and_issuer_are_required_when_configured(clock: ManualClock) -> None:
    checker = verifier(clock, audience="hotpath", issuer="https://id")
    assert await checker.verify(token(aud=["x", "hotpath"], iss="https://id"))

    for wrong in (
        {},
        {"aud": "hotpath"},
        {"iss": "https://id"},
        {"aud": "other", "iss": "https://id"},
        {"aud": "hotpath", "iss": "https://id.evil"},
        {"aud": 5, "iss": "https://id"},
    ):
        with pytest.raises(Unauthorized):
            await checker.verify(token(**wrong))


async def test_audience_does_not_matter_when_none_is_configured(clock: ManualClock) -> None:
    assert await verifier(clock).verify(token(aud="somebody else"))


async def test_claim_names_are_configurable(clock: ManualClock) -> None:
    checker = verifier(
        clock, tenant_claim="org", scope_claim="scp", condition_claim="only", partitions_claim="in"
    )
    text = token(
        {"org": "o", "scp": "hotpath.admin", "only": "value > 1", "in": ["p"], "exp": NOW_S + 9}
    )

    principal = await checker.verify(text)

    assert (principal.tenant, principal.condition) == ("o", "value > 1")
    assert principal.scopes == {"hotpath.admin"}
    assert principal.partitions == {"p"}


async def test_token_without_signature_is_refused(clock: ManualClock) -> None:
    for algorithm in ("none", "None", "NONE", "", None, 5, ["EdDSA"]):
        text = raw_token({"alg": algorithm}, json.dumps(GOOD).encode(), b"")
        with pytest.raises(Unauthorized):
            await verifier(clock).verify(text)


async def test_public_key_is_never_taken_for_a_shared_secret(clock: ManualClock) -> None:
    pem = RSA.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    unsigned = raw_token({"alg": "HS256"}, json.dumps(GOOD).encode()).rpartition(".")[0]
    digest = hmac.new(pem, unsigned.encode(), hashlib.sha256).digest()
    forged = f"{unsigned}.{base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}"

    with pytest.raises(Unauthorized):
        await verifier(clock, bind(RSA.public_key(), None)).verify(forged)


@pytest.mark.parametrize("algorithm", ["HS384", "HS512", "RS512", "PS256", "ES384", "ES256K"])
async def test_other_algorithms_are_refused(clock: ManualClock, algorithm: str) -> None:
    with pytest.raises(Unauthorized, match="algorithm"):
        await verifier(clock).verify(raw_token({"alg": algorithm}, b"{}"))


@pytest.mark.parametrize(
    "header",
    [{"alg": "EdDSA", "crit": ["exp"]}, {"alg": "EdDSA", "crit": ["b64"], "b64": False}],
    ids=["crit", "b64"],
)
async def test_critical_headers_are_refused(clock: ManualClock, header: dict) -> None:
    with pytest.raises(Unauthorized):
        await verifier(clock).verify(signed_raw(json.dumps(GOOD).encode(), header))


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(b"[]", id="array"),
        pytest.param(b"null", id="null"),
        pytest.param(b"{", id="cut"),
        pytest.param(b"\xff\xfe", id="no-utf8"),
        pytest.param(b'{"exp":' + b"9" * 5000 + b',"tenantId":"a"}', id="huge-integer"),
        pytest.param(b'{"exp":NaN,"tenantId":"a"}', id="nan"),
        pytest.param(b'{"exp":-Infinity,"tenantId":"a"}', id="infinity"),
        pytest.param(b'{"a":' + b"[" * 3000 + b"]" * 3000 + b"}", id="deep"),
    ],
)
async def test_signed_nonsense_is_refused(clock: ManualClock, payload: bytes) -> None:
    with pytest.raises(Unauthorized):
        await verifier(clock).verify(signed_raw(payload))


async def test_tampered_claims_are_refused(clock: ManualClock) -> None:
    head, _, signature = token().split(".")
    other = token(tenantId="victim").split(".")[1]

    with pytest.raises(Unauthorized, match="signature"):
        await verifier(clock).verify(f"{head}.{other}.{signature}")


async def test_key_id_chooses_the_key(clock: ManualClock) -> None:
    other = Ed25519PrivateKey.generate()
    checker = verifier(clock, bind(ED.public_key(), "a"), bind(other.public_key(), "b"))
    assert await checker.verify(token(key=other, headers={"kid": "b"}))
    assert await checker.verify(token(key=other))

    with pytest.raises(Unauthorized, match="signature"):
        await checker.verify(token(key=other, headers={"kid": "a"}))
    with pytest.raises(Unauthorized, match="not known"):
        await checker.verify(token(key=other, headers={"kid": "c"}))


async def test_remembered_token_still_ends_at_its_time(clock: ManualClock) -> None:
    checker = verifier(clock, leeway_s=0)
    text = token(exp=NOW_S + 10)
    assert await checker.verify(text)

    await clock.advance(9_999)
    assert await checker.verify(text)
    await clock.advance(1)
    with pytest.raises(Unauthorized, match="expired"):
        await checker.verify(text)


async def test_withdrawn_key_counts_no_longer_than_tokens_are_remembered(
    clock: ManualClock,
) -> None:
    keys = [bind(ED.public_key(), None)]
    source = FixedKeys(keys)
    checker = TokenVerifier(TokenRules(), [source], now_ms=clock.now_ms)
    text = token()
    assert await checker.verify(text)

    source._keys = ()
    await clock.advance(REMEMBERED_MS - 1)
    assert await checker.verify(text)
    await clock.advance(1)
    with pytest.raises(Unauthorized, match="not known"):
        await checker.verify(text)


async def test_memory_of_tokens_is_bounded(clock: ManualClock, monkeypatch) -> None:
    monkeypatch.setattr("hotpath.auth.jwt.REMEMBERED_MAX", 3)
    checker = verifier(clock)

    for number in range(10):
        await checker.verify(token(sub=str(number)))

    assert len(checker._remembered) == 3
    assert REMEMBERED_MAX >= 1000


@pytest.mark.parametrize(
    "text", ["", "a", "a.b", "a.b.c", "....", "ä.ö.ü", "x" * 20_000, "\udc80.a.b"], ids=repr
)
async def test_other_texts_are_refused(clock: ManualClock, text: str) -> None:
    with pytest.raises(Unauthorized):
        await verifier(clock).verify(text)


async def test_minted_token_verifies_with_the_development_key(clock, tmp_path) -> None:
    settings = Settings(data_dir=tmp_path, jwt_audience="us", jwt_issuer="here")
    checker = make_verifier(settings, now_ms=clock.now_ms, ticks_ms=clock.ticks_ms)

    text = mint(
        load_development_key(tmp_path),
        TokenRules.of(settings),
        tenant="acme",
        scopes=["hotpath.subscribe", "hotpath.publish"],
        subject="me",
        now_ms=clock.now_ms(),
        minutes=1,
        partitions=["p"],
        condition="value > 1",
    )
    principal = await checker.verify(text)

    assert principal.scopes == {"hotpath.subscribe", "hotpath.publish"}
    assert (principal.subject, principal.condition) == ("me", "value > 1")
    assert principal.partitions == {"p"}
    assert principal.until_ms == clock.now_ms() + 60_000


async def test_negative_minutes_mint_an_expired_token(clock, tmp_path) -> None:
    settings = Settings(data_dir=tmp_path)
    checker = make_verifier(settings, now_ms=clock.now_ms, ticks_ms=clock.ticks_ms)
    text = mint(
        load_development_key(tmp_path),
        TokenRules.of(settings),
        tenant="acme",
        scopes=[],
        subject="me",
        now_ms=clock.now_ms(),
        minutes=-1,
    )

    with pytest.raises(Unauthorized, match="expired"):
        await checker.verify(text)


def test_development_key_is_off_beside_another_source(clock, tmp_path) -> None:
    pem = ED.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "idp.pem").write_bytes(pem)
    settings = Settings(data_dir=tmp_path, jwt_public_key=tmp_path / "idp.pem")

    make_verifier(settings, now_ms=clock.now_ms, ticks_ms=clock.ticks_ms)

    assert not (tmp_path / "dev-jwt.pem").exists()


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"jwt_hs256_secret": "short"}, "at least 32 bytes"),
        ({"jwt_dev_key": False}, "no source"),
        ({"jwt_jwks_url": "file:///etc/passwd"}, "not a URL"),
    ],
    ids=["short-secret", "no-source", "no-http"],
)
def test_unusable_configuration_is_refused_at_the_start(clock, tmp_path, options, match) -> None:
    settings = Settings(data_dir=tmp_path, **options)

    with pytest.raises(ValueError, match=match):
        make_verifier(settings, now_ms=clock.now_ms, ticks_ms=clock.ticks_ms)


async def test_configured_secret_accepts_its_tokens(clock, tmp_path) -> None:
    settings = Settings(data_dir=tmp_path, jwt_hs256_secret=SECRET.decode())
    checker = make_verifier(settings, now_ms=clock.now_ms, ticks_ms=clock.ticks_ms)

    assert await checker.verify(token(key=SECRET, algorithm="HS256"))
