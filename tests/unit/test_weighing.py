"""Which packets' quantisers are read, and that those speak for the others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests import media
from vpipe.media.container import Container
from vpipe.media.mp4 import COMPARED, listing
from vpipe.media.quantiser import Quantisers
from vpipe.media.segments import Weight
from vpipe.media.weighing import KEYS_APART, SHORT, Weighing, chosen

ALL = "testsrc2=size=96x64:rate=25:duration=12"
X264 = "-c:v libx264 -preset veryfast -threads 1 -b:v 90k -x264-params"


def clip(name: str, frames: int, params: str) -> Path:
    path = media.folder() / f"weighing-{name}-{frames}.mp4"
    return path if path.exists() else media.encode(path, ALL, f"{X264} {params} -frames:v {frames}")


def weigh(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Sizes, keyframes, quantisers as the engine has them, and quantisers of all packets."""
    container = Container(str(path), 1 << 24)
    weighing = Weighing(container)
    context = container.context
    quantisers, everything = Quantisers(context.codec.canonical_name, context.extradata), []
    seen = []
    while (packet := container.packet()) is not None:
        weighing.add(packet)
        everything.append(quantisers.of(bytes(packet)))
        seen.append(packet)
    listed, packets = Weighing(container), listing(container, seen[:COMPARED], lambda: None)
    assert packets is not None
    listed.add_all(packets, lambda: None)
    container.close()
    found = weighing.result()
    for one, other in zip(found, listed.result(), strict=True):
        np.testing.assert_array_equal(one, other)
    return (*found, np.array(everything, float))


def test_all_packets_of_a_short_file_are_read() -> None:
    _, _, quantisers, everything = weigh(clip("short", SHORT - 1, "keyint=25"))
    assert len(quantisers) == SHORT - 1
    assert quantisers.tolist() == everything.tolist()


@pytest.mark.parametrize("params", ["keyint=100:bframes=3:b-adapt=0", "keyint=50:bframes=7:b-pyramid=normal:b-adapt=0"])
def test_of_a_longer_file_all_keyframes_and_some_others_are_read_and_speak_for_all(params: str) -> None:
    sizes, keys, quantisers, everything = weigh(clip(params[7:9], 300, params))
    known = ~np.isnan(quantisers)
    assert known[keys].all()
    assert 0.2 < known[~keys].mean() < 0.3
    assert quantisers[known].tolist() == everything[known].tolist()
    for part in (slice(0, 120), slice(120, 240), slice(180, 300)):
        weight = Weight.of(sizes[part], keys[part], quantisers[part])
        assert weight.other_quantiser is not None
        assert abs(weight.other_quantiser - everything[part][~keys[part]].mean()) < 0.6


def test_of_keyframes_that_follow_one_another_some_are_read() -> None:
    _, keys, quantisers, _ = weigh(clip("intra", 200, "keyint=1"))
    assert keys.all()
    found = np.flatnonzero(~np.isnan(quantisers))
    assert 200 / KEYS_APART <= len(found) < 90
    assert np.diff(found).max() <= KEYS_APART


def test_no_place_in_a_pattern_of_pictures_is_preferred() -> None:
    for start in (0, 700, 20_000, 100_000):
        length = 120 if start < 20_000 else 1600
        numbers = np.arange(start, start + length)
        picked = chosen(numbers)
        assert 15 <= picked.sum() <= 64
        for period in (2, 3, 4, 5, 6, 8):
            counts = np.bincount(numbers[picked] % period, minlength=period)
            assert counts.max() - counts.min() <= 0.5 * picked.sum() / period + 2


def test_a_quantiser_that_no_packet_has_is_none() -> None:
    assert Weight.of(np.array([7, 3]), np.array([True, False]), np.array([np.nan, 4.0])) == Weight(2, 10, 1, 7, None, 4)
    assert Weight.of(np.array([], np.int64), np.array([], bool), np.array([])) == Weight()
