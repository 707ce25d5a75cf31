"""A whole cluster on the loopback: nats-servers, hotpath nodes, and the ways between them.

Nodes keep their ports over restarts. With `proxied`, each node reaches each server by a way of its
own, which can be cut. Whatever was started is ended by its process id when the block is left.
"""

import base64
import os
import secrets
import shutil
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from typing_extensions import override

from hotpath.auth.keys import DEVELOPMENT_KEY_FILE, load_development_key
from tests.support.nats import NatsCluster, free_ports, nats_cluster, planned_cluster
from tests.support.process import Server
from tests.support.ways import Ways

#: How long a clean stop may take, seconds.
STOP_S: Final = 30.0
LISTENERS: Final = ("http", "amqp")


class Node(Server):
    """`hotpath serve --cluster` on ports that stay the same."""

    ready_seconds = 90.0

    def __init__(
        self, data_dir: Path, *options: str, number: int, urls: Sequence[str], **settings: Any
    ) -> None:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        super().__init__(
            data_dir, *options, cluster=",".join(urls), node_id=f"node-{number}", **settings
        )
        self.number = number

    @property
    def is_up(self) -> bool:
        """Whether its process is there."""
        return self.process is not None and self.process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process."""
        assert self.process is not None
        self.process.send_signal(number)

    @override
    def close(self) -> None:
        """Leave no process behind, not even one that stands still."""
        if self.is_up:
            self.signal(signal.SIGCONT)
        super().close()


class Cluster:
    """Servers and nodes, and what may be done to them."""

    def __init__(
        self,
        directory: Path,
        *options: str,
        servers: NatsCluster,
        ports: Sequence[Mapping[str, int]],
        ways: Ways | None = None,
        key_dir: Path | None = None,
        **settings: Any,
    ) -> None:
        """`ports` has the listeners of each node; without `ways` nodes reach servers directly."""
        self.servers = servers
        self.ways = ways
        self.key_dir = key_dir or directory / "keys"
        sealing = self._make_keys()
        self.nodes: list[Node] = []
        for number, listeners in enumerate(ports):
            own = {name: f"127.0.0.1:{port}" for name, port in listeners.items()}
            node = Node(
                directory / f"node-{number}",
                *options,
                number=number,
                urls=self._urls_for(number),
                **{"webhook_secret_key_file": sealing, **settings, **own},
            )
            shutil.copy(self.key_dir / DEVELOPMENT_KEY_FILE, node.data_dir)
            self.nodes.append(node)

    def _make_keys(self) -> Path:
        """What a deployment shares by its secrets; here each node gets a copy."""
        self.key_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        load_development_key(self.key_dir)
        sealing = self.key_dir / "sealing"
        if not sealing.exists():
            sealing.touch(mode=0o600)
            sealing.write_text(base64.b64encode(secrets.token_bytes(32)).decode())
        return sealing

    def _urls_for(self, number: int) -> Sequence[str]:
        if self.ways is None:
            return self.servers.urls
        ports = [self.ways.ports[name] for name in self.ways_of(number)]
        return [f"nats://127.0.0.1:{port}" for port in ports]

    def ways_of(self, number: int) -> list[str]:
        """The ways of a node to the servers."""
        return [way(number, server) for server in range(len(self.servers.servers))]

    def start(self) -> "Cluster":
        """Start all nodes, together."""
        for node in self.nodes:
            node.launch()
        for node in self.nodes:
            node.wait_ready()
        return self

    def stop(self, *, seconds: float = STOP_S) -> int:
        """SIGTERM to all nodes together; the worst exit code."""
        for node in self.nodes:
            if node.is_up:
                node.signal(signal.SIGTERM)
        return max((node.wait(seconds=seconds) for node in self.nodes if node.process), default=0)

    def kill(self) -> None:
        """kill -9 of all nodes."""
        _together([node.kill for node in self.nodes if node.is_up])

    def close(self) -> None:
        """Leave no node behind."""
        for node in self.nodes:
            node.close()


def way(node: int, server: int) -> str:
    """The name of a node's way to a server."""
    return f"node-{node}:server-{server}"


def route(one: int, other: int) -> str:
    """The name of the way by which a server dials another one."""
    return f"server-{one}:server-{other}"


def routes_from(one: int, servers: int) -> list[str]:
    """The ways by which a server dials the others."""
    return [route(one, other) for other in range(servers) if other != one]


def routes_between(one: int, others: Sequence[int]) -> list[str]:
    """All ways between a server and others, whoever dials."""
    return [name for other in others for name in (route(one, other), route(other, one))]


def node_ports(nodes: int, listeners: Sequence[str] = LISTENERS) -> list[dict[str, int]]:
    """Free ports for so many nodes."""
    ports = iter(free_ports(nodes * len(listeners)))
    return [{name: next(ports) for name in listeners} for _ in range(nodes)]


def _together(calls: Sequence[Any]) -> None:
    threads = [threading.Thread(target=call) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@contextmanager
def proxied_servers(directory: Path, *, nodes: int) -> Iterator[tuple[NatsCluster, Ways]]:
    """Three servers, whose ways to each other and to the nodes can be cut."""
    with ExitStack() as stack:
        cluster = planned_cluster(directory / "nats", advertised=False)
        wanted = {
            way(node, at): [server.port]
            for node in range(nodes)
            for at, server in enumerate(cluster.servers)
        }
        wanted |= {
            route(one, other): [server.cluster_port]
            for one in range(len(cluster.servers))
            for other, server in enumerate(cluster.servers)
            if one != other
        }
        # What servers tell each other of their addresses leads nowhere: ways are all there is.
        hidden = free_ports(len(cluster.servers))
        ways = Ways(wanted)
        stack.callback(ways.stop)
        for one, server in enumerate(cluster.servers):
            server.route_port = hidden[one]
            server.routes = [ways.ports[name] for name in routes_from(one, len(cluster.servers))]
        stack.callback(cluster.stop)
        yield cluster.start(), ways


@contextmanager
def running_cluster(
    directory: Path, *options: str, nodes: int = 3, proxied: bool = False, **settings: Any
) -> Iterator[Cluster]:
    """Three servers and so many nodes, gone when the block is left."""
    with ExitStack() as stack:
        if proxied:
            servers, ways = stack.enter_context(proxied_servers(directory, nodes=nodes))
            settings["ways"] = ways
        else:
            servers = stack.enter_context(nats_cluster(directory / "nats"))
        ports = node_ports(nodes)
        cluster = Cluster(directory, *options, servers=servers, ports=ports, **settings)
        stack.callback(cluster.close)
        yield cluster.start()


def tail(path: Path, characters: int = 2_000) -> str:
    """The end of a log."""
    with suppress(OSError), path.open("rb") as file:
        file.seek(max(0, os.path.getsize(path) - characters))
        return file.read().decode(errors="replace")
    return ""
