"""The HTTP server: the routes on any number of listeners, and a clean stop.

Other edges may put routes of their own on the same port (AMQP over WebSocket does): they pass a
`mount` that is given the application before it starts.
"""

import asyncio
import ssl
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Any, Final

from aiohttp import web
from typing_extensions import override

from hotpath.config import Endpoint
from hotpath.interpreter import release, socket_transport
from hotpath.ports import Clock, TimerHandle
from hotpath.rest.bodies import BODY_SECONDS
from hotpath.rest.calls import Call, Guard, Route
from hotpath.rest.health import expose
from hotpath.rest.listener import Admission, Listener, Ticket
from hotpath.rest.middleware import REQUEST_ID_HEADER, decorate, guarded, outermost, request_id_of
from hotpath.rest.openapi import build_document
from hotpath.rest.problems import plain_problem, respond
from hotpath.rest.routes import METRICS_ROUTE, OPENAPI_PATH, ROUTES
from hotpath.rest.security import RateLimiter
from hotpath.rest.services import Services
from hotpath.telemetry import get_logger

#: Silence after which a connection is closed, seconds; also between connecting and a request.
IDLE_SECONDS: Final = 75.0

_log = get_logger("hotpath.rest")

Mount = Callable[[web.Application], None]


class RestEdge:
    """The REST API of one service.

    Args:
        services: What the routes work on.
        mounts: Routes of others on the same port.
        routes: Operations of others, guarded and documented like those of this edge.
    """

    def __init__(
        self,
        services: Services,
        *,
        mounts: Sequence[Mount] = (),
        routes: Sequence[Route] = (),
    ) -> None:
        self._services = services
        self.app = make_application(services, routes)
        for mount in mounts:
            mount(self.app)
        self._runner = web.AppRunner(
            self.app,
            access_log=None,
            keepalive_timeout=IDLE_SECONDS,
            # aiohttp waits twice so long: for the responders, then for their tasks.
            shutdown_timeout=services.settings.drain_seconds / 2,
        )
        self.admission = Admission(services.settings, services.metrics, services.clock)
        self._listeners: list[Listener] = []
        self._metrics_runner: web.AppRunner | None = None

    async def start(self, endpoint: Endpoint, context: ssl.SSLContext | None = None) -> int:
        """Listen on an endpoint, with TLS if there is a context; the bound port.

        Raises OSError.
        """
        if self._runner.server is None:
            await self._runner.setup()
        listener = Listener(
            self._make_connection,
            admission=self.admission,
            clock=self._services.clock,
            tls=context,
            handshake_seconds=self._services.settings.handshake_seconds,
        )
        port = await listener.start(endpoint)
        self._listeners.append(listener)
        return port

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
        self._metrics_runner = web.AppRunner(application, access_log=None, shutdown_timeout=1)
        await self._metrics_runner.setup()
        site = web.TCPSite(self._metrics_runner, endpoint.host or None, endpoint.port)
        await site.start()
        return int(self._metrics_runner.addresses[0][1])

    async def stop_listening(self) -> None:
        """Take no new connections; those there are go on."""
        listeners, self._listeners = self._listeners, []
        for listener in listeners:
            await listener.close()

    async def stop(self) -> None:
        """Answer what is under way, for `drain_seconds` at most, and close all connections."""
        await self.stop_listening()
        if self._runner.server is not None:
            await self._runner.cleanup()
        if self._metrics_runner is not None:
            await self._metrics_runner.cleanup()

    def _make_connection(self, ticket: Ticket) -> "_Connection":
        server = self._runner.server
        if server is None:
            raise RuntimeError("the server has not been set up")
        return _Connection(
            server,
            clock=self._services.clock,
            head_ms=round(self._services.settings.http_header_seconds * 1000),
            ticket=ticket,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=IDLE_SECONDS,
            access_log=None,  # aiohttp's way to turn it off
            # A compressed body would be bounded before and unbounded after.
            auto_decompress=False,
        )


class _Connection(web.RequestHandler):
    """One connection; what is no HTTP is answered in the shape of all other errors.

    The head of a request must come whole in time: the first one from connecting on, later ones
    from their first byte on. Between requests, IDLE_SECONDS of silence end it.
    """

    def __init__(
        self,
        server: web.Server,
        *,
        clock: Clock,
        head_ms: int,
        ticket: Ticket,
        **options: Any,
    ) -> None:
        super().__init__(server, **options)
        self._clock = clock
        self._head_ms = head_ms
        self.ticket = ticket
        self._head_timer: TimerHandle | None = None
        self._socket_transport: asyncio.BaseTransport | None = None

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._socket_transport = socket_transport(transport)
        self.ticket.evict = self._abort
        self._expect_head()

    @override
    def data_received(self, data: bytes) -> None:
        heads = self._request_count
        # While it waits for a request, what comes is the head of one.
        is_head = self._waiter is not None and not self._messages
        super().data_received(data)
        if self._request_count > heads:
            self._forget_timer()
        elif is_head and self._head_timer is None:
            self._expect_head()

    @override
    def connection_lost(self, exc: BaseException | None) -> None:
        self._forget_timer()
        self.ticket.leave()
        release(self._socket_transport)
        lingering = self._task_handler if self._current_request is None else None
        super().connection_lost(exc)
        if lingering is not None:
            # What is left of a body that was answered unread: aiohttp would wait ten seconds for it.
            lingering.cancel()

    def _expect_head(self) -> None:
        due_ms = self._clock.ticks_ms() + self._head_ms
        self._head_timer = self._clock.call_at(due_ms, self._head_is_late)

    def _forget_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _abort(self) -> None:
        if self.transport is not None:
            self.transport.abort()

    def _head_is_late(self) -> None:
        self._head_timer = None
        if self.transport is not None:
            _log.info("connection closed", extra={"reason": "no request came in time"})
            self.transport.abort()

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


def make_application(services: Services, others: Sequence[Route] = ()) -> web.Application:
    """All routes as one aiohttp application."""
    application = web.Application(middlewares=[outermost(services.metrics)])
    application.on_response_prepare.append(decorate)
    application[BODY_SECONDS] = services.settings.http_body_seconds
    limiter = RateLimiter(services.settings)
    routes = [*ROUTES, *others]
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
