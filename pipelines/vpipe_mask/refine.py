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

from vpipe_mask.motion import CELL, coarse, within_one
from vpipe_mask.opencv import cv2

Floats = NDArray[np.float32]

LEVEL = 1e-2
"""Variance of the mask (0..1) within a window below which there is no edge to explain."""
LEAST = 1e-5
"""Of `detail`: above what rounding makes of a variance of 0."""


def refine(mask: Floats, luma: NDArray[np.uint8], reach: int, detail: float) -> Floats:
    """Return the mask with its edges at those of the picture.

    Args:
        mask: (h, w), 0..1, as a net drew it.
        luma: (h, w), of the same picture.
        reach: How far an edge may move, in pixels; 1 or more.
        detail: Variance of the luma (0..1) below which a window counts as without edge.
    """
    rows, columns = mask.shape
    size = columns, rows
    cells = max(columns // CELL, 1), max(rows // CELL, 1)
    side = 2 * -(-reach // CELL) + 1
    window = side, side
    guide = coarse(luma, cells) * np.float32(1 / 255)
    value = coarse(mask, cells)
    # One call for several means: at this size a call costs more than its work.
    products = cv2.boxFilter(cv2.merge([guide * guide, guide * value, value * value]), -1, window)
    contrast, both, spread = cv2.split(products)
    guide, value = cv2.split(cv2.boxFilter(cv2.merge([guide, value]), -1, window))
    contrast -= guide * guide
    contrast += np.float32(max(detail, LEAST))
    both -= guide * value
    spread -= value * value
    spread += np.float32(LEVEL)
    slope = both / contrast
    offset = value - slope * guide
    explained = slope * both / spread
    slope, offset = cv2.split(cv2.boxFilter(cv2.merge([slope * np.float32(1 / 255), offset]), -1, window))
    fine: Floats = cv2.resize(slope, size, interpolation=cv2.INTER_LINEAR)
    fine *= luma
    fine += cv2.resize(offset, size, interpolation=cv2.INTER_LINEAR)
    within_one(fine)
    # 1 where the net says one half, 0 where it is sure.
    undecided = cv2.absdiff(mask, 0.5)
    undecided *= np.float32(-2)
    undecided += np.float32(1)
    belief = cv2.max(undecided, cv2.resize(explained, size, interpolation=cv2.INTER_LINEAR), dst=undecided)
    fine -= mask
    fine *= belief
    fine += mask
    return fine
