"""Pooling: what a video's figures are, for any frame rate."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vpipe_score import pooling

scores_and_gaps = st.lists(
    st.tuples(st.floats(0, 100), st.floats(0.001, 10.0)),
    min_size=1,
    max_size=60,
)


@pytest.mark.parametrize(
    ("score", "grade"),
    [
        *((100, "excellent"), (90, "excellent"), (89.99, "good"), (70, "good"), (69.9, "fair"), (50, "fair")),
        *((49.9, "poor"), (30, "poor"), (29.9, "bad"), (0, "bad")),
    ],
)
def test_grades_begin_at_their_documented_scores(score: float, grade: str) -> None:
    assert pooling.grade(score) == grade


def test_frame_counts_until_the_next_one_is_shown() -> None:
    assert pooling.display_s([0.0, 0.5, 2.5, 3.0]).tolist() == [0.5, 2.0, 0.5, 0.5]


def test_single_frame_and_frames_without_time_count_alike() -> None:
    assert pooling.display_s([7.0]).tolist() == [1.0]
    assert pooling.display_s([3.0, 3.0]).tolist() == [1.0, 1.0]
    assert (pooling.display_s([0.0, 0.0, 1.0]) > 0).all()


def test_mean_is_that_of_time_not_of_frames() -> None:
    assert pooling.mean([10, 90], [3, 1]) == pytest.approx(30)


def test_harmonic_mean_is_vmafs() -> None:
    # Of (s + 1), less 1: three frames of 20, 80 and 0.
    expected = 3 / (1 / 21 + 1 / 81 + 1 / 1) - 1
    assert pooling.harmonic_mean([20, 80, 0], [1, 1, 1]) == pytest.approx(expected)


def test_percentile_is_a_score_that_occurred_with_that_share_of_time_at_or_below() -> None:
    scores = np.arange(1, 21)
    assert pooling.percentile(scores, np.ones(20), 0.05) == 1
    assert pooling.percentile(scores, np.ones(20), 0.06) == 2
    assert pooling.percentile([5, 90], [0.04, 0.96], 0.05) == 90
    assert pooling.percentile([5, 90], [0.06, 0.94], 0.05) == 5


def test_seconds_gather_the_frames_that_begin_in_them() -> None:
    starts, scores, weights = pooling.seconds([0.0, 0.4, 1.1, 3.9], [10, 40, 50, 60], [1, 2, 1, 1])
    assert starts.tolist() == [0, 1, 3]
    assert scores.tolist() == pytest.approx([30, 50, 60])
    assert weights.tolist() == [3, 1, 1]


def test_worst_part_is_the_worst_tenth_and_at_least_the_worst_second() -> None:
    seconds = np.array([90.0] * 18 + [10.0, 50.0])
    assert pooling.worst_part(seconds, np.ones(20), 0.1) == pytest.approx(30)
    assert pooling.worst_part(seconds, np.ones(20), 0.15) == pytest.approx((10 + 50 + 90) / 3)
    assert pooling.worst_part([80, 20], [1, 1], 0.1) == 20


def test_short_failure_in_a_good_video_shows_in_the_main_score() -> None:
    even = pooling.main_score(90, 90)
    broken = pooling.main_score(86, 50)
    assert even == 90
    assert broken == pytest.approx(0.75 * 86 + 0.25 * 50)
    assert pooling.main_score(86, 50, worst_weight=0) == 86


@settings(deadline=None)
@given(scores_and_gaps)
def test_all_figures_lie_between_the_worst_and_the_best_frame(pairs: list[tuple[float, float]]) -> None:
    scores = np.array([score for score, _ in pairs])
    times = np.cumsum([0.0, *(gap for _, gap in pairs)])[: len(pairs)]
    weights = pooling.display_s(times)
    assert (weights > 0).all()
    mean = pooling.mean(scores, weights)
    _, second_scores, second_weights = pooling.seconds(times, scores, weights)
    worst = pooling.worst_part(second_scores, second_weights)
    figures = [mean, pooling.harmonic_mean(scores, weights), pooling.percentile(scores, weights, 0.05), worst]
    figures.append(pooling.main_score(mean, worst))
    slack = 1e-6
    assert all(scores.min() - slack <= figure <= scores.max() + slack for figure in figures)
    assert pooling.harmonic_mean(scores, weights) <= mean + slack
    assert worst <= mean + slack


@settings(deadline=None)
@given(st.floats(0, 100), st.lists(st.floats(0.01, 5.0), min_size=1, max_size=40))
def test_video_of_even_quality_has_that_quality_however_its_frames_are_spaced(score: float, gaps: list[float]) -> None:
    times = np.cumsum(gaps)
    weights = pooling.display_s(times)
    scores = np.full(len(times), score)
    worst = pooling.worst_part(*pooling.seconds(times, scores, weights)[1:])
    assert pooling.main_score(pooling.mean(scores, weights), worst) == pytest.approx(score, abs=1e-6)
    assert pooling.harmonic_mean(scores, weights) == pytest.approx(score, abs=1e-6)


def test_dropping_repeated_frames_does_not_move_the_figures() -> None:
    # 25 frames a second, of which a variable-rate encoder leaves out repeats: the same video to a viewer.
    rng = np.random.default_rng(1)
    held = np.repeat(rng.uniform(20, 90, 50), rng.integers(1, 8, 50))
    times = np.arange(len(held)) / 25
    kept = np.flatnonzero(np.append(True, held[1:] != held[:-1]))
    kept = np.append(kept, len(held) - 1)  # so that the end is the same
    full, lean = pooling.display_s(times), pooling.display_s(times[kept])
    lean[-1] = full[-1]
    for figure in (pooling.mean, pooling.harmonic_mean):
        assert figure(held[kept], lean) == pytest.approx(figure(held, full), rel=1e-6)
    assert pooling.percentile(held[kept], lean, 0.05) == pooling.percentile(held, full, 0.05)
