"""What `vpipe score` says about one video: the typed row, its faults, and its thumbnails.

A row is made of two halves. The engine knows the file (container, codec, size, frames seen, timings), the task knows
the pictures (scores, faults, shares). `VideoScore.from_row` reads the two halves merged, as they stand in the ledger;
`VideoScore.to_dict` gives the row of scores.jsonl.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from vpipe.task import Columns

Grade = Literal["excellent", "good", "fair", "poor", "bad"]

FAULT_PREFIX = "fault_"
"""Per-frame columns `fault_<kind>` hold a fault's probability, float32, 0..1."""


@dataclasses.dataclass(frozen=True, slots=True)
class Failure:
    """Why a file has no score."""

    kind: str
    """One short word for machines, for example `no_video`, `truncated`, `not_media`, `unreadable`."""
    message: str
    """One sentence for people."""


@dataclasses.dataclass(frozen=True, slots=True)
class Worst:
    """The worst second of a video."""

    score: float
    """Mean score of that second's frames, weighted by display time, 0..100."""
    at_s: float
    """Where that second begins, in seconds since the first frame."""


@dataclasses.dataclass(frozen=True, slots=True)
class Fault:
    """One kind of fault and how much of it there is."""

    kind: str
    """The model's label, for example `blockiness`."""
    weight: float
    """Mean probability over the video, weighted by display time, 0..1."""


@dataclasses.dataclass(frozen=True, slots=True)
class FrameCounts:
    """What became of the frames."""

    seen: int = 0
    """Decoded; frames that the sampling leaves undecoded are not among them."""
    scored: int = 0
    """Went through the model."""
    dropped: int = 0
    """Taken but not scored."""
    corrupt: int = 0
    """Reported damaged by the decoder (they are scored all the same)."""


@dataclasses.dataclass(frozen=True, slots=True)
class Shares:
    """Parts of the display time, each 0..1."""

    black: float = 0.0
    frozen: float = 0.0
    letterbox: float = 0.0


@dataclasses.dataclass(frozen=True, slots=True)
class Model:
    """Which model gave the scores."""

    name: str
    version: str


@dataclasses.dataclass(frozen=True, slots=True)
class Thumbnail:
    """A small JPEG of one moment."""

    pts: int
    """In the stream's time base; the frame with this pts is in the columns."""
    at_s: float
    """Seconds since the first frame."""
    score: float
    """Mean score from this picture to the next, 0..100."""
    jpeg: bytes


@dataclasses.dataclass(frozen=True, slots=True)
class VideoScore:
    """The result for one input.

    Where `status` is `failed`, `error` says why and all that was not found out is None (or empty).
    """

    path: str
    """As the user named it; bytes that are not UTF-8 are surrogate-escaped."""
    status: Literal["scored", "failed"]
    error: Failure | None = None
    key: str | None = None
    """Content key, hexadecimal: equal for equal files."""
    score: float | None = None
    """Predicted VMAF without a reference, 0..100; pooled from the frames as `vpipe_score.pooling` says."""
    score_low: float | None = None
    """With `score_high`, the bounds that hold the truth in 8 of 10 videos; None if the model gives none."""
    score_high: float | None = None
    score_pixels: float | None = None
    """The score by the pixels alone, without what the packets tell; None if the model knows nothing of bits."""
    grade: Grade | None = None
    mean: float | None = None
    """Arithmetic mean over display time."""
    harmonic_mean: float | None = None
    p5: float | None = None
    """5th percentile over display time."""
    worst: Worst | None = None
    faults: tuple[Fault, ...] = ()
    """Heaviest first."""
    shares: Shares = Shares()
    novelty: float | None = None
    """How unlike the training data the pictures are: 99 in 100 known videos are below 1. None: the model is silent."""
    out_of_scope: bool | None = None
    """Too unlike it for the score to mean much (`novelty` above 1)."""
    summary: str = ""
    """One line for people."""
    duration_s: float | None = None
    width: int | None = None
    """Coded size in pixels, before rotation."""
    height: int | None = None
    rotation: int = 0
    codec: str | None = None
    pixel_format: str | None = None
    frame_rate: float | None = None
    """Average, frames per second; None where unknown."""
    container: str | None = None
    size_bytes: int | None = None
    frames: FrameCounts = FrameCounts()
    model: Model | None = None
    settings_key: str | None = None
    """Equal for rows that were made with equal model, sampling and options: such rows may be compared."""
    timings: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """Seconds (names end in `_s`) spent on this file, as the engine counts them."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; the order of the names is that of the fields."""
        values = dataclasses.asdict(self)
        values["timings"] = dict(self.timings)
        values["faults"] = [dataclasses.asdict(fault) for fault in self.faults]
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> VideoScore:
        """Rebuild from `to_dict`'s values, for example from a line of scores.jsonl; unknown names are ignored."""
        known = {field.name for field in dataclasses.fields(cls)}
        found = {name: value for name, value in values.items() if name in known}
        for name, part in _PARTS.items():
            if found.get(name) is not None:
                found[name] = _part(part, found[name])
        found["faults"] = tuple(_part(Fault, fault) for fault in found.get("faults") or ())
        return cls(**found)

    @classmethod
    def from_row(cls, row: Mapping[str, Any], branch: str = "quality") -> VideoScore:
        """Read the engine's merged row.

        Args:
            row: From the engine: `path`, `key`, `status` (`failed`, or anything else for success), `error` (None or
                `kind` and `message`), the stream's facts `container`, `codec`, `pixel_format`, `width`, `height`,
                `rotation`, `duration_s`, `frame_rate`, `size_bytes`; `frames` with `seen`, `taken`, `corrupt`,
                `dropped`; `models` with `name` and `version` by branch; `settings_key`; `timings`. From
                `vpipe_score.task.ScoreTask.on_stream`: `score`, `grade`, `mean`, `harmonic_mean`, `p5`, `worst`,
                `faults`, `shares`, `scored`, `summary`, and of some models `score_low`, `score_high`,
                `score_pixels`, `novelty` and `out_of_scope`. A failed row may lack any of them but `path` and `status`.
            branch: The branch whose model is named.
        """
        values = dict(row)
        values["status"] = "failed" if row["status"] == "failed" else "scored"
        counts = row.get("frames")
        counts = dict(counts) if isinstance(counts, Mapping) else {}
        values["frames"] = {**counts, "scored": row.get("scored") or 0}
        values["model"] = (row.get("models") or {}).get(branch)
        values["frame_rate"] = row.get("frame_rate") or None
        for name in ("shares", "summary", "rotation", "timings", "faults"):
            if values.get(name) is None:
                values.pop(name, None)
        return cls.from_dict(values)


_PARTS = {"error": Failure, "worst": Worst, "shares": Shares, "frames": FrameCounts, "model": Model}


def _part(kind: type, values: Mapping[str, Any]) -> Any:
    known = {field.name for field in dataclasses.fields(kind)}
    return kind(**{name: value for name, value in values.items() if name in known})


def fault_columns(columns: Columns) -> dict[str, Any]:
    """Return the per-frame fault probabilities by kind: float32 arrays as long as `pts`, 0..1."""
    return {n.removeprefix(FAULT_PREFIX): v for n, v in columns.items() if n.startswith(FAULT_PREFIX)}


def thumbnails(columns: Columns) -> list[Thumbnail]:
    """Return a video's thumbnails in order of time: of each segment the first picture and its worst moments.

    They are stored flat, as columns that are two-dimensional so that they can never be taken for per-frame values:
    `thumb_pts` int64 (k, 1), `thumb_s` and `thumb_score` float64 (k, 1), `thumb_bytes` int64 (k, 1): each JPEG's
    length, `thumb_jpeg` uint8 (sum of lengths, 1).
    """
    if "thumb_pts" not in columns:
        return []
    ends = np.cumsum(columns["thumb_bytes"][:, 0]).tolist()
    jpeg = columns["thumb_jpeg"].tobytes()
    starts = [0, *ends[:-1]]
    pts, at_s, score = (columns[name][:, 0].tolist() for name in ("thumb_pts", "thumb_s", "thumb_score"))
    return [Thumbnail(pts[i], at_s[i], score[i], jpeg[starts[i] : ends[i]]) for i in range(len(pts))]


PER_FRAME = {
    "pts": "int64, in the stream's time base",
    "pts_s": "float64, seconds since the first frame",
    "index": "int64, rank in presentation order",
    "flags": "uint32, vpipe.frame.FrameFlag bits",
    "score": "float32, 0..100",
    "score_low": "float32, 0..100; with score_high the bounds of 8 in 10 truths; only of models that give bounds",
    "score_high": "float32, 0..100; likewise",
    "score_pixels": "float32, 0..100, without what the packets tell; only of models that know about bits",
    "novelty": "float32, above 1 where unlike the training data; only of models that tell",
    "fault_<kind>": "float32, probability 0..1",
    "luma_mean": "float32, 8-bit luma code: 16 black, 235 white",
    "shadows": "float32, share of pixels at or below black (luma <= 16), 0..1",
    "highlights": "float32, share of pixels at or above white (luma >= 235), 0..1",
    "black": "bool, nothing but black",
    "frozen": "bool, same as its neighbour frame",
    "letterbox": "float32, share of the picture taken by black bars, 0..1; NaN where no picture told",
}
"""The columns of a scored video, all one-dimensional and as long as `pts`: what `frames(video)` gives a report."""
