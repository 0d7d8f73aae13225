"""The regions of a mask: which are people worth masking, and whether the mask as a whole is to be applied."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vpipe_mask.opencv import cv2

Mask = NDArray[np.uint8]
"""(h, w), 0..255; 255 is person."""
Outline = NDArray[np.int32]
"""(n, 1, 2), as `cv2.findContours` gives them."""

PERSON = 128
"""From here up, a pixel is person."""
REACH = 3
"""Pixels of the half-size picture that the soft edge of a region may extend from it."""
KEPT = 0.5
"""A region that was shown stays until it is below this share of the size that a new one needs."""
LOYALTY = 1.5
"""Someone else must be this much larger to become the main person."""


@dataclasses.dataclass(frozen=True)
class Cleaned:
    """A mask without the regions that are not to be seen."""

    alpha: Mask
    largest: float
    """Size of the largest region left, as a share of the picture."""
    cover: float
    """Size of all regions left, likewise."""


class Regions:
    """Drops small regions, fills small holes, and keeps to the main person where only that one is wanted.

    Args:
        smallest: Share of the picture that a region, or a hole, must have; 0: even what is too faint to be one stays.
        main_only: Keep the largest region only; it is followed while it is about as large as any other.
    """

    def __init__(self, smallest: float, main_only: bool) -> None:
        self._smallest = smallest
        self._main_only = main_only
        self._shown: Mask | None = None
        """The regions of the last mask at half size, 255 inside."""

    def forget(self) -> None:
        """Start anew: what was shown before does not count."""
        self._shown = None

    def clean(self, alpha: Mask) -> Cleaned:
        """Return what of a mask is to be seen; `alpha` itself may be changed."""
        rows, columns = alpha.shape
        half = cv2.resize(alpha, (max(columns // 2, 1), max(rows // 2, 1)), interpolation=cv2.INTER_AREA)
        solid: Mask = cv2.threshold(half, PERSON - 1, 255, cv2.THRESH_BINARY)[1]
        outlines, tree = cv2.findContours(solid, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        if not outlines:
            self._shown = solid
            return Cleaned(np.zeros_like(alpha) if self._smallest > 0 else alpha, 0.0, 0.0)
        is_hole = [parent >= 0 for parent in tree[0, :, 3].tolist()]
        areas = [_pixels(line, hole) for line, hole in zip(outlines, is_hole, strict=True)]
        people = [at for at, hole in enumerate(is_hole) if not hole]
        wanted = self._wanted(outlines, areas, people, solid.size)
        unwanted = [outlines[at] for at in people if at not in wanted]
        holes = [
            outlines[at]
            for at, hole in enumerate(is_hole)
            if hole and areas[at] < self._smallest * solid.size and tree[0, at, 3] in wanted
        ]
        if unwanted:
            cv2.drawContours(solid, unwanted, -1, 0, cv2.FILLED)
        if holes:
            filled = np.zeros_like(solid)
            cv2.drawContours(filled, holes, -1, 255, cv2.FILLED)
            cv2.bitwise_or(solid, filled, dst=solid)
            alpha = cv2.max(alpha, cv2.resize(filled, (columns, rows), interpolation=cv2.INTER_LINEAR))
        self._shown = solid
        if self._smallest > 0 or unwanted:
            # Whatever is too faint to be a region of its own, and not the edge of one, goes as well.
            reach = cv2.dilate(solid, _DISC)
            alpha = cv2.min(alpha, cv2.resize(reach, (columns, rows), interpolation=cv2.INTER_LINEAR))
        largest = max((areas[at] for at in wanted), default=0.0)
        return Cleaned(alpha, largest / solid.size, cv2.countNonZero(solid) / solid.size)

    def _wanted(self, outlines: Sequence[Outline], areas: list[float], people: list[int], whole: int) -> set[int]:
        least = self._smallest * whole
        wanted = {at for at in people if areas[at] >= least}
        for at in people:
            if KEPT * least <= areas[at] < least and self._share_shown(outlines[at]) > 0.5:
                wanted.add(at)
        if self._main_only and len(wanted) > 1:
            loyalty = {at: 1 + (LOYALTY - 1) * self._share_shown(outlines[at]) for at in wanted}
            wanted = {max(sorted(wanted), key=lambda at: areas[at] * loyalty[at])}
        return wanted

    def _share_shown(self, outline: Outline) -> float:
        """Return how much of a region was shown in the last mask, 0..1."""
        if self._shown is None:
            return 0.0
        x, y, width, height = cv2.boundingRect(outline)
        inside = np.zeros((height, width), np.uint8)
        cv2.drawContours(inside, [outline], -1, 255, cv2.FILLED, offset=(-x, -y))
        return float(cv2.mean(self._shown[y : y + height, x : x + width], inside)[0]) / 255


def _pixels(outline: Outline, hole: bool) -> float:
    """Return how many pixels an outline holds (Pick's theorem; the outline of a hole runs through its rim)."""
    area, border = float(cv2.contourArea(outline)), len(outline) / 2
    return area - border + 1 if hole else area + border + 1


_DISC = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * REACH + 1, 2 * REACH + 1))


class Gate:
    """Decides whether masks are applied: not in long shots with tiny people, and not where nearly all is covered.

    The bounds to go back are farther than those to leave, and a change must last, or masks would blink.

    Args:
        least: Share of the picture that the largest person must have.
        most: Share of the picture that a mask may cover.
        patience: How many masks in a row must ask for a change; a cut needs none.
    """

    def __init__(self, least: float, most: float, patience: int) -> None:
        self._least = least
        self._most = most
        self._patience = patience
        self._open: bool | None = None
        self._asked = 0

    def forget(self) -> None:
        """Start anew: the next mask decides alone."""
        self._open = None

    def step(self, largest: float, cover: float) -> bool:
        """Return whether this mask is applied; both are shares of the picture."""
        if self._open is None:
            if largest == 0:  # nobody yet: whoever comes first decides
                return False
            self._open, self._asked = self._least <= largest and cover <= self._most, 0
            return self._open
        slack = (0.75, 1.05) if self._open else (1.0, 1.0)
        wanted = self._least * slack[0] <= largest and cover <= self._most * slack[1]
        self._asked = self._asked + 1 if wanted != self._open else 0
        if self._asked >= self._patience:
            self._open, self._asked = wanted, 0
        return self._open
