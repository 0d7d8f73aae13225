"""Mask files as players read them: each convention of the timeline by its bytes, the SVG in a browser, damage told."""

import base64
import errno
import gzip
import json
import os
import struct
import xml.etree.ElementTree as ElementTree
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import skimage.data

from tests.browser import Browser, require_browser
from vpipe.errors import ResourceError
from vpipe_mask.formats import DEFAULT, FORMATS, Alpha, MaskFileError, Record, png, timeline, webmask
from vpipe_mask.formats.svg import document, mask_of, path_of
from vpipe_mask.outline import Outline, fill, trace

EMPTY_PATH = "M0 900 l0 -900 1600 0 1600 0 0 900 0 900 -1600 0 -1600 0 0 -900z"
NOBODY = np.zeros((144, 256), np.uint8)


def person(x: int = 128, size: tuple[int, int] = (256, 144)) -> Alpha:
    """Head, shoulders and, between arm and body, a hole; cut off by the lower edge."""
    mask = np.zeros(size[::-1], np.uint8)
    unit = size[1] // 12
    cv2.circle(mask, (x, 4 * unit), 2 * unit, 255, -1)
    cv2.ellipse(mask, (x, size[1]), (5 * unit, 6 * unit), 0, 0, 360, 255, -1)
    cv2.circle(mask, (x + 2 * unit, 10 * unit), unit, 0, -1)
    return np.asarray(cv2.GaussianBlur(mask, (5, 5), 0), np.uint8)


def walk(name: str, times: list[int]) -> list[Record]:
    """A person who walks through the picture; nobody is seen in every tenth frame."""
    masks = [NOBODY if i % 10 == 9 else person(20 + i % 200) for i in range(len(times))]
    encode = FORMATS[name].encode
    return [Record(9 * ms, (1, 9000), ms, encode(mask, None)) for ms, mask in zip(times, masks, strict=True)]


def save(path: Path, name: str, times: list[int]) -> bytes:
    FORMATS[name].write(path, walk(name, times))
    return path.read_bytes()


def pts_at(rate: float, count: int) -> list[int]:
    return [round(1000 * i / rate) for i in range(count)]


# the timeline, by another reader than ours


def unpacked(data: bytes, kind: int) -> Iterator[tuple[int, list[tuple[int, bytes, bytes]]]]:
    """Yield table time and frames (time, head, body) of each segment, insisting on what players insist on."""
    assert data[:4] == b"MASK"
    assert struct.unpack(">i", data[4:8]) == (1,)
    assert data[8:12] == bytes([kind, 0, 0, 0])
    (count,) = struct.unpack(">i", data[12:16])
    table = [struct.unpack_from(">qq", data, 16 + 16 * i) for i in range(count)]
    assert all(value >> 32 == 0 for entry in table for value in entry)
    ends = [offset for _, offset in table[1:]] + [len(data)]
    assert table[0][1] == 16 + 16 * count
    for (time, offset), end in zip(table, ends, strict=True):
        member = gzip.decompress(data[offset:end])  # members are contiguous: one, exactly, in each part
        frames = []
        while member:
            head = member[:4]
            (pts,) = struct.unpack(">q", member[4:12])
            length = struct.unpack(">i", head)[0] if kind == 2 else int(np.prod(struct.unpack(">hh", head))) // 8
            frames.append((pts, head, member[12 : 12 + length]))
            member = member[12 + length :]
        yield time, frames


@pytest.mark.parametrize("name", DEFAULT)
@pytest.mark.parametrize(("rate", "steps"), [(25, {40}), (30, {33, 34}), (30000 / 1001, {33, 34})])
def test_segments_last_ten_seconds_and_hold_every_frame(
    name: str, rate: float, steps: set[int], tmp_path: Path
) -> None:
    times = pts_at(rate, round(23 * rate))
    segments = list(unpacked(save(tmp_path / "a", name, times), {"webmask": 2, "mobmask": 0}[name]))
    assert len(segments) == 3
    assert [pts for _, frames in segments for pts, _, _ in frames] == times
    for number, (time, frames) in enumerate(segments):
        assert time == frames[0][0]
        assert abs(time - 10_000 * number) < 1000 / rate * (number + 1)
    assert set(np.diff(times).tolist()) == steps


def test_mobmask_frames_are_7200_bytes_row_by_row_most_significant_bit_first(tmp_path: Path) -> None:
    mask = np.zeros((180, 320), np.uint8)
    mask[0, 0] = mask[0, 9] = mask[179, 319] = 255
    form = FORMATS["mobmask"]
    form.write(tmp_path / "a", [Record(0, (1, 1), 0, form.encode(mask, None))])
    ((_, ((_, head, body),)),) = unpacked((tmp_path / "a").read_bytes(), 0)
    assert head == struct.pack(">hh", 320, 180)
    assert len(body) == 7200
    assert body[:2] == bytes([0b1000_0000, 0b0100_0000])
    assert body[-1] == 1
    assert sum(map(int.bit_count, body)) == 3


def test_webmask_frames_are_data_urls_of_a_potrace_like_svg(tmp_path: Path) -> None:
    data = save(tmp_path / "a", "webmask", [0, 40, 80, 120, 160, 200, 240, 280, 320, 360])
    ((_, frames),) = unpacked(data, 2)
    for number, (_, _, body) in enumerate(frames):
        assert body.startswith(b"data:image/svg+xml;base64,")
        root = ElementTree.fromstring(base64.b64decode(body[26:], validate=True))
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert root.attrib["width"] == "320.000000px"
        assert root.attrib["height"] == "180.000000px"
        assert root.attrib["viewBox"] == "0 0 320.000000 180.000000"
        (group,) = root
        assert group.attrib["transform"] == "translate(0.000000,180.000000) scale(0.100000,-0.100000)"
        assert group.attrib["fill"] == "#000000"
        assert group.attrib["stroke"] == "none"
        (path,) = group
        assert path.attrib["d"].startswith(EMPTY_PATH)
        assert set(path.attrib["d"]) <= set("Mlz -0123456789")
        assert (path.attrib["d"] == EMPTY_PATH) == (number == 9)


def test_nobody_is_the_full_rectangle_to_the_letter() -> None:
    assert FORMATS["webmask"].encode(NOBODY, None) == f"320 180 {EMPTY_PATH}".encode()


def test_known_outline_is_taken_as_it_is() -> None:
    square = np.array([[0, 0], [0, 40], [41, 40], [41, 0]], np.int16)  # quarters of a pixel
    data = FORMATS["webmask"].encode(NOBODY, Outline(320, 180, (square,)))
    assert data == f"320 180 {EMPTY_PATH} M103 1800 l0 -100 -103 0 0 100z".encode()


def test_video_of_one_frame_has_one_segment(tmp_path: Path) -> None:
    assert [len(frames) for _, frames in unpacked(save(tmp_path / "a", "webmask", [7]), 2)] == [1]


def test_segment_that_would_grow_large_ends_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timeline, "SEGMENT_BYTES", 5 * 7212)
    segments = list(unpacked(save(tmp_path / "a", "mobmask", list(range(12))), 0))
    assert [len(frames) for _, frames in segments] == [5, 5, 2]


def test_same_records_give_the_same_file(tmp_path: Path) -> None:
    for form in FORMATS.values():
        if form.name != "png":
            assert save(tmp_path / "a", form.name, [0, 40]) == save(tmp_path / "b", form.name, [0, 40])


# the SVG in a browser

CANVAS = """async (urls) => {
  const canvas = new OffscreenCanvas(320, 180), context = canvas.getContext("2d", {willReadFrequently: true});
  const opaque = [];
  for (const url of urls) {
    const image = new Image();
    image.src = url;
    await image.decode();
    context.clearRect(0, 0, 320, 180);
    context.drawImage(image, 0, 0, 320, 180);
    const pixels = context.getImageData(0, 0, 320, 180).data;
    opaque.push(Array.from({length: 320 * 180}, (_, i) => pixels[4 * i + 3] >= 128 ? "1" : "0").join(""));
  }
  return opaque;
}"""


def overlap(first: np.ndarray, second: np.ndarray) -> float:
    """Intersection over union."""
    either = (first | second).sum()
    return float((first & second).sum() / either) if either else 1.0


def test_browser_shows_the_background_and_cuts_out_people_by_both_fill_rules() -> None:
    require_browser()
    horse = np.asarray(np.where(skimage.data.horse(), 0, 255), np.uint8)  # a real silhouette
    two = np.maximum(person(70), person(190))
    edges = np.pad(np.zeros((104, 216), np.uint8), 20, constant_values=255)  # a frame along all four edges
    masks = [person(), two, horse, edges, NOBODY, NOBODY + np.uint8(255), person(3, (256, 256))]
    urls = []
    for mask in masks:
        outline = trace(mask)
        svg = document(320, 180, path_of(outline))
        assert webmask.data_url(FORMATS["webmask"].encode(mask, outline)).endswith(base64.b64encode(svg.encode()))
        urls += [svg, svg.replace("<path ", '<path fill-rule="evenodd" ')]
    urls = ["data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode() for svg in urls]
    with Browser() as browser:
        drawn = browser.evaluate(f"({CANVAS})({json.dumps(urls)})")
        assert not browser.complaints
    for number, mask in enumerate(masks):
        wanted = cv2.resize(mask, (320, 180), interpolation=cv2.INTER_LINEAR) >= 128
        nonzero, even_odd = (
            np.array([c == "0" for c in text]).reshape(180, 320) for text in drawn[2 * number : 2 * number + 2]
        )
        assert overlap(nonzero, wanted) >= 0.98
        assert np.array_equal(nonzero, even_odd)


def test_css_mask_hides_comments_where_people_are_in_a_picture_of_any_shape(tmp_path: Path) -> None:
    require_browser()
    mask = person()
    url = webmask.data_url(FORMATS["webmask"].encode(mask, None)).decode()
    style = f"width:240px;height:300px;background:red;mask-image:url({url});mask-size:100% 100%"
    with Browser(240, 300) as browser:
        browser.evaluate(
            f"""(async () => {{
              const image = new Image();
              image.src = {json.dumps(url)};
              await image.decode();
              document.body.style.margin = 0;
              document.body.innerHTML = {json.dumps(f'<div style="{style}"></div>')};
            }})()"""
        )
        browser.wait_for("document.querySelector('div').offsetHeight === 300")
        browser.screenshot(tmp_path / "page.png")
    page = cv2.imread(str(tmp_path / "page.png"))
    assert page is not None
    wanted = cv2.resize(mask, (240, 300), interpolation=cv2.INTER_LINEAR) >= 128
    assert overlap(page[..., 0] >= 128, wanted) >= 0.98  # white, without red, where the person is


# reading


def test_foreign_svg_with_curves_and_relative_moves_is_read() -> None:
    path = "M0 900 l0 -900 1600 0 1600 0 0 900 0 900 -1600 0 -1600 0 0 -900z"
    circle = (
        "m1600 500 c276 0 500 -224 500 -500 0 -276 -224 -500 -500 -500 -276 0 -500 224 -500 500 0 276 224 500 500 500z"
    )
    square = "m-1500 -200 L300 1200,300 1400 l-200,0 z l5 5 z"
    mask = mask_of(document(320, 180, f"{path} {circle} {square}"))
    wanted = np.zeros((180, 320), np.uint8)
    cv2.circle(wanted, (160, 90), 50, 255, -1)
    cv2.rectangle(wanted, (10, 40), (29, 59), 255, -1)
    assert overlap(mask > 0, wanted > 0) > 0.97


def test_background_drawn_without_the_outer_rectangle_is_read() -> None:
    mask = mask_of(document(320, 180, "M0 0 l0 1800 1000 0 0 -1800z M2000 0 l0 1800 1200 0 0 -1800z"))
    assert (mask[:, 100:200] == 255).all()
    assert (mask == 255).sum() == 180 * 100


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("viewBox", "viewbox"), "no viewBox"),
        (("scale(", "skew("), "no viewBox, no transform"),
        (("320.000000 180", "99999.000000 180"), "is of 99999x180 pixels"),
        (("l0 -900", "a0 -900"), "a path with 'a0 -900 16'"),
        (("l0 -900", "1 l0 -900"), "1 numbers too many before 'l'"),
        (("-900z", "-900z 5"), "numbers that belong to no command"),
        (("l0", "l" + "0 9999999 0 -9999999 " * 99 + "0"), "lines of"),
    ],
)
def test_svg_of_another_kind_is_refused(change: tuple[str, str], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        mask_of(document(320, 180, EMPTY_PATH).replace(*change))


Change = Callable[[bytearray], Any]


def put(layout: str, at: int, *values: int) -> Change:
    return lambda data: struct.pack_into(layout, data, at, *values)


def repack(change: Callable[[bytes], bytes]) -> Change:
    """Change what is in the only segment."""

    def apply(data: bytearray) -> None:
        data[32:] = gzip.compress(change(gzip.decompress(data[32:])))

    return apply


def cut(at: int) -> Change:
    return lambda data: data.__delitem__(slice(at, None))


TIMELINES = [
    ("webmask", cut(0), "byte 0: no mask timeline"),
    ("webmask", put("4s", 0, b"JPEG"), "byte 0: no mask timeline (it begins with b'JPEG', not b'MASK')"),
    ("webmask", put(">i", 4, 2), "byte 4: version 2, and only 1 is known"),
    ("webmask", put(">B", 8, 0), "byte 8: kind 0 is no webmask; is it mobmask?"),
    ("mobmask", put(">B", 8, 9), "byte 8: kind 9 is no mobmask; is it damaged?"),
    ("webmask", put(">i", 12, 0), "byte 12: 0 segments"),
    ("webmask", put(">i", 12, -5), "byte 12: -5 segments"),
    ("webmask", put(">i", 12, 2**31 - 1), "byte 12: 2147483647 segments in a file of"),
    ("webmask", put(">q", 16, 2**32), "byte 16: segment 0 at 4294967296 ms"),
    ("webmask", put(">q", 16, 5), "the frame is at 0 ms and the table says 5"),
    ("webmask", put(">q", 24, 33), "byte 16: segment 0 at 0 ms and byte 33 of"),
    ("webmask", cut(40), "byte 32: segment 0 breaks off"),
    ("webmask", cut(-1), "byte 32: segment 0 breaks off"),
    ("webmask", lambda data: data.extend(b"more"), "byte 32: segment 0 goes on behind its end"),
    ("webmask", put(">i", 32, 0), "byte 32: segment 0 cannot be unpacked"),
    ("webmask", repack(lambda _: b""), "segment 0 is empty"),
    ("webmask", repack(lambda data: data[:-1]), "unpacked: the frame claims"),
    ("webmask", repack(lambda data: data + b"\0" * 5), "the frame breaks off"),
    ("webmask", repack(lambda data: struct.pack(">i", 2**31 - 1) + data[4:]), "claims -1 bytes"),
    ("webmask", repack(lambda data: struct.pack(">i", -7) + data[4:]), "claims -7 bytes"),
    ("webmask", repack(lambda data: data.replace(b"data:image/svg", b"data:image/png")), "does not begin with data:"),
    ("webmask", repack(lambda data: data.replace(b"base64,P", b"base64,!")), "holds no SVG (Only base64 data"),
    ("webmask", repack(lambda data: data.replace(b"base64,PD94", b"base64,////")), "holds no SVG ('utf-8' codec"),
    ("webmask", repack(lambda data: data.replace(b"dmlld0JveD", b"dmlld0JvYj")), "holds an SVG that has no viewBox"),
    ("mobmask", repack(lambda data: struct.pack(">hh", -1, -1) + data[4:]), "claims -1 bytes where"),
    ("mobmask", repack(lambda data: struct.pack(">hh", 4000, 4000) + data[4:]), "claims 2000000 bytes where"),
]


@pytest.mark.parametrize(("name", "change", "words"), TIMELINES, ids=[words for _, _, words in TIMELINES])
def test_damaged_timeline_is_refused_with_the_place(name: str, change: Change, words: str, tmp_path: Path) -> None:
    data = bytearray(save(tmp_path / "a", name, [0, 40]))
    change(data)
    (tmp_path / "a").write_bytes(data)
    with pytest.raises(MaskFileError) as caught:
        list(FORMATS[name].read(tmp_path / "a"))
    assert str(caught.value).startswith(f"{tmp_path / 'a'}: byte ")
    assert words in str(caught.value)


def test_frames_before_the_damage_are_read(tmp_path: Path) -> None:
    data = bytearray(save(tmp_path / "a", "mobmask", pts_at(5, 120)))
    data[-20] ^= 0xFF  # in the third segment
    (tmp_path / "a").write_bytes(data)
    reader = FORMATS["mobmask"].read(tmp_path / "a")
    assert [next(reader)[0] for _ in range(100)] == pts_at(5, 100)
    with pytest.raises(MaskFileError, match="segment 2 cannot be unpacked"):
        next(reader)


def test_segments_out_of_order_are_refused(tmp_path: Path) -> None:
    data = bytearray(save(tmp_path / "a", "mobmask", [0, 20_000]))
    second = struct.unpack_from(">q", data, 40)[0]
    struct.pack_into(">q", data, 40, 10)
    (tmp_path / "a").write_bytes(data)
    with pytest.raises(MaskFileError, match=r"byte 32: segment 1 at 20000 ms and byte 10 of"):
        list(FORMATS["mobmask"].read(tmp_path / "a"))
    struct.pack_into(">q", data, 40, second)
    struct.pack_into(">q", data, 16, 20_000)  # the first segment, whose table entry and frame then agree
    first = gzip.compress(struct.pack(">hhq", 320, 180, 20_000) + bytes(7200), 0)
    del data[48:second]
    data[48:48] = first
    struct.pack_into(">q", data, 40, 48 + len(first))
    struct.pack_into(">q", data, 32, 10_000)
    last = gzip.compress(struct.pack(">hhq", 320, 180, 10_000) + bytes(7200), 0)
    data[48 + len(first) :] = last
    (tmp_path / "a").write_bytes(data)
    with pytest.raises(MaskFileError, match="the frame is at 10000 ms after one at 20000 ms"):
        list(FORMATS["mobmask"].read(tmp_path / "a"))


def test_small_file_that_unpacks_to_a_huge_one_is_not_unpacked(tmp_path: Path) -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = packer.compress(b"\0" * (timeline.MAX_SEGMENT_BYTES + 1)) + packer.flush()
    (tmp_path / "a").write_bytes(struct.pack(">4siB3xiqq", b"MASK", 1, 0, 1, 0, 32) + bomb)
    with pytest.raises(MaskFileError, match="segment 0 unpacks to more than 67108864 bytes; not read"):
        list(FORMATS["mobmask"].read(tmp_path / "a"))


def test_huge_member_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "a", "mobmask", [0])
    monkeypatch.setattr(timeline, "MAX_MEMBER_BYTES", 10)
    with pytest.raises(MaskFileError, match="more than 10"):
        list(FORMATS["mobmask"].read(tmp_path / "a"))


# RLE lines and PNG folders


def test_run_lengths_are_those_of_coco(tmp_path: Path) -> None:
    mask = np.array([[0, 255, 255], [0, 0, 255]], np.uint8)
    form = FORMATS["rle"]
    full = form.encode(np.full((2, 3), 255, np.uint8), None)
    form.write(tmp_path / "a", [Record(-3, (1, 25), 0, form.encode(mask, None)), Record(2, (1, 25), 40, full)])
    lines = [json.loads(line) for line in (tmp_path / "a").read_text("ascii").splitlines()]
    assert lines[0] == {"pts": -3, "time_base": [1, 25], "pts_ms": 0, "size": [2, 3], "counts": [2, 1, 1, 2]}
    assert lines[1]["counts"] == [0, 6]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "Expecting property name"),
        ("[]", "TypeError"),
        ('{"pts_ms": 0, "size": [2, 2]}', "KeyError: 'counts'"),
        ('{"pts_ms": 0, "size": [2, 2], "counts": [3]}', "do not add up to 2x2"),
        ('{"pts_ms": 0, "size": [2, 2], "counts": [5, -1]}', "do not add up to 2x2"),
        ('{"pts_ms": 0, "size": [2, 2], "counts": [[4]]}', "do not add up to 2x2"),
        ('{"pts_ms": 0, "size": [2, 2], "counts": [1e99]}', "OverflowError"),
        ('{"pts_ms": 0, "size": [99999, 99999], "counts": [9999800001]}', "size 99999x99999"),
        ('{"pts_ms": 0, "size": [2], "counts": [2]}', "not enough values"),
    ],
)
def test_damaged_line_is_named(line: str, words: str, tmp_path: Path) -> None:
    data = save(tmp_path / "a", "rle", [0, 40])
    (tmp_path / "a").write_bytes(data + line.encode() + b"\n")
    with pytest.raises(MaskFileError, match=r"a: line 3: no mask \(") as caught:
        list(FORMATS["rle"].read(tmp_path / "a"))
    assert words in str(caught.value)


def folder(path: Path, times: list[int]) -> list[str]:
    FORMATS["png"].write(path, walk("png", times))
    return sorted(entry.name for entry in path.iterdir())


def test_pictures_are_named_by_pts(tmp_path: Path) -> None:
    assert folder(tmp_path / "a", [0, 40]) == ["index.jsonl", "pts000000000000.png", "pts000000000360.png"]
    assert json.loads((tmp_path / "a/index.jsonl").read_text().splitlines()[1]) == {
        "file": "pts000000000360.png",
        "pts": 360,
        "time_base": [1, 9000],
        "pts_ms": 40,
    }


def test_folder_of_ours_is_replaced_and_no_other(tmp_path: Path) -> None:
    folder(tmp_path / "a", [0, 40])
    (tmp_path / ".a.part").mkdir()  # left by a run that was killed
    assert folder(tmp_path / "a", [80]) == ["index.jsonl", "pts000000000720.png"]
    for other in (tmp_path / "b", tmp_path):
        (tmp_path / "b").touch()
        with pytest.raises(ResourceError, match="is no folder of masks"):
            folder(other, [0])
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a", "b"]


def test_failure_leaves_the_older_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = folder(tmp_path / "a", [0, 40])
    with pytest.raises(MaskFileError, match="follows one at 0"):
        FORMATS["png"].write(tmp_path / "a", [*walk("png", [0]), *walk("png", [0])])
    rename = os.rename

    def fails(source: Path, target: Path) -> None:
        if source.name == ".a.part":
            raise OSError(errno.EIO, "Input/output error")
        rename(source, target)

    monkeypatch.setattr(os, "rename", fails)  # at the one moment when neither is in place
    with pytest.raises(ResourceError, match="cannot be written: Input/output error"):
        folder(tmp_path / "a", [80])
    monkeypatch.undo()
    assert sorted(entry.name for entry in (tmp_path / "a").iterdir()) == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"file": "../a/secret.png", "pts_ms": 0}', "no name of a file here"),
        ('{"file": 5, "pts_ms": 0}', "no name of a file here"),
        ('{"file": "x.png"}', "KeyError"),
        ("{", "JSONDecodeError"),
        ('{"file": "gone.png", "pts_ms": 0}', "gone.png: cannot be read: No such file"),
        ('{"file": "text.png", "pts_ms": 0}', "text.png: is no PNG"),
        ('{"file": "cut.png", "pts_ms": 0}', "cut.png: is no PNG"),
        ('{"file": "huge.png", "pts_ms": 0}', "huge.png: is no PNG of at most 4096x4096"),
    ],
)
def test_damaged_folder_is_refused(line: str, words: str, tmp_path: Path) -> None:
    folder(tmp_path / "a", [0])
    data = (tmp_path / "a/pts000000000000.png").read_bytes()
    (tmp_path / "a/text.png").write_text("hello")
    (tmp_path / "a/cut.png").write_bytes(data[:30])
    (tmp_path / "a/huge.png").write_bytes(data[:16] + struct.pack(">ii", 90000, 90000) + data[24:])
    (tmp_path / "a" / png.INDEX).write_text(line)
    with pytest.raises(MaskFileError) as caught:
        list(FORMATS["png"].read(tmp_path / "a"))
    assert words in str(caught.value)


# all formats


@pytest.mark.parametrize("name", list(FORMATS))
def test_missing_file_is_told(name: str, tmp_path: Path) -> None:
    with pytest.raises(MaskFileError, match="gone"):
        list(FORMATS[name].read(tmp_path / "gone"))


@pytest.mark.parametrize("name", list(FORMATS))
def test_file_is_complete_or_absent(name: str, tmp_path: Path) -> None:
    def breaks_off() -> Iterator[Record]:
        yield from walk(name, [0, 40, 80])
        raise ZeroDivisionError

    form = FORMATS[name]
    with pytest.raises(ZeroDivisionError):
        form.write(tmp_path / "a", breaks_off())
    with pytest.raises(MaskFileError, match="there is not one frame to write"):
        form.write(tmp_path / "a", [])
    with pytest.raises(MaskFileError, match=r"frame at pts 9 \(time base 1/8000\) follows one at 0 \(1/9000\)"):
        form.write(tmp_path / "a", [*walk(name, [0]), Record(9, (1, 8000), 1, walk(name, [1])[0].data)])
    with pytest.raises(ResourceError):
        form.write(tmp_path / "gone" / "a", walk(name, [0]))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", DEFAULT)
@pytest.mark.parametrize("time", [-1, 2**31])
def test_times_that_players_cannot_read_are_refused(name: str, time: int, tmp_path: Path) -> None:
    with pytest.raises(MaskFileError, match=f"a frame at {time} ms, which players cannot read"):
        save(tmp_path / "a", name, [time])


def test_file_too_large_for_players_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timeline, "MAX_INT", 100)
    with pytest.raises(MaskFileError, match=r"bytes are more than players can read \(100\); cut the video"):
        save(tmp_path / "a", "mobmask", [0, 40])


def test_soft_masks_of_two_sizes_make_no_video(tmp_path: Path) -> None:
    encode = FORMATS["alpha"].encode
    records = [Record(0, (1, 1), 0, encode(person(), None)), Record(1, (1, 1), 1, encode(person(9, (256, 256)), None))]
    with pytest.raises(MaskFileError, match="the mask at pts 1 is 256x256 and those before 256x144"):
        FORMATS["alpha"].write(tmp_path / "a", records)


def test_fill_of_a_read_outline_equals_the_mask_written() -> None:
    outline = trace(person())
    assert np.array_equal(mask_of(document(320, 180, path_of(outline))), fill(outline))
