"""Whatever a net draws on whatever picture, the filter's masks keep their promises."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from vpipe_mask.filter import FilterOptions, MaskFilter

ROWS, COLUMNS = 72, 128

coarse_masks = arrays(np.float32, (9, 16), elements=st.floats(-0.5, 1.5, width=32) | st.just(np.float32(np.nan)))
coarse_views = arrays(np.uint8, (9, 16, 3))
steps = st.lists(st.tuples(st.none() | coarse_masks, coarse_views), min_size=1, max_size=6)
options = st.builds(
    FilterOptions,
    people=st.sampled_from(["all", "main"]),
    level=st.floats(0, 1),
    edge_reach=st.integers(0, 12),
    edge_detail=st.floats(0, 1),
    edge_soft=st.floats(0, 1),
    steady=st.floats(0, 1),
    hysteresis=st.floats(0, 1),
    cut=st.floats(0, 2),
    small=st.floats(0, 0.2),
    least_person=st.floats(0, 0.5),
    most_cover=st.floats(0, 1),
    patience=st.integers(0, 4),
)


def enlarged(coarse: np.ndarray) -> np.ndarray:
    return np.repeat(np.repeat(coarse, ROWS // 9, axis=0), COLUMNS // 16, axis=1)


@settings(max_examples=60)
@given(options, steps)
def test_any_sequence_gives_masks_that_repeat_exactly_and_are_empty_where_not_applied(
    chosen: FilterOptions, sequence: list[tuple[np.ndarray | None, np.ndarray]]
) -> None:
    frames = [(None if raw is None else enlarged(raw), enlarged(view)) for raw, view in sequence]
    one, other = (MaskFilter(chosen, COLUMNS, ROWS) for _ in range(2))
    known = False
    for raw, view in frames:
        done, again = one.step(raw, view), other.step(raw, view)
        assert done.alpha.shape == (ROWS, COLUMNS)
        assert done.alpha.dtype == np.uint8
        assert done.alpha.tobytes() == again.alpha.tobytes()
        assert (done.applied, done.cut) == (again.applied, again.cut)
        known = raw is not None or (known and not done.cut)
        if not (done.applied and known):
            assert not done.applied
            assert not done.alpha.any()


@settings(max_examples=30)
@given(arrays(np.bool_, (9, 16)), coarse_views)
def test_steady_picture_and_net_settle_on_the_net_s_own_regions(solid: np.ndarray, view: np.ndarray) -> None:
    raw = enlarged(solid).astype(np.float32)
    keeper = MaskFilter(FilterOptions(least_person=0, most_cover=1, edge_reach=0, small=0), COLUMNS, ROWS)
    for _ in range(4):
        done = keeper.step(raw, enlarged(view))
    assert np.array_equal(done.alpha >= 128, raw >= 0.5)
