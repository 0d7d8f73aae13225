"""What the bitstream adds to the pixels: the score by bits and losses, and the score that stays without them."""

import math
from typing import Any

import numpy as np
import pytest

from tests.products.test_score_task import batch, segment, stream
from vpipe.frame import LOST_SHIFT, MADE_UP_SHIFT, MADE_UP_UNIT, MADE_UP_UNKNOWN, FrameFlag
from vpipe.task import Columns
from vpipe_score import bits
from vpipe_score.task import ScoreTask

FACTS = {"_packets": 10, "_packet_bytes": 28_000, "_keys": 1, "_key_bytes": 10_000}
"""A keyframe of 80,000 bits, and nine others of 16,000 each."""
NONE, KEY, CORRUPT = FrameFlag(0), FrameFlag.KEY, FrameFlag.CORRUPT
HIT = FrameFlag(1 << LOST_SHIFT)


def told(**more: float) -> Columns:
    return {name: np.array([value]) for name, value in {**FACTS, **more}.items()}


def by_bits(constant: float = 0.0, key: float = 0.0, loss: float = 0.0, coarse: float = 0.0) -> Any:
    """Return the model's output for two frames: alike for all codecs but HEVC, whose odds are higher by one."""
    weights = np.zeros((2, len(bits.CODECS), bits.TERMS), np.float32)
    weights[:, :, 0], weights[:, :, 1], weights[:, :, 6], weights[:, :, 10] = constant, key, loss, coarse
    weights[:, bits.CODECS.index("hevc"), 0] += 1
    return weights


def scored(
    codec: str = "h264", facts: Columns | None = None, flags: tuple[FrameFlag, ...] = (NONE, NONE), **weights: float
) -> Columns:
    outputs = {"by_bits": by_bits(**weights), "by_bits_reach": np.array([[10, 20]] * 2, np.float32)}
    outputs |= {"bounds": np.array([[20, 50]] * 2, np.float32), "faults": np.array([[0.1], [0.95]], np.float32)}
    given = batch([500, 540], [30, 40], flags=np.array(flags, np.uint32), **outputs)
    info = stream(codec=codec, width=100, height=80)
    return segment(ScoreTask({}, {"faults": ("damaged",)}), info, given, told() if facts is None else facts)


def packets(facts: Columns, codec: str = "h264") -> bits.Packets:
    found = bits.packets(stream(codec=codec, width=100, height=80), facts)
    assert found is not None
    return found


def test_bits_a_pixel_are_those_of_key_frames_and_of_others() -> None:
    found = packets(told())
    assert (found.key, found.other) == pytest.approx((math.log2(10), math.log2(2)))
    assert math.isnan(found.key_coarse)
    assert math.isnan(found.other_coarse)


def test_black_bars_take_no_bits() -> None:
    bare = bits.packets(stream(codec="h264", width=100, height=80), told())
    boxed = bits.packets(stream(codec="h264", width=100, height=100), told(), seen=0.8)
    assert bare == pytest.approx(boxed, nan_ok=True)


def test_other_frames_of_a_film_may_take_more_bits_than_those_of_a_clip() -> None:
    found = packets(told(_packets=201, _keys=2, _packet_bytes=20_000 + 199 * 2_000, _key_bytes=20_000))
    assert found.key == pytest.approx(math.log2(10))
    assert 0.3 < math.log2(2) - found.other < 0.9


@pytest.mark.parametrize(
    ("codec", "fine", "doubled"),
    [("h264", 30, 36), ("hevc", 30, 36), ("mpeg2video", 8, 16), ("mpeg4", 8, 16)],
)
def test_quantisers_of_all_codecs_are_on_one_scale(codec: str, fine: float, doubled: float) -> None:
    found = packets(told(_key_quantiser=fine, _other_quantiser=doubled), codec)
    assert found.key_coarse == pytest.approx(0)
    assert found.other_coarse == pytest.approx(0.8, abs=0.06)


def test_quantiser_beyond_any_learned_from_counts_as_the_end() -> None:
    assert bits.coarseness("av1", 1e9) == bits.COARSE_RANGE[1]
    assert bits.coarseness("mpeg4", -5) == bits.coarseness("mpeg4", 1)
    assert math.isnan(bits.coarseness("h264", None))


def test_score_follows_the_quantiser_where_it_is_known() -> None:
    coarse = told(_key_quantiser=38.0, _other_quantiser=38.0)
    assert scored(facts=coarse, coarse=-2)["score"][0] == pytest.approx(100 / (1 + math.exp(2)))
    assert scored(facts=told(_key_quantiser=math.nan, _other_quantiser=math.nan), coarse=-2)["score"][0] == 50


def test_model_with_fewer_terms_knows_the_first_of_them() -> None:
    told_all = bits.Packets("h264", 1.0, 1.0, 0.5, 0.5)
    loss = np.ones((2, bits.LOSSES), np.float32)
    short = by_bits(constant=1.0, key=0.5, loss=-1.0, coarse=0.0)
    assert bits.scores(short[:, :, :7], told_all, loss).tolist() == bits.scores(short, told_all, loss).tolist()


@pytest.mark.parametrize(
    ("codec", "facts"),
    [
        ("ffv1", told()),
        ("h264", told(_keys=10, _key_bytes=28_000)),
        ("h264", told(_keys=0, _key_bytes=0)),
        ("h264", told(_packets=0, _packet_bytes=0, _keys=0, _key_bytes=0)),
        ("h264", {}),
    ],
)
def test_score_is_the_one_of_the_pixels_where_packets_tell_nothing(codec: str, facts: Columns) -> None:
    kept = scored(codec, facts)
    assert kept["score"].tolist() == kept["score_pixels"].tolist() == [30, 40]
    assert kept["score_low"].tolist() == [20, 20]


def test_score_and_bounds_follow_from_the_bits_and_the_pixels_score_stays() -> None:
    kept = scored(constant=math.log(3))
    assert kept["score"].tolist() == pytest.approx([75, 75])
    assert (kept["score_low"][0], kept["score_high"][0]) == pytest.approx((65, 95))
    assert kept["score_pixels"].tolist() == [30, 40]
    assert not {"by_bits", "by_bits_reach"} & kept.keys()


def test_each_codec_has_weights_of_its_own() -> None:
    assert scored("hevc")["score"][0] == pytest.approx(100 / (1 + math.exp(-1)))
    assert scored("av1")["score"][0] == pytest.approx(50)


def test_loss_is_told_by_whether_it_reached_the_frame_or_the_keyframe_and_how_often() -> None:
    hit, hit_key, often = 1 << LOST_SHIFT, 1 << LOST_SHIFT | FrameFlag.KEY_LOST, 8 << LOST_SHIFT
    reached, of_key, many, *_ = bits.losses(np.array([KEY, hit | CORRUPT, hit, hit_key, often], np.uint32)).T
    assert reached.tolist() == [0, 1, 1, 1, 1]
    assert of_key.tolist() == [0, 0, 0, 1, 0]
    assert many.tolist() == pytest.approx([0, many[1], many[1], many[1], 1])
    assert 0 < many[1] < 1
    assert bits.losses(np.zeros(0, np.uint32)).shape == (0, bits.LOSSES)


def test_what_was_made_up_is_told_where_it_is_known() -> None:
    hit = 1 << LOST_SHIFT
    quarter, unknown, most = (hit | told << MADE_UP_SHIFT for told in (MADE_UP_UNIT // 4, MADE_UP_UNKNOWN, 254))
    *_, known, made_up, root = bits.losses(np.array([0, hit, quarter, unknown, most], np.uint32)).T
    assert known.tolist() == [0, 1, 1, 0, 1]
    assert made_up.tolist() == [0, 0, 0.25, 0, bits.MOST_MADE_UP]
    assert root.tolist() == pytest.approx([0, 0, 0.5, 0, math.sqrt(bits.MOST_MADE_UP)])


def test_loss_that_the_decoder_knows_of_counts_in_the_score_and_as_damage() -> None:
    sound, hit = scored(flags=(KEY, NONE), loss=-2), scored(flags=(KEY, HIT), loss=-2)
    assert hit["score"][0] == sound["score"][0]
    assert hit["score"][1] == pytest.approx(100 / (1 + math.exp(2)))
    assert hit["score_pixels"].tolist() == [30, 40]
    assert sound["fault_damaged"].tolist() == hit["fault_damaged"].tolist() == pytest.approx([0.1, 0.95])
    assert scored(flags=(KEY | HIT, HIT))["fault_damaged"].tolist() == pytest.approx([0.9, 0.95])


def test_more_bits_than_ever_learned_from_count_as_the_most() -> None:
    most = [scored(facts=told(_key_bytes=size, _packet_bytes=2 * size), key=1.0)["score"][0] for size in (1e7, 1e9)]
    assert most[0] == most[1] > 50


def test_row_has_both_scores() -> None:
    task, kept = ScoreTask({}, {}), scored(constant=math.log(3))
    row = task.on_stream(stream(), kept)
    assert (row["score"], row["score_pixels"]) == (75.0, pytest.approx(35, abs=2))


def test_model_that_knows_nothing_of_bits_gives_one_score() -> None:
    task = ScoreTask({}, {})
    kept = segment(task, stream(), batch([500], [30]), told())
    assert "score_pixels" not in kept
    assert "score_pixels" not in task.on_stream(stream(), kept)
