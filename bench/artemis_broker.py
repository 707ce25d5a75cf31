"""Apache ActiveMQ Artemis as a peer: one embedded server on a free loopback port.

The same shape as a hotpath run: durable messages to one multicast address, one durable queue a
subscriber, accepted once the journal is flushed, settled by the receiver. The journal and its
buffer are what Artemis' own `create` command chooses on this disk, with `journal-datasync`.
"""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from bench.children import Child, free_port
from bench.clients import Endpoint, Link, Login
from bench.errors import RunError
from bench.places import peers_directory
from bench.rabbitmq_broker import queue_name, wait_for_port
from bench.workload import Workload

ADDRESS = "bench"
NATIVE = "bin/lib/linux-x86_64"
TUNING_TIMEOUT_S = 120.0
MAIN = "org.apache.activemq.artemis.core.server.embedded.Main"
# What Artemis' start script gives the virtual machine, without its console.
JAVA = ("-XX:AutoBoxCacheMax=20000", "-XX:+UseG1GC", "-XX:+UseStringDeduplication", "-Xms512M",
        "-Xmx2G", "--add-opens", "java.base/jdk.internal.misc=ALL-UNNAMED")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Journal:
    """How Artemis writes on a disk."""

    kind: str
    """ASYNCIO with libaio, else NIO."""
    timeout_ns: int
    """How long the buffer gathers before it is flushed."""


def find_home() -> Path:
    """The unpacked distribution.

    Raises:
        RunError: If it or Java is missing.
    """
    configured = os.environ.get("ARTEMIS_BENCH_HOME")
    homes = [Path(configured)] if configured else sorted(peers_directory().glob("apache-artemis-*"))
    homes = [home for home in homes if (home / "bin/artemis").exists()]
    if not homes:
        raise RunError("Artemis is not there (bench/peers.sh fetches it)")
    if shutil.which("java") is None:
        raise RunError("Artemis needs Java (Debian: default-jre-headless)")
    return homes[-1]


def version() -> str:
    """Which Artemis is here. Raises RunError when there is none."""
    return find_home().name.removeprefix("apache-artemis-")


@lru_cache
def tuned_journal(home: Path, disk: Path) -> Journal:
    """What Artemis' own command chooses for a disk.

    Raises:
        RunError: If it fails.
    """
    java = Path(shutil.which("java") or "java").resolve().parents[1]
    with tempfile.TemporaryDirectory(prefix="bench-artemis-tuning-", dir=disk) as name:
        place = Path(name) / "instance"
        command = [str(home / "bin/artemis"), "create", str(place), "--silent", "--no-web"]
        command += ["--user", "bench", "--password", "bench", "--allow-anonymous"]
        command += ["--host", "127.0.0.1"]
        made = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=TUNING_TIMEOUT_S,
            env={**os.environ, "JAVA_HOME": str(java)},
        )  # fmt: skip
        if made.returncode:
            raise RunError(f"artemis create failed: {made.stderr[-800:]}")
        return read_journal((place / "etc/broker.xml").read_text())


def read_journal(text: str) -> Journal:
    """The journal of a broker.xml.

    Raises:
        RunError: If it names none.
    """
    kind = re.search(r"<journal-type>(\w+)</journal-type>", text)
    timeout = re.search(r"<journal-buffer-timeout>(\d+)</journal-buffer-timeout>", text)
    if kind is None or timeout is None:
        raise RunError("artemis create wrote no journal settings")
    return Journal(kind[1], int(timeout[1]))


def configuration(port: int, queues: int, *, data: Path, journal: Journal) -> str:
    """The text of broker.xml; what is not named stays at Artemis' defaults."""
    names = "".join(f'<queue name="{queue_name(index)}"/>' for index in range(queues))
    acceptor = (
        f"tcp://127.0.0.1:{port}?protocols=AMQP;tcpSendBufferSize=1048576;"
        "tcpReceiveBufferSize=1048576;useEpoll=true;amqpCredits=1000;amqpLowCredits=300"
    )
    return f"""<configuration xmlns="urn:activemq"><core xmlns="urn:activemq:core">
<persistence-enabled>true</persistence-enabled>
<security-enabled>false</security-enabled>
<journal-type>{journal.kind}</journal-type>
<journal-datasync>true</journal-datasync>
<journal-buffer-timeout>{journal.timeout_ns}</journal-buffer-timeout>
<journal-directory>{data}/journal</journal-directory>
<bindings-directory>{data}/bindings</bindings-directory>
<paging-directory>{data}/paging</paging-directory>
<large-messages-directory>{data}/large</large-messages-directory>
<acceptors><acceptor name="amqp">{acceptor}</acceptor></acceptors>
<addresses><address name="{ADDRESS}"><multicast>{names}</multicast></address></addresses>
</core></configuration>
"""


@contextmanager
def artemis(workload: Workload, directory: Path) -> Iterator[Endpoint]:
    """Run Artemis for one measurement.

    Raises:
        RunError: If it is not there or does not start.
    """
    home = find_home()
    journal = tuned_journal(home, directory.parent)
    port = free_port()
    text = configuration(port, workload.subscriptions, data=directory / "data", journal=journal)
    (directory / "etc").mkdir()
    (directory / "etc/broker.xml").write_text(text)
    command = ["java", *JAVA, f"-Djava.library.path={home / NATIVE}"]
    command += ["-cp", f"{home}/lib/*", MAIN, str(directory)]
    log = directory / "artemis.log"
    with Child(command, log=log, pipe_output=False) as broker:
        wait_for_port(port, broker)
        links = (
            Link(workload.connection_of(index), f"{ADDRESS}::{queue_name(index)}")
            for index in range(workload.subscriptions)
        )
        yield Endpoint(
            server=f"127.0.0.1:{port}",
            publish_address=ADDRESS,
            publisher=Login(user="bench", secret="bench"),
            subscriber=Login(user="bench", secret="bench"),
            links=tuple(links),
            pid=broker.pid,
            # Artemis refuses receiver-settle-mode second: the receiver settles alone.
            settle="first" if workload.settle == "second" else workload.settle,
        )
