"""Masks of any shape come back from every format: holes, several people, people at the edges, nobody, everybody."""

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vpipe_mask.formats import FORMATS, Alpha, MaskFileError, Record
from vpipe_mask.formats.base import binary
from vpipe_mask.formats.svg import document, mask_of, path_of
from vpipe_mask.outline import fill, trace

SIZES = [(256, 144), (256, 256), (320, 180), (64, 36), (17, 23)]


@st.composite
def masks(draw: st.DrawFn, sizes: list[tuple[int, int]] = SIZES) -> Alpha:
    """A few people (ellipses and boxes, some reaching out of the picture), some with holes, some with soft edges."""
    width, height = draw(st.sampled_from(sizes))
    kind = draw(st.sampled_from(["people", "people", "people", "nobody", "everybody", "noise"]))
    if kind == "noise":
        return np.random.default_rng(draw(st.integers(0, 99))).integers(0, 256, (height, width)).astype(np.uint8)
    mask = np.full((height, width), 255 if kind == "everybody" else 0, np.uint8)
    for _ in range(draw(st.integers(1, 5)) if kind == "people" else 0):
        middle = (draw(st.integers(-5, width + 5)), draw(st.integers(-5, height + 5)))
        half = (draw(st.integers(1, width // 2)), draw(st.integers(1, height // 2)))
        color = draw(st.sampled_from([255, 255, 0]))  # 0 cuts a hole into those before
        if draw(st.booleans()):
            cv2.ellipse(mask, middle, half, draw(st.integers(0, 90)), 0, 360, color, -1)
        else:
            low = (middle[0] - half[0], middle[1] - half[1])
            cv2.rectangle(mask, low, (middle[0] + half[0], middle[1] + half[1]), color, -1)
    soft = draw(st.sampled_from([0, 0, 3, 7]))
    return np.asarray(cv2.GaussianBlur(mask, (soft, soft), 0) if soft else mask, np.uint8)


def written(name: str, masks: list[Alpha]) -> Iterator[tuple[int, Alpha]]:
    """Write masks 40 ms apart and yield what is read again."""
    form = FORMATS[name]
    records = [Record(3600 * i, (1, 90000), 40 * i, form.encode(mask, None)) for i, mask in enumerate(masks)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"name{form.suffix}")
        form.write(path, records)
        assert [entry.name for entry in Path(folder).iterdir()] == [path.name]
        yield from form.read(path)


def expected(name: str, mask: Alpha) -> Alpha:
    match name:
        case "alpha" | "png":
            return mask
        case "rle":
            return binary(mask) * np.uint8(255)
        case "mobmask":
            return binary(np.asarray(cv2.resize(mask, (320, 180), interpolation=cv2.INTER_LINEAR))) * np.uint8(255)
    return fill(trace(mask))


@pytest.mark.parametrize("name", list(FORMATS))
@settings(max_examples=40)
@given(st.data())
def test_masks_come_back_from_a_file(name: str, data: st.DataObject) -> None:
    size = data.draw(st.sampled_from(SIZES))
    given_ = data.draw(st.lists(masks([size]), min_size=1, max_size=4))
    got = list(written(name, given_))
    assert [pts_ms for pts_ms, _ in got] == [40 * i for i in range(len(given_))]
    for (_, mask), original in zip(got, given_, strict=True):
        assert mask.dtype == np.uint8
        assert np.array_equal(mask, expected(name, original))


@given(masks())
def test_path_fills_the_same_by_both_rules(mask: Alpha) -> None:
    outline = trace(mask)
    path = path_of(outline)
    assert path.startswith("M0 900 l0 -900 1600 0 1600 0 0 900 0 900 -1600 0 -1600 0 0 -900z")
    assert re.fullmatch(r"(?:M\d+ \d+ l-?\d+ -?\d+(?: -?\d+ -?\d+)+z ?)+", path)
    turns = np.zeros((180, 320), np.int64)
    crossings = np.zeros((180, 320), np.int64)
    for part in path.split(" M"):
        numbers = np.array(re.findall(r"-?\d+", part), np.int64).reshape(-1, 2)
        points = np.cumsum(numbers, axis=0) / 10
        signed, count = winding(points * (1, -1) + (0, 180))  # y is up in the path
        turns += signed
        crossings += count
    # Where noise is traced, simplified lines may cross one another.
    assert ((turns != 0) != (crossings % 2 == 1)).sum() <= (0 if outline.points < 500 else 60)
    # Points are in quarters of a pixel there and in tenths here.
    assert ((turns == 0) != (fill(outline) == 255)).mean() <= 0.01


def winding(polygon: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Signed and unsigned crossings of a ray to the left from the centre of each pixel."""
    x, y = np.arange(320) + 0.5, np.arange(180) + 0.5
    signed = np.zeros((180, 320), np.int64)
    count = np.zeros((180, 320), np.int64)
    for (x0, y0), (x1, y1) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        rows = np.flatnonzero((y >= min(y0, y1)) & (y < max(y0, y1)))
        for row in rows:
            # Half open, as the rule that decides for pixels whose centre is on a line.
            right = x >= x0 + (y[row] - y0) * (x1 - x0) / (y1 - y0)
            signed[row] += right * (1 if y1 < y0 else -1)
            count[row] += right
    return signed, count


@given(masks())
def test_same_mask_gives_the_same_bytes(mask: Alpha) -> None:
    for form in FORMATS.values():
        assert form.encode(mask, None) == form.encode(mask.copy(), None)


@settings(max_examples=200)
@given(st.sampled_from(["webmask", "mobmask", "rle", "alpha"]), st.data())
def test_damaged_file_gives_masks_or_one_error(name: str, data: st.DataObject) -> None:
    good = DAMAGED[name]
    bad = bytearray(good)
    for _ in range(data.draw(st.integers(0, 4))):
        bad[data.draw(st.integers(0, min(len(bad), 120) - 1) | st.integers(0, len(bad) - 1))] = data.draw(
            st.integers(0, 255)
        )
    del bad[data.draw(st.just(len(bad)) | st.integers(0, len(bad))) :]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a")
        path.write_bytes(bad)
        try:
            for pts_ms, mask in FORMATS[name].read(path):
                assert isinstance(pts_ms, int)
                assert mask.dtype == np.uint8
                assert mask.ndim == 2
        except MaskFileError as error:
            message = str(error)
            assert "\n" not in message


def _whole(name: str) -> bytes:
    mask = np.zeros((144, 256), np.uint8)
    cv2.circle(mask, (120, 70), 40, 255, -1)
    form = FORMATS[name]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a")
        form.write(path, [Record(i, (1, 1), 1000 * i, form.encode(mask, None)) for i in range(25)])
        return path.read_bytes()


DAMAGED = {name: _whole(name) for name in ("webmask", "mobmask", "rle", "alpha")}


@given(st.text("MmlczLCZ0123456789-. ,", max_size=80))
def test_any_path_is_filled_or_refused(path: str) -> None:
    try:
        assert mask_of(document(32, 18, path)).shape == (18, 32)
    except ValueError as error:
        assert str(error).startswith("has ")  # noqa: PT017
