"""What the small companion pictures tell: black bars, and the thumbnails of a report."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vpipe.fragments import bars
from vpipe.task import Columns

Picture = NDArray[np.uint8]
"""(h, w, 3), RGB, full range."""

BAR_CODE = 24
"""A row or column of which no more than 2 % is brighter (0..255) can be part of a bar: black, and what coding adds."""

LONG_SIDE = 160
"""Of a thumbnail, in pixels."""

JPEG_QUALITY = 80


def letterbox(picture: Picture) -> float:
    """Return the share of a picture that black bars take, 0..1.

    They are above and below or left and right, see `vpipe.fragments.bars`; a picture that is dark all over has none.
    """
    # Plane by plane: a maximum along a last axis of three is many times slower.
    dark = np.maximum(np.maximum(picture[..., 0], picture[..., 1]), picture[..., 2]) <= BAR_CODE
    if np.count_nonzero(dark) > 0.98 * dark.size:
        return 0.0
    rows, columns = (sum(bars(dark.mean(axis=axis) >= 0.98)) / dark.shape[1 - axis] for axis in (1, 0))
    return float(1.0 - (1.0 - rows) * (1.0 - columns))


def choose(pts_s: NDArray[np.float64], scores: NDArray[np.float64], most: int) -> list[int]:
    """Return which pictures of a segment to keep, in order of time: the first, and the worst at least a second apart.

    Args:
        pts_s: (k,) seconds, ascending.
        scores: (k,) mean score from each picture to the next.
        most: How many at most.
    """
    if len(pts_s) == 0:
        return []
    chosen = [0]
    for at in np.argsort(scores, kind="stable").tolist():
        if len(chosen) >= most:
            break
        if all(abs(pts_s[at] - pts_s[other]) >= 1.0 for other in chosen):
            chosen.append(at)
    return sorted(chosen)


def load_encoder() -> None:
    """Load what `to_jpeg` needs: 40 ms of CPU time, better spent while a model is compiled than between results."""
    importlib.import_module("cv2")


def to_jpeg(picture: Picture, width: int, height: int) -> bytes:
    """Encode a picture in the shape of the video it is from.

    Args:
        picture: Of any shape; it shows the whole frame.
        width: Of the video as shown.
        height: Likewise; the longer side becomes `LONG_SIDE`.
    """
    import cv2

    scale = LONG_SIDE / max(width, height, 1)
    size = (max(2, round(width * scale)), max(2, round(height * scale)))
    bgr = cv2.cvtColor(np.ascontiguousarray(picture), cv2.COLOR_RGB2BGR)
    if size != (picture.shape[1], picture.shape[0]):
        bgr = cv2.resize(bgr, size, interpolation=cv2.INTER_LINEAR)
    done, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    assert done, "encoding a small picture in memory cannot fail"
    return data.tobytes()


def flat_columns(pts: list[int], pts_s: list[float], scores: list[float], jpegs: list[bytes]) -> Columns:
    """Lay thumbnails out as columns that segments can be joined by; `vpipe_score.results.thumbnails` reads them."""

    def column(values: Any, dtype: type) -> NDArray[Any]:
        return np.asarray(values, dtype).reshape(-1, 1)

    return {
        "thumb_pts": column(pts, np.int64),
        "thumb_s": column(pts_s, np.float64),
        "thumb_score": column(scores, np.float64),
        "thumb_bytes": column([len(jpeg) for jpeg in jpegs], np.int64),
        "thumb_jpeg": np.frombuffer(b"".join(jpegs), np.uint8).reshape(-1, 1),
    }
