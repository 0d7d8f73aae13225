"""Masks that are good to watch: what a net draws, a frame at a time, made steady, clean and honest.

    raw mask --> shrunk --> edges by the picture (refine) --> level with the last mask, moved along (motion)
             --> small regions and holes go (regions) --> applied or not (gate) --> as it was, with a soft edge

Time costs nothing where nothing happens: flow and edges are worked out in a box around the person only. All of it is
done at half the size of the net's mask, for a third of the time; the mask is brought back to size, soft, before its
edge is made as sharp as is wanted.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vpipe_mask.motion import CELL, Box, Motion, Slices, coarse, taken
from vpipe_mask.opencv import cv2
from vpipe_mask.outline import Chain, Outline, follow, trace
from vpipe_mask.refine import refine
from vpipe_mask.regions import Cleaned, Gate, Mask, Regions

Floats = NDArray[np.float32]

TRACE = 10
"""A pixel of no more (0..255) counts as empty."""
MARGIN = 3
"""Cells around a mask that are looked at: so far may it move from one frame to the next, or an edge be moved."""
WIDE = 3.0
"""Times `hysteresis`, the disagreement from which nothing of the last mask stays."""
LEAST_SIDE = 128
"""Masks with a side of fewer pixels are not shrunk."""
REACH = 6
"""Pixels of the net's mask that the soft edge of a region may extend from it."""


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
    steady: float = 0.9
    """Share of the last mask that stays where net and picture agree with it; 0: every frame for itself."""
    hysteresis: float = 0.25
    """Disagreement of net and last mask (0..1) up to which `steady` holds; at three times as much the net wins."""
    cut: float = 0.5
    """Change of the picture after motion, relative to its contrast, that is a scene cut and forgets the past."""
    shrink: Literal[1, 2] = 2
    """Pixels of the net's mask a side that are filtered as one: 1 costs three times as much, for finer edges."""
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
        if self.shrink not in (1, 2):
            raise ValueError(f"shrink is {self.shrink!r}; it must be 1 or 2")
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

    padded: Mask
    """The mask at the filter's own size with a pixel of 0 all around: 128 and more is person, below and above it rises
    slowly; all 0 where the mask is not applied."""
    applied: bool
    """False: a gate is shut, comments are to be seen everywhere."""
    cut: bool
    """A new scene begins with this frame."""
    cover: float = 0.0
    """Share of the picture that is person."""
    borders: Sequence[Chain] | None = None
    """Inside pixels along the borders of what is person, in `padded`; None: not known."""
    size: tuple[int, int] | None = None
    """Width and height of the net's mask, where the filter's own size is another."""
    steepness: float = 1.0
    """How much faster than in `padded` the mask rises at its edge."""

    @property
    def soft(self) -> Mask:
        """(rows, columns): `padded` without its padding; enough where only the edge's place is asked for."""
        return self.padded[1:-1, 1:-1]

    @functools.cached_property
    def alpha(self) -> Mask:
        """(h, w) of the net's mask, 255 is person."""
        alpha = self.soft
        if self.size is not None:
            alpha = cv2.resize(alpha, self.size, interpolation=cv2.INTER_LINEAR)
        if self.steepness == 1:
            return alpha
        # Below the ramp it must be cut off by hand: `convertScaleAbs` mirrors what is negative.
        lowest = 127.5 * (1 - 1 / self.steepness)
        sharp: Mask = cv2.convertScaleAbs(cv2.max(alpha, lowest), alpha=self.steepness, beta=-self.steepness * lowest)
        return sharp

    @functools.cached_property
    def outline(self) -> Outline:
        """Where the mask passes 128."""
        return trace(self.soft) if self.borders is None else follow(self.padded, self.borders)


class MaskFilter:
    """Filters the masks of one stream, in order of time. Same input, same output.

    OpenCV's own threads do not help at this size; workers have them set to one.

    Args:
        options: The knobs.
        width: Of the view that the net saw, and of its mask.
        height: Likewise.
    """

    def __init__(self, options: FilterOptions, width: int, height: int) -> None:
        shrink = options.shrink if min(width, height) >= LEAST_SIDE else 1
        self._options = options
        self._net_size = width, height
        self._size = max(width // shrink, 1), max(height // shrink, 1)
        self._is_small = self._size != self._net_size
        self._cell = CELL // shrink
        """Pixels of ours a side that a cell has."""
        self._reach = -(-options.edge_reach // CELL)
        self._motion = Motion(*self._size, self._cell, options.cut)
        self._regions = Regions(options.small, options.people == "main", REACH // shrink)
        self._gate = Gate(options.least_person, options.most_cover, options.patience)
        start = max(255 * options.hysteresis, 0.1)
        apart = (WIDE * start - np.arange(256)) / ((WIDE - 1) * start)
        self._share = (options.steady * np.clip(apart, 0, 1)).astype(np.float32)
        """Share of the last mask that stays, by its disagreement with the net's."""
        self._last: Floats | None = None
        """The last mask, 0..255, before its regions were cleaned."""

    def step(self, raw: NDArray[Any] | None, view: NDArray[np.uint8]) -> Filtered:
        """Return the mask to show for the next frame.

        Args:
            raw: (h, w), float 0..1 or uint8 0..255, as the net drew it; None if it was not run on this frame: the last
                mask is then moved along with the picture.
            view: Of the same frame, uint8: its luma, (h, w), limited range (16..235), or (h, w, 3), RGB.
        """
        luma = self._shrunk(view)
        if luma.ndim == 3:
            luma = cv2.convertScaleAbs(cv2.cvtColor(luma, cv2.COLOR_RGB2GRAY), alpha=219 / 255, beta=16)
        cut = self._motion.step(luma)
        if cut:
            self._last = None
            self._regions.forget()
            self._gate.forget()
        if raw is not None:
            self._last = self._levelled(self._drawn(raw), luma)
        elif self._last is not None:
            self._last = self._carried(self._last)
        if self._last is None:  # nothing is known yet: fail open
            return self._filtered(None, cut)
        cleaned = self._regions.clean(self._soft(self._last))
        applied = self._gate.step(cleaned.largest, cleaned.cover)
        return self._filtered(cleaned if applied else None, cut)

    def _filtered(self, cleaned: Cleaned | None, cut: bool) -> Filtered:
        size = self._net_size if self._is_small else None
        if cleaned is None:
            return Filtered(self._empty(np.uint8, 1), False, cut, 0.0, (), size)
        steepness = 1 / max(self._options.edge_soft, 1 / 255)
        return Filtered(cleaned.padded, True, cut, cleaned.cover, cleaned.borders, size, steepness)

    def _empty(self, dtype: type[Any], padding: int = 0) -> NDArray[Any]:
        columns, rows = self._size
        return np.zeros((rows + 2 * padding, columns + 2 * padding), dtype)

    def _shrunk(self, picture: NDArray[Any]) -> NDArray[Any]:
        return coarse(picture, self._size) if self._is_small else picture

    def _drawn(self, raw: NDArray[Any]) -> NDArray[Any]:
        """Return the net's mask at our size, 0..255, bytes where it is in bytes."""
        if raw.dtype == np.uint8:
            return self._shrunk(raw)
        levels = raw * np.float32(255)
        if not cv2.checkRange(levels)[0]:  # a NaN would stay in the last mask for good
            levels = np.nan_to_num(levels, posinf=255.0, neginf=0.0)
        return self._shrunk(levels)

    def _carried(self, last: Floats) -> Floats:
        """Return the last mask, moved along with the picture."""
        box = self._box_of(self._traces(last))
        if box is None:
            return last
        change = self._motion.change(box, fine=True)
        carried = self._empty(np.float32)
        carried[change.at] = taken(last[change.at], change.origin)
        return carried

    def _levelled(self, raw: NDArray[Any], luma: NDArray[np.uint8]) -> Floats:
        """Return the net's mask with its edges cleaned, levelled with the last one."""
        last = self._last if self._options.steady > 0 else None
        cells = coarse(raw, self._motion.cells)
        traces = cells > TRACE
        if last is not None:
            traces |= self._traces(last)
        box = self._box_of(traces)
        levelled = self._empty(np.float32)
        if box is None:
            return levelled
        if last is None:
            at = self._motion.pixels(box)
            levelled[at] = self._refined(box, at, raw, luma, cells)
            return levelled
        change = self._motion.change(box)
        new = self._refined(change.box, change.at, raw, luma, cells)
        # The old one stays: less where the net disagrees, nothing where the picture is new.
        old = taken(last[change.at], change.origin)
        old -= new
        size = change.trust.shape[::-1]
        share = cv2.LUT(cv2.resize(cv2.convertScaleAbs(old), size, interpolation=cv2.INTER_AREA), self._share)
        share *= change.trust
        old *= cv2.resize(share, new.shape[::-1], interpolation=cv2.INTER_LINEAR)
        np.add(new, old, out=levelled[change.at])
        return levelled

    def _refined(self, box: Box, at: Slices, raw: NDArray[Any], luma: NDArray[np.uint8], cells: NDArray[Any]) -> Floats:
        mask = raw[at].astype(np.float32)
        if self._reach == 0:
            return mask
        assert self._motion.now is not None
        value, guide = cells[box.slices].astype(np.float32), self._motion.now[box.slices].astype(np.float32)
        return refine(mask, luma[at].astype(np.float32), value, guide, self._reach, self._options.edge_detail)

    def _soft(self, mask: Floats) -> Mask:
        """Return the mask in bytes, with `level` in the middle, padded."""
        shift = 255 * (0.5 - self._options.level)
        if shift < 0:  # `convertScaleAbs` mirrors what is negative
            mask = cv2.max(mask, -shift)
        soft = self._empty(np.uint8, 1)
        cv2.convertScaleAbs(mask, dst=soft[1:-1, 1:-1], beta=shift)
        return soft

    def _traces(self, mask: Floats) -> NDArray[np.bool_]:
        """Return in which cells a mask is not empty; a pixel each is looked at, and what slips through is a crumb."""
        columns, rows = self._motion.cells
        traces: NDArray[np.bool_] = mask[:: self._cell, :: self._cell][:rows, :columns] > TRACE
        return traces

    def _box_of(self, traces: NDArray[np.bool_]) -> Box | None:
        """Return where there are traces, with a margin."""
        if self._options.small == 0:  # crumbs are wanted
            return Box(0, 0, *self._motion.cells)
        x, y, columns, rows = cv2.boundingRect(traces.view(np.uint8))
        return Box(x, y, x + columns, y + rows).grown(MARGIN, *self._motion.cells) if columns else None
