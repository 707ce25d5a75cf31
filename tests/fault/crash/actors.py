"""What publishers and receivers have in common: messages, numbers, a connection.

Every actor ends by itself when its connection is gone. All they learn goes to the ledger at once.
"""

import asyncio
import json
import random
from collections.abc import Callable

from proton import Message

from tests.fault.crash.amqp import AmqpClient, connect
from tests.fault.crash.ledger import Facts, Ledger, Violation


class Numbers:
    """Numbers for messages, and the facts that follow from a number."""

    def __init__(self) -> None:
        self._last = 0

    def take(self) -> Facts:
        """The facts of the next message."""
        self._last += 1
        number = self._last
        facts = {"objectId": f"o{number % 5}", "variable": "v", "value": number}
        return {**facts, "quality": number % 7}


def number_of(message: Message) -> int:
    """Which message it is: its `value`, wherever it stands."""
    properties = message.properties or {}
    if "value" in properties:
        return int(properties["value"])
    return int(json.loads(bytes(message.body))["value"])


def as_message(many: list[Facts], rng: random.Random) -> Message:
    """One AMQP message: properties, a JSON object, or a JSON array of several."""
    if len(many) == 1 and rng.random() < 0.5:
        return Message(body=b"x" * rng.randrange(200), properties=dict(many[0]))
    body = many[0] if len(many) == 1 else many
    return Message(body=json.dumps(body).encode(), content_type="application/json")


class Actor:
    """Somebody with an AMQP connection."""

    def __init__(self, ledger: Ledger, rng: random.Random) -> None:
        self.ledger = ledger
        self.rng = rng
        self.client: AmqpClient | None = None
        self.violation: Violation | None = None

    async def connect(self, url: str, password: str) -> None:
        """Open the connection."""
        self.client = await connect(url, password)

    def guard(self, call: Callable[[], None]) -> None:
        """Keep the first fault of a callback: Proton's loop is no place to raise it."""
        try:
            call()
        except Violation as violation:
            self.violation = self.violation or violation
        except Exception as error:  # noqa: BLE001 - the edge of a callback
            self.violation = self.violation or Violation(f"the harness broke: {error!r}")

    async def pause(self) -> None:
        """Between two steps."""
        await asyncio.sleep(self.rng.random() * 0.012)
