"""What happened between two pictures: a cut, or where each point came from and where nothing else changed."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vpipe_mask.opencv import cv2

Luma = NDArray[np.uint8]
Floats = NDArray[np.float32]

CELL = 4
"""Pixels a side that one of the coarse picture stands for, on which motion is searched: finer search costs four times
as much a halving, and explained a tenth more of the change on the clips tried."""
LEAST_FLOW = 32
"""Cells a side that the search needs to work with patches of 8."""
QUIET = 2.0
"""Change of luma (0..255) that every codec makes."""
FADING = 12.0
"""From `QUIET` and the noise on, so many more levels of change until nothing of the old mask is trusted."""
MOST_NOISE = 6.0
"""A larger typical change is no noise: the whole picture changes."""
FLAT = 12.0
"""Contrast (mean deviation of the luma) that a picture is taken to have at least, or in a dark scene every flicker
would be a large change."""


@dataclasses.dataclass(frozen=True)
class Box:
    """A part of a picture: columns `x0` to `x1`, rows `y0` to `y1`, ends not included."""

    x0: int
    y0: int
    x1: int
    y1: int

    def joined(self, other: Box | None) -> Box:
        """Return the smallest box that holds both."""
        if other is None:
            return self
        return Box(min(self.x0, other.x0), min(self.y0, other.y0), max(self.x1, other.x1), max(self.y1, other.y1))

    def grown(self, margin: int, width: int, height: int) -> Box:
        """Return the box widened on all sides, within a picture of this size."""
        return Box(
            max(self.x0 - margin, 0),
            max(self.y0 - margin, 0),
            min(self.x1 + margin, width),
            min(self.y1 + margin, height),
        )

    @property
    def slices(self) -> tuple[slice, slice]:
        """Index of this part of an array."""
        return slice(self.y0, self.y1), slice(self.x0, self.x1)


@dataclasses.dataclass(frozen=True)
class Change:
    """How the picture in a box came from the one before."""

    box: Box
    """Pixels of the view."""
    origin: tuple[Floats, Floats]
    """(h, w) each, x and y within the box where each point was before; for `cv2.remap`."""
    trust: Floats
    """(rows, columns) of cells: 1 where the picture is the one before, moved; 0 where it is something else."""

    def carried(self, mask: Floats) -> Floats:
        """Return the box of an earlier mask (of the whole view), moved along with the picture."""
        return _taken(mask[self.box.slices], self.origin)


class Motion:
    """Compares each picture with the one before it.

    Args:
        width: Of the view.
        height: Likewise.
        cut: Mean change, after motion, over the picture's contrast, from which the picture is a new scene.
    """

    def __init__(self, width: int, height: int, cut: float) -> None:
        self._size = width, height
        self._cells = max(width // CELL, 1), max(height // CELL, 1)
        self._cut = cut
        self._search = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
        self._search.setFinestScale(0)
        self._search.setPatchStride(6)
        self._search.setGradientDescentIterations(8)
        self._before: Luma | None = None
        """The last picture but one, a pixel a cell."""
        self._now: Luma | None = None

    def step(self, luma: Luma) -> bool:
        """Take the next picture; return whether a new scene begins with it (with the first one, none does)."""
        self._before = self._now
        self._now = coarse(luma, self._cells)
        return self._before is not None and self._is_cut(self._before, self._now)

    def _is_cut(self, before: Luma, now: Luma) -> bool:
        change = _difference(now, before)
        if change < self._cut * FLAT:
            return False
        most = self._cut * max(_contrast(before), _contrast(now), FLAT)
        if change < most:
            return False
        moved = _taken(before, _origin(self._flow(before, now), *now.shape))
        return _difference(now, moved) >= most

    def change(self, box: Box) -> Change:
        """Return how the last picture came from the one before it, in a box or somewhat more; after two `step`s."""
        assert self._before is not None, "there is no picture before the first"
        assert self._now is not None
        cells = self._cells_of(box)
        before, now = self._before[cells.slices], self._now[cells.slices]
        flow = self._flow(before, now)
        box = self._pixels_of(cells)
        origin = _origin(flow, box.y1 - box.y0, box.x1 - box.x0)
        changed = cv2.absdiff(now, _taken(before, _origin(flow, *now.shape)))
        some = np.sort(changed[::2, ::2], axis=None)
        noise = min(float(some[len(some) // 2]), MOST_NOISE)
        # A mean of windows lies above the median of pixels: 1.5 times holds for noise of a normal distribution.
        trust = cv2.boxFilter(changed, cv2.CV_32F, (3, 3))
        trust -= np.float32(QUIET + 1.5 * noise + FADING)
        trust *= np.float32(-1 / FADING)
        return Change(box, origin, within_one(trust))

    def _flow(self, before: Luma, now: Luma) -> Floats:
        """Return (rows, columns, 2), cells: how far from where it is now each cell was before."""
        if min(now.shape) < LEAST_FLOW:  # of a view too small to search in: taken as still
            return np.zeros((*now.shape, 2), np.float32)
        flow: Floats = self._search.calc(np.ascontiguousarray(now), np.ascontiguousarray(before), None)
        return flow

    def _cells_of(self, box: Box) -> Box:
        (columns, rows), (width, height) = self._cells, self._size
        x0, x1 = _span(box.x0 * columns // width, -(-box.x1 * columns // width), columns)
        y0, y1 = _span(box.y0 * rows // height, -(-box.y1 * rows // height), rows)
        return Box(x0, y0, x1, y1)

    def _pixels_of(self, cells: Box) -> Box:
        (columns, rows), (width, height) = self._cells, self._size
        return Box(
            cells.x0 * width // columns,
            cells.y0 * height // rows,
            cells.x1 * width // columns,
            cells.y1 * height // rows,
        )


def _span(first: int, last: int, most: int) -> tuple[int, int]:
    """Widen a range within 0..most until the flow search can work in it."""
    missing = LEAST_FLOW - (last - first)
    if missing > 0:
        first = max(min(first - missing // 2, most - LEAST_FLOW), 0)
        last = min(first + LEAST_FLOW, most)
    return first, last


def _origin(flow: Floats, rows: int, columns: int) -> tuple[Floats, Floats]:
    """Bring a flow field to a size; return the x and y (each of that size) that it points at."""
    x, y = flow[..., 0], flow[..., 1]
    x = cv2.resize(x * np.float32(columns / flow.shape[1]), (columns, rows), interpolation=cv2.INTER_LINEAR)
    y = cv2.resize(y * np.float32(rows / flow.shape[0]), (columns, rows), interpolation=cv2.INTER_LINEAR)
    x += np.arange(columns, dtype=np.float32)
    y += np.arange(rows, dtype=np.float32)[:, None]
    return x, y


def _taken(picture: NDArray[Any], origin: tuple[Floats, Floats]) -> NDArray[Any]:
    taken: NDArray[Any] = cv2.remap(picture, *origin, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return taken


def within_one(values: Floats) -> Floats:
    """Cut an array off at 0 and 1, in place; `np.clip` takes three times as long on small ones."""
    limited: Floats = cv2.min(cv2.max(values, 0.0, dst=values), 1.0, dst=values)
    return limited


def coarse(picture: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """Return a picture at a quarter of its size, or about; two halvings are three times as fast as one step."""
    rows, columns = picture.shape
    if (columns, rows) == (4 * size[0], 4 * size[1]):
        picture = cv2.resize(picture, (columns // 2, rows // 2), interpolation=cv2.INTER_AREA)
    small: NDArray[Any] = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    return small


def _difference(one: Luma, other: Luma) -> float:
    return float(cv2.norm(one, other, cv2.NORM_L1)) / one.size


def _contrast(luma: Luma) -> float:
    return float(cv2.mean(cv2.absdiff(luma, cv2.mean(luma)[0]))[0])
