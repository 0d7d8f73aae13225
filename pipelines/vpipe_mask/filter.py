"""Masks that are good to watch: what a net draws, a frame at a time, made steady, clean and honest.

    raw mask --> edges by the picture (refine) --> level with the last mask, moved along (motion)
             --> soft edge --> small regions and holes go (regions) --> applied or not (gate) --> alpha

Time costs nothing where nothing happens: flow and edges are worked out in a box around the person only.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vpipe_mask.motion import CELL, Box, Motion, within_one
from vpipe_mask.opencv import cv2
from vpipe_mask.refine import refine
from vpipe_mask.regions import Gate, Mask, Regions

Floats = NDArray[np.float32]

TRACE = 0.04
"""A pixel that is no more counts as empty."""
MARGIN = 12
"""Pixels around a mask that are looked at: so far may it move from one frame to the next, or an edge be moved."""
WIDE = 3.0
"""Times `hysteresis`, the disagreement from which nothing of the last mask stays."""


@dataclasses.dataclass(frozen=True)
class FilterOptions:
    """The knobs of the filter; the defaults are meant to look right."""

    people: Literal["all", "main"] = "all"
    """Who is masked: everyone, or the largest person only (followed as long as nobody is clearly larger)."""
    level: float = 0.5
    """The net's output from which a pixel is person, 0..1; lower masks more."""
    edge_reach: int = 4
    """How far an edge may move to meet one of the picture, in pixels of the net's input; 0: as the net drew it."""
    edge_detail: float = 2e-4
    """Smallest variance of brightness (0..1) that counts as an edge of the picture; lower follows hair, and noise."""
    edge_soft: float = 0.6
    """Softness of the edge: 1 as soft as it comes, 0 hard."""
    steady: float = 0.88
    """Share of the last mask that stays where net and picture agree with it; 0: every frame for itself."""
    hysteresis: float = 0.25
    """Disagreement of net and last mask (0..1) up to which `steady` holds; at three times as much the net wins."""
    cut: float = 0.5
    """Change of the picture after motion, relative to its contrast, that is a scene cut and forgets the past."""
    small: float = 0.003
    """Share of the picture below which regions are dropped, and holes filled."""
    least_person: float = 0.025
    """Close-up gate: with no person of this share of the picture (a long shot), no mask is applied."""
    most_cover: float = 0.85
    """Coverage cap: a mask over more than this share of the picture is not applied, or no comment would be seen."""
    patience: int = 8
    """Frames in a row that must ask for it before masks are switched on or off; at a cut it is done at once."""

    def __post_init__(self) -> None:
        if self.people not in ("all", "main"):
            raise ValueError(f"people is {self.people!r}; it must be 'all' or 'main'")
        for name in ("level", "edge_soft", "steady", "hysteresis", "small", "least_person", "most_cover"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise ValueError(f"{name} is {value}; it must be 0 to 1")
        for name in ("edge_detail", "cut", "edge_reach", "patience"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must not be negative")


@dataclasses.dataclass(frozen=True)
class Filtered:
    """What to show for one frame."""

    alpha: Mask
    """(h, w), 255 is person; all 0 where the mask is not applied."""
    applied: bool
    """False: a gate is shut, comments are to be seen everywhere."""
    cut: bool
    """A new scene begins with this frame."""


class MaskFilter:
    """Filters the masks of one stream, in order of time. Same input, same output.

    OpenCV's own threads do not help at this size; workers have them set to one.

    Args:
        options: The knobs.
        width: Of the view that the net saw, and of its mask.
        height: Likewise.
    """

    def __init__(self, options: FilterOptions, width: int, height: int) -> None:
        self._options = options
        self._size = width, height
        self._motion = Motion(width, height, options.cut)
        self._regions = Regions(options.small, options.people == "main")
        self._gate = Gate(options.least_person, options.most_cover, options.patience)
        self._last: Floats | None = None
        """(h, w), 0..1, the last mask before its edge was softened and its regions cleaned."""
        self._seen: Box | None = None
        """Where it is not empty, and around."""

    def step(self, raw: NDArray[Any] | None, view: NDArray[np.uint8]) -> Filtered:
        """Return the mask to show for the next frame.

        Args:
            raw: (h, w), float 0..1 or uint8 0..255, as the net drew it; None if it was not run on this frame: the last
                mask is then moved along with the picture.
            view: (h, w, 3), uint8, RGB, of the same frame.
        """
        luma: NDArray[np.uint8] = cv2.cvtColor(view, cv2.COLOR_RGB2GRAY)
        cut = self._motion.step(luma)
        if cut:
            self._last = self._seen = None
            self._regions.forget()
            self._gate.forget()
        if raw is not None:
            self._take(_as_floats(raw), luma)
        elif self._last is not None:
            self._carry(self._last)
        if self._last is None:  # nothing is known yet: fail open
            return Filtered(self._nothing(np.uint8), False, cut)
        cleaned = self._regions.clean(self._softened(self._last))
        applied = self._gate.step(cleaned.largest, cleaned.cover)
        return Filtered(cleaned.alpha if applied else self._nothing(np.uint8), applied, cut)

    def _carry(self, last: Floats) -> None:
        """Move the last mask along with the picture."""
        if self._seen is not None:
            change = self._motion.change(self._seen)
            self._keep(change.box, change.carried(last))

    def _take(self, raw: Floats, luma: NDArray[np.uint8]) -> None:
        """Clean the edges of the net's mask, and level it with the last one."""
        box = self._box_of(raw)
        if box is None and self._seen is None:
            self._last = self._nothing(np.float32)
            return
        box = box.joined(self._seen) if box else self._seen
        assert box is not None
        if self._last is None or self._options.steady == 0:
            self._keep(box, self._refined(box, raw, luma))
            return
        change = self._motion.change(box)
        old = change.carried(self._last)
        new = self._refined(change.box, raw, luma)
        old -= new
        old *= self._share(old, change.trust)
        new += old
        self._keep(change.box, new)

    def _share(self, apart: Floats, trust: Floats) -> Floats:
        """Return how much of the old mask stays: less where the net disagrees, nothing where the picture is new."""
        rows, columns = apart.shape
        start = self._options.hysteresis
        half = cv2.resize(np.abs(apart), (max(columns // 2, 1), max(rows // 2, 1)), interpolation=cv2.INTER_AREA)
        half -= np.float32(WIDE * start)
        half *= np.float32(-1 / max((WIDE - 1) * start, 1e-3))
        within_one(half)
        half *= cv2.resize(trust, half.shape[::-1], interpolation=cv2.INTER_LINEAR)
        half *= np.float32(self._options.steady)
        share: Floats = cv2.resize(half, (columns, rows), interpolation=cv2.INTER_LINEAR)
        return share

    def _refined(self, box: Box, raw: Floats, luma: NDArray[np.uint8]) -> Floats:
        part = raw[box.slices]
        if self._options.edge_reach == 0:
            return part.copy()
        return refine(part, luma[box.slices], self._options.edge_reach, self._options.edge_detail)

    def _keep(self, box: Box, part: Floats) -> None:
        self._last = self._nothing(np.float32)
        self._last[box.slices] = part
        self._seen = self._box_of(self._last)

    def _softened(self, mask: Floats) -> Mask:
        """Return the mask as alpha: a ramp about `level`, as wide as `edge_soft` says."""
        options = self._options
        steep = 1 / max(options.edge_soft, 1 / 255)
        lowest = options.level - 0.5 / steep
        # Below the ramp it must be cut off by hand: `convertScaleAbs` mirrors what is negative.
        ramp = cv2.max(mask, lowest)
        alpha: Mask = cv2.convertScaleAbs(ramp, alpha=255 * steep, beta=-255 * steep * lowest)
        return alpha

    def _box_of(self, mask: Floats) -> Box | None:
        """Return where a mask is not empty, with a margin."""
        if self._options.small == 0:  # crumbs are wanted
            return Box(0, 0, *self._size)
        # A pixel a cell is looked at: what slips through is a crumb.
        x, y, columns, rows = cv2.boundingRect((mask[::CELL, ::CELL] > TRACE).view(np.uint8))
        if columns == 0:
            return None
        box = Box(x * CELL, y * CELL, (x + columns) * CELL, (y + rows) * CELL)
        return box.grown(MARGIN, *self._size)

    def _nothing(self, dtype: type[Any]) -> NDArray[Any]:
        width, height = self._size
        return np.zeros((height, width), dtype)


def _as_floats(raw: NDArray[Any]) -> Floats:
    if raw.dtype == np.uint8:
        return raw * np.float32(1 / 255)
    floats = raw.astype(np.float32, copy=False)
    if not cv2.checkRange(floats)[0]:  # a NaN would stay in the last mask for good
        floats = np.nan_to_num(floats, posinf=1.0, neginf=0.0)
    return floats
