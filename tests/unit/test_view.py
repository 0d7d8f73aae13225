"""Views against plain, slow definitions."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from typing import Any

import av
import cv2
import numpy as np
import pytest
import skimage.data
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests import media as clips
from vpipe.fragments import active_area, phase_of, positions
from vpipe.frame import FrameFlag
from vpipe.media import Picture, Sample, open_media
from vpipe.media.planes import FORMATS, planes_of, to_rgb
from vpipe.view import _round, make_view, view_fields
from vpipe.viewconfig import PictureConfig, ViewConfig

MS = Fraction(1, 1000)
FRAGMENTS = ViewConfig(kind="fragments", grid=3, patch=16)


def picture_of(frame: av.VideoFrame, neighbour: av.VideoFrame | None = None, pts: int = 0, **more: Any) -> Picture:
    values = {"time_base": MS, "origin_pts": 0, "previous_pts": None, "width": frame.width, "height": frame.height}
    return Picture(pts=pts, index=0, flags=FrameFlag(0), frame=frame, neighbour=neighbour, **{**values, **more})


def render(config: ViewConfig, picture: Picture) -> tuple[dict[str, NDArray[Any]], FrameFlag]:
    out = {field.name: np.full(field.shape, 77, field.dtype) for field in view_fields(config)}
    flags = make_view(config).render(picture, out)
    return out, flags


def first_picture(name: str) -> Picture:
    sample = Sample.parse("n=1")
    with open_media(str(clips.make_clip(name))) as media:
        _, segments = media.plan(sample)
        return next(media.read(segments[0], sample))


def reference(frame: av.VideoFrame, width: int, height: int) -> NDArray[np.float64]:
    """Full-size RGB in floating point, then averaged over areas; chroma is brought to size bilinearly."""
    planes = planes_of(frame)
    rows, columns = planes.luma.shape
    unit = 1 << (planes.bits - 8)
    channels = [planes.luma.astype(np.float64) / unit]
    for plane in planes.chroma or ():
        scaled = cv2.resize(plane.astype(np.float32) / unit, (columns, rows), interpolation=cv2.INTER_LINEAR)
        channels.append(scaled.astype(np.float64))
    channels += [np.full((rows, columns), 128.0)] * (3 - len(channels))
    stacked = np.stack([*channels, np.ones((rows, columns))], -1)
    rgb = np.clip(stacked @ to_rgb(planes.matrix, planes.full).T, 0, 255)
    rgb = np.ascontiguousarray(np.rot90(rgb, round(frame.rotation / 90)))  # both count counterclockwise
    return cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA)


PHOTOS = ("astronaut", "coffee", "chelsea")


@pytest.mark.parametrize("pixels", ["yuv420p", "yuv422p10le", "yuv444p"])
@pytest.mark.parametrize("scale", [1, 2])
@pytest.mark.parametrize("name", PHOTOS)
def test_resized_photograph_is_close_to_averaging_full_size_colour(name: str, scale: int, pixels: str) -> None:
    photo = cv2.resize(getattr(skimage.data, name)(), None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    photo = np.ascontiguousarray(photo[: photo.shape[0] // 2 * 2, : photo.shape[1] // 2 * 2])
    space = 1 if photo.shape[0] >= 720 else 5
    frame = av.VideoFrame.from_ndarray(photo, "rgb24").reformat(
        format=pixels, dst_colorspace=space, dst_color_range="MPEG"
    )
    frame.colorspace = space
    for width, height in ((256, 144), (160, 90), (224, 224)):
        out, _ = render(ViewConfig(kind="resize", width=width, height=height), picture_of(frame))
        for other in (
            reference(frame, width, height),
            cv2.resize(photo.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA),
        ):
            difference = out["view"] - other
            # The last step is bilinear: 1.4 levels off on average at 256x144, up to 3.9 in detail at 160x90.
            assert np.abs(difference).mean() < (2.0 if (width, height) == (256, 144) else 4.2)
            assert np.abs(difference.mean((0, 1))).max() < 1.2, "a cast of colour"


NATURAL = ["h264", "hd", "bt709", "full-range", "ten-bit", "yuv422", "yuv422-ten", "yuv444", "yuv411", "yuv410"]
OTHERS = ["gray", "gray-ten", "alpha", "nv12", "yuyv", "odd-size", "mjpeg-avi", "h264-interlaced", "rotated"]


@pytest.mark.parametrize("name", [*NATURAL, *OTHERS])
def test_every_pixel_format_comes_out_in_its_colours(name: str) -> None:
    picture = first_picture(name)
    out, _ = render(ViewConfig(kind="resize", width=256, height=144), picture)
    difference = out["view"] - reference(picture.frame, 256, 144)
    assert np.abs(difference).mean() < 2.0
    assert np.abs(difference.mean((0, 1))).max() < 1.0


@pytest.mark.parametrize("name", ["rgb", "gbr", "gif", "bottom-up"])
def test_rgb_and_palettes_come_out_in_their_colours(name: str) -> None:
    picture = first_picture(name)
    out, _ = render(ViewConfig(kind="resize", width=160, height=90), picture)
    plain = picture.frame.to_ndarray(format="rgb24").astype(np.float32)
    assert np.abs(out["view"] - cv2.resize(plain, (160, 90), interpolation=cv2.INTER_AREA)).mean() < 1.0


def test_bgr_is_rgb_backwards_and_gray_is_its_luma() -> None:
    picture = first_picture("h264")
    rgb, bgr, gray = (
        render(ViewConfig(kind="resize", width=64, height=36, pixel=pixel), picture)[0]["view"]
        for pixel in ("rgb", "bgr", "gray")
    )
    assert np.abs(rgb[..., ::-1].astype(int) - bgr).max() <= 1
    assert gray.shape == (36, 64)
    weighted = rgb @ [0.299, 0.587, 0.114]
    assert np.abs(weighted - gray).mean() < 2.0


def test_rotated_video_is_delivered_upright() -> None:
    turned, plain = first_picture("rotated"), first_picture("h264")
    assert turned.frame.rotation == 90
    upright, _ = render(ViewConfig(kind="resize", width=90, height=160), turned)
    flat, _ = render(ViewConfig(kind="resize", width=160, height=90), plain)
    assert np.array_equal(upright["view"], np.rot90(flat["view"]))


@pytest.mark.parametrize("number", [0, 8])
def test_video_that_names_no_matrix_is_taken_by_its_height(number: int) -> None:
    flat = np.full((720, 64, 3), (200, 60, 60), np.uint8)
    for rows, space in ((720, 1), (480, 5)):
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(flat[:rows]), "rgb24").reformat(
            format="yuv444p", dst_colorspace=space, dst_color_range="MPEG"
        )
        frame.colorspace = 2
        out, _ = render(ViewConfig(kind="resize", width=8 + number, height=8), picture_of(frame))
        assert np.abs(out["view"].astype(int) - (200, 60, 60)).max() <= 2


def test_matrices_are_those_of_the_standards() -> None:
    white = np.array([235, 128, 128, 1])
    for matrix in ("601", "709", "2020", "240", "fcc"):
        assert np.allclose(to_rgb(matrix, False) @ white, 255)
        assert np.allclose(to_rgb(matrix, True) @ [255, 128, 128, 1], 255)
        assert np.allclose(to_rgb(matrix, False) @ [16, 128, 128, 1], 0)
    assert np.allclose(
        to_rgb("709", True)[:, :3], [[1, 0, 1.5748], [1, -0.187324, -0.468124], [1, 1.8556, 0]], atol=1e-5
    )


def luma_frame(rows: int, columns: int, seed: int = 0, pixels: str = "gray") -> av.VideoFrame:
    values = np.random.default_rng(seed).integers(0, 256, (rows, columns), dtype=np.uint8)
    return av.VideoFrame.from_ndarray(values, "gray").reformat(format=pixels) if pixels != "gray" else (
        av.VideoFrame.from_ndarray(values, "gray")
    )  # fmt: skip


def plain_mosaic(luma: NDArray[Any], grid: int, patch: int, time_ms: int) -> NDArray[Any]:
    rows, columns = luma.shape
    padded = np.pad(luma, ((0, max(patch - rows, 0)), (0, max(patch - columns, 0))), mode="edge")
    corners = positions(rows, columns, grid, patch, phase_of(time_ms))
    tiles = [padded[y : y + patch, x : x + patch] for y, x in corners]
    return np.vstack([np.hstack(tiles[row * grid : (row + 1) * grid]) for row in range(grid)])


@pytest.mark.parametrize(("rows", "columns"), [(180, 320), (187, 333), (48, 48), (30, 40), (16, 16), (8, 8), (8, 300)])
def test_fragments_are_the_patches_at_their_positions(rows: int, columns: int) -> None:
    frame = luma_frame(rows, columns)
    luma = planes_of(frame).luma
    for pts in (0, 33, 1001):
        out, flags = render(FRAGMENTS, picture_of(frame, pts=pts))
        assert out["view"].shape == (1, 48, 48)
        assert np.array_equal(out["view"][0], plain_mosaic(luma, 3, 16, pts))
        assert not flags


def test_fragment_positions_go_by_time_since_the_first_frame() -> None:
    frame = luma_frame(180, 320)
    base = Fraction(1, 90000)
    one, _ = render(FRAGMENTS, picture_of(frame, pts=90_000 + 3003, origin_pts=90_000, time_base=base))
    other, _ = render(FRAGMENTS, picture_of(frame, pts=33))
    assert np.array_equal(one["view"], other["view"])


@given(st.integers(-(10**12), 10**12), st.integers(1, 10**6))
def test_times_are_rounded_as_python_rounds(numerator: int, denominator: int) -> None:
    assert _round(numerator, denominator) == round(Fraction(numerator, denominator))
    assert _round(2 * numerator + 1, 2) == round(Fraction(2 * numerator + 1, 2))


def test_pair_holds_the_frame_then_its_neighbour_at_the_same_places() -> None:
    config = ViewConfig(kind="fragments", grid=3, patch=16, pair=True)
    frame, near = luma_frame(180, 320, 1), luma_frame(180, 320, 2)
    out, flags = render(config, picture_of(frame, near, pts=40))
    assert np.array_equal(out["view"][0], plain_mosaic(planes_of(frame).luma, 3, 16, 40))
    assert np.array_equal(out["view"][1], plain_mosaic(planes_of(near).luma, 3, 16, 40))
    assert FrameFlag.SAME not in flags


def test_views_do_not_depend_on_what_was_rendered_before_them() -> None:
    config = ViewConfig(kind="fragments", grid=3, patch=16, pair=True)
    frames = [luma_frame(180, 320, seed) for seed in range(4)]
    view = make_view(config)
    for number, neighbour in ((0, 0), (1, 0), (3, 2), (2, 3), (2, 1), (0, 3)):
        if number == neighbour:
            view.end()
        picture = picture_of(frames[number], frames[neighbour], pts=40 * number)
        out = {field.name: np.zeros(field.shape, field.dtype) for field in view_fields(config)}
        flags = view.render(picture, out)
        plain, plain_flags = render(config, picture)
        assert flags == plain_flags
        assert np.array_equal(out["view"], plain["view"])


def test_equal_neighbour_is_told_but_a_frame_is_not_its_own_repeat() -> None:
    config = ViewConfig(kind="fragments", grid=3, patch=16, pair=True)
    frame, twin = luma_frame(180, 320, 1), luma_frame(180, 320, 1)
    assert FrameFlag.SAME in render(config, picture_of(frame, twin))[1]
    out, flags = render(config, picture_of(frame, frame))
    assert FrameFlag.SAME not in flags
    assert np.array_equal(out["view"][0], out["view"][1])


def test_neighbour_of_another_size_is_brought_to_size() -> None:
    config = ViewConfig(kind="fragments", grid=3, patch=16, pair=True)
    out, _ = render(config, picture_of(luma_frame(180, 320), luma_frame(96, 160)))
    assert out["view"].shape == (2, 48, 48)


def test_fragments_of_full_range_are_compressed_to_limited() -> None:
    frame = luma_frame(180, 320)
    plain = plain_mosaic(planes_of(frame).luma, 3, 16, 0)
    frame.color_range = 2
    out, _ = render(FRAGMENTS, picture_of(frame))
    assert np.array_equal(out["view"][0], np.round(16 + plain.astype(float) * 219 / 255))
    assert out["view"].min() >= 16
    assert out["view"].max() <= 235


def test_fragments_of_ten_bits_are_rounded_to_eight() -> None:
    values = np.random.default_rng(3).integers(0, 1024, (180, 320)).astype(np.uint16)
    frame = av.VideoFrame.from_ndarray(values, "gray10le")
    out, _ = render(FRAGMENTS, picture_of(frame))
    want = np.minimum((plain_mosaic(values, 3, 16, 0).astype(int) + 2) >> 2, 255)
    assert np.array_equal(out["view"][0], want)


def test_histogram_counts_the_frames_own_luma() -> None:
    for config in (
        dataclasses.replace(FRAGMENTS, histogram=True),
        ViewConfig(kind="fragments", grid=3, patch=16, pair=True, histogram=True),
    ):
        out, _ = render(config, picture_of(luma_frame(180, 320, 1), luma_frame(180, 320, 2)))
        assert np.array_equal(out["histogram"], np.bincount(out["view"][0].ravel(), minlength=256))
    config = ViewConfig(kind="resize", width=40, height=30, histogram=True)
    out, _ = render(config, first_picture("full-range"))
    assert out["histogram"].sum() == 1200
    assert not out["histogram"][:16].any()
    assert not out["histogram"][236:].any()


def test_luma_is_the_views_own_in_limited_range() -> None:
    config = ViewConfig(kind="resize", width=40, height=30, luma=True)
    out, _ = render(config, picture_of(luma_frame(30, 40, 1)))
    assert np.array_equal(out["luma"], luma_frame(30, 40, 1).to_ndarray()[:30, :40])
    out, _ = render(config, first_picture("full-range"))
    assert 16 <= out["luma"].min() < out["luma"].max() <= 235
    with pytest.raises(ValueError, match="luma is for resize views only"):
        dataclasses.replace(FRAGMENTS, luma=True)


def test_picture_comes_with_the_first_wanted_frame_of_each_cell_of_time() -> None:
    config = dataclasses.replace(FRAGMENTS, picture=PictureConfig(width=32, height=18, every_s=0.5))
    frame = luma_frame(180, 320)

    def due(pts: int, before: int | None) -> bool:
        out, flags = render(config, picture_of(frame, pts=pts + 7000, origin_pts=7000, previous_pts=before))
        filled = bool((out["picture"] != 77).any())
        assert filled == (FrameFlag.PICTURE in flags)
        return filled

    assert due(0, None)
    assert not due(499, 7000 + 460)
    assert due(500, 7000 + 460)
    assert not due(999, 7000 + 500)
    assert due(2100, 7000 + 500)
    always = dataclasses.replace(FRAGMENTS, picture=PictureConfig(width=32, height=18))
    assert FrameFlag.PICTURE in render(always, picture_of(frame, pts=1, previous_pts=0))[1]


def test_pictures_of_a_stream_do_not_depend_on_where_it_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    config = dataclasses.replace(FRAGMENTS, picture=PictureConfig(width=32, height=18, every_s=0.3))
    sample = Sample.parse("every")
    found = []
    for shortest in (10, 1000):
        monkeypatch.setattr("vpipe.media.segments.SHORTEST", shortest)
        with open_media(str(clips.make_clip("h264-open"))) as media:
            _, segments = media.plan(sample)
            flags = [(p.pts, int(render(config, p)[1])) for s in reversed(segments) for p in media.read(s, sample)]
        found.append((len(segments), sorted(flags)))
    assert found[0][0] > found[1][0] == 1
    assert found[0][1] == found[1][1]
    assert sum(1 for _, flag in found[0][1] if flag & FrameFlag.PICTURE) == 10  # 3 s in cells of 0.3 s


def test_fields_say_what_render_fills() -> None:
    config = ViewConfig(kind="fragments", pair=True, histogram=True, picture=PictureConfig())
    assert [(f.name, f.dtype, f.shape) for f in view_fields(config)] == [
        ("view", "|u1", (2, 224, 224)),
        ("histogram", "<u4", (256,)),
        ("picture", "|u1", (90, 160, 3)),
    ]
    resize = ViewConfig(kind="resize", width=32, height=18)
    assert [(f.name, f.shape) for f in view_fields(resize)] == [("view", (18, 32, 3))]
    gray = dataclasses.replace(resize, pixel="gray")
    assert view_fields(gray)[0].shape == (18, 32)


def test_every_format_named_is_one_that_ffmpeg_has() -> None:
    for name, (bits, planes) in FORMATS.items():
        try:
            known = av.VideoFormat(name, 16, 16)
        except ValueError:
            continue  # some depths do not exist in every layout
        assert known.components[0].bits == bits
        assert len(known.components) >= planes
        assert not known.is_rgb


@pytest.mark.parametrize("sides", [(40, 40, 0, 0), (0, 0, 30, 30), (24, 26, 16, 16)])
@pytest.mark.parametrize("pixels", ["gray", "full", "gray10le"])
def test_black_bars_move_no_patch(sides: tuple[int, int, int, int], pixels: str) -> None:
    top, bottom, left, right = sides
    config = ViewConfig(kind="fragments", grid=3, patch=16, pair=True)
    rng, frames = np.random.default_rng(5), []
    for _ in range(2):
        values = rng.integers(30, 236, (180, 320), dtype=np.uint8)
        dark = 0 if pixels == "full" else 16
        boxed = np.pad(values, ((top, bottom), (left, right)), constant_values=dark)
        boxed[0, :] += rng.integers(0, 8, boxed.shape[1], dtype=np.uint8) if top else 0  # what coding adds
        for picture in (values, boxed):
            wide = picture.astype(np.uint16) << 2 if pixels == "gray10le" else picture
            frame = av.VideoFrame.from_ndarray(wide, "gray10le" if pixels == "gray10le" else "gray")
            frame.color_range = 2 if pixels == "full" else 1
            frames.append(frame)
    bare, _ = render(config, picture_of(frames[0], frames[2], pts=40))
    boxed, _ = render(config, picture_of(frames[1], frames[3], pts=40))
    assert np.array_equal(bare["view"], boxed["view"])


@pytest.mark.parametrize(
    ("dark", "area"),
    [
        (np.s_[:40], (0, 0, 180, 320)),  # a night sky
        (np.s_[:], (0, 0, 180, 320)),  # dark all over
        (np.s_[:, 10:], (0, 0, 180, 320)),
        (np.s_[[*range(80), *range(100, 180)]], (0, 0, 180, 320)),  # too little would remain
        (np.s_[[0, 1, -1, -2]], (0, 0, 180, 320)),  # the edges of an old tape
        (np.s_[[*range(20), *range(160, 180)]], (20, 0, 140, 320)),
    ],
)
def test_bars_are_a_pair_of_alike_width_and_leave_a_picture(dark: Any, area: tuple[int, int, int, int]) -> None:
    luma = np.full((180, 320), 90, np.uint8)
    luma[dark] = 18
    assert active_area(luma, 32) == area


def test_half_of_the_frames_are_mirrored_where_the_view_says_so() -> None:
    plain = ViewConfig(kind="fragments", grid=3, patch=16, pair=True)
    frame, near, found = luma_frame(180, 320, 1), luma_frame(180, 320, 2), []
    for pts in range(0, 4000, 40):
        one, _ = render(plain, picture_of(frame, near, pts=pts))
        other, _ = render(dataclasses.replace(plain, mirror=True), picture_of(frame, near, pts=pts))
        found.append(bool(phase_of(pts) % 2))
        assert np.array_equal(other["view"], one["view"][..., ::-1] if found[-1] else one["view"])
    assert 30 < sum(found) < 70
