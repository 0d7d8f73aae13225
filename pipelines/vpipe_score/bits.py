"""What the bitstream adds to the pixels: the model says of each frame how its score would follow from it.

A net that sees the pixels knows how much detail there is and how it moves; how coarsely it was coded and how much of it
the encoder could afford is what the packets tell (compare ITU-T P.1204.3 and P.1204.5), and what was lost on the way is
what the decoder knows: it may hide the loss so well that the picture looks clean. The model's output `by_bits` holds,
for each codec, the weights of `terms`; their sum is the log odds of the score. It stays with what the model sees where
the packets tell nothing: another codec, no keyframes or nothing else. Each frame's packets are those of its segment, on
average.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vpipe.frame import LOST_MOST, LOST_SHIFT, MADE_UP_SHIFT, MADE_UP_UNIT, MADE_UP_UNKNOWN, FrameFlag, StreamInfo
from vpipe.task import Columns

CODECS = ("h264", "hevc", "vp9", "av1", "mpeg2video", "mpeg4")
"""FFmpeg's names, in the order of `by_bits`."""

LOSSES = 6
"""What `losses` tells of a frame."""

TERMS = 18
"""Six of the bits a pixel, three of the loss, six of the quantiser, three of what was made up; a model that has fewer
knows the first of them."""

KEY_RANGE, OTHER_RANGE = (-7.0, 3.0), (-10.0, 2.0)
"""Binary logarithms of bits a pixel in keyframes and in others; what lies beyond counts as the end."""

COARSE_RANGE = (-4.0, 3.0)
"""Of `coarseness`; what lies beyond counts as the end."""

MANY = 8.0
"""Damaged frames in a group of pictures that count as one in the terms, by their logarithm."""

MOST_MADE_UP = 2.0
"""Pictures made up in a group of pictures; more count as so many."""

CLIP, FILM, FARTHER = 13, 250, 0.2
"""Frames from keyframe to keyframe in the clips that the model learned from, and at most in films; and by how many
doublings other frames take more bits for each doubling of that distance: 100 frames of two films, in five codecs at
three qualities, took 0.1 (where keyframes are near) to 0.9 doublings more a frame than their first 13."""

LOSS_SHOWS = 0.9
"""How probable it is that a frame which a loss has reached shows it: of 172 from training contents 155 did."""


class Packets(NamedTuple):
    """What a segment's packets tell, as in a short clip."""

    codec: str
    """One of `CODECS`."""
    key: float
    """Binary logarithm of the bits a pixel of keyframes."""
    other: float
    """The same of other frames."""
    key_coarse: float
    """`coarseness` of keyframes; NaN: not known."""
    other_coarse: float
    """The same of other frames."""


def coarseness(codec: str, quantiser: float | None) -> float:
    """Return a codec's quantiser on a scale of about -2 (fine) to 2 (ruined); NaN where it is not known.

    Args:
        codec: One of `CODECS`.
        quantiser: As `vpipe.media.quantiser` reads it: a logarithm of the step already (QP, six a doubling, in H.264
            and HEVC; nearly one, the index of a table, in VP9 and AV1), or the step itself (MPEG-2, MPEG-4).
    """
    if quantiser is None or not math.isfinite(quantiser):
        return math.nan
    if codec in ("h264", "hevc"):
        found = (quantiser - 30) / 8
    elif codec in ("vp9", "av1"):
        found = (quantiser - 140) / 60
    else:
        found = (math.log2(max(quantiser, 1.0)) - 3) / 1.2
    return min(max(found, COARSE_RANGE[0]), COARSE_RANGE[1])


class Side(NamedTuple):
    """The packets of keyframes, or those of others."""

    packets: float
    size: float
    """Bytes of all."""
    quantiser: float | None
    """On average; None or not finite: not known."""


def as_clip(codec: str, pixels: int, keys: Side, others: Side) -> Packets | None:
    """Return what a short clip's packets tell; None where that is nothing.

    So it is of a codec that is not in `CODECS`, or where there are keyframes only. `pixels` are those of a frame.
    """
    sides = keys, others
    if codec not in CODECS or any(min(side.packets, side.size) <= 0 for side in sides):
        return None
    spent = (math.log2(8 * side.size / side.packets / pixels) for side in sides)
    return Packets(codec, *spent, *(coarseness(codec, side.quantiser) for side in sides))


def packets(stream: StreamInfo, columns: Columns, seen: float = 1.0) -> Packets | None:
    """Return what a segment's packets tell; None where `as_clip` says so, or nothing is known of them.

    Args:
        stream: What the segment is of.
        columns: With the engine's facts about the segment, see `vpipe.task.Task.on_segment`.
        seen: Share of its pixels that are not of black bars, which take no bits.
    """
    if "_packets" not in columns:
        return None
    names = ("_packets", "_packet_bytes", "_keys", "_key_bytes")
    count, size, keys, key_bytes = (float(columns[name][0]) for name in names)
    coarse = [float(columns[name][0]) if name in columns else None for name in ("_key_quantiser", "_other_quantiser")]
    sides = Side(keys, key_bytes, coarse[0]), Side(count - keys, size - key_bytes, coarse[1])
    told = as_clip(stream.codec, round(stream.width * stream.height * seen), *sides)
    if told is None:
        return None
    farther = FARTHER * math.log2(min(max(count / keys, CLIP), FILM) / CLIP)
    return told._replace(other=told.other - farther)


def losses(flags: NDArray[np.unsignedinteger]) -> NDArray[np.float32]:
    """Return (n, LOSSES), what of a loss has reached each frame since the keyframe at or before it.

    Whether any has (1 or 0), whether it was of the keyframe itself, and the logarithm of the number of damaged frames;
    whether it is known how much of them was made up, how much that is (1: a picture, or halves of two), and its root.

    Args:
        flags: `vpipe.frame.FrameFlag` of each frame, and the numbers above them.
    """
    count = flags >> np.uint32(LOST_SHIFT) & np.uint32(LOST_MOST)
    told = flags >> np.uint32(MADE_UP_SHIFT)
    known = (count > 0) & (told != MADE_UP_UNKNOWN)
    made_up = np.where(known, np.minimum(told / MADE_UP_UNIT, MOST_MADE_UP), 0)
    key = flags & np.uint32(FrameFlag.KEY_LOST) != 0
    found = [count > 0, key, np.log1p(count) / math.log1p(MANY), known, made_up, np.sqrt(made_up)]
    return np.stack(found, axis=-1).astype(np.float32)


def damaged(probability: NDArray[np.float32], loss: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return how probable damage is, given what the model saw and the `losses` of the frame."""
    return np.where(loss[:, 0] > 0, np.maximum(probability, np.float32(LOSS_SHOWS)), probability)


def terms(
    key: ArrayLike, other: ArrayLike, key_coarse: ArrayLike, other_coarse: ArrayLike, loss: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return (..., TERMS) of what the packets of each frame tell, as in `Packets`, and of its `losses`, (..., LOSSES).

    Those of the quantiser are 0 where it is not known; `losses` has as many rows as the others, or these are one.
    """
    shape = loss.shape[:-1]
    given = (np.broadcast_to(np.asarray(v, np.float32), shape) for v in (key, other, key_coarse, other_coarse))
    key, other, key_coarse, other_coarse = given
    k = (np.clip(key, *KEY_RANGE) + 2) / 3
    o = (np.clip(other, *OTHER_RANGE) + 4) / 4
    known = np.isfinite(other_coarse)
    q = np.where(known, other_coarse, 0)
    finer = np.where(known & np.isfinite(key_coarse), key_coarse - q, 0)
    bits = [np.ones_like(k), k, o, k * k, k * o, o * o]
    quantiser = [known, q, q * q, finer, q * o, known * o]
    lost = np.moveaxis(loss, -1, 0)
    return np.stack([*bits, *lost[:3], *quantiser, *lost[3:]], axis=-1).astype(np.float32)


def scores(by_bits: NDArray[np.float32], told: Packets, loss: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return each frame's score, 0..100.

    Args:
        by_bits: (n, codecs, at most TERMS).
        told: What the packets tell.
        loss: What `losses` says of each frame, (n, LOSSES).
    """
    return from_terms(by_bits[:, CODECS.index(told.codec)], terms(*told[1:], loss))


def from_terms(weights: NDArray[np.float32], told: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return each frame's score, 0..100.

    Args:
        weights: Of its codec, (n, at most TERMS).
        told: Its `terms`, (n, TERMS); those that a model does not know are left out.
    """
    odds = (weights * told[:, : weights.shape[1]]).sum(1)
    return np.asarray(100.0 / (1.0 + np.exp(-odds)), np.float32)
