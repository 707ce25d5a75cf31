"""A webhook receiver that costs little: what it takes from the machine, the service does not get.

`python -m bench.webhook_sink` listens on a free port and prints it. Each request goes to the path
`/<endpoint>`; `/slow…` is answered after 14 seconds, all others at once. A value is the moment it
was due (`time.monotonic_ns`), so that its age when it comes is known. The line `mark` on standard
input begins a measurement anew; `report` prints it as one line of JSON.
"""

import asyncio
import json
import re
import sys
import time
from array import array

from typing_extensions import override

SLOW_SECONDS = 14.0
OK = b"HTTP/1.1 204 No Content\r\n\r\n"
_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)
_VALUE = re.compile(rb'"value":"(\d+)"')


class Measured:
    """What has come since the last mark."""

    def __init__(self) -> None:
        self.ages_ns = array("q")
        self.first_ns = 0
        self.last_ns = 0
        self.slow = 0

    def note(self, value_ns: int) -> None:
        """One event of an endpoint that is not slow."""
        self.last_ns = time.monotonic_ns()
        self.first_ns = self.first_ns or self.last_ns
        self.ages_ns.append(self.last_ns - value_ns)

    def report(self) -> dict[str, float]:
        """Rate, and ages in milliseconds."""
        ages = sorted(self.ages_ns)
        count = len(ages)
        seconds = max(self.last_ns - self.first_ns, 1) / 1e9

        def at(share: float) -> float:
            return ages[min(int(count * share), count - 1)] / 1e6 if ages else 0.0

        return {
            "count": count,
            "rate": count / seconds,
            "p50_ms": at(0.5),
            "p99_ms": at(0.99),
            "max_ms": at(1.0),
            "slow": self.slow,
        }


class Receiver(asyncio.Protocol):
    """One connection."""

    def __init__(self, measured: list[Measured]) -> None:
        self._measured = measured
        self._buffer = b""
        self._transport: asyncio.Transport | None = None

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way back."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    @override
    def data_received(self, data: bytes) -> None:
        """Take whole requests out of what has come."""
        self._buffer += data
        while True:
            head, separator, rest = self._buffer.partition(b"\r\n\r\n")
            length = _LENGTH.search(head)
            size = int(length[1]) if length else 0
            if not separator or len(rest) < size:
                return
            self._buffer = rest[size:]
            self._take(head, rest[:size])

    def _take(self, head: bytes, body: bytes) -> None:
        value = _VALUE.search(body)
        if head.startswith(b"POST /slow"):
            self._measured[0].slow += 1
            asyncio.get_running_loop().call_later(SLOW_SECONDS, self._answer)
            return
        if value:
            self._measured[0].note(int(value[1]))
        self._answer()

    def _answer(self) -> None:
        if self._transport is not None:
            self._transport.write(OK)


async def main() -> None:
    """Listen until standard input ends."""
    measured = [Measured()]
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Receiver(measured), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        if line.strip() == "mark":
            measured[0] = Measured()
        elif line.strip() == "report":
            print(json.dumps(measured[0].report()), flush=True)
    server.close()


if __name__ == "__main__":
    asyncio.run(main())
