"""What viewers would see: a film with comments flying behind people."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vpipe.film import Film, FilmFrame, FilmWriter
from vpipe_mask.comments import Comment
from vpipe_mask.flight import FLIGHT_S, Airspace
from vpipe_mask.opencv import cv2

Rgb = NDArray[np.uint8]
Timed: TypeAlias = "tuple[float, NDArray[Any]]"
"""Seconds since the film's first frame, and a mask (h, w) of any size: uint8, or float 0..1."""

STALE_S = 0.5
"""A mask that is older is not applied: comments show."""
LATE_S = 0.002
"""Times in mask files are rounded to milliseconds."""
PANEL = 640
"""Greatest width of a part of the side-by-side view."""
TINT = np.array((48, 168, 96), np.float32)
"""Colour of what is not person, where masks are shown."""

SAYINGS = (
    "前方高能", "弹幕从人身后飞过", "哈哈哈哈哈哈", "コメントが人の後ろを流れる", "wwwwwwww", "888888",
    "Hello from the back row", "这也太稳了吧", "まってました", "来了来了", "behind you!", "名场面", "すごい",
    "awesome", "안녕하세요",
)  # fmt: skip
"""For previews without comments of their own."""
_COLORS = (0xFFFFFF, 0xFFFFFF, 0xFFE133, 0xFFFFFF, 0x66CCFF, 0xFFFFFF, 0xFF7A7A)


def render_preview(
    source: str | os.PathLike[str],
    masks: Iterable[Timed],
    out: str | os.PathLike[str],
    comments: Iterable[Comment] | None = None,
    *,
    side_by_side: bool = False,
    raw: Iterable[Timed] | None = None,
    fit: tuple[int, int] = (1280, 720),
) -> int:
    """Render a film with comments behind people, its sound kept, into an .mp4 or .mkv.

    Args:
        source: The film.
        masks: Of its frames, in order of time; a frame shows the last one that has begun.
        out: Complete, or absent.
        comments: In order of time; some made-up ones if None.
        side_by_side: Show the masks beside the result, and before them the net's own where `raw` has them.
        raw: Masks as the net drew them, likewise timed.
        fit: Greatest width and height of the picture (of a part, side by side).

    Returns:
        How many comments found no room.

    Raises:
        MediaError: The film cannot be decoded, or `out` has another ending.
        ResourceError: `out` cannot be written.
    """
    if side_by_side:
        fit = min(fit[0], PANEL), min(fit[1], PANEL)
    with Film(os.fspath(source), fit) as film:
        width, height = film.size
        air = Airspace(width, height, made_up() if comments is None else comments)
        shown, drawn = _Latest(masks, film.size), _Latest(raw or (), film.size)
        panels = 1 + side_by_side + (side_by_side and raw is not None)
        with FilmWriter(out, (panels * width, height), film) as writer:
            for frame in film:
                mask = shown.at(frame.pts_s)
                parts = [result(frame, mask, air)]
                if side_by_side:
                    parts.insert(0, _tinted(frame.picture, mask, "filtered"))
                    if raw is not None:
                        parts.insert(0, _tinted(frame.picture, drawn.at(frame.pts_s), "net"))
                writer.add(frame.pts, np.hstack(parts))
        return air.left_out


def result(frame: FilmFrame, mask: NDArray[np.float32] | None, air: Airspace) -> Rgb:
    """Return a frame with the comments of its moment, behind what `mask` (h, w, 0..1) holds."""
    picture = frame.picture.copy()
    width = picture.shape[1]
    for flight, sprite in air.at(frame.pts_s):
        rows, columns = sprite.cover.shape[:2]
        left = round(flight.x(frame.pts_s, width))
        x0, x1 = max(left, 0), min(left + columns, width)
        if x0 >= x1:
            continue
        here = slice(flight.lane, flight.lane + rows), slice(x0, x1)
        there = slice(0, rows), slice(x0 - left, x1 - left)
        seen = np.float32(1) if mask is None else 1 - mask[here][..., None]
        part = picture[here] * (1 - sprite.cover[there] * seen) + sprite.color[there] * seen
        picture[here] = np.clip(part + np.float32(0.5), 0, 255)
    return picture


def made_up() -> Iterator[Comment]:
    """Yield comments without end, the same ones every time; the first are on their way when the film begins."""
    number = 0
    while True:
        text, color = SAYINGS[number % len(SAYINGS)], _COLORS[number % len(_COLORS)]
        yield Comment(time_s=0.45 * number - FLIGHT_S, text=text, color=color)
        number += 1


class _Latest:
    """The mask of a moment, as large as the picture."""

    def __init__(self, masks: Iterable[Timed], size: tuple[int, int]) -> None:
        self._coming = iter(masks)
        self._next = next(self._coming, None)
        self._size = size
        self._now: tuple[float, NDArray[np.float32]] | None = None

    def at(self, now_s: float) -> NDArray[np.float32] | None:
        """Return the last mask that has begun, (h, w), 0..1; None if there is none or it is stale."""
        found = None
        while self._next is not None and self._next[0] <= now_s + LATE_S:
            found, self._next = self._next, next(self._coming, None)
        if found is not None:
            self._now = found[0], self._enlarged(found[1])
        if self._now is None or now_s - self._now[0] > STALE_S:
            return None
        return self._now[1]

    def _enlarged(self, mask: NDArray[Any]) -> NDArray[np.float32]:
        values = mask * np.float32(1 / 255) if mask.dtype == np.uint8 else mask.astype(np.float32)
        large: NDArray[np.float32] = cv2.resize(values, self._size, interpolation=cv2.INTER_LINEAR)
        return np.clip(large, 0, 1)


def _tinted(picture: Rgb, mask: NDArray[np.float32] | None, label: str) -> Rgb:
    """Return a picture in which only people keep their colours, and its name in the corner."""
    person = np.zeros((*picture.shape[:2], 1), np.float32) if mask is None else mask[..., None]
    tinted: Rgb = (picture * (0.35 + 0.65 * person) + TINT * (0.5 * (1 - person))).clip(0, 255).astype(np.uint8)
    size = max(picture.shape[0] // 20, 8)
    cv2.putText(
        tinted, label, (size // 2, picture.shape[0] - size // 2), (255, 255, 255), cv2.FontFace("uni"), size, 600
    )
    return tinted
