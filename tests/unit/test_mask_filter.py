import dataclasses
import math
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.people import HEIGHT, WIDTH, Mask, Scene, View
from vpipe_mask.filter import Filtered, FilterOptions, MaskFilter
from vpipe_mask.outline import trace
from vpipe_mask.quality import iou, measure

ROOT = Path(__file__).resolve().parents[2]

BARE = FilterOptions(edge_reach=0, steady=0, shrink=1, small=0, least_person=0, most_cover=1)
"""Nothing but the soft edge."""


def run(frames: list[tuple[Mask, View, Mask]], options: FilterOptions | None = None) -> list[Filtered]:
    keeper = MaskFilter(options or FilterOptions(), frames[0][1].shape[1], frames[0][1].shape[0])
    return [keeper.step(raw, view) for raw, view, _ in frames]


def likeness(done: Filtered, truth: Mask) -> float:
    return iou(done.alpha.astype(np.float32) / 255, truth)


def wall(value: int = 120) -> View:
    return np.full((HEIGHT, WIDTH, 3), value, np.uint8)


def disc(*circles: tuple[int, int, int], hole: tuple[int, int, int] | None = None) -> Mask:
    mask = np.zeros((HEIGHT, WIDTH), np.float32)
    for x, y, radius in circles:
        cv2.circle(mask, (x, y), radius, 1.0, cv2.FILLED)
    if hole:
        cv2.circle(mask, hole[:2], hole[2], 0.0, cv2.FILLED)
    return mask


def shown_at(done: Filtered, x: int, y: int) -> bool:
    return bool(done.alpha[y, x] >= 128)


# Steady, and in time


@pytest.mark.parametrize("speed", [0, 1, 3, 6, 10])
def test_filtered_mask_is_nearer_to_the_truth_than_the_net_s_at_any_speed(speed: float) -> None:
    frames = Scene(1).walk(24, 60, speed)
    done = run(frames)
    raw = [iou(raw, truth) for raw, _, truth in frames]
    assert np.mean([likeness(d, truth) for d, (_, _, truth) in zip(done, frames, strict=True)]) > np.mean(raw) + 0.05


@pytest.mark.parametrize("noise", [0, 2, 6])
def test_flicker_is_at_least_forty_percent_lower_even_in_a_noisy_picture(noise: float) -> None:
    frames = Scene(2, noise=noise).walk(24, 128, 0.5)
    figures = measure((raw, view) for raw, view, _ in frames)
    assert figures["flicker_lower"] >= 0.4


@pytest.mark.parametrize("speed", [2, 5, 9])
def test_mask_follows_a_moving_person_within_a_frame(speed: float) -> None:
    frames = Scene(3).walk(24, 50, speed)
    done = run(frames)
    for number in range(2, 24):
        now, before = frames[number][2], frames[number - 1][2]
        assert likeness(done[number], now) > likeness(done[number], before)


def test_someone_who_leaves_before_an_even_wall_leaves_no_trail() -> None:
    truth = Scene(1).at(128)[1]
    keeper = MaskFilter(FilterOptions(), WIDTH, HEIGHT)
    for _ in range(10):
        keeper.step(truth, wall())
    after = [keeper.step(np.zeros_like(truth), wall()) for _ in range(2)]
    assert after[-1].alpha.max() == 0


def test_hesitation_of_the_net_does_not_reach_the_mask() -> None:
    scene = Scene(4)
    keeper = MaskFilter(FilterOptions(), WIDTH, HEIGHT)
    drawn, seen = [], []
    for number in range(20):
        view, truth = scene.at(128, number=number)
        doubtful = truth.copy()
        doubtful[90:110] *= 0.4 if number % 2 else 0.65
        drawn.append(np.count_nonzero(doubtful[90:110] >= 0.5))
        seen.append(np.count_nonzero(keeper.step(doubtful, view).alpha[90:110] >= 128))
    assert np.ptp(seen[10:]) < 0.1 * np.ptp(drawn[10:])


def test_crumbs_around_a_person_are_hardly_ever_seen() -> None:
    frames = Scene(5).walk(12, 100, 2)
    drawn = seen = 0
    for done, (raw, _, truth) in zip(run(frames), frames, strict=True):
        beside = cv2.dilate(truth, np.ones((13, 13))) == 0
        drawn += np.count_nonzero(raw[beside] >= 0.5)
        seen += np.count_nonzero(done.alpha[beside] >= 128)
    assert drawn > 500
    assert seen < 0.05 * drawn


def test_hole_that_comes_and_goes_in_a_person_is_never_seen() -> None:
    for done in run(Scene(5).walk(12, 100, 2)):
        assert (
            cv2.connectedComponents((done.alpha < 128).astype(np.uint8))[0] <= 3
        )  # the wall on either side of the head


# Edges


def test_edge_moves_to_the_edge_of_the_picture() -> None:
    view = wall(150)
    truth = disc((128, 72, 40))
    view[truth > 0] = 40
    raw = cv2.GaussianBlur(disc((128, 72, 37)), (0, 0), 2)
    with_guide, without = (run([(raw, view, truth)], o)[0] for o in (FilterOptions(), FilterOptions(edge_reach=0)))
    assert likeness(with_guide, truth) > likeness(without, truth) + 0.03


def test_edge_that_the_picture_does_not_show_stays_where_the_net_drew_it() -> None:
    raw = disc((128, 72, 40))
    alpha = run([(raw, wall(), raw)], FilterOptions(shrink=1))[0].alpha
    assert np.array_equal(alpha >= 128, raw >= 0.5)


def test_hard_edge_has_no_half_tones() -> None:
    raw, view, truth = Scene(1).walk(1, 128, 0)[0]
    alpha = run([(raw, view, truth)], FilterOptions(edge_soft=0))[0].alpha
    assert np.count_nonzero((alpha > 0) & (alpha < 255)) < 0.001 * alpha.size
    soft = run([(raw, view, truth)], FilterOptions(edge_soft=1))[0].alpha
    assert np.count_nonzero((soft > 0) & (soft < 255)) > 0.02 * soft.size


def test_level_decides_what_is_person() -> None:
    raw = np.where(disc((128, 72, 40)) > 0, np.float32(0.4), np.float32(0))
    assert run([(raw, wall(), raw)])[0].alpha.max() < 128
    assert run([(raw, wall(), raw)], FilterOptions(level=0.3))[0].alpha.max() >= 128


def test_with_everything_off_the_mask_is_the_net_s() -> None:
    frames = Scene(6).walk(5, 100, 4)
    options = dataclasses.replace(BARE, edge_soft=1)
    for done, (raw, _, _) in zip(run(frames, options), frames, strict=True):
        assert np.abs(done.alpha - 255 * raw).max() <= 0.51


# At half the size


@pytest.mark.parametrize("speed", [0, 4])
def test_masks_filtered_at_half_the_size_are_those_filtered_at_the_net_s(speed: float) -> None:
    frames = Scene(1).walk(12, 80, speed)
    plain = run(frames, FilterOptions(shrink=1))
    for small, large in zip(run(frames), plain, strict=True):
        assert small.alpha.shape == large.alpha.shape
        assert likeness(small, large.alpha.astype(np.float32) / 255) > 0.98
        assert np.abs(small.alpha.astype(float) - large.alpha).mean() < 2.0


@pytest.mark.parametrize("shrink", [1, 2])
def test_outline_along_the_borders_of_the_regions_is_the_one_that_is_traced(shrink: int) -> None:
    raw = disc((100, 72, 40), (200, 40, 20), hole=(100, 72, 14))
    done = run([(raw, wall(), raw)], FilterOptions(shrink=shrink))[0]
    assert len(done.outline.polygons) == 3
    assert {polygon.tobytes() for polygon in done.outline.polygons} == {
        polygon.tobytes() for polygon in trace(done.soft).polygons
    }


# Scene cuts


def two_scenes() -> list[tuple[Mask, View, Mask]]:
    return [*Scene(1).walk(8, 70, 1), *Scene(9).walk(8, 190, -1)]


def test_first_frame_of_a_scene_has_nothing_of_the_one_before() -> None:
    frames = two_scenes()
    done = run(frames)
    assert [d.cut for d in done] == [number == 8 for number in range(16)]
    alone = run(frames[8:])
    assert np.array_equal(done[8].alpha, alone[0].alpha)
    assert likeness(done[8], frames[8][2]) > 0.9


@pytest.mark.parametrize("speed", [4, 12, 20])
def test_fast_motion_is_no_cut(speed: float) -> None:
    assert not any(done.cut for done in run(Scene(2).walk(10, 30, speed)))


def test_noise_in_the_dark_is_no_cut() -> None:
    rng = np.random.default_rng(1)
    keeper = MaskFilter(FilterOptions(), WIDTH, HEIGHT)
    for _ in range(6):
        view = rng.integers(0, 12, (HEIGHT, WIDTH, 3)).astype(np.uint8)
        assert not keeper.step(disc((128, 72, 40)), view).cut


# Frames that the net did not see


def test_mask_is_moved_along_where_the_net_was_not_run() -> None:
    frames = Scene(7).walk(25, 60, 4)
    keeper = MaskFilter(FilterOptions(), WIDTH, HEIGHT)
    held: Filtered | None = None
    moved, repeated = [], []
    for number, (raw, view, truth) in enumerate(frames):
        done = keeper.step(raw if number % 4 == 0 else None, view)
        if number % 4 == 0:
            held = done
        assert held is not None
        moved.append(likeness(done, truth))
        repeated.append(likeness(held, truth))
    assert min(moved[1:]) > 0.85
    assert np.mean(moved) > np.mean(repeated) + 0.05


def test_nothing_is_masked_before_the_net_has_seen_the_scene() -> None:
    frames = two_scenes()
    keeper = MaskFilter(FilterOptions(), WIDTH, HEIGHT)
    seen = [keeper.step(raw if number in (2, 10) else None, view) for number, (raw, view, _) in enumerate(frames)]
    assert [done.applied for done in seen] == [2 <= number < 8 or number >= 10 for number in range(16)]
    assert all(done.applied == bool(done.alpha.any()) for done in seen)


def test_empty_mask_carried_along_stays_empty() -> None:
    keeper = MaskFilter(FilterOptions(least_person=0), WIDTH, HEIGHT)
    view = Scene(1).at(100)[0]
    for raw in (np.zeros((HEIGHT, WIDTH), np.float32), None, None):
        assert keeper.step(raw, view).alpha.max() == 0


# Regions


def test_small_region_is_dropped_and_small_hole_filled() -> None:
    raw = disc((100, 72, 40), (200, 40, 4), hole=(100, 72, 4))
    done = run([(raw, wall(), raw)])[0]
    assert shown_at(done, 100, 72)
    assert not done.alpha[30:50, 190:210].any()
    kept = run([(raw, wall(), raw)], FilterOptions(small=0))[0]
    assert not shown_at(kept, 100, 72)
    assert shown_at(kept, 200, 40)


def test_faint_region_leaves_no_ghost() -> None:
    raw = disc((100, 72, 40))
    raw[20:60, 180:230] = 0.4
    assert not run([(raw, wall(), raw)])[0].alpha[:, 170:].any()


def test_region_that_was_shown_stays_until_it_is_half_the_size() -> None:
    least = 0.01
    options = FilterOptions(small=least, steady=0, edge_reach=0)

    def at(share: float) -> Mask:
        return disc((80, 72, 40), (200, 72, round(math.sqrt(share * WIDTH * HEIGHT / math.pi))))

    assert not shown_at(run([(at(0.8 * least), wall(), at(0))], options)[0], 200, 72)
    seen = run([(at(share * least), wall(), at(0)) for share in (1.3, 0.8, 0.6, 0.3, 0.8)], options)
    assert [shown_at(done, 200, 72) for done in seen] == [True, True, True, False, False]


def test_main_person_is_the_largest_and_is_kept_until_someone_is_clearly_larger() -> None:
    options = FilterOptions(people="main", steady=0, edge_reach=0)
    sizes = [(30, 24), (27, 30), (24, 33), (33, 24)]
    frames = [disc((70, 72, left), (190, 72, right)) for left, right in sizes]
    seen = run([(raw, wall(), raw) for raw in frames], options)
    assert [(shown_at(d, 70, 72), shown_at(d, 190, 72)) for d in seen] == [
        (True, False),
        (True, False),
        (False, True),
        (True, False),
    ]
    everyone = run([(frames[0], wall(), frames[0])])[0]
    assert shown_at(everyone, 70, 72)
    assert shown_at(everyone, 190, 72)


def test_after_a_cut_the_main_person_is_chosen_anew() -> None:
    options = FilterOptions(people="main", steady=0, edge_reach=0)
    keeper = MaskFilter(options, WIDTH, HEIGHT)
    views = [Scene(seed).at(128)[0] for seed in (1, 9)]
    first = keeper.step(disc((70, 72, 30), (190, 72, 24)), views[0])
    second = keeper.step(disc((70, 72, 27), (190, 72, 30)), views[1])
    assert shown_at(first, 70, 72)
    assert second.cut
    assert shown_at(second, 190, 72)


# Gates


def gate_frames(sizes: list[int], options: FilterOptions) -> list[bool]:
    masks = [disc((128, 72, radius)) for radius in sizes]
    return [done.applied for done in run([(mask, wall(), mask) for mask in masks], options)]


def test_long_shot_with_tiny_people_gets_no_mask() -> None:
    frames = [Scene(1).at(40 + number, scale=0.15, number=number) for number in range(4)]
    done = run([(truth, view, truth) for view, truth in frames])
    assert not any(d.applied or d.alpha.any() for d in done)


def test_gate_opens_when_someone_has_come_near_for_a_while() -> None:
    options = FilterOptions(patience=3, steady=0)
    assert gate_frames([8] * 3 + [30] * 5, options) == [False] * 5 + [True] * 3


def test_gate_does_not_blink_with_someone_at_its_bound() -> None:
    near = math.sqrt(FilterOptions().least_person * WIDTH * HEIGHT / math.pi)
    about = [round(near) + 2, round(near) - 1] * 20
    assert len(set(gate_frames(about, FilterOptions(steady=0)))) == 1


def test_mask_over_nearly_everything_is_not_applied() -> None:
    options = FilterOptions(patience=2, steady=0)
    full = np.ones((HEIGHT, WIDTH), np.float32)
    some = disc((128, 72, 40))
    done = run([(raw, wall(), raw) for raw in (some, full, full, full, some, some, some)], options)
    assert [d.applied for d in done] == [True, True, False, False, False, True, True]


def test_gates_decide_at_once_at_a_cut() -> None:
    near, far = Scene(1).at(128), Scene(9).at(128, scale=0.15)
    done = run([(truth, view, truth) for view, truth in (near, near, far, far, near)])
    assert [d.applied for d in done] == [True, True, False, False, True]


# The filter as a part


def test_same_input_gives_the_same_bytes() -> None:
    frames = [*Scene(1).walk(6, 60, 5), *Scene(9).walk(6, 100, 1)]
    for one, other in zip(run(frames), run(frames), strict=True):
        assert one.alpha.tobytes() == other.alpha.tobytes()
        assert (one.applied, one.cut) == (other.applied, other.cut)


def test_mask_in_bytes_is_as_good_as_in_floats() -> None:
    frames = Scene(1).walk(6, 60, 5)
    as_bytes = [((raw * 255).round().astype(np.uint8), view, truth) for raw, view, truth in frames]
    for one, other in zip(run(frames), run(as_bytes), strict=True):
        assert np.abs(one.alpha.astype(int) - other.alpha).max() <= 4


def test_input_is_left_as_it_was() -> None:
    frames = Scene(1).walk(3, 60, 5)
    before = [(raw.copy(), view.copy()) for raw, view, _ in frames]
    for raw, view, _ in frames:
        raw.setflags(write=False)
        view.setflags(write=False)
    run(frames)
    run(frames, BARE)
    for (raw, view, _), (raw_before, view_before) in zip(frames, before, strict=True):
        assert np.array_equal(raw, raw_before)
        assert np.array_equal(view, view_before)


def test_filtered_masks_are_not_changed_by_later_frames() -> None:
    frames = Scene(1).walk(4, 60, 5)
    keeper = MaskFilter(BARE, WIDTH, HEIGHT)
    done = [keeper.step(raw, view) for raw, view, _ in frames]
    copies = [MaskFilter(BARE, WIDTH, HEIGHT).step(raw, view).alpha for raw, view, _ in frames]
    assert all(np.array_equal(d.alpha, copy) for d, copy in zip(done, copies, strict=True))


def test_frame_of_nonsense_from_the_net_is_forgotten() -> None:
    scene = Scene(1)
    view, truth = scene.at(128)
    keeper = MaskFilter(FilterOptions(), WIDTH, HEIGHT)
    keeper.step(np.full_like(truth, np.nan), view)
    keeper.step(truth, view)
    broken = truth.copy()
    broken[40:100] = np.nan
    keeper.step(broken, view)
    for _ in range(3):
        done = keeper.step(truth, view)
    assert likeness(done, truth) > 0.96


@pytest.mark.parametrize("size", [(256, 256), (250, 141), (512, 288), (64, 36), (9, 7)])
def test_views_of_other_sizes_do_as_well(size: tuple[int, int]) -> None:
    frames = Scene(1, size=size).walk(8, size[0] / 2, size[0] / 128)
    done = run(frames)
    assert all(d.alpha.shape == size[::-1] for d in done)
    assert size[0] < 32 or likeness(done[-1], frames[-1][2]) > 0.84


@pytest.mark.parametrize(
    ("knob", "value"),
    [
        ("level", 1.5),
        ("steady", -0.1),
        ("small", 2.0),
        ("people", "nobody"),
        ("patience", -1),
        ("edge_reach", -3),
        ("shrink", 3),
    ],
)
def test_knob_out_of_range_is_refused_by_name(knob: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"{knob} is .*{re.escape(str(value))}.*must"):
        FilterOptions(**{knob: value})


def test_every_knob_and_its_default_are_in_the_guide() -> None:
    guide = (ROOT / "docs/how-to/mask-tuning.md").read_text()
    told = dict(re.findall(r"^\| `(\w+)` \| `?([^`|]+?)`? \|", guide, re.MULTILINE))
    assert told == {field.name: str(field.default) for field in dataclasses.fields(FilterOptions)}
