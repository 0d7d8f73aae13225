"""How many live streams a machine carries: files played at their own pace, all at once, through the whole engine."""

from __future__ import annotations

import socket
import statistics
import threading
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from vpipe.errors import RunError
from vpipe.live import LiveRun
from vpipe.media.container import VideoFrame, create
from vpipe.pipeline import Pipeline

SETTLE_S = 3.0
"""Of every measurement: all streams have begun by then, and every cache is warm."""
START_S = 60.0


def make_clip(path: Path, width: int, height: int, seconds: float, rate: int = 30) -> None:
    """Write H.264 as a live encoder would: no B frames, a keyframe every two seconds, about 3 Mbit/s at 720p.

    A textured shape moves over a textured ground, so that the decoder has work to do.
    """
    rng = np.random.default_rng(0)
    coarse = rng.integers(40, 200, (height // 8 + 64, width // 8 + 64, 3), np.uint8)
    ground = np.repeat(np.repeat(coarse, 8, 0), 8, 1)
    shape = ground[::-1, ::-1][: height * 2 // 3, : width // 3] // 2 + 60
    bits = str(round(3_000_000 * width * height / (1280 * 720)))
    options = {"preset": "veryfast", "tune": "zerolatency", "g": str(2 * rate), "b": bits}
    with create(path, "mp4") as out:
        track = out.add_stream("libx264", rate=Fraction(rate), options=options)
        track.width, track.height, track.pix_fmt = width, height, "yuv420p"
        for number in range(round(seconds * rate)):
            shift = number * 2 % 256
            picture = ground[shift : shift + height, shift : shift + width].copy()
            left = round((1 + np.sin(number / 40)) / 2 * (width - shape.shape[1]))
            picture[height - shape.shape[0] :, left : left + shape.shape[1]] = shape
            frame = VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, rate)
            out.mux(track.encode(frame))
        out.mux(track.encode(None))


class _Outlet:
    """The other end of the outlet: takes what comes, as a feed server would, and counts it."""

    def __init__(self) -> None:
        self._ours, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.messages = self.bytes = 0
        self._thread = threading.Thread(target=self._take, daemon=True)
        self._thread.start()

    def _take(self) -> None:
        while packet := self._ours.recv(1 << 20):
            self.messages += 1
            self.bytes += len(packet)

    def close(self) -> None:
        self.theirs.close()
        self._thread.join()
        self._ours.close()


def measure_live(pipeline: Pipeline, clip: str, streams: int, seconds: float) -> dict[str, Any]:
    """Play a clip as so many streams at once and measure in mid-flight.

    Args:
        pipeline: What to run.
        clip: Longer than `seconds` and the time it takes to settle.
        streams: How many times it is played.
        seconds: How long to measure.

    Returns:
        `streams`, `fps` (messages a second, all streams), `carried` (share of frames that the model was not run on),
        `dropped` by reason, `p50_ms` and `p99_ms` from a packet's arrival to its message, `lag_ms` (the same at the end
        against the beginning: growing or not), `cpu_ms_per_frame`, `cores_busy`, `bytes_per_message`.

    Raises:
        RunError: The streams do not come up, or end too early.
    """
    outlet = _Outlet()
    try:
        with pipeline.live([clip] * streams, outlet=outlet.theirs.fileno()) as run:
            _wait_for_all(run, streams)
            time.sleep(SETTLE_S)
            before, began = run.counters(), time.monotonic()
            sent, sent_bytes = outlet.messages, outlet.bytes
            halves = []
            for _ in range(2):
                start = run.counters()["publish"]
                time.sleep(seconds / 2)
                halves.append((run.counters()["publish"] - start).quantile(0.5) * 1e3)
            after, passed = run.counters(), time.monotonic() - began
            states = [stream["state"] for stream in run.streams().values()]
            count, size = outlet.messages - sent, outlet.bytes - sent_bytes
    finally:
        outlet.close()
    if states != ["live"] * streams:
        live = states.count("live")
        raise RunError(f"bench live: of {streams} streams {live} were live to the end; use a longer clip")
    publish = after["publish"] - before["publish"]
    spent = {name: snapshot - before[name] for name, snapshot in after.items()}
    cpu_s = sum(snapshot.cpu_ns for snapshot in spent.values()) * 1e-9
    dropped: dict[str, int] = {}
    for snapshot in spent.values():
        for reason, number in snapshot.dropped.items():
            if number:
                dropped[str(reason)] = dropped.get(str(reason), 0) + number
    return {
        "streams": streams,
        "seconds": round(passed, 2),
        "fps": round(count / passed, 2),
        "carried": round(sum(snapshot.carried for snapshot in spent.values()) / max(count, 1), 4),
        "dropped": dropped,
        "p50_ms": round(publish.quantile(0.5) * 1e3, 2),
        "p99_ms": round(publish.quantile(0.99) * 1e3, 2),
        "lag_ms": [round(each, 2) for each in halves],
        "cpu_ms_per_frame": round(cpu_s / max(count, 1) * 1e3, 4),
        "cores_busy": round(cpu_s / passed, 3),
        "bytes_per_message": round(size / max(count, 1), 1),
    }


def carries(found: dict[str, Any], limit_ms: float) -> bool:
    """Return whether nothing was dropped and latency was within the limit."""
    return not found["dropped"] and found["p99_ms"] <= limit_ms


def _wait_for_all(run: LiveRun, streams: int) -> None:
    deadline = time.monotonic() + START_S
    while sum(stream["state"] == "live" for stream in run.streams().values()) < streams:
        if time.monotonic() > deadline:
            told = statistics.mode(str(stream["reason"]) for stream in run.streams().values())
            raise RunError(f"bench live: not all of {streams} streams were live after {START_S:g} s: {told}")
        time.sleep(0.05)


def parse_size(text: str) -> tuple[int, int]:
    """Read `1280x720`.

    Raises:
        ValueError: It is not of that form, or not even.
    """
    width, _, height = text.partition("x")
    size = int(width), int(height)
    if min(size) < 64 or size[0] % 2 or size[1] % 2:
        raise ValueError(f"{text}: width and height must be even, and at least 64")
    return size
