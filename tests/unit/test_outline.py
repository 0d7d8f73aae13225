"""Outlines: traced from masks of real and drawn silhouettes, and filled again."""

import math

import cv2
import numpy as np
import pytest
import skimage
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.mask_vectors import polygons, speaker
from vpipe_mask.outline import (
    LEAST_AREA,
    MAX_POINTS,
    MAX_POLYGONS,
    TOLERANCE,
    UNITS,
    Outline,
    coarser,
    fill,
    trace,
)

Mask = NDArray[np.uint8]


def iou(a: Mask, b: Mask) -> float:
    return float(np.count_nonzero(a & b) / np.count_nonzero(a | b))


def on_grid(mask: Mask, width: int = 320, height: int = 180) -> Mask:
    """A soft mask, resized smoothly, then cut at 128: what an outline is measured against."""
    smooth = np.asarray(cv2.resize(mask, (width, height), interpolation=cv2.INTER_LINEAR))
    return np.where(smooth >= 128, np.uint8(255), np.uint8(0))


def area(polygon: NDArray[np.int16]) -> float:
    """Pixels of the grid; negative where the polygon runs counterclockwise on the screen."""
    x, y = polygon.astype(float).T / UNITS
    return float(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y) / 2)


def by_non_zero_rule(outline: Outline) -> Mask:
    """The mask of an outline by the other rule, a pixel centre at a time."""
    turns = np.zeros((outline.height, outline.width), int)
    cx, cy = np.meshgrid(np.arange(outline.width) + 0.5, np.arange(outline.height) + 0.5)
    for polygon in outline.polygons:
        points = polygon / UNITS
        for (x0, y0), (x1, y1) in zip(points, np.roll(points, -1, axis=0), strict=True):
            if y0 != y1:
                crosses = (cy >= min(y0, y1)) & (cy < max(y0, y1)) & (cx >= x0 + (cy - y0) * (x1 - x0) / (y1 - y0))
                turns += np.where(crosses, 1 if y1 > y0 else -1, 0)
    return np.where(turns != 0, np.uint8(255), np.uint8(0))


def test_nobody_is_no_polygon() -> None:
    assert trace(np.zeros((144, 256), np.uint8)).polygons == ()
    assert not fill(polygons()).any()


def test_a_full_mask_is_the_frame_from_corner_to_corner() -> None:
    (polygon,) = trace(np.full((144, 256), 255, np.uint8)).polygons
    assert sorted(map(tuple, polygon.tolist())) == [(0, 0), (0, 720), (1280, 0), (1280, 720)]
    assert fill(trace(np.full((144, 256), 200, np.uint8))).all()


def test_a_person_cut_off_by_the_frame_reaches_its_edge() -> None:
    mask = np.zeros((144, 256), np.uint8)
    mask[60:, :100] = 255
    (polygon,) = trace(mask).polygons
    assert {(0, 720), (500, 720)} <= set(map(tuple, polygon.tolist()))
    assert (fill(trace(mask, width=256, height=144)) == mask).all()


def test_points_lie_between_the_pixels_where_the_mask_passes_the_level() -> None:
    # An edge at x = 40.3: the pixel there is covered by a third.
    mask = np.zeros((144, 256), np.uint8)
    mask[20:100, 41:200] = 255
    mask[20:100, 40] = round(255 * 0.7)
    (polygon,) = trace(mask, width=256, height=144).polygons
    assert polygon[:, 0].min() / UNITS == pytest.approx(40.3, abs=0.5 / UNITS + 0.05)


@pytest.mark.parametrize("radius", [6.0, 20.5, 60.0])
def test_a_disc_stays_round_within_the_tolerance(radius: float) -> None:
    centre = (100.3, 70.6)
    x, y = np.meshgrid(np.arange(256) + 0.5, np.arange(144) + 0.5)
    soft = np.clip(radius - np.hypot(x - centre[0], y - centre[1]) + 0.5, 0, 1) * 255
    (polygon,) = trace(soft.astype(np.uint8), width=256, height=144).polygons
    distance = np.hypot(*(polygon / UNITS - centre).T)
    assert np.abs(distance - radius).max() < 0.3
    assert -area(polygon) == pytest.approx(math.pi * radius**2, rel=2 * TOLERANCE / radius)


def test_a_region_runs_one_way_and_its_hole_the_other() -> None:
    mask = np.zeros((144, 256), np.uint8)
    mask[20:120, 30:130] = 255
    mask[50:90, 60:100] = 0
    mask[60:80, 70:90] = 255
    outline = trace(mask, width=256, height=144)
    assert sorted(round(area(polygon), -2) for polygon in outline.polygons) == [-10000, -400, 1600]
    assert iou(fill(outline), mask) > 0.99
    assert (fill(outline) == by_non_zero_rule(outline)).all()


def test_crumbs_and_pinholes_are_left_out() -> None:
    mask = np.zeros((144, 256), np.uint8)
    mask[20:120, 30:130] = 255
    whole = trace(mask)
    mask[5, 5] = mask[7, 200:202] = 255
    mask[60, 60] = 0
    assert trace(mask) == whole


@pytest.mark.parametrize("shape", ["horse", "speaker", "astronaut"])
def test_silhouettes_keep_their_shape(shape: str) -> None:
    if shape == "horse":
        mask = np.where(skimage.data.horse(), np.uint8(0), np.uint8(255))
    elif shape == "speaker":
        mask = speaker()
    else:
        mask = cut_out_astronaut()
    outline = trace(mask)
    assert iou(fill(outline), on_grid(mask)) >= 0.98
    assert (fill(outline) == by_non_zero_rule(outline)).mean() > 0.999


def cut_out_astronaut() -> Mask:
    """A mask of a real photograph by a method that is not ours."""
    photo = cv2.resize(skimage.data.astronaut()[:288], (256, 144), interpolation=cv2.INTER_AREA)
    labels = np.zeros((144, 256), np.uint8)
    cv2.setRNGSeed(1)
    cv2.grabCut(photo, labels, (50, 4, 160, 139), np.zeros((1, 65)), np.zeros((1, 65)), 3, cv2.GC_INIT_WITH_RECT)
    return cv2.GaussianBlur(np.where(labels % 2 == 1, np.uint8(255), np.uint8(0)), (0, 0), 1.0)  # type: ignore[return-value]


@pytest.mark.parametrize("size", [(1920, 1080), (480, 270), (64, 36), (256, 256), (57, 33)])
def test_masks_of_any_size_are_stretched_over_the_grid(size: tuple[int, int]) -> None:
    mask = np.asarray(cv2.resize(speaker(), size, interpolation=cv2.INTER_LINEAR), np.uint8)
    outline = trace(mask)
    assert (outline.width, outline.height) == (320, 180)
    assert iou(fill(outline), on_grid(mask)) >= (0.98 if size[0] > 200 else 0.96)


@pytest.mark.parametrize("size", [(1280, 720), (320, 180), (160, 90), (180, 320)])
def test_an_outline_fills_masks_of_any_size(size: tuple[int, int]) -> None:
    mask = fill(trace(speaker()), *size)
    assert mask.shape == size[::-1]
    assert set(np.unique(mask)) == {0, 255}
    assert iou(mask, on_grid(speaker(), *size)) >= 0.98


def test_a_pixel_is_filled_where_its_centre_is_inside() -> None:
    outline = polygons([(2, 2), (2, 6), (9, 6), (9, 2)], width=4, height=3)  # 0.5..2.25 x 0.5..1.5 pixels
    assert fill(outline).tolist() == [[255, 255, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]


def test_the_level_moves_the_line() -> None:
    areas = [-area(trace(speaker(), level=level).polygons[0]) for level in (32, 128, 224)]
    assert areas == sorted(areas, reverse=True)
    assert areas[0] > areas[2] * 1.02


def test_the_same_mask_gives_the_same_outline() -> None:
    assert trace(speaker()) == trace(speaker().copy())
    assert trace(speaker()) != trace(speaker(2.0))
    assert trace(speaker()) != "an outline"


def test_noise_stays_within_the_limits() -> None:
    noise = np.random.default_rng(1).integers(0, 256, (144, 256), dtype=np.uint8)
    outline = trace(noise)
    assert 0 < len(outline.polygons) <= MAX_POLYGONS
    assert 0 < outline.points <= MAX_POINTS
    # Stripes: one polygon of very many points.
    comb = np.zeros((360, 640), np.uint8)
    comb[:-2, ::3] = comb[-3:] = 255
    assert trace(comb, width=640, height=360).points <= MAX_POINTS


def test_a_lone_hole_is_never_kept_without_its_region() -> None:
    mask = np.zeros((288, 512), np.uint8)
    mask[10:280, 10:500] = 255
    mask[15:275:6, 15:495:6] = 0  # pinholes, below what is kept
    mask[16:276:12, 16:496:12] = 0
    for y in range(20, 270, 10):
        for x in range(20, 490, 10):
            mask[y : y + 5, x : x + 5] = 0  # more than fit
    outline = trace(mask, width=512, height=288)
    assert min(area(polygon) for polygon in outline.polygons) < -100_000


def test_a_coarser_outline_has_fewer_points_and_no_small_regions() -> None:
    mask = speaker()
    mask[5:13, 5:13] = 255
    outline = trace(mask)
    rough = coarser(outline, 2.0, 200.0)
    assert len(outline.polygons) == 2
    assert len(rough.polygons) == 1
    assert rough.points < outline.points / 2
    assert iou(fill(rough), fill(outline)) > 0.97


def test_lines_one_pixel_wide_do_no_harm() -> None:
    mask = np.zeros((144, 256), np.uint8)
    mask[70, :] = mask[:, 30] = mask[:, 0] = mask[143, :] = 255
    outline = trace(mask, width=256, height=144)
    assert iou(fill(outline), mask) > 0.9


@st.composite
def shapes(draw: st.DrawFn) -> Mask:
    """Masks of several people and holes, some at the frame's edges, hard or soft."""
    mask = np.zeros((72, 128), np.uint8)
    for _ in range(draw(st.integers(0, 6))):
        at = draw(st.tuples(st.integers(-10, 138), st.integers(-10, 82)))
        axes = draw(st.tuples(st.integers(1, 60), st.integers(1, 40)))
        value = draw(st.sampled_from([255, 255, 255, 0]))
        if draw(st.booleans()):
            cv2.ellipse(mask, at, axes, draw(st.integers(0, 179)), 0, 360, value, cv2.FILLED)
        else:
            cv2.rectangle(mask, at, (at[0] + axes[0], at[1] + axes[1]), value, cv2.FILLED)
    softness = draw(st.sampled_from([0.0, 0.7, 1.5]))
    return np.asarray(cv2.GaussianBlur(mask, (0, 0), softness), np.uint8) if softness else mask


@settings(max_examples=300, deadline=None)
@given(shapes())
def test_any_shape_comes_back_but_for_pixels_at_its_edge(mask: Mask) -> None:
    outline = trace(mask, width=128, height=72)
    inside = np.where(mask >= 128, np.uint8(255), np.uint8(0))
    square = np.ones((3, 3), np.uint8)
    filled = fill(outline)
    _, labels, facts, _ = cv2.connectedComponentsWithStats(inside)
    large = np.where(facts[labels, cv2.CC_STAT_AREA] >= 9, inside, np.uint8(0))  # crumbs are left out
    assert not (np.asarray(cv2.erode(large, square, borderValue=255)) & ~filled).any()
    assert not (filled & ~np.asarray(cv2.dilate(inside, square))).any()
    for polygon in outline.polygons:
        assert polygon.dtype == np.int16
        assert abs(area(polygon)) >= LEAST_AREA - 1  # before rounding to units it was not less
        assert (np.any(polygon != np.roll(polygon, 1, axis=0), axis=1)).all()
        assert polygon.min() >= 0
        assert (polygon.max(axis=0) <= (128 * UNITS, 72 * UNITS)).all()


@pytest.mark.parametrize("seed", [68, 88])
def test_polygon_fills_the_same_backwards(seed: int) -> None:
    noise = np.random.default_rng(seed).integers(0, 256, (144, 256)).astype(np.uint8)
    outline = trace(noise)
    backwards = Outline(outline.width, outline.height, tuple(polygon[::-1] for polygon in outline.polygons))
    assert np.array_equal(fill(backwards), fill(outline))
