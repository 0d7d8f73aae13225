"""The control channel between the supervisor and one worker.

Newline-delimited JSON objects over one end of a socket pair; every object has an `op`. A closed channel means that
the other side is gone. Frames never travel here, only orders and reports, a few a second.
"""

from __future__ import annotations

import json
import select
import signal
import socket
import sys
from typing import Any

from vpipe.child import bind_to_parent
from vpipe.errors import VpipeError

Message = dict[str, Any]

BUFFER_BYTES = 1 << 20
MAX_MESSAGE_BYTES = 16 << 20
"""A peer that sends more without a newline is broken or hostile (decode workers read untrusted media)."""


def _message(line: bytes | bytearray) -> Message:
    try:
        found = json.loads(line)
    except ValueError:
        found = None
    if not isinstance(found, dict) or not isinstance(found.get("op"), str):
        raise VpipeError(f"control: not a message: {bytes(line[:80])!r}")
    return found


class Channel:
    """One end of a control channel; never blocks on reading, and only blocks on sending where asked to."""

    def __init__(self, sock: socket.socket, *, blocking_send: bool) -> None:
        self._sock = sock
        self._blocking_send = blocking_send
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
        self._inward = bytearray()
        self._outward = bytearray()
        self.closed = False
        """The other side is gone."""

    @classmethod
    def pair(cls) -> tuple[Channel, socket.socket]:
        """Return the supervisor's end and the socket to hand to the worker."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        return cls(ours, blocking_send=False), theirs

    def fileno(self) -> int:
        """Return the descriptor to poll for reading."""
        return self._sock.fileno()

    def send(self, message: Message) -> None:
        """Queue a message and send what the socket takes now (a worker's end waits until all is sent)."""
        self._outward += json.dumps(message, separators=(",", ":")).encode("ascii") + b"\n"
        self.flush()

    def flush(self) -> None:
        """Send what is queued."""
        if self._blocking_send:
            self._sock.setblocking(True)
        try:
            while self._outward:
                sent = self._sock.send(self._outward)
                del self._outward[:sent]
        except BlockingIOError:
            pass
        except OSError:
            # The other side is gone, but what it said last may still be here: `receive` finds the end.
            self._outward.clear()
        finally:
            if self._blocking_send:
                self._sock.setblocking(False)

    def receive(self) -> list[Message]:
        """Return the messages that have come in; sets `closed` when the other side is gone.

        Raises:
            VpipeError: What came in is no message.
        """
        while not self.closed:
            try:
                data = self._sock.recv(1 << 16)
            except BlockingIOError:
                break
            except OSError:
                data = b""
            if not data:
                self.closed = True
                break
            self._inward += data
            if len(self._inward) > MAX_MESSAGE_BYTES and b"\n" not in self._inward:
                raise VpipeError(f"control: a message of over {MAX_MESSAGE_BYTES} bytes without an end")
        *lines, rest = self._inward.split(b"\n")
        self._inward = bytearray(rest)
        return [_message(line) for line in lines]

    def close(self) -> None:
        """Close this end; the other side sees the end of the stream."""
        self.closed = True
        self._sock.close()


def enlist() -> tuple[Channel, list[Message]]:
    """Become a child whose arguments begin with its end of a channel and its parent's process id.

    Returns:
        The channel, and the messages that came first; none if the parent is gone.
    """
    # Whoever sends these to all processes means the run; the parent alone decides what becomes of it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    bind_to_parent(int(sys.argv[2]))
    channel = Channel(socket.socket(fileno=int(sys.argv[1])), blocking_send=True)
    waiting = select.poll()
    waiting.register(channel.fileno(), select.POLLIN)
    messages: list[Message] = []
    while not messages and not channel.closed:
        waiting.poll()
        messages = channel.receive()
    return channel, messages
