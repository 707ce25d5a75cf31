"""Rights for a connection: put-token on `$cbs` (AMQP claims-based security, as Service Bus has it).

The two links of `$cbs` are opened on first use and stay. Requests are answered in order or not; the
correlation-id tells which answer is whose.
"""

import asyncio
from typing import Final

from hotpath.client.errors import UNAUTHORIZED, Condition, Detached
from hotpath.client.links import Delivery, Incoming, Outcome, Outgoing
from hotpath.wire.encoder import encode, encode_list, encode_map
from hotpath.wire.values import ULong, WireError
from hotpath.wire.view import describe

CBS: Final = "$cbs"
_NULL: Final = b"\x40"


def put_token_request(number: int, *, audience: str, token: str) -> bytes:
    """The encoded request that puts `token` for `audience`."""
    kind = "servicebus.windows.net:sastoken" if token.startswith("Shared") else "jwt"
    properties = [encode(ULong(number)), _NULL, encode(CBS), _NULL, encode(CBS)]
    named = {"operation": "put-token", "type": kind, "name": audience}
    pairs = [encode(part) for pair in named.items() for part in pair]
    return b"".join(
        (
            b"\x00\x53\x73" + encode_list(properties),
            b"\x00\x53\x74" + encode_map(pairs),
            b"\x00\x53\x77" + encode(token),
        )
    )


class TokenExchange:
    """Puts tokens over one connection's pair of `$cbs` links."""

    def __init__(self, sender: Outgoing, receiver: Incoming) -> None:
        self._sender = sender
        self._waiting: dict[int, asyncio.Future[None]] = {}
        self._backlog: list[bytes] = []
        self._next = 1
        sender.on_credit = self._send_backlog
        sender.on_end = receiver.on_end = self.fail
        receiver.on_message = self._take_answer
        receiver.grant(100)

    async def put(self, *, audience: str, token: str) -> None:
        """Put a token; returns when the service has taken it. Raises Detached."""
        number = self._next
        self._next += 1
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        self._backlog.append(put_token_request(number, audience=audience, token=token))
        self._send_backlog()
        try:
            await answer
        finally:
            self._waiting.pop(number, None)

    def fail(self, condition: Condition) -> None:
        """The links or the connection are gone: whoever waits hears it."""
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(Detached(condition))

    def _send_backlog(self) -> None:
        while self._backlog and self._sender.credit > 0:
            self._sender.send(self._backlog.pop(0))

    def _take_answer(self, delivery: Delivery) -> None:
        delivery.settle(Outcome.ACCEPTED)
        delivery.link.grant(1)
        try:
            view = describe(delivery.encoded)
        except WireError:
            return
        correlation = view.correlation_id
        answer = self._waiting.get(correlation) if isinstance(correlation, int) else None
        if answer is None or answer.done():
            return
        properties = view.application_properties
        status = properties.get("status-code")
        if isinstance(status, int) and 200 <= status < 300:
            answer.set_result(None)
            return
        text = str(properties.get("status-description") or f"status {status}")
        name = UNAUTHORIZED if status == 401 else "amqp:internal-error"
        answer.set_exception(Detached(Condition(name, text)))
