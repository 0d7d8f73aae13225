"""One video's frames, made small enough for a page of hundreds.

Lines are thinned to envelopes: each point is the mean and the lowest score of a run of frames, so that a dip of a
single frame is still seen. Spans of black, frozen and letterboxed time come from all frames, before thinning.
"""

from __future__ import annotations

import base64
import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vpipe.task import Columns
from vpipe_score.report.embed import packed
from vpipe_score.results import Thumbnail, VideoScore, fault_columns, thumbnails

POINTS = 600
"""Points of a line at most: about one a pixel of its drawing."""
MIN_POINTS = 60
SERIES_BYTES = 4 << 20
"""What the lines of all videos may take of the page, about."""
POINT_BYTES = 11
"""Of one point in the page: eight bytes (time, mean, lowest) in base64."""
THUMBNAILS = 6
"""Of one video at most."""
THUMBNAIL_BYTES = 3 << 20
"""JPEG bytes of all thumbnails of the page, about."""
SPANS = 200
"""Spans of one kind at most; beyond, those nearest to each other are joined."""
NO_SCORE = 0xFFFF
NO_LEVEL = 0xFF


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """How much of each video a page can hold."""

    points: int
    """Of the line over time."""
    columns: int
    """Of the strips (brightness, each fault)."""
    thumbnails: int

    @classmethod
    def of_page(cls, videos: int) -> Limits:
        """Share the page out among so many videos; it stays at a few megabytes up to some hundreds."""
        count = max(videos, 1)
        points = max(MIN_POINTS, min(POINTS, SERIES_BYTES // (count * POINT_BYTES)))
        pictures = max(2, min(THUMBNAILS, THUMBNAIL_BYTES // (count * 4096)))
        return cls(points, points // 5, pictures)


def detail(video: VideoScore, columns: Columns, limits: Limits, room: int) -> tuple[dict[str, Any], int]:
    """Return what the page shows of one video beyond its row, as plain JSON values, and the JPEG bytes in it.

    Args:
        video: The video's row.
        columns: Its per-frame columns, see `vpipe_score.results.PER_FRAME`; n >= 1 frames in order of time.
        limits: What the page can hold of each video.
        room: JPEG bytes left for this video's thumbnails.
    """
    time_s = np.asarray(columns["pts_s"], dtype=np.float64)
    score = np.asarray(columns["score"], dtype=np.float64)
    end_s = _end(time_s, video.duration_s)
    moments = worst_moments(thumbnails(columns), limits.thumbnails, end_s, room)
    flags = {
        "black": np.asarray(columns["black"], dtype=bool),
        "frozen": np.asarray(columns["frozen"], dtype=bool),
        "letterbox": _carried(np.asarray(columns["letterbox"], dtype=np.float64), 0) > 0,
    }
    faults = fault_columns(columns)
    heaviest = [fault.kind for fault in video.faults if fault.kind in faults]
    values: dict[str, Any] = {
        "frames": len(time_s),
        "end_ms": round(end_s * 1000),
        **envelope(time_s, score, limits.points),
        "spans": {name: spans(time_s, flag, end_s) for name, flag in flags.items()},
        "luma": _strip(time_s, np.asarray(columns["luma_mean"], dtype=np.float64) / 255, limits.columns, end_s),
        "faults": {kind: _strip(time_s, faults[kind], limits.columns, end_s) for kind in heaviest},
        **{name: float(np.mean(columns[name])) for name in ("luma_mean", "shadows", "highlights")},
        "moments": [
            {"at_s": moment.at_s, "score": moment.score, "jpeg": base64.b64encode(moment.jpeg).decode("ascii")}
            for moment in moments
        ],
    }
    return values, sum(len(moment.jpeg) for moment in moments)


def envelope(time_s: NDArray[np.float64], score: NDArray[np.float64], points: int) -> dict[str, str | int]:
    """Return a line of at most `points` points: time (uint32, ms), mean and lowest score (uint16, hundredths).

    A point that stands for several frames lies at the first one's time; `low` is there only where some do. A score
    that is not a number becomes `NO_SCORE`, a gap.
    """
    count = len(time_s)
    starts = np.arange(min(count, points)) * count // min(count, points)
    sizes = np.diff(np.append(starts, count))
    mean = np.add.reduceat(score, starts) / sizes
    line: dict[str, str | int] = {
        "points": len(starts),
        "t": packed(np.round(np.maximum(time_s[starts], 0) * 1000).astype(np.uint32)),
        "mean": packed(_hundredths(mean)),
    }
    if count > len(starts):
        line["low"] = packed(_hundredths(np.minimum.reduceat(score, starts)))
    return line


def spans(time_s: NDArray[np.float64], flag: NDArray[np.bool_], end_s: float) -> list[list[int]]:
    """Return [start, end] in ms of each run of true frames; a frame lasts until the next one."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], flag, [False])).astype(np.int8)))
    bounds = np.append(time_s, end_s)
    found = np.round(np.maximum(bounds[edges], 0) * 1000).astype(np.int64).reshape(-1, 2)
    if len(found) > SPANS:
        gaps = found[1:, 0] - found[:-1, 1]
        cut = np.sort(np.argsort(gaps, kind="stable")[len(found) - SPANS :])
        found = np.stack((found[np.append(0, cut + 1), 0], found[np.append(cut, len(found) - 1), 1]), axis=1)
    return [[int(start), int(end)] for start, end in found]


def worst_moments(pictures: list[Thumbnail], count: int, end_s: float, room: int) -> list[Thumbnail]:
    """Return up to `count` of the lowest scored pictures, worst first and apart in time, of `room` bytes in all."""
    apart_s = min(1.0, end_s / (2 * count))
    chosen: list[Thumbnail] = []
    for picture in sorted(pictures, key=lambda p: (p.score, p.at_s)):
        if all(abs(picture.at_s - other.at_s) >= apart_s for other in chosen) and len(picture.jpeg) <= room:
            chosen.append(picture)
            room -= len(picture.jpeg)
        if len(chosen) == count:
            break
    return chosen


def _end(time_s: NDArray[np.float64], duration_s: float | None) -> float:
    """When the last frame ends: the file's own duration, or one typical step after it."""
    step = max(float(np.median(np.diff(time_s))), 0.001) if len(time_s) > 1 else 1.0
    last = float(time_s[-1])
    return duration_s if duration_s is not None and last < duration_s < last + 10 * step else last + step


def _carried(values: NDArray[np.float64], first: float) -> NDArray[np.float64]:
    """Fill what is not a number with the last number before it, or `first`."""
    known = np.where(np.isnan(values), 0, np.arange(1, len(values) + 1))
    return np.concatenate(([first], values))[np.maximum.accumulate(known)]


def _hundredths(score: NDArray[np.float64]) -> NDArray[np.uint16]:
    known = np.isfinite(score)
    return np.where(known, np.round(np.clip(np.where(known, score, 0), 0, 100) * 100), NO_SCORE).astype(np.uint16)


def _strip(time_s: NDArray[np.float64], values: NDArray[Any], count: int, end_s: float) -> str:
    """Mean of `values` (0..1) in up to `count` equal parts of the time: uint8, 0..254, `NO_LEVEL` before the first.

    A part in which no frame lies shows the one before it, as the player does.
    """
    count = min(count, len(time_s))
    known = np.isfinite(values)
    column = np.clip((time_s[known] * count / end_s).astype(np.int64), 0, count - 1)
    total = np.bincount(column, weights=np.clip(values[known], 0, 1), minlength=count)
    frames = np.bincount(column, minlength=count)
    level = np.where(frames > 0, np.round(254 * total / np.maximum(frames, 1)), np.nan)
    return packed(_carried(level, NO_LEVEL).astype(np.uint8))
