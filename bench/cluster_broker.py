"""hotpath as nodes of a cluster: nats-servers and nodes on the loopback, gone with the block."""

import asyncio
import base64
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.children import Child
from bench.clients import Endpoint, Login
from bench.errors import RunError
from bench.hotpath_broker import (
    SETTINGS,
    TOPIC,
    Addresses,
    hotpath_command,
    mint_token,
    prepare,
)
from bench.workload import Workload
from hotpath.auth.keys import DEVELOPMENT_KEY_FILE, load_development_key
from hotpath.model.names import TenantId, Topic, TopicKey
from hotpath.storage.jetstream.link import Link
from hotpath.storage.jetstream.naming import Names
from hotpath.storage.jetstream.options import LinkOptions
from hotpath.storage.jetstream.server import JetStream
from tests.support.nats import MISSING, NatsServer, nats_cluster, nats_server

READY_TIMEOUT_S = 90.0
MIGRATE_S = 300.0


@dataclass(slots=True)
class Node:
    """One node that is up."""

    child: Child
    addresses: Addresses

    @property
    def pid(self) -> int:
        """Its process."""
        return self.child.pid


@contextmanager
def servers_up(directory: Path, count: int) -> Iterator[list[NatsServer]]:
    """So many nats-servers, 1 or 3. Raises RunError when there is no program for it."""
    if MISSING:
        raise RunError(MISSING)
    if count == 1:
        with nats_server(directory) as server:
            yield [server]
        return
    with nats_cluster(directory, size=count) as cluster:
        yield cluster.servers


def keys_in(directory: Path) -> Path:
    """What all nodes share: the key of tokens and the one that seals secrets."""
    key_dir = directory / "keys"
    key_dir.mkdir(mode=0o700)
    load_development_key(key_dir)
    sealing = key_dir / "sealing"
    sealing.touch(mode=0o600)
    sealing.write_text(base64.b64encode(secrets.token_bytes(32)).decode())
    return key_dir


@contextmanager
def joined(
    directory: Path, *, nodes: int, servers: str, prefix: str, key_dir: Path
) -> Iterator[list[Node]]:
    """So many nodes of one cluster. Raises RunError when one does not become ready."""
    directory.mkdir(exist_ok=True)
    with ExitStack() as stack:
        children = []
        for number in range(nodes):
            data_dir = directory / f"node-{number}"
            data_dir.mkdir(mode=0o700)
            shutil.copy(key_dir / DEVELOPMENT_KEY_FILE, data_dir)
            command = [*hotpath_command(), "serve", "--data-dir", str(data_dir)]
            command += ["--http", "127.0.0.1:0", "--amqp", "127.0.0.1:0", "--cluster", servers]
            command += ["--cluster-prefix", prefix, "--node-id", f"node-{number}"]
            command += ["--webhook-secret-key-file", str(key_dir / "sealing")]
            command += ["--log-level", "warning"]
            log = directory / f"node-{number}.log"
            children.append(stack.enter_context(Child(command, log=log, environment=SETTINGS)))
        yield [Node(child, Addresses.parse(child.read_line(READY_TIMEOUT_S))) for child in children]


def migrated(data_dir: Path, servers: str, prefix: str) -> None:
    """Bring what a service alone has into a cluster. Raises RunError."""
    command = [*hotpath_command(), "migrate", "--data-dir", str(data_dir), "--json"]
    command += ["--cluster", servers, "--cluster-prefix", prefix]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=MIGRATE_S)
    if done.returncode:
        raise RunError(f"not migrated: {done.stderr[-800:]}")


async def batches_in(server: str, prefix: str) -> int:
    """How many batches the log of what is published has had. Raises LogFailure."""
    link = Link(LinkOptions((server,), name="bench"))
    await link.open()
    try:
        server_calls = JetStream(link, replicas=1, duplicate_seconds=60.0)
        topic = TopicKey(TenantId("bench"), Topic(TOPIC))
        stream = Names(prefix, shards=64).topic_stream(topic)
        state = await server_calls.state(stream, server_calls.until(10.0))
    finally:
        await link.close()
    return 0 if state is None else state.last


@contextmanager
def clustered(
    workload: Workload, directory: Path, *, nodes: int = 1, servers: int = 1
) -> Iterator[Endpoint]:
    """Run a cluster for one measurement at its first node, which is what is measured.

    Raises:
        RunError: If it does not become ready or refuses a control call.
    """
    key_dir = keys_in(directory)
    with ExitStack() as stack:
        found = stack.enter_context(servers_up(directory / "nats", servers))
        urls = ",".join(server.url for server in found)
        up = joined(directory, nodes=nodes, servers=urls, prefix="bench", key_dir=key_dir)
        node = stack.enter_context(up)[0]
        made = prepare(node.addresses.http, mint_token(key_dir), workload)
        links, publish_address, token = asyncio.run(made)
        shared = workload.connections < workload.subscriptions
        yield Endpoint(
            server=node.addresses.amqp,
            publish_address=publish_address,
            publisher=Login(user="bench", secret=token),
            subscriber=Login(claims=True) if shared else Login(user="bench"),
            links=tuple(links),
            pid=node.pid,
            settle=workload.settle,
        )


@contextmanager
def clustered_of_three(workload: Workload, directory: Path) -> Iterator[Endpoint]:
    """As `clustered`, on three servers with three copies. Raises RunError."""
    with clustered(workload, directory, servers=3) as endpoint:
        yield endpoint
