"""RabbitMQ as the peer: a private node on free loopback ports, its AMQP 1.0 plug-in on.

The same shape as a hotpath run: durable messages into one exchange, one durable queue a
subscriber, confirmed to the publisher, settled by the receiver.
"""

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.children import Child, free_port
from bench.clients import Endpoint, Link, Login
from bench.errors import RunError, UsageError
from bench.workload import Workload

EXCHANGE = "bench"
USER = "guest"
PASSWORD = "guest"  # RabbitMQ's documented default, good on loopback only
READY_TIMEOUT_S = 90.0
SERVER_PATHS = ("/usr/lib/rabbitmq/bin/rabbitmq-server",)


def find_server() -> str:
    """The start script itself, not a wrapper that changes the user.

    Raises:
        RunError: If RabbitMQ is not installed.
    """
    configured = os.environ.get("RABBITMQ_BENCH_SERVER")
    for path in [configured] if configured else SERVER_PATHS:
        if Path(path).exists():
            return path
    raise RunError("RabbitMQ is not installed (Debian: rabbitmq-server)")


def definitions(queues: int) -> dict[str, Any]:
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
            {"name": name, "vhost": "/", "durable": True, "auto_delete": False, "arguments": {}}
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


def node_environment(directory: Path, epmd_port: int) -> dict[str, str]:
    """Variables that keep the node inside the directory and on loopback."""
    return {
        "HOME": str(directory),  # the Erlang cookie
        "ERL_EPMD_PORT": str(epmd_port),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODENAME": "bench@localhost",
        "RABBITMQ_DIST_PORT": str(free_port()),
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


def write_configuration(directory: Path, port: int, queues: int) -> None:
    """Lay out the private directory of one node."""
    definitions_file = directory / "definitions.json"
    definitions_file.write_text(json.dumps(definitions(queues)))
    (directory / "rabbitmq.conf").write_text(configuration(port, definitions_file))
    (directory / "enabled_plugins").write_text("[rabbitmq_amqp1_0].\n")
    (directory / "log").mkdir()


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


def check_workload(workload: Workload) -> None:
    """Refuse what RabbitMQ's exchanges have no counterpart for.

    Raises:
        UsageError: If the workload has selective filters.
    """
    if workload.selective:
        raise UsageError("the RabbitMQ peer has no filters: subscriptions must equal fan-out")


@contextmanager
def rabbitmq(workload: Workload, directory: Path) -> Iterator[Endpoint]:
    """Run a RabbitMQ node for one measurement.

    Raises:
        RunError: If it is not installed or does not start.
        UsageError: If the workload needs filters.
    """
    check_workload(workload)
    server = find_server()
    epmd = shutil.which("epmd")
    if epmd is None:
        raise RunError("epmd is not installed; it comes with Erlang")
    port, epmd_port = free_port(), free_port()
    write_configuration(directory, port, workload.subscriptions)
    environment = node_environment(directory, epmd_port)
    names = [epmd, "-port", str(epmd_port), "-address", "127.0.0.1"]
    with (
        Child(names, log=directory / "epmd.log", environment=environment),
        Child(
            [server],
            log=directory / "rabbitmq.log",
            environment=environment,
            pipe_output=False,
        ) as broker,
    ):
        wait_for_port(port, broker)
        login = Login(user=USER, secret=PASSWORD)
        links = (
            Link(workload.connection_of(index), f"/amq/queue/{queue_name(index)}")
            for index in range(workload.subscriptions)
        )
        yield Endpoint(
            server=f"127.0.0.1:{port}",
            publish_address=f"/exchange/{EXCHANGE}",
            publisher=login,
            subscriber=login,
            links=tuple(links),
            pid=broker.pid,
            # RabbitMQ 3.10 refuses receiver-settle-mode second: the receiver settles alone.
            settle="first" if workload.settle == "second" else workload.settle,
        )


def version() -> str:
    """The installed version, as Debian names it, or ``unknown``."""
    query = ["dpkg-query", "-W", "-f", "${Version}", "rabbitmq-server"]
    if shutil.which(query[0]) is None:
        return "unknown"
    found = subprocess.run(query, capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"
