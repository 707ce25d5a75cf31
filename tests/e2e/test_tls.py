"""Over TLS with a private authority: tokens, client certificates, and HTTPS."""

import socket
import ssl

import pytest
import trustme
from proton import ConnectionException, Message, SSLDomain
from proton.utils import BlockingConnection, LinkDetached

from tests.support.process import amqp_connection, running_server

pytestmark = [pytest.mark.slow, pytest.mark.interop]

MESSAGE = {"objectId": "o", "variable": "v", "value": 1}


class Certificates:
    """An authority, a server's certificate, and two clients' in one tenant's name."""

    def __init__(self, directory):
        self.authority = trustme.CA()
        self.stranger = trustme.CA()
        self.ca = self._write(directory / "ca.pem", self.authority.cert_pem)
        server = self.authority.issue_cert("localhost", "127.0.0.1")
        self.server_cert = self._write(directory / "server.pem", *server.cert_chain_pems)
        self.server_key = self._write(directory / "server.key", server.private_key_pem)
        self.client = self._client(directory, "client", self.authority)
        self.foreign = self._client(directory, "foreign", self.stranger)

    def _client(self, directory, name, authority):
        certificate = authority.issue_cert(f"{name}.example", organization_name="acme")
        chain = self._write(directory / f"{name}.pem", *certificate.cert_chain_pems)
        return chain, self._write(directory / f"{name}.key", certificate.private_key_pem)

    def _write(self, path, *blobs):
        path.write_bytes(b"".join(blob.bytes() for blob in blobs))
        return str(path)

    def domain(self, client=None):
        """A stock client's TLS settings."""
        domain = SSLDomain(SSLDomain.MODE_CLIENT)
        domain.set_trusted_ca_db(self.ca)
        domain.set_peer_authentication(SSLDomain.VERIFY_PEER_NAME)
        if client is not None:
            domain.set_credentials(*client, None)
        return domain


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module", params=["asyncio", "uvloop"])
def secure(request, tmp_path_factory, certificates):
    """A server with TLS and with plain listeners, on either event loop."""
    with running_server(
        tmp_path_factory.mktemp("secure") / "data",
        event_loop=request.param,
        https="127.0.0.1:0",
        amqps="localhost:0",
        tls_cert=certificates.server_cert,
        tls_key=certificates.server_key,
        tls_client_ca=certificates.ca,
    ) as running:
        yield running


def test_a_feed_over_tls_with_a_token(secure, certificates):
    access = secure.subscribe("value > 0")
    assert access.url.startswith("amqps://")
    secure.publish(MESSAGE)

    with amqp_connection(access.host, access.token, ssl_domain=certificates.domain()) as connection:
        receiver = connection.create_receiver(access.address, credit=1)
        assert receiver.receive(timeout=5).properties["value"] == 1
        receiver.accept()


def external(secure, domain):
    return BlockingConnection(
        secure.urls["amqps"], timeout=10, ssl_domain=domain, allowed_mechs="EXTERNAL"
    )


def test_a_client_certificate_publishes_and_receives_for_its_organization(secure, certificates):
    access = secure.subscribe("value = 7")
    foreign = secure.subscribe("value = 7", token=secure.token(tenant="other"))

    connection = external(secure, certificates.domain(certificates.client))
    try:
        connection.create_sender("variables").send(Message(properties={"value": 7}))
        receiver = connection.create_receiver(access.address, credit=1)
        assert receiver.receive(timeout=5).properties["value"] == 7
        receiver.accept()
        with pytest.raises(LinkDetached) as refused:
            connection.create_receiver(foreign.address)
        assert refused.value.condition == "amqp:not-found"
    finally:
        connection.close()
    assert secure.shown(foreign, token=secure.token(tenant="other"))["backlog"] == 0


def test_external_is_not_offered_without_a_certificate(secure, certificates):
    with pytest.raises(ConnectionException):
        external(secure, certificates.domain())


def test_a_certificate_of_a_stranger_is_refused(secure, certificates):
    with pytest.raises(ConnectionException):
        external(secure, certificates.domain(certificates.foreign))


def test_a_client_that_does_not_trust_the_authority_does_not_connect(
    secure, certificates, tmp_path
):
    other = tmp_path / "other.pem"
    other.write_bytes(certificates.stranger.cert_pem.bytes())
    domain = SSLDomain(SSLDomain.MODE_CLIENT)
    domain.set_trusted_ca_db(str(other))
    domain.set_peer_authentication(SSLDomain.VERIFY_PEER_NAME)

    with pytest.raises(ConnectionException):
        external(secure, domain)


def test_calls_over_https(secure, certificates):
    context = ssl.create_default_context(cafile=certificates.ca)

    answer = secure.call("GET", "/subscriptions", base=secure.urls["https"], context=context)

    assert answer.status == 200


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("listener", ["https", "amqps"])
def test_tls_older_than_1_2_is_refused(secure, certificates, listener):
    host, _, port = secure.urls[listener].partition("//")[2].rpartition(":")
    context = ssl.create_default_context(cafile=certificates.ca)
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")

    with (
        socket.create_connection((host, int(port)), timeout=5) as plain,
        pytest.raises((ssl.SSLError, ConnectionError)),
    ):
        context.wrap_socket(plain, server_hostname="localhost")
