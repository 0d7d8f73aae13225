"""The numbers that the messages of the live feed are made of: written short, read with care.

A number takes seven bits a byte, the lowest first; all bytes but the last have the high bit set. A signed number n is
2n, or -2n - 1 where it is negative. Nothing is made of a length before it is known that the message may have it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vpipe.errors import VpipeError
from vpipe_mask.outline import MAX_POINTS, MAX_POLYGONS, Polygon

MAX_BYTES = 65_536
"""No message is longer; what is longer is damaged."""
LIMIT = 2**53
"""All numbers are below; JavaScript's are exact up to here."""

Points = list[tuple[int, int]]


class CodeError(VpipeError):
    """A message is damaged, is a delta whose key is not there, or a mask cannot be coded."""


def varint(value: int) -> bytes:
    """Return the bytes of a number, 0 or more."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def zigzag(value: int) -> int:
    """Return the number that stands for a signed one."""
    return value * 2 if value >= 0 else -value * 2 - 1


_SHORT = [varint(value) for value in range(4096)]


def varints(values: list[int]) -> bytes:
    """Return the bytes of numbers, 0 or more, one after the other."""
    try:
        return b"".join(map(_SHORT.__getitem__, values))
    except IndexError:
        return b"".join(map(varint, values))


class Numbers:
    """Polygons as the numbers that messages are made of."""

    def __init__(self, polygons: Sequence[Polygon] = ()) -> None:
        self.places = [_packed(polygon) for polygon in polygons]
        """By polygon, for each point, one number that stands for where it lies."""
        self.steps = [_steps(polygon) for polygon in polygons]
        """By polygon, for each point, dx and dy from the point before, as signed numbers are written."""


class Base:
    """The points of a key, found by where they lie."""

    def __init__(self, key: Numbers) -> None:
        self._index: dict[int, int] = {}
        self._after: list[int] = []
        """By point: the next one around its polygon."""
        for places in key.places:
            first = len(self._after)
            self._index.update(zip(places, range(first, first + len(places)), strict=True))
            self._after += range(first + 1, first + len(places))
            self._after.append(first)

    def copies(self, places: list[int]) -> list[tuple[int, int, int]]:
        """Return the runs of two or more points that are the key's: first point, length, the key's first point."""
        runs = []
        at = start = length = 0
        after = -1
        for i, known in enumerate(map(self._index.get, places)):
            if known is None:
                continue
            if known == after and known != start and i == at + length:
                length += 1
            else:
                if length > 1:
                    runs.append((at, length, start))
                at, start, length = i, known, 1
            after = self._after[known]
        if length > 1:
            runs.append((at, length, start))
        return runs


def written(outline: Numbers, base: Base | None = None) -> bytes:
    """Return the bytes of an outline's polygons, with runs of points copied from a key where there are any."""
    numbers = [len(outline.places)]
    for places, steps in zip(outline.places, outline.steps, strict=True):
        runs = base.copies(places) if base else []
        at_items = len(numbers)
        items = done = 0
        numbers.append(0)
        for at, length, start in [*runs, (len(places), 0, 0)]:
            if at > done:
                numbers.append(at - done << 1)
                numbers += steps[2 * done : 2 * at]
                items += 1
            if length:
                numbers += (length << 1 | 1, start)
                items += 1
            done = at + length
        numbers[at_items] = items
    return varints(numbers)


class Reader:
    """Reads a message from a position on; each method raises CodeError where the message cannot be right."""

    def __init__(self, data: bytes, at: int) -> None:
        self._data = data
        self._at = at

    def varint(self) -> int:
        """Read a number."""
        value = shift = 0
        while True:
            if self._at >= len(self._data):
                raise self.damaged("ends within a number")
            byte = self._data[self._at]
            self._at += 1
            value |= (byte & 127) << shift
            if byte < 128:
                break
            shift += 7
            if shift > 49:
                raise self.damaged("has a number of more than 8 bytes")
        if value >= LIMIT:
            raise self.damaged("has a number of more than 53 bits")
        return value

    def signed(self) -> int:
        """Read a signed number."""
        value = self.varint()
        return (value >> 1) ^ -(value & 1)

    def within(self, name: str, least: int, most: int) -> int:
        """Read a number that has limits."""
        value = self.varint()
        if not least <= value <= most:
            raise self.damaged(f"has {name} {value}, not {least} to {most}")
        return value

    def polygons(self, known: list[Points], right: int, bottom: int) -> list[Points]:
        """Read an outline within 0..right and 0..bottom, which may copy points of `known` polygons."""
        room = MAX_POINTS
        polygons = []
        for _ in range(self.within("a polygon count of", 0, MAX_POLYGONS)):
            polygon: Points = []
            for _ in range(self.within("an item count of", 1, room)):
                item = self.varint()
                count = item >> 1
                if not 1 <= count <= room:
                    raise self.damaged(f"has an item of no points, or more than {MAX_POINTS} points in all")
                room -= count
                if item & 1:
                    polygon += self._copied(known, count)
                    continue
                x, y = polygon[-1] if polygon else (0, 0)
                for _ in range(count):
                    x += self.signed()
                    y += self.signed()
                    if not (0 <= x <= right and 0 <= y <= bottom):
                        raise self.damaged(f"has a point at {x}, {y}, off the grid of {right} x {bottom} units")
                    polygon.append((x, y))
            if len(polygon) < 3:
                raise self.damaged(f"has a polygon of {len(polygon)} points")
            polygons.append(polygon)
        return polygons

    def end(self) -> None:
        """Check that everything has been read."""
        if self._at != len(self._data):
            raise self.damaged(f"goes on for {len(self._data) - self._at} bytes after its end")

    def damaged(self, what: str) -> CodeError:
        """Return an error that tells where the reader stands."""
        return CodeError(f"mask message: {what} (at byte {self._at} of {len(self._data)}); it is damaged")

    def _copied(self, known: list[Points], count: int) -> Points:
        """Read which point a copy begins at; past the end of its polygon it goes on at the polygon's beginning."""
        start = self.varint()
        for polygon in known:
            if start < len(polygon):
                if count > len(polygon):
                    raise self.damaged(f"copies {count} points of a polygon of {len(polygon)}")
                return (polygon[start:] + polygon[:start])[:count]
            start -= len(polygon)
        raise self.damaged("copies a point that its key does not have")


def _packed(polygon: Polygon) -> list[int]:
    packed: list[int] = np.ascontiguousarray(polygon).view(np.int32).ravel().tolist()
    return packed


def _steps(polygon: Polygon) -> list[int]:
    steps = polygon.astype(np.int32)
    steps[1:] -= polygon[:-1]
    signed: list[int] = ((steps << 1) ^ (steps >> 31)).ravel().tolist()
    return signed
