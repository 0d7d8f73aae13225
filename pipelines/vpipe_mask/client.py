"""Masks of a running `vpipe mask`, for programs in Python.

::

    from vpipe_mask.client import watch

    for frame in watch("http://127.0.0.1:8800/", "cam1"):
        print(frame.pts_us, len(frame.outline.polygons))
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from urllib.parse import quote, urljoin

from vpipe.errors import ResourceError
from vpipe_mask.code import CodeError, Decoder, MaskFrame

USER = "vpipe"


def watch(url: str, stream: str, *, token: str | None = None, timeout_s: float | None = None) -> Iterator[MaskFrame]:
    """Yield a stream's masks as they come over a WebSocket; the first is the last key.

    Args:
        url: Of the feed server's page.
        stream: Its id.
        token: The server's, where it has one.
        timeout_s: For how long there may be no mask; None: for ever.

    Raises:
        ResourceError: The server is not there, does not know the stream, wants a token, or says good-bye.
        TimeoutError: There was no mask for so long.
    """
    import aiohttp

    async def connect() -> tuple[aiohttp.ClientSession, aiohttp.ClientWebSocketResponse]:
        session = aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"} if token else {})
        try:
            return session, await session.ws_connect(urljoin(url, f"streams/{quote(stream, safe='')}/feed"))
        except BaseException:
            await session.close()
            raise

    async def receive() -> aiohttp.WSMessage:
        async with asyncio.timeout(timeout_s):
            while (message := await socket.receive()).type is aiohttp.WSMsgType.TEXT:
                pass
            return message

    decoder = Decoder()
    with asyncio.Runner() as runner:
        try:
            session, socket = runner.run(connect())
        except aiohttp.ClientError as error:
            raise ResourceError(f"{url}: stream {stream}: no feed: {error}") from None
        try:
            while (message := runner.run(receive())).type is aiohttp.WSMsgType.BINARY:
                yield from _decoded(decoder, message.data)
            raise ResourceError(
                f"{url}: stream {stream}: the feed has ended: {socket.close_code} {message.extra or ''}"
            )
        finally:
            runner.run(session.close())


def subscribe(
    endpoint: str, stream: str, *, token: str | None = None, timeout_s: float | None = None
) -> Iterator[MaskFrame]:
    """Yield a stream's masks as they come over ZeroMQ; the first is the last key.

    Args:
        endpoint: What `--pub` names.
        stream: Its id.
        token: The server's, where it has one and the endpoint is TCP.
        timeout_s: For how long there may be no mask; None: for ever. ZeroMQ connects by itself, again and again.

    Raises:
        TimeoutError: There was no mask for so long.
    """
    import zmq

    decoder = Decoder()
    with zmq.Context() as context, context.socket(zmq.SUB) as socket:
        socket.linger = 0
        if token is not None and not endpoint.startswith("ipc:"):
            socket.plain_username, socket.plain_password = USER.encode(), token.encode()
        socket.connect(endpoint)
        socket.subscribe(f"{stream}/")
        while socket.poll(None if timeout_s is None else round(timeout_s * 1000)):
            yield from _decoded(decoder, socket.recv_multipart()[-1])
        raise TimeoutError(f"{endpoint}: stream {stream}: no mask for {timeout_s} s")


def _decoded(decoder: Decoder, data: bytes) -> Iterator[MaskFrame]:
    try:
        yield decoder.decode(data)
    except CodeError:  # its key was missed; the next key is at most two seconds away
        return
