"""The typed row: what the engine and the task say, merged, and there and back again through JSON."""

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from vpipe_score.results import Failure, Fault, FrameCounts, Model, Shares, VideoScore, Worst, thumbnails

MERGED: dict[str, Any] = {
    **{"path": "a.mp4", "key": "k", "status": "done", "error": None, "container": "mov", "codec": "h264"},
    **{"pixel_format": "yuv420p", "width": 1920, "height": 1080, "rotation": 90, "duration_s": 10.0},
    **{"frame_rate": 0.0, "size_bytes": 1000, "reused": True, "settings_key": "s", "timings": {"decode_cpu_s": 1.5}},
    "frames": {"seen": 250, "taken": 21, "corrupt": 2, "dropped": 1},
    "models": {"other": {"name": "x", "version": "0"}, "quality": {"name": "score", "version": "1.2", "sha256": "f"}},
    **{"score": 71.5, "grade": "good", "mean": 73.0, "harmonic_mean": 72.0, "p5": 50.0, "scored": 20},
    **{"worst": {"score": 41.0, "at_s": 7.0}, "faults": [{"kind": "blurred", "weight": 0.5}], "summary": "good"},
    "shares": {"black": 0.1, "frozen": 0.2, "letterbox": 0.3},
}


def test_merged_row_is_read_whole() -> None:
    video = VideoScore.from_row(MERGED)
    assert video.status == "scored"
    assert video.error is None
    assert (video.score, video.grade, video.mean, video.harmonic_mean, video.p5) == (71.5, "good", 73.0, 72.0, 50.0)
    assert video.worst == Worst(41.0, 7.0)
    assert video.faults == (Fault("blurred", 0.5),)
    assert video.shares == Shares(0.1, 0.2, 0.3)
    assert video.frames == FrameCounts(seen=250, scored=20, dropped=1, corrupt=2)
    assert video.model == Model("score", "1.2")
    assert video.timings == {"decode_cpu_s": 1.5}
    assert video.frame_rate is None, "0 means unknown"
    assert video.rotation == 90


def test_failed_row_needs_no_more_than_path_status_and_error() -> None:
    error = {"kind": "not_media", "message": "a.txt: not a video"}
    video = VideoScore.from_row({"path": "a.txt", "status": "failed", "error": error})
    assert video.status == "failed"
    assert video.error == Failure("not_media", "a.txt: not a video")
    assert video.score is None
    assert video.model is None
    assert video.frames == FrameCounts()


def test_every_documented_name_of_a_row_is_in_its_json() -> None:
    row = VideoScore.from_row(MERGED).to_dict()
    wanted = (
        "path status error score grade mean harmonic_mean p5 worst faults duration_s width height codec frame_rate "
        "container size_bytes frames model settings_key timings"
    )
    assert set(wanted.split()) <= row.keys()
    assert row["worst"] == {"score": 41.0, "at_s": 7.0}
    assert set(row["frames"]) == {"seen", "scored", "dropped", "corrupt"}


def test_row_survives_json() -> None:
    for row in (MERGED, {"path": "caf\udce9", "status": "failed", "error": {"kind": "k", "message": "m"}}):
        video = VideoScore.from_row(row)
        assert VideoScore.from_dict(json.loads(json.dumps(video.to_dict()))) == video


def test_names_of_a_later_version_are_passed_over() -> None:
    values = VideoScore.from_row(MERGED).to_dict() | {"later": 1, "worst": {"score": 1.0, "at_s": 2.0, "frame": 3}}
    assert VideoScore.from_dict(values).worst == Worst(1.0, 2.0)


@settings(deadline=None)
@given(missing=st.sets(st.sampled_from(sorted(MERGED.keys() - {"path", "status"}))), nulls=st.booleans())
def test_row_of_another_pipeline_may_lack_anything_but_path_and_status(missing: set[str], nulls: bool) -> None:
    row = {name: None if name in missing else value for name, value in MERGED.items() if nulls or name not in missing}
    video = VideoScore.from_row(row)
    assert VideoScore.from_dict(video.to_dict()) == video


def test_columns_without_thumbnails_have_none() -> None:
    assert thumbnails({}) == []
