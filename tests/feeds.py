"""Feeds of masks whose every pixel is known, without an engine: what tests of the feed server and of its page send.

blob(x, y, radius)           a mask with one round person
Feeder(server, number, id)   sends masks of one stream to a server as the engine would
ask(url, ...)                an HTTP request; returns status, headers and body
"""

from __future__ import annotations

import dataclasses
import http.client
import json
import os
import struct
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from vpipe_mask.code import WHOLE, Decoder, Encoder, MaskFrame, is_key
from vpipe_mask.outline import Outline, trace
from vpipe_mask.server import FeedServer

DEADLINE_S = 30.0
INFO = {"width": 640, "height": 360, "rotation": 0, "start_pts": 0, "time_base": [1, 1000], "frame_rate": 25.0}


def blob(x: float, y: float, radius: float, width: int = 320, height: int = 180) -> NDArray[np.uint8]:
    rows, columns = np.mgrid[:height, :width]
    return np.where((columns + 0.5 - x) ** 2 + (rows + 0.5 - y) ** 2 < radius**2, 255, 0).astype(np.uint8)


def outline_at(pts_s: float) -> Outline:
    """A person who walks to the right, 40 pixels a second."""
    return trace(blob(60 + 40 * (pts_s % 5), 90, 40))


class Feeder:
    """Sends masks of one stream; `sent` has them as a decoder sees them.

    Args:
        server: Where to.
        number: Of the stream, as the engine counts.
        name: Its id.
        look: The outline at a time in seconds.
    """

    def __init__(
        self, server: FeedServer, number: int = 0, name: str = "cam1", look: Callable[[float], Outline] = outline_at
    ) -> None:
        self.server = server
        self.number = number
        self.name = name
        self.look = look
        self.epoch = 0
        self.sequence = 0
        self.sent: list[MaskFrame] = []
        self.data: list[bytes] = []
        self._encoder = Encoder()
        self._decoder = Decoder()

    def tell(self, event: str, **more: Any) -> None:
        """Send an event as the engine does: the facts of a stream come when it is live."""
        values = {"url": "rtmp://example/live", "epoch": self.epoch, "reason": None, "retry_s": None}
        values["info"] = INFO if event == "live" else None
        self.server.event({"event": event, "stream": self.number, "id": self.name, **values, **more})

    def send(self, pts_s: float, *, applied: bool = True, duration_s: float = 0.04) -> MaskFrame:
        frame = MaskFrame(
            epoch=self.epoch,
            sequence=self.sequence,
            pts_us=round(pts_s * 1e6),
            duration_us=round(duration_s * 1e6),
            arrival_us=time.time_ns() // 1000,
            rect=WHOLE,
            rotation=0,
            applied=applied,
            outline=self.look(pts_s),
        )
        self.sequence += 1
        data = self._encoder.encode(frame)
        self.packet(struct.pack("<I", self.number) + data)
        self.data.append(data)
        self.sent.append(self._decoder.decode(data))
        return self.sent[-1]

    def packet(self, data: bytes) -> None:
        """Send bytes as they are; waits where the outlet is full, as the engine would not."""
        deadline = time.monotonic() + DEADLINE_S
        while True:
            try:
                os.write(self.server.outlet, data)
                return
            except BlockingIOError:
                assert time.monotonic() < deadline, "the server does not read"
                time.sleep(0.001)

    def restart(self) -> None:
        """Go on in a new epoch."""
        self.epoch += 1
        self.sequence = 0
        self._encoder = Encoder()


@dataclasses.dataclass(frozen=True)
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def ask(
    server: FeedServer,
    path: str,
    *,
    method: str = "GET",
    token: str | None = None,
    body: Any = None,
    headers: dict[str, str] | None = None,
) -> Answer:
    parts = urlsplit(str(server.url))
    connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=DEADLINE_S)
    try:
        more = {"Authorization": f"Bearer {token}"} if token else {}
        content = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        connection.request(method, path, body=content, headers={**more, **(headers or {})})
        response = connection.getresponse()
        return Answer(response.status, response.headers, response.read())
    finally:
        connection.close()


def wait_until(condition: Callable[[], Any], what: str) -> Any:
    """Wait until something is true, and return it."""
    deadline = time.monotonic() + DEADLINE_S
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {DEADLINE_S:.0f} s: {what}"
        time.sleep(0.01)
    return found


def ten_masks(server: FeedServer) -> Feeder:
    """The live stream `cam1`, which has sent ten masks."""
    feeder = Feeder(server)
    feeder.tell("live")
    for index in range(10):
        feeder.send(index / 25)
    settled(feeder)
    return feeder


def keys(feeder: Feeder) -> list[bytes]:
    """The messages that stand for themselves."""
    return [data for data in feeder.data if is_key(data)]


def settled(feeder: Feeder) -> None:
    """Wait until the server has all that was sent."""
    wait_until(lambda: status(feeder.server, feeder.name)["figures"]["masks"] >= len(feeder.sent), "masks arrive")


def status(server: FeedServer, name: str) -> Any:
    """What the server tells of a stream."""
    return ask(server, f"/streams/{name}").json


def decoded(data: bytes) -> list[MaskFrame]:
    """What `/masks` returns."""
    decoder, found = Decoder(), []
    while data:
        (length,) = struct.unpack_from("<I", data)
        found.append(decoder.decode(data[4 : 4 + length]))
        data = data[4 + length :]
    return found
