"""Comments in flight: when and where each is seen, and what it looks like.

The letters are those that OpenCV 5 carries (`uni`: Latin, Cyrillic, Chinese, Japanese, Korean), so that a preview looks
the same everywhere and needs no font of the system. They have no emoji, which are left out.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from vpipe_mask.comments import Comment
from vpipe_mask.opencv import cv2

FLIGHT_S = 8.0
"""From the moment that a comment enters until its last letter has left."""
STAND_S = 4.0
"""How long one at the top or the bottom stays."""
LETTERS = 1 / 16
"""Height of usual letters, as a share of the picture's."""
GAP = 0.5
"""Least distance of two comments in a lane, in letters' heights."""
WEIGHT = 600
"""Of the font; 400 is regular, 800 bold."""

_FONT = cv2.FontFace("uni")


@dataclasses.dataclass(frozen=True)
class Sprite:
    """A comment's picture."""

    color: NDArray[np.float32]
    """(h, w, 3), RGB 0..255, letters and their dark rim, already times `cover`."""
    cover: NDArray[np.float32]
    """(h, w, 1), 0..1."""


@dataclasses.dataclass(frozen=True)
class Flight:
    """One comment on its way."""

    comment: Comment
    start_s: float
    width: int
    lane: int
    """Row of the picture at which it begins."""

    @property
    def end_s(self) -> float:
        """When it is gone."""
        return self.start_s + (FLIGHT_S if self.comment.mode in ("scroll", "reverse") else STAND_S)

    def x(self, now_s: float, picture_width: int) -> float:
        """Return the column at which it begins at a time."""
        if self.comment.mode in ("top", "bottom"):
            return (picture_width - self.width) / 2
        gone = (now_s - self.start_s) / FLIGHT_S * (picture_width + self.width)
        return picture_width - gone if self.comment.mode == "scroll" else gone - self.width


class Airspace:
    """Gives each comment a lane in which it meets no other; one that finds none is not shown.

    Args:
        width: Of the picture.
        height: Likewise.
        comments: In order of time.
    """

    def __init__(self, width: int, height: int, comments: Iterable[Comment]) -> None:
        self.width, self.height = width, height
        self._waiting = iter(comments)
        self._next = next(self._waiting, None)
        self._flying: list[Flight] = []
        self._sprites: dict[tuple[str, int, float], Sprite] = {}
        self.left_out = 0
        """Comments that found no lane, or held nothing that can be drawn."""

    def at(self, now_s: float) -> list[tuple[Flight, Sprite]]:
        """Return what is in the air at a time; times must ascend."""
        self._flying = [flight for flight in self._flying if flight.end_s > now_s]
        while self._next is not None and self._next.time_s <= now_s:
            if self._next.time_s > now_s - FLIGHT_S:
                self._launch(self._next)
            self._next = next(self._waiting, None)
        self._sprites = {_look(f.comment): self._sprites[_look(f.comment)] for f in self._flying}
        return [(flight, self._sprites[_look(flight.comment)]) for flight in self._flying]

    def _launch(self, comment: Comment) -> None:
        look = _look(comment)
        sprite = self._sprites[look] if look in self._sprites else draw(comment, self.height)
        lane = None if sprite is None else self._lane(comment, *sprite.cover.shape[:2])
        if sprite is None or lane is None:
            self.left_out += 1
            return
        self._sprites[look] = sprite
        self._flying.append(Flight(comment, comment.time_s, sprite.cover.shape[1], lane))

    def _lane(self, comment: Comment, height: int, width: int) -> int | None:
        step = max(round(self.height * LETTERS / 4), 1)
        rows = range(0, self.height - height + 1, step)
        for row in reversed(rows) if comment.mode == "bottom" else rows:
            near = [
                other
                for other in self._flying
                if other.comment.mode == comment.mode
                and row < other.lane + self._sprites[_look(other.comment)].cover.shape[0]
                and other.lane < row + height
            ]
            if not any(self._meet(other, comment, width) for other in near):
                return row
        return None

    def _meet(self, other: Flight, comment: Comment, width: int) -> bool:
        """Return whether a new comment would touch one before it in the same lane."""
        if comment.mode in ("top", "bottom"):
            return other.end_s > comment.time_s
        gap = GAP * self.height * LETTERS
        entered = (comment.time_s - other.start_s) / FLIGHT_S * (self.width + other.width)
        # The longer one is the faster: it must not reach the end of the way before the other has left it.
        speed = (self.width + width) / FLIGHT_S
        ahead = (other.end_s - comment.time_s) * speed
        return entered < other.width + gap or ahead > self.width - gap


def _look(comment: Comment) -> tuple[str, int, float]:
    return comment.text, comment.color, comment.size


def draw(comment: Comment, picture_height: int) -> Sprite | None:
    """Return a comment's picture, or None where there is nothing in it to draw."""
    lines = [line for line in map(_drawable, comment.text.splitlines()) if line]
    if not lines:
        return None
    size = max(round(picture_height * LETTERS * min(max(comment.size, 0.3), 3.0)), 6)
    rim = max(size // 14, 1)
    pitch = round(1.25 * size)
    widths = [cv2.getTextSize((0, 0), line, (0, 0), _FONT, size, WEIGHT)[2] for line in lines]
    letters = np.zeros((pitch * len(lines) + 2 * rim, max(widths) + 4 * rim + size // 4), np.uint8)
    for number, line in enumerate(lines):
        cv2.putText(letters, line, (2 * rim, rim + round(0.95 * size) + number * pitch), 255, _FONT, size, WEIGHT)
    dark = cv2.dilate(letters, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * rim + 1, 2 * rim + 1)))
    inside = letters.astype(np.float32)[..., None] / 255
    cover = np.maximum(cv2.GaussianBlur(dark, (3, 3), 0).astype(np.float32)[..., None] / 255 * 0.8, inside)
    red, green, blue = comment.color >> 16 & 255, comment.color >> 8 & 255, comment.color & 255
    # Letters of a dark colour get a light rim.
    edge = 220.0 if max(red, green, blue) < 80 else 0.0
    color = np.array([red, green, blue], np.float32) * inside + edge * (cover - np.minimum(inside, cover))
    return Sprite(color, cover)


def _drawable(line: str) -> str:
    """Return a line without what the font has no letters for: emoji, and marks that only change how one looks."""
    return "".join(c for c in line if c.isprintable() and ord(c) < 0x10000 and not 0xFE00 <= ord(c) <= 0xFE0F).strip()
