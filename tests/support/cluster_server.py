"""A three-node cluster behind a load balancer, in the place of the one server of `process.py`.

With HOTPATH_TEST_CLUSTER set, `running_server` gives this one, so that tests which see no more of
the service than its sockets run against a cluster unchanged: each connection, over HTTP and over
AMQP, comes to the next node. Nodes are started, stopped and killed together.
"""

import atexit
import os
import subprocess
import tempfile
from contextlib import ExitStack, suppress
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any, Final

from typing_extensions import override

from tests.support.cluster import Cluster, node_ports
from tests.support.nats import MISSING, NatsCluster, nats_cluster
from tests.support.process import Server
from tests.support.ways import Ways

VARIABLE: Final = "HOTPATH_TEST_CLUSTER"
_numbers: Final = count()


def wanted() -> bool:
    """Whether tests are to run against a cluster."""
    return bool(os.environ.get(VARIABLE))


@cache
def shared_servers() -> NatsCluster:
    """Three nats-servers for all tests of this process."""
    assert not MISSING, MISSING
    stack = ExitStack()
    atexit.register(stack.close)
    directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="hotpath-nats-"))
    return stack.enter_context(nats_cluster(Path(directory)))


class ClusterServer(Server):
    """Three nodes that look like one server."""

    def __init__(self, data_dir: Path, *options: str, nodes: int = 3, **settings: Any) -> None:
        super().__init__(data_dir, *options, **settings)
        listeners = [name for name in ("http", "https", "amqp", "amqps") if self._is_on(name)]
        ports = node_ports(nodes, listeners)
        self._balancer = Ways({name: [at[name] for at in ports] for name in listeners})
        fixed: dict[str, Any] = {
            name: value for name, value in self._settings.items() if name not in listeners
        }
        fixed.setdefault("cluster_prefix", f"t{os.getpid()}-{next(_numbers)}")
        fixed.setdefault("log_level", "warning")
        secure = "amqps" if "amqps" in listeners else "amqp"
        if secure in listeners:
            public = f"{self._host_of(secure)}:{self._balancer.ports[secure]}"
            fixed.setdefault("public_host", public)
        self.cluster = Cluster(
            data_dir.parent / f"{data_dir.name}-cluster",
            *options,
            servers=shared_servers(),
            ports=ports,
            key_dir=data_dir,
            **fixed,
        )
        for node in self.cluster.nodes:
            node.stderr = self.stderr
        self._public = {
            name: f"{name}://{self._host_of(name)}:{port}"
            for name, port in self._balancer.ports.items()
        }

    def _host_of(self, listener: str) -> str:
        """As it was asked for: a certificate may be for that name."""
        return str(self._settings[listener]).rpartition(":")[0]

    def _is_on(self, listener: str) -> bool:
        return str(self._settings.get(listener, "off")) not in ("", "off", "none", "None")

    # The process: all of them

    @override
    def launch(self, **popen: Any) -> None:
        for node in self.cluster.nodes:
            node.launch(**popen)
        self.process = self.cluster.nodes[0].process

    @override
    def wait_ready(self) -> None:
        for node in self.cluster.nodes:
            node.wait_ready()
        self.urls = dict(self._public)

    @override
    def stop(self, *, seconds: float = 20.0) -> int:
        return self.cluster.stop(seconds=seconds)

    @override
    def kill(self) -> None:
        self.cluster.kill()

    @override
    def wait(self, *, seconds: float = 20.0) -> int:
        """Wait for the end of the first node; the others are told to end, too. Its exit code."""
        code = self.cluster.nodes[0].wait(seconds=seconds)
        self.cluster.stop(seconds=seconds)
        return code

    @override
    def close(self) -> None:
        self.cluster.close()
        with suppress(OSError, subprocess.SubprocessError):
            self._balancer.stop()
