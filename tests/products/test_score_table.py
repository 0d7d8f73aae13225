"""The table at the end: aligned, complete, and safe to print whatever a file is called."""

import dataclasses
import os

import click
import pytest

from vpipe_score.results import Failure, Fault, VideoScore, Worst
from vpipe_score.table import MOST_ROWS, clock, columns_of, render, shorten, shown, sum_up

GOOD = VideoScore(
    **{"path": "clips/good.mp4", "status": "scored", "score": 93.44, "grade": "excellent", "worst": Worst(91.2, 63.0)},
    **{"faults": (Fault("noisy", 0.31), Fault("blurred", 0.04)), "duration_s": 3723.9},
    **{"width": 1920, "height": 1080, "codec": "h264"},
)
POOR = dataclasses.replace(
    GOOD,
    **{"path": "clips/雨 a long name.mp4", "score": 31.0, "grade": "poor", "duration_s": 7.0},
    **{"faults": (Fault("blurred", 0.8), Fault("noisy", 0.5), Fault("upscaled", 0.4))},
)
FAILED = VideoScore("clips/text.mp4", "failed", Failure("not_media", "clips/text.mp4: this is text"))


def test_table_shows_every_file_with_its_figures_in_columns() -> None:
    lines = render([GOOD, POOR], 120, colour=False)
    assert [" ".join(line.split()) for line in lines] == [
        "file score grade worst second faults length picture",
        "clips/good.mp4 93.4 excellent 91 at 1:03 noisy 0.31 1:02:03 1920x1080 h264",
        "clips/雨 a long name.mp4 31.0 poor 91 at 1:03 blurred 0.80, noisy 0.50 0:07 1920x1080 h264",
    ]
    place = columns_of(lines[0][: lines[0].index("grade")])
    assert columns_of(lines[1][: lines[1].index("excellent")]) == place
    assert columns_of(lines[2][: lines[2].index("poor")]) == place


def test_failed_files_come_after_with_their_reason() -> None:
    lines = render([FAILED, GOOD], 120, colour=False)
    assert lines[-3:] == ["", "failed:", "  clips/text.mp4  not_media: this is text"]
    assert render([FAILED], 120, colour=False)[0] == "failed:"


@pytest.mark.parametrize("width", [80, 100, 150])
def test_long_path_loses_its_middle_and_fits(width: int) -> None:
    path = "/archive/" + "2024-11/" * 20 + "the name that matters.mp4"
    lines = render([dataclasses.replace(GOOD, path=path)], width, colour=False)
    assert "..." in lines[1]
    assert "matters.mp4 " in lines[1]
    if width > 80:
        assert max(map(columns_of, lines)) <= width


def test_path_is_whole_where_no_terminal_limits_it() -> None:
    path = "/archive/" + "2024-11/" * 20 + "a.mp4"
    assert render([dataclasses.replace(GOOD, path=path)], None, colour=False)[1].startswith(f"{path}  ")


def test_colour_marks_grades_and_changes_no_letter() -> None:
    plain = render([GOOD, POOR, FAILED], 120, colour=False)
    coloured = render([GOOD, POOR, FAILED], 120, colour=True)
    assert click.style("excellent", fg="green") in coloured[1]
    assert click.style("not_media", fg="red") in coloured[-1]
    assert [click.unstyle(line) for line in coloured] == plain
    assert "\x1b" not in "".join(plain)


def test_long_run_shows_the_worst_and_counts_the_rest() -> None:
    videos = [dataclasses.replace(GOOD, path=f"{n}.mp4", score=float(n)) for n in range(200)]
    failed = [dataclasses.replace(FAILED, path=f"bad{n}") for n in range(50)]
    lines = render([*videos, *failed], 120, colour=False)
    assert lines[1].startswith("0.mp4")
    assert "... the 20 worst of 200 scored files" in lines
    assert lines[-1] == "  ... and 30 more"
    assert len(lines) < MOST_ROWS + 10


def test_video_without_a_score_has_dashes() -> None:
    bare = VideoScore("a.mp4", "scored", width=8, height=8, codec="ffv1")
    assert render([bare], 120, colour=False)[1].split() == ["a.mp4", "-", "-", "-", "-", "-", "8x8", "ffv1"]


def test_names_cannot_speak_to_the_terminal() -> None:
    evil = os.fsdecode(b"a\x1b[31m\r\nb\xe9.mp4") + "\u202e"
    assert shown(evil) == "a\\x1b[31m\\r\\nb\\xe9.mp4\\u202e"
    (line,) = render([VideoScore(evil, "failed", Failure("k", f"{evil}\nmore"))], 120, colour=False)[1:]
    assert line.isprintable()


def test_wide_and_combining_characters_take_their_columns() -> None:
    assert columns_of("雨a") == 3
    assert columns_of("e\u0301") == 1
    assert columns_of(shorten("雨" * 30, 21)) <= 21
    assert shorten("short", 20) == "short"


def test_run_is_summed_up_in_one_line() -> None:
    run = {"seconds": 4.2, "frames": 1310, "fps": 311.9, "reused": 0}
    line = sum_up([GOOD, POOR, FAILED], run)
    assert line == (
        "2 scored (mean 62.2); 1 failed; 1:02:10 of video in 4.2 s (888x real time, 1310 frames, 312 frames/s)"
    )
    again = sum_up([GOOD], {**run, "reused": 1, "frames": 0, "fps": 0.0})
    assert again == "1 scored (mean 93.4); 1 reused; 1:02:03 of video in 4.2 s (0 frames, 0 frames/s)"
    assert sum_up([FAILED], run).startswith("0 scored; 1 failed; 0:00 of video")


def test_times_read_like_a_clock() -> None:
    assert [clock(value) for value in (0, 59.9, 60, 3599, 3600, 36061)] == [
        *("0:00", "0:59", "1:00", "59:59", "1:00:00", "10:01:01"),
    ]
