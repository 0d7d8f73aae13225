"""Made-up videos for tests of the report: columns and rows whose every number is known."""

from typing import Any

import cv2
import numpy as np

from vpipe.task import Columns
from vpipe_score.pooling import grade
from vpipe_score.results import Failure, Fault, FrameCounts, Model, Shares, VideoScore, Worst

KINDS = ("compression", "blurred", "noisy")


def columns_of(scores: list[float], step_s: float = 0.5, **changed: Any) -> Columns:
    """Frames `step_s` apart with these scores, each third frame with a thumbnail."""
    count = len(scores)
    time_s = np.arange(count) * step_s
    score = np.array(scores, np.float32)
    at = np.arange(0, count, 3)
    jpegs = [
        cv2.imencode(".jpg", np.full((90, 160, 3), 2 * min(scores[i], 100), np.uint8))[1].tobytes() for i in at.tolist()
    ]
    columns: Columns = {
        "pts": (time_s * 1000).astype(np.int64),
        "pts_s": time_s,
        "score": score,
        **{f"fault_{kind}": np.full(count, 0.8 / (1 + i), np.float32) for i, kind in enumerate(KINDS)},
        "luma_mean": np.full(count, 90, np.float32),
        "shadows": np.full(count, 0.03, np.float32),
        "highlights": np.zeros(count, np.float32),
        "black": np.zeros(count, bool),
        "frozen": np.zeros(count, bool),
        "letterbox": np.full(count, np.nan, np.float32),
        "thumb_pts": (time_s[at] * 1000).astype(np.int64)[:, None],
        "thumb_s": time_s[at][:, None],
        "thumb_score": score[at].astype(np.float64)[:, None],
        "thumb_bytes": np.array([len(jpeg) for jpeg in jpegs], np.int64)[:, None],
        "thumb_jpeg": np.frombuffer(b"".join(jpegs), np.uint8)[:, None],
    }
    return {**columns, **changed}


def video_of(path: str, columns: Columns) -> VideoScore:
    scores = columns["score"]
    lowest = int(np.argmin(scores))
    mean = float(scores.mean())
    return VideoScore(
        path=path,
        status="scored",
        score=mean,
        grade=grade(mean),
        mean=mean,
        harmonic_mean=mean - 1,
        p5=float(np.percentile(scores, 5)),
        worst=Worst(float(scores[lowest]), float(columns["pts_s"][lowest])),
        faults=tuple(Fault(kind, float(columns[f"fault_{kind}"].mean())) for kind in KINDS),
        shares=Shares(frozen=float(columns["frozen"].mean())),
        duration_s=float(columns["pts_s"][-1]) + 0.5,
        width=1920,
        height=1080,
        codec="h264",
        frame_rate=29.97,
        size_bytes=1_234_567,
        frames=FrameCounts(seen=4 * len(scores), scored=len(scores), corrupt=2),
        model=Model("vpipe-score", "1"),
        settings_key="3fa91c0b",
        timings={"decode_s": 1.25},
    )


def failed(path: str, kind: str, message: str) -> VideoScore:
    return VideoScore(path=path, status="failed", error=Failure(kind, message))
