"""Figures of a filter that can be had without a reference: flicker, lag, and what happens at cuts.

None of them uses what the filter itself thinks of the picture: motion is searched anew, finer and with another setting.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vpipe_mask.filter import Filtered, FilterOptions, MaskFilter
from vpipe_mask.opencv import cv2

Floats = NDArray[np.float32]
Pair: TypeAlias = "tuple[NDArray[Any], NDArray[np.uint8]]"
"""A net's mask (h, w), float 0..1 or uint8, and the view (h, w, 3) it was drawn from, RGB."""

UNCHANGED = 6.0
"""Levels of luma (0..255) by which a point that did not change may differ from where it came from."""
NEW_SCENE = 0.6
"""Change that motion does not explain, over the picture's contrast, from which it is a hard cut."""
WINDOW = 6
"""Frames back that the lag is searched in; it is also searched one frame ahead."""
MOVED = 0.5
"""Change of the net's mask within the window that makes a pixel part of an edge on the move."""
SPEED = 0.5
"""Pixels a frame from which the picture moves."""
SOMEBODY = 0.01
"""Share of the picture that the net's mask has at least where there is someone."""
ENOUGH = 2000
"""Pixels of moving edges that it takes to tell the lag."""
NEAR = 15
"""Pixels a side of the surroundings of a point that count as moving with it."""


def figures(path: str) -> dict[str, Any]:
    """Return a clip's figures, for `vpipe bench mask CLIP --quality`: those of `compare`, and of the clip cut up.

    Returns:
        What `measure` returns; and as `spliced` the same figures of cuts for the clip with hard cuts made in it.
    """
    found = measure(of_clip(path))
    again = measure(spliced(of_clip(path)))
    return found | {"spliced": {name: again[name] for name in ("cuts", "cuts_found", "cut_iou")}}


def measure(pairs: Iterable[Pair], options: FilterOptions | None = None) -> dict[str, Any]:
    """Run a fresh filter over a clip and compare what it makes with what it was given.

    The gates stay open: they would hide the masks that are measured.

    Returns:
        What `compare` returns.
    """
    return compare(_filtered(pairs, options or FilterOptions()))


def of_clip(path: str, overrides: dict[str, Any] | None = None) -> Iterator[Pair]:
    """Yield what the net draws on each frame of a film, in bytes, and the view that it draws it from.

    Args:
        path: The film.
        overrides: Settings of the mask pipeline, see `vpipe_mask.options`; the portrait net as it is if None.

    Raises:
        VpipeError: It cannot be run.
    """
    from vpipe.film import Film
    from vpipe_mask import options
    from vpipe_mask.run import raw_masks

    masks = (mask for _, mask in raw_masks(path, overrides or options()))
    first = next(masks, None)
    if first is None:
        return
    with Film(path, size=first.shape[::-1]) as film:
        for mask, frame in zip(itertools.chain([first], masks), film, strict=True):
            yield mask, frame.picture


def _filtered(pairs: Iterable[Pair], options: FilterOptions) -> Iterator[tuple[Pair, Filtered]]:
    keeper: MaskFilter | None = None
    for raw, view in pairs:
        if keeper is None:
            settings = dataclasses.replace(options, least_person=0.0, most_cover=1.0)
            keeper = MaskFilter(settings, view.shape[1], view.shape[0])
        yield (raw, view), keeper.step(raw, view)


def compare(frames: Iterable[tuple[Pair, Filtered]]) -> dict[str, Any]:
    """Compare filtered masks with the net's own, over consecutive frames.

    Returns:
        `frames`; `flicker_raw`, `flicker_filtered` (mean absolute change, 0..1, between consecutive masks where the
        moved picture did not change) and `flicker_lower` (1 - filtered/raw); `lag_frames` (by how many frames the
        filtered mask comes after the raw one at moving edges; may be below 0); `iou` (mean of filtered and raw, at one
        half); `cuts` (numbers of the frames that begin a scene), `cuts_found` (how many of them the filter saw),
        `cut_iou` (the lowest IoU of such a frame). A figure is None where the clip has nothing to take it from.
    """
    flicker, lag, scenes = _Flicker(), _Lag(), _Scenes()
    before: _Step | None = None
    count = 0
    for (raw, view), done in frames:
        luma: NDArray[np.uint8] = cv2.cvtColor(view, cv2.COLOR_RGB2GRAY)
        now = _Step(luma, _floats(raw), _floats(done.alpha))
        if before is not None:
            still = _still(before.luma, luma)
            if still is None:
                scenes.add(count, now, done.cut)
                lag.forget()  # what was before is nothing to compare with
            else:
                flicker.add(before, now, still)
                lag.add(before, now, still)
        scenes.overlap(now)
        before = now
        count += 1
    return {"frames": count, **flicker.figures(), **lag.figures(), **scenes.figures()}


def spliced(pairs: Iterable[Pair], every: int = 45) -> Iterator[Pair]:
    """Mirror every other stretch of a clip, so that it has hard cuts at known frames (multiples of `every`)."""
    for number, (raw, view) in enumerate(pairs):
        if number // every % 2:
            yield np.ascontiguousarray(raw[:, ::-1]), np.ascontiguousarray(view[:, ::-1])
        else:
            yield raw, view


@dataclasses.dataclass(frozen=True)
class _Step:
    """One frame as seen here."""

    luma: NDArray[np.uint8]
    raw: Floats
    alpha: Floats


@dataclasses.dataclass(frozen=True)
class _Still:
    """How a picture came from the one before."""

    origin: Floats
    """(h, w, 2), x and y where each point was."""
    same: NDArray[np.bool_]
    """(h, w), where it is the same point."""
    moving: NDArray[np.bool_]
    """(h, w), where something moves, or moved away."""


class _Flicker:
    def __init__(self) -> None:
        self._raw = self._filtered = 0.0
        self._pixels = 0

    def add(self, before: _Step, now: _Step, still: _Still) -> None:
        """Count a pair of frames."""
        same = still.same
        self._raw += float(np.abs(now.raw - _moved(before.raw, still.origin))[same].sum())
        self._filtered += float(np.abs(now.alpha - _moved(before.alpha, still.origin))[same].sum())
        self._pixels += int(np.count_nonzero(same))

    def figures(self) -> dict[str, float | None]:
        if self._pixels == 0:
            return {"flicker_raw": None, "flicker_filtered": None, "flicker_lower": None}
        return {
            "flicker_raw": self._raw / self._pixels,
            "flicker_filtered": self._filtered / self._pixels,
            "flicker_lower": 1 - self._filtered / self._raw if self._raw else None,
        }


class _Lag:
    """The shift in time at which the filtered mask is most like the raw one, to a fraction of a frame."""

    def __init__(self) -> None:
        self._recent: list[tuple[_Step, NDArray[np.bool_]]] = []
        """Frames, oldest first, and where the raw mask jumped: the net changed its mind, nothing moved there."""
        self._apart = np.zeros(WINDOW + 2)
        """Squared difference of the filtered mask and the raw one of 1 frame later, the same frame, 1 earlier, ..."""
        self._pixels = 0

    def forget(self) -> None:
        self._recent = []

    def add(self, before: _Step, now: _Step, still: _Still) -> None:
        jumped = np.abs(now.raw - _moved(before.raw, still.origin)) > MOVED
        self._recent = [*self._recent, (now, jumped)][-WINDOW - 2 :]
        if len(self._recent) < WINDOW + 2:
            return
        raws = [step.raw for step, _ in reversed(self._recent)]  # newest first
        alpha = self._recent[-2][0].alpha
        edge = (np.max(raws, axis=0) - np.min(raws, axis=0) > MOVED) & still.moving
        edge &= ~np.any([jumped for _, jumped in self._recent], axis=0)
        self._pixels += int(np.count_nonzero(edge))
        for shift, raw in enumerate(raws):
            self._apart[shift] += float(np.square(alpha - raw)[edge].sum())

    def figures(self) -> dict[str, float | None]:
        if self._pixels < ENOUGH:
            return {"lag_frames": None}
        at = int(np.argmin(self._apart))
        shift = float(at)
        if 0 < at < len(self._apart) - 1:
            # A sharp edge covers as many pixels more as the shift is longer: both sides are straight lines.
            left, low, right = self._apart[at - 1 : at + 2]
            if (steepest := max(left, right) - low) > 0:
                shift += 0.5 * (left - right) / steepest
        return {"lag_frames": float(shift - 1)}


class _Scenes:
    def __init__(self) -> None:
        self._cuts: list[int] = []
        self._found = 0
        self._at_cuts: list[float] = []
        self._overlaps: list[float] = []

    def add(self, frame: int, now: _Step, found: bool) -> None:
        """Note the first frame of a scene."""
        self._cuts.append(frame)
        self._found += found
        self._at_cuts += _overlap(now)

    def overlap(self, now: _Step) -> None:
        self._overlaps += _overlap(now)

    def figures(self) -> dict[str, Any]:
        return {
            "iou": sum(self._overlaps) / len(self._overlaps) if self._overlaps else None,
            "cuts": self._cuts,
            "cuts_found": self._found,
            "cut_iou": min(self._at_cuts, default=None),
        }


def _overlap(now: _Step) -> list[float]:
    """Return the overlap of a frame's masks, or nothing where the net sees nobody: crumbs are there to be dropped."""
    return [iou(now.raw, now.alpha)] if float((now.raw >= 0.5).mean()) >= SOMEBODY else []


def iou(one: Floats, other: Floats) -> float:
    """Return the overlap of two masks (0..1) at one half; NaN where both are empty."""
    either = int(np.count_nonzero((one >= 0.5) | (other >= 0.5)))
    return int(np.count_nonzero((one >= 0.5) & (other >= 0.5))) / either if either else math.nan


def _still(before: NDArray[np.uint8], now: NDArray[np.uint8]) -> _Still | None:
    """Return what became of the picture before, or None over a cut."""
    search = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    flow: Floats = search.calc(now, before, None)
    rows, columns = now.shape
    places = np.stack(np.meshgrid(np.arange(columns), np.arange(rows)), axis=-1).astype(np.float32)
    origin = flow + places
    apart = np.abs(now - _moved(before.astype(np.float32), origin))
    contrast = max(float(np.abs(now - now.mean()).mean()), 12.0)
    if float(apart.mean()) > NEW_SCENE * contrast:
        return None
    # What something has just left lies beside it, and does not move itself.
    speed = cv2.dilate(np.hypot(flow[..., 0], flow[..., 1]), np.ones((NEAR, NEAR), np.uint8))
    return _Still(origin, cv2.boxFilter(apart, -1, (3, 3)) <= UNCHANGED, speed >= SPEED)


def _moved(mask: Floats, origin: Floats) -> Floats:
    moved: Floats = cv2.remap(mask, origin, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return moved


def _floats(mask: NDArray[Any]) -> Floats:
    return mask * np.float32(1 / 255) if mask.dtype == np.uint8 else mask.astype(np.float32)
