"""Certificates of a private authority, and the whole service on a data directory of its own."""

from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
import trustme

from hotpath.app import App
from hotpath.auth.jwt import TokenRules, mint
from hotpath.auth.keys import load_development_key
from hotpath.config import Settings
from tests.support.clock import ManualClock

ALL_SCOPES = ("hotpath.subscribe", "hotpath.publish", "hotpath.admin")


@dataclass(slots=True)
class Whole:
    """A running service with all its edges."""

    app: App
    urls: dict[str, str]
    session: aiohttp.ClientSession

    @property
    def port(self) -> int:
        return int(self.urls["amqp"].rpartition(":")[2])

    def jwt(self, *, tenant: str = "acme", minutes: float = 60, **claims) -> str:
        settings = self.app.settings
        return mint(
            load_development_key(settings.data_dir),
            TokenRules.of(settings),
            tenant=tenant,
            scopes=ALL_SCOPES,
            subject="tester",
            now_ms=self.app.clock.now_ms(),
            minutes=minutes,
            **claims,
        )

    async def call(self, method: str, path: str, *, token: str | None = None, **options):
        headers = {"Authorization": f"Bearer {token or self.jwt()}"}
        url = self.urls["http"] + path
        async with self.session.request(method, url, headers=headers, **options) as response:
            body = await response.json() if await response.read() else None
            return response.status, body


@pytest.fixture
def whole():
    """Start the whole service; the context stops it."""

    @asynccontextmanager
    async def running(data_dir: Path, *, clock: ManualClock | None = None, **options):
        options = {"http": "127.0.0.1:0", "amqp": "127.0.0.1:0", "drain_seconds": 1, **options}
        app = App(Settings(data_dir=data_dir, **options), clock=clock)
        try:
            urls = await app.start()
            async with aiohttp.ClientSession() as session:
                yield Whole(app, urls, session)
        finally:
            await app.stop()

    return running


@dataclass(slots=True)
class Files:
    """Certificate and key files that can be replaced."""

    directory: Path
    authority: trustme.CA

    @property
    def cert(self) -> Path:
        return self.directory / "cert.pem"

    @property
    def key(self) -> Path:
        return self.directory / "key.pem"

    def issue(self, *, key_type=trustme.KeyType.ECDSA) -> bytes:
        """Put a fresh certificate in place; its serial in DER form is in what TLS shows."""
        made = self.authority.issue_cert("localhost", "127.0.0.1", key_type=key_type)
        self.cert.write_bytes(b"".join(blob.bytes() for blob in made.cert_chain_pems))
        self.key.write_bytes(made.private_key_pem.bytes())
        self.key.chmod(0o600)
        return made.cert_chain_pems[0].bytes()


@pytest.fixture
def files(tmp_path) -> Files:
    """A certificate in place."""
    directory = tmp_path / "tls"
    directory.mkdir()
    found = Files(directory, trustme.CA())
    found.issue()
    return found
