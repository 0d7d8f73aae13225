"""Who may ask the server for what: the token, the origin, the host name, and how large and slow a request may be."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Middleware

from vpipe_mask.server.config import ServerConfig, is_loopback

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

OPEN = ("/", "/healthz")
"""Paths that tell nothing of any stream; as does what is below `/static/`."""
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",  # a token may be in the address
}


class Access:
    """The rules of one server, as a middleware of aiohttp."""

    def __init__(self, config: ServerConfig) -> None:
        self._token = None if config.token is None else config.token.encode()
        self._origins = {origin.lower() for origin in config.origins}
        self._local = config.host is not None and is_loopback(config.host)

    def middleware(self) -> Middleware:
        """Return the rules in the form that aiohttp calls."""

        @web.middleware
        async def judge(request: web.Request, handler: Handler) -> web.StreamResponse:
            try:
                origin = self._judge_origin(request)
                self._judge_token(request)
                response = await handler(request)
            except web.HTTPException as error:
                response = web.json_response({"error": error.text or error.reason}, status=error.status)
                response.headers.update({name: error.headers[name] for name in ("Allow",) if name in error.headers})
                origin = request.get("origin")
            if not response.prepared:
                response.headers.update(HEADERS)
                response.headers.update(cors(origin))
                response.headers.setdefault("Cache-Control", "no-store")
            return response

        return judge

    def _judge_origin(self, request: web.Request) -> str | None:
        """Return the foreign origin that is let in; None for the server's own."""
        # A name that leads here only since someone's DNS says so must not make a stranger's page ours.
        if self._local and self._token is None and not is_loopback(urlsplit(f"//{request.host}").hostname or ""):
            raise web.HTTPForbidden(text=f"host {request.host}: this server answers to loopback names only")
        origin = request.headers.get("Origin")
        if origin is None or urlsplit(origin).netloc.lower() == request.host.lower():
            return None
        if origin.lower() not in self._origins:
            raise web.HTTPForbidden(text=f"origin {origin}: is not among the origins that this server lets in")
        request["origin"] = origin
        return origin

    def _judge_token(self, request: web.Request) -> None:
        if request.path in OPEN or request.path.startswith("/static/") or request.method == "OPTIONS":
            return
        if request.method not in ("GET", "HEAD") and self._token is None:
            raise web.HTTPForbidden(text="streams are added and removed with a token only; start with VPIPE_TOKEN set")
        if self._token is None:
            return
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            # Neither a WebSocket nor a <video> of a page can send headers.
            given = request.query.get("token", "") if request.method in ("GET", "HEAD") else ""
        if not hmac.compare_digest(given.strip().encode(errors="replace"), self._token):
            raise web.HTTPUnauthorized(text="token missing or wrong; send it as Authorization: Bearer TOKEN")


def cors(origin: str | None) -> dict[str, str]:
    """Return the headers that let a page of another origin read the answer."""
    if origin is None:
        return {}
    return {
        "Access-Control-Allow-Origin": origin,
        "Access-Control-Allow-Headers": "Authorization, Content-Type",
        "Access-Control-Allow-Methods": "GET, POST, DELETE",
        "Vary": "Origin",
    }
