"""The service as a process of its own, as an operator runs it."""

import asyncio
import json
import os
import signal
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

READY_SECONDS = 20
COMMAND = (sys.executable, "-m", "hotpath")


def environment(**extra: str) -> dict[str, str]:
    """This process's environment without settings of the service, and with `extra`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HOTPATH_")}
    return {**kept, **extra}


@dataclass(slots=True)
class Process:
    """A started service."""

    data_dir: Path
    handle: asyncio.subprocess.Process
    urls: dict[str, str]
    log: Path
    ready: dict[str, str] = field(default_factory=dict)

    def signal(self, number: signal.Signals) -> None:
        self.handle.send_signal(number)

    async def ended(self, *, seconds: float) -> int:
        """Its exit code. Raises TimeoutError when it takes longer."""
        async with asyncio.timeout(seconds):
            return await self.handle.wait()

    def logged(self) -> str:
        return self.log.read_text()

    async def run(self, *arguments: str, **extra: str) -> tuple[int, str, str]:
        """A command on the same data directory: exit code, stdout, stderr."""
        command = [*COMMAND, *arguments]
        if "--data-dir" not in arguments:
            command += ["--data-dir", str(self.data_dir)]
        return await run(*command, **extra)


async def run(*command: str, **extra: str) -> tuple[int, str, str]:
    """Run a command to its end."""
    made = await asyncio.create_subprocess_exec(
        *command,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        stdin=asyncio.subprocess.DEVNULL,
        env=environment(**extra),
    )
    out, err = await made.communicate()
    return made.returncode, out.decode(), err.decode()


@asynccontextmanager
async def serving(data_dir: Path, *options: str, umask: int = 0o022, **extra: str):
    """Run `hotpath serve` on free ports; killed at the end if it still lives."""
    log = data_dir.parent / "service.log"
    with log.open("wb") as sink:
        handle = await asyncio.create_subprocess_exec(
            *COMMAND,
            "serve",
            "--data-dir",
            str(data_dir),
            "--http",
            "127.0.0.1:0",
            "--amqp",
            "127.0.0.1:0",
            *options,
            stdout=asyncio.subprocess.PIPE,
            stderr=sink,
            env=environment(**extra),
            umask=umask,
        )
    try:
        async with asyncio.timeout(READY_SECONDS):
            line = await handle.stdout.readline()
        assert line, log.read_text()
        yield Process(data_dir, handle, json.loads(line), log)
    finally:
        if handle.returncode is None:
            handle.kill()
        await handle.communicate()
