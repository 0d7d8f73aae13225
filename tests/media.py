"""Makes the small clips that tests run on.

    make_clip(name)                 one clip of `CLIPS` by name; made once, then cached; returns its path
    encode(path, source, options)   any other clip: an ffmpeg input filter and output options
    ffmpeg(*arguments)              runs imageio-ffmpeg's ffmpeg quietly
    broken(name)                    a file of `BROKEN` by name: not media, or damaged media
    two_sizes(first, second)        a stream whose picture size changes, for example from `320x180` to `240x136`
    flip_bits(data, seed, count)    a copy of `data` with `count` seeded bits flipped
    CODECS                          names of the clips of the identity tests, one a codec and GOP structure
    ODDITIES                        names of clips that decode well but look unusual
    UNTIMED                         names of clips whose container does not tell when frames are shown

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


def _x264(params: str, more: str = "") -> str:
    head = "-c:v libx264 -preset veryfast -pix_fmt yuv420p -threads 1"
    return f"{head} -x264-params scenecut=0:{params} {more}"


def _x265(params: str, pixels: str = "yuv420p") -> str:
    params = f"scenecut=0:pools=1:frame-threads=1:log-level=none:{params}"
    return f"-c:v libx265 -preset ultrafast -pix_fmt {pixels} -x265-params {params}"


def _ffv1(pixels: str) -> str:
    return f"-c:v ffv1 -level 3 -g 10 -pix_fmt {pixels}"


_RAW = "-c:v rawvideo -t 0.4 -pix_fmt"
_VPX = "-g 20 -b:v 300k -cpu-used 8 -auto-alt-ref 1 -lag-in-frames 10 -deadline"
_OPEN = "keyint=15:min-keyint=15:b-adapt=0:open-gop=1"
_VFR = "settb=1/1000,setpts='if(lt(mod(N,7),3),N*40,N*40+mod(N*13,17))/1000/TB'"
_ODD = "testsrc2=size=336x192:rate=25:duration=1,format=yuv444p,crop=333:187:exact=1"
_REPEATED = f"{SOURCE},setpts=N/TB/25-eq(mod(N\\,20)\\,7)/25/TB"

CLIPS: dict[str, tuple[str, str, str]] = {
    # name: (extension, input filter, output options)
    "h264": ("mp4", SOURCE, _x264("keyint=25:bframes=2:open-gop=0")),
    "h264-open": ("mp4", SOURCE, _x264(f"{_OPEN}:bframes=3")),
    "h264-open-ts": ("ts", SOURCE, _x264(f"{_OPEN}:bframes=3")),
    "h264-pyramid": ("mp4", SOURCE, _x264("keyint=24:bframes=7:b-adapt=0:b-pyramid=normal:ref=4")),
    "h264-pyramid-open": ("mkv", SOURCE, _x264(f"{_OPEN}:bframes=7:b-pyramid=normal")),
    "h264-cavlc": ("mp4", SOURCE, _x264("keyint=12:bframes=0:cabac=0:ref=1", "-profile:v baseline")),
    "h264-intra": ("mp4", SOURCE, _x264("keyint=1")),
    "hevc-open": ("mp4", SOURCE, _x265(f"{_OPEN}:bframes=4")),
    "hevc-open-ts": ("ts", SOURCE, _x265(f"{_OPEN}:bframes=4")),
    "hevc-closed": ("mkv", SOURCE, _x265("keyint=20:min-keyint=20:bframes=3:open-gop=0")),
    "vp8": ("webm", SOURCE, f"-c:v libvpx {_VPX} realtime"),
    "vp9": ("webm", SOURCE, f"-c:v libvpx-vp9 {_VPX} good"),
    "av1": ("mp4", SOURCE, "-c:v libsvtav1 -preset 12 -g 25 -crf 50 -pix_fmt yuv420p"),
    "av1-mkv": ("mkv", SOURCE, "-c:v libaom-av1 -cpu-used 8 -g 20 -b:v 200k -lag-in-frames 10 -usage realtime"),
    "mpeg2-ts": ("ts", SOURCE, "-c:v mpeg2video -g 12 -bf 2 -b:v 1M"),
    "mpeg2-ps": ("mpg", SOURCE, "-c:v mpeg2video -g 12 -bf 2 -b:v 1M"),
    "mpeg4-avi": ("avi", SOURCE, "-c:v mpeg4 -g 12 -bf 0 -q:v 5"),
    "mpeg4-b-avi": ("avi", SOURCE, "-c:v mpeg4 -g 12 -bf 2 -q:v 5"),
    "vfr-mkv": ("mkv", f"{SOURCE},{_VFR}", _x264("keyint=15:bframes=2", "-fps_mode passthrough -enc_time_base 1/1000")),
    "mjpeg-avi": ("avi", SOURCE, "-c:v mjpeg -q:v 5 -pix_fmt yuvj420p"),
    "flv": ("flv", SOURCE, _x264("keyint=15:bframes=2")),
    # oddities
    "h264-interlaced": ("ts", SOURCE, _x264("keyint=15:bframes=2", "-flags +ildct+ilme")),
    "raw-mpeg2": ("m2v", SOURCE, "-c:v mpeg2video -g 12 -bf 2 -b:v 1M"),
    "late-start": ("ts", SOURCE, _x264("keyint=25:bframes=2", "-output_ts_offset 95000")),
    "fragmented": ("mp4", SOURCE, _x264("keyint=15:bframes=2", "-movflags frag_keyframe+empty_moov")),
    "odd-size": ("mkv", _ODD, _ffv1("yuv420p")),
    "tiny": ("mkv", "testsrc2=size=8x8:rate=25:duration=1", _ffv1("yuv420p")),
    "one-frame": ("mp4", SOURCE, _x264("keyint=25", "-frames:v 1")),
    "two-frames": ("mp4", SOURCE, _x264("keyint=25", "-frames:v 2")),
    "ten-bit": ("mp4", SOURCE, _x265("keyint=20", "yuv420p10le")),
    "yuv422": ("mkv", SOURCE, _ffv1("yuv422p")),
    "yuv422-ten": ("mkv", SOURCE, _ffv1("yuv422p10le")),
    "yuv444": ("mkv", SOURCE, _ffv1("yuv444p")),
    "yuv411": ("mkv", SOURCE, _ffv1("yuv411p")),
    "yuv410": ("mkv", SOURCE, _ffv1("yuv410p")),
    "gray": ("mkv", SOURCE, _ffv1("gray")),
    "gray-ten": ("mkv", SOURCE, _ffv1("gray10le")),
    "alpha": ("mkv", SOURCE, _ffv1("yuva420p")),
    "rgb": ("mov", SOURCE, "-c:v qtrle -g 10 -pix_fmt rgb24"),
    "gbr": ("mkv", SOURCE, "-c:v libx264rgb -preset ultrafast -qp 0 -g 20"),
    "nv12": ("nut", SOURCE, f"{_RAW} nv12"),
    "yuyv": ("avi", SOURCE, f"{_RAW} yuyv422"),
    "bottom-up": ("avi", SOURCE, f"{_RAW} bgr24"),
    "gif": ("gif", SOURCE, "-t 1"),
    "full-range": ("mp4", f"{SOURCE},scale=out_range=full", _x264("keyint=25:fullrange=on", "-color_range pc")),
    "bt709": ("mp4", f"{SOURCE},scale=out_color_matrix=bt709", _x264("keyint=25:colormatrix=bt709")),
    # frames whose times the container does not tell
    "h264-b-avi": ("avi", SOURCE, _x264("keyint=15:bframes=2")),
    "no-pts": ("mkv", SOURCE, _x264("keyint=25:bframes=2", "-output_ts_offset -1 -avoid_negative_ts disabled")),
    "repeated-pts": ("mkv", _REPEATED, _x264("keyint=15:bframes=0", "-fps_mode passthrough")),
    "raw-h264": ("h264", SOURCE, _x264("keyint=15:bframes=2")),
    "raw-h264-low-delay": ("h264", SOURCE, _x264("keyint=15:bframes=0")),
    # not in the lists below
    "hd": ("mp4", "testsrc2=size=1920x1080:rate=30:duration=2", _x264("keyint=30:bframes=2")),
}

_NAMES = list(CLIPS)
CODECS = tuple(_NAMES[: _NAMES.index("h264-interlaced")])
UNTIMED = tuple(_NAMES[_NAMES.index("h264-b-avi") : _NAMES.index("hd")])
ODDITIES = (
    *_NAMES[_NAMES.index("h264-interlaced") : _NAMES.index("h264-b-avi")],
    *("edit-list", "rotated", "with-audio", "size-change", "cover-art", "intra-refresh", "negative-start"),
    "no-sync-table",
)


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


def encode(path: Path, source: str, options: str) -> Path:
    """Encode an input filter to `path`, complete or not at all; `options` are separated by spaces."""
    part = path.with_name(f".{os.getpid()}-{path.name}")
    ffmpeg("-f", "lavfi", "-i", source, *options.split(), str(part))
    part.replace(path)
    return path


def _cached(name: str, extension: str, recipe: object) -> Path:
    return folder() / f"{name}-{hashlib.sha256(repr(recipe).encode()).hexdigest()[:10]}.{extension}"


def _remuxed(name: str, extension: str, inputs: list[Path | str], options: str) -> Path:
    """Run ffmpeg over other clips (a path, or an input filter; options before " -- " stand before the first)."""
    path = _cached(name, extension, ([str(i) for i in inputs], options))
    if not path.exists():
        named: list[str] = []
        for item in inputs:
            named += ["-i", str(item)] if isinstance(item, Path) else ["-f", "lavfi", "-i", item]
        part = path.with_name(f".{os.getpid()}-{path.name}")
        before, _, after = options.rpartition(" -- ")
        ffmpeg(*before.split(), *named, *after.split(), str(part))
        part.replace(path)
    return path


def _edit_list() -> Path:
    """A cut in mid-group by stream copy: the file keeps the group, an edit list hides its start."""
    return _remuxed("edit-list", "mp4", [make_clip("h264")], "-ss 0.5 -- -c copy")


def _rotated() -> Path:
    return _remuxed("rotated", "mp4", [make_clip("h264")], "-display_rotation 90 -- -c copy")


def _with_audio() -> Path:
    inputs = [make_clip("h264"), "sine=frequency=440:duration=3"]
    return _remuxed("with-audio", "mp4", inputs, " -- -c:v copy -c:a aac -b:a 64k")


def _audio_only() -> Path:
    return _remuxed("audio-only", "mp4", ["sine=frequency=440:duration=1"], " -- -c:a aac")


def _cover_art() -> Path:
    """A film with a still picture as its first video stream."""
    cover = _remuxed("cover", "png", ["testsrc2=size=64x64"], " -- -frames:v 1")
    inputs = [cover, make_clip("h264")]
    return _remuxed("cover-art", "mp4", inputs, " -- -map 0 -map 1 -c copy -disposition:v:0 attached_pic")


def _negative_start() -> Path:
    """The first group lies before time 0, and an edit list hides its start."""
    options = " -- -c copy -output_ts_offset -1 -avoid_negative_ts disabled"
    return _remuxed("negative-start", "mp4", [make_clip("h264-pyramid")], options)


def _no_sync_table() -> Path:
    """An MP4 that does not say which frames are keyframes: then all are taken to be."""
    data = make_clip("h264-cavlc").read_bytes().replace(b"stss", b"free")
    path = _cached("no-sync-table", "mp4", data)
    if not path.exists():
        part = path.with_name(f".{os.getpid()}-{path.name}")
        part.write_bytes(data)
        part.replace(path)
    return path


def _intra_refresh() -> Path:
    """H.264 with no keyframe but the first: a band of intra blocks moves over the picture."""
    options = _x264("keyint=20:bframes=0:intra-refresh=1")
    path = _cached("intra-refresh", "ts", options)
    return path if path.exists() else encode(path, SOURCE, options)


def two_sizes(first: str, second: str) -> Path:
    """Return a transport stream that changes its size (`WxH`) after 75 of 150 frames."""
    options = CLIPS["h264-open-ts"][2]
    path = _cached(f"from-{first}-to-{second}", "ts", options)
    if not path.exists():
        part = path.with_name(f".{os.getpid()}-{path.name}")
        data = b""
        for size, offset in ((first, 0), (second, 3.08)):
            half = part.with_name(f"{part.stem}-half.ts")
            encode(half, SOURCE.replace("320x180", size), f"{options} -output_ts_offset {offset}")
            data += half.read_bytes()
            half.unlink()
        part.write_bytes(data)
        part.replace(path)
    return path


_MADE = {
    "edit-list": _edit_list,
    "rotated": _rotated,
    "with-audio": _with_audio,
    "size-change": lambda: two_sizes("320x180", "240x136"),
    "cover-art": _cover_art,
    "intra-refresh": _intra_refresh,
    "negative-start": _negative_start,
    "no-sync-table": _no_sync_table,
}


def without_reordering_told(path: Path) -> Path:
    """Make "h264-pyramid" without usability information (VUI): only the times tell how far frames move."""
    data = make_clip("h264-pyramid").read_bytes()
    at = data.index(b"avcC") + 4 + 6
    size = int.from_bytes(data[at : at + 2], "big")
    old = data[at + 2 : at + 2 + size]
    new = _without_vui(old.replace(b"\0\0\3", b"\0\0"))
    path.write_bytes(data.replace(old, new.ljust(size, b"\0")))
    return path


def _without_vui(sps: bytes) -> bytes:
    """Cut an H.264 sequence parameter set (ITU-T H.264, 7.3.2.1.1) of 4:2:0 and whole frames off before its VUI."""
    bits = "".join(f"{byte:08b}" for byte in sps)
    at = 8 + 24  # type; profile, constraints, level

    def flag() -> bool:
        nonlocal at
        at += 1
        return bits[at - 1] == "1"

    def number() -> int:
        nonlocal at
        zeros = bits.index("1", at) - at
        at += 2 * zeros + 1
        return int(bits[at - zeros - 1 : at], 2) - 1

    number()
    if sps[1] >= 100:
        assert [number(), number(), number(), flag(), flag()] == [1, 0, 0, False, False]
    number()
    if number() == 0:  # the kind of picture order count
        number()
    number(), flag(), number(), number()  # reference frames, gaps, width, height
    assert flag()
    flag()
    if flag():
        number(), number(), number(), number()  # cropping
    cut = bits[:at] + "01"  # no VUI; the end
    return bytes(int(cut[i : i + 8].ljust(8, "0"), 2) for i in range(0, len(cut), 8))


@functools.cache
def make_clip(name: str) -> Path:
    """Return the path of a clip of `CLIPS` (or of `ODDITIES`); made on first use."""
    if name in _MADE:
        return _MADE[name]()
    extension, source, options = CLIPS[name]
    path = _cached(name, extension, CLIPS[name])
    return path if path.exists() else encode(path, source, options)


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

    one = _remuxed("one-group", "ts", [SOURCE], f" -- {_x264('keyint=250:bframes=0')}")
    data = one.read_bytes()
    with av.open(str(one)) as container:
        second = [packet.pos for packet in container.demux(video=0) if packet.pos][1]
    tables = data[: 188 * 3]  # service description, PAT and PMT
    return tables + data[second:]


def _flipped_pictures() -> bytes:
    """Bits flipped in the pictures only: encoders write other bytes on other processors, and what a flip in the index
    does would depend on the machine."""
    data = make_clip("h264").read_bytes()
    begin, end = data.index(b"mdat") + 4, data.rindex(b"moov") - 4
    assert begin < end, "the index is not behind the pictures"
    return data[:begin] + flip_bits(data[begin:end], 1) + data[end:]


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
    "flipped": ("mp4", _flipped_pictures),
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
