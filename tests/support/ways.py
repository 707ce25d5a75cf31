"""Ways to servers, in a process of their own: cut, stalled and mended on command.

    python -m tests.support.ways '{"node-0:server-1": [4222], "amqp": [5672, 5673, 5674]}'

Each way listens on a port of the loopback; with several targets its connections go to one after the
other, and past those that refuse: a load balancer. It prints one line with the ports, then takes
one command a line: {"cut": [names]}, {"stall": [names]} or {"mend": [names]}, each answered by a
line, until its input ends.
"""

import asyncio
import json
import selectors
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import count
from typing import Final

from typing_extensions import override

from tests.support.nats import Proxy

_ANSWER_S: Final = 20.0


class Balancer(Proxy):
    """A way to several targets by turns."""

    def __init__(self, targets: Sequence[int]) -> None:
        super().__init__(targets[0])
        self._targets = tuple(targets)
        self._turns = count()

    @override
    async def reach(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection to the next target that takes one. Raises OSError."""
        first = next(self._turns)
        for turn in range(first, first + len(self._targets)):
            with suppress(OSError):
                return await asyncio.open_connection(
                    "127.0.0.1", self._targets[turn % len(self._targets)]
                )
        raise ConnectionRefusedError

    @override
    def end(self, sink: asyncio.StreamWriter) -> None:
        """What was said before goes first."""
        sink.close()


async def main(wanted: Mapping[str, Sequence[int]], ports: Mapping[str, int]) -> None:
    """Run until the input ends."""
    ways = {
        name: await Balancer(targets).start(ports.get(name, 0)) for name, targets in wanted.items()
    }
    _say({name: way.port for name, way in ways.items()})
    orders = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(orders), sys.stdin
    )
    while line := await orders.readline():
        for order, names in json.loads(line).items():
            for name in names:
                getattr(ways[name], order)()
        _say({})
    for way in ways.values():
        await way.stop()


def _say(answer: object) -> None:
    print(json.dumps(answer), flush=True)


class Ways:
    """The process, as seen by whoever started it; `ports` are where some of the ways begin."""

    def __init__(
        self, wanted: Mapping[str, Sequence[int]], ports: Mapping[str, int] | None = None
    ) -> None:
        orders = [json.dumps(wanted), json.dumps(ports or {})]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.ways", *orders],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.ports: dict[str, int] = self._hear()

    def cut(self, names: Iterable[str]) -> None:
        """Drop their connections and refuse new ones."""
        self._order("cut", names)

    def stall(self, names: Iterable[str]) -> None:
        """Keep their connections and pass nothing on."""
        self._order("stall", names)

    def mend(self, names: Iterable[str]) -> None:
        """Let everything through again."""
        self._order("mend", names)

    def stop(self) -> None:
        """End the process."""
        process = self._process
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _order(self, order: str, names: Iterable[str]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({order: list(names)}) + "\n")
        self._process.stdin.flush()
        self._hear()

    def _hear(self) -> dict[str, int]:
        assert self._process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            assert selector.select(_ANSWER_S), "the ways do not answer"
        line = self._process.stdout.readline()
        assert line, "the ways have ended"
        found: dict[str, int] = json.loads(line)
        return found


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1]), json.loads(sys.argv[2])))
