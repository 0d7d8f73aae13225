"""The score task: what becomes of the model's outputs.

A batch gives per-frame columns, a segment adds letterbox and thumbnails from the companion pictures, a stream gives
the row. What is per frame never depends on the pooling options, so other options need no decoding.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vpipe.errors import ConfigError
from vpipe.frame import FrameFlag, StreamInfo
from vpipe.task import Batch, Columns, Task
from vpipe_score import bits, pictures, pooling
from vpipe_score.exposure import BLACK, WHITE, exposure
from vpipe_score.results import FAULT_PREFIX

BLACK_FRAME_CODE = 37
BLACK_FRAME_SHARE = 0.98
"""A frame is black if so much of it is at or below this code: the defaults of FFmpeg's blackdetect filter (0.98 of the
pixels within 0.10 of the range above black)."""

THUMBNAILS = 3
"""At most, per segment."""

FAULT_TOLD = 0.25
"""A fault of less weight is not worth a word in the summary."""

DAMAGED = f"{FAULT_PREFIX}damaged"
"""The fault that the decoder may know of where no network sees it."""

FROZEN = "frozen"
"""The fault that no network finds: its weight is the share of the time in which nothing moves at all."""


BY_BITS = ("by_bits", "by_bits_reach")
"""Outputs that wait for the segment's packets to be known."""


class ScoreTask(Task):
    """Pools a quality model's per-frame scores into one row a video.

    The model has the outputs `score`, (n,) or (n, 1), 0..100, and may have `faults`, (n, K) probabilities with K
    labels in its manifest; `bounds`, (n, 2), between which 80 % of the truths lie; and `novelty`, (n,), above 1 where
    the picture is unlike all that the model learned from.

    Where it has `by_bits`, (n, codecs, terms) as `vpipe_score.bits` says, and `by_bits_reach`, (n, 2), how far below
    and above it the truth may lie, `score` and its bounds follow from the bits too; `score_pixels` is without them.

    Options: `worst_part` (0..1] and `worst_weight` [0..1], see `vpipe_score.pooling`.
    """

    version = "3"
    frame_version = "3"
    unit, same, near = "score points", 0.1, 0.5

    def __init__(self, options: Mapping[str, Any], labels: Mapping[str, tuple[str, ...]]) -> None:
        super().__init__(options, labels)
        known = {"worst_part": pooling.WORST_PART, "worst_weight": pooling.WORST_WEIGHT}
        for name, value in self.options.items():
            if name not in known:
                raise ConfigError(f"postprocess.options.{name}: no such option; the score task has {', '.join(known)}")
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or not 0 <= value <= 1 or (name == "worst_part" and value == 0):
                raise ConfigError(f"postprocess.options.{name}: must be a share between 0 and 1 (got {value!r})")
            known[name] = float(value)
        self.worst_part, self.worst_weight = known["worst_part"], known["worst_weight"]
        pictures.load_encoder()

    @classmethod
    def differences(
        cls, reference: Mapping[str, NDArray[Any]], found: Mapping[str, NDArray[Any]]
    ) -> NDArray[np.float64]:
        """Return the difference of scores."""
        scores = [np.clip(np.asarray(each["score"], np.float64).reshape(-1), 0, 100) for each in (reference, found)]
        return np.asarray(np.abs(scores[0] - scores[1]), np.float64)

    def on_batch(self, batch: Batch) -> Columns:
        """Return what the model and the view tell of each frame, copied; `on_segment` makes columns of it.

        `picture` is a column of arrays or None.
        """
        size = len(batch)
        scores = np.asarray(batch.fields["score"], np.float32).reshape(size)
        columns: Columns = {"score": np.clip(scores, 0.0, 100.0)}
        if "faults" in batch.fields:
            for label, values in zip(self.labels.get("faults", ()), batch.fields["faults"].T, strict=True):
                columns[f"{FAULT_PREFIX}{label}"] = np.array(values, np.float32)
        if "bounds" in batch.fields:
            low, high = np.clip(np.asarray(batch.fields["bounds"], np.float32), 0.0, 100.0).T
            columns |= {"score_low": low.copy(), "score_high": high.copy()}
        if "by_bits" in batch.fields:
            columns |= {name: np.array(batch.fields[name], np.float32) for name in BY_BITS}
        if "novelty" in batch.fields:
            columns["novelty"] = np.array(batch.fields["novelty"], np.float32).reshape(size)
        if "histogram" in batch.fields:
            columns["histogram"] = np.array(batch.fields["histogram"])
        flags = batch.frames["flags"]
        columns["frozen"] = (flags & FrameFlag.SAME) != 0
        if "picture" in batch.fields:
            # Few frames carry a picture: an array a frame would cost a hundred megabytes in a long segment.
            kept = np.full(size, None, object)
            for at in np.flatnonzero(flags & FrameFlag.PICTURE).tolist():
                kept[at] = batch.fields["picture"][at].copy()
            columns["picture"] = kept
        return columns

    def on_segment(self, stream: StreamInfo, columns: Columns) -> Columns:
        """Return the per-frame columns (`vpipe_score.results.PER_FRAME`) and the segment's thumbnails."""
        columns = dict(columns)
        pts, times = columns["pts"], columns["pts_s"]
        if "score" not in columns:  # a segment in which no frame was taken
            return columns
        if "histogram" in columns:
            columns |= luma_facts(columns.pop("histogram"))
        shown: Any = columns.pop("picture", ())
        at = [i for i, picture in enumerate(shown) if picture is not None]
        bars = np.array([pictures.letterbox(shown[i]) for i in at], np.float32)
        loss = bits.losses(columns["flags"])
        # The middle one by hand: `np.median` would load `numpy.ma`, which takes 10 ms.
        columns |= _read_bits(stream, columns, loss, 1 - float(np.sort(bars)[len(at) // 2]) if at else 1.0)
        if DAMAGED in columns:
            columns[DAMAGED] = bits.damaged(columns[DAMAGED], loss)
        for name in BY_BITS:
            columns.pop(name, None)
        # The first frame has no frame before it to be equal to.
        columns["frozen"] = columns["frozen"] & (pts != stream.start_pts)
        columns["letterbox"] = np.full(len(pts), np.nan, np.float32)
        if not at:
            return columns
        # A frame between two pictures has the bars of the one before it; the few before the first, those of the first.
        columns["letterbox"] = bars[np.maximum(np.searchsorted(at, np.arange(len(pts)), side="right") - 1, 0)]
        ends = [*at[1:], len(pts)]
        moments = [(0 if n == 0 else i, end) for n, (i, end) in enumerate(zip(at, ends, strict=True))]
        scores = np.array([np.mean(columns["score"][start:end], dtype=np.float64) for start, end in moments])
        chosen = pictures.choose(times[at], scores, THUMBNAILS)
        turned = stream.rotation in (90, 270)
        width, height = (stream.height, stream.width) if turned else (stream.width, stream.height)
        columns |= pictures.flat_columns(
            [int(pts[at[n]]) for n in chosen],
            [float(times[at[n]]) for n in chosen],
            [float(scores[n]) for n in chosen],
            [pictures.to_jpeg(shown[at[n]], width, height) for n in chosen],
        )
        return columns

    def on_stream(self, stream: StreamInfo, columns: Columns) -> dict[str, Any]:
        """Return the product's half of the row: see `vpipe_score.results.VideoScore.from_row`."""
        scores = np.asarray(columns.get("score", ()), np.float64)
        row: dict[str, Any] = {"score": None, "grade": None, "scored": len(scores)}
        finite = np.isfinite(scores)
        if not finite.any():
            return row | {"summary": "no frame could be scored"}
        times = columns["pts_s"]
        weights = pooling.display_s(times)
        shares = {name: _share(columns.get(name), weights) for name in ("black", "frozen")}
        shares["letterbox"] = _share(_boxed(columns.get("letterbox")), weights)
        # A black frame has no quality to judge: it counts only where there is nothing else.
        judged = finite & ~np.asarray(columns.get("black", np.zeros(len(scores), bool)), bool)
        judged = judged if judged.any() else finite
        score, weight = scores[judged], weights[judged]
        starts, second_scores, _ = pooling.seconds(times[judged], score, weight)
        worst = int(np.argmin(second_scores))
        mean = pooling.mean(score, weight)
        total = self._pooled(times[judged], score, weight)
        faults: list[dict[str, Any]] = [
            {"kind": name.removeprefix(FAULT_PREFIX), "weight": round(pooling.mean(values[judged], weight), 4)}
            for name, values in columns.items()
            if name.startswith(FAULT_PREFIX)
        ]
        if "frozen" in columns:
            faults.append({"kind": FROZEN, "weight": shares["frozen"]})
        faults.sort(key=lambda fault: (-fault["weight"], fault["kind"]))
        row |= {
            "score": round(total, 2),
            "grade": pooling.grade(round(total, 2)),
            "mean": round(mean, 2),
            "harmonic_mean": round(pooling.harmonic_mean(score, weight), 2),
            "p5": round(pooling.percentile(score, weight, 0.05), 2),
            "worst": {"score": round(float(second_scores[worst]), 2), "at_s": float(starts[worst])},
            "faults": faults,
            "shares": shares,
        }
        if "score_low" in columns:
            low, high = (np.asarray(columns[name], np.float64)[judged] for name in ("score_low", "score_high"))
            row["score_low"], row["score_high"] = (
                round(self._pooled(times[judged], bound, weight), 2) for bound in (low, high)
            )
        if "score_pixels" in columns:
            alone = np.asarray(columns["score_pixels"], np.float64)[judged]
            row["score_pixels"] = round(self._pooled(times[judged], alone, weight), 2)
        if "novelty" in columns:
            row["novelty"] = round(pooling.mean(np.asarray(columns["novelty"], np.float64)[judged], weight), 3)
            row["out_of_scope"] = row["novelty"] > 1.0
        return row | {"summary": summary(row)}

    def _pooled(self, times: NDArray[Any], values: NDArray[Any], weights: NDArray[Any]) -> float:
        """Return the main score of a series, or of one of its bounds."""
        _, second_values, second_weights = pooling.seconds(times, values, weights)
        worst = pooling.worst_part(second_values, second_weights, self.worst_part)
        return pooling.main_score(pooling.mean(values, weights), worst, self.worst_weight)


def _read_bits(stream: StreamInfo, columns: Columns, loss: NDArray[np.float32], seen: float) -> Columns:
    """Return the score, its bounds and `score_pixels` of a segment whose model knows about bits.

    `seen` is the share of the picture that is not black bars.
    """
    if "by_bits" not in columns:
        return {}
    alone = {"score_pixels": columns["score"]}
    if (told := bits.packets(stream, columns, seen)) is None:
        return alone
    score = bits.scores(columns["by_bits"], told, loss)
    below, above = columns["by_bits_reach"].T
    return alone | {
        "score": score,
        "score_low": np.maximum(score - below, 0.0),
        "score_high": np.minimum(score + above, 100.0),
    }


def luma_facts(histogram: NDArray[Any]) -> Columns:
    """Return luma mean, clipped shares, black flags and faults of exposure from (n, 256) counts of luma codes."""
    counts = np.asarray(histogram, np.float64)
    total = np.maximum(counts.sum(axis=1), 1.0)
    below = counts[:, : BLACK_FRAME_CODE + 1].sum(axis=1)
    under, over = exposure(counts)
    return {
        "luma_mean": (counts @ np.arange(256) / total).astype(np.float32),
        "shadows": (counts[:, : BLACK + 1].sum(axis=1) / total).astype(np.float32),
        "highlights": (counts[:, WHITE:].sum(axis=1) / total).astype(np.float32),
        "black": below >= BLACK_FRAME_SHARE * total,
        f"{FAULT_PREFIX}underexposed": under,
        f"{FAULT_PREFIX}overexposed": over,
    }


def summary(row: Mapping[str, Any]) -> str:
    """Return one line for people: the grade, what is wrong, and where it is worst."""
    told = [f["kind"] for f in row["faults"] if f["weight"] >= FAULT_TOLD and f["kind"] != FROZEN][:2]
    parts = [str(row["grade"])]
    if row.get("out_of_scope"):
        parts.append("unlike what the model learned from")
    if told:
        parts.append(" and ".join(told))
    if row["worst"]["score"] < row["mean"] - 10:
        minutes, seconds = divmod(int(row["worst"]["at_s"]), 60)
        parts.append(f"down to {row['worst']['score']:.0f} at {minutes}:{seconds:02d}")
    parts += [f"{share:.0%} {name}" for name, share in row["shares"].items() if share >= 0.05 and name != "letterbox"]
    if row["shares"]["letterbox"] >= 0.5:
        parts.append("letterboxed")
    return ", ".join(parts)


def _boxed(shares: NDArray[Any] | None) -> NDArray[Any] | None:
    """Say which frames have bars; frames of which no picture told anything count as having none."""
    return None if shares is None else np.nan_to_num(shares) > 0


def _share(mask: NDArray[Any] | None, weights: NDArray[np.float64]) -> float:
    return 0.0 if mask is None else round(pooling.mean(np.asarray(mask, np.float64), weights), 4)
