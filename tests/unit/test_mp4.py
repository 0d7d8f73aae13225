"""The packets of an MP4 file as its index lists them are those that are read, or there is no list."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from tests import media as clips
from vpipe.errors import MediaError
from vpipe.media import Sample, open_media
from vpipe.media.container import Container
from vpipe.media.mp4 import COMPARED, Listing, listing
from vpipe.media.table import HIDDEN, KEY

MP4 = [name for name in (*clips.CODECS, *clips.ODDITIES) if clips.make_clip(name).suffix in (".mp4", ".mov")]
UNUSUAL = {"fragmented", "negative-start", "no-sync-table", "av1", "rgb"}
"""Clips that no list is made for: their index is not all there is, or their keyframes are not known by their bytes."""

Facts = tuple[int | None, int | None, int, bool, bool, bytes]


def facts(container: Container, found: Listing) -> list[Facts]:
    """A list as `both_ways` has it."""
    table, sizes = found.table, found.sizes.tolist()
    marks = [((table.marks & mark) != 0).tolist() for mark in (KEY, HIDDEN)]
    data = (container.data_at(*each) for each in zip(found.places.tolist(), sizes, strict=True))
    return list(zip(table.pts.tolist(), table.dts.tolist(), sizes, *marks, data, strict=True))


def both_ways(path: Path) -> tuple[list[Facts] | None, list[Facts]]:
    """All packets of a file as its index has them (None: it does not do), and as they are read; with their bytes."""
    container = Container(str(path), 1 << 24)
    read = []
    while (packet := container.packet()) is not None:
        read.append(packet)
    found = listing(container, read[:COMPARED], lambda: None)
    listed = None if found is None else facts(container, found)
    container.close()
    return listed, [(p.pts, p.dts, p.size, p.is_keyframe, p.is_discard, bytes(p)) for p in read]


@pytest.mark.parametrize("name", MP4)
def test_list_is_what_reading_gives(name: str) -> None:
    listed, read = both_ways(clips.make_clip(name))
    assert (listed is None) == (name in UNUSUAL)
    if listed is not None:
        assert listed == read


@pytest.mark.parametrize(
    "options", ["-movflags +faststart", "-video_track_timescale 90000", "-movflags use_metadata_tags"]
)
def test_index_may_lie_before_the_pictures_and_in_other_units(options: str, tmp_path: Path) -> None:
    path = tmp_path / "other.mp4"
    clips.ffmpeg("-i", str(clips.make_clip("with-audio")), "-map", "0", "-c", "copy", *options.split(), str(path))
    listed, read = both_ways(path)
    assert listed == read


def test_packets_are_not_read_to_index_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    with open_media(str(clips.make_clip("h264-open"))) as media:
        info, listed = media.plan(Sample.parse("every"), pair=True)
        assert media.stats.packets == COMPARED
        assert info.frames == 75
    monkeypatch.setattr("vpipe.media.media.listing", lambda *_: None)
    with open_media(str(clips.make_clip("h264-open"))) as media:
        again, read = media.plan(Sample.parse("every"), pair=True)
        assert media.stats.packets >= info.frames
    assert (again, read) == (info, listed)


@pytest.mark.parametrize("name", MP4)
@pytest.mark.parametrize("sample", ["every", "2/s"])
def test_frames_are_the_same_whether_packets_were_listed_or_read(
    name: str, sample: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def frames() -> list[tuple[int, int, bytes]]:
        with open_media(str(clips.make_clip(name))) as media:
            choice = Sample.parse(sample)
            _, segments = media.plan(choice, pair=True)
            pictures = (p for segment in segments for p in media.read(segment, choice, pair=True))
            return [(p.pts, int(p.flags), p.frame.to_ndarray().tobytes()) for p in pictures]

    listed = frames()
    monkeypatch.setattr("vpipe.media.media.listing", lambda *_: None)
    assert frames() == listed


def test_every_look_into_the_file_beats() -> None:
    beats: list[None] = []
    with open_media(str(clips.make_clip("h264-intra"))) as media:
        media.plan(Sample.parse("every"), beat=lambda: beats.append(None))
    assert len(beats) >= 75  # all are keyframes


def test_file_that_was_cut_off_is_read(tmp_path: Path) -> None:
    whole = tmp_path / "whole.mp4"
    clips.ffmpeg("-i", str(clips.make_clip("h264")), "-c", "copy", "-movflags", "+faststart", str(whole))
    assert both_ways(whole)[0] is not None
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole.read_bytes()[:-2000])
    listed, read = both_ways(cut)
    assert listed is None
    assert len(read) < 75


def boxes_of(data: bytes) -> dict[bytes, int]:
    """Where the content of each table of a file with one track begins."""
    return {kind: data.rindex(kind) + 4 for kind in (b"ctts", b"stsz", b"stss", b"elst", b"tkhd", b"mdia", b"stbl")}


@pytest.mark.parametrize(
    ("kind", "at", "value"),
    [
        (b"ctts", 4, 1 << 31),  # more runs than there are bytes
        (b"ctts", 8, 7),  # a run that is longer than it was
        (b"ctts", 8, 0x80000001),  # and one below nothing
        (b"stsz", 8, 74),
        (b"stsz", 8, 0),
        (b"stss", 12, 26),  # a keyframe that is none
        (b"elst", 4, 1 << 30),
        (b"tkhd", 12, 9),
        (b"mdia", -8, 20),  # a box that ends in its own head
        (b"stbl", -8, 1 << 30),  # or beyond what it is in
        (b"stbl", -8, 1),
    ],
)
def test_tables_that_make_no_sense_are_not_relied_on(kind: bytes, at: int, value: int, tmp_path: Path) -> None:
    data = bytearray(clips.make_clip("h264-pyramid").read_bytes())
    struct.pack_into(">I", data, boxes_of(data)[kind] + at, value)
    path = tmp_path / "odd.mp4"
    path.write_bytes(data)
    try:
        listed, read = both_ways(path)
    except MediaError:  # FFmpeg does not open it either
        return
    assert listed is None or listed == read


def test_no_flipped_bit_of_an_index_makes_a_list_of_other_packets(tmp_path: Path) -> None:
    def all_but_keys(packets: list[Facts]) -> list[tuple[object, ...]]:
        # One more keyframe is found by reading where the index has lost one.
        return [(*packet[:3], *packet[4:]) for packet in packets]

    data = clips.make_clip("h264-pyramid").read_bytes()
    begin = data.rindex(b"moov") - 4
    same = 0
    for seed in range(150):
        path = tmp_path / f"{seed}.mp4"
        path.write_bytes(data[:begin] + clips.flip_bits(data[begin:], seed, 1 + seed % 3))
        try:
            listed, read = both_ways(path)
        except MediaError:
            continue
        if listed is not None:
            assert all_but_keys(listed) == all_but_keys(read), seed
            same += 1
    assert same > 20


def test_endless_boxes_are_given_up(tmp_path: Path) -> None:
    data = clips.make_clip("h264").read_bytes()
    at = data.rindex(b"moov") - 4
    path = tmp_path / "boxes.mp4"
    path.write_bytes(data[:at] + struct.pack(">I4s", 8, b"free") * 5000 + data[at:])
    listed, read = both_ways(path)
    assert listed is None
    assert len(read) == 75
