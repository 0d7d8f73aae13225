"""What every mask file format is: a frame's mask to bytes, the bytes of all frames to a file, a file to masks again.

Encoding is apart from writing because they happen in different places and at different times: frames are encoded where
they are made, in any order, and kept; a file is assembled when the last of them is there.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vpipe.errors import VpipeError
from vpipe_mask.outline import Outline

Alpha = NDArray[np.uint8]
"""(h, w), 255 where a person is."""

LEVEL = 128
"""A pixel of at least this value belongs to a person, in formats that know only yes and no."""
MAX_SIDE = 4096
"""Largest width and height of a mask that is read, pixels."""


class MaskFileError(VpipeError):
    """A mask file is damaged or cannot hold what it is given; the message says where, what and what to do."""

    exit_code = 3


@dataclasses.dataclass(frozen=True, slots=True)
class Record:
    """One frame's mask on its way into a file."""

    pts: int
    """Of the source's frame, in units of `time_base`."""
    time_base: tuple[int, int]
    """Numerator and denominator, seconds; the same in all records of a file."""
    pts_ms: int
    """When players show the frame, milliseconds; not below 0."""
    data: bytes
    """From the format's `encode`."""


@dataclasses.dataclass(frozen=True, slots=True)
class Format:
    """One format of mask files."""

    name: str
    suffix: str
    """Of the file's name, with its dot."""
    help: str
    """One line."""
    encode: Callable[[Alpha, Outline | None], bytes]
    """Makes the bytes of one frame from its mask, and from its outline where that is known already."""
    write: Callable[[Path, Iterable[Record]], None]
    """Assembles a file, complete or not at all, from records in order of time, taken one by one.

    Raises `MaskFileError` where the records do not make a file, `ResourceError` where it cannot be written.
    """
    read: Callable[[Path], Iterator[tuple[int, Alpha]]]
    """Yields each frame's time in milliseconds and its mask; raises `MaskFileError` at the first damage."""
    any_size: bool = False
    """Whether `encode` takes a mask of any size, and of it only where it passes `LEVEL`."""


def binary(alpha: Alpha) -> NDArray[np.bool_]:
    """Return where a person is."""
    return alpha >= LEVEL


def in_order(path: Path, records: Iterable[Record]) -> Iterator[Record]:
    """Pass records on while they make a file.

    Raises:
        MaskFileError: There is none, or one is not later than the one before, or in another time base.
    """
    last: Record | None = None
    for record in records:
        if last is not None and (record.pts <= last.pts or record.time_base != last.time_base):
            raise MaskFileError(
                f"{path}: frame at pts {record.pts} (time base {_shown(record)}) follows one at {last.pts} "
                f"({_shown(last)}); hand over each frame of one stream once, in order of time"
            )
        last = record
        yield record
    if last is None:
        raise MaskFileError(f"{path}: there is not one frame to write")


def _shown(record: Record) -> str:
    return "{}/{}".format(*record.time_base)
