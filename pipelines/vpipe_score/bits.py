"""What the bitstream adds to the pixels: the model says of each frame how its score would follow from it.

A net that sees the pixels knows how much detail there is and how it moves; how much of it the encoder could afford is
what the packets tell (compare ITU-T P.1204.5), and whether something was lost on the way is what the decoder knows: it
may hide the loss so well that the picture looks clean. The model's output `by_bits` holds, for each codec, the weights
of the terms: six of the bits a pixel, and one of the loss; their sum is the log odds of the score. It stays with what
the model sees where the packets tell nothing: another codec, no keyframes or nothing else. Each frame's bits are those
of its segment, on average.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vpipe.frame import FrameFlag, StreamInfo
from vpipe.task import Columns

CODECS = ("h264", "hevc", "vp9", "av1", "mpeg2video", "mpeg4")
"""FFmpeg's names, in the order of `by_bits`."""

TERMS = 7

KEY_RANGE, OTHER_RANGE = (-7.0, 3.0), (-10.0, 2.0)
"""Binary logarithms of bits a pixel in keyframes and in others; what lies beyond counts as the end."""

CLIP, FILM, FARTHER = 13, 250, 0.2
"""Frames from keyframe to keyframe in the clips that the model learned from, and at most in films; and by how many
doublings other frames take more bits for each doubling of that distance: 100 frames of two films, in five codecs at
three qualities, took 0.1 (where keyframes are near) to 0.9 doublings more a frame than their first 13."""

LOSS_SHOWS = 0.9
"""How probable it is that a frame which a loss has reached shows it: of 172 from training contents 155 did."""


def per_pixel(stream: StreamInfo, columns: Columns) -> tuple[float, float] | None:
    """Return binary logarithms of the bits a pixel of a segment's keyframes and of its others, as in a short clip.

    None where they tell nothing: of a codec that is not in `CODECS`, or where there are keyframes only.

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
    farther = FARTHER * math.log2(min(max(packets / keys, CLIP), FILM) / CLIP)
    return math.log2(8 * key_bytes / keys / pixels), math.log2(8 * other_bytes / others / pixels) - farther


def reached(flags: NDArray[np.unsignedinteger]) -> NDArray[np.bool_]:
    """Say which frames a loss has reached: one that the decoder found damaged, and all until the next keyframe.

    Args:
        flags: `vpipe.frame.FrameFlag` of each frame, in the order of display.
    """
    place = np.arange(len(flags))
    key = np.maximum.accumulate(np.where(flags & FrameFlag.KEY, place, 0))
    loss = np.maximum.accumulate(np.where(flags & FrameFlag.CORRUPT, place, -1))
    return np.asarray(loss >= key)


def damaged(probability: NDArray[np.float32], lost: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return how probable damage is, given what the model saw and whether a loss has reached the frame."""
    return np.where(lost, np.maximum(probability, np.float32(LOSS_SHOWS)), probability)


def terms(key: ArrayLike, other: ArrayLike, lost: ArrayLike) -> NDArray[np.float32]:
    """Return (..., TERMS) for binary logarithms of the bits a pixel of keyframes and others, and whether there is loss.

    All three have one shape, or one that is extended to it.
    """
    key, other, lost = np.broadcast_arrays(*(np.asarray(each, np.float32) for each in (key, other, lost)))
    k = (np.clip(key, *KEY_RANGE) + 2) / 3
    o = (np.clip(other, *OTHER_RANGE) + 4) / 4
    return np.stack([np.ones_like(k), k, o, k * k, k * o, o * o, lost], axis=-1)


def scores(
    by_bits: NDArray[np.float32], codec: str, key: float, other: float, lost: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Return each frame's score, 0..100.

    Args:
        by_bits: (n, codecs, TERMS).
        codec: One of `CODECS`.
        key: Binary logarithm of the bits a pixel of keyframes.
        other: The same of other frames.
        lost: What `reached` says of each frame, (n,).
    """
    odds = (by_bits[:, CODECS.index(codec)] * terms(key, other, lost)).sum(1)
    return np.asarray(100.0 / (1.0 + np.exp(-odds)), np.float32)
