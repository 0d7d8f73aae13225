"""Segments decoded apart, in any order, in fresh openings: the same frames and the same bytes as start to end."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from tests import media as clips
from vpipe.frame import FrameFlag
from vpipe.media import Picture, Sample, Segment, open_media
from vpipe.media import segments as cutting
from vpipe.media.concealment import Concealment
from vpipe.media.container import Container, decode_listening
from vpipe.media.reader import Losses, flags_of
from vpipe.media.segments import Weight
from vpipe.view import View, make_view, view_fields
from vpipe.viewconfig import ViewConfig

SAMPLES = ["every", "2/s", "7/3/s", "keyframes", "n=5"]
PAIR = ViewConfig(kind="fragments", grid=4, patch=32, pair=True)
SMALL = ViewConfig(kind="resize", width=96, height=54)

Frame = tuple[int, int, int, bytes]  # pts, index, flags, view bytes


@functools.cache
def views() -> dict[bool, View]:
    return {True: make_view(PAIR), False: make_view(SMALL)}


def rendered(picture: Picture, pair: bool) -> Frame:
    out = {field.name: np.zeros(field.shape, field.dtype) for field in view_fields(PAIR if pair else SMALL)}
    flags = picture.flags | views()[pair].render(picture, out)
    return picture.pts, picture.index, int(flags), out["view"].tobytes()


@functools.lru_cache(maxsize=2)
def sequential(path: Path) -> tuple[list[av.VideoFrame], list[bool], list[int]]:
    """Decode all with plain PyAV, one thread; the packets' word says which are keyframes. Last, what was lost."""
    with av.open(str(path)) as container:
        stream = next(s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic)
        number = stream.index
        keys = {p.pts for p in container.demux(stream) if p.size and p.is_keyframe}
    with av.open(str(path)) as container:
        stream = container.streams[number]
        stream.codec_context.thread_count = 1
        frames, lost, losses, concealment = [], [], Losses(), Concealment()
        for packet in container.demux(stream):
            with contextlib.suppress(av.error.InvalidDataError):
                for frame in decode_listening(stream.codec_context, packet, concealment):
                    frames.append(frame)
                    lost.append(losses.upto(frame, concealment.share(frame)))
    return frames, [frame.pts in keys for frame in frames], lost


def expected(path: Path, sample: Sample, pair: bool) -> list[Frame]:
    """Choose after decoding everything, neighbours by the rule."""
    frames, keys, lost = sequential(path)
    base = frames[0].time_base
    pts = [frame.pts for frame in frames]
    made, before = [], None
    for rank in sample.choose(pts, keys, base):
        if keys[rank] or rank == 0:
            has_next = rank + 1 < len(frames) and not keys[rank + 1]
            other = rank + 1 if has_next else max(rank - 1, 0)
        else:
            other = rank - 1
        frame = frames[rank]
        flags = flags_of(frame, keys[rank], lost[rank])
        picture = Picture(pts[rank], rank, flags, frame, frames[other], base, pts[0], before, frame.width, frame.height)
        made.append(rendered(picture, pair))
        before = pts[rank]
    return made


def segmented(path: Path, sample: Sample, pair: bool, threads: int = 1) -> tuple[list[Frame], int]:
    """Plan in one opening; read the odd segments, then the even ones, in others; as another process would."""
    with open_media(str(path)) as media:
        _, planned = media.plan(sample, pair=pair)
    sent = [json.dumps(segment.to_dict()) for segment in planned]
    assert max(map(len, sent)) < 100_000
    segments = [Segment.from_dict(json.loads(text)) for text in sent]
    assert segments == planned
    made: list[Frame] = []
    for part in (segments[1::2], segments[::2]):
        with open_media(str(path)) as media:
            for segment in part:
                last = None
                for picture in media.read(segment, sample, pair=pair, threads=threads):
                    assert segment.start_pts <= picture.pts
                    assert segment.end_pts is None or picture.pts < segment.end_pts
                    assert last is None or picture.pts > last
                    last = picture.pts
                    made.append(rendered(picture, pair))
            assert media.stats.missing == 0
    return sorted(made), len(segments)


def assert_same(got: list[Frame], want: list[Frame]) -> None:
    assert [frame[:3] for frame in got] == [frame[:3] for frame in want]
    for mine, plain in zip(got, want, strict=True):
        assert mine[3] == plain[3], f"other bytes at pts {mine[0]}"


@pytest.fixture(autouse=True)
def short_segments(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(cutting, "SHORTEST", 20)
    return


@pytest.mark.parametrize("pair", [False, True], ids=["single", "pair"])
@pytest.mark.parametrize("name", clips.CODECS)
def test_segments_together_equal_sequential_decoding(name: str, pair: bool) -> None:
    path = clips.make_clip(name)
    for text in SAMPLES:
        sample = Sample.parse(text)
        got, count = segmented(path, sample, pair)
        assert_same(got, expected(path, sample, pair))
        if text == "every":
            assert count >= 2, "one segment proves nothing"


@pytest.mark.parametrize("name", ["h264-pyramid-open", "hevc-open", "vp9", "mpeg2-ts", "av1"])
def test_decoder_threads_change_nothing(name: str) -> None:
    path = clips.make_clip(name)
    for text in ("every", "2/s"):
        got, _ = segmented(path, Sample.parse(text), True, threads=3)
        assert_same(got, expected(path, Sample.parse(text), True))


@pytest.mark.parametrize("name", clips.ODDITIES)
def test_unusual_media_equal_sequential_decoding(name: str) -> None:
    path = clips.make_clip(name)
    for text, pair in (("every", True), ("2/s", False), ("keyframes", True)):
        sample = Sample.parse(text)
        got, _ = segmented(path, sample, pair)
        assert_same(got, expected(path, sample, pair))


@pytest.mark.parametrize("name", clips.UNTIMED)
def test_media_without_sound_times_give_every_frame_in_order_under_rising_pts(name: str) -> None:
    path = clips.make_clip(name)
    frames, *_ = sequential(path)
    small = views()[False]
    sample = Sample.parse("every")
    with open_media(str(path)) as media:
        info, segments = media.plan(sample)
        pictures = [picture for segment in segments for picture in media.read(segment, sample)]
        assert [picture.index for picture in pictures] == list(range(len(frames)))
        assert info.frames == len(frames)
        pts = [picture.pts for picture in pictures]
        assert (np.diff(pts) > 0).all()
        assert pts[0] == info.start_pts
        one, other = (np.zeros((54, 96, 3), np.uint8) for _ in range(2))
        for picture, frame in zip(pictures, frames, strict=True):
            plain = Picture(0, 0, FrameFlag(0), frame, None, picture.time_base, 0, None, frame.width, frame.height)
            small.render(picture, {"view": one})
            small.render(plain, {"view": other})
            assert np.array_equal(one, other)


@pytest.mark.parametrize("text", ["2/s", "keyframes", "n=5"])
@pytest.mark.parametrize("name", clips.UNTIMED)
def test_media_without_sound_times_are_sampled_and_paired_by_the_same_rules(name: str, text: str) -> None:
    path = clips.make_clip(name)
    frames, _, lost = sequential(path)
    keys = [frame.key_frame for frame in frames]
    sample = Sample.parse(text)
    with open_media(str(path)) as media:
        _, segments = media.plan(sample, pair=True)
        got = [rendered(picture, True) for segment in segments for picture in media.read(segment, sample, pair=True)]
        every = Sample.parse("every")
        _, segments = media.plan(every)
        pts = [picture.pts for segment in segments for picture in media.read(segment, every)]
        base = Fraction(*media.plan(every)[0].time_base)
    want = []
    for rank in sample.choose(pts, keys, base):
        other = rank - 1
        if keys[rank] or rank == 0:
            other = rank + 1 if rank + 1 < len(frames) and not keys[rank + 1] else max(rank - 1, 0)
        frame = frames[rank]
        near = frames[other]
        flags = flags_of(frame, keys[rank], lost[rank])
        picture = Picture(pts[rank], rank, flags, frame, near, base, pts[0], None, frame.width, frame.height)
        want.append(rendered(picture, True))
    assert_same(got, want)


def test_facts_that_the_decoder_tells_are_flagged() -> None:
    sample = Sample.parse("n=1")
    for name, flag in (("h264-interlaced", FrameFlag.INTERLACED), ("full-range", FrameFlag.FULL_RANGE)):
        for clip, expected_flag in ((name, True), ("h264", False)):
            with open_media(str(clips.make_clip(clip))) as media:
                _, segments = media.plan(sample)
                (picture,) = (picture for segment in segments for picture in media.read(segment, sample))
            assert (flag in picture.flags) == expected_flag


@pytest.mark.parametrize("name", ["h264", "h264-open", "h264-open-ts", "vp9"])
def test_segments_weigh_what_their_packets_do_whichever_frames_are_taken(name: str) -> None:
    path = clips.make_clip(name)
    with av.open(str(path)) as container:
        packets = [(packet.size, packet.is_keyframe) for packet in container.demux(video=0) if packet.size]
    expected = (
        len(packets),
        sum(size for size, _ in packets),
        sum(key for _, key in packets),
        sum(size for size, key in packets if key),
    )
    quantisers: dict[int, tuple[float | None, float | None]] = {}
    for sample in ("every", "2/s", "keyframes"):
        with open_media(str(path)) as media:
            _, segments = media.plan(Sample.parse(sample))
        sums = np.sum([dataclasses.astuple(segment.weight)[:4] for segment in segments], axis=0)
        assert tuple(sums) == expected
        for segment in segments:
            coarse = segment.weight.key_quantiser, segment.weight.other_quantiser
            assert quantisers.setdefault(segment.start_pts, coarse) == coarse
            assert all(value is not None and 1 < value < 256 for value in coarse)


def test_weight_is_still_known_of_an_index_that_tells_nothing_of_quantisers() -> None:
    values = Segment(0, 0, None, 5, weight=Weight(5, 400, 1, 300, 20.0, 23.5)).to_dict()
    for name in ("key_quantiser", "other_quantiser"):
        del values["weight"][name]
    assert Segment.from_dict(json.loads(json.dumps(values))).weight == Weight(5, 400, 1, 300)


def _never(self: Container, time: int) -> bool:
    return False


def _late(self: Container, time: int) -> bool:
    return _seek(self, time + int(1 / self.time_base))


def _early(self: Container, time: int) -> bool:
    return _seek(self, time - int(1 / self.time_base))


def _with_a_gap(self: Container, time: int) -> bool:
    if not _seek(self, time):
        return False
    found = [packet for packet in self._packets if packet.pts is not None]
    self._packets = iter(found[:3] + found[4:])
    return True


_seek = Container.seek


@pytest.mark.parametrize("landing", [_never, _late, _early, _with_a_gap])
@pytest.mark.parametrize("name", ["h264-open", "h264-open-ts", "vfr-mkv"])
def test_seeks_may_land_anywhere(name: str, landing: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Container, "seek", landing)
    monkeypatch.setattr("vpipe.media.cursor.JUMP_PACKETS", {})
    monkeypatch.setattr("vpipe.media.cursor.JUMP_OTHERS", 0)
    path = clips.make_clip(name)
    for text in ("every", "n=5", "keyframes"):
        got, _ = segmented(path, Sample.parse(text), True)
        assert_same(got, expected(path, Sample.parse(text), True))


@pytest.mark.parametrize("text", ["2/s", "n=7", "keyframes"])
def test_sampling_decodes_little_that_it_does_not_need(text: str) -> None:
    path = clips.make_clip("h264-pyramid")
    sample = Sample.parse(text)
    with open_media(str(path)) as media:
        info, segments = media.plan(sample)
        before = media.stats.decoded
        wanted = sum(1 for segment in segments for _ in media.read(segment, sample))
        decoded = media.stats.decoded - before
    assert wanted <= decoded <= info.frames * 2 // 3
    if text == "keyframes":
        assert decoded == wanted


def test_neighbour_of_a_lone_frame_is_itself() -> None:
    with open_media(str(clips.make_clip("one-frame"))) as media:
        _, segments = media.plan(Sample.parse("every"), pair=True)
        (picture,) = media.read(segments[0], Sample.parse("every"), pair=True)
    assert picture.neighbour is picture.frame
