"""The C load clients: building them, starting them, reading what they report."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from fcntl import LOCK_EX, flock
from pathlib import Path
from typing import Any

from bench.children import Child
from bench.errors import RunError
from bench.workload import Workload

SOURCES = Path(__file__).parent / "clients"
READY_TIMEOUT_S = 120.0
SETTLE_TIMEOUT_S = 100.0


@dataclass(frozen=True, slots=True)
class Login:
    """How a client authenticates: PLAIN, ANONYMOUS, or ANONYMOUS and claims."""

    user: str | None = None
    secret: str | None = None
    claims: bool = False
    """Put the secret (or each link's token) to ``$cbs`` instead of using SASL PLAIN."""


@dataclass(frozen=True, slots=True)
class Link:
    """One receiving link."""

    connection: int
    address: str
    token: str = ""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where the clients of one run connect to."""

    server: str
    """HOST:PORT of the AMQP listener."""
    publish_address: str
    publisher: Login
    subscriber: Login
    links: tuple[Link, ...]
    pid: int
    """The broker's process."""
    settle: str
    """How the receivers settle: as the workload asks, or as near as the broker can."""


@dataclass(frozen=True, slots=True)
class SenderReport:
    """What load-send printed."""

    sent: int
    accepted: int
    refused: int
    elapsed_s: float
    rate: float
    cpu_s: float
    accept_latency: dict[str, Any]
    per_second: list[int]
    error: str

    @classmethod
    def parse(cls, text: str) -> "SenderReport":
        """Read the JSON line.

        Raises:
            RunError: If it is not a report of load-send.
        """
        fields = _parse(text, "load-send")
        return cls(
            sent=fields["sent"],
            accepted=fields["accepted"],
            refused=fields["rejected"] + fields["released"] + fields["modified"],
            elapsed_s=fields["elapsed_s"],
            rate=fields["rate"],
            cpu_s=fields["cpu_user_s"] + fields["cpu_system_s"],
            accept_latency=fields["accept_latency"],
            per_second=fields["per_second"],
            error=fields["error"],
        )


@dataclass(frozen=True, slots=True)
class ReceiverReport:
    """What load-recv printed."""

    received: int
    settled: int
    unaccepted: int
    foreign: int
    disordered: int
    elapsed_s: float
    rate: float
    cpu_s: float
    per_link: list[int]
    latency: dict[str, Any]
    per_second: list[int]
    error: str

    @classmethod
    def parse(cls, text: str) -> "ReceiverReport":
        """Read the JSON line.

        Raises:
            RunError: If it is not a report of load-recv.
        """
        fields = _parse(text, "load-recv")
        names = [name for name in cls.__dataclass_fields__ if name != "cpu_s"]
        cpu_s = fields["cpu_user_s"] + fields["cpu_system_s"]
        return cls(cpu_s=cpu_s, **{name: fields[name] for name in names})


def _parse(text: str, client: str) -> dict[str, Any]:
    try:
        fields = json.loads(text)
    except ValueError as error:
        raise RunError(f"{client} printed no JSON: {text[:200]!r}") from error
    if not isinstance(fields, dict) or fields.get("client") != client:
        raise RunError(f"not a report of {client}: {text[:200]!r}")
    return fields


def build_clients() -> Path:
    """Build the clients if needed and return the directory they are in.

    Raises:
        RunError: If they cannot be built; the message says what is missing.
    """
    command = ["make", "--no-print-directory", "-C", str(SOURCES), f"PYTHON={sys.executable}"]
    with (SOURCES / "Makefile").open() as makefile:
        flock(makefile, LOCK_EX)  # others may want them built at the same time
        built = subprocess.run(command, capture_output=True, text=True, check=False)
    if built.returncode:
        raise RunError(
            "the load clients do not build; they need a C compiler and, for Proton's source, pip "
            f"with its index\n{built.stderr[-2000:]}"
        )
    return SOURCES / "build"


def write_links(links: Sequence[Link], directory: Path) -> Path:
    """Write the table that load-recv reads; it holds tokens, so only its owner may read it."""
    descriptor, name = tempfile.mkstemp(prefix="links-", suffix=".tsv", dir=directory)
    with os.fdopen(descriptor, "w") as table:
        for link in links:
            table.write(f"{link.connection}\t{link.address}\t{link.token}\n")
    return Path(name)


def _login_options(login: Login) -> list[str]:
    if login.claims:
        return ["--cbs"]
    return ["--user", login.user] if login.user is not None else []


def _secret_environment(login: Login) -> dict[str, str]:
    # In the environment and not among the arguments, which every user of the machine can read.
    return {"BENCH_TOKEN": login.secret} if login.secret is not None else {}


def start_receiver(endpoint: Endpoint, workload: Workload, directory: Path) -> Child:
    """Start load-recv and wait until all its links are attached.

    Raises:
        RunError: If it cannot attach; the child has been ended.
    """
    table = write_links(endpoint.links, directory)
    command = [str(build_clients() / "load-recv"), "--server", endpoint.server]
    command += ["--links", str(table), "--credit", str(workload.credit)]
    command += ["--settle", endpoint.settle, *_login_options(endpoint.subscriber)]
    if workload.rate is not None:  # connections and code paths warm up before latency counts
        command += ["--skip-seconds", str(min(1.0, workload.seconds / 5))]
    receiver = Child(
        command,
        log=directory / "load-recv.log",
        environment=_secret_environment(endpoint.subscriber),
    )
    try:
        receiver.wait_for_log("ready", READY_TIMEOUT_S)
    except RunError as error:
        said = receiver.finish(SETTLE_TIMEOUT_S) if not receiver.running else ""
        receiver.stop()
        raise RunError(f"load-recv could not attach: {said or error}") from error
    return receiver


def start_sender(endpoint: Endpoint, workload: Workload, directory: Path) -> Child:
    """Start load-send, which begins to publish at once."""
    command = [str(build_clients() / "load-send"), "--server", endpoint.server]
    command += ["--address", endpoint.publish_address, "--seconds", str(workload.seconds)]
    command += ["--size", str(workload.message_bytes), "--window", str(workload.window)]
    command += ["--settle-timeout", str(SETTLE_TIMEOUT_S)]
    command += ["--objects", str(workload.objects), *_login_options(endpoint.publisher)]
    if workload.rate is not None:
        command += ["--rate", str(workload.rate)]
    return Child(
        command,
        log=directory / "load-send.log",
        environment=_secret_environment(endpoint.publisher),
    )
