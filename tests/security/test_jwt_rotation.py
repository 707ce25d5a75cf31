"""The identity provider's keys change while calls go on: nobody who should be let in is refused."""

import json
from base64 import urlsafe_b64encode
from contextlib import asynccontextmanager

import jwt
import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from hotpath.auth.jwt import REMEMBERED_MS
from hotpath.auth.keysets import FETCH_AGE_MS, FETCH_INTERVAL_MS, FILE_INTERVAL_MS
from tests.support.services import running_service


class Signer:
    """A key of the identity provider."""

    def __init__(self, kid: str) -> None:
        self.kid = kid
        self.private = Ed25519PrivateKey.generate()

    def token(self, service, *, sub: str = "x") -> str:
        claims = {
            "tenantId": "acme",
            "sub": sub,
            "scope": "hotpath.subscribe",
            "exp": service.clock.now_ms() // 1000 + 86_400,
        }
        return jwt.encode(claims, self.private, "EdDSA", headers={"kid": self.kid})

    def jwk(self) -> dict[str, str]:
        raw = self.private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        x = urlsafe_b64encode(raw).rstrip(b"=").decode()
        return {"kty": "OKP", "crv": "Ed25519", "kid": self.kid, "x": x, "use": "sig"}

    def pem(self) -> bytes:
        return self.private.public_key().public_bytes(
            Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
        )


class Provider:
    """Serves a key set that can be changed."""

    def __init__(self) -> None:
        self.signers: list[Signer] = []
        self.fetches = 0
        self.is_down = False
        self.url = ""

    async def answer(self, _request) -> web.Response:
        self.fetches += 1
        if self.is_down:
            return web.Response(status=503)
        return web.Response(text=json.dumps({"keys": [each.jwk() for each in self.signers]}))


@pytest.fixture
async def provider():
    found = Provider()
    application = web.Application()
    application.router.add_get("/keys", found.answer)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    found.url = f"http://127.0.0.1:{runner.addresses[0][1]}/keys"
    yield found
    await runner.cleanup()


@asynccontextmanager
async def behind(provider, tmp_path):
    async with running_service(
        tmp_path, jwt_jwks_url=provider.url, rate_limit="1000000/second", rate_limit_burst=10**6
    ) as service:
        yield service


async def status(service, token: str) -> int:
    return (await service.call("GET", "/subscriptions", token=token))[0]


async def test_key_set_rotates_without_a_refused_call(provider, tmp_path):
    old, new = Signer("2023"), Signer("2024")
    provider.signers = [old]
    async with behind(provider, tmp_path) as service:
        assert await status(service, old.token(service)) == 200

        # The provider shows the new key beside the old one and begins to sign with it.
        provider.signers = [old, new]
        await service.clock.advance(FETCH_INTERVAL_MS)
        assert await status(service, new.token(service)) == 200
        assert await status(service, old.token(service, sub="another")) == 200

        # Then the old one goes: what it has signed is over once the set is fetched again.
        provider.signers = [new]
        await service.clock.advance(max(FETCH_AGE_MS, REMEMBERED_MS))
        await status(service, new.token(service, sub="third"))  # begins the fetch
        # A token that was verified is remembered for a while: each attempt is another one.
        for number in range(2_000):
            if await status(service, old.token(service, sub=str(number))) == 401:
                break
        assert await status(service, old.token(service, sub="last")) == 401
        assert await status(service, new.token(service)) == 200


async def test_calls_go_on_while_the_provider_is_down(provider, tmp_path):
    signer = Signer("2023")
    provider.signers = [signer]
    async with behind(provider, tmp_path) as service:
        assert await status(service, signer.token(service)) == 200
        provider.is_down = True

        for number in range(3):
            await service.clock.advance(FETCH_AGE_MS)
            assert await status(service, signer.token(service, sub=str(number))) == 200


async def test_tokens_of_unknown_keys_do_not_make_fetches(provider, tmp_path):
    signer = Signer("2023")
    provider.signers = [signer]
    async with behind(provider, tmp_path) as service:
        await status(service, signer.token(service))
        before = provider.fetches

        for number in range(50):
            assert await status(service, Signer(f"k{number}").token(service)) == 401

        assert provider.fetches <= before + 1


async def test_key_file_rotates_without_a_refused_call(tmp_path):
    old, new = Signer("a"), Signer("b")
    path = tmp_path / "keys.pem"
    path.write_bytes(old.pem())
    async with running_service(tmp_path / "data", jwt_public_key=path) as service:
        assert await status(service, old.token(service)) == 200

        path.write_bytes(old.pem() + new.pem())
        await service.clock.advance(FILE_INTERVAL_MS)
        assert await status(service, new.token(service)) == 200
        assert await status(service, old.token(service, sub="another")) == 200

        path.write_bytes(new.pem())
        await service.clock.advance(max(FILE_INTERVAL_MS, REMEMBERED_MS))
        assert await status(service, new.token(service)) == 200
        assert await status(service, old.token(service)) == 401

        path.write_bytes(b"nonsense")
        await service.clock.advance(max(FILE_INTERVAL_MS, REMEMBERED_MS))
        assert await status(service, new.token(service)) == 200
