"""`.alpha.mkv`: the soft mask as it is, lossless 8-bit grey video (FFV1 in Matroska) with the source's pts."""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from vpipe.errors import MediaError
from vpipe.sinks import atomic_file
from vpipe_mask.formats.base import Alpha, Format, MaskFileError, Record, in_order
from vpipe_mask.outline import Outline

if TYPE_CHECKING:
    from vpipe.media.write import GreyEncoder

_SIZE = struct.Struct(">HH")


@functools.lru_cache(maxsize=4)
def _encoder(width: int, height: int) -> GreyEncoder:
    from vpipe.media.write import GreyEncoder  # FFmpeg is loaded by those who use it

    return GreyEncoder(width, height)


def encode(alpha: Alpha, outline: Outline | None = None) -> bytes:
    """Return width and height (two u16, big-endian) and the mask's FFV1 packet."""
    height, width = alpha.shape
    return _SIZE.pack(width, height) + _encoder(width, height).encode(alpha)


def write(path: Path, records: Iterable[Record]) -> None:
    """Assemble a file; see `Format.write`."""
    from vpipe.media.write import write_grey

    ordered = in_order(path, records)
    first = next(ordered)
    size = first.data[: _SIZE.size]

    def packets() -> Iterator[tuple[int, bytes]]:
        for record in chain([first], ordered):
            if record.data[: _SIZE.size] != size:
                raise MaskFileError(
                    f"{path}: the mask at pts {record.pts} is {'{}x{}'.format(*_SIZE.unpack_from(record.data))} and "
                    f"those before {'{}x{}'.format(*_SIZE.unpack(size))}; a video has one size"
                )
            yield record.pts, record.data[_SIZE.size :]

    with atomic_file(path) as file:
        width, height = _SIZE.unpack(size)
        write_grey(file, (width, height), Fraction(*first.time_base), packets())


def read(path: Path) -> Iterator[tuple[int, Alpha]]:
    """Yield time in ms and mask of each frame; see `Format.read`."""
    from vpipe.media.write import read_grey

    try:
        for pts, time_base, picture in read_grey(str(path)):
            yield round(pts * time_base * 1000), picture
    except MediaError as error:
        raise MaskFileError(str(error)) from None


FORMAT = Format("alpha", ".alpha.mkv", "lossless 8-bit video of the soft mask (FFV1)", encode, write, read)
