"""From per-frame scores to a video's figures: pure functions on arrays.

Every figure is weighted by display time: a frame counts for as long as it is on screen, so that a variable frame rate,
or sampling that takes few frames, does not move the result.

The main score is `(1 - worst_weight) * mean + worst_weight * worst part`, where the worst part is the mean of the
worst tenth of the time. VMAF tools report the arithmetic mean, so a video of even quality gets the number they would
give; but viewers judge by the worst stretches too, and pooling that leans on these agrees better with them on material
whose quality moves (Tu et al., A Comparative Evaluation of Temporal Pooling Methods for Blind Video Quality
Assessment, ICIP 2020: up to 0.03 of rank correlation on LIVE-VQC, none lost on the steadier KoNViD-1k). The worst part
is taken over whole seconds and not over frames, because the smallest of many noisy predictions measures the noise.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vpipe_score.results import Grade

Floats = NDArray[np.float64]

WORST_PART = 0.1
"""Share of the time that makes up the worst part."""

WORST_WEIGHT = 0.25
"""Weight of the worst part in the main score."""

GRADES: tuple[tuple[float, Grade], ...] = ((90.0, "excellent"), (70.0, "good"), (50.0, "fair"), (30.0, "poor"))
"""From this score up, this grade; below the last, `bad`.

VMAF was trained on five-level ratings scaled so that 20 is `bad` and 100 `excellent`, with the others in equal steps
between them (Netflix Technology Blog, VMAF: The Journey Continues, 2018, which reads 70 as between `good` and `fair`).
A grade begins half way between its own mark and the one below.
"""


def grade(score: float) -> Grade:
    """Return the grade of a score, 0..100."""
    return next((name for least, name in GRADES if score >= least), "bad")


def display_s(pts_s: ArrayLike) -> Floats:
    """Return how long each frame is on screen, in seconds.

    Args:
        pts_s: (n,) seconds, ascending.

    Returns:
        (n,) seconds above 0. A frame stays until the next one; the last, whose end is not known, for the median of the
        others. All are 1 where there is nothing to measure (one frame, or all at the same time).
    """
    times = np.asarray(pts_s, np.float64)
    gaps = np.diff(times)
    positive = gaps[gaps > 0]
    if len(positive) == 0:
        return np.ones(len(times))
    # np.median imports numpy.ma at its first call, which takes longer than all the rest of a short video's pooling.
    ranked = np.sort(positive)
    median = (ranked[(len(ranked) - 1) // 2] + ranked[len(ranked) // 2]) / 2
    return np.append(np.maximum(gaps, ranked[0]), median)


def mean(scores: ArrayLike, weights: ArrayLike) -> float:
    """Return the arithmetic mean."""
    return float(np.average(np.asarray(scores, np.float64), weights=np.asarray(weights, np.float64)))


def harmonic_mean(scores: ArrayLike, weights: ArrayLike) -> float:
    """Return the harmonic mean as VMAF tools define it: of the scores plus one, less one, so that 0 is allowed."""
    shifted = np.asarray(scores, np.float64) + 1.0
    return float(1.0 / np.average(1.0 / shifted, weights=np.asarray(weights, np.float64)) - 1.0)


def percentile(scores: ArrayLike, weights: ArrayLike, share: float) -> float:
    """Return the smallest score such that at least `share` (0..1) of the time is at or below it."""
    values = np.asarray(scores, np.float64)
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(np.asarray(weights, np.float64)[order])
    # The last bit of a sum must not decide: 5 % of 20 equal weights is exactly one of them.
    at = int(np.searchsorted(reached, share * reached[-1] * (1 - 1e-9)))
    return float(values[order[min(at, len(order) - 1)]])


def seconds(pts_s: ArrayLike, scores: ArrayLike, weights: ArrayLike) -> tuple[NDArray[np.int64], Floats, Floats]:
    """Return the video second by second.

    Returns:
        Three arrays, an entry for each second in which a frame begins: the second's start (whole seconds since the
        first frame), the mean score of its frames, and their display time.
    """
    weight = np.asarray(weights, np.float64)
    starts, place = np.unique(np.floor(np.asarray(pts_s, np.float64)).astype(np.int64), return_inverse=True)
    time = np.bincount(place, weights=weight).astype(np.float64)
    total = np.bincount(place, weights=weight * np.asarray(scores, np.float64))
    return starts, total / time, time


def worst_part(second_scores: ArrayLike, second_weights: ArrayLike, share: float = WORST_PART) -> float:
    """Return the mean over the worst `share` of the time, at least the worst second."""
    scores = np.asarray(second_scores, np.float64)
    weights = np.asarray(second_weights, np.float64)
    order = np.argsort(scores, kind="stable")
    budget = max(share * float(weights.sum()), float(weights[order[0]]))
    before = np.cumsum(weights[order]) - weights[order]
    taken = np.clip(budget - before, 0.0, weights[order])
    return mean(scores[order], taken)


def main_score(average: float, worst: float, worst_weight: float = WORST_WEIGHT) -> float:
    """Return the video's score from its mean and its worst part."""
    return (1.0 - worst_weight) * average + worst_weight * worst
