"""A service as a child process, for the demonstration: started, waited for, stopped."""

import asyncio
import contextlib
import json
import signal
import sys
from pathlib import Path
from typing import Final, Self, cast

from hotpath.cli.running import Failure

#: Time until the ready line, and until the end after SIGTERM.
READY_SECONDS: Final = 20.0
STOP_SECONDS: Final = 20.0


class Service:
    """`hotpath serve` on free ports of the loopback interface; `urls` are its addresses."""

    def __init__(self, data_dir: Path, *, minute: float) -> None:
        self.urls: dict[str, str] = {}
        self._data_dir = data_dir
        self._minute = minute
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        """Raises Failure with the service's own words when it does not get ready."""
        log = await asyncio.to_thread((self._data_dir / "service.log").open, "wb")
        arguments = ("--http", "127.0.0.1:0", "--amqp", "127.0.0.1:0", "--log-level", "warning")
        with log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "hotpath",
                "serve",
                "--data-dir",
                str(self._data_dir),
                "--minute",
                f"{self._minute:g}",
                *arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                # Ctrl-C is for the parent, which then stops the child in order.
                start_new_session=True,
            )
        try:
            self.urls = await self._ready()
        except BaseException:
            await self._kill()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._kill()

    async def stop(self) -> int:
        """Ask for a clean end; the exit code."""
        process = self._process
        if process is None:
            return 0
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_SECONDS):
                await process.wait()
        return process.returncode if process.returncode is not None else -1

    async def _ready(self) -> dict[str, str]:
        process = self._process
        if process is None or process.stdout is None:
            raise Failure("the service was not started")
        try:
            async with asyncio.timeout(READY_SECONDS):
                line = await process.stdout.readline()
        except TimeoutError:
            raise Failure(f"the service is not ready after {READY_SECONDS:.0f} s") from None
        if not line:
            text = await asyncio.to_thread((self._data_dir / "service.log").read_text)
            raise Failure(f"the service did not start:\n{text.strip()}")
        return cast("dict[str, str]", json.loads(line))

    async def _kill(self) -> None:
        process = self._process
        if process is not None and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
