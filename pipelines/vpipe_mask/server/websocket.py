"""The feed of a stream over a WebSocket: masks as binary messages, the stream's status as text, JSON.

A client is sent the status and the last key first, then every mask as it comes. It is asked for a sign of life (a ping)
four times a second; while it owes one for longer than `AHEAD_S`, nothing is sent, so that no more than about a second
of masks is ever on its way, whatever its link, its buffers or its program do. When it answers, it gets the newest.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress

from aiohttp import WSCloseCode, WSMsgType, web

from vpipe_mask.server.hub import Stream
from vpipe_mask.server.mailbox import Mailbox

PING_S = 0.25
AHEAD_S = 1.0
DEAD_S = 20.0
"""A client that owes a sign of life for so long is cut off."""
STATUS_S = 1.0
TALK = 20
"""Messages a second that a client may send; they are not read."""


class FeedClient:
    """One client of one stream.

    Args:
        stream: Whose feed it gets.
        max_rate: Masks a second.
    """

    def __init__(self, stream: Stream, max_rate: float) -> None:
        self.stream = stream
        self.mailbox = Mailbox(max_rate)
        self._socket = web.WebSocketResponse(autoping=False, max_msg_size=1 << 12, compress=False, timeout=2.0)
        self._loop = asyncio.get_running_loop()
        self._pinged = 0.0
        self._owes: float | None = None
        """When the ping was sent that it has not answered."""
        self._told = float("-inf")

    async def run(self, request: web.Request) -> web.WebSocketResponse:
        """Serve it until it leaves, dies, or its stream is removed."""
        feed = self.stream.feed
        await self._socket.prepare(request)
        for mask in (feed.key, feed.newest):
            if mask is not None:
                self.mailbox.put(mask)
        self.mailbox.newest_only()
        feed.listeners.add(self.mailbox.put)
        reading = asyncio.create_task(self._read())
        try:
            await self._write()
        except (ConnectionError, TimeoutError):
            # It is gone, or takes nothing more: there is no one to say good-bye to.
            if request.transport is not None:
                request.transport.abort()
        finally:
            feed.listeners.discard(self.mailbox.put)
            reading.cancel()
            with suppress(asyncio.CancelledError):
                await reading
        return self._socket

    async def close(self, code: int, why: str) -> None:
        """Say good-bye."""
        await self._socket.close(code=code, message=why.encode())

    async def _write(self) -> None:
        while not self._socket.closed:
            await self.mailbox.wait(PING_S)
            now = self._loop.time()
            waited_s = 0.0 if self._owes is None else now - self._owes
            if waited_s > DEAD_S:
                raise TimeoutError
            if waited_s > AHEAD_S:
                self.mailbox.newest_only()
                await asyncio.sleep(PING_S / 10)
                continue
            async with asyncio.timeout(DEAD_S):
                await self._send(now)
            if self.stream.state == "removed":
                await self.close(WSCloseCode.GOING_AWAY, "the stream was removed")

    async def _send(self, now: float) -> None:
        if self.mailbox.news or now - self._told >= STATUS_S:
            self.mailbox.news = False
            self._told = now
            await self._socket.send_str(json.dumps(self.stream.status()))
        for data in self.mailbox.take():
            await self._socket.send_bytes(data)
        if self._owes is None and now - self._pinged >= PING_S:
            self._owes = self._pinged = now
            await self._socket.ping()

    async def _read(self) -> None:
        second, said = 0, 0
        while True:
            message = await self._socket.receive()
            if message.type is WSMsgType.PONG:
                self._owes = None
                continue
            if message.type in (WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED, WSMsgType.ERROR):
                self.mailbox.nudge()
                return
            if message.type is WSMsgType.PING:
                await self._socket.pong(message.data)
            now = int(self._loop.time())
            second, said = now, said + 1 if now == second else 1
            if said > TALK:
                await self.close(WSCloseCode.POLICY_VIOLATION, f"over {TALK} messages a second")
                self.mailbox.nudge()
                return
