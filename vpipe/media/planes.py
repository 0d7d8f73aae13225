"""The planes of a decoded frame as arrays. Knows pixel formats and colour; does not import `av`."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from vpipe.media.container import VideoFrame

Plane = NDArray[np.uint8] | NDArray[np.uint16]

_LAYOUTS = ("420", "422", "444", "440", "411", "410")
_DEPTHS = (9, 10, 12, 14, 16)


def _formats() -> dict[str, tuple[int, int]]:
    found = {"gray": (8, 1)}
    for depth in _DEPTHS:
        found[f"gray{depth}le"] = (depth, 1)
    for layout in _LAYOUTS:
        for prefix in ("yuv", "yuvj", "yuva"):
            found[f"{prefix}{layout}p"] = (8, 3)
        for depth in _DEPTHS:
            found[f"yuv{layout}p{depth}le"] = found[f"yuva{layout}p{depth}le"] = (depth, 3)
    return found


FORMATS = _formats()
"""Bits a sample and planes of the formats that are read in place (alpha is left out). Samples of more than 8 bits are
16-bit words. All other formats (RGB, palettes, packed, big-endian) go through FFmpeg's converter first."""

FULL_RANGE = 2
"""FFmpeg's number for samples of 0..255."""

_LUMA = {"601": (0.299, 0.114), "709": (0.2126, 0.0722), "2020": (0.2627, 0.0593), "240": (0.212, 0.087),
         "fcc": (0.30, 0.11)}  # fmt: skip
"""Weights of red and blue in luma. Sources: ITU-R BT.601-7, BT.709-6, BT.2020-2, SMPTE ST 240M, FCC Title 47."""
_MATRICES = {1: "709", 4: "fcc", 5: "601", 6: "601", 7: "240", 9: "2020", 10: "2020"}
"""By FFmpeg's AVColorSpace number; unspecified (2): by height."""


@dataclasses.dataclass(frozen=True, slots=True)
class Planes:
    """A frame's samples in place; good as long as the frame is."""

    luma: Plane
    """(rows, columns), uint8, or uint16 where `bits` is above 8."""
    chroma: tuple[Plane, Plane] | None
    """Cb and Cr, likewise, at their own size; None for grey."""
    bits: int
    full: bool
    """Samples use the whole range rather than 16..235 (or the like)."""
    matrix: str
    """`601`, `709`, `2020`, `240` or `fcc`."""
    source: VideoFrame
    """What the arrays lie in."""
    buffer: Plane
    """The luma's memory, contiguous: `luma` and whatever pads its rows."""


def planes_of(frame: VideoFrame, luma_only: bool = False) -> Planes:
    """Return a frame's planes; formats that cannot be read in place are converted at full size (BT.601, limited)."""
    found = FORMATS.get(frame.format.name)
    if found is None:
        frame = frame.reformat(format="yuv444p", dst_colorspace="ITU601", dst_color_range="MPEG")
        bits, count, full, matrix = 8, 3, False, "601"
    else:
        bits, count = found
        full = frame.color_range == FULL_RANGE or frame.format.name.startswith("yuvj")
        matrix = _MATRICES.get(frame.colorspace) or ("709" if frame.height >= 720 else "601")
    luma, buffer = _plane(frame, 0, bits)
    chroma = None if luma_only or count == 1 else (_plane(frame, 1, bits)[0], _plane(frame, 2, bits)[0])
    return Planes(luma, chroma, bits, full, matrix, frame, buffer)


def _plane(frame: VideoFrame, number: int, bits: int) -> tuple[Plane, Plane]:
    source = frame.planes[number]
    pitch = abs(source.line_size)
    data = memoryview(source)
    rows: Plane
    if bits > 8:
        rows = np.frombuffer(data, np.uint16).reshape(source.height, pitch // 2)
    else:
        rows = np.frombuffer(data, np.uint8).reshape(source.height, pitch)
    if source.line_size < 0:  # stored bottom up
        rows = rows[::-1].copy()
    return rows[:, : source.width], rows


def to_rgb(matrix: str, full: bool) -> NDArray[np.float64]:
    """Return the (3, 4) matrix that turns 8-bit (Y, Cb, Cr, 1) into full-range RGB."""
    red, blue = _LUMA[matrix]
    green = 1 - red - blue
    luma, chroma, black = (1.0, 1.0, 0.0) if full else (255 / 219, 255 / 224, 16.0)
    cr, cb = 2 * (1 - red), 2 * (1 - blue)
    rows = np.array(
        [[1, 0, cr], [1, -cb * blue / green, -cr * red / green], [1, cb, 0]],
    ) * [luma, chroma, chroma]
    return np.hstack([rows, -(rows @ [[black], [128.0], [128.0]])])
