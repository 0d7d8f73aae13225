"""Makes the small clips that tests run on.

    make_clip(name)                 one clip of `CLIPS` by name; made once, then cached; returns its path
    encode(path, source, *options)  any other clip: an ffmpeg input filter and output options
    ffmpeg(*arguments)              runs imageio-ffmpeg's ffmpeg quietly
    broken(name)                    a file of `BROKEN` by name: not media, or damaged media
    flip_bits(data, seed, count)    a copy of `data` with `count` seeded bits flipped
    CODECS                          names of the clips of the identity tests, one a codec and GOP structure
    ODDITIES                        names of clips that decode well but look unusual

The cache is the folder in VPIPE_TEST_MEDIA, or `vpipe-test-media-UID` in the system's temporary folder. A clip's file
name holds a hash of its recipe, so a changed recipe never meets an old file. Clips are 320x180, 75 frames at 25/s,
with a group of pictures every 12 to 25 frames, where the name does not say otherwise.
"""

from __future__ import annotations

import functools
import hashlib
import os
import random
import subprocess
import tempfile
from pathlib import Path

import imageio_ffmpeg

SOURCE = "testsrc2=size=320x180:rate=25:duration=3"
"""Moving shapes, sharp edges, a frame counter: every frame differs."""


def _x264(params: str, *more: str) -> tuple[str, ...]:
    return (
        *("-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p", "-threads", "1"),
        *("-x264-params", f"scenecut=0:{params}", *more),
    )


def _x265(params: str) -> tuple[str, ...]:
    params = f"scenecut=0:pools=1:frame-threads=1:log-level=none:{params}"
    return ("-c:v", "libx265", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-x265-params", params)


def _pix(name: str) -> tuple[str, ...]:
    return ("-c:v", "ffv1", "-level", "3", "-g", "10", "-pix_fmt", name)


_VFR = "settb=1/1000,setpts='if(lt(mod(N,7),3),N*40,N*40+mod(N*13,17))/1000/TB'"

CLIPS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    # name: (extension, input filter, output options)
    "h264": ("mp4", SOURCE, _x264("keyint=25:bframes=2:open-gop=0")),
    "h264-open": ("mp4", SOURCE, _x264("keyint=15:min-keyint=15:bframes=3:b-adapt=0:open-gop=1")),
    "h264-open-ts": ("ts", SOURCE, _x264("keyint=15:min-keyint=15:bframes=3:b-adapt=0:open-gop=1")),
    "h264-pyramid": ("mp4", SOURCE, _x264("keyint=24:bframes=7:b-adapt=0:b-pyramid=normal:ref=4")),
    "h264-pyramid-open": ("mkv", SOURCE, _x264("keyint=16:min-keyint=16:bframes=7:b-adapt=0:b-pyramid=normal:open-gop=1")),
    "h264-cavlc": ("mp4", SOURCE, _x264("keyint=12:bframes=0:cabac=0:ref=1", "-profile:v", "baseline")),
    "h264-intra": ("mp4", SOURCE, _x264("keyint=1")),
    "h264-interlaced": ("ts", SOURCE, _x264("keyint=15:bframes=2", "-flags", "+ildct+ilme")),
    "hevc-open": ("mp4", SOURCE, _x265("keyint=15:min-keyint=15:bframes=4:b-adapt=0:open-gop=1")),
    "hevc-open-ts": ("ts", SOURCE, _x265("keyint=15:min-keyint=15:bframes=4:b-adapt=0:open-gop=1")),
    "hevc-closed": ("mkv", SOURCE, _x265("keyint=20:min-keyint=20:bframes=3:open-gop=0")),
    "vp8": ("webm", SOURCE, ("-c:v", "libvpx", "-g", "20", "-b:v", "300k", "-deadline", "realtime", "-cpu-used", "8",
                             "-auto-alt-ref", "1", "-lag-in-frames", "10")),
    "vp9": ("webm", SOURCE, ("-c:v", "libvpx-vp9", "-g", "20", "-b:v", "300k", "-deadline", "good", "-cpu-used", "8",
                             "-auto-alt-ref", "1", "-lag-in-frames", "10")),
    "av1": ("mp4", SOURCE, ("-c:v", "libsvtav1", "-preset", "12", "-g", "25", "-crf", "50", "-pix_fmt", "yuv420p")),
    "av1-mkv": ("mkv", SOURCE, ("-c:v", "libaom-av1", "-cpu-used", "8", "-g", "20", "-b:v", "200k",
                                "-lag-in-frames", "10", "-usage", "realtime")),
    "mpeg2-ts": ("ts", SOURCE, ("-c:v", "mpeg2video", "-g", "12", "-bf", "2", "-b:v", "1M")),
    "mpeg2-ps": ("mpg", SOURCE, ("-c:v", "mpeg2video", "-g", "12", "-bf", "2", "-b:v", "1M")),
    "mpeg4-avi": ("avi", SOURCE, ("-c:v", "mpeg4", "-g", "12", "-bf", "0", "-q:v", "5")),
    "mpeg4-b-avi": ("avi", SOURCE, ("-c:v", "mpeg4", "-g", "12", "-bf", "2", "-q:v", "5")),
    "h264-b-avi": ("avi", SOURCE, _x264("keyint=15:bframes=2")),
    "vfr-mkv": ("mkv", f"{SOURCE},{_VFR}", (*_x264("keyint=15:bframes=2"), "-fps_mode", "passthrough",
                                          "-enc_time_base", "1/1000")),
    "mjpeg-avi": ("avi", SOURCE, ("-c:v", "mjpeg", "-q:v", "5", "-pix_fmt", "yuvj420p")),
    "flv": ("flv", SOURCE, _x264("keyint=15:bframes=2")),
    # oddities
    "edit-list": ("mp4", SOURCE, _x264("keyint=25:bframes=2", "-ss", "0")),  # replaced by _edit_list
    "rotated": ("mp4", SOURCE, _x264("keyint=25:bframes=2")),  # replaced by _rotated
    "no-pts": ("mkv", SOURCE, (*_x264("keyint=25:bframes=2"), "-output_ts_offset", "-1",
                                   "-avoid_negative_ts", "disabled")),
    "repeated-pts": ("mkv", f"{SOURCE},setpts=N/TB/25-eq(mod(N\\,20)\\,7)/25/TB", (*_x264("keyint=15:bframes=0"), "-fps_mode",
                                                                                "passthrough")),
    "raw-h264": ("h264", SOURCE, _x264("keyint=15:bframes=2")),
    "raw-h264-low-delay": ("h264", SOURCE, _x264("keyint=15:bframes=0")),
    "raw-mpeg2": ("m2v", SOURCE, ("-c:v", "mpeg2video", "-g", "12", "-bf", "2", "-b:v", "1M")),
    "late-start": ("ts", SOURCE, (*_x264("keyint=25:bframes=2"), "-output_ts_offset", "95000")),
    "odd-size": ("mkv", "testsrc2=size=336x192:rate=25:duration=1,format=yuv444p,crop=333:187:exact=1", _pix("yuv420p")),
    "ten-bit": ("mp4", SOURCE, ("-c:v", "libx265", "-preset", "ultrafast", "-pix_fmt", "yuv420p10le", "-x265-params",
                                "keyint=20:log-level=none:pools=1:frame-threads=1")),
    "yuv422": ("mkv", SOURCE, _pix("yuv422p")),
    "yuv422-ten": ("mkv", SOURCE, _pix("yuv422p10le")),
    "yuv444": ("mkv", SOURCE, _pix("yuv444p")),
    "yuv411": ("mkv", SOURCE, _pix("yuv411p")),
    "yuv410": ("mkv", SOURCE, _pix("yuv410p")),
    "gray": ("mkv", SOURCE, _pix("gray")),
    "gray-ten": ("mkv", SOURCE, _pix("gray10le")),
    "alpha": ("mkv", SOURCE, _pix("yuva420p")),
    "rgb": ("mov", SOURCE, ("-c:v", "qtrle", "-g", "10", "-pix_fmt", "rgb24")),
    "gbr": ("mkv", SOURCE, ("-c:v", "libx264rgb", "-preset", "ultrafast", "-qp", "0", "-g", "20")),
    "nv12": ("nut", SOURCE, ("-c:v", "rawvideo", "-pix_fmt", "nv12", "-t", "0.4")),
    "yuyv": ("avi", SOURCE, ("-c:v", "rawvideo", "-pix_fmt", "yuyv422", "-t", "0.4")),
    "gif": ("gif", SOURCE, ("-t", "1")),
    "full-range": ("mp4", f"{SOURCE},scale=out_range=full", _x264("keyint=25:fullrange=on", "-color_range", "pc")),
    "bt709": ("mp4", f"{SOURCE},scale=out_color_matrix=bt709", _x264("keyint=25:colormatrix=bt709")),
    "one-frame": ("mp4", SOURCE, _x264("keyint=25", "-frames:v", "1")),
    "two-frames": ("mp4", SOURCE, _x264("keyint=25", "-frames:v", "2")),
    "tiny": ("mkv", "testsrc2=size=8x8:rate=25:duration=1", _pix("yuv420p")),
    "with-audio": ("mp4", SOURCE, _x264("keyint=25:bframes=2")),  # replaced by _with_audio
    "fragmented": ("mp4", SOURCE, _x264("keyint=15:bframes=2", "-movflags", "frag_keyframe+empty_moov")),
    "hd": ("mp4", "testsrc2=size=1920x1080:rate=30:duration=2", _x264("keyint=30:bframes=2")),
}

CODECS = tuple(n for n in list(CLIPS)[: list(CLIPS).index("edit-list")] if n not in ("h264-interlaced", "h264-b-avi"))
ODDITIES = tuple(list(CLIPS)[list(CLIPS).index("edit-list") : list(CLIPS).index("hd")]) + (
    "h264-interlaced", "size-change", "cover-art", "intra-refresh", "negative-start")  # fmt: skip


def folder() -> Path:
    """Return the cache, made if need be."""
    named = os.environ.get("VPIPE_TEST_MEDIA")
    path = Path(named) if named else Path(tempfile.gettempdir()) / f"vpipe-test-media-{os.getuid()}"
    path.mkdir(parents=True, exist_ok=True)
    return path


def ffmpeg(*arguments: str) -> None:
    """Run ffmpeg; its own words are the message when it fails."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-nostdin", "-v", "error", "-y", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        raise RuntimeError(f"ffmpeg failed: {' '.join(arguments)}\n{done.stderr[-2000:]}")


def encode(path: Path, source: str, *options: str) -> Path:
    """Encode an input filter to `path`, complete or not at all."""
    part = path.with_name(f".{os.getpid()}-{path.name}")
    ffmpeg("-f", "lavfi", "-i", source, *options, str(part))
    part.replace(path)
    return path


def _cached(name: str, extension: str, recipe: object) -> Path:
    return folder() / f"{name}-{hashlib.sha256(repr(recipe).encode()).hexdigest()[:10]}.{extension}"


def _remuxed(name: str, extension: str, *arguments: str) -> Path:
    """Run ffmpeg over other clips; the arguments are the recipe."""
    path = _cached(name, extension, arguments)
    if not path.exists():
        part = path.with_name(f".{os.getpid()}-{path.name}")
        ffmpeg(*arguments, str(part))
        part.replace(path)
    return path


def _edit_list() -> Path:
    """A cut in mid-group by stream copy: the file keeps the group, an edit list hides its start."""
    return _remuxed("edit-list", "mp4", "-ss", "0.5", "-i", str(make_clip("h264")), "-c", "copy")


def _rotated() -> Path:
    return _remuxed("rotated", "mp4", "-display_rotation", "90", "-i", str(make_clip("h264")), "-c", "copy")


def _with_audio() -> Path:
    sine = "sine=frequency=440:duration=3"
    return _remuxed("with-audio", "mp4", "-i", str(make_clip("h264")), "-f", "lavfi", "-i", sine, "-c:v", "copy",
                    "-c:a", "aac", "-b:a", "64k")  # fmt: skip


def _size_change() -> Path:
    """Two sizes one after the other in one transport stream."""
    path = _cached("size-change", "ts", (CLIPS["h264-open-ts"], "3.08"))
    if not path.exists():
        other = CLIPS["h264-open-ts"]
        small = encode(folder() / f".small-{os.getpid()}.ts", SOURCE.replace("320x180", "240x136"), *other[2],
                       "-output_ts_offset", "3.08")  # fmt: skip
        part = path.with_name(f".{os.getpid()}-{path.name}")
        part.write_bytes(make_clip("h264-open-ts").read_bytes() + small.read_bytes())
        small.unlink()
        part.replace(path)
    return path


def _cover_art() -> Path:
    """A film with a still picture as its first video stream."""
    cover = _remuxed("cover", "png", "-f", "lavfi", "-i", "testsrc2=size=64x64", "-frames:v", "1")
    return _remuxed("cover-art", "mp4", "-i", str(cover), "-i", str(make_clip("h264")), "-map", "0", "-map", "1", "-c",
                    "copy", "-disposition:v:0", "attached_pic")  # fmt: skip


def _audio_only() -> Path:
    return _remuxed("audio-only", "mp4", "-f", "lavfi", "-i", "sine=frequency=440:duration=1", "-c:a", "aac")


def _intra_refresh() -> Path:
    """H.264 with no keyframe but the first: a band of intra blocks moves over the picture."""
    path = _cached("intra-refresh", "ts", CLIPS["h264"])
    return path if path.exists() else encode(path, SOURCE, *_x264("keyint=20:bframes=0:intra-refresh=1"))


def _negative_start() -> Path:
    """The first group lies before time 0, and an edit list hides its start."""
    return _remuxed("negative-start", "mp4", "-i", str(make_clip("h264-pyramid")), "-c", "copy", "-output_ts_offset",
                    "-1", "-avoid_negative_ts", "disabled")  # fmt: skip


_MADE = {
    "negative-start": _negative_start,
    "edit-list": _edit_list,
    "rotated": _rotated,
    "with-audio": _with_audio,
    "size-change": _size_change,
    "cover-art": _cover_art,
    "intra-refresh": _intra_refresh,
}


@functools.cache
def make_clip(name: str) -> Path:
    """Return the path of a clip of `CLIPS` (or of `ODDITIES`); made on first use."""
    if name in _MADE:
        return _MADE[name]()
    extension, source, options = CLIPS[name]
    path = _cached(name, extension, CLIPS[name])
    return path if path.exists() else encode(path, source, *options)


def flip_bits(data: bytes, seed: int, count: int = 20) -> bytes:
    """Return a copy of `data` with `count` bits flipped at places that `seed` chooses."""
    draw = random.Random(seed)
    changed = bytearray(data)
    for _ in range(count):
        changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def _no_keyframe() -> bytes:
    """A transport stream cut so that no keyframe is left."""
    import av

    one = _remuxed("one-group", "ts", "-f", "lavfi", "-i", SOURCE, *_x264("keyint=250:bframes=0"))
    data = one.read_bytes()
    with av.open(str(one)) as container:
        second = [packet.pos for packet in container.demux(video=0) if packet.pos][1]
    tables = data[: 188 * 3]  # service description, PAT and PMT
    return tables + data[second:]


def _moov_missing() -> bytes:
    data = make_clip("h264").read_bytes()
    return data[: data.rindex(b"moov") - 4]


BROKEN = {
    # name: (extension, maker)
    "zero": ("mp4", lambda: b""),
    "text": ("mp4", lambda: b"This is a letter, not a video.\n" * 200),
    "cut-10": ("mp4", lambda: _cut("fragmented", 0.10)),
    "cut-50": ("mp4", lambda: _cut("fragmented", 0.50)),
    "cut-99": ("mp4", lambda: _cut("fragmented", 0.99)),
    "cut-50-mkv": ("mkv", lambda: _cut("vfr-mkv", 0.50)),
    "cut-50-ts": ("ts", lambda: _cut("h264-open-ts", 0.50)),
    "audio-only": ("mp4", lambda: _audio_only().read_bytes()),
    "no-keyframe": ("ts", _no_keyframe),
    "moov-missing": ("mp4", _moov_missing),
    "flipped": ("mp4", lambda: flip_bits(make_clip("h264").read_bytes(), 1)),
    "flipped-ts": ("ts", lambda: flip_bits(make_clip("h264-open-ts").read_bytes(), 2, 60)),
}


def _cut(name: str, share: float) -> bytes:
    data = make_clip(name).read_bytes()
    return data[: int(len(data) * share)]


@functools.cache
def broken(name: str) -> Path:
    """Return the path of a file of `BROKEN`; made on first use."""
    extension, maker = BROKEN[name]
    data = maker()
    path = folder() / f"{name}-{hashlib.sha256(data).hexdigest()[:10]}.{extension}"
    if not path.exists():
        part = path.with_name(f".{os.getpid()}-{path.name}")
        part.write_bytes(data)
        part.replace(path)
    return path
