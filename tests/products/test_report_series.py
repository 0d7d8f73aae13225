"""What the report keeps of a video's frames: thinned, but never so that something bad goes missing."""

import base64
import itertools
from typing import Any

import numpy as np

from tests.products.videos import columns_of, video_of
from vpipe_score.report.series import SPANS, THUMBNAIL_BYTES, Limits, detail, envelope, spans, worst_moments
from vpipe_score.results import Thumbnail


def test_envelope_is_exact_where_it_is_not_thinned_and_keeps_the_lowest_where_it_is() -> None:
    score = np.array([50.0, 40.129, np.nan, 100.0])
    exact = envelope(np.arange(4) / 4, score, 600)
    assert numbers(exact["t"], "<u4") == [0, 250, 500, 750]
    assert numbers(exact["mean"], "<u2") == [5000, 4013, 0xFFFF, 10000]
    assert "low" not in exact
    score = np.full(1000, 80.0)
    score[777] = 1.5
    thinned = envelope(np.arange(1000) / 2, score, 100)
    low = numbers(thinned["low"], "<u2")
    assert thinned["points"] == len(low) == 100
    assert [i for i, value in enumerate(low) if value == 150] == [77]
    assert numbers(thinned["mean"], "<u2")[77] == round((80 * 9 + 1.5) * 10)


def test_spans_last_until_the_next_frame_and_never_grow_beyond_their_number() -> None:
    time_s = np.array([0.0, 0.4, 1.0, 1.5, 2.0])
    assert spans(time_s, np.array([True, False, True, True, False]), 2.5) == [[0, 400], [1000, 2000]]
    assert spans(time_s, np.array([False] * 4 + [True]), 2.5) == [[2000, 2500]]
    assert spans(time_s, np.zeros(5, bool), 2.5) == []
    flicker = np.arange(10_000) % 2 == 0
    many = spans(np.arange(10_000) * 0.1 + (np.arange(10_000) > 5000) * 50.0, flicker, 1050.0)
    assert len(many) == SPANS
    assert many[0][0] == 0
    assert [500_100, 550_100] not in many  # the widest gap is kept open
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(many))


def test_worst_moments_are_the_lowest_apart_from_each_other_and_within_their_room() -> None:
    pictures = [Thumbnail(i, i * 0.4, score, bytes(100)) for i, score in enumerate([9, 8, 7, 50, 60, 5, 70])]
    chosen = worst_moments(pictures, 3, 60.0, 10_000)
    assert [picture.score for picture in chosen] == [5, 7]  # all others lie within a second of these
    assert all(abs(a.at_s - b.at_s) >= 1 for a in chosen for b in chosen if a is not b)
    assert len(worst_moments(pictures, 3, 60.0, 250)) == 2
    assert worst_moments([], 3, 60.0, 250) == []


def test_limits_shrink_with_the_number_of_videos_but_never_to_nothing() -> None:
    few, hundreds, many = (Limits.of_page(count) for count in (0, 300, 100_000))
    assert (few.points, few.thumbnails) == (600, 6)
    assert hundreds.points == 600
    assert many.points == 60
    assert many.thumbnails == 2


def test_thumbnails_are_kept_for_the_worst_videos_when_room_ends() -> None:
    columns = columns_of([30.0] * 12)
    video = video_of("in/a.mp4", columns)
    full, taken = detail(video, columns, Limits.of_page(1), THUMBNAIL_BYTES)
    assert len(full["moments"]) == 4
    assert taken == int(columns["thumb_bytes"].sum())
    none, taken = detail(video, columns, Limits.of_page(1), 0)
    assert none["moments"] == []
    assert taken == 0


def test_letterbox_is_carried_over_frames_of_which_no_picture_told() -> None:
    nan = np.nan
    columns = columns_of([50.0] * 6, letterbox=np.array([nan, nan, 0.2, nan, 0.0, nan], np.float32))
    values, _ = detail(video_of("in/a.mp4", columns), columns, Limits.of_page(1), 0)
    assert values["spans"]["letterbox"] == [[1000, 2000]]


def numbers(packed: Any, kind: str) -> list[int]:
    return [int(number) for number in np.frombuffer(base64.b64decode(packed), kind)]
