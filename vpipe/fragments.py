"""Where native-resolution fragments are cut from a picture.

A fragment view is a grid of small patches taken at the picture's own resolution and laid side by side as one
mosaic, so that its cost does not depend on the resolution (the idea of FAST-VQA, Wu et al., ECCV 2022). This
module owns the positions only; `vpipe.view` copies the pixels.

Positions depend on nothing but the size of what is to be seen and the frame's time, so every worker, every retry and
the training scripts cut the same pixels, and black bars around a picture move none of them.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

PHASES = 64
"""Distinct sets of positions per picture size; a frame's time chooses one."""

BLACK = 24
"""Luma (16..235) up to which a sample may be of a black bar: 16, and what coding adds."""
LEAST_BAR = 0.02
"""A bar thinner than this share of the side is not one (edges of old tapes, chroma overshoot)."""
_EVERY = 4
"""Of the samples of an outermost line, one in so many is looked at first."""


def bars(dark: NDArray[np.bool_]) -> tuple[int, int]:
    """Return how many lines at the beginning and at the end are black bars.

    Bars come in pairs of about equal width; what is dark along one side only (a night sky), or all over, has none.

    Args:
        dark: (n,), which rows or columns are black.
    """
    lines = len(dark)
    first, last = int(np.argmin(dark)), int(np.argmin(dark[::-1]))
    thin, thick = sorted((first, last))
    if thin < max(1.0, LEAST_BAR * lines) or thick - thin > max(2.0, 0.15 * thick):
        return 0, 0
    return first, last


def active_area(luma: NDArray[Any], least: int, black: int = BLACK) -> tuple[int, int, int, int]:
    """Return the part of a picture without black bars around it: top, left, rows, columns.

    Args:
        luma: (rows, columns).
        least: Rows and columns that must remain, or bars are left where they are.
        black: Largest sample of a bar.
    """
    rows, columns = luma.shape
    top, bottom = _bars_along(luma, black)
    if rows - top - bottom < least:
        top = bottom = 0
    left, right = _bars_along(luma[top : rows - bottom].T, black)
    if columns - left - right < least:
        left = right = 0
    return top, left, rows - top - bottom, columns - left - right


def _bars_along(luma: NDArray[Any], black: int) -> tuple[int, int]:
    # Nearly all pictures are told by a line at one side.
    if luma[0, ::_EVERY].max() > black or luma[-1, ::_EVERY].max() > black:
        return 0, 0
    return bars(luma.max(axis=1) <= black)


def _splitmix64(value: int) -> int:
    """One step of the splitmix64 generator (Steele, Lea, Flood, OOPSLA 2014): an integer hash."""
    value = (value + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
    return value ^ (value >> 31)


def phase_of(time_ms: int) -> int:
    """Return which of the `PHASES` position sets a frame at `time_ms` uses."""
    return _splitmix64(time_ms & 0xFFFFFFFFFFFFFFFF) % PHASES


def is_mirrored(phase: int) -> bool:
    """Return whether a view that has `mirror` shows a frame of this phase mirrored."""
    return phase % 2 == 1


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
        height: Rows of its active area; where smaller than `patch`, the caller pads to `patch`.
        width: Columns, likewise.
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
