"""The process under test: what is done to it, and what it takes."""

import asyncio
import resource
import socket
import subprocess
import threading
from pathlib import Path
from typing import IO, Any, Final

from tests.fault.crash.control import MINUTE_S
from tests.fault.crash.ledger import MAX_DELIVERIES
from tests.support.process import ROOT, Server

#: Life of a peek-lock, seconds: some receivers let it run out.
LOCK_S: Final = 10.0
#: File size beyond which nothing is written while the disk counts as full, bytes.
FULL_BYTES: Final = 65_536
SETTINGS: Final = {
    "minute": MINUTE_S,
    "lock_seconds": LOCK_S,
    "max_deliveries": MAX_DELIVERIES,
    "rate_limit": "100000/second",
    "rate_limit_burst": 100_000,
    "tail_bytes_max": 1_048_576,
    "segment_bytes": 1_048_576,
    "log_level": "warning",
}


class Service(Server):
    """`hotpath serve` on ports that stay the same over its restarts."""

    # Beside so much load, on a machine that may be busy with more.
    ready_seconds = 120.0

    def __init__(self, directory: Path) -> None:
        data_dir = directory / "data"
        data_dir.mkdir(mode=0o700)
        ports = {name: f"127.0.0.1:{_free_port()}" for name in ("http", "amqp")}
        super().__init__(data_dir, "--log-json", **{**SETTINGS, **ports})
        self.log = self.stderr = directory / "service.log"
        self.starts = 0

    def start(self, **popen: Any) -> "Service":
        """Start and wait for the ready line; what it logs goes through a pipe to a file.

        The file is ours, so that a full disk of the service does not take its log away.
        """
        self.process = subprocess.Popen(
            self.command(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            **popen,
        )
        threading.Thread(target=_copy, args=(self.process.stderr, self.log), daemon=True).start()
        self._note_ready(self._read_line())
        self.starts += 1
        return self

    async def restart(self) -> None:
        """kill -9, and start again."""
        await asyncio.to_thread(self.kill)
        await asyncio.to_thread(self.start)

    def fill_disk(self) -> None:
        """Nothing can be written any more."""
        self._limit(FULL_BYTES)

    def free_disk(self) -> None:
        """There is room again."""
        self._limit(resource.RLIM_INFINITY)

    def _limit(self, size: int) -> None:
        assert self.process is not None
        resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    # What it takes

    def rss_bytes(self) -> int:
        """Resident memory."""
        assert self.process is not None
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise AssertionError("the process is gone")

    def descriptors(self) -> int:
        """Open files and sockets."""
        assert self.process is not None
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))


def _copy(stream: IO[str], path: Path) -> None:
    with stream, path.open("a", buffering=1) as file:
        for line in stream:
            file.write(line)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])
