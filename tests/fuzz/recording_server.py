"""The service of the interoperability tests, with fixed identities, keeping what clients send.

Started by `tests.fuzz.record`; bytes are kept as the connection gets them, behind TLS and
WebSocket framing.
"""

import asyncio
import json
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path
from unittest.mock import patch

from hotpath.amqp.connection import Connection
from hotpath.assembly import Core
from hotpath.model.names import Topic
from tests.fuzz import identities
from tests.interop import server


class Tape:
    """Writes one file a connection, named by the scenario under way and a number."""

    def __init__(self, directory: Path) -> None:
        self.label = "none"
        self._directory = directory
        self._numbers = count(1)
        self._paths: dict[int, Path] = {}

    def take(self, connection: Connection, chunk: bytes) -> None:
        path = self._paths.get(id(connection))
        if path is None:
            name = f"{self.label}--{next(self._numbers)}.bin"
            path = self._paths[id(connection)] = self._directory / name
        with path.open("ab") as file:
            file.write(chunk)

    def drop(self, connection: Connection) -> None:
        self._paths.pop(id(connection), None)

    def attach(self) -> None:
        """Listen in on all connections."""
        receive, lost = Connection.receive, Connection.lost

        def receive_and_keep(connection: Connection, chunk: bytes, size: int) -> None:
            self.take(connection, bytes(chunk[:size]))
            receive(connection, chunk, size)

        def drop_and_lose(connection: Connection) -> None:
            self.drop(connection)
            lost(connection)

        Connection.receive = receive_and_keep  # type: ignore[method-assign]
        Connection.lost = drop_and_lose  # type: ignore[method-assign]


class RecordingServer(server.Server):
    """Gives each scenario the same subscriptions and publishers, in the same order."""

    def __init__(self, options: dict, tape: Tape) -> None:
        super().__init__(options)
        self._tape = tape
        self._feeds = count(1)
        self._publishers = count(1)

    async def start(self) -> dict:
        found = await super().start()
        self._app.core.ring.replace([identities.KEY])
        return found

    async def restart(self) -> dict:
        found = await super().restart()
        self._app.core.ring.replace([identities.KEY])
        return found

    async def label(self, name: str) -> dict:
        """A scenario begins: what the one before has made goes away."""
        self._tape.label = name
        admin = self._app.core.admin
        for number in range(1, identities.FEEDS_MAX + 1):
            spec_id = identities.feed_id(number)
            if admin.find(Topic.VARIABLES, spec_id) is not None:
                await admin.delete(server.OPERATOR, Topic.VARIABLES, spec_id)
        self._feeds, self._publishers = count(1), count(1)
        return {}

    async def subscribe(self, base: int) -> dict:
        made = identities.feed_id(next(self._feeds))
        with patch("hotpath.service.admin.uuid4", return_value=made):
            return await super().subscribe(base)

    async def token(self, path: str, seconds: int = 600) -> dict:
        del seconds
        return {"token": identities.token(path), "expires": identities.EXPIRES_S}

    async def publisher(self, seconds: int = 600) -> dict:
        made = identities.publisher_id(next(self._publishers))
        with patch("hotpath.service.admin.uuid4", return_value=made):
            return await super().publisher(seconds)


async def main(make: Callable[[dict], server.Server]) -> None:
    """Run as `tests.interop.server` does, with another kind of server."""
    with patch.object(server, "Server", make):
        await server.main()


if __name__ == "__main__":
    tape = Tape(Path(json.loads(sys.argv[1])["tape"]))
    tape.attach()
    Core._lock_table = identities.lock_table  # type: ignore[method-assign]
    asyncio.run(main(lambda options: RecordingServer(options, tape)))
