"""The quantiser of packets, against FFmpeg's own reading of their headers (its `trace_headers`)."""

from __future__ import annotations

import functools
import hashlib
import io
import random
import re
from pathlib import Path

import av
import pytest
from av.bitstream import BitStreamFilterContext

from tests import headers, media
from vpipe.media.ffmpeg_log import listening
from vpipe.media.quantiser import Quantisers

SMALL = "testsrc2=size=96x64:rate=25:duration=1"
FADE = f"{SMALL},fade=in:0:12,fade=out:16:9"
"""Brightness that changes calls for weighted prediction."""
WIDE = "testsrc2=size=1100x200:rate=25:duration=0.28"
"""Enough columns for tiles."""
MIDDLE = "testsrc2=size=320x180:rate=25:duration=0.8"
GROWN = f"{SMALL},format=yuv420p10le"

_AOM = "-c:v libaom-av1 -cpu-used 8 -crf 40 -threads 1 -g 15 -aom-params"
_SVT = "-c:v libsvtav1 -preset 12 -crf 40 -g 12 -svtav1-params lp=1"
_VPX = "-c:v libvpx-vp9 -cpu-used 5 -b:v 60k -g 15 -threads 1"


def _x264(params: str) -> str:
    return f"-c:v libx264 -preset medium -threads 1 -x264-params keyint=12:{params}"


def _x265(params: str) -> str:
    return f"-c:v libx265 -preset medium -x265-params pools=1:frame-threads=1:log-level=none:keyint=12:{params}"


CLIPS: dict[str, tuple[str, str, str]] = {
    # name: (extension, input filter, output options)
    "x264": ("mp4", FADE, _x264("bframes=3:b-pyramid=normal:weightp=2:ref=4:crf=28")),
    "x264-cavlc": ("mp4", FADE, _x264("cabac=0:bframes=2:weightp=2:crf=33")),
    "x264-ts": ("ts", SMALL, _x264("bframes=3:open-gop=1:ref=4:crf=20")),
    "x264-avi": ("avi", SMALL, _x264("bframes=2:crf=26")),
    "x264-mkv": ("mkv", SMALL, _x264("bframes=2:crf=30:slices=3")),
    "x264-raw": ("h264", SMALL, _x264("bframes=2:crf=30:slices=3")),
    "x264-flv": ("flv", SMALL, _x264("bframes=2:crf=30:aud=1")),
    "x264-mbaff": ("ts", FADE, _x264("interlaced=1:bframes=3:b-pyramid=strict:weightp=2:ref=6:crf=25")),
    "x264-baseline": ("mp4", SMALL, _x264("crf=40") + " -profile:v baseline"),
    "x264-temporal": ("mp4", SMALL, _x264("crf=31:bframes=5:direct=temporal:b-adapt=0:weightb=1")),
    "x264-ten": ("mp4", GROWN, _x264("crf=5:bframes=2")),
    "x264-444": ("mkv", f"{FADE},format=yuv444p", _x264("crf=30:cqm=jvt:bframes=2")),
    "x264-grey": ("mkv", f"{FADE},format=gray", _x264("crf=30:bframes=2:weightp=2")),
    "x264-bitrate": ("mp4", SMALL, _x264("bitrate=150:vbv-maxrate=150:vbv-bufsize=60:nal-hrd=vbr")),
    "openh264": ("mp4", SMALL, "-c:v libopenh264 -b:v 150k -g 12 -slices 2"),
    "x265": ("mp4", FADE, _x265("bframes=4:weightp=1:weightb=1:crf=30:ref=4")),
    "x265-open-ts": ("ts", SMALL, _x265("open-gop=1:bframes=4:b-adapt=0:crf=26:repeat-headers=1")),
    "x265-slices": ("mkv", "testsrc2=size=320x180:rate=25:duration=0.4", _x265("slices=3:crf=32:tskip=1")),
    "x265-ten": ("mp4", GROWN, _x265("crf=3:bframes=2:scaling-list=default")),
    "x265-444": ("mkv", f"{FADE},format=yuv444p", _x265("crf=30:weightb=1:amp=1:rect=1:aq-mode=3")),
    "x265-grey": ("mkv", f"{FADE},format=gray", _x265("crf=30:weightb=1")),
    "x265-plain": ("mp4", SMALL, _x265("crf=30:sao=0:temporal-mvp=0:wpp=0:deblock=0:hrd=0:opt-ref-list-length-pps=1")),
    "x265-opt": ("mp4", FADE, _x265("bitrate=80:opt-qp-pps=1:opt-ref-list-length-pps=1:multi-pass-opt-rps=1:ref=5")),
    "x265-temporal": ("mp4", SMALL, _x265("crf=30:temporal-layers=3:b-adapt=0:bframes=3:hevc-aq=1")),
    "kvazaar": ("mp4", SMALL, "-c:v libkvazaar -kvazaar-params period=16,qp=30,gop=8,rd=0,tiles=2x1"),
    "kvazaar-low": ("ts", SMALL, "-c:v libkvazaar -kvazaar-params period=0,qp=22,gop=lp-g4d3t1,ref=3,transform-skip=1"),
    "vp9": ("webm", SMALL, f"{_VPX} -auto-alt-ref 1 -lag-in-frames 16 -arnr-maxframes 5"),
    "vp9-layers": ("webm", SMALL, f"{_VPX} -auto-alt-ref 6 -lag-in-frames 19"),
    "vp9-mp4": ("mp4", SMALL, f"{_VPX} -deadline realtime -lag-in-frames 0 -aq-mode 3"),
    "vp9-resilient": ("ivf", SMALL, f"{_VPX} -error-resilient 1 -frame-parallel 1"),
    "vp9-444": ("webm", f"{SMALL},format=yuv444p", f"{_VPX} -auto-alt-ref 1 -lag-in-frames 10"),
    "vp9-ten": ("webm", GROWN, f"{_VPX} -auto-alt-ref 1 -lag-in-frames 10"),
    "vp9-rgb": ("webm", f"{SMALL},format=gbrp", _VPX),
    "vp9-tiles": ("webm", WIDE, f"{_VPX} -tile-columns 2"),
    "aom": ("mp4", FADE, f"-lag-in-frames 12 {_AOM} aq-mode=1"),
    "aom-mkv": ("mkv", SMALL, f"-error-resilience default {_AOM} sb-size=64"),
    "aom-obu": ("obu", SMALL, f"{_AOM} sb-size=128:enable-order-hint=0"),
    "aom-ivf": ("ivf", SMALL, f"-lag-in-frames 12 {_AOM} timing-info=model"),
    "aom-constant": ("ivf", SMALL, f"{_AOM} timing-info=constant:enable-ref-frame-mvs=0"),
    "aom-tiles": ("webm", WIDE, f"{_AOM} tile-columns=2:tile-rows=1"),
    "aom-tile-widths": ("webm", WIDE, f"{_AOM} tile-width=3,5,4:tile-height=1,2"),
    "aom-screen": ("mkv", SMALL, f"{_AOM} tune-content=screen"),
    "aom-still": ("mkv", SMALL, f"-still-picture 1 -frames:v 1 {_AOM} aq-mode=1"),
    "aom-ten-grain": ("mkv", GROWN, f"-lag-in-frames 5 {_AOM} film-grain-test=3"),
    "aom-grey": ("mkv", f"{SMALL},format=gray", f"{_AOM} aq-mode=1"),
    "svt": ("mp4", SMALL, _SVT),
    "svt-low-delay": ("ivf", SMALL, f"{_SVT}:pred-struct=1:rc=2:tbr=60"),
    "svt-super-resolution": ("mp4", MIDDLE, f"{_SVT}:superres-mode=2"),
    "svt-resized": ("mkv", MIDDLE, f"{_SVT}:resize-mode=2"),
    "svt-both": ("mkv", MIDDLE, f"{_SVT}:resize-mode=2:superres-mode=2:scm=1"),
    "svt-switch": ("mkv", SMALL, f"{_SVT}:pred-struct=1:sframe-dist=4:sframe-mode=2:keyint=-1"),
    "svt-layers": ("mkv", SMALL, f"{_SVT}:hierarchical-levels=4:error-resilient=1:scm=2"),
    "rav1e": ("mkv", SMALL, "-c:v librav1e -speed 10 -qp 120 -g 12 -rav1e-params low_latency=false"),
    "mpeg2": ("ts", SMALL, "-c:v mpeg2video -g 12 -bf 2 -b:v 200k"),
    "mpeg2-non-linear": ("mpg", SMALL, "-c:v mpeg2video -g 12 -bf 2 -b:v 150k -qmax 28 -non_linear_quant 1"),
    "mpeg2-raw": ("m2v", SMALL, "-c:v mpeg2video -g 12 -bf 2 -qscale:v 6"),
    "mpeg2-interlaced": ("mp4", SMALL, "-c:v mpeg2video -flags +ildct+ilme -g 12 -bf 2 -b:v 300k"),
    "mpeg2-422": ("mkv", f"{SMALL},format=yuv422p", "-c:v mpeg2video -g 12 -b:v 300k -intra_vlc 1"),
    "mpeg2-tall": ("mkv", "testsrc2=size=64x3000:rate=25:duration=0.2", "-c:v mpeg2video -qscale:v 7 -bf 0"),
}


def clip(name: str, recipe: tuple[str, str, str]) -> Path:
    path = media.folder() / f"q-{name}-{hashlib.sha256(repr(recipe).encode()).hexdigest()[:10]}.{recipe[0]}"
    return path if path.exists() else media.encode(path, recipe[1], f"{recipe[2]} -bitexact")


@functools.cache
def packets(path: Path) -> tuple[str, bytes, list[bytes]]:
    """The codec, the extradata and the packets of a file."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        context = stream.codec_context
        found = [bytes(packet) for packet in container.demux(stream) if packet.size]
        return context.codec.canonical_name, bytes(context.extradata or b""), found


def read(path: Path) -> list[float | None]:
    codec, extradata, found = packets(path)
    quantisers = Quantisers(codec, extradata)
    return [quantisers.of(packet) for packet in found]


LINE = re.compile(r"\d+ +(\S+) +[01]* = (-?\d+)$|(\w.*)$")
ENCODERS = {"h264": "libx264", "hevc": "libx265", "vp9": "libvpx-vp9", "av1": "libsvtav1", "mpeg2video": "mpeg2video"}


class Ffmpeg:
    """What FFmpeg says of headers, put together by its names of the syntax elements."""

    def __init__(self, stream: av.VideoStream) -> None:
        self._initial: dict[int, int] = {}
        self._now: dict[str, int] = {"picture": 0}
        with listening() as log:
            self._filter = BitStreamFilterContext("trace_headers", stream)
        self._read(log)

    @classmethod
    def of_codec(cls, codec: str) -> Ffmpeg:
        """One that knows no extradata."""
        return cls(av.open(io.BytesIO(), "w", format="nut").add_stream(ENCODERS[codec]))

    def of(self, packet: bytes) -> float | None:
        """The mean of the first slice of each picture; raises where FFmpeg finds the packet damaged."""
        with listening() as log:
            self._filter.filter(av.Packet(packet))
        pictures = self._read(log)
        return sum(pictures.values()) / len(pictures) if pictures else None

    def _read(self, log: list[tuple[int, str, str]]) -> dict[int, int]:
        pictures: dict[int, int] = {}
        now = self._now
        for _, name, text in log:
            match = LINE.match(text.strip()) if name == "trace_headers" else None
            if match is None:
                continue
            name, value, title = match.groups()
            if title in ("Frame", "Frame Header", "Picture Header"):
                now["picture"] += 1
            elif title in ("Slice Header", "Slice Segment Header"):
                now["bottom_field_flag"] = 0
            if title is None:
                now[name] = int(value)
            if name in ("pic_init_qp_minus26", "init_qp_minus26"):
                number = now["pic_parameter_set_id" if name[0] == "p" else "pps_pic_parameter_set_id"]
                self._initial[number] = 26 + int(value)
            elif name == "slice_qp_delta":
                number = now.get("slice_pic_parameter_set_id", now.get("pic_parameter_set_id"))
                pictures.setdefault(now["bottom_field_flag"], self._initial[number] + int(value))
            elif name == "base_q_idx":
                pictures[now["picture"]] = int(value)
            elif name == "quantiser_scale_code":
                scales = NON_LINEAR if now["q_scale_type"] else range(0, 64, 2)
                pictures.setdefault(now["picture"], scales[int(value)])
        return pictures


NON_LINEAR = [0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 18, 20, 22, 24, 28, 32, 36, 40, 44, 48, 52, 56, 64, 72, 80, 88]
NON_LINEAR += [96, 104, 112]


def trace(path: Path) -> list[float | None]:
    """What FFmpeg says of each packet of a file."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        oracle = Ffmpeg(stream)
        return [oracle.of(bytes(packet)) for packet in container.demux(stream) if packet.size]


@pytest.mark.parametrize("name", CLIPS)
def test_quantisers_are_those_that_ffmpeg_reads(name: str) -> None:
    path = clip(name, CLIPS[name])
    expected = trace(path)
    assert read(path) == expected
    assert any(value is not None for value in expected)


@pytest.mark.parametrize("qp", [1, 23, 51])
def test_x264_and_x265_coded_as_they_were_told(qp: int) -> None:
    for options in (_x264(f"qp={qp}:ipratio=1:pbratio=1:bframes=3"), _x265(f"qp={qp}:ipratio=1:pbratio=1:bframes=3")):
        name = options.split()[1]
        assert set(read(clip(f"{name}-{qp}", ("mp4", SMALL, options)))) == {float(qp)}


@pytest.mark.parametrize("scale", [1, 5, 31])
@pytest.mark.parametrize("extension", ["avi", "mp4", "mkv", "m4v"])
def test_mpeg4_was_coded_as_it_was_told(scale: int, extension: str) -> None:
    same = f"-qscale:v {scale} -qmin 1 -i_qfactor 1 -i_qoffset 0 -b_qfactor 1 -b_qoffset 0"
    more = {"mp4": "-mpeg_quant 1 -flags +qpel", "mkv": "-flags +ilme+ildct", "m4v": "-data_partitioning 1"}
    path = clip(f"mpeg4-{scale}", (extension, SMALL, f"-c:v mpeg4 -g 12 -bf 2 {same} {more.get(extension, '')}"))
    assert set(read(path)) == {float(scale)}


@pytest.mark.parametrize("codec", ["mpeg4", "libxvid"])
def test_mpeg4_of_other_kinds_is_read(codec: str) -> None:
    more = "-mpeg_quant 1 -flags +qpel -gmc 1" if codec == "libxvid" else "-i_qfactor 1 -i_qoffset 0 -mpeg_quant 1"
    found = read(clip(f"{codec}-plain", ("avi", SMALL, f"-c:v {codec} -g 12 -qscale:v 4 -bf 0 {more}")))
    assert set(found) <= {4.0, None}
    assert found.count(4.0) > 2


@pytest.mark.parametrize("codec", ["h264", "hevc", "vp9"])
def test_headers_that_no_encoder_writes_are_read_as_ffmpeg_reads_them(codec: str) -> None:
    known = 0
    for seed in range(60):
        oracle, quantisers = Ffmpeg.of_codec(codec), Quantisers(codec, None)
        for packet in getattr(headers, codec)(random.Random(seed)):
            expected = oracle.of(packet)
            assert quantisers.of(memoryview(packet)) == expected, f"seed {seed}"
            known += expected is not None
    assert known > 300


def test_both_fields_of_an_mpeg2_picture_count() -> None:
    codec, extradata, found = packets(clip("mpeg2", CLIPS["mpeg2"]))
    oracle, quantisers = Ffmpeg.of_codec(codec), Quantisers(codec, extradata)
    oracle.of(found[0])
    fields = []
    for structure, packet in zip((1, 2), found[1:3], strict=True):
        at = packet.index(b"\0\0\1\xb5") + 6  # picture_structure: the last bits of the extension's third byte
        fields.append(packet[:at] + bytes([packet[at] & 0xFC | structure]) + packet[at + 1 :])
    expected = [oracle.of(fields[0]), oracle.of(fields[1]), oracle.of(b"".join(fields))]
    assert [quantisers.of(fields[0]), quantisers.of(fields[1]), quantisers.of(b"".join(fields))] == expected
    assert expected[2] == (expected[0] + expected[1]) / 2


@pytest.mark.parametrize("name", ["x264-ts", "x264-mbaff", "x265-open-ts", "kvazaar-low", "vp9-444", "aom-ivf", "svt"])
def test_what_ffmpeg_still_reads_of_damaged_headers_is_read_alike(name: str) -> None:
    codec, extradata, found = packets(clip(name, CLIPS[name]))
    if codec in ("h264", "hevc"):
        found = [extradata + found[0], *found[1:]]
    chance = random.Random(name)
    read_alike = 0
    for _ in range(40):
        oracle, quantisers = Ffmpeg.of_codec(codec), Quantisers(codec, None)
        where = chance.randrange(6)
        for number, packet in enumerate(found[: where + 2]):
            if number == where:
                head = packet[: chance.choice([20, 60, 200])]
                packet = media.flip_bits(head, chance.getrandbits(32), chance.randrange(1, 4)) + packet[len(head) :]
            value = quantisers.of(packet)
            try:
                expected = oracle.of(packet)
            except (av.error.FFmpegError, KeyError):
                break
            assert value in (expected, None)
            read_alike += value is not None and number >= where
    assert read_alike > 10


def test_a_codec_that_is_not_known_has_none() -> None:
    assert Quantisers("vp8", None).of(b"anything") is None


@pytest.mark.parametrize("codec", ["h264", "hevc", "mpeg1video", "mpeg2video", "mpeg4", "vp9", "av1"])
@pytest.mark.parametrize("extradata", [None, b"", b"\1", b"\x81", b"\1\2\3\4\xff\xff\0", b"\0\0\1", bytes(100)])
def test_nothing_is_read_of_nothing(codec: str, extradata: bytes | None) -> None:
    quantisers = Quantisers(codec, extradata)
    for packet in (b"", b"\0", b"\xff", bytes(5000), b"\xff" * 5000, b"\0\0\1" * 3000, b"\0\0\1\x67" + bytes(9)):
        quantisers.of(packet)
        quantisers.of(memoryview(packet))


@pytest.mark.parametrize("name", ["x264-mbaff", "x264", "x265", "x265-open-ts", "vp9", "aom-ivf", "svt-both", "mpeg2"])
def test_damage_never_raises(name: str) -> None:
    codec, extradata, found = packets(clip(name, CLIPS[name]))
    chance = random.Random(name)
    for _ in range(60):
        headers = media.flip_bits(extradata, chance.getrandbits(32), 1 + chance.randrange(8)) if extradata else b""
        quantisers = Quantisers(codec, chance.choice([extradata, headers, headers[: chance.randrange(99)]]))
        for packet in found[:12]:
            head = packet[: 1 + chance.randrange(400)]
            damaged = media.flip_bits(head, chance.getrandbits(32), 1 + chance.randrange(12))
            value = quantisers.of(chance.choice([head, damaged + packet[400:], damaged, chance.randbytes(200)]))
            assert value is None or isinstance(value, int | float)
