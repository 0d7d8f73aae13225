"""Edges of a mask, cleaned with the picture as guide.

A guided filter (He, Sun, Tang: Guided Image Filtering, ECCV 2010) in its fast form (He, Sun: Fast Guided Filter,
arXiv:1505.00996): within every window the mask is explained as a linear function of the luma, on a coarse picture, and
that function is then applied to the fine luma. So the mask's edge moves to the edge of hair, hands and dark clothes.

It is believed as far as it explains the mask, or where the net itself is undecided; elsewhere (a face before a poster,
where luma tells nothing) the net's edge is the better one, and a plain guided filter would wash it out.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vpipe_mask.opencv import cv2

Floats = NDArray[np.float32]

LEVEL = 1e-2 * 255**2
"""Variance of the mask within a window below which there is no edge to explain."""
LEAST = 1e-5
"""Of `detail`: above what rounding makes of a variance of 0."""
MIDDLE = 127.5


def refine(mask: Floats, luma: Floats, value: Floats, guide: Floats, reach: int, detail: float) -> Floats:
    """Return the mask with its edges at those of the picture.

    Args:
        mask: (h, w), 0..255, as a net drew it.
        luma: (h, w), 16..235, of the same picture.
        value: (rows, columns), the mask on the coarse picture.
        guide: (rows, columns), the luma on the coarse picture.
        reach: How far an edge may move, in cells; 1 or more.
        detail: Variance of the luma (0..1) below which a window counts as without edge.
    """
    window = 2 * reach + 1, 2 * reach + 1
    size = mask.shape[::-1]
    light, offset = cv2.blur(guide, window), cv2.blur(value, window)
    both = cv2.blur(guide * value, window)
    both -= light * offset
    contrast = cv2.blur(guide * guide, window)
    contrast -= light * light
    contrast += np.float32(max(detail, LEAST) * 219**2)
    spread = cv2.blur(value * value, window)
    spread -= offset * offset
    spread += np.float32(LEVEL)
    slope = both / contrast
    light *= slope
    offset -= light
    both *= slope
    both /= spread  # how much of the mask the luma explains, 0..1
    both *= np.float32(-MIDDLE)
    both += np.float32(MIDDLE)
    fine: Floats = cv2.resize(cv2.blur(slope, window), size, interpolation=cv2.INTER_LINEAR)
    fine *= luma
    fine += cv2.resize(cv2.blur(offset, window), size, interpolation=cv2.INTER_LINEAR)
    cv2.min(cv2.max(fine, 0.0, dst=fine), 255.0, dst=fine)
    # How much of the net's own edge stays: 0 where it says one half, `MIDDLE` where it is sure.
    stays = cv2.absdiff(mask, MIDDLE)
    stays = cv2.min(stays, cv2.resize(both, size, interpolation=cv2.INTER_LINEAR), dst=stays)
    stays *= mask - fine
    refined: Floats = cv2.scaleAdd(stays, 1 / MIDDLE, fine, dst=fine)
    return refined
