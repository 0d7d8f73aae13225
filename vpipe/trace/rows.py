"""Lines of text that differ only in their numbers, made a column at a time.

A trace has thousands of slices a second, and formatting them one by one takes longer than noting them down. JSON allows
spaces before a number: so all lines of a kind are equally long, and together a matrix of four-byte words. A number is
some words of it, four digits each.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.int64]
Words = NDArray[np.uint32]

_WORD = 4
_GROUP = 10_000
"""Numbers are looked up four digits at a time."""
_TEXT = (np.arange(_GROUP)[:, None] // [1000, 100, 10, 1] % 10 + ord("0")).astype(np.uint8)
_INNER: Words = _TEXT.view(np.uint32).ravel()
"""Four digits with others before them."""
_FIRST: Words = (
    np.where(np.arange(_GROUP)[:, None] < [1000, 100, 10, 0], ord(" "), _TEXT).astype(np.uint8).view(np.uint32).ravel()
)
"""Four digits with none before them."""
_DECIMALS: Words = (
    np.where([True, False, False, False], ord("."), _TEXT[:1000]).astype(np.uint8).view(np.uint32).ravel()
)
_NONE = np.array([b"    "]).view(np.uint32)[0]


def rows(template: str, columns: Sequence[Numbers]) -> memoryview:
    """Return a line for each row of some columns, one right behind the other.

    Args:
        template: The line, in ASCII: `%d` stands for a number of the next column, `%t` for its thousandth, with three
            decimals.
        columns: As many as there are such places, all equally long.
    """
    line = ""
    places: list[tuple[int, list[Words]]] = []
    signs: list[tuple[int, Numbers]] = []
    left = iter(columns)
    for piece in re.split("(%[dt])", template):
        if piece not in ("%d", "%t"):
            line += piece
            continue
        numbers = next(left)
        if piece == "%d" and (numbers == numbers[0]).all():
            line += str(numbers[0])
            continue
        negative = np.flatnonzero(numbers < 0)
        rest: NDArray[np.uint64] = np.abs(numbers).view(np.uint64)  # the lowest of all has no positive; its bits do
        decimals: list[Words] = []
        if piece == "%t":
            whole = rest // np.uint64(1000)
            decimals = [_DECIMALS[rest - whole * np.uint64(1000)]]
            rest = whole
        line += " " * (-len(line) % _WORD)
        if len(negative):
            line += " " * _WORD
            signs.append((len(line), negative))
        words = [*_digits(rest), *decimals]
        places.append((len(line) // _WORD, words))
        line += " " * (_WORD * len(words))
    # Spaces before the last bracket make a line of whole words.
    head, tail = line[:-1], line[-1:]
    line = head + " " * (-len(line) % _WORD) + tail
    out = np.empty((len(columns[0]), len(line) // _WORD), np.uint32)
    out[:] = np.frombuffer(line.encode("ascii"), np.uint32)
    for at, words in places:
        for number, word in enumerate(words, at):
            out[:, number] = word
    text = out.view(np.uint8)
    for start, negative in signs:
        first = np.argmax(text[negative, start:] != ord(" "), axis=1)
        text[negative, start + first - 1] = ord("-")
    return text.data


def _digits(rest: NDArray[np.uint64]) -> list[Words]:
    """Return numbers as text in words, the highest digits first, with spaces before them."""
    found: list[Words] = []
    group = np.uint64(_GROUP)
    while True:
        if int(rest.max()) < _GROUP:
            alone = _FIRST[rest]
            return [np.where(rest > 0, alone, _NONE) if found else alone, *found]
        # Not divmod, which does not know that all are divided by the same.
        higher = rest // group
        digits = rest - higher * group
        inner = _INNER[digits]
        if not higher.all():
            alone = _FIRST[digits]
            if found:
                alone = np.where(digits > 0, alone, _NONE)
            inner = np.where(higher > 0, inner, alone)
        found.insert(0, inner)
        rest = higher
