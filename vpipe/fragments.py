"""Where native-resolution fragments are cut from a picture.

A fragment view is a grid of small patches taken at the picture's own resolution and laid side by side as one
mosaic, so that its cost does not depend on the resolution (the idea of FAST-VQA, Wu et al., ECCV 2022). This
module owns the positions only; `vpipe.view` copies the pixels.

Positions depend on nothing but the picture's size and the frame's time, so every worker, every retry and the
training scripts cut the same pixels.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

PHASES = 64
"""Distinct sets of positions per picture size; a frame's time chooses one."""


def _splitmix64(value: int) -> int:
    """One step of the splitmix64 generator (Steele, Lea, Flood, OOPSLA 2014): an integer hash."""
    value = (value + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
    return value ^ (value >> 31)


def phase_of(time_ms: int) -> int:
    """Return which of the `PHASES` position sets a frame at `time_ms` uses."""
    return _splitmix64(time_ms & 0xFFFFFFFFFFFFFFFF) % PHASES


def _starts(length: int, grid: int, patch: int, draw: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return the first row (or column) of each patch along one axis; `draw` holds one random number a patch."""
    index = np.arange(grid, dtype=np.int64)
    first = index * length // grid
    room = (index + 1) * length // grid - first - patch
    if length < grid * patch:  # cells smaller than a patch: spread evenly, overlapping
        return np.broadcast_to(np.maximum(index * (length - patch) // max(grid - 1, 1), 0), draw.shape).copy()
    starts: NDArray[np.int64] = first + (draw % (np.maximum(room, 0) + 1).astype(np.uint64)).astype(np.int64)
    return starts


@functools.lru_cache(maxsize=64 * PHASES)
def positions(height: int, width: int, grid: int, patch: int, phase: int) -> tuple[tuple[int, int], ...]:
    """Return the top left corner (y, x) of each patch, row by row of the grid.

    Args:
        height: The picture's rows; where smaller than `patch`, the caller pads to `patch`.
        width: The picture's columns, likewise.
        grid: Patches along each side; the mosaic has `grid * patch` rows and columns.
        patch: Rows and columns of one patch.
        phase: 0..PHASES-1, from `phase_of`.

    Returns:
        `grid * grid` corners. Each lies in its own cell of the grid; the offset within the cell changes with `phase`.
    """
    count = grid * grid
    numbers = [_splitmix64(phase * 2 * count + i) for i in range(2 * count)]
    draw = np.array(numbers, dtype=np.uint64).reshape(2, grid, grid)
    ys = _starts(max(height, patch), grid, patch, draw[0].T).T
    xs = _starts(max(width, patch), grid, patch, draw[1])
    return tuple(zip(ys.ravel().tolist(), xs.ravel().tolist(), strict=True))
