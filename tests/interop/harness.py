"""Client programs and the service, side by side, each with a time limit on everything.

A client program (see `clients/protocol.py`) runs for as long as tests of it do; a scenario that
does not end in time ends its program, and the next scenario gets a new one.
"""

import json
import os
import selectors
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path

import trustme

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 40
LISTENERS = ("amqp", "amqps", "http", "https")
#: First of the ports of a workbench.
FIRST_PORTS = range(21_000, 31_000, len(LISTENERS))


class Hung(Exception):
    """Nothing was said in time."""


class Program:
    """A process that speaks in lines."""

    def __init__(self, command: Sequence[str], *, log: Path, env: dict[str, str] | None = None):
        self._log = log.open("ab")
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log,
            cwd=ROOT, env={**os.environ, **(env or {})},
        )  # fmt: skip
        assert self._process.stdout is not None
        os.set_blocking(self._process.stdout.fileno(), False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._process.stdout, selectors.EVENT_READ)
        self._rest = b""
        self._lines: deque[str] = deque()

    def say(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()

    def hear(self, deadline: float) -> str:
        """The next line. Raises Hung."""
        assert self._process.stdout is not None
        while not self._lines:
            left = deadline - time.monotonic()
            if left <= 0 or not self._selector.select(left):
                raise Hung
            chunk = self._process.stdout.read()
            if chunk == b"":
                raise EOFError(f"the program has ended: {self._process.wait()}")
            *lines, self._rest = (self._rest + (chunk or b"")).split(b"\n")
            self._lines.extend(line.decode() for line in lines)
        return self._lines.popleft()

    def alive(self) -> bool:
        return self._process.poll() is None

    def stop(self, seconds: float = 5) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.close()
            self._process.wait(seconds)
        except (subprocess.TimeoutExpired, BrokenPipeError):
            self._process.kill()
            self._process.wait()
        self._selector.close()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._log.close()


class Ports:
    """Ports of the service's own, in the same places whenever it is started again.

    They are below those that the system gives out by itself. Among workbenches, who has bound the
    UDP port of the same number has the ports, as long as it lives.
    """

    def __init__(self, *, usual: bool) -> None:
        """With `usual`, AMQP over TLS is on 5671. Raises OSError when that is taken."""
        self._claim, first = _claimed(FIRST_PORTS)
        self.numbers = {name: first + at for at, name in enumerate(LISTENERS)}
        self._usual: socket.socket | None = None
        if usual:
            try:
                self._usual, self.numbers["amqps"] = usual_port()
            except OSError:
                self.close()
                raise

    def close(self) -> None:
        """Let others have them."""
        self._claim.close()
        if self._usual is not None:
            self._usual.close()


def usual_port() -> tuple[socket.socket, int]:
    """The port of AMQP over TLS, and the claim on it. Raises OSError when that is taken."""
    try:
        return _claimed(range(5671, 5672))
    except OSError:
        text = "port 5671 is taken, which azure-servicebus before 7.14 for Python needs"
        raise OSError(text) from None


def _claimed(candidates: range) -> tuple[socket.socket, int]:
    """The first port that nobody has, nor those behind it, and the claim on it."""
    for first in candidates:
        claim = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            claim.bind(("127.0.0.1", first))
            for port in range(first, first + candidates.step):
                with socket.socket() as probe:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    probe.bind(("127.0.0.1", port))
        except OSError:
            claim.close()
        else:
            return claim, first
    raise OSError("no free port")


class Service:
    """The service in a process of its own."""

    def __init__(self, directory: Path, *, usual_ports: bool = False) -> None:
        self.ca = directory / "ca.pem"
        certificate, key = self._certify(directory)
        self._claim = Ports(usual=usual_ports)
        self.ports = self._claim.numbers
        options = {name: f"127.0.0.1:{port}" for name, port in self.ports.items()}
        options |= {
            "data_dir": str(directory / "data"),
            "tls_cert": str(certificate),
            "tls_key": str(key),
            "lock_seconds": 30,
            "drain_seconds": 2,
            "public_host": "localhost",
            # As on a node of a cluster that serves none of the subscriptions.
            "far": os.environ.get("HOTPATH_INTEROP_FAR") == "1",
        }
        self._program = self._launch(options, directory / "service.log")
        self._program.hear(time.monotonic() + START_SECONDS)

    def _launch(self, options: dict, log: Path) -> Program:
        command = [sys.executable, "-m", "tests.interop.server", json.dumps(options)]
        return Program(command, log=log)

    def _certify(self, directory: Path) -> tuple[Path, Path]:
        authority = trustme.CA()
        authority.cert_pem.write_to_path(self.ca)
        issued = authority.issue_cert("localhost", "127.0.0.1")
        certificate, key = directory / "cert.pem", directory / "key.pem"
        for blob in issued.cert_chain_pems:
            blob.write_to_path(certificate, append=True)
        issued.private_key_pem.write_to_path(key)
        return certificate, key

    def ask(self, command: str, fields: dict[str, object]) -> dict[str, object]:
        """Have a command carried out."""
        self._program.say(json.dumps({"command": command, **fields}))
        return json.loads(self._program.hear(time.monotonic() + START_SECONDS))

    def stop(self) -> None:
        self._program.stop()
        self._claim.close()


class Client:
    """A client program, started when it is needed."""

    def __init__(self, command: Sequence[str], *, log: Path, env: dict[str, str]) -> None:
        self._command = command
        self._log = log
        self._env = env
        self._program: Program | None = None

    def run(self, scenario: str, service: Service, *, base: int, seconds: float) -> tuple[str, str]:
        """Run a scenario: "passed" or "failed", and why."""
        if self._program is None or not self._program.alive():
            self._program = Program(self._command, log=self._log, env=self._env)
        fields = {**service.ports, "ca": service.ca, "base": base}
        words = [f"{key}={value}" for key, value in fields.items()]
        deadline = time.monotonic() + seconds
        try:
            self._program.say("\t".join(["run", scenario, *words]))
            while True:
                kind, *rest = self._program.hear(deadline).split("\t")
                if kind == "done":
                    return rest[0], " ".join(rest[1:])
                if kind == "call":
                    self._program.say(_answer(service, rest))
        except (Hung, EOFError, BrokenPipeError) as error:
            self.stop(0.1)
            text = f"no end after {seconds:.0f} s" if isinstance(error, Hung) else str(error)
            return "failed", text

    def stop(self, seconds: float = 5) -> None:
        if self._program is not None:
            self._program.stop(seconds)
            self._program = None


def _answer(service: Service, call: list[str]) -> str:
    """Pass a client's call on to the service."""
    command, *words = call
    fields: dict[str, object] = {}
    for word in words:
        key, _, value = word.partition("=")
        fields[key] = int(value) if value.lstrip("-").isdigit() else value
    answer = service.ask(command, fields)
    if not answer.pop("ok"):
        return f"error\t{answer['error']}"
    return "\t".join(["ok", *(f"{key}={value}" for key, value in answer.items())])
