"""A WebSocket client by hand, which reads when it is told to and not before."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

from tests.feeds import DEADLINE_S
from vpipe_mask.server import FeedServer


class RawClient:
    """One connection to the feed of a stream."""

    def __init__(self, server: FeedServer, stream: str, query: str = "") -> None:
        parts = urlsplit(str(server.url))
        self.socket = socket.create_connection((parts.hostname, parts.port), DEADLINE_S)
        self.socket.sendall(
            f"GET /streams/{stream}/feed{query} HTTP/1.1\r\nHost: {parts.netloc}\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
        )
        self.file = self.socket.makefile("rb")
        self.status = self.file.readline().split()[1]
        while self.file.readline().strip():
            pass

    def __enter__(self) -> RawClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()
        self.socket.close()

    def send(self, opcode: int, data: bytes) -> None:
        self.socket.sendall(bytes([0x80 | opcode, 0x80 | len(data)]) + bytes(4) + data)

    def message(self, wanted: int) -> bytes:
        """The next message of an opcode: 1 text, 2 binary, 8 close; pings are answered."""
        while True:
            head = self.file.read(2)
            if len(head) < 2:
                raise ConnectionError
            length = head[1] & 127
            if length >= 126:
                length = int.from_bytes(self.file.read(2 if length == 126 else 8), "big")
            data = self.file.read(length)
            if head[0] & 15 == 9:
                self.send(10, data)
            elif head[0] & 15 == wanted:
                return data
