"""The running process: its files are its owner's alone, signals do what they should."""

import asyncio
import signal
import stat

import aiohttp
import pytest

from hotpath.auth import privacy
from tests.security.process import serving
from tests.support.services import eventually
from tests.support.wire import SASL_HEADER, Peer, sasl_init

pytestmark = pytest.mark.slow


def modes(directory):
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()}


async def test_files_are_the_owners_alone_whatever_the_umask(tmp_path):
    data_dir = tmp_path / "data"
    async with serving(data_dir, umask=0) as service:
        code, _, _ = await service.run("keys", "add")
        assert code == 0
        found = modes(data_dir)

        assert stat.S_IMODE(data_dir.stat().st_mode) == 0o700
        assert {"hotpath.db", "hotpath.db-wal", "dev-jwt.pem", "service.json"} <= set(found)
        assert {name: oct(mode) for name, mode in found.items() if mode != 0o600} == {}


async def test_files_that_others_could_read_are_closed_at_the_start(tmp_path):
    data_dir = tmp_path / "data"
    async with serving(data_dir) as service:
        service.signal(signal.SIGTERM)
        assert await service.ended(seconds=10) == 0
    for name in ("hotpath.db", "dev-jwt.pem"):
        (data_dir / name).chmod(0o644)
    data_dir.chmod(0o755)

    async with serving(data_dir) as service:
        found, logged = modes(data_dir), service.logged()

    assert found["hotpath.db"] == found["dev-jwt.pem"] == 0o600
    assert logged.count("a file was open to others and is not any more") == 2
    assert "others may look into the data directory" in logged


def test_a_private_key_that_others_can_read_is_reported(tmp_path, caplog):
    key = tmp_path / "key.pem"
    key.touch(0o640)
    privacy.warn_of_open_key(key)
    key.chmod(0o600)
    privacy.warn_of_open_key(key)
    privacy.warn_of_open_key(None)

    assert caplog.text.count("others may read the private key") == 1


async def mute_client(service):
    """An AMQP client that attaches to a connection and then never says a word again."""
    port = int(service.urls["amqp"].rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(SASL_HEADER + sasl_init(b"ANONYMOUS"))
    await reader.readexactly(8)
    peer = Peer().open()
    writer.write(peer.output())
    await reader.read(65_536)
    return reader, writer


async def test_sigterm_ends_within_the_drain_though_a_client_never_answers(tmp_path):
    async with serving(tmp_path / "data", "--drain-seconds", "1") as service:
        reader, writer = await mute_client(service)
        service.signal(signal.SIGTERM)
        began = asyncio.get_running_loop().time()

        code = await service.ended(seconds=5)

        took = asyncio.get_running_loop().time() - began
        assert code == 0
        assert took < 3
        said = await reader.read()
        assert b"amqp:connection:forced" in said
        assert not (tmp_path / "data" / "service.json").exists()
        writer.close()


async def test_sigterm_ends_within_the_drain_though_a_request_never_ends(tmp_path):
    async with serving(tmp_path / "data", "--drain-seconds", "1") as service:
        _, token, _ = await service.run("token")
        port = int(service.urls["http"].rpartition(":")[2])
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(
            b"POST /messages/events HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n"
            b"Authorization: Bearer " + token.strip().encode() + b"\r\n\r\n{"
        )
        await writer.drain()
        await asyncio.sleep(0)
        service.signal(signal.SIGTERM)

        assert await service.ended(seconds=5) == 0
        writer.close()


async def test_readiness_says_that_the_service_stops_while_it_drains(tmp_path):
    async with serving(tmp_path / "data", "--drain-seconds", "2") as service:
        _, client = await mute_client(service)
        async with aiohttp.ClientSession() as session:
            url = service.urls["http"] + "/readyz"
            async with session.get(url) as ready:
                assert ready.status == 200
            service.signal(signal.SIGTERM)
            statuses = []
            try:
                while 503 not in statuses:
                    async with session.get(url) as answered:
                        statuses.append(answered.status)
            except aiohttp.ClientError:
                statuses.append(None)  # nobody listens any more: no lie either

        assert statuses[-1] in {503, None}
        assert await service.ended(seconds=6) == 0
        client.close()


async def test_sighup_does_not_end_the_service(tmp_path):
    async with serving(tmp_path / "data") as service:
        service.signal(signal.SIGHUP)
        await eventually(lambda: "nothing to read again" in service.logged(), turns=5000)

        async with (
            aiohttp.ClientSession() as session,
            session.get(service.urls["http"] + "/healthz") as answered,
        ):
            assert answered.status == 200


async def test_sighup_brings_a_new_certificate_into_force(tmp_path, files):
    options = ("--https", "127.0.0.1:0", "--tls-cert", str(files.cert), "--tls-key", str(files.key))
    async with serving(tmp_path / "data", *options) as service:
        files.issue()
        service.signal(signal.SIGHUP)
        await eventually(lambda: "certificate read again" in service.logged(), turns=5000)
        files.cert.write_text("nonsense")
        service.signal(signal.SIGHUP)
        await eventually(lambda: "the old one stays" in service.logged(), turns=5000)
        service.signal(signal.SIGTERM)

        assert await service.ended(seconds=10) == 0
