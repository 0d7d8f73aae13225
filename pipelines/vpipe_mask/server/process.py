"""The feed server's process: one event loop over the outlet, the control channel, HTTP and ZeroMQ.

Started by `FeedServer` as `python -m vpipe_mask.server FD PARENT`. The first message on the control channel is the
whole configuration; a closed channel ends the process, and so does its parent's death.

    in:   {"op": "start", "config": {...}, "outlet": FD}
          {"op": "event", "event": "live", "stream": 1, "id": "cam1", ...}
          {"op": "answer", "request": 1, "ok": true, "error": null}
          {"op": "stats", "streams": {ID: {...}}}
          {"op": "stop"}
    out:  {"op": "ready", "address": [HOST, PORT] | null, "pub": ENDPOINT | null}
          {"op": "add", "url": ..., "id": ..., "request": 1}
          {"op": "remove", "id": ..., "request": 2}
          {"op": "crash", "kind": ..., "error": ...}
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
import traceback
from typing import Any

from vpipe.control import Channel, Message, enlist
from vpipe.errors import ResourceError, VpipeError
from vpipe_mask.server.config import ServerConfig
from vpipe_mask.server.hub import Hub

PACKET_BYTES = 1 << 16
PACKETS = 64
"""Packets taken from the outlet before clients have their turn."""
ANSWER_S = 30.0
"""How long an order may take in the engine."""
CRASHED = 70
"""Exit code of a process that reported why it ends (EX_SOFTWARE of sysexits.h)."""


class Process:
    """Everything of one server, from the first message to the last."""

    def __init__(self, channel: Channel, config: ServerConfig, outlet: socket.socket) -> None:
        self._channel = channel
        self._config = config
        self._outlet = outlet
        self._hub = Hub(config)
        self._numbers = itertools.count(1)
        self._orders: dict[int, asyncio.Future[Message]] = {}
        self._done = asyncio.Event()
        self._error: BaseException | None = None

    async def run(self) -> None:
        """Serve until told to stop.

        Raises:
            ResourceError: An address is not to be had.
        """
        # Not at the top: a server that only publishes needs no HTTP, and the other way round.
        async with contextlib.AsyncExitStack() as stack:
            address = pub = None
            if self._config.record is not None:
                from vpipe_mask.server.recorder import Recorder

                stack.push_async_callback(Recorder(self._hub, self._config).close)
            if self._config.pub is not None:
                from vpipe_mask.server.publish import Publisher

                publisher = Publisher(self._hub, self._config.pub, self._config.token)
                stack.callback(publisher.close)
                pub = publisher.endpoint
            if self._config.host is not None:
                from vpipe_mask.server.listen import Listener

                listener = Listener(self._config, self._hub, self._order)
                stack.push_async_callback(listener.close)
                address = await listener.open()
            loop = asyncio.get_running_loop()
            for fileno, reader in ((self._channel.fileno(), self._hear), (self._outlet.fileno(), self._drain)):
                loop.add_reader(fileno, self._guarded, reader)
                stack.callback(loop.remove_reader, fileno)
            self._channel.send({"op": "ready", "address": address, "pub": pub})
            await self._done.wait()
        if self._error is not None:
            raise self._error

    def _guarded(self, reader: Any) -> None:
        """Run a reader; what it raises is our own fault and ends the process, which is then started again."""
        try:
            reader()
        except Exception as error:
            self._error = error
            self._done.set()

    def _drain(self) -> None:
        for _ in range(PACKETS):
            try:
                data = self._outlet.recv(PACKET_BYTES)
            except BlockingIOError:
                return
            if not data:  # the engine is gone; clients may go on asking for what was
                asyncio.get_running_loop().remove_reader(self._outlet.fileno())
                return
            self._hub.packet(data)

    def _hear(self) -> None:
        for message in self._channel.receive():
            match message["op"]:
                case "event":
                    self._hub.event(message)
                case "stats":
                    self._hub.stats(message["streams"])
                case "answer" if message["request"] in self._orders:
                    self._orders.pop(message["request"]).set_result(message)
                case "stop":
                    self._done.set()
        if self._channel.closed:
            self._done.set()

    async def _order(self, order: Message) -> Message:
        number = next(self._numbers)
        answer: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._orders[number] = answer
        self._channel.send({**order, "request": number})
        try:
            async with asyncio.timeout(ANSWER_S):
                return await answer
        except TimeoutError:
            return {"ok": False, "error": f"the engine did not answer within {ANSWER_S:.0f} s"}
        finally:
            self._orders.pop(number, None)


async def _serve(channel: Channel, config: ServerConfig, outlet: socket.socket) -> None:
    await Process(channel, config, outlet).run()


def main() -> int:
    """Run the server until its parent ends it; the process's exit code."""
    channel, messages = enlist()
    if not messages:
        return 0
    outlet = socket.socket(fileno=messages[0]["outlet"])
    outlet.setblocking(False)
    try:
        asyncio.run(_serve(channel, ServerConfig.from_dict(messages[0]["config"]), outlet))
    except ImportError as error:
        return _crash(
            channel,
            ResourceError(f"the feed server needs {error.name}: pip install 'vpipe[live]' brings what is missing"),
        )
    except Exception as error:
        return _crash(channel, error)
    return 0


def _crash(channel: Channel, error: Exception) -> int:
    known = isinstance(error, VpipeError)
    if not known:
        traceback.print_exception(error)
    text = str(error) if known else traceback.format_exception_only(error)[-1].strip()
    channel.send({"op": "crash", "kind": type(error).__name__, "error": text, "known": known})
    return CRASHED
