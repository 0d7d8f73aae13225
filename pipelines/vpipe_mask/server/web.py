"""The HTTP side: the page, what is known of the streams, masks by pts, figures, and the control of streams.

GET    /                                   the page
GET    /streams                            all streams
GET    /streams/ID                         one
GET    /streams/ID/feed                    WebSocket; see websocket.py      ?rate=MASKS_A_SECOND
GET    /streams/ID/mask?pts=SECONDS        the last mask not after pts      ?as=json|code|png ?max_age=SECONDS
GET    /streams/ID/masks?from=S&to=S       messages, each after its length (u32, little-endian)
GET    /streams/ID/video                   the file named at the start; byte ranges
GET    /streams/ID/comments                the comment file, as JSON
POST   /streams  {"url": ..., "id": ...}   add one
DELETE /streams/ID                         remove one
GET    /healthz, /metrics
"""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from aiohttp import WSCloseCode, web

from vpipe_mask.code import MaskFrame
from vpipe_mask.server import figures, render
from vpipe_mask.server.access import Access
from vpipe_mask.server.config import HTTP, ServerConfig
from vpipe_mask.server.feed import Mask
from vpipe_mask.server.hub import Hub, Stream
from vpipe_mask.server.websocket import FeedClient

STATIC = Path(__file__).with_name("static")
BODY_BYTES = 1 << 14
MAX_AGE_S = 1.0
"""A mask older than this at the pts asked for is none: comments show."""
RANGE_BYTES = 4 << 20
"""Of one answer to `/masks`."""
_LENGTH = struct.Struct("<I")

Forward = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]
"""Passes an order on to the engine and returns its answer."""


class Web:
    """The routes of one server."""

    def __init__(self, config: ServerConfig, hub: Hub, forward: Forward) -> None:
        self._config = config
        self._hub = hub
        self._forward = forward
        self._clients: set[FeedClient] = set()
        hub.on_event.append(self._tell)

    def application(self) -> web.Application:
        """Return what aiohttp runs."""
        app = web.Application(middlewares=[Access(self._config).middleware()], client_max_size=BODY_BYTES)
        app.on_shutdown.append(self._part)
        app.add_routes(
            [
                web.get("/", self._page),
                web.get("/healthz", self._health),
                web.get("/metrics", self._metrics),
                web.get("/streams", self._streams),
                web.post("/streams", self._add),
                web.options("/streams", self._allow),
                web.get("/streams/{id}", self._stream),
                web.delete("/streams/{id}", self._remove),
                web.options("/streams/{id}", self._allow),
                web.options("/streams/{id}/{what}", self._allow),
                web.get("/streams/{id}/feed", self._feed),
                web.get("/streams/{id}/mask", self._mask),
                web.get("/streams/{id}/masks", self._masks),
                web.get("/streams/{id}/video", self._video),
                web.get("/streams/{id}/comments", self._comments),
                web.get("/static/hls.js", self._hls_js),
                web.static("/static", STATIC),
            ]
        )
        return app

    def _find(self, request: web.Request) -> Stream:
        name = request.match_info["id"]
        stream = self._hub.streams.get(name)
        if stream is None:
            raise web.HTTPNotFound(text=f"stream {name}: there is none of that id; GET /streams lists them")
        return stream

    def _video_of(self, stream: Stream) -> str | None:
        return self._config.video_of(str(stream.id), stream.facts.get("url"))

    def _comments_of(self, stream: Stream) -> str | None:
        return self._config.comments_of(str(stream.id), stream.facts.get("url"))

    def _describe(self, stream: Stream) -> dict[str, Any]:
        video = self._video_of(stream)
        if video is not None and not HTTP.match(video):
            video = f"streams/{stream.id}/video"
        return {
            **stream.status(),
            "video": video,
            "comments": self._comments_of(stream) is not None,
            "hls_js": self._config.hls_js is not None,
        }

    async def _page(self, request: web.Request) -> web.StreamResponse:
        remote = {origin for video in self._config.videos.values() if HTTP.match(video) for origin in [_origin(video)]}
        allowed = " ".join(["'self'", "blob:", *sorted(remote)])
        policy = (
            f"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; media-src {allowed}; "
            f"connect-src {allowed}; worker-src 'self' blob:; base-uri 'none'; form-action 'none'; "
            "frame-ancestors 'none'"
        )
        return web.FileResponse(STATIC / "index.html", headers={"Content-Security-Policy": policy})

    async def _health(self, request: web.Request) -> web.Response:
        states = [stream.state for stream in self._hub.streams.values()]
        return web.json_response({"status": "ok", "streams": {state: states.count(state) for state in set(states)}})

    async def _metrics(self, request: web.Request) -> web.Response:
        body = figures.exposition(self._hub, clients=len(self._clients))
        return web.Response(body=body, headers={"Content-Type": figures.CONTENT_TYPE})

    async def _streams(self, request: web.Request) -> web.Response:
        return web.json_response({"streams": [self._describe(stream) for stream in self._hub.streams.values()]})

    async def _stream(self, request: web.Request) -> web.Response:
        return web.json_response(self._describe(self._find(request)))

    async def _allow(self, request: web.Request) -> web.Response:
        return web.Response(status=204)

    async def _add(self, request: web.Request) -> web.Response:
        try:
            async with asyncio.timeout(self._config.patience_s):
                wish = await request.json()
            url, name = wish["url"], wish.get("id")
            if not isinstance(url, str) or not (name is None or isinstance(name, str)):
                raise ValueError
        except (ValueError, TypeError, KeyError, AttributeError):
            raise web.HTTPBadRequest(text='the body must be JSON: {"url": "rtmp://...", "id": "cam1"}') from None
        except TimeoutError:
            raise web.HTTPRequestTimeout(text=f"the body did not come within {self._config.patience_s:g} s") from None
        return await self._order({"op": "add", "url": url, "id": name}, 201)

    async def _remove(self, request: web.Request) -> web.Response:
        return await self._order({"op": "remove", "id": self._find(request).id}, 200)

    async def _order(self, order: dict[str, Any], status: int) -> web.Response:
        answer = await self._forward(order)
        if not answer["ok"]:
            raise web.HTTPConflict(text=answer.get("error") or "the engine refused")
        return web.json_response({"id": answer.get("id", order["id"])}, status=status)

    async def _feed(self, request: web.Request) -> web.StreamResponse:
        stream = self._find(request)
        rate = _number(request, "rate", self._config.max_rate)
        if not rate > 0:
            raise web.HTTPBadRequest(text=f"rate: {rate}; it must be above 0")
        if len(self._clients) >= self._config.max_clients:
            raise web.HTTPServiceUnavailable(text=f"{len(self._clients)} clients already; try again later")
        client = FeedClient(stream, min(rate, self._config.max_rate))
        self._clients.add(client)
        try:
            return await client.run(request)
        finally:
            self._clients.discard(client)

    async def _mask(self, request: web.Request) -> web.Response:
        stream = self._find(request)
        newest = stream.feed.newest
        pts = _number(request, "pts", None if newest is None else newest.pts_us / 1e6)
        mask = None if pts is None else stream.feed.mask_at(round(pts * 1e6))
        if pts is None or mask is None:
            raise web.HTTPNotFound(text=f"stream {stream.id}: no mask is kept for pts {pts}")
        frame = mask.decode()
        age_s = pts - mask.pts_us / 1e6
        max_age_s = max(_number(request, "max_age", MAX_AGE_S), frame.duration_us / 1e6)
        if age_s > max_age_s:
            raise web.HTTPNotFound(
                text=f"stream {stream.id}: the last mask at pts {pts} is {age_s:.3f} s old, over {max_age_s:g} s"
            )
        kind = render.kind_of(request.query.get("as"), request.headers.get("Accept", ""))
        if kind is None:
            raise web.HTTPNotAcceptable(text="as: use json, code or png")
        headers = {"X-Mask-Pts": f"{frame.pts_us / 1e6:.6f}", "X-Mask-Epoch": str(frame.epoch)}
        return _rendered(kind, mask, frame, headers)

    async def _masks(self, request: web.Request) -> web.Response:
        feed = self._find(request).feed
        first, last = _number(request, "from", 0.0), _number(request, "to", 1e12)
        chosen = feed.between(_micros(first), _micros(last), RANGE_BYTES)
        body = b"".join(_LENGTH.pack(len(mask.data)) + mask.data for mask in chosen)
        return web.Response(body=body, content_type="application/octet-stream")

    async def _video(self, request: web.Request) -> web.StreamResponse:
        stream = self._find(request)
        video = self._video_of(stream)
        if video is None or HTTP.match(video) or not Path(video).is_file():
            raise web.HTTPNotFound(text=f"stream {stream.id}: no video file was named for it")
        return web.FileResponse(Path(video))

    async def _comments(self, request: web.Request) -> web.Response:
        path = self._comments_of(self._find(request))
        if path is None:
            return web.json_response({"comments": []})
        body = await asyncio.to_thread(render.comments_json, Path(path))
        return web.Response(body=body, content_type="application/json")

    async def _hls_js(self, request: web.Request) -> web.StreamResponse:
        if self._config.hls_js is None:
            raise web.HTTPNotFound(text="no hls.js was named at the start")
        return web.FileResponse(Path(self._config.hls_js), headers={"Content-Type": "text/javascript"})

    def _tell(self, stream: Stream) -> None:
        for client in self._clients:
            if client.stream is stream:
                client.mailbox.nudge()

    async def _part(self, app: web.Application) -> None:
        clients = list(self._clients)
        await asyncio.gather(*(client.close(WSCloseCode.GOING_AWAY, "the server ends") for client in clients))


def _rendered(kind: str, mask: Mask, frame: MaskFrame, headers: dict[str, str]) -> web.Response:
    match kind:
        case "code":
            return web.Response(body=render.code(mask, frame), content_type=render.CODE_TYPE, headers=headers)
        case "png":
            return web.Response(body=render.png(frame), content_type="image/png", headers=headers)
        case _:
            return web.Response(body=json.dumps(render.plain(frame)), content_type="application/json", headers=headers)


def _number(request: web.Request, name: str, default: Any) -> Any:
    text = request.query.get(name)
    if text is None:
        return default
    try:
        value = float(text)
        if not abs(value) < 1e12:  # also where it is no number
            raise ValueError
    except ValueError:
        raise web.HTTPBadRequest(text=f"{name}: '{text[:40]}' is not a number of seconds") from None
    return value


def _micros(seconds: float) -> int:
    return round(seconds * 1e6)


def _origin(url: str) -> str:
    return "/".join(url.split("/", 3)[:3])
