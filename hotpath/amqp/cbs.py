"""The `$cbs` node: put-token requests bring a connection its rights.

Anybody may attach to it. A grant covers what the token says; whether that exists is asked when a
link attaches to it.
"""

from typing import Final

from hotpath.amqp.conditions import condition_of, status_of
from hotpath.amqp.context import Host
from hotpath.amqp.node import RequestNode
from hotpath.amqp.requests import Request, encode_reply
from hotpath.model.errors import HotpathError, Invalid, LimitReached, Unsupported, Violation
from hotpath.wire.types import Int, Symbol

#: A request holds a token and little else.
REQUEST_BYTES_MAX: Final = 65_536
AUDIENCE_MAX: Final = 4_096

OK: Final = 200


class CbsNode:
    """The `$cbs` node of one connection.

    Attributes:
        node: Its links and its queue.
    """

    def __init__(self, host: Host) -> None:
        self.node = RequestNode(host, self._answer, request_bytes_max=REQUEST_BYTES_MAX)
        self._host = host

    def close(self) -> None:
        """Drop what waits."""
        self.node.close()

    async def _answer(self, request: Request) -> bytes:
        try:
            await self._carry_out(request)
        except HotpathError as error:
            self._host.audit("putToken", reason=error.detail, audience=_audience(request))
            return _reply(request, status_of(error), error.detail, condition_of(error).name)
        return _reply(request, OK, "OK", None)

    async def _carry_out(self, request: Request) -> None:
        """Put a token. Raises HotpathError."""
        operation = request.properties.get("operation")
        if operation != "put-token":
            raise Unsupported(f"operation {str(operation)[:100]!r} is not supported")
        audience = request.properties.get("name")
        if not isinstance(audience, str) or len(audience) > AUDIENCE_MAX:
            raise Invalid([Violation("`name` must be the audience, a string")])
        # The `type` tells nothing: clients send shared access signatures as type jwt.
        token = (
            request.body.decode("utf-8", "replace")
            if isinstance(request.body, bytes)
            else (request.body)
        )
        if not isinstance(token, str):
            raise Invalid([Violation("the body must be the token, a string")])
        grant = await self._host.context.access.by_token(token, audience)
        if not self._host.admit(audience, grant):
            raise LimitReached("this connection holds as many tokens as are allowed")
        self._host.audit("putToken", grant=grant, audience=audience, until_ms=grant.until_ms)


def _audience(request: Request) -> str | None:
    audience = request.properties.get("name")
    return audience if isinstance(audience, str) else None


def _reply(request: Request, status: int, description: str, condition: str | None) -> bytes:
    """Encode a reply; its status-code is an int (32 bits), as clients insist."""
    properties: dict[str, object] = {
        "status-code": Int(status),
        "status-description": description,
    }
    if condition is not None:
        properties["error-condition"] = Symbol(condition)
    return encode_reply(request, properties)
