"""What happened between two pictures: a cut, or where each point came from and where nothing else changed.

Motion is searched on a coarse picture, whose pixels are called cells; boxes are counted in them.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vpipe_mask.opencv import cv2

Luma = NDArray[np.uint8]
Floats = NDArray[np.float32]
Slices: TypeAlias = tuple[slice, slice]

CELL = 4
"""Pixels of the net's input a side that a cell stands for: finer search costs four times as much a halving, and
explained a tenth more of the change on the clips tried."""
LEAST_FLOW = 32
"""Cells a side that the search needs to work with patches of 8."""
QUIET = 2.0
"""Change of luma (0..255) that every codec makes."""
FADING = 12.0
"""From `QUIET` and the noise on, so many more levels of change until nothing of the old mask is trusted."""
MOST_NOISE = 6
"""A larger typical change is no noise: the whole picture changes."""
FLAT = 12.0
"""Contrast (mean deviation of the luma) that a picture is taken to have at least, or in a dark scene every flicker
would be a large change."""

# By noise and change. A mean of windows lies above the median of pixels: 1.5 times holds for noise of a normal
# distribution.
_TRUST = [
    np.clip(1 - (np.arange(256) - QUIET - 1.5 * noise) / FADING, 0, 1).astype(np.float32)
    for noise in range(MOST_NOISE + 1)
]


class Box(NamedTuple):
    """A part of a picture: columns `x0` to `x1`, rows `y0` to `y1` of its cells, ends not included."""

    x0: int
    y0: int
    x1: int
    y1: int

    def joined(self, other: Box | None) -> Box:
        """Return the smallest box that holds both."""
        if other is None:
            return self
        return Box(min(self.x0, other.x0), min(self.y0, other.y0), max(self.x1, other.x1), max(self.y1, other.y1))

    def grown(self, margin: int, columns: int, rows: int) -> Box:
        """Return the box widened on all sides, within a picture of so many cells."""
        return Box(
            max(self.x0 - margin, 0),
            max(self.y0 - margin, 0),
            min(self.x1 + margin, columns),
            min(self.y1 + margin, rows),
        )

    @property
    def slices(self) -> Slices:
        """Index of this part of an array of cells."""
        return slice(self.y0, self.y1), slice(self.x0, self.x1)


class Change(NamedTuple):
    """How the picture in a box came from the one before."""

    box: Box
    at: Slices
    """The box as an index of an array of pixels."""
    origin: Floats
    """(h, w, 2), x and y within the box's pixels where each of them was before; for `cv2.remap`."""
    trust: Floats
    """(rows, columns) of cells: 1 where the picture is the one before, moved; 0 where it is something else."""


class Motion:
    """Compares each picture with the one before it.

    Args:
        width: Of the pictures, pixels.
        height: Likewise.
        cell: Pixels a side that a cell has, about.
        cut: Mean change, after motion, over the picture's contrast, from which the picture is a new scene.
    """

    def __init__(self, width: int, height: int, cell: int, cut: float) -> None:
        self.cells = columns, rows = max(width // cell, 1), max(height // cell, 1)
        """Columns and rows of the coarse picture."""
        self.now: Luma | None = None
        """The last picture, a pixel a cell."""
        self._before: Luma | None = None
        """The last but one."""
        self._size = width, height
        self._cut = cut
        self._search = _search(stride=8, iterations=4)
        self._fine_search = _search(stride=6, iterations=8)
        # Arrays of x and y, prepared once: at this size a call costs more than its work.
        self._cell_places = _places(columns, rows)
        self._places = _places(width, height)
        self._stretch = np.full((rows, columns, 2), (width / columns, height / rows), np.float32)

    def step(self, luma: Luma) -> bool:
        """Take the next picture; return whether a new scene begins with it (with the first one, none does)."""
        self._before = self.now
        self.now = coarse(luma, self.cells)
        return self._before is not None and self._is_cut(self._before, self.now)

    def _is_cut(self, before: Luma, now: Luma) -> bool:
        change = _difference(now, before)
        if change < self._cut * FLAT:
            return False
        most = self._cut * max(_contrast(before), _contrast(now), FLAT)
        if change < most:
            return False
        return _difference(now, taken(before, self._flow(before, now, self._search) + self._cell_places)) >= most

    def change(self, box: Box, *, fine: bool = False) -> Change:
        """Return how the last picture came from the one before it; after two `step`s.

        Args:
            box: The part that is asked for; somewhat more may be looked at.
            fine: Search more closely, for half as much again: for masks that only motion tells of.
        """
        assert self._before is not None, "there is no picture before the first"
        assert self.now is not None
        columns, rows = self.cells
        (x0, x1), (y0, y1) = _span(box.x0, box.x1, columns), _span(box.y0, box.y1, rows)
        box = Box(x0, y0, x1, y1)
        before, now = self._before[box.slices], self.now[box.slices]
        height, width = now.shape
        flow = self._flow(before, now, self._fine_search if fine else self._search)
        changed = cv2.absdiff(now, taken(before, flow + self._cell_places[:height, :width]))
        flow *= self._stretch[:height, :width]
        at = down, right = self.pixels(box)
        width, height = right.stop - right.start, down.stop - down.start
        origin: Floats = cv2.resize(flow, (width, height), interpolation=cv2.INTER_LINEAR)
        origin += self._places[:height, :width]
        some = np.sort(changed[::4, ::4], axis=None)
        noise = min(int(some[len(some) // 2]), MOST_NOISE)
        return Change(box, at, origin, cv2.LUT(cv2.blur(changed, (3, 3)), _TRUST[noise]))

    def pixels(self, box: Box) -> Slices:
        """Return the index of a box in an array of pixels."""
        (columns, rows), (width, height) = self.cells, self._size
        return (
            slice(box.y0 * height // rows, box.y1 * height // rows),
            slice(box.x0 * width // columns, box.x1 * width // columns),
        )

    @staticmethod
    def _flow(before: Luma, now: Luma, search: Any) -> Floats:
        """Return (rows, columns, 2), cells: how far from where it is now each cell was before."""
        if min(now.shape) < LEAST_FLOW:  # of a view too small to search in: taken as still
            return np.zeros((*now.shape, 2), np.float32)
        flow: Floats = search.calc(np.ascontiguousarray(now), np.ascontiguousarray(before), None)
        return flow


def _search(stride: int, iterations: int) -> Any:
    """Return a dense inverse search (Kroeger et al., ECCV 2016): how far apart its patches are, and how often moved."""
    search = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
    search.setFinestScale(0)
    search.setPatchStride(stride)
    search.setGradientDescentIterations(iterations)
    return search


def _span(first: int, last: int, most: int) -> tuple[int, int]:
    """Widen a range within 0..most until the flow search can work in it."""
    missing = LEAST_FLOW - (last - first)
    if missing > 0:
        first = max(min(first - missing // 2, most - LEAST_FLOW), 0)
        last = min(first + LEAST_FLOW, most)
    return first, last


def _places(columns: int, rows: int) -> Floats:
    """Return x and y of every place, (rows, columns, 2)."""
    return np.stack(np.meshgrid(np.arange(columns), np.arange(rows)), axis=-1).astype(np.float32)


def taken(picture: NDArray[Any], origin: Floats) -> NDArray[Any]:
    """Return a picture moved: each of its points is what was at its origin, (h, w, 2), x and y."""
    found: NDArray[Any] = cv2.remap(picture, origin, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return found


def coarse(picture: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """Return a picture at a smaller size; by a quarter, two halvings are three times as fast as one step."""
    rows, columns = picture.shape[:2]
    if (columns, rows) == (4 * size[0], 4 * size[1]):
        picture = cv2.resize(picture, (columns // 2, rows // 2), interpolation=cv2.INTER_AREA)
    small: NDArray[Any] = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    return small


def _difference(one: Luma, other: Luma) -> float:
    return float(cv2.norm(one, other, cv2.NORM_L1)) / one.size


def _contrast(luma: Luma) -> float:
    return float(cv2.mean(cv2.absdiff(luma, cv2.mean(luma)[0]))[0])
