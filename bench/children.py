"""Child processes that never outlive the benchmark.

Every child is a :class:`Child` in a ``with`` block (or an ``ExitStack``): whatever ends the block
ends the child, by its pid, first politely, then not.
"""

import os
import random
import select
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from bench.errors import RunError

STOP_TIMEOUT_S = 20.0
PORTS = range(20_000, 32_768)


def free_port() -> int:
    """A TCP port on loopback that is free now."""
    return free_ports(1)[0]


def free_ports(count: int) -> list[int]:
    """TCP ports on loopback that are free now, all different.

    They are below those that the kernel gives to outgoing connections: beside thousands of these,
    one of its own choice would often be taken again before the child listens.

    Raises:
        RunError: If none is found.
    """
    found: list[int] = []
    for port in random.sample(PORTS, 200):
        with socket.socket() as probe:
            if len(found) < count and not _bind_fails(probe, port):
                found.append(port)
    if len(found) < count:
        raise RunError("no free port was found on loopback")
    return found


def _bind_fails(probe: socket.socket, port: int) -> bool:
    try:
        probe.bind(("127.0.0.1", port))
    except OSError:
        return True
    return False


class Child:
    """One running process with its standard error in a file."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        log: Path,
        environment: Mapping[str, str] | None = None,
        pipe_output: bool = True,
    ) -> None:
        """Start the process.

        Args:
            command: Program and arguments; never a secret among them.
            log: Where standard error goes, and standard output when it is not piped.
            environment: Variables beside those of this process.
            pipe_output: Whether standard output is read by the benchmark.
        """
        self.name = Path(command[0]).name
        self.log = log
        self._log_file = log.open("wb")
        self._process = subprocess.Popen(
            list(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE if pipe_output else self._log_file,
            stderr=self._log_file,
            env={**os.environ, **(environment or {})},
            start_new_session=True,  # Ctrl-C goes to the benchmark, which then ends its children
        )

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process has not ended yet."""
        return self._process.poll() is None

    def tell(self, line: str) -> None:
        """Write one line to its standard input; a child that has gone does not mind."""
        stdin = self._process.stdin
        if stdin is None:
            return
        try:
            stdin.write(f"{line}\n".encode())
            stdin.flush()
        except BrokenPipeError:
            return

    def read_line(self, timeout_s: float) -> str:
        """The next line of its standard output.

        Raises:
            RunError: If it ends or the time is over before there is one.
        """
        stdout = self._process.stdout
        if stdout is None:
            raise RunError(f"{self.name}: output is not piped")
        ready, _, _ = select.select([stdout], [], [], timeout_s)
        line = stdout.readline() if ready else b""
        if not line:
            raise RunError(f"{self.name} said nothing within {timeout_s:g} s: {self.last_words()}")
        return line.decode()

    def wait_for_log(self, text: str, timeout_s: float) -> str:
        """Wait until a line of the log contains the text, and return that line.

        Raises:
            RunError: If the process ends or the time is over before that.
        """
        limit = time.monotonic() + timeout_s
        while time.monotonic() < limit:
            for line in self.log.read_text(errors="replace").splitlines():
                if text in line:
                    return line
            if not self.running:
                break
            time.sleep(0.02)
        raise RunError(f"{self.name} is not ready: {self.last_words()}")

    def finish(self, timeout_s: float) -> str:
        """Wait for its end and return what it wrote to standard output.

        Raises:
            RunError: If it does not end in time.
        """
        try:
            output, _ = self._process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired as error:
            raise RunError(f"{self.name} did not end within {timeout_s:g} s") from error
        return (output or b"").decode()

    def last_words(self) -> str:
        """The end of its log, for error messages."""
        return self.log.read_text(errors="replace")[-800:].strip() or "(no output)"

    def stop(self) -> None:
        """End it with SIGTERM, after a while with SIGKILL."""
        if self.running:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                _close_quietly(stream.close)
        self._log_file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def _close_quietly(close: Callable[[], None]) -> None:
    try:
        close()
    except BrokenPipeError:
        return  # unsent input of a child that has gone
