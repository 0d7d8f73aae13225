"""The picture that web players cut comments with: an SVG whose one path is the background, with people as its holes.

It looks as potrace writes it: a viewBox of the grid's size, a group that turns y up and counts in tenths of a pixel, a
path of the commands M, l and z. The outer rectangle spans the whole frame, since some readers scale by the path's
bounds, and people run against it, so that readers that fill even-odd and those that fill by the non-zero rule agree.
Each polygon begins with an absolute M, since readers differ on where a relative one after z starts from. The grid lies
stretched over the video's picture, whatever its shape.
"""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from vpipe_mask.formats.base import MAX_SIDE, Alpha
from vpipe_mask.outline import UNITS, Outline, fill

TENTHS = 10
MAX_SPAN = 1 << 20
"""Longest way of all lines of a path up and down, pixels: what filling it costs."""
CURVE_STEPS = 8
"""Straight pieces for a curve of someone else's file."""

_HEAD = """<?xml version="1.0" standalone="no"?>
<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 20010904//EN"
 "http://www.w3.org/TR/2001/REC-SVG-20010904/DTD/svg10.dtd">
<svg version="1.0" xmlns="http://www.w3.org/2000/svg"
 width="{width:.6f}px" height="{height:.6f}px" viewBox="0 0 {width:.6f} {height:.6f}"
 preserveAspectRatio="none">
<g transform="translate(0.000000,{height:.6f}) scale(0.100000,-0.100000)"
fill="#000000" stroke="none">
<path d="{path}"/>
</g>
</svg>
"""

_TOKEN = re.compile(r"\s*(?:([MmlczLCZ])|(-?\d{1,7}(?:\.\d{1,7})?)),?")
_NUMBER = r"(-?\d{1,7}(?:\.\d{1,12})?)"
_VIEW_BOX = re.compile(rf"""viewBox=["']0 0 {_NUMBER} {_NUMBER}["']""")
_TRANSFORM = re.compile(rf"""translate\({_NUMBER}[, ]{_NUMBER}\) scale\({_NUMBER}[, ]{_NUMBER}\)""")
_PATH = re.compile(r"""<path[^>]{0,1000}?\sd=["']([^"']*)["']""")


class _Texts(dict[int, str]):
    """Numbers as text, each made once: twice as fast as `str`."""

    def __missing__(self, number: int) -> str:
        text = self[number] = str(number)
        return text


_TEXT = _Texts()
"""Of steps within a grid; at most 20 * MAX_SIDE of them."""


def path_of(outline: Outline) -> str:
    """Return the path (the attribute `d`) of the background."""
    width, height = 5 * outline.width, 5 * outline.height
    parts = [
        f"M0 {height} l0 {-height} {width} 0 {width} 0 0 {height} 0 {height} {-width} 0 {-width} 0 0 {-height}z",
    ]
    for polygon in outline.polygons:
        # An outline's regions run as the rectangle does; backwards they are its holes.
        points = polygon[::-1].astype(np.int32) * TENTHS
        points = (points + UNITS // 2) // UNITS
        points[:, 1] = TENTHS * outline.height - points[:, 1]
        x, y = points[0].tolist()
        steps = (points[1:] - points[:-1]).ravel().tolist()
        parts.append(f"M{x} {y} l{' '.join([_TEXT[step] for step in steps])}z")
    return " ".join(parts)


def document(width: int, height: int, path: str) -> str:
    """Return the SVG of a path on a grid of this size."""
    return _HEAD.format(width=width, height=height, path=path)


def mask_of(svg: str) -> Alpha:
    """Return the mask (0 or 255) that an SVG of this kind was made of.

    Raises:
        ValueError: It is not of this kind; the message says how.
    """
    box, transform = _VIEW_BOX.search(svg), _TRANSFORM.search(svg)
    paths = _PATH.findall(svg)
    if box is None or transform is None or not paths:
        raise ValueError("has no viewBox, no transform or no path")
    width, height = (round(float(value)) for value in box.groups())
    if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE):
        raise ValueError(f"is of {width}x{height} pixels")
    x, y, x_scale, y_scale = map(float, transform.groups())
    scale, shift = np.array([x_scale, y_scale]), np.array([x, y])
    polygons = []
    span = 0.0
    for path in paths:
        for polygon in _polygons(path):
            points = np.clip(np.rint((polygon * scale + shift) * UNITS), -32768, 32767)
            span += float(np.abs(np.diff(points[:, 1], append=points[0, 1])).sum()) / UNITS
            polygons.append(points.astype(np.int16))
    if span > MAX_SPAN:
        raise ValueError(f"has lines of {span:.0f} pixels")
    return ~fill(Outline(width, height, tuple(polygons)))


def _polygons(path: str) -> list[NDArray[np.float64]]:
    """Return the closed lines of a path, each (n, 2) in the path's units; curves become straight pieces."""
    polygons: list[NDArray[np.float64]] = []
    points: list[complex] = []
    command, here = "", 0j
    numbers: list[float] = []
    at = 0
    path = path.rstrip()
    while at < len(path):
        token = _TOKEN.match(path, at)
        if token is None:
            raise ValueError(f"has a path with {path[at:].lstrip()[:10]!r} in it; M, m, l, c, z and numbers are known")
        at = token.end()
        if token[1]:
            if numbers:
                raise ValueError(f"has a path with {len(numbers)} numbers too many before {token[1]!r}")
            command = token[1]
            if command in "zZ" and points:
                here = points[0]
                polygons.append(np.array([(point.real, point.imag) for point in points]))
                points = []
            continue
        numbers.append(float(token[2]))
        if command in "Zz" or len(numbers) < (6 if command in "Cc" else 2):
            if command in "Zz":
                raise ValueError("has a path with numbers that belong to no command")
            continue
        base = here if command.islower() else 0j
        moves = [base + complex(*numbers[i : i + 2]) for i in range(0, len(numbers), 2)]
        numbers = []
        if command in "Mm":
            points = []
            command = "l" if command == "m" else "L"
        elif not points:
            points = [here]
        points += moves if len(moves) == 1 else _curve(here, *moves)
        here = points[-1]
    return polygons


def _curve(a: complex, b: complex, c: complex, d: complex) -> list[complex]:
    shares = [step / CURVE_STEPS for step in range(1, CURVE_STEPS + 1)]
    return [a * (1 - t) ** 3 + 3 * b * t * (1 - t) ** 2 + 3 * c * t**2 * (1 - t) + d * t**3 for t in shares]
