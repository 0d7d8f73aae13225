"""The code of the live feed: one mask, one message; a key holds a whole outline, a delta what changed since the key.

docs/mask-feed.md specifies the bytes. A delta refers to the last key and never to another delta, so that a lost message
costs one mask and no more, and whoever joins needs two messages: the last key and the newest.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np

from vpipe_mask.outline import MAX_POINTS, MAX_POLYGONS, MAX_SIDE, UNITS, Outline, Polygon, coarser
from vpipe_mask.wire import LIMIT, MAX_BYTES, Base, CodeError, Numbers, Points, Reader, varint, varints, written, zigzag

__all__ = ["WHOLE", "CodeError", "Decoder", "Encoder", "MaskFrame", "Peek", "is_key", "peek"]

MAGIC = b"VM"
VERSION = 1
KEY, APPLIED, RECT = 1, 2, 4
ROTATION_SHIFT = 4
KNOWN_FLAGS = 0b0011_0111
RECT_ONE = 65_535
"""1.0 in the code of the video's rectangle."""
U32 = 2**32 - 1

SAVES = 0.9
"""A delta must be shorter than this share of its key."""
WHOLE = (0.0, 0.0, 1.0, 1.0)
"""The rectangle of a video without bars."""


@dataclasses.dataclass(frozen=True)
class MaskFrame:
    """A mask and all that a renderer must know of it."""

    epoch: int
    """Counts the restarts of the stream's clock: times of two epochs must not be compared. 32 bits."""
    sequence: int
    """Counts the masks of a stream within an epoch. 32 bits."""
    pts_us: int
    """The frame's presentation time, microseconds; may be negative."""
    duration_us: int
    """How long the frame is shown; 0 where unknown."""
    arrival_us: int
    """When its packet arrived, microseconds of Unix time; 0 where unknown."""
    rect: tuple[float, float, float, float]
    """x, y, width, height of the video within the grid, 0..1; the rest is bars."""
    rotation: int
    """Degrees clockwise to turn the mask upright, as players show the video: 0, 90, 180 or 270."""
    applied: bool
    """False: comments are to be shown everywhere, whatever the outline is."""
    outline: Outline


class Peek(NamedTuple):
    """What a message tells without its outline."""

    epoch: int
    sequence: int
    pts_us: int
    key: bool
    arrival_us: int


def peek(data: bytes) -> Peek:
    """Return which mask a message holds.

    Raises:
        CodeError: The header is damaged.
    """
    flags, reader = _open(data)
    epoch, sequence = reader.within("the epoch", 0, U32), reader.within("the sequence", 0, U32)
    pts_us, _ = reader.signed(), reader.varint()
    return Peek(epoch, sequence, pts_us, flags & KEY > 0, reader.varint())


def is_key(data: bytes) -> bool:
    """Tell whether a message can be decoded without another."""
    return len(data) > 3 and bool(data[3] & KEY)


class Encoder:
    """Codes the masks of one stream, in order; the same masks give the same bytes.

    Args:
        keyframe_every_s: After this much of the stream's time the next mask is a key.
        max_bytes: A message that would be longer is coded with fewer points and without the smallest regions.
    """

    def __init__(self, keyframe_every_s: float = 2.0, max_bytes: int = 1000) -> None:
        self._every_us = round(keyframe_every_s * 1e6)
        self._max_bytes = min(max_bytes, MAX_BYTES)
        self._key: MaskFrame | None = None
        self._base = Base(Numbers())
        self._bytes = self._messages = 0  # sent from the last key on, with it
        self._key_bytes = 0

    def encode(self, frame: MaskFrame, *, key: bool = False) -> bytes:
        """Return the message of a mask: a delta where that saves bytes.

        Args:
            frame: The stream's next mask.
            key: Make a key of it, whatever that costs.

        Raises:
            CodeError: The frame has a value that the code cannot hold.
        """
        _check(frame)
        numbers = Numbers(frame.outline.polygons)
        if not key and self._key is not None and self._follows(frame, self._key):
            distance = varint(frame.sequence - self._key.sequence)
            message = _head(frame, key=False) + distance + written(numbers, self._base)
            # Once deltas no longer lower the average since the key, a new key does. And what saves little had better
            # be a key, which no loss of another message can harm.
            most = min(self._max_bytes, self._bytes / self._messages, SAVES * self._key_bytes)
            if len(message) <= most:
                self._bytes += len(message)
                self._messages += 1
                return message
        numbers, message = self._fitting(frame, numbers)
        self._key, self._base = frame, Base(numbers)
        self._bytes = self._key_bytes = len(message)
        self._messages = 1
        return message

    def _follows(self, frame: MaskFrame, key: MaskFrame) -> bool:
        """Tell whether a frame may be a delta of the key."""
        return (
            (frame.epoch, frame.rect) == (key.epoch, key.rect)
            and (frame.outline.width, frame.outline.height) == (key.outline.width, key.outline.height)
            and frame.sequence > key.sequence
            and 0 <= frame.pts_us - key.pts_us < self._every_us
        )

    def _fitting(self, frame: MaskFrame, numbers: Numbers) -> tuple[Numbers, bytes]:
        """Return the message of a key that is short enough, and the numbers it is made of."""
        outline, tolerance = frame.outline, 1.0
        head = _head(frame, key=True)
        while True:
            message = head + written(numbers)
            if len(message) <= self._max_bytes or not outline.polygons:
                return numbers, message
            outline = coarser(outline, tolerance, (4 * tolerance) ** 2)
            numbers = Numbers(outline.polygons)
            tolerance *= 1.5


class Decoder:
    """Decodes the messages of one stream; holds the last key."""

    def __init__(self) -> None:
        self._key: MaskFrame | None = None
        self._polygons: list[Points] = []
        self._needs_key = True

    @property
    def needs_key(self) -> bool:
        """True until the first key, and from a delta whose key was lost until the next."""
        return self._needs_key

    def decode(self, data: bytes) -> MaskFrame:
        """Return the mask of a message.

        Raises:
            CodeError: The message is damaged, or it is a delta of another key than the last one seen. The decoder
                stays as it was, and can go on.
        """
        flags, reader = _open(data)
        epoch, sequence = reader.within("the epoch", 0, U32), reader.within("the sequence", 0, U32)
        pts_us, duration_us, arrival_us = reader.signed(), reader.varint(), reader.varint()
        if flags & KEY:
            width, height = (
                reader.within("a grid's width of", 1, MAX_SIDE),
                reader.within("a grid's height of", 1, MAX_SIDE),
            )
            rect = _read_rect(reader) if flags & RECT else WHOLE
            known: list[Points] = []
        else:
            key = self._key_of(epoch, sequence, reader.varint())
            width, height, rect, known = key.outline.width, key.outline.height, key.rect, self._polygons
        polygons = reader.polygons(known, width * UNITS, height * UNITS)
        reader.end()
        frame = MaskFrame(
            epoch=epoch,
            sequence=sequence,
            pts_us=pts_us,
            duration_us=duration_us,
            arrival_us=arrival_us,
            rect=rect,
            rotation=90 * (flags >> ROTATION_SHIFT),
            applied=bool(flags & APPLIED),
            outline=Outline(width, height, tuple(np.array(polygon, np.int16) for polygon in polygons)),
        )
        if flags & KEY:
            self._key, self._polygons, self._needs_key = frame, polygons, False
        return frame

    def _key_of(self, epoch: int, sequence: int, distance: int) -> MaskFrame:
        """Return the key that a delta refers to."""
        wanted = (epoch, sequence - distance)
        if self._key is not None:
            held = (self._key.epoch, self._key.sequence)
            if held == wanted:
                return self._key
            # A delta that comes late belongs to an older key; the one held is still good for what is to come.
            self._needs_key = wanted > held
        raise CodeError(
            f"mask message: delta {sequence} in epoch {epoch} of key {wanted[1]}, which is not the last key seen;"
            " wait for the next key, or ask for it"
        )


def _head(frame: MaskFrame, *, key: bool) -> bytes:
    """Return all that comes before the outline, but for a delta's distance from its key."""
    bars = key and frame.rect != WHOLE
    flags = KEY * key | APPLIED * frame.applied | RECT * bars | frame.rotation // 90 << ROTATION_SHIFT
    numbers = [frame.epoch, frame.sequence, zigzag(frame.pts_us), frame.duration_us, frame.arrival_us]
    if key:
        numbers += [frame.outline.width, frame.outline.height]
    if bars:
        numbers += _whole_numbers(frame.rect)
    return MAGIC + bytes((VERSION, flags)) + varints(numbers)


def _open(data: bytes) -> tuple[int, Reader]:
    """Return a message's flags, and a reader of what comes after them."""
    if len(data) > MAX_BYTES:
        raise CodeError(f"mask message: {len(data)} bytes; none is longer than {MAX_BYTES}")
    if len(data) < 4 or data[:2] != MAGIC:
        raise CodeError("mask message: does not start with VM; it is something else")
    version, flags = data[2], data[3]
    if version != VERSION:
        raise CodeError(f"mask message: version {version}; this program reads version {VERSION}")
    if flags & ~KNOWN_FLAGS or (flags & RECT and not flags & KEY):
        raise CodeError(f"mask message: flags {flags:#010b}, which do not exist; it is damaged")
    return flags, Reader(data, 4)


def _read_rect(reader: Reader) -> tuple[float, float, float, float]:
    x, y = (reader.within("a rectangle's corner at", 0, RECT_ONE - 1) for _ in range(2))
    w = reader.within("a rectangle's width of", 1, RECT_ONE - x)
    h = reader.within("a rectangle's height of", 1, RECT_ONE - y)
    return x / RECT_ONE, y / RECT_ONE, w / RECT_ONE, h / RECT_ONE


def _whole_numbers(rect: tuple[float, float, float, float]) -> tuple[int, int, int, int]:
    """Return a rectangle as it is coded; rounding does not make it reach beyond the grid."""
    x, y, w, h = (round(value * RECT_ONE) for value in rect)
    return x, y, min(w, RECT_ONE - x), min(h, RECT_ONE - y)


def _check(frame: MaskFrame) -> None:
    """Raise CodeError where the code cannot hold a frame."""
    outline = frame.outline
    x, y, w, h = _whole_numbers(frame.rect)
    if not (0 <= frame.epoch <= U32 and 0 <= frame.sequence <= U32):
        problem = f"epoch {frame.epoch} and sequence {frame.sequence} must be of 32 bits"
    elif not (abs(frame.pts_us) < LIMIT // 2 and 0 <= frame.duration_us < LIMIT and 0 <= frame.arrival_us < LIMIT):
        problem = f"duration {frame.duration_us} and arrival {frame.arrival_us} must be 0 or more, all times of 52 bits"
    elif not (x >= 0 and y >= 0 and w > 0 and h > 0):
        problem = f"rectangle {frame.rect} must lie within 0..1"
    elif frame.rotation not in (0, 90, 180, 270):
        problem = f"rotation {frame.rotation} must be 0, 90, 180 or 270"
    elif not (0 < outline.width <= MAX_SIDE and 0 < outline.height <= MAX_SIDE):
        problem = f"a grid of {outline.width} x {outline.height} must have sides of 1 to {MAX_SIDE}"
    elif len(outline.polygons) > MAX_POLYGONS or outline.points > MAX_POINTS:
        problem = f"{outline.points} points in {len(outline.polygons)} polygons; {MAX_POINTS} in {MAX_POLYGONS} fit"
    elif not all(_on_grid(polygon, outline) for polygon in outline.polygons):
        problem = f"a polygon has less than 3 points, or one off the grid of {outline.width} x {outline.height}"
    else:
        return
    raise CodeError(f"mask of pts {frame.pts_us} us cannot be coded: {problem}")


def _on_grid(polygon: Polygon, outline: Outline) -> bool:
    if len(polygon) < 3 or polygon.min() < 0:
        return False
    right, bottom = polygon.max(axis=0).tolist()
    return bool(right <= outline.width * UNITS and bottom <= outline.height * UNITS)
