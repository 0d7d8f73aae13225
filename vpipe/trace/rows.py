"""Lines of text that differ only in their numbers, made a column at a time.

A trace has thousands of slices a second, and formatting them one by one takes longer than noting them down. JSON allows
spaces before a number: so all lines of a kind are equally long, and together a matrix of bytes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.int64]
Bytes = NDArray[np.uint8]

_GROUP = 10_000
"""Numbers are looked up four digits at a time."""
_INNER = np.array([b"%04d" % number for number in range(_GROUP)]).view(np.uint32)
"""Four digits with others before them."""
_FIRST = np.array([b"%4d" % number for number in range(_GROUP)]).view(np.uint32)
"""Four digits with none before them."""
_NONE = np.array([b"    "]).view(np.uint32)[0]


def rows(template: str, columns: Sequence[Numbers]) -> memoryview:
    """Return a line for each row of some columns, one right behind the other.

    Args:
        template: The line, in ASCII: `%d` stands for a number of the next column, `%t` for its thousandth, with three
            decimals.
        columns: As many as there are such places, all equally long.
    """
    line, places = "", []
    left = iter(columns)
    for piece in re.split("(%[dt])", template):
        if piece not in ("%d", "%t"):
            line += piece
            continue
        numbers = next(left)
        if piece == "%t":
            digits = _digits(numbers, _INNER)
            places += [(len(line), digits[:, :-3]), (len(line) + digits.shape[1] - 2, digits[:, -3:])]
            line += " " * (digits.shape[1] - 3) + ".   "
        elif (numbers == numbers[0]).all():
            line += str(numbers[0])
        else:
            digits = _digits(numbers, _FIRST)
            places.append((len(line), digits))
            line += " " * digits.shape[1]
    out = np.empty((len(columns[0]), len(line)), np.uint8)
    out[:] = np.frombuffer(line.encode("ascii"), np.uint8)
    for at, digits in places:
        out[:, at : at + digits.shape[1]] = digits
    return out.data


def _digits(numbers: Numbers, last: NDArray[np.uint32]) -> Bytes:
    """Return numbers as text, on the right, behind at least one space; `last` shows four digits that stand alone."""
    rest = np.abs(numbers).view(np.uint64)  # the lowest of all has no positive, but its bits are right
    groups = -(-len(str(int(rest.max()))) // 4)
    packed = np.full((len(numbers), groups + 1), _NONE, np.uint32)
    for at in range(groups, 0, -1):
        rest, group = np.divmod(rest, np.uint64(_GROUP))
        alone = last[group] if at == groups else np.where(group > 0, _FIRST[group], _NONE)
        packed[:, at] = np.where(rest > 0, _INNER[group], alone)
    text: Bytes = packed.view(np.uint8)
    negative = np.flatnonzero(numbers < 0)
    text[negative, np.argmax(text[negative] != ord(" "), axis=1) - 1] = ord("-")
    return text[:, 3:]
