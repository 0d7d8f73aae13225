"""The score task: batches to columns, segments to thumbnails, a stream to its row."""

from typing import Any

import cv2
import numpy as np
import pytest

from vpipe.config import load_pipeline
from vpipe.errors import ConfigError
from vpipe.frame import FRAME, FrameFlag, StreamInfo
from vpipe.task import Batch, Columns, Task
from vpipe_score import PIPELINE, pictures, pooling
from vpipe_score.exposure import exposure
from vpipe_score.results import PER_FRAME, VideoScore, fault_columns, thumbnails
from vpipe_score.task import ScoreTask, luma_facts

LABELS = {"faults": ("compression", "blurred")}


def stream(**more: Any) -> StreamInfo:
    values: dict[str, Any] = {
        **{"stream": 0, "path": "a.mp4", "key": "k", "size_bytes": 1000, "container": "mov", "codec": "h264"},
        **{"pixel_format": "yuv420p", "width": 1920, "height": 1080, "rotation": 0, "duration_s": 10.0},
        **{"frame_rate": 25.0, "time_base": (1, 1000), "start_pts": 500, "frames": 250, "segments": 1},
    }
    return StreamInfo(**{**values, **more})


def batch(pts: list[int], scores: list[float], **fields: Any) -> Batch:
    frames = np.zeros(len(pts), FRAME)
    frames["pts"] = pts
    frames["flags"] = fields.pop("flags", 0)
    return Batch(frames, {"score": np.array(scores, np.float32), **fields})


def segment(task: ScoreTask, info: StreamInfo, given: Batch, facts: Columns | None = None) -> Columns:
    """Do what the engine does between `on_batch` and `on_segment`; `facts` are its own about the segment."""
    columns = task.on_batch(given) | (facts or {})
    columns |= {name: given.frames[name].copy() for name in ("pts", "index", "flags")}
    columns["pts_s"] = np.array([info.seconds(int(pts)) for pts in columns["pts"]])
    return task.on_segment(info, columns)


def picture(*, bars: int = 0, value: int = 120) -> np.ndarray[Any, Any]:
    made = np.full((90, 160, 3), value, np.uint8)
    made[:bars] = made[90 - bars :] = 5
    return made


# Options and the pipeline file.


def test_pipeline_file_is_valid_and_names_this_task() -> None:
    config = load_pipeline(PIPELINE)
    (branch,) = config.branches
    assert config.source.sample == "2/s"
    assert Task.load(branch.postprocess.task) is ScoreTask
    assert ScoreTask(branch.postprocess.options, LABELS).worst_part == 0.1
    assert (branch.view.kind, branch.view.pair, branch.view.histogram) == ("fragments", True, True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"wurst_part": 0.1}, r"options\.wurst_part: no such option; the score task has worst_part, worst_weight"),
        ({"worst_part": 0}, r"options\.worst_part: must be a share between 0 and 1 \(got 0\)"),
        ({"worst_weight": 1.5}, r"got 1\.5"),
        ({"worst_weight": True}, "got True"),
        ({"worst_weight": "much"}, "got 'much'"),
    ],
)
def test_bad_option_is_refused_by_its_path(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ScoreTask(options, LABELS)


# Batches.


def test_batch_gives_one_value_a_frame_that_outlives_the_slot() -> None:
    scores = np.array([[10.0], [-3.0], [104.0]], np.float32)
    faults = np.array([[0.1, 0.9], [0.2, 0.8], [0.3, 0.7]], np.float32)
    given = batch([0, 1, 2], [0, 0, 0], faults=faults, flags=[0, FrameFlag.SAME, FrameFlag.KEY])
    columns = ScoreTask({}, LABELS).on_batch(Batch(given.frames, {**given.fields, "score": scores}))
    scores[:] = faults[:] = -1  # the slot is used again
    assert columns["score"].tolist() == [10.0, 0.0, 100.0]
    assert columns["fault_compression"].tolist() == pytest.approx([0.1, 0.2, 0.3])
    assert columns["fault_blurred"].tolist() == pytest.approx([0.9, 0.8, 0.7])
    assert columns["frozen"].tolist() == [False, True, False]


def test_luma_facts_are_those_of_the_histogram() -> None:
    counts = np.zeros((4, 256), np.uint32)
    counts[0, 16] = 100
    counts[1, [16, 235, 100]] = [25, 50, 25]
    counts[2, [20, 37, 38]] = [90, 8, 2]
    counts[3, [20, 38]] = [97, 3]
    facts = luma_facts(counts)
    assert facts["black"].tolist() == [True, False, True, False]
    assert facts["luma_mean"][:2].tolist() == pytest.approx([16.0, (25 * 16 + 50 * 235 + 25 * 100) / 100])
    assert facts["shadows"].tolist() == pytest.approx([1.0, 0.25, 0.0, 0.0])
    assert facts["highlights"].tolist() == pytest.approx([0.0, 0.5, 0.0, 0.0])


def test_bounds_and_novelty_are_columns_that_outlive_the_slot() -> None:
    bounds, novelty = np.array([[-4, 30], [60, 120]], np.float32), np.array([[0.5], [2.0]], np.float32)
    columns = ScoreTask({}, {}).on_batch(batch([0, 1], [20, 80], bounds=bounds, novelty=novelty))
    bounds[:] = novelty[:] = 7  # the slot is used again
    assert (columns["score_low"].tolist(), columns["score_high"].tolist()) == ([0, 60], [30, 100])
    assert columns["novelty"].tolist() == [0.5, 2.0]


def test_too_little_and_too_much_light_are_told_from_the_histogram() -> None:
    grey, dark, bright = (np.zeros(256) for _ in range(3))
    grey[20:230] = 1
    dark[16:50] = 1
    bright[[100, 180, 220, 235]] = [5, 10, 20, 65]
    under, over = exposure([grey, dark, bright])
    assert (under > 0.5).tolist() == [False, True, False]
    assert (over > 0.5).tolist() == [False, False, True]


def test_only_flagged_pictures_are_kept() -> None:
    shown = np.stack([picture(value=v) for v in (1, 2, 3)])
    given = batch([0, 1, 2], [1, 2, 3], picture=shown, flags=[0, FrameFlag.PICTURE, 0])
    kept = ScoreTask({}, {}).on_batch(given)["picture"]
    shown[:] = 0
    assert [value is None for value in kept] == [True, False, True]
    assert (kept[1] == 2).all()


# Segments.


def test_segment_keeps_documented_columns_and_no_pictures() -> None:
    pts = [500, 1000, 1500]
    given = batch(
        pts,
        [80, 70, 60],
        faults=np.zeros((3, 2), np.float32),
        bounds=np.array([[70, 90]] * 3, np.float32),
        novelty=np.ones(3, np.float32),
        by_bits=np.zeros((3, 6, 6), np.float32),
        by_bits_reach=np.ones((3, 2), np.float32),
        histogram=np.ones((3, 256), np.uint32),
        picture=np.stack([picture()] * 3),
        flags=FrameFlag.PICTURE,
    )
    kept = segment(ScoreTask({}, LABELS), stream(), given)
    one_a_frame = {name for name, values in kept.items() if values.ndim == 1}
    faults = {f"fault_{kind}" for kind in ("compression", "blurred", "underexposed", "overexposed")}
    assert one_a_frame == (PER_FRAME.keys() - {"fault_<kind>"}) | faults
    assert all(len(kept[name]) == 3 for name in one_a_frame)
    assert not any(values.dtype.hasobject for values in kept.values())
    assert kept["pts_s"].tolist() == [0.0, 0.5, 1.0]
    assert fault_columns(kept).keys() == {"compression", "blurred", "underexposed", "overexposed"}


@pytest.mark.parametrize("time_base", [(1, 12800), (1001, 30000), (1, 90000), (1, 1_000_000_000)])
def test_times_are_the_engines_to_the_last_bit(time_base: tuple[int, int]) -> None:
    info = stream(time_base=time_base, start_pts=-37)
    pts = [-37, 0, 1, 12_345_678, 2**45 + 1]
    kept = segment(ScoreTask({}, {}), info, batch(pts, [1] * 5))
    assert kept["pts_s"].tolist() == [info.seconds(value) for value in pts]


def test_first_frame_of_a_stream_is_never_frozen() -> None:
    kept = segment(ScoreTask({}, {}), stream(), batch([500, 540, 580], [1, 1, 1], flags=FrameFlag.SAME))
    assert kept["frozen"].tolist() == [False, True, True]


def test_letterbox_is_carried_from_picture_to_picture() -> None:
    shown = np.stack([picture()] * 3 + [picture(bars=9)] * 3)
    flags = [0, FrameFlag.PICTURE, 0, 0, FrameFlag.PICTURE, 0]
    kept = segment(ScoreTask({}, {}), stream(), batch(list(range(500, 1100, 100)), [1] * 6, picture=shown, flags=flags))
    assert kept["letterbox"].tolist() == pytest.approx([0, 0, 0, 0, 0.2, 0.2])


def test_segment_without_a_picture_does_not_know_about_bars() -> None:
    kept = segment(ScoreTask({}, {}), stream(), batch([500], [1], picture=picture()[None], flags=0))
    assert np.isnan(kept["letterbox"]).all()
    assert thumbnails(kept) == []


def test_segment_in_which_nothing_was_taken_is_kept_empty() -> None:
    empty = {"pts": np.empty(0, np.int64), "index": np.empty(0, np.int64), "flags": np.empty(0, np.uint32)}
    empty["pts_s"] = np.empty(0)
    kept = ScoreTask({}, LABELS).on_segment(stream(), empty)
    assert len(kept["pts_s"]) == 0


def test_thumbnails_show_the_first_and_the_worst_moments_upright() -> None:
    scores = [90, 90, 20, 22, 90, 90, 50, 90]
    shown = np.stack([picture(value=10 * n + 40) for n in range(8)])
    pts = [500 + 1000 * n for n in range(8)]
    given = batch(pts, scores, picture=shown, flags=FrameFlag.PICTURE)
    found = thumbnails(segment(ScoreTask({}, {}), stream(rotation=90, width=1920, height=1080), given))
    assert [(thumb.pts, thumb.at_s, thumb.score) for thumb in found] == [(500, 0, 90), (2500, 2, 20), (3500, 3, 22)]
    for thumb, value in zip(found, (40, 60, 70), strict=True):
        image = cv2.imdecode(np.frombuffer(thumb.jpeg, np.uint8), cv2.IMREAD_COLOR)
        assert image is not None
        assert image.shape == (160, 90, 3)
        assert abs(float(image.mean()) - value) < 2


def test_worst_moments_of_a_thumbnail_choice_are_a_second_apart() -> None:
    times = np.array([0.0, 5.0, 5.5, 7.0])
    assert pictures.choose(times, np.array([90.0, 10.0, 11.0, 80.0]), 3) == [0, 1, 3]
    assert pictures.choose(times, np.array([90.0, 10.0, 11.0, 80.0]), 1) == [0]
    assert pictures.choose(np.empty(0), np.empty(0), 3) == []


def test_thumbnails_of_joined_segments_come_back_one_by_one() -> None:
    task = ScoreTask({}, {})
    parts = [
        segment(task, stream(), batch([start], [50], picture=picture(value=value)[None], flags=FrameFlag.PICTURE))
        for start, value in ((500, 30), (9500, 200))
    ]
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    first, second = thumbnails(joined)
    assert (first.at_s, second.at_s) == (0.0, 9.0)
    assert first.jpeg.startswith(b"\xff\xd8")
    assert second.jpeg.endswith(b"\xff\xd9")
    assert first.jpeg != second.jpeg


# Bars.


def test_bars_above_and_below_or_at_the_sides_are_measured() -> None:
    assert pictures.letterbox(picture(bars=9)) == pytest.approx(0.2)
    sides = np.ascontiguousarray(picture(bars=9).transpose(1, 0, 2))
    assert pictures.letterbox(sides) == pytest.approx(0.2)
    both = picture(bars=9)
    both[:, :16] = both[:, -16:] = 0
    assert pictures.letterbox(both) == pytest.approx(1 - 0.8 * 0.8)


def test_dark_pictures_have_no_bars() -> None:
    assert pictures.letterbox(picture()) == 0
    assert pictures.letterbox(picture(value=0)) == 0
    night = picture()
    night[:40] = 3
    assert pictures.letterbox(night) == 0, "a dark sky is on one side only"
    uneven = picture(bars=5)
    uneven[:30] = 3
    assert pictures.letterbox(uneven) == 0
    thin = picture(bars=1)
    assert pictures.letterbox(thin) == 0


def test_noise_in_a_bar_does_not_hide_it() -> None:
    made = picture(bars=12)
    rng = np.random.default_rng(1)
    made[:12] = made[78:] = rng.integers(0, 20, (12, 160, 3))
    made[3, 100] = 90
    assert pictures.letterbox(made) == pytest.approx(24 / 90)


# The row.


def columns_of(scores: list[float], step_s: float = 0.5, **more: Any) -> Columns:
    count = len(scores)
    return {
        "pts": np.arange(count),
        "pts_s": np.arange(count) * step_s,
        "score": np.array(scores, np.float32),
        "black": np.zeros(count, bool),
        "frozen": np.zeros(count, bool),
        "letterbox": np.zeros(count, np.float32),
        **{name: np.asarray(values) for name, values in more.items()},
    }


def test_row_has_every_figure_of_the_pooling() -> None:
    scores = [80.0] * 10 + [20.0, 30.0] + [80.0] * 8
    faults = {"fault_noisy": [0.2] * 20, "fault_blurred": [0.8] * 20}
    row = ScoreTask({}, {}).on_stream(stream(), columns_of(scores, **faults))
    mean = (18 * 80 + 50) / 20
    assert row["mean"] == pytest.approx(mean, abs=0.01)
    assert row["score"] == pytest.approx(0.75 * mean + 0.25 * 25, abs=0.01)
    assert row["grade"] == "fair"
    assert row["worst"] == {"score": 25.0, "at_s": 5.0}
    assert row["p5"] == 20.0
    assert row["harmonic_mean"] == pytest.approx(pooling.harmonic_mean(scores, np.ones(20)), abs=0.01)
    assert row["faults"] == [
        {"kind": "blurred", "weight": 0.8},
        {"kind": "noisy", "weight": 0.2},
        {"kind": "frozen", "weight": 0.0},
    ]
    assert row["scored"] == 20
    assert row["summary"] == "fair, blurred, down to 25 at 0:05"


def test_bounds_are_pooled_as_the_score_is_and_novelty_decides_on_scope() -> None:
    scores = np.array([80.0] * 10 + [20.0, 30.0] + [80.0] * 8)
    columns = columns_of(list(scores), score_low=scores - 10, score_high=scores + 5, novelty=[0.9] * 20)
    row = ScoreTask({}, {}).on_stream(stream(), columns)
    assert (row["score_low"], row["score_high"]) == pytest.approx((row["score"] - 10, row["score"] + 5), abs=0.011)
    assert (row["novelty"], row["out_of_scope"]) == (0.9, False)
    row = ScoreTask({}, {}).on_stream(stream(), columns | {"novelty": np.full(20, 1.1)})
    assert row["out_of_scope"] is True
    assert row["summary"].startswith("fair, unlike what the model learned from")


def test_time_in_which_nothing_moves_is_a_fault_of_that_weight() -> None:
    row = ScoreTask({}, {}).on_stream(stream(), columns_of([90.0] * 4, frozen=[False, True, True, True]))
    assert row["faults"] == [{"kind": "frozen", "weight": 0.75}]
    assert row["summary"] == "excellent, 75% frozen"


def test_options_change_the_row_but_not_the_columns() -> None:
    columns = columns_of([80.0] * 10 + [20.0] * 2)
    mild, strict = (ScoreTask({"worst_weight": weight}, {}).on_stream(stream(), columns) for weight in (0, 1))
    assert mild["score"] == mild["mean"] == 70.0
    assert strict["score"] == 20.0


def test_black_frames_are_not_judged_but_told() -> None:
    black = [True] * 5 + [False] * 15
    row = ScoreTask({}, {}).on_stream(stream(), columns_of([5.0] * 5 + [90.0] * 15, black=black))
    assert row["score"] == 90.0
    assert row["shares"]["black"] == 0.25
    assert "25% black" in row["summary"]
    assert row["scored"] == 20


def test_video_of_nothing_but_black_keeps_its_score() -> None:
    row = ScoreTask({}, {}).on_stream(stream(), columns_of([5.0] * 4, black=[True] * 4))
    assert row["score"] == 5.0
    assert row["shares"]["black"] == 1.0


def test_shares_are_of_time_and_unknown_letterbox_counts_as_none() -> None:
    columns = columns_of([50.0] * 4, frozen=[True, False, False, False], letterbox=[np.nan, 0.2, 0.2, 0.2])
    columns["pts_s"] = np.array([0.0, 7.0, 8.0, 9.0])
    row = ScoreTask({}, {}).on_stream(stream(), columns)
    assert row["shares"] == {"black": 0.0, "frozen": 0.7, "letterbox": 0.3}


@pytest.mark.parametrize("scores", [[], [np.nan, np.nan]])
def test_stream_without_a_score_says_so(scores: list[float]) -> None:
    row = ScoreTask({}, {}).on_stream(stream(), columns_of(scores))
    assert row["score"] is None
    assert row["summary"] == "no frame could be scored"
    assert VideoScore.from_row({"path": "a", "status": "done", **row}).score is None


def test_scores_that_are_not_numbers_are_left_out() -> None:
    row = ScoreTask({}, {}).on_stream(stream(), columns_of([60.0, np.nan, 60.0]))
    assert row["score"] == 60.0


def test_stream_of_empty_segments_has_no_score() -> None:
    empty = {"pts": np.empty(0, np.int64), "pts_s": np.empty(0)}
    assert ScoreTask({}, {}).on_stream(stream(), empty)["scored"] == 0


def test_letterboxed_video_is_called_so() -> None:
    row = ScoreTask({}, {}).on_stream(stream(), columns_of([95.0] * 4, letterbox=[0.2] * 4))
    assert row["summary"] == "excellent, letterboxed"
