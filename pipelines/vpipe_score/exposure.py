"""How a frame's luma histogram tells that too little or too much light was let in.

Exposure is no business of VMAF's and costs a histogram no network: a logistic regression on seven facts of the luma.
`scripts/train_score/exposure.py` makes the weights and holds them against contents that they were not made from.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

BLACK, WHITE = 16, 235
"""8-bit luma codes; views are delivered in limited range."""

QUANTILES = (0.01, 0.1, 0.5, 0.9, 0.99)

UNDER = (-3.47, 0.6, 0.07, -0.19, -12.3, -2.78, -0.54, 6.46)
"""Weights of the seven facts, and a constant: two stops of light too few, or more."""
OVER = (1.82, -2.07, -0.24, 1.49, 6.3, 1.05, 5.82, -8.21)
"""Two stops too many, or more."""


def facts(histogram: ArrayLike) -> NDArray[np.float64]:
    """Return (n, 7) facts of (n, 256) counts of luma codes: five quantiles, shares at black and at white, each 0..1."""
    counts = np.asarray(histogram, np.float64)
    shares = counts.cumsum(axis=1) / np.maximum(counts.sum(axis=1, keepdims=True), 1.0)
    codes = np.stack([(shares < q).sum(axis=1) for q in QUANTILES], axis=1)
    levels = np.clip((codes - BLACK) / (WHITE - BLACK), 0.0, 1.0)
    return np.column_stack([levels, shares[:, BLACK + 1], 1.0 - shares[:, WHITE - 2]])


def exposure(histogram: ArrayLike) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return each frame's probability of being underexposed, and of being overexposed.

    Args:
        histogram: (n, 256) counts of luma codes.
    """
    found = facts(histogram)

    def probability(weights: tuple[float, ...]) -> NDArray[np.float32]:
        return (1.0 / (1.0 + np.exp(-(found @ weights[:-1] + weights[-1])))).astype(np.float32)

    return probability(UNDER), probability(OVER)
