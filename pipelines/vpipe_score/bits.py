"""What the number of bits adds to the pixels: the model says of each frame how its score would follow from them.

A net that sees the pixels knows how much detail there is and how it moves; how much of it the encoder could afford is
what the packets tell (compare ITU-T P.1204.5). The model's output `by_bits` holds, for each codec, the weights of six
terms of the bits a pixel; their sum is the log odds of the score. It stays with what the model sees where the packets
tell nothing: another codec, no key frames or nothing else. Each frame's bits are those of its segment, on average.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vpipe.frame import StreamInfo
from vpipe.task import Columns

CODECS = ("h264", "hevc", "vp9", "av1", "mpeg2video", "mpeg4")
"""FFmpeg's names, in the order of `by_bits`."""

TERMS = 6

KEY_RANGE, OTHER_RANGE = (-7.0, 3.0), (-10.0, 2.0)
"""Binary logarithms of bits a pixel in key frames and in others; what lies beyond counts as the end."""


def per_pixel(stream: StreamInfo, columns: Columns) -> tuple[float, float] | None:
    """Return binary logarithms of the bits a pixel of a segment's key frames and of its other frames.

    None where they tell nothing: of a codec that is not in `CODECS`, or where there are key frames only.

    Args:
        stream: What the segment is of.
        columns: With the engine's facts about the segment, see `vpipe.task.Task.on_segment`.
    """
    if stream.codec not in CODECS or "_packets" not in columns:
        return None
    names = ("_packets", "_packet_bytes", "_keys", "_key_bytes")
    packets, packet_bytes, keys, key_bytes = (float(columns[name][0]) for name in names)
    others, other_bytes = packets - keys, packet_bytes - key_bytes
    if min(keys, key_bytes, others, other_bytes) <= 0:
        return None
    pixels = stream.width * stream.height
    return math.log2(8 * key_bytes / keys / pixels), math.log2(8 * other_bytes / others / pixels)


def terms(key: ArrayLike, other: ArrayLike) -> NDArray[np.float32]:
    """Return (..., TERMS) for binary logarithms of the bits a pixel of key frames and of other frames."""
    k = (np.clip(np.asarray(key, np.float32), *KEY_RANGE) + 2) / 3
    o = (np.clip(np.asarray(other, np.float32), *OTHER_RANGE) + 4) / 4
    return np.stack([np.ones_like(k), k, o, k * k, k * o, o * o], axis=-1)


def scores(by_bits: NDArray[np.float32], codec: str, key: float, other: float) -> NDArray[np.float32]:
    """Return each frame's score, 0..100.

    Args:
        by_bits: (n, codecs, TERMS).
        codec: One of `CODECS`.
        key: Binary logarithm of the bits a pixel of key frames.
        other: The same of other frames.
    """
    odds = by_bits[:, CODECS.index(codec)] @ terms(key, other)
    return np.asarray(100.0 / (1.0 + np.exp(-odds)), np.float32)
