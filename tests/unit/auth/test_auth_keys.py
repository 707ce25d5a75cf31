"""Key files, and key sets behind a URL: made once, closed to others, bounded, robust."""

import asyncio
import json
import os
import stat
from concurrent.futures import ThreadPoolExecutor

import jwt
import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from hotpath.auth.keys import DEVELOPMENT_KEY_FILE, load_development_key, read_public_keys
from hotpath.auth.keysets import (
    FETCH_AGE_MS,
    FETCH_INTERVAL_MS,
    FILE_INTERVAL_MS,
    KeyFile,
    KeySetUrl,
    read_key_set,
)
from tests.support.clock import ManualClock, settle

ED = Ed25519PrivateKey.generate()
RSA = rsa.generate_private_key(65537, 2048)


def public_pem(key) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def jwk(key, kid: str, **more) -> dict:
    algorithm = {"RSA": jwt.algorithms.RSAAlgorithm, "EC": jwt.algorithms.ECAlgorithm}
    kind = "RSA" if isinstance(key, rsa.RSAPrivateKey) else "EC"
    kind = "OKP" if isinstance(key, Ed25519PrivateKey) else kind
    writer = algorithm.get(kind, jwt.algorithms.OKPAlgorithm)
    return {**json.loads(writer.to_jwk(key.public_key())), "kid": kid, **more}


# The development key


def test_development_key_stays_the_same_and_is_closed_to_others(tmp_path) -> None:
    first = load_development_key(tmp_path / "data")
    second = load_development_key(tmp_path / "data")

    mode = stat.S_IMODE((tmp_path / "data" / DEVELOPMENT_KEY_FILE).stat().st_mode)
    assert first.kid == second.kid
    assert mode == 0o600
    assert [entry.name for entry in (tmp_path / "data").iterdir()] == [DEVELOPMENT_KEY_FILE]


def test_processes_that_start_at_once_share_one_key(tmp_path) -> None:
    with ThreadPoolExecutor(8) as pool:
        keys = list(pool.map(lambda _: load_development_key(tmp_path), range(16)))

    assert len({key.kid for key in keys}) == 1


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"nonsense",
        RSA.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        public_pem(ED),
    ],
    ids=["empty", "nonsense", "rsa", "public"],
)
def test_broken_development_key_is_refused(tmp_path, content: bytes) -> None:
    (tmp_path / DEVELOPMENT_KEY_FILE).write_bytes(content)

    with pytest.raises(ValueError):
        load_development_key(tmp_path)


# PEM files


def test_pem_text_may_hold_several_keys() -> None:
    keys = read_public_keys(public_pem(RSA) + b"\n" + public_pem(ED))

    assert [key.algorithm for key in keys] == ["RS256", "EdDSA"]


@pytest.mark.parametrize(
    "pem",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"-----BEGIN PUBLIC KEY-----\nxx\n-----END PUBLIC KEY-----\n", id="nonsense"),
        pytest.param(public_pem(rsa.generate_private_key(65537, 1024)), id="short-rsa"),
        pytest.param(public_pem(ec.generate_private_key(ec.SECP384R1())), id="other-curve"),
        pytest.param(b"x" * 2_000_000, id="too-long"),
    ],
)
def test_unusable_pem_is_refused(pem: bytes) -> None:
    with pytest.raises(ValueError):
        read_public_keys(pem)


async def test_changed_file_is_read_again_without_a_restart(tmp_path) -> None:
    clock = ManualClock()
    path = tmp_path / "keys.pem"
    path.write_bytes(public_pem(RSA))
    source = KeyFile(path, clock.ticks_ms)

    path.write_bytes(public_pem(RSA) + public_pem(ED))
    assert await source.find("EdDSA", None) == []
    await clock.advance(FILE_INTERVAL_MS)

    assert len(await source.find("EdDSA", None)) == 1


async def test_unreadable_file_leaves_the_old_keys(tmp_path) -> None:
    clock = ManualClock()
    path = tmp_path / "keys.pem"
    path.write_bytes(public_pem(RSA))
    source = KeyFile(path, clock.ticks_ms)

    path.write_bytes(b"half a k")
    await clock.advance(FILE_INTERVAL_MS)
    assert len(await source.find("RS256", None)) == 1
    os.unlink(path)
    await clock.advance(FILE_INTERVAL_MS)

    assert len(await source.find("RS256", None)) == 1


# Key sets


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        {},
        {"keys": 5},
        {"keys": []},
        {"keys": [None, 5, {}, {"kty": "oct", "k": "c2VjcmV0"}]},
        {"keys": [{"kty": "RSA", "n": "x", "e": "AQAB"}]},
        {"keys": [jwk(RSA, "a", use="enc")]},
        {"keys": [jwk(RSA, "a", alg="RS512")]},
        {"keys": [jwk(ec.generate_private_key(ec.SECP384R1()), "a")]},
    ],
    ids=["null", "array", "empty", "number", "none", "junk", "bad-rsa", "enc", "alg", "curve"],
)
def test_key_set_without_a_usable_key_is_refused(document: object) -> None:
    with pytest.raises(ValueError):
        read_key_set(document)


def test_usable_keys_of_a_mixed_set_are_taken() -> None:
    p256 = ec.generate_private_key(ec.SECP256R1())
    document = {"keys": [{"kty": "oct", "k": "eA"}, jwk(RSA, "r"), jwk(p256, "e"), jwk(ED, "o")]}

    found = {key.kid: key.algorithm for key in read_key_set(document)}

    assert found == {"r": "RS256", "e": "ES256", "o": "EdDSA"}


class KeyServer:
    """A key set on a loopback port that tests can change, break and count."""

    def __init__(self) -> None:
        self.fetches = 0
        self.keys: list[dict] = []
        self.answer: web.Response | None = None

    async def serve(self, request: web.Request) -> web.Response:
        self.fetches += 1
        return self.answer or web.json_response({"keys": self.keys})


@pytest.fixture
async def server(aiohttp_server):
    keys = KeyServer()
    application = web.Application()
    application.router.add_get("/keys", keys.serve)
    keys.url = str((await aiohttp_server(application)).make_url("/keys"))
    return keys


async def test_key_set_is_fetched_once_however_many_ask(server) -> None:
    server.keys = [jwk(ED, "a")]
    source = KeySetUrl(server.url, ManualClock().ticks_ms)
    assert source.problem() is not None

    found = await asyncio.gather(*(source.find("EdDSA", "a") for _ in range(20)))

    assert all(len(keys) == 1 for keys in found)
    assert server.fetches == 1
    assert source.problem() is None


async def test_unknown_key_id_fetches_again_at_a_bounded_rate(server) -> None:
    clock = ManualClock()
    server.keys = [jwk(ED, "a")]
    source = KeySetUrl(server.url, clock.ticks_ms)
    await source.find("EdDSA", "a")
    server.keys = [jwk(ED, "a"), jwk(Ed25519PrivateKey.generate(), "b")]

    for _ in range(50):
        assert await source.find("EdDSA", "b") == []
    assert server.fetches == 1
    await clock.advance(FETCH_INTERVAL_MS)

    assert len(await source.find("EdDSA", "b")) == 1
    assert server.fetches == 2


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(web.Response(status=500), id="500"),
        pytest.param(web.Response(status=302, headers={"Location": "/keys"}), id="redirect"),
        pytest.param(web.Response(text="<html>"), id="no-json"),
        pytest.param(web.Response(text="[" * 5000), id="deep"),
        pytest.param(web.Response(body=b" " * 1_100_000), id="too-long"),
        pytest.param(web.Response(text='{"keys": []}'), id="no-keys"),
    ],
)
async def test_old_keys_stay_while_the_server_is_broken(server, answer) -> None:
    clock = ManualClock()
    server.keys = [jwk(ED, "a")]
    source = KeySetUrl(server.url, clock.ticks_ms)
    await source.find("EdDSA", "a")
    server.answer = answer

    await clock.advance(FETCH_AGE_MS)
    assert len(await source.find("EdDSA", "a")) == 1
    await source._fetching
    assert await source.find("EdDSA", "zzz") == []

    assert len(await source.find("EdDSA", "a")) == 1
    assert server.fetches == 2


async def test_server_that_was_down_at_the_start_is_tried_again(server) -> None:
    clock = ManualClock()
    source = KeySetUrl("http://127.0.0.1:1/keys", clock.ticks_ms)
    assert await source.find("EdDSA", "a") == []
    assert "cannot be fetched" in source.problem()

    server.keys = [jwk(ED, "a")]
    source._url = server.url
    assert await source.find("EdDSA", "a") == []
    await clock.advance(FETCH_INTERVAL_MS)

    assert len(await source.find("EdDSA", "a")) == 1


async def test_withdrawn_key_is_forgotten_once_the_set_is_old(server) -> None:
    clock = ManualClock()
    server.keys = [jwk(ED, "a"), jwk(RSA, "b")]
    source = KeySetUrl(server.url, clock.ticks_ms)
    await source.find("EdDSA", "a")
    server.keys = [jwk(RSA, "b")]

    await clock.advance(FETCH_AGE_MS)
    await source.find("EdDSA", "a")
    await source._fetching
    await settle()

    assert await source.find("EdDSA", "a") == []


async def test_closing_ends_a_fetch(server) -> None:
    source = KeySetUrl(server.url, ManualClock().ticks_ms)
    asking = asyncio.ensure_future(source.find("EdDSA", "a"))
    await asyncio.sleep(0)

    await source.close()

    with pytest.raises(asyncio.CancelledError):
        await asking
