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
KEPT = 0.5
"""A region that was shown stays until it is below this share of the size that a new one needs."""
LOYALTY = 1.5
"""Someone else must be this much larger to become the main person."""


@dataclasses.dataclass(frozen=True)
class Cleaned:
    """A mask without the regions that are not to be seen."""

    padded: Mask
    """With a pixel of 0 all around."""
    borders: list[Outline]
    """Of the regions and holes that are left; pixels of `padded`."""
    largest: float
    """Size of the largest region left, as a share of the picture."""
    cover: float
    """Size of all regions left, likewise."""


class Regions:
    """Drops small regions, fills small holes, and keeps to the main person where only that one is wanted.

    Args:
        smallest: Share of the picture that a region, or a hole, must have; 0: even what is too faint to be one stays.
        main_only: Keep the largest region only; it is followed while it is about as large as any other.
        reach: Pixels that the soft edge of a region may extend from it.
    """

    def __init__(self, smallest: float, main_only: bool, reach: int) -> None:
        self._smallest = smallest
        self._main_only = main_only
        self._near = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
        self._shown: Mask | None = None
        """The regions of the last mask, 255 inside, padded."""

    def forget(self) -> None:
        """Start anew: what was shown before does not count."""
        self._shown = None

    def clean(self, padded: Mask) -> Cleaned:
        """Return what of a mask is to be seen; it comes with a pixel of 0 all around, and is itself changed."""
        whole = (padded.shape[0] - 2) * (padded.shape[1] - 2)
        solid: Mask = cv2.threshold(padded, PERSON - 1, 255, cv2.THRESH_BINARY)[1]
        outlines, tree = cv2.findContours(solid, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        if not outlines:
            self._shown = solid
            return Cleaned(np.zeros_like(padded) if self._smallest > 0 else padded, [], 0.0, 0.0)
        parents = tree[0, :, 3].tolist()
        areas = [_pixels(line, parent >= 0) for line, parent in zip(outlines, parents, strict=True)]
        people = [at for at, parent in enumerate(parents) if parent < 0]
        wanted = self._wanted(outlines, areas, people, whole)
        unwanted = [outlines[at] for at in people if at not in wanted]
        holes = [at for at, parent in enumerate(parents) if parent in wanted]
        filled = [outlines[at] for at in holes if areas[at] < self._smallest * whole]
        if unwanted:
            cv2.drawContours(solid, unwanted, -1, 0, cv2.FILLED)
        if filled:
            self._fill(padded, filled)
            cv2.drawContours(solid, filled, -1, 255, cv2.FILLED)
        self._shown = solid
        if self._smallest > 0 or unwanted:
            # Whatever is too faint to be a region of its own, and not the edge of one, goes as well.
            cv2.min(padded, cv2.dilate(solid, self._near), dst=padded)
        left = [*wanted, *(at for at in holes if areas[at] >= self._smallest * whole)]
        largest = max((areas[at] for at in wanted), default=0.0)
        return Cleaned(padded, [outlines[at] for at in sorted(left)], largest / whole, cv2.countNonZero(solid) / whole)

    @staticmethod
    def _fill(mask: Mask, holes: list[Outline]) -> None:
        """Fill holes of a mask, each as sure as its rim: white in the midst of grey would catch the eye."""
        filled = np.zeros_like(mask)
        for hole in holes:
            rim = mask[hole[:, 0, 1], hole[:, 0, 0]]
            cv2.drawContours(filled, [hole], -1, float(rim.mean()), cv2.FILLED)
        cv2.max(mask, filled, dst=mask)

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
