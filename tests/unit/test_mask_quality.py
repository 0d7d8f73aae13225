import numpy as np
import pytest

from tests.people import HEIGHT, WIDTH, Mask, Scene, View
from vpipe_mask.filter import Filtered, FilterOptions
from vpipe_mask.quality import compare, iou, measure, spliced

OFF = FilterOptions(edge_reach=0, steady=0, shrink=1, small=0, edge_soft=1)
"""The net's own masks."""


def delayed(frames: list[tuple[Mask, View, Mask]], by: int) -> list[tuple[tuple[Mask, View], Filtered]]:
    """As a filter would leave them that shows each mask some frames late."""
    late = [(frames[max(number - by, 0)][0] * 255).astype(np.uint8) for number in range(len(frames))]
    return [
        ((raw, view), Filtered(np.pad(alpha, 1), True, False))
        for (raw, view, _), alpha in zip(frames, late, strict=True)
    ]


@pytest.mark.parametrize("by", [0, 1, 2, 3])
def test_lag_of_masks_that_come_late_is_told(by: int) -> None:
    frames = [(truth, view, truth) for _, view, truth in Scene(1).walk(24, 50, 6)]
    assert compare(delayed(frames, by))["lag_frames"] == pytest.approx(by, abs=0.15)


def test_lag_of_half_a_frame_is_told() -> None:
    frames = Scene(1).walk(24, 50, 4)
    between = [(Scene(1).at(50 + 4 * number - 2)[1] * 255).astype(np.uint8) for number in range(24)]
    pairs = [
        ((truth, view), Filtered(np.pad(a, 1), True, False))
        for (_, view, truth), a in zip(frames, between, strict=True)
    ]
    assert compare(pairs)["lag_frames"] == pytest.approx(0.5, abs=0.15)


def test_masks_left_as_they_are_flicker_as_before() -> None:
    frames = Scene(1).walk(12, 80, 1)
    figures = measure(((raw, view) for raw, view, _ in frames), OFF)
    assert figures["flicker_lower"] == pytest.approx(0, abs=0.1)
    assert figures["flicker_raw"] > 0.005
    assert figures["iou"] > 0.99


def test_motion_itself_is_no_flicker() -> None:
    still = Scene(1).walk(12, 80, 0)
    moving = [(truth, view) for _, view, truth in Scene(1).walk(12, 60, 5)]
    wobbling = measure(((raw, view) for raw, view, _ in still), OFF)
    assert measure(moving, OFF)["flicker_raw"] < 0.2 * wobbling["flicker_raw"]


def test_cuts_made_by_mirroring_are_counted_and_recovered_at_their_first_frame() -> None:
    frames = Scene(1).walk(20, 60, 1)
    figures = measure(spliced(((raw, view) for raw, view, _ in frames), every=6))
    assert figures["cuts"] == [6, 12, 18]
    assert figures["cuts_found"] == 3
    assert figures["cut_iou"] > 0.85


def test_mask_that_is_late_at_a_cut_is_found_out() -> None:
    frames = Scene(1).walk(6, 60, 0) + Scene(9).walk(6, 200, 0)
    assert compare(delayed(frames, 1))["cut_iou"] < 0.3
    assert compare(delayed(frames, 0))["cut_iou"] == pytest.approx(1, abs=0.01)


def test_nothing_to_measure_gives_no_figures() -> None:
    empty = np.zeros((HEIGHT, WIDTH), np.float32)
    view = Scene(1).at(100)[0]
    figures = measure([(empty, view)])
    assert figures["frames"] == 1
    assert [figures[name] for name in ("flicker_raw", "flicker_lower", "lag_frames", "iou", "cut_iou")] == [None] * 5
    still = measure([(empty, view)] * 3)
    assert still["flicker_raw"] == 0
    assert still["flicker_lower"] is None


def test_overlap_of_masks() -> None:
    one = np.zeros((4, 4), np.float32)
    other = one.copy()
    assert np.isnan(iou(one, other))
    one[:2], other[1:3] = 1, 1
    assert iou(one, other) == pytest.approx(1 / 3)
