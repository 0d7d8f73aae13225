"""`.masks/`: a folder of 8-bit grey PNG files of the soft mask, named by pts, and `index.jsonl` with their times.

pts000000003003.png
index.jsonl     {"file": "pts000000003003.png", "pts": 3003, "time_base": [1, 90000], "pts_ms": 33}
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np

from vpipe.errors import ResourceError
from vpipe.sinks import atomic_file
from vpipe_mask.formats.base import MAX_SIDE, Alpha, Format, MaskFileError, Record, in_order
from vpipe_mask.outline import Outline

INDEX = "index.jsonl"
MAX_LINE_BYTES = 4096
MAX_PICTURE_BYTES = 64 << 20

_PACKING = (cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE)
"""Masks are flat: more effort makes them no smaller."""


def encode(alpha: Alpha, outline: Outline | None = None) -> bytes:
    """Return a mask as a PNG file."""
    done, data = cv2.imencode(".png", alpha, _PACKING)
    assert done, "OpenCV without PNG"
    return data.tobytes()


def write(path: Path, records: Iterable[Record]) -> None:
    """Assemble a folder; see `Format.write`. One of ours in its place is replaced, anything else is left alone."""
    part, old = path.with_name(f".{path.name}.part"), path.with_name(f".{path.name}.old")
    try:
        if path.exists() and not (path / INDEX).is_file() and (path.is_file() or any(path.iterdir())):
            raise ResourceError(f"{path}: is there already and is no folder of masks; move it away or name another")
        for left in (part, old):
            if left.exists():
                shutil.rmtree(left)
        part.mkdir()
        with atomic_file(part / INDEX) as index:
            for record in in_order(path, records):
                name = f"pts{record.pts:012d}.png"
                (part / name).write_bytes(record.data)
                times = {"pts": record.pts, "time_base": list(record.time_base), "pts_ms": record.pts_ms}
                index.write(json.dumps({"file": name, **times}).encode("ascii") + b"\n")
        if path.exists():
            os.rename(path, old)  # a folder with files in it cannot be replaced in one step
        os.rename(part, path)
    except OSError as error:
        raise ResourceError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        if old.exists() and not path.exists():
            os.rename(old, path)
        shutil.rmtree(part, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def read(path: Path) -> Iterator[tuple[int, Alpha]]:
    """Yield time in ms and mask of each frame; see `Format.read`."""
    try:
        with open(path / INDEX, "rb") as index:
            number = 0
            while line := index.readline(MAX_LINE_BYTES):
                number += 1
                yield _frame(path, number, line)
    except OSError as error:
        raise MaskFileError(f"{error.filename or path}: cannot be read: {error.strerror or error}") from None


def _frame(path: Path, number: int, line: bytes) -> tuple[int, Alpha]:
    try:
        entry = json.loads(line)
        name, pts_ms = entry["file"], int(entry["pts_ms"])
        if not isinstance(name, str) or "/" in name or name in ("", ".", ".."):
            raise ValueError(f"no name of a file here: {name!r}")
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise MaskFileError(f"{path / INDEX}: line {number}: {type(error).__name__}: {error}; make it again") from None
    with open(path / name, "rb") as file:
        data = file.read(MAX_PICTURE_BYTES)
    # The size stands in the header; it is looked at before OpenCV makes room for it.
    width, height = (int.from_bytes(data[at : at + 4], "big") for at in (16, 20))
    known = data[:8] == b"\x89PNG\r\n\x1a\n" and 0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE) if known else None
    if picture is None or picture.dtype != np.uint8:
        raise MaskFileError(f"{path / name}: is no PNG of at most {MAX_SIDE}x{MAX_SIDE}; make the folder again")
    return pts_ms, np.asarray(picture, np.uint8)


FORMAT = Format("png", ".masks", "a folder of PNG files of the soft mask, named by pts", encode, write, read)
