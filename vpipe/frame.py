"""What is known about a frame and its stream while it travels.

A frame's identity is (stream, segment, pts). The header below precedes every frame in every ring; the picture
itself is only ever present as a view.
"""

from __future__ import annotations

import dataclasses
import enum
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

FRAME = np.dtype(
    [
        ("stream", "<u4"),  # stream_id, unique in a run
        ("segment", "<u4"),  # segment of that stream
        ("pts", "<i8"),  # in units of time_base
        ("tb_num", "<i4"),  # time_base numerator, seconds
        ("tb_den", "<i4"),  # time_base denominator
        ("index", "<i8"),  # rank in presentation order within the stream; -1 where unknown
        ("width", "<u2"),  # of the decoded picture, pixels
        ("height", "<u2"),
        ("flags", "<u4"),  # FrameFlag bits
        ("made_ns", "<i8"),  # CLOCK_MONOTONIC when the view was made; live: when the packet came that brought it out
        ("attempt", "<u4"),  # grows with each try of the segment
        ("epoch", "<u4"),  # live: which unbroken stretch of the stream's time; 0 for files
        ("arrival_ns", "<i8"),  # live: CLOCK_REALTIME when its packet came out of the demuxer; 0 for files
    ]
)
"""Header of one frame, 64 bytes."""

assert FRAME.itemsize == 64

_OPAQUE = np.dtype(f"V{FRAME.itemsize}")


def copy_headers(source: NDArray[np.void], target: NDArray[np.void]) -> None:
    """Copy headers, (n,) FRAME, as so many bytes: in a tenth of the time that it takes field by field (measured)."""
    target.view(_OPAQUE)[...] = source.view(_OPAQUE)


LUMA = "luma"
"""Field of the companion luma: (rows, columns) of a resize view, limited range (16..235)."""
PICTURE = "picture"
"""Field of the companion picture, which is filled in where `FrameFlag.PICTURE` is set and rubbish elsewhere."""


class FrameFlag(enum.IntFlag):
    """Facts about a frame that the decoder or the view found for nothing.

    What is done for every frame holds them as plain integers: `&` of a number of numpy's and one of these takes 9 us.
    """

    KEY = 1
    """A keyframe."""
    CORRUPT = 2
    """The decoder reported damage in this picture."""
    SAME = 4
    """The view equals its neighbour's, byte for byte (pair views only)."""
    PICTURE = 8
    """The companion picture of this frame is filled in."""
    INTERLACED = 16
    """Coded as two fields."""
    CARRIED = 64
    """The model is not run on this frame (`infer.every`): its outputs are rubbish, its companions are there."""
    FIRST = 128
    """The first of its segment that the branch takes."""
    FULL_RANGE = 32
    """Luma was coded 0..255 (views are delivered limited range all the same)."""
    KEY_LOST = 256
    """The keyframe at or before this frame was damaged."""


LOST_SHIFT, LOST_MOST = 16, 255
"""`flags >> LOST_SHIFT & LOST_MOST`: how many frames that were decoded have been damaged from the keyframe at or before
this one up to it, both included and whether they are delivered or not; more than `LOST_MOST` count as so many."""

MADE_UP_SHIFT, MADE_UP_UNIT, MADE_UP_UNKNOWN = 24, 64, 255
"""`flags >> MADE_UP_SHIFT`: how much of these frames the decoder had to make up, in 64ths of a picture, all added up;
more than 254 count as so many, and 255 is not known. 0 where no frame has been damaged."""


@dataclasses.dataclass(frozen=True, slots=True)
class StreamInfo:
    """One opened source in one run: facts of its container and codec, plain enough for JSON."""

    stream: int
    """stream_id, unique in a run."""
    path: str
    """As the user named it; bytes that are not UTF-8 are surrogate-escaped."""
    key: str
    """Content key, hexadecimal."""
    size_bytes: int
    container: str
    codec: str
    pixel_format: str
    width: int
    height: int
    rotation: int
    """Degrees clockwise to turn the picture upright: 0, 90, 180 or 270."""
    duration_s: float
    frame_rate: float
    """Average, frames per second; 0 where unknown. For people only, never for timing."""
    time_base: tuple[int, int]
    start_pts: int
    """The first frame's pts, origin of the sampling grid."""
    frames: int
    """Frames in the stream by its index; -1 where it has none."""
    segments: int
    """How many segments it was cut into."""

    def seconds(self, pts: int) -> float:
        """Return the time of `pts` since the stream's first frame, in seconds."""
        return float((pts - self.start_pts) * Fraction(*self.time_base))

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> StreamInfo:
        """Rebuild from `to_dict`'s values (JSON turns the tuple into a list)."""
        return cls(**{**values, "time_base": tuple(values["time_base"])})
