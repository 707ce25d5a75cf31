"""docs/clients.md: each block of Python and JavaScript reads a real feed over TLS."""

import os
import re
import shutil
import signal
import subprocess
import sys

import pytest
import trustme

from tests.docs.blocks import BLOCKS, ROOT
from tests.support.process import eventually, running_server

pytestmark = [pytest.mark.slow, pytest.mark.interop]

PAGE = "docs/clients.md"
NODE = shutil.which("node")
MODULES = ROOT / "tests" / "interop" / "node" / "node_modules"
MESSAGE = {"objectId": "boiler-1", "variable": "temperature", "value": 95.5}
# Makes a client and reads nothing.
SILENT = "AzureSasCredential"


def blocks(language):
    found = [each for each in BLOCKS if each.page == PAGE and each.language == language]
    assert found
    return pytest.mark.parametrize("block", found, ids=str)


@pytest.fixture(scope="module")
def secure(tmp_path_factory):
    """A service with AMQP over TLS, and the directory with its authority's `ca.pem`."""
    directory = tmp_path_factory.mktemp("clients")
    authority = trustme.CA()
    server = authority.issue_cert("localhost")
    authority.cert_pem.write_to_path(str(directory / "ca.pem"))
    server.private_key_pem.write_to_path(str(directory / "server.key"))
    for part in server.cert_chain_pems:
        part.write_to_path(str(directory / "server.pem"), append=True)
    with running_server(
        directory / "data",
        amqps="127.0.0.1:0",
        tls_cert=directory / "server.pem",
        tls_key=directory / "server.key",
        public_host="localhost",
        rate_limit="10000/second",  # the test looks on more often than an application would
        rate_limit_burst=10000,
    ) as service:
        yield service, directory


def filled_in(text, service, feed):
    """The block with what the REST call has returned in place of the four names."""
    port = service.urls["amqps"].rsplit(":", 1)[1]
    for name, real in (
        ("HOST", "localhost"),
        ("PORT", port),
        ("ID", feed.id),
        ("TOKEN", feed.token),
    ):
        text = re.sub(rf"\b{name}\b", lambda _, real=real: real, text)
    return text


def read(service, feed, command, directory, **environment):
    """Run a client until it has settled the message; what it printed."""
    service.publish(MESSAGE)
    said = directory / "said"
    with said.open("wb") as out:
        process = subprocess.Popen(
            command,
            cwd=directory,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **environment},
            stdout=out,
            stderr=subprocess.STDOUT,
        )
        try:
            eventually(
                lambda: service.shown(feed)["backlog"] == 0 or process.poll() is not None,
                seconds=30,
                what="the message is settled",
            )
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
    assert service.shown(feed)["backlog"] == 0, said.read_text()
    return said.read_text()


@blocks("python")
def test_python_reads_a_feed(block, secure):
    service, directory = secure
    feed = service.subscribe("value > 90")
    text = filled_in(block.text, service, feed)
    if SILENT in text:
        imports = "from azure.servicebus import ServiceBusClient, TransportType\n"
        subprocess.run([sys.executable, "-c", imports + text], check=True, timeout=30)
        return

    said = read(service, feed, [sys.executable, "-c", text], directory)

    assert "boiler-1" in said


@pytest.mark.skipif(NODE is None, reason="node is not installed")
@pytest.mark.skipif(not MODULES.exists(), reason="`make node` has not installed the Node clients")
@blocks("js")
def test_node_reads_a_feed(block, secure, tmp_path):
    service, directory = secure
    feed = service.subscribe("value > 90")
    (tmp_path / "node_modules").symlink_to(MODULES)
    shutil.copy(directory / "ca.pem", tmp_path)
    (tmp_path / "client.mjs").write_text(filled_in(block.text, service, feed))

    said = read(
        service,
        feed,
        [NODE, "client.mjs"],
        tmp_path,
        NODE_EXTRA_CA_CERTS=str(directory / "ca.pem"),
    )

    assert "boiler-1" in said
