"""A camera (`/dev/video0`), read by OpenCV: the FFmpeg inside PyAV has no input devices.

It stands where a `LiveContainer` stands; a picture is its own packet. Pictures are BGR at full size, which costs more
than decoded planes do, so a camera that offers H.264 over the network is the better source.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np

from vpipe.errors import MediaError
from vpipe.frame import StreamInfo
from vpipe.media.container import VideoFrame, picture_frame

REMEDY = "look whether it is there and yours to read (ls -l), and not in use by another program"


class Shot:
    """One picture of a camera, as the packet that it would be."""

    def __init__(self, frame: VideoFrame) -> None:
        self.frame = frame
        self.pts = frame.pts
        self.dts: int | None = None
        self.is_keyframe = True
        self.size = frame.width * frame.height * 3


class DeviceContainer:
    """A camera, opened.

    Args:
        path: Of the device.
        stall_s: How long it may send nothing, in seconds.
        backend: OpenCV's number of what reads it; V4L2 when not given, and then by the device's number.

    Raises:
        MediaError: It cannot be opened.
    """

    kind = "device"
    time_base = Fraction(1, 1_000_000)
    step = 33_333
    ends = False
    paced = False

    def __init__(self, path: str, stall_s: float, backend: int | None = None) -> None:
        import cv2  # slow to load, and only cameras need it here

        self.name = path
        self.stall_s = stall_s
        self.errors = 0
        self._began = time.monotonic()
        number = re.search(r"\d+$", path)
        what: Any = int(number[0]) if backend is None and number else path
        self._camera = cv2.VideoCapture(what, cv2.CAP_V4L2 if backend is None else backend)
        if not self._camera.isOpened():
            raise MediaError("connect", f"{path} cannot be opened as a camera; {REMEDY}")
        self._camera.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        self._rate = float(self._camera.get(cv2.CAP_PROP_FPS)) or 0.0

    def packets(self) -> Iterator[Shot]:
        """Give the pictures as they come.

        Raises:
            MediaError: `lost`: no more come.
        """
        while True:
            there, picture = self._camera.read()
            if not there or picture is None:
                raise MediaError("lost", f"{self.name} sends no pictures any more; {REMEDY}")
            frame = picture_frame(np.asarray(picture, np.uint8))
            frame.pts = int((time.monotonic() - self._began) * 1e6)
            frame.time_base = self.time_base
            yield Shot(frame)

    def decode(self, packet: Shot, lean: bool = False) -> list[VideoFrame]:
        """Return the picture."""
        return [] if lean else [packet.frame]

    def finish(self) -> list[VideoFrame]:
        """Return what is still in the decoder: nothing."""
        return []

    def forget(self) -> None:
        """Throw away what is in the decoder: nothing."""

    def info(self, stream: int, frame: VideoFrame, pts: int) -> StreamInfo:
        """Return the facts of the stream as its present epoch has them; see `LiveContainer.info`."""
        return StreamInfo(
            stream=stream,
            path=self.name,
            key="",
            size_bytes=0,
            container="v4l2",
            codec="rawvideo",
            pixel_format=frame.format.name,
            width=frame.width,
            height=frame.height,
            rotation=0,
            duration_s=0.0,
            frame_rate=self._rate,
            time_base=(self.time_base.numerator, self.time_base.denominator),
            start_pts=pts,
            frames=-1,
            segments=0,
        )

    def close(self) -> None:
        """Give the camera back; may be called twice."""
        self._camera.release()
