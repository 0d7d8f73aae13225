"""The outline of the people in a mask: polygons on a small grid, traced from soft masks and filled again.

An outline's points lie where the mask's value passes a level, between the pixels and not on them: a mask of 256 x 144
gives an outline that is good to a fraction of its pixel, and no larger mask has to be made first.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

UNITS = 4
"""Points are in units of 1/UNITS of a pixel of the grid."""
WIDTH, HEIGHT = 320, 180
"""The grid where none is given, pixels."""
MAX_SIDE = 4096
"""Largest width and height of a grid, pixels; so that every coordinate fits int16."""
MAX_POLYGONS = 255
MAX_POINTS = 4096
"""Of all polygons of an outline together."""
TOLERANCE = 0.4
"""How far the polygon may lie from the traced line, pixels of the grid."""
LEAST_AREA = 4.0
"""Regions and holes smaller than this, in pixels of the grid, are left out."""

Chain: TypeAlias = NDArray[Any]
"""(n, 1, 2), int32, x and y of pixels, each beside the one before."""
Polygon = NDArray[np.int16]
"""(n, 2), n >= 3: x, y in 1/UNITS pixel, y down, (0, 0) the grid's upper left corner; closed without saying so."""


@dataclasses.dataclass(frozen=True, eq=False)
class Outline:
    """Where people are: inside the polygons.

    The boundary of a region runs counterclockwise as seen on the screen and that of a hole clockwise, so that the
    non-zero rule and the even-odd rule fill the same.
    """

    width: int
    """Of the grid, pixels."""
    height: int
    polygons: tuple[Polygon, ...]

    def __eq__(self, other: object) -> bool:
        """Two outlines are equal when every point is."""
        if not isinstance(other, Outline):
            return NotImplemented
        return (self.width, self.height, len(self.polygons)) == (
            other.width,
            other.height,
            len(other.polygons),
        ) and all(map(np.array_equal, self.polygons, other.polygons))

    __hash__ = None  # type: ignore[assignment]

    @property
    def points(self) -> int:
        """How many points there are in all polygons."""
        return sum(map(len, self.polygons))


def trace(
    alpha: NDArray[np.uint8],
    *,
    width: int = WIDTH,
    height: int = HEIGHT,
    level: int = 128,
    tolerance: float = TOLERANCE,
) -> Outline:
    """Trace the line where a mask passes `level`.

    The same mask gives the same outline. Where there is too much of it (noise), the smallest regions go first.

    Args:
        alpha: (h, w), 255 where a person is; any size, it is stretched over the grid.
        width: Of the grid, pixels.
        height: Of the grid, pixels.
        level: A pixel of at least this value is inside, 1..255.
        tolerance: How far the outline may lie from the line, pixels of the grid.

    Returns:
        An outline within MAX_POLYGONS and MAX_POINTS.
    """
    if alpha.shape[0] > 2 * height or alpha.shape[1] > 2 * width:
        alpha = _u8(cv2.resize(alpha, (width, height), interpolation=cv2.INTER_AREA))
    padded = _u8(cv2.copyMakeBorder(alpha, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0))
    _, inside = cv2.threshold(padded, level - 1, 255, cv2.THRESH_BINARY)
    chains, _ = cv2.findContours(inside, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    return follow(padded, chains, width=width, height=height, level=level, tolerance=tolerance)


def follow(
    padded: NDArray[np.uint8],
    chains: Sequence[Chain],
    *,
    width: int = WIDTH,
    height: int = HEIGHT,
    level: int = 128,
    tolerance: float = TOLERANCE,
) -> Outline:
    """Trace the lines where a mask passes `level` along borders that are known already; see `trace`.

    Args:
        padded: The mask with a pixel of 0 all around.
        chains: The inside pixels along each border, as `cv2.findContours` gives them.
        width: Of the grid, pixels.
        height: Of the grid, pixels.
        level: A pixel of at least this value is inside.
        tolerance: How far the outline may lie from the line, pixels of the grid.
    """
    # Below eight pixels around there is nothing that LEAST_AREA would keep.
    chains = [chain for chain in chains if len(chain) >= 8]
    if len(chains) > MAX_POLYGONS:
        # By area a hole comes after what it is in, so that no hole is left alone.
        chains = sorted(chains, key=cv2.contourArea, reverse=True)[:MAX_POLYGONS]
    rows, columns = padded.shape
    scale = np.array([UNITS * width / (columns - 2), UNITS * height / (rows - 2)], np.float32)
    borders = [np.asarray(chain[:, 0], np.int32) for chain in chains]
    lines = [(_crossings(padded, border, level) * scale)[:, None] for border in borders]
    return _within_limits(width, height, lines, tolerance)


def coarser(outline: Outline, tolerance: float, least_area: float) -> Outline:
    """Return an outline of fewer points, within `tolerance` pixels of this one, without regions below `least_area`."""
    lines = [polygon[:, None].astype(np.float32) for polygon in outline.polygons]
    return Outline(outline.width, outline.height, _simplify(lines, tolerance, least_area))


def fill(outline: Outline, width: int | None = None, height: int | None = None) -> NDArray[np.uint8]:
    """Return the mask of an outline, (height, width): 255 where the centre of a pixel is inside by the even-odd rule.

    Args:
        outline: What to fill.
        width: Of the mask, pixels; the grid is stretched over it. The grid's own where not given.
        height: Of the mask, pixels.
    """
    width, height = width or outline.width, height or outline.height
    turns = np.zeros((height, width + 1), np.uint8)
    scale = np.array([width / outline.width, height / outline.height]) / UNITS
    for polygon in outline.polygons:
        start = polygon * scale - 0.5  # pixel centres are now at whole numbers
        end = np.roll(start, -1, axis=0)
        # Edges run down, whichever way the polygon goes: or rounding could put a pixel on either side of the same edge.
        runs_down = (start[:, 1] <= end[:, 1])[:, None]
        start, end = np.where(runs_down, start, end), np.where(runs_down, end, start)
        # Each edge crosses the rows from `first` up to, but without, `last`; a level edge crosses none.
        first = np.clip(np.ceil(start[:, 1]), 0, height).astype(np.int64)
        last = np.clip(np.ceil(end[:, 1]), 0, height).astype(np.int64)
        count = last - first
        edge = np.repeat(np.arange(len(count)), count)
        row = np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count) + first[edge]
        slope = (end[edge, 0] - start[edge, 0]) / (end[edge, 1] - start[edge, 1])
        column = np.ceil(start[edge, 0] + (row - start[edge, 1]) * slope)
        np.add.at(turns, (row, np.clip(column, 0, width).astype(np.int64)), 1)
    # An odd number of crossings to the left is inside; a sum that wraps at 256 stays odd or even.
    inside = np.add.accumulate(turns[:, :width], axis=1, dtype=np.uint8) & 1
    return _u8(inside * np.uint8(255))


def _within_limits(width: int, height: int, lines: list[NDArray[np.float32]], tolerance: float) -> Outline:
    while True:
        outline = Outline(width, height, _simplify(lines, tolerance, LEAST_AREA))
        if outline.points <= MAX_POINTS:
            return outline
        tolerance *= 2


def _simplify(lines: list[NDArray[np.float32]], tolerance: float, least_area: float) -> tuple[Polygon, ...]:
    """Return polygons of the closed lines, (n, 1, 2) in units of the grid, that still hold an area."""
    polygons = []
    for line in lines:
        rough = cv2.approxPolyDP(line, tolerance * UNITS, True)
        if len(rough) < 3 or cv2.contourArea(rough) < least_area * UNITS * UNITS:
            continue
        polygon = np.rint(rough[:, 0]).astype(np.int16)
        packed = polygon.view(np.int32)[:, 0]
        fresh = np.empty(len(packed), bool)
        np.not_equal(packed[1:], packed[:-1], out=fresh[1:])
        fresh[0] = packed[0] != packed[-1]
        polygons.append(polygon if fresh.all() else polygon[fresh])
    return tuple(polygons)


# Following a border: OpenCV gives the inside pixels along it, one step in one of eight directions at a time. Turning at
# a pixel from where the walk came to where it goes on, the neighbours passed over are outside. Between the pixel and
# each of its outside neighbours to the right, above, left and below lies one point of the outline.
_STEPS = ((1, 0), (1, -1), (0, -1), (-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1))
_SIDES = np.full((64, 4), -1)
"""By 8 * (direction back) + (direction on): the sides passed over, 0 right, 1 above, 2 left, 3 below; -1 fills up."""
for _a in range(8):
    for _b in range(8):
        _passed = [k % 8 // 2 for k in range(_a + 1, _a + 1 + (_b - _a - 1) % 8) if k % 2 == 0]
        _SIDES[8 * _a + _b, : len(_passed)] = _passed
_BACK = np.array([(direction ^ 4) << 3 for direction in range(8)])
_OFFSET = np.array([1, -1j, -1, 1j], np.complex64)


@functools.lru_cache(maxsize=32)
def _tables(width: int, height: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """For a flat padded mask: direction by index step (+ stride + 1), index step by side, what is padding."""
    stride = width + 2
    directions = np.zeros(2 * stride + 3, np.int64)
    for direction, (x, y) in enumerate(_STEPS):
        directions[y * stride + x + stride + 1] = direction
    padding = np.ones((height + 2, stride), bool)
    padding[1:-1, 1:-1] = False
    return directions, np.array([1, -stride, -1, stride]), padding.ravel()


def _crossings(padded: NDArray[np.uint8], chain: NDArray[np.int32], level: int) -> NDArray[np.float32]:
    """Return (n, 2) the points x, y, in pixels of the mask without its padding, where the mask passes the level."""
    height, width = padded.shape[0] - 2, padded.shape[1] - 2
    directions, side_steps, padding = _tables(width, height)
    flat = padded.ravel()
    # Some thirty small steps on arrays: what is spared here is most of the time that tracing takes.
    at = np.multiply(chain[:, 1], width + 2, dtype=np.int64)
    at += chain[:, 0]
    step = np.empty_like(at)
    np.subtract(at[1:], at[:-1], out=step[:-1])
    step[-1] = at[0] - at[-1]
    step += width + 3
    turn = directions.take(step)
    back = _BACK.take(turn)
    turn[1:] += back[:-1]
    turn[0] += back[-1]
    # One entry for each side of each pixel: `of` is the pixel, `side` the side.
    sides = _SIDES.take(turn, axis=0).ravel()
    there_is = np.flatnonzero(sides >= 0)
    side = sides.take(there_is)
    of = there_is >> 2
    here = at.take(of)
    there = side_steps.take(side)
    there += here
    value = flat.take(here)
    share = (value - np.float32(level - 0.5)) / (value - flat.take(there))
    beyond = padding.take(there)
    touches = bool(beyond.any())
    if touches:
        share[beyond] = 0.5
    # In the padded mask a pixel's centre has its whole number; in pixels without padding it lies half a pixel before.
    points = np.subtract(chain, 0.5, dtype=np.float32).view(np.complex64)[:, 0].take(of)
    points += _OFFSET.take(side) * share
    found = points.view(np.float32).reshape(-1, 2)
    if touches:
        _reach_corners(found, np.where(beyond, side, -1))
    return found


def _reach_corners(points: NDArray[np.float32], edge: NDArray[np.int64]) -> None:
    """Make each run of points along the frame's edge begin and end where the points before and after it stand.

    Such points are in the middle of a pixel's side; the line would cut the corner. `edge` is the side of the frame
    that a point lies on, -1 elsewhere.
    """
    moves = []
    # The walk begins and ends at the topmost point, with both ends on the frame's edge or neither.
    for last in np.flatnonzero(edge[1:] != edge[:-1]).tolist():
        for point, other in ((last, last + 1), (last + 1, last)):
            if edge[point] >= 0:
                along = 0 if edge[point] % 2 else 1
                moves.append((point, along, points[other, along]))
    for point, along, value in moves:
        points[point, along] = value


def _u8(array: NDArray[np.generic] | cv2.typing.MatLike) -> NDArray[np.uint8]:
    return np.asarray(array, np.uint8)
