"""The feeds over ZeroMQ: a PUB socket (XPUB inside), one topic a stream, the last key on subscribe.

A message has two parts: the topic, `ID/` (the slash, since `cam1` would also match `cam10`), and the bytes. Slow
subscribers lose messages at libzmq's high-water mark; the server never waits for one.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from pathlib import Path

import zmq
import zmq.asyncio
from zmq.auth.asyncio import AsyncioAuthenticator

from vpipe.errors import ResourceError
from vpipe_mask.server.feed import Mask
from vpipe_mask.server.hub import Hub, Stream

QUEUE = 64
"""Messages a subscriber that may wait in this process."""
DOMAIN = "vpipe-mask"
USER = "vpipe"
"""User name of subscribers over TCP where a token is set; the token is the password (mechanism PLAIN)."""
NO_TOPIC = b"\xff"


class Publisher:
    """Publishes every mask of every stream until it is closed; needs a running event loop.

    Args:
        hub: Whose masks.
        endpoint: `ipc://PATH` or `tcp://HOST:PORT`.
        token: What subscribers over TCP must know; who may use an `ipc://` socket is the file system's affair.

    Raises:
        ResourceError: The endpoint is not to be had.
    """

    def __init__(self, hub: Hub, endpoint: str, token: str | None) -> None:
        self._hub = hub
        self._context = zmq.asyncio.Context()
        self._socket: zmq.Socket[bytes] = zmq.Socket(self._context, zmq.XPUB)
        self._guard: AsyncioAuthenticator | None = None
        self._path = Path(endpoint.removeprefix("ipc://")) if endpoint.startswith("ipc://") else None
        for option, value in (
            (zmq.LINGER, 0),
            (zmq.SNDHWM, QUEUE),
            (zmq.MAXMSGSIZE, 1 << 12),  # of what subscribers send
            (zmq.XPUB_MANUAL_LAST_VALUE, 1),  # what is sent right after a subscription goes to that subscriber alone
        ):
            self._socket.setsockopt(option, value)
        if token is not None and self._path is None:
            self._guard = AsyncioAuthenticator(self._context)
            self._guard.start()
            self._guard.configure_plain(domain=DOMAIN, passwords={USER: token})
            self._socket.plain_server = True
            self._socket.zap_domain = DOMAIN.encode()
        try:
            before = os.umask(0o177)  # an ipc socket is its owner's alone
            try:
                self._socket.bind(endpoint)
            finally:
                os.umask(before)
        except zmq.ZMQError as error:
            self.close()
            raise ResourceError(
                f"--pub {endpoint}: cannot be bound: {error.strerror}; choose another, or end what uses it"
            ) from None
        self.endpoint = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)
        """With the port in use."""
        hub.on_mask.append(self._publish)
        asyncio.get_running_loop().add_reader(self._socket.fileno(), self._welcome)
        self._welcome()

    def _publish(self, stream: Stream, mask: Mask) -> None:
        self._send(f"{stream.id}/".encode(), mask.data)
        self._welcome()  # the descriptor tells of news once only, and sending may be what took it in

    def _send(self, topic: bytes, data: bytes) -> None:
        # An XPUB never waits: what a subscriber's queue cannot take is dropped for that subscriber.
        self._socket.send_multipart([topic, data], flags=zmq.DONTWAIT)

    def _welcome(self) -> None:
        """Send new subscribers the last key of what they asked for."""
        # In one go, and not as a task: from the moment its wish is read the next message, whatever it is, goes to this
        # subscriber alone; so it must not be anybody's mask.
        while self._socket.poll(0):
            message = self._socket.recv()
            order, topic = message[:1], message[1:]
            keys = {}
            if order == b"\1":
                self._socket.set(zmq.SUBSCRIBE, topic)
                for name, stream in self._hub.streams.items():
                    if stream.feed.key is not None and f"{name}/".encode().startswith(topic):
                        keys[f"{name}/".encode()] = stream.feed.key.data
            elif order == b"\0":
                self._socket.set(zmq.UNSUBSCRIBE, topic)
            for each, data in (keys or {NO_TOPIC: b""}).items():
                self._send(each, data)

    def close(self) -> None:
        """Stop publishing and give the endpoint back."""
        asyncio.get_running_loop().remove_reader(self._socket.fileno())
        if self._guard is not None:
            self._guard.stop()
        self._socket.close()
        self._context.term()
        if self._path is not None:
            with suppress(OSError):
                self._path.unlink()
