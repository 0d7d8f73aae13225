"""Live streams that scripts send, and can break in every way, and an ear at the feed that is made of them."""

from __future__ import annotations

import contextlib
import itertools
import random
import socket
import threading
import time
from collections import defaultdict, deque
from pathlib import Path
from typing import NamedTuple

import zmq

from tests.live import Feeder, free_port
from tests.media import ffmpeg, folder
from tests.nginx import RtmpServer
from vpipe_mask.code import APPLIED, peek

PERSON = Path(__file__).resolve().parents[1] / "samples" / "person-good.mp4"
RATE = 10
"""Of small streams: frames a second."""
SIZES = "320x180", "480x270"
CLIP_S = 40
WRAP_S = 2**33 / 90000
"""Where the time of MPEG-TS begins anew."""
GARBAGE_S, DATAGRAM = 1.0, 7 * 188


def person_clip(size: str, rate: int = RATE) -> Path:
    """Return somebody in motion, as a live encoder would send it, with a keyframe every second; made once."""
    path = folder() / f"person-{size}-{rate}.mp4"
    if not path.exists():
        picture = f"fps={rate},scale={size.replace('x', ':')}"
        coder = ["-c:v", "libx264", "-preset", "veryfast", "-tune", "zerolatency", "-g", str(rate), *_bits(size, rate)]
        part = path.with_name(f"part-{path.name}")
        ffmpeg("-stream_loop", "-1", "-i", str(PERSON), "-t", str(CLIP_S), "-an", "-vf", picture, *coder, str(part))
        part.replace(path)
    return path


def _bits(size: str, rate: int) -> list[str]:
    """At a constant rate: 4.5 Mbit/s at 1080p30, less for less."""
    width, height = map(int, size.split("x"))
    bits = str(round(4_500_000 * width * height * rate / (1920 * 1080 * 30)))
    return ["-b:v", bits, "-maxrate", bits, "-bufsize", bits]


def _sent(size: str, *output: str) -> Feeder:
    return Feeder("-re", "-stream_loop", "-1", "-i", person_clip(size), "-c", "copy", "-an", *output)


class Rtmp:
    """Streams by way of an RTMP server, which can be killed with its senders."""

    def __init__(self, names: list[str]) -> None:
        self._server = RtmpServer()
        self.urls = {name: self._server.url(name) for name in names}
        self.feeders = {name: _sent(SIZES[0], "-f", "flv", url) for name, url in self.urls.items()}

    def start(self) -> None:
        """Start the server, then the senders."""
        self._server.start()
        for feeder in self.feeders.values():
            feeder.start()

    def kill(self) -> None:
        """Kill them all."""
        self._server.kill()
        for feeder in self.feeders.values():
            feeder.stop()


class Transport:
    """A stream of MPEG-TS over UDP, whose time and picture can change, and which can be mixed with garbage."""

    def __init__(self) -> None:
        for size in SIZES:
            person_clip(size)  # not when it is wanted
        self._port = free_port(socket.SOCK_DGRAM)
        self.url = f"udp://127.0.0.1:{self._port}"
        self._feeder: Feeder | None = None
        self._size = SIZES[0]
        self._began = time.monotonic()
        self._offset_s = 10.0

    @property
    def time_s(self) -> float:
        """The stream's own time, as it goes on."""
        return (self._offset_s + time.monotonic() - self._began) % WRAP_S

    def start(self, offset_s: float | None = None, *, other_size: bool = False) -> None:
        """Send from now on, at another time or in another size if so asked, in place of what was sent."""
        offset_s = self.time_s if offset_s is None else offset_s
        self.kill()
        if other_size:
            self._size = SIZES[1 - SIZES.index(self._size)]
        self._offset_s, self._began = offset_s, time.monotonic()
        to = f"{self.url}?pkt_size={DATAGRAM}"
        more = ["-output_ts_offset", f"{offset_s:.3f}", "-muxdelay", "0", "-muxpreload", "0"]
        self._feeder = _sent(self._size, *more, "-f", "mpegts", to).start()

    def kill(self) -> None:
        """Send nothing any more."""
        if self._feeder is not None:
            self._feeder.stop()
            self._feeder = None

    def disturb(self, draw: random.Random) -> None:
        """Send garbage among it, as much again as the stream itself."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
            until = time.monotonic() + GARBAGE_S
            while time.monotonic() < until:
                out.sendto(draw.randbytes(DATAGRAM), ("127.0.0.1", self._port))
                time.sleep(0.02)


class Heard(NamedTuple):
    """A mask that came over the feed."""

    at: float
    """time.monotonic()"""
    epoch: int
    pts_us: int
    late_ms: float
    """Since its packet had arrived at the engine."""
    applied: bool
    """Whether there is somebody to be seen."""
    size: int
    """In bytes."""


class Ear:
    """A subscriber to the whole feed over ZeroMQ; remembers the last messages of each stream.

    Args:
        endpoint: Of the feed server.
        rate: Frames a second of all streams.
        kept_s: How long it remembers.
    """

    def __init__(self, endpoint: str, rate: int = RATE, kept_s: int = 60) -> None:
        self._endpoint, self._rate = endpoint, rate
        self._heard: dict[str, deque[Heard]] = defaultdict(lambda: deque(maxlen=kept_s * rate))
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        with zmq.Context() as context, context.socket(zmq.SUB) as feed:
            feed.linger = 0
            feed.connect(self._endpoint)
            feed.subscribe("")
            while not self._done.is_set():
                if feed.poll(100):
                    topic, data = feed.recv_multipart()
                    if data:
                        late_us = time.time_ns() // 1000 - (found := peek(data)).arrival_us
                        applied = bool(data[3] & APPLIED)
                        heard = Heard(time.monotonic(), found.epoch, found.pts_us, late_us / 1000, applied, len(data))
                        self._heard[topic.decode().rstrip("/")].append(heard)

    def since(self, name: str, at: float) -> list[Heard]:
        """Return what was heard of a stream after a moment."""
        while True:
            with contextlib.suppress(RuntimeError):  # it has grown meanwhile
                return [heard for heard in self._heard[name] if heard.at > at]

    def silence_s(self, name: str, since: float, until: float) -> float:
        """Return the longest time that nothing was heard of a stream between two moments."""
        times = [since, *(heard.at for heard in self.since(name, since) if heard.at < until), until]
        return max(b - a for a, b in itertools.pairwise(times))

    def lost(self, name: str, since: float) -> tuple[int, int]:
        """Return how many frames of a stream had no mask after a moment, and how many epochs began."""
        heard = self.since(name, since)
        pairs = list(itertools.pairwise(heard))
        frames = [round((b.pts_us - a.pts_us) * self._rate / 1e6) - 1 for a, b in pairs if a.epoch == b.epoch]
        return sum(frames), sum(a.epoch != b.epoch for a, b in pairs)

    def close(self) -> None:
        """Listen no more."""
        self._done.set()
        self._thread.join()
