"""`.rle.jsonl`: run lengths, a JSON object a line, for analysis and training tools.

    {"pts": 3003, "time_base": [1, 90000], "pts_ms": 33, "size": [144, 256], "counts": [20736, 12, 132, ...]}

`size` and `counts` are COCO's uncompressed RLE: height and width, then the lengths of runs down the columns, from the
left, beginning with a run of background (0 long where the first pixel is a person's).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from vpipe.sinks import atomic_file
from vpipe_mask.formats.base import MAX_SIDE, Alpha, Format, MaskFileError, Record, binary, in_order
from vpipe_mask.outline import Outline

MAX_LINE_BYTES = 16 << 20


def encode(alpha: Alpha, outline: Outline | None = None) -> bytes:
    """Return `size` and `counts` of a mask, as the end of its line."""
    flat = binary(alpha).ravel(order="F")
    ends = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    counts = np.diff(ends, prepend=0, append=len(flat)).tolist()
    if flat[0]:
        counts.insert(0, 0)
    return json.dumps({"size": list(alpha.shape), "counts": counts})[1:].encode("ascii")


def write(path: Path, records: Iterable[Record]) -> None:
    """Assemble a file; see `Format.write`."""
    with atomic_file(path) as file:
        for record in in_order(path, records):
            times = {"pts": record.pts, "time_base": list(record.time_base), "pts_ms": record.pts_ms}
            file.write(json.dumps(times)[:-1].encode("ascii") + b", " + record.data + b"\n")


def read(path: Path) -> Iterator[tuple[int, Alpha]]:
    """Yield time in ms and mask (0 or 255) of each frame; see `Format.read`."""
    try:
        with open(path, "rb") as file:
            number = 0
            while line := file.readline(MAX_LINE_BYTES):
                number += 1
                try:
                    yield _frame(json.loads(line))
                except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
                    what = f"{type(error).__name__}: {error}" if not isinstance(error, ValueError) else str(error)
                    raise MaskFileError(f"{path}: line {number}: no mask ({what}); make the file again") from None
    except OSError as error:
        raise MaskFileError(f"{path}: cannot be read: {error.strerror or error}") from None


def _frame(entry: Any) -> tuple[int, Alpha]:
    height, width = map(int, entry["size"])
    if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE):
        raise ValueError(f"size {width}x{height}")
    counts = np.array(entry["counts"], np.int64)
    if counts.ndim != 1 or (counts < 0).any() or (counts > width * height).any() or counts.sum() != width * height:
        raise ValueError(f"counts do not add up to {width}x{height}")
    values = np.arange(len(counts)) % 2 * 255
    flat = np.repeat(values.astype(np.uint8), counts)
    return int(entry["pts_ms"]), np.ascontiguousarray(flat.reshape(width, height).T)


FORMAT = Format("rle", ".rle.jsonl", "COCO run lengths, a JSON object a line", encode, write, read)
