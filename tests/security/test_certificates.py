"""Certificates come into force without a restart, whole or not at all; TLS is 1.2 at least."""

import asyncio
import ssl

import pytest
import trustme

from hotpath.service.certificates import Certificates
from tests.support.clock import ManualClock
from tests.support.services import eventually

INTERVAL_MS = 30_000


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def serve(files, clock):
    """A TLS listener that echoes, and its certificates."""
    certificates = Certificates(files.cert, files.key, None, clock=clock, interval_ms=INTERVAL_MS)

    async def echo(reader, writer):
        while line := await reader.readline():
            writer.write(line)
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=certificates.listening)
    certificates.start()
    yield certificates, server.sockets[0].getsockname()[1]
    await certificates.stop()
    server.close()


def client(files, **options) -> ssl.SSLContext:
    context = ssl.create_default_context()
    files.authority.configure_trust(context)
    for name, value in options.items():
        setattr(context, name, value)
    return context


async def dial(files, port: int, *, name: str | None = "localhost", context=None):
    context = context or client(files)
    return await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=name)


async def shown(files, port: int, **options) -> bytes:
    """The certificate that a new connection is shown, as PEM."""
    _, writer = await dial(files, port, **options)
    der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    await writer.wait_closed()
    return ssl.DER_cert_to_PEM_cert(der).encode()


def same(one: bytes, other: bytes) -> bool:
    return one.split() == other.split()


@pytest.mark.parametrize(
    "key_type", [trustme.KeyType.ECDSA, trustme.KeyType.RSA], ids=["ecdsa", "rsa"]
)
async def test_a_new_certificate_is_shown_to_new_connections_and_old_ones_go_on(
    files, serve, key_type
):
    certificates, port = serve
    reader, writer = await dial(files, port)
    new = files.issue(key_type=key_type)

    assert await certificates.reload()

    assert same(await shown(files, port), new)
    writer.write(b"still here\n")
    assert await reader.readline() == b"still here\n"
    writer.close()
    await writer.wait_closed()


async def test_clients_that_send_no_name_are_shown_it_too(files, serve):
    certificates, port = serve
    new = files.issue()
    await certificates.reload()
    context = client(files, check_hostname=False)

    assert same(await shown(files, port, name="", context=context), new)


async def test_changed_files_are_noticed(files, serve, clock):
    _, port = serve
    new = files.issue()

    await clock.advance(INTERVAL_MS)
    for _ in range(500):
        if same(await shown(files, port), new):
            break
    assert same(await shown(files, port), new)
    await eventually(clock.pending)  # and it goes on looking
    newer = files.issue()
    await clock.advance(INTERVAL_MS)
    for _ in range(500):
        if same(await shown(files, port), newer):
            break
    assert same(await shown(files, port), newer)


def spoil_cert(files):
    files.cert.write_text("-----BEGIN CERTIFICATE-----\nnonsense\n")


def spoil_key(files):
    files.key.write_bytes(b"")


def mismatch(files):
    key = files.key.read_bytes()
    files.issue()
    files.key.write_bytes(key)


def remove(files):
    files.key.unlink()


@pytest.mark.parametrize("spoil", [spoil_cert, spoil_key, mismatch, remove])
async def test_a_file_that_cannot_be_used_changes_nothing_and_is_reported(
    files, serve, spoil, caplog
):
    certificates, port = serve
    old = files.cert.read_bytes()
    spoil(files)

    assert not await certificates.reload()

    assert same(
        await shown(files, port),
        old[: len(old)].split(b"-----END")[0] + b"-----END CERTIFICATE-----",
    )
    assert "the old one stays" in caplog.text
    new = files.issue()
    assert await certificates.reload()
    assert same(await shown(files, port), new)


async def test_a_bad_file_is_reported_once_until_it_changes(files, serve, clock, caplog):
    spoil_cert(files)
    for _ in range(3):
        await clock.advance(INTERVAL_MS)
        await eventually(clock.pending)

    assert caplog.text.count("the old one stays") == 1


@pytest.mark.parametrize(
    "version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1], ids=["1.0", "1.1"]
)
async def test_older_versions_of_tls_are_refused(files, serve, version):
    _, port = serve
    context = client(files)
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSVersion"):
        context.minimum_version = context.maximum_version = version

    with pytest.raises((ssl.SSLError, ConnectionError)):
        await dial(files, port, context=context)


@pytest.mark.parametrize(
    "version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"]
)
async def test_current_versions_of_tls_are_spoken(files, serve, version):
    _, port = serve
    context = client(files, minimum_version=version, maximum_version=version)

    assert await shown(files, port, context=context)


async def test_client_certificates_are_optional_and_must_be_of_the_authority(files, clock):
    ca = files.directory / "clients.pem"
    clients = trustme.CA()
    ca.write_bytes(clients.cert_pem.bytes())
    certificates = Certificates(files.cert, files.key, ca, clock=clock)
    found = []

    async def note(reader, writer):
        found.append(writer.get_extra_info("peercert"))
        writer.write(b"hello\n")
        await reader.read()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(note, "127.0.0.1", 0, ssl=certificates.listening)
    port = server.sockets[0].getsockname()[1]
    known, unknown = client(files), client(files)
    clients.issue_cert(organization_name="acme", common_name="x").configure_cert(known)
    trustme.CA().issue_cert("stranger").configure_cert(unknown)

    async def greeted(context) -> bool:
        try:
            reader, writer = await dial(files, port, context=context)
            greeting = await reader.readline()
            writer.close()
            await writer.wait_closed()
        except (ssl.SSLError, ConnectionError):
            return False
        return greeting == b"hello\n"

    assert await greeted(client(files))
    assert await greeted(known)
    assert not await greeted(unknown)
    assert not found[0]
    assert "acme" in str(found[1]["subject"])
    assert len(found) == 2
    server.close()


async def test_the_whole_service_takes_a_new_certificate_on_all_listeners(files, whole, tmp_path):
    async with whole(
        tmp_path / "data",
        https="127.0.0.1:0",
        amqps="127.0.0.1:0",
        tls_cert=files.cert,
        tls_key=files.key,
    ) as service:
        new = files.issue()
        await service.app.reload()

        for name in ("https", "amqps"):
            port = int(service.urls[name].rpartition(":")[2])
            assert same(await shown(files, port), new)
