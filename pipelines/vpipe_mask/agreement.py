"""How far two runs' masks are apart, for the guards of `vpipe tune` and `vpipe models quantize`."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[Any]]


def differences(reference: Arrays, found: Arrays) -> NDArray[np.float64]:
    """Return 1 - IoU of each frame: of the net's masks (`mask`), or of a run's kept columns.

    Of the columns the bitmaps are compared, `mobmask`; where a run has none, the bytes of another format, of which any
    difference counts in full. A frame with a mask in one run only differs in full, too.
    """
    if "mask" in reference:
        return np.array([_apart(*pair) for pair in zip(_halves(reference), _halves(found), strict=True)], np.float64)
    names = [name.removesuffix("_data") for name in reference if name.endswith("_data")]
    if not names:
        return np.zeros(len(reference.get("pts", ())), np.float64)
    name = "mobmask" if "mobmask" in names else names[0]
    pairs = zip(_frames(reference, name), _frames(found, name), strict=True)
    apart = [_bits_apart(*pair) if name == "mobmask" else float(pair[0] != pair[1]) for pair in pairs]
    gated = np.asarray(reference["applied"] != found["applied"], np.float64)
    return np.maximum(np.array(apart, np.float64), gated)


def _halves(arrays: Arrays) -> Iterator[NDArray[np.bool_]]:
    for mask in arrays["mask"]:
        yield mask >= (128 if mask.dtype == np.uint8 else 0.5)


def _frames(columns: Arrays, name: str) -> Iterator[bytes]:
    """Yield each frame's bytes in a format."""
    data, start = columns[f"{name}_data"].tobytes(), 0
    for size in columns[f"{name}_bytes"].tolist():
        yield data[start : start + size]
        start += size


def _bits_apart(first: bytes, second: bytes) -> float:
    if first == second:
        return 0.0
    one, other = (np.unpackbits(np.frombuffer(zlib.decompress(data), np.uint8)) for data in (first, second))
    return _apart(one.astype(bool), other.astype(bool))


def _apart(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    either = np.count_nonzero(one | other)
    return 1.0 - np.count_nonzero(one & other) / either if either else 0.0
