"""Cutting and feeding, against brute force over made-up streams."""

from __future__ import annotations

import json
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vpipe.media import Sample, Segment
from vpipe.media import segments as cutting
from vpipe.media.segments import feed_script, needed, plan_segments, run_starts
from vpipe.media.table import (
    CLEAN,
    HIDDEN,
    KEY,
    NO_DTS,
    WANTED,
    Table,
    mark_clean,
    mark_neighbours,
    neighbours,
    pack,
    unpack,
)

BASE = Fraction(1, 1000)
SAMPLES = st.sampled_from(["every", "keyframes", "2/s", "7/s", "n=1", "n=4", "n=40"]).map(Sample.parse)


@st.composite
def streams(draw: st.DrawFn) -> Table:
    """A stream of groups: a keyframe, leading pictures, then anchors each followed by pictures shown before it."""
    pts: list[int] = []
    keys: list[bool] = []
    clock = draw(st.integers(-5000, 5000))
    for group in range(draw(st.integers(1, 6))):
        leading = draw(st.integers(0, 3)) if group else 0
        steps = draw(st.lists(st.integers(1, 90), min_size=leading + 1, max_size=leading + 1))
        times = (clock + np.cumsum(steps)).tolist()
        pts += [times[-1], *draw(st.permutations(times[:-1]))]
        keys += [True] + [False] * leading
        clock = times[-1]
        for _ in range(draw(st.integers(0, 4))):
            steps = draw(st.lists(st.integers(1, 90), min_size=1, max_size=4))
            times = (clock + np.cumsum(steps)).tolist()
            pts += [times[-1], *draw(st.permutations(times[:-1]))]
            keys += [False] * len(times)
            clock = times[-1]
    hidden = draw(st.integers(0, 2))
    marks = np.where(keys, KEY, 0).astype(np.uint8)
    table = Table(np.array(pts, np.int64), np.full(len(pts), NO_DTS, np.int64), marks)
    table.marks[table.order()[: min(hidden, len(pts) - 1)]] |= HIDDEN
    mark_clean(table)
    return table


def brute_neighbour(keys: list[bool], rank: int) -> int:
    if keys[rank] or rank == 0:
        if rank + 1 < len(keys) and not keys[rank + 1]:
            return rank + 1
        return max(rank - 1, 0)
    return rank - 1


def brute_chosen(table: Table, sample: Sample) -> tuple[list[int], list[bool], list[int]]:
    order = table.order()
    pts = table.pts[order].tolist()
    keys = ((table.marks[order] & KEY) != 0).tolist()
    return pts, keys, sample.choose(pts, keys, BASE)


@given(streams(), SAMPLES, st.booleans(), st.integers(1, 12))
@settings(max_examples=120, deadline=None)
def test_segments_hold_each_chosen_frame_once_with_its_rank_and_neighbour(
    table: Table, sample: Sample, pair: bool, shortest: int
) -> None:
    pts, keys, chosen = brute_chosen(table, sample)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cutting, "SHORTEST", shortest)
        segments = plan_segments(table, sample, BASE, pair)
    assert [segment.number for segment in segments] == list(range(len(segments)))
    found = []
    before = None
    for segment in segments:
        assert Segment.from_dict(json.loads(json.dumps(segment.to_dict()))) == segment
        assert segment.origin_pts == pts[0]
        assert segment.chosen_before == before
        part, ranks = unpack(segment.packed)
        assert np.array_equal(part.pts, table.pts[segment.first_packet : segment.first_packet + len(part)])
        mine = [p for p in part.order().tolist() if part.marks[p] & WANTED]
        other = neighbours(part)
        for position, rank in zip(mine, ranks.tolist(), strict=True):
            assert segment.start_pts <= part.pts[position]
            assert segment.end_pts is None or part.pts[position] < segment.end_pts
            near = int(part.pts[other[position]]) if pair else None
            found.append((int(part.pts[position]), rank, near))
            before = int(part.pts[position])
    want = [(pts[rank], rank, pts[brute_neighbour(keys, rank)] if pair else None) for rank in chosen]
    assert found == want


@given(streams(), SAMPLES, st.booleans())
@settings(max_examples=120, deadline=None)
def test_script_feeds_all_that_a_needed_frame_may_refer_to(table: Table, sample: Sample, pair: bool) -> None:
    mark_neighbours(table)
    order = table.order()
    _, _, chosen = brute_chosen(table, sample)
    table.marks[order[chosen]] |= WANTED
    mask = needed(table, pair)
    runs = feed_script(table, mask)
    clean = [p for p in range(len(table)) if table.marks[p] & CLEAN]
    fed = [(run, position) for run in runs for position in range(run.first, run.last + 1)]
    assert len({position for _, position in fed}) == len(fed), "a packet is fed once"
    assert [position for _, position in fed] == sorted(position for _, position in fed)
    by_packet = {position: run for run, position in fed}
    for position in np.flatnonzero(mask).tolist():
        run = by_packet[position]
        group = max((c for c in clean if c <= position), default=0)
        if table.pts[position] < table.pts[group]:  # a leading picture: refers to the group before as well
            group = max((c for c in clean if c < group), default=0)
        assert run.first <= group
        assert run.first == 0 or run.first in clean
    for run in runs:
        assert mask[run.last], "nothing is fed after the last needed packet"
        group = max((c for c in clean if c <= run.last), default=0)
        assert mask[max(group, run.first) : run.last + 1].any(), "no group is fed for nothing"


@given(streams(), SAMPLES)
@settings(max_examples=120, deadline=None)
def test_script_is_that_of_one_packet_after_the_other(table: Table, sample: Sample) -> None:
    mark_neighbours(table)
    order = table.order()
    _, _, chosen = brute_chosen(table, sample)
    table.marks[order[chosen]] |= WANTED
    mask = needed(table, pair=True)
    keys = ((table.marks[order] & KEY) != 0).tolist()
    assert set(np.flatnonzero(mask).tolist()) == {
        int(order[rank]) for each in chosen for rank in (each, brute_neighbour(keys, each))
    }
    starts = run_starts(table)
    runs: list[tuple[int, int]] = []
    for position in np.flatnonzero(mask).tolist():
        start = int(starts[position])
        while runs and start <= runs[-1][1] + 1:
            start = min(start, runs.pop()[0])
        runs.append((start, position))
    assert [(run.first, run.last) for run in feed_script(table, mask)] == runs


@given(streams())
@settings(max_examples=60, deadline=None)
def test_decoding_may_start_at_a_clean_keyframe(table: Table) -> None:
    for position in np.flatnonzero(table.marks & CLEAN).tolist():
        assert table.marks[position] & KEY
        key = table.pts[position]
        assert (table.pts[:position] < key).all(), "nothing before it in the file is shown after it"
        following = [p for p in range(position + 1, len(table)) if table.marks[p] & KEY]
        if following:
            assert (table.pts[following[0] :] > key).all(), "its leading pictures come before the next keyframe"


@given(
    st.lists(
        st.tuples(st.integers(-(2**62), 2**62), st.integers(-(2**62), 2**62) | st.just(NO_DTS), st.integers(0, 63)),
        min_size=1,
        max_size=40,
    )
)
def test_packed_tables_come_back_the_same(rows: list[tuple[int, int, int]]) -> None:
    pts, dts, marks = (list(column) for column in zip(*rows, strict=True))
    table = Table(np.array(pts), np.array(dts), np.array(marks, np.uint8))
    ranks = np.cumsum(np.arange(1, 4))
    again, same = unpack(pack(table, ranks))
    for ours, theirs in ((table.pts, again.pts), (table.dts, again.dts), (table.marks, again.marks), (ranks, same)):
        assert np.array_equal(ours, theirs)


def test_keyframe_whose_group_reaches_back_past_the_next_is_not_clean() -> None:
    marks = np.array([KEY, 0, KEY, 0, KEY, 0], np.uint8)
    table = Table(np.array([0, 10, 40, 50, 60, 30]), np.full(6, NO_DTS), marks)  # 30 comes after the keyframe at 60
    mark_clean(table)
    assert np.flatnonzero(table.marks & CLEAN).tolist() == [0, 4]


def test_stream_without_keyframes_is_one_run_from_its_start() -> None:
    table = Table(np.arange(5), np.full(5, NO_DTS), np.zeros(5, np.uint8))
    mark_clean(table)
    mask = np.array([0, 0, 1, 0, 0], bool)
    assert [(run.first, run.last) for run in feed_script(table, mask)] == [(0, 2)]


@pytest.mark.parametrize(
    ("frames", "group", "least", "most"),
    [(100, 10, 1, 1), (1000, 10, 7, 9), (20_000, 250, 25, 33), (100_000, 250, 50, 60)],
)
def test_segments_are_many_enough_to_share_and_large_enough_to_matter(
    frames: int, group: int, least: int, most: int
) -> None:
    marks = np.where(np.arange(frames) % group == 0, KEY, 0).astype(np.uint8)
    table = Table(np.arange(frames) * 40, np.full(frames, NO_DTS), marks)
    mark_clean(table)
    segments = plan_segments(table, Sample.parse("every"), BASE, pair=True)
    assert least <= len(segments) <= most
    assert sum(segment.frames for segment in segments) >= frames
    assert max(len(json.dumps(segment.to_dict())) for segment in segments) < 100_000


def test_hopelessly_irregular_stream_is_left_in_one_piece() -> None:
    pts = np.cumsum(np.random.default_rng(1).integers(1, 2**40, 60_000))
    table = Table(pts, np.full(len(pts), NO_DTS), np.zeros(len(pts), np.uint8))
    table.marks[0] = KEY
    mark_clean(table)
    assert plan_segments(table, Sample.parse("every"), BASE, pair=False) == []
