"""Lossless grey video (FFV1 in Matroska) with the pts of its source: for masks and other maps of a picture.

encoder = GreyEncoder(256, 144)                      # anywhere; a packet depends on its picture alone
packet = encoder.encode(alpha)
write_grey(file, (256, 144), time_base, [(pts, packet), ...])
for pts, time_base, picture in read_grey(path): ...
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import IO

import numpy as np
from numpy.typing import NDArray

from vpipe.errors import MediaError
from vpipe.media import MAX_PIXELS
from vpipe.media.container import Container, VideoFrame, encoder
from vpipe.media.content import shown
from vpipe.media.ffmpeg_log import complaints
from vpipe.media.matroska import TIME_BASE, Ticks, TrackWriter

Grey = NDArray[np.uint8]

_OPTIONS = {"level": "3", "slices": "4", "slicecrc": "1", "coder": "range_def", "context": "0"}
"""Version 3 is what Matroska holds; every slice has a checksum, so that damage is told."""


class GreyEncoder:
    """Makes FFV1 packets; each is a keyframe, and the same picture gives the same bytes.

    Args:
        width: Pixels, 16 at least (two slices of the codec's least size).
        height: Likewise.
    """

    def __init__(self, width: int, height: int) -> None:
        self.size = (width, height)
        self._context = encoder("ffv1", width, height, "gray", _OPTIONS)

    @property
    def private(self) -> bytes:
        """The codec's configuration, as the container holds it."""
        return bytes(self._context.extradata or b"")

    def encode(self, picture: Grey) -> bytes:
        """Return the packet of a picture, uint8 (height, width)."""
        if picture.shape != self.size[::-1]:
            raise ValueError(f"picture of shape {picture.shape} for an encoder of {self.size[0]}x{self.size[1]}")
        frame = VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="gray")
        frame.pts, frame.time_base = 0, Fraction(1, 1000)
        return b"".join(bytes(packet) for packet in self._context.encode(frame))


def write_grey(
    file: IO[bytes], size: tuple[int, int], time_base: Fraction, packets: Iterable[tuple[int, bytes]]
) -> None:
    """Write a whole file of packets that `GreyEncoder` made.

    Args:
        file: Open for writing, empty, able to seek.
        size: Width and height, pixels.
        time_base: Of the pts, seconds.
        packets: pts and packet of each frame, pts ascending; taken one by one.

    Raises:
        MediaError: There is none, or pts do not ascend.
    """
    private = GreyEncoder(*size).private
    writer = None
    for pts, packet in packets:
        if writer is None:
            writer = TrackWriter(file, "V_FFV1", private, size, time_base, pts)
        writer.add(pts, packet)
    if writer is None:
        raise MediaError("no_frames", "there is not one frame to write")
    writer.finish()


def read_grey(path: str) -> Iterator[tuple[int, Fraction, Grey]]:
    """Yield pts, time base (seconds) and picture of each frame, as they were written.

    Raises:
        MediaError: The file cannot be decoded; at a damaged frame, after those before it, or where it breaks off.
    """
    container = Container(path, MAX_PIXELS)
    try:
        ticks = _ticks(container)
        times: list[int] = []
        for picture, pts in _pictures(container, path):
            times.append(pts)
            yield ticks.pts(pts), ticks.time_base, picture
        # `finish` of the writer sets the duration: FFmpeg takes a file that breaks off for a shorter one.
        left = container.duration_s - float((times[-1] - times[0]) * container.time_base) if times else 1.0
        step = times[-1] - times[-2] if len(times) > 1 else 1
        if TIME_BASE in container.stream.metadata and left > 1.5 * max(step, 1) * container.time_base:
            raise MediaError("truncated", f"{path}: breaks off after {len(times)} frames; make the file again")
    finally:
        container.close()


def _ticks(container: Container) -> Ticks:
    """Return how the file counts; its own time base where it names no other."""
    with contextlib.suppress(KeyError, ValueError, ZeroDivisionError):
        named = Fraction(container.stream.metadata[TIME_BASE])
        if named > 0:
            return Ticks(named, round(container.time_base * 10**9))
    return Ticks.of(container.time_base)


def _pictures(container: Container, path: str) -> Iterator[tuple[Grey, int]]:
    """Yield the pictures and their times in units of the container."""
    count = 0
    more = True
    while more:
        packet = container.packet()
        more = packet is not None
        with complaints() as said:
            frames = container.decode(packet)
        if said or container.errors:
            what = f"frame {count} is damaged ({shown(said[0]) if said else 'it cannot be decoded'})"
            raise MediaError("damaged", f"{path}: {what}; make the file again")
        for frame in frames:
            if frame.pts is None:
                raise MediaError("times", f"{path}: frame {count} has no time; make the file again")
            yield frame.to_ndarray(format="gray").astype(np.uint8, copy=False), frame.pts
            count += 1
