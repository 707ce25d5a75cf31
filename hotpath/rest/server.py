"""The HTTP server: the routes on any number of listeners, and a clean stop.

Other edges may put routes of their own on the same port (AMQP over WebSocket does): they pass a
`mount` that is given the application before it starts.
"""

import asyncio
import ssl
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Final

from aiohttp import web
from typing_extensions import override

from hotpath.config import Endpoint
from hotpath.rest.calls import Call, Guard, Route
from hotpath.rest.health import expose
from hotpath.rest.middleware import REQUEST_ID_HEADER, decorate, guarded, outermost, request_id_of
from hotpath.rest.openapi import build_document
from hotpath.rest.problems import plain_problem, respond
from hotpath.rest.routes import METRICS_ROUTE, OPENAPI_PATH, ROUTES
from hotpath.rest.security import RateLimiter
from hotpath.rest.services import Services
from hotpath.telemetry import get_logger

#: Silence after which a connection is closed, seconds; also between connecting and a request.
IDLE_SECONDS: Final = 75.0
#: Connections that the kernel keeps waiting while the loop is busy.
_BACKLOG: Final = 1_024

_log = get_logger("hotpath.rest")

Mount = Callable[[web.Application], None]


class RestEdge:
    """The REST API of one service.

    Args:
        services: What the routes work on.
        mounts: Routes of others on the same port.
    """

    def __init__(self, services: Services, *, mounts: Sequence[Mount] = ()) -> None:
        self._services = services
        self.app = make_application(services)
        for mount in mounts:
            mount(self.app)
        self._runner = web.AppRunner(
            self.app,
            access_log=None,
            keepalive_timeout=IDLE_SECONDS,
            shutdown_timeout=services.settings.drain_seconds,
        )
        self._listeners: list[asyncio.Server] = []
        self._metrics_runner: web.AppRunner | None = None

    async def start(self, endpoint: Endpoint, context: ssl.SSLContext | None = None) -> int:
        """Listen on an endpoint, with TLS if there is a context; the bound port.

        Raises OSError.
        """
        if self._runner.server is None:
            await self._runner.setup()
        listener = await asyncio.get_running_loop().create_server(
            self._make_connection,
            endpoint.host or None,
            endpoint.port,
            ssl=context,
            ssl_handshake_timeout=self._handshake_seconds(context),
            backlog=_BACKLOG,
        )
        self._listeners.append(listener)
        return int(listener.sockets[0].getsockname()[1])

    async def start_metrics(self, endpoint: Endpoint) -> int:
        """Serve `/metrics`, and nothing else, on an address of its own; the bound port.

        Raises OSError.
        """
        application = web.Application()
        application.on_response_prepare.append(decorate)

        async def show(request: web.Request) -> web.Response:
            del request
            return expose(self._services.metrics)

        application.router.add_get("/metrics", show)
        self._metrics_runner = web.AppRunner(application, access_log=None)
        await self._metrics_runner.setup()
        site = web.TCPSite(self._metrics_runner, endpoint.host or None, endpoint.port)
        await site.start()
        return int(self._metrics_runner.addresses[0][1])

    async def stop_listening(self) -> None:
        """Take no new connections; those there are go on."""
        listeners, self._listeners = self._listeners, []
        for listener in listeners:
            listener.close()

    async def stop(self) -> None:
        """Answer what is under way, for `drain_seconds` at most, and close all connections."""
        await self.stop_listening()
        if self._runner.server is not None:
            await self._runner.cleanup()
        if self._metrics_runner is not None:
            await self._metrics_runner.cleanup()

    def _handshake_seconds(self, context: ssl.SSLContext | None) -> float | None:
        return None if context is None else self._services.settings.handshake_seconds

    def _make_connection(self) -> "_Connection":
        server = self._runner.server
        if server is None:
            raise RuntimeError("the server has not been set up")
        return _Connection(
            server,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=IDLE_SECONDS,
            access_log=None,  # type: ignore[arg-type]  # aiohttp's way to turn it off
            # A compressed body would be bounded before and unbounded after.
            auto_decompress=False,
        )


class _Connection(web.RequestHandler):
    """One connection; what is no HTTP is answered in the shape of all other errors."""

    @override
    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer a request that could not be parsed, and close the connection."""
        request_id = request_id_of(request)
        if status >= 500:
            extra = {"request_id": request_id, "remote": request.remote}
            _log.error("request failed", exc_info=exc, extra=extra)
        if request.writer.output_size > 0:
            raise ConnectionError("the response has begun already")
        detail = "the request is not valid HTTP" if status < 500 else "the request failed"
        response = respond(plain_problem(HTTPStatus(status), detail), request_id)
        response.headers[REQUEST_ID_HEADER] = request_id
        response.headers["Server"] = "hotpath"
        response.force_close()
        return response


def make_application(services: Services) -> web.Application:
    """All routes as one aiohttp application."""
    application = web.Application(middlewares=[outermost(services.metrics)])
    application.on_response_prepare.append(decorate)
    limiter = RateLimiter(services.settings)
    routes = list(ROUTES)
    if services.settings.metrics is None:
        routes.append(METRICS_ROUTE)
    document: dict[str, object] = {}

    async def show_document(call: Call) -> web.StreamResponse:
        del call
        return web.json_response(document)

    routes.append(Route("GET", OPENAPI_PATH, "showOpenApi", show_document, Guard.OPEN))
    document.update(build_document(routes))
    for route in routes:
        responder = guarded(route, services, limiter)
        # A GET route answers HEAD as well (RFC 9110 §9.3.2).
        if route.method == "GET":
            application.router.add_get(route.path, responder)
        else:
            application.router.add_route(route.method, route.path, responder)
    return application
