"""RabbitMQ as a peer: a private node on free loopback ports.

The same shape as a hotpath run: durable messages into one exchange, one durable queue a
subscriber, confirmed to the publisher, settled by the receiver. 3.10 is the installed Debian
package with its AMQP 1.0 plug-in; 4.x, which speaks AMQP 1.0 natively, runs out of the tree of a
newer Debian (`bench/peers.sh`), in a mount namespace of its own, with classic or quorum queues.
"""

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from bench.children import Child, free_ports
from bench.clients import Endpoint, Link, Login
from bench.errors import RunError
from bench.places import peers_directory
from bench.workload import Workload

EXCHANGE = "bench"
USER = "guest"
PASSWORD = "guest"  # RabbitMQ's documented default, good on loopback only
READY_TIMEOUT_S = 90.0
SERVER = "/usr/lib/rabbitmq/bin/rabbitmq-server"
#: Where a node inside the tree of another Debian finds its directory.
INSIDE = Path("/mnt")


@dataclass(frozen=True, slots=True)
class Kind:
    """What differs between RabbitMQ's generations."""

    plugins: str
    """The text of enabled_plugins."""
    source: str
    """Address of a queue to receive from, its name put in."""
    target: str
    """Address of the exchange."""
    queue_arguments: dict[str, str] = field(default_factory=dict)
    inside: bool = False
    """Whether the node runs out of a tree of its own."""
    settles_second: bool = False
    """Whether receiver-settle-mode second is accepted."""


V3 = Kind("[rabbitmq_amqp1_0].\n", "/amq/queue/{}", f"/exchange/{EXCHANGE}")
V4 = Kind("[].\n", "/queues/{}", f"/exchanges/{EXCHANGE}", inside=True)
V4_QUORUM = Kind(V4.plugins, V4.source, V4.target, {"x-queue-type": "quorum"}, inside=True)


def find_server() -> str:
    """The start script itself, not a wrapper that changes the user.

    Raises:
        RunError: If RabbitMQ is not installed.
    """
    path = os.environ.get("RABBITMQ_BENCH_SERVER", SERVER)
    if not Path(path).exists():
        raise RunError("RabbitMQ is not installed (Debian: rabbitmq-server)")
    return path


def find_tree() -> Path:
    """The root of the Debian tree that holds RabbitMQ 4.x.

    Raises:
        RunError: If there is none, or it cannot be entered.
    """
    tree = Path(os.environ.get("RABBITMQ4_BENCH_TREE", peers_directory() / "debian"))
    if not (tree / SERVER.lstrip("/")).exists():
        raise RunError("RabbitMQ 4.x is not there (bench/peers.sh lays it out)")
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        raise RunError("RabbitMQ 4.x runs in a tree of its own, which only root can enter")
    return tree


def definitions(queues: int, arguments: dict[str, str]) -> dict[str, Any]:
    """User, exchange, durable queues and bindings, as RabbitMQ imports them at start."""
    names = [queue_name(index) for index in range(queues)]
    return {
        "users": [{"name": USER, "password": PASSWORD, "tags": "administrator"}],
        "vhosts": [{"name": "/"}],
        "permissions": [
            {"user": USER, "vhost": "/", "configure": ".*", "write": ".*", "read": ".*"}
        ],
        "exchanges": [
            {
                "name": EXCHANGE,
                "vhost": "/",
                "type": "fanout",
                "durable": True,
                "auto_delete": False,
                "internal": False,
                "arguments": {},
            }
        ],
        "queues": [
            {
                "name": name,
                "vhost": "/",
                "durable": True,
                "auto_delete": False,
                "arguments": arguments,
            }
            for name in names
        ],
        "bindings": [
            {
                "source": EXCHANGE,
                "vhost": "/",
                "destination": name,
                "destination_type": "queue",
                "routing_key": "",
                "arguments": {},
            }
            for name in names
        ],
    }


def queue_name(index: int) -> str:
    """The queue of one subscriber."""
    return f"bench-{index:05d}"


def configuration(port: int, definitions_file: Path) -> str:
    """The text of rabbitmq.conf; everything else stays at RabbitMQ's defaults."""
    return (
        f"listeners.tcp.1 = 127.0.0.1:{port}\n"
        f"load_definitions = {definitions_file}\n"
        "disk_free_limit.absolute = 200MB\n"
    )


def node_environment(directory: Path, epmd_port: int, own_port: int) -> dict[str, str]:
    """Variables that keep the node inside the directory and on loopback."""
    return {
        "HOME": str(directory),  # the Erlang cookie
        "ERL_EPMD_PORT": str(epmd_port),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODENAME": "bench@localhost",
        "RABBITMQ_DIST_PORT": str(own_port),
        "ERL_CRASH_DUMP": str(directory / "erl_crash.dump"),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
        "RABBITMQ_CONF_ENV_FILE": str(directory / "none.conf"),
        "RABBITMQ_CONFIG_FILE": str(directory / "rabbitmq.conf"),
        "RABBITMQ_ADVANCED_CONFIG_FILE": str(directory / "advanced.config"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(directory / "enabled_plugins"),
        "RABBITMQ_GENERATED_CONFIG_DIR": str(directory / "generated"),
        "RABBITMQ_MNESIA_BASE": str(directory / "mnesia"),
        "RABBITMQ_LOG_BASE": str(directory / "log"),
        "RABBITMQ_PID_FILE": str(directory / "rabbitmq.pid"),
        # Makes the start script replace itself by the node, so that its pid is the node's.
        "RUNNING_UNDER_SYSTEMD": "1",
    }


def write_configuration(directory: Path, port: int, queues: int, *, kind: Kind = V3) -> Path:
    """Lay out the private directory of one node; the directory as the node sees it."""
    seen = INSIDE if kind.inside else directory
    wanted = definitions(queues, kind.queue_arguments)
    (directory / "definitions.json").write_text(json.dumps(wanted))
    text = configuration(port, seen / "definitions.json")
    (directory / "rabbitmq.conf").write_text(text)
    (directory / "enabled_plugins").write_text(kind.plugins)
    (directory / "log").mkdir()
    return seen


def start_command(kind: Kind, directory: Path) -> list[str]:
    """How a node of a kind starts; every step replaces itself, so that the pid is the node's.

    Raises:
        RunError: If it is not installed.
    """
    if not kind.inside:
        return [find_server()]
    tree = find_tree()
    enter = (
        'mount --bind "$1" "$2/mnt" && mount -t proc proc "$2/proc" && '
        'mount --rbind /dev "$2/dev" && exec chroot "$2" "$3"'
    )
    return ["unshare", "--mount", "sh", "-c", enter, "sh", str(directory), str(tree), SERVER]


def wait_for_port(port: int, broker: Child) -> None:
    """Wait until the node has imported its definitions and listens.

    Raises:
        RunError: If it ends or takes too long.
    """
    limit = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < limit and broker.running:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise RunError(f"RabbitMQ is not ready: {broker.last_words()}")


@contextmanager
def run_node(kind: Kind, workload: Workload, directory: Path) -> Iterator[Endpoint]:
    """Run a RabbitMQ node for one measurement.

    Raises:
        RunError: If it is not installed or does not start.
    """
    epmd = shutil.which("epmd")
    if epmd is None:
        raise RunError("epmd is not installed; it comes with Erlang")
    command = start_command(kind, directory)
    port, epmd_port, own_port = free_ports(3)
    seen = write_configuration(directory, port, workload.subscriptions, kind=kind)
    environment = node_environment(seen, epmd_port, own_port)
    names = [epmd, "-port", str(epmd_port), "-address", "127.0.0.1"]
    with (
        Child(names, log=directory / "epmd.log", environment=environment),
        Child(
            command,
            log=directory / "rabbitmq.log",
            environment=environment,
            pipe_output=False,
        ) as broker,
    ):
        wait_for_port(port, broker)
        login = Login(user=USER, secret=PASSWORD)
        links = (
            Link(workload.connection_of(index), kind.source.format(queue_name(index)))
            for index in range(workload.subscriptions)
        )
        second = workload.settle == "second" and not kind.settles_second
        yield Endpoint(
            server=f"127.0.0.1:{port}",
            publish_address=kind.target,
            publisher=login,
            subscriber=login,
            links=tuple(links),
            pid=broker.pid,
            # Where receiver-settle-mode second is refused, the receiver settles alone.
            settle="first" if second else workload.settle,
        )


rabbitmq = partial(run_node, V3)
rabbitmq4 = partial(run_node, V4)
rabbitmq4_quorum = partial(run_node, V4_QUORUM)


def package_version(tree: Path | None = None) -> str:
    """The version that is installed, as Debian names it, or ``unknown``."""
    query = ["dpkg-query", "-W", "-f", "${Version}", "rabbitmq-server"]
    if shutil.which(query[0]) is None:
        return "unknown"
    if tree is not None:
        query[1:1] = ["--admindir", str(tree / "var/lib/dpkg")]
    found = subprocess.run(query, capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"


def version() -> str:
    """What RabbitMQ 3.10 is here. Raises RunError when it is not."""
    find_server()
    return package_version()


def version4() -> str:
    """What RabbitMQ 4.x is here. Raises RunError when it is not."""
    return package_version(find_tree())
