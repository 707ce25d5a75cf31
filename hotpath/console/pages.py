"""Serves `/console` and `/docs`: plain HTML, CSS and ES modules out of the package.

Nothing is built and nothing comes from elsewhere, so the pages work offline and the policy below
can forbid everything but this origin. They need no token: whoever opens them signs in within the
page, and all that is shown comes over the documented REST API.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from typing import Final

from aiohttp import web

CONSOLE_PATH: Final = "/console"
DOCS_PATH: Final = "/docs"

_TYPES: Final = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
_POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
#: Headers of every page and file (nosniff comes with every response of the service).
SECURITY_HEADERS: Final = {
    "Content-Security-Policy": _POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
}


@dataclass(frozen=True, slots=True)
class Asset:
    """One file, as it is sent."""

    body: bytes
    content_type: str
    etag: str


def read_assets() -> dict[str, Asset]:
    """All files of the package, by name. Raises OSError."""
    found = {}
    for entry in files("hotpath.console").joinpath("static").iterdir():
        kind = _TYPES.get(entry.name.rpartition(".")[2])
        if kind is not None:
            body = entry.read_bytes()
            tag = hashlib.sha256(body).hexdigest()[:32]
            found[entry.name] = Asset(body, kind, f'"{tag}"')
    return found


def console_mount() -> Callable[[web.Application], None]:
    """What puts the pages on an HTTP server. Raises OSError."""
    assets = read_assets()

    async def show_console(request: web.Request) -> web.Response:
        return _respond(request, assets["console.html"])

    async def show_docs(request: web.Request) -> web.Response:
        return _respond(request, assets["docs.html"])

    async def show_file(request: web.Request) -> web.Response:
        asset = assets.get(request.match_info["file"])
        if asset is None or asset.content_type.startswith("text/html"):
            raise web.HTTPNotFound
        return _respond(request, asset)

    async def drop_slash(request: web.Request) -> web.Response:
        # Relative, so that it holds behind a proxy that adds a prefix.
        name = request.path.strip("/").rpartition("/")[2]
        return web.Response(status=308, headers={"Location": f"../{name}"})

    def mount(application: web.Application) -> None:
        router = application.router
        router.add_get(CONSOLE_PATH, show_console)
        router.add_get(DOCS_PATH, show_docs)
        for path in (CONSOLE_PATH, DOCS_PATH):
            router.add_get(f"{path}/", drop_slash)
        router.add_get(f"{CONSOLE_PATH}/{{file}}", show_file)

    return mount


def _respond(request: web.Request, asset: Asset) -> web.Response:
    """A file, or that the caller has it already (RFC 9110 §13.1.2)."""
    headers = {**SECURITY_HEADERS, "ETag": asset.etag, "Cache-Control": "no-cache"}
    if asset.etag in request.headers.get("If-None-Match", ""):
        return web.Response(status=304, headers=headers)
    headers["Content-Type"] = asset.content_type
    return web.Response(body=asset.body, headers=headers)
