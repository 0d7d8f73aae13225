from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from vpipe_mask.formats import FORMATS
from vpipe_mask.task import MaskTask, data_column, size_column


def alpha(columns: int) -> NDArray[np.uint8]:
    """A mask whose first columns are a person."""
    mask = np.zeros((180, 320), np.uint8)
    mask[:, :columns] = 255
    return mask


def kept(masks: list[NDArray[np.uint8]], name: str = "mobmask", applied: list[bool] | None = None) -> dict[str, Any]:
    """The columns that a run keeps of some masks."""
    data = [FORMATS[name].encode(mask, None) for mask in masks]
    return {
        "pts": np.arange(len(masks)),
        "applied": np.array(applied or [True] * len(masks)),
        size_column(name): np.array([len(each) for each in data], np.int32),
        data_column(name): np.frombuffer(b"".join(data), np.uint8).reshape(-1, 1),
    }


def test_runs_differ_by_what_their_masks_do_not_share() -> None:
    first = kept([alpha(100), alpha(100), alpha(0), alpha(0)])
    second = kept([alpha(100), alpha(50), alpha(0), alpha(1)])
    np.testing.assert_allclose(MaskTask.differences(first, second), [0.0, 0.5, 0.0, 1.0])


def test_mask_that_is_applied_in_one_run_only_differs_in_full() -> None:
    same = [alpha(100), alpha(100)]
    found = MaskTask.differences(kept(same), kept(same, applied=[True, False]))
    np.testing.assert_allclose(found, [0.0, 1.0])


def test_other_formats_are_compared_by_their_bytes() -> None:
    found = MaskTask.differences(kept([alpha(10), alpha(20)], "rle"), kept([alpha(10), alpha(21)], "rle"))
    np.testing.assert_allclose(found, [0.0, 1.0])


def test_run_that_keeps_no_masks_has_nothing_to_differ_in() -> None:
    columns = {"pts": np.arange(3), "cover": np.zeros(3)}
    np.testing.assert_allclose(MaskTask.differences(columns, columns), [0.0, 0.0, 0.0])


@pytest.mark.parametrize(("dtype", "full"), [(np.uint8, 255), (np.float32, 1.0)])
def test_nets_are_compared_by_their_own_masks(dtype: Any, full: float) -> None:
    first, second = np.zeros((2, 2, 4), dtype), np.zeros((2, 2, 4), dtype)
    first[0, :, :2], second[0, :, :3] = full, full
    first[1], second[1] = full * 0.51, full * 0.52
    found = MaskTask.differences({"mask": first}, {"mask": second})
    np.testing.assert_allclose(found, [1 / 3, 0.0])


def test_masks_count_as_equal_from_an_iou_of_0_995_on() -> None:
    assert MaskTask.same == 0.005
    assert MaskTask.unit == "of 1 - IoU"
