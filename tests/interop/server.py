"""The whole service in a process of its own, for clients of other projects to talk to.

    python -m tests.interop.server '{"data_dir": ..., "amqp": "127.0.0.1:5672", ...}'

Once it is ready it prints one line of JSON with its addresses; then it reads commands, one line of
JSON each, and answers each with a line. What an operator does by accident happens here on
purpose: connections are closed, links detached, the service stopped and started again.
"""

import asyncio
import importlib
import json
import sys

import qel
from hotpath.amqp.conditions import Condition
from hotpath.amqp.egress import Egress
from hotpath.app import App
from hotpath.auth.rights import Principal
from hotpath.auth.sas import issue
from hotpath.config import Settings
from hotpath.model.names import TenantId, Topic, TopicKey
from hotpath.service.admin import NewSubscription
from hotpath.wire.jsonbody import encode_json
from tests.cluster.far import FarApp

TENANT = TenantId("interop")
OPERATOR = Principal(TENANT, "interop", frozenset({"hotpath.subscribe", "hotpath.publish"}))


def make_node(settings: Settings) -> App:
    """A node of a cluster."""
    node: App = importlib.import_module("hotpath.clustered").ClusterApp(settings)
    return node


class Server:
    """The service, and what may be asked of it."""

    def __init__(self, options: dict) -> None:
        self._make = FarApp if options.pop("far", False) else App
        self._settings = Settings(**options)
        if self._settings.cluster is not None:
            self._make = make_node
        self._app = self._make(self._settings)

    async def start(self) -> dict:
        return await self._app.start()

    async def restart(self) -> dict:
        await self._app.stop()
        self._app = self._make(self._settings)
        return await self._app.start()

    async def subscribe(self, base: int) -> dict:
        """A subscription to the values from `base` on, a thousand of them."""
        text = f"value >= {base} AND value < {base + 1000}"
        wanted = NewSubscription(
            topic=Topic.VARIABLES,
            filter=qel.compile_filter(text, "variables"),
            filter_text=text,
            ttl_minutes=60,
            sas_ttl_minutes=30,
        )
        spec = await self._app.core.admin.create(OPERATOR, wanted)
        address = f"variables/Subscriptions/{spec.id}"
        return {"address": address, "id": spec.id, "filter": text}

    async def subscribeMany(self, base: int, count: int) -> dict:
        """Many subscriptions to the same values."""
        made = [await self.subscribe(base) for _ in range(count)]
        return {"ids": ",".join(each["id"] for each in made)}

    async def receivers(self) -> dict:
        """How many receivers are attached, all feeds together."""
        found = self._app.core.topics.subscriptions.values()
        return {"count": sum(subscription.receivers for subscription in found)}

    async def publish(self, base: int, count: int = 1, size: int = 0) -> dict:
        """Publish values from `base` on."""
        payloads = []
        for value in range(base, base + count):
            body = {"value": value, "text": "x" * size}
            payloads.append(encode_json(json.dumps(body).encode(), {"value": value}))
        topic = TopicKey(TENANT, Topic.VARIABLES)
        await self._app.core.publishing.publish(topic, payloads, via="test")
        return {}

    async def token(self, path: str, seconds: int = 600) -> dict:
        """A token for a resource of the service's key."""
        core = self._app.core
        expires_s = core.clock.now_ms() // 1000 + seconds
        token = issue(core.ring.current, f"amqp://localhost/{path}", expires_s=expires_s)
        return {"token": token, "expires": expires_s}

    async def publisher(self, seconds: int = 600) -> dict:
        """The token of a publisher."""
        spec = await self._app.core.publishers.open(OPERATOR, Topic.VARIABLES, ttl_minutes=60)
        return await self.token(f"variables/Publishers/{spec.id}", seconds)

    async def state(self, id: str) -> dict:  # noqa: A002  # as clients name it
        """How things stand on a subscription."""
        core = self._app.core
        # What was settled on the wire counts once the loop has seen it.
        await core.committer.settled()
        subscription = core.admin.find(Topic.VARIABLES, id)
        topic = core.topics.get(TopicKey(TENANT, Topic.VARIABLES))
        return {
            "backlog": subscription.backlog(topic.routed_to if topic else 1),
            "deferred": len(subscription.locks.deferred),
            "dead": core.settling.dead_count(subscription),
            "locked": subscription.locks.locked,
            "receivers": subscription.receivers,
        }

    async def close(self) -> dict:
        """Close all AMQP connections by force."""
        assert self._app.amqp is not None
        connections = list(self._app.amqp._connections)
        for connection in connections:
            connection.stop()
        return {"closed": len(connections)}

    async def detach(self, address: str) -> dict:
        """Detach all receivers of a feed by force."""
        assert self._app.amqp is not None
        detached = 0
        for connection in list(self._app.amqp._connections):
            for end in list(connection.engine.links.values()):
                if isinstance(end, Egress) and end.right.address.path == address:
                    end.close(Condition("amqp:link:detach-forced", "detached on purpose", {}))
                    detached += 1
        return {"detached": detached}

    async def stop(self) -> None:
        await self._app.stop()


async def main() -> None:
    server = Server(json.loads(sys.argv[1]))
    _say(await server.start())
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    while line := await reader.readline():
        order = json.loads(line)
        command = getattr(server, order.pop("command"))
        try:
            _say({"ok": True, **(await command(**order) or {})})
        except Exception as error:  # noqa: BLE001  # whatever it is, it is told
            _say({"ok": False, "error": repr(error)})
    await server.stop()


def _say(answer: dict) -> None:
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
