"""Opening sources: what is refused, with which words, and what is decoded all the same."""

from __future__ import annotations

import contextlib
import functools
import http.server
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, cast

import av
import numpy as np
import pytest

from tests import media as clips
from tests.engine import short_clip
from vpipe.errors import MediaError
from vpipe.frame import LOST_MOST, LOST_SHIFT, MADE_UP_SHIFT, MADE_UP_UNKNOWN, FrameFlag
from vpipe.media import Sample, content_key, open_media
from vpipe.media.concealment import Concealment
from vpipe.media.container import decode_listening
from vpipe.media.reader import Losses
from vpipe.media.sources import RULES, kind_of

if TYPE_CHECKING:
    from vpipe.media.container import VideoFrame

EVERY = Sample.parse("every")


def frames_of(path: object, sample: Sample = EVERY) -> list[int]:
    """Return the pts of all frames of a source."""
    with open_media(os.fspath(path)) as media:  # type: ignore[call-overload]
        _, segments = media.plan(sample)
        return [picture.pts for segment in segments for picture in media.read(segment, sample)]


def refusal(path: object) -> MediaError:
    with pytest.raises(MediaError) as caught:
        frames_of(path)
    error = caught.value
    assert "\n" not in str(error)
    str(error).encode()  # can be printed anywhere
    return error


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("zero", "empty", "is empty"),
        ("text", "not_media", "not a video file"),
        ("audio-only", "no_video", "sound but no picture"),
        ("no-keyframe", "no_frames", "not one picture"),
        ("moov-missing", "no_index", "has no index"),
    ],
)
def test_broken_file_is_refused_with_a_sentence_that_names_it(name: str, kind: str, words: str) -> None:
    path = clips.broken(name)
    error = refusal(path)
    assert error.kind == kind
    assert words in str(error)
    assert path.name in str(error)


def test_directory_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "film.mp4"
    folder.mkdir()
    assert refusal(folder).kind == "directory"


def test_missing_file_and_dangling_link_are_told_apart(tmp_path: Path) -> None:
    link = tmp_path / "link.mp4"
    link.symlink_to(tmp_path / "gone.mp4")
    assert "gone.mp4, which does not exist" in str(refusal(link))
    assert str(refusal(tmp_path / "gone.mp4")).endswith("does not exist")
    assert refusal("nul\0byte.mp4").kind == "missing"


def test_pipe_socket_and_device_are_never_opened(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.mp4"
    os.mkfifo(pipe)
    assert refusal(pipe).kind == "special"  # opening it would wait for a writer for ever
    plug = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(plug))
        assert "is a socket" in str(refusal(plug))
    assert "is a device" in str(refusal("/dev/zero"))


def test_unreadable_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "locked.mp4"
    shutil.copy(clips.make_clip("one-frame"), path)

    def denied(*_: object, **__: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", denied)  # the tests may run as root, who may read everything
    error = refusal(path)
    assert error.kind == "unreadable"
    assert "Permission denied" in str(error)


@pytest.mark.parametrize(
    "name",
    ["a space.mp4", "quote'\".mp4", "new\nline.mp4", b"bytes\xff\xfe.mp4", "concat:x.mp4", "a%03d.mp4", "http:x.mp4"],
)
def test_any_file_name_works(name: str | bytes, tmp_path: Path) -> None:
    path = os.fsdecode(os.path.join(os.fsencode(tmp_path), os.fsencode(name)))
    shutil.copy(clips.make_clip("two-frames"), path)
    assert len(frames_of(path)) == 2
    assert len(content_key(path)) == 32


@pytest.mark.parametrize("name", ["concat:x.mp4", "-", "pipe:0", "fd:"])
def test_relative_name_is_a_file_and_never_a_protocol(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(clips.make_clip("two-frames"), name)
    assert len(frames_of(name)) == 2


def test_picture_above_the_limit_is_refused_and_8k_passes(tmp_path: Path) -> None:
    source = "color=gray:size=7680x4320:rate=1:duration=1"
    path = clips.encode(tmp_path / "8k.mp4", source, "-c:v libx264 -preset ultrafast")
    assert len(frames_of(path)) == 1
    with pytest.raises(MediaError, match="7680x4320, more than 1000000 pixels") as caught:
        open_media(str(path), max_pixels=1_000_000)
    assert caught.value.kind == "too_large"


def test_picture_that_grows_past_the_limit_is_not_decoded() -> None:
    path = clips.two_sizes("160x96", "320x180")
    with open_media(str(path), max_pixels=160 * 96) as media:
        _, segments = media.plan(EVERY)
        sizes = {(p.width, p.height) for segment in segments for p in media.read(segment, EVERY)}
    assert sizes == {(160, 96)}
    assert media.stats.errors


@pytest.mark.parametrize(
    ("name", "quick"),
    [
        *((name, True) for name in ("h264", "h264-open", "h264-pyramid", "hevc-open", "ten-bit", "with-audio")),
        *((name, True) for name in ("edit-list", "negative-start", "cover-art", "rotated", "full-range")),
        *((name, False) for name in ("h264-cavlc", "fragmented", "av1", "rgb", "vfr-mkv")),
    ],
)
def test_file_opened_without_decoding_tells_the_same(name: str, quick: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def told(path: Path) -> tuple[object, list[bytes], bool]:
        with open_media(str(path)) as media:
            known = media._container._quick
            plan = media.plan(EVERY)
            pictures = (picture for segment in plan[1] for picture in media.read(segment, EVERY))
            return plan, [picture.frame.to_ndarray().tobytes() for picture in pictures], known

    path = clips.make_clip(name)
    plan, pictures, known = told(path)
    monkeypatch.setattr("vpipe.media.container.Container._is_known", lambda _: False)
    assert told(path) == (plan, pictures, False)
    assert known == quick


def test_order_of_frames_is_known_where_only_their_times_tell_it(tmp_path: Path) -> None:
    path = clips.without_reordering_told(tmp_path / "silent.mp4")
    with open_media(str(path)) as media:
        assert media._container._quick
    assert frames_of(path) == frames_of(clips.make_clip("h264-pyramid"))


@pytest.mark.parametrize("name", ["cut-10", "cut-50", "cut-99", "cut-50-mkv", "cut-50-ts", "flipped", "flipped-ts"])
def test_damaged_file_gives_the_frames_it_has(name: str) -> None:
    path = clips.broken(name)
    with open_media(str(path)) as media:
        _, segments = media.plan(EVERY)
        pictures = [picture.pts for segment in segments for picture in media.read(segment, EVERY)]
        stats = media.stats
    assert pictures
    assert pictures == sorted(set(pictures))
    assert stats.delivered == len(pictures)


def test_truncated_file_gives_the_same_frames_up_to_there() -> None:
    whole, part = frames_of(clips.make_clip("fragmented")), frames_of(clips.broken("cut-50"))
    assert len(part) > len(whole) // 3
    assert whole[: len(part) - 3] == part[:-3]  # the cut may cost the frames next to it


def test_damaged_pictures_are_flagged_and_counted(tmp_path: Path) -> None:
    data = bytearray(clips.make_clip("h264-cavlc").read_bytes())
    at = data.index(b"mdat") + len(data) // 3
    data[at : at + 400] = bytes(400)
    path = tmp_path / "hurt.mp4"
    path.write_bytes(data)
    with open_media(str(path)) as media:
        _, segments = media.plan(EVERY)
        flagged = [p for s in segments for p in media.read(s, EVERY) if p.flags & 2]
        assert media.stats.corrupt == len(flagged)
        assert flagged or media.stats.errors or media.stats.missing


def test_sampled_frames_tell_of_losses_in_frames_between_them(tmp_path: Path) -> None:
    data = bytearray(clips.make_clip("mpeg4-avi").read_bytes())
    for at in (len(data) // 4, len(data) // 2):
        data[at : at + 300] = bytes(300)
    path = tmp_path / "hurt.avi"
    path.write_bytes(data)

    def lost(sample: Sample) -> dict[int, int]:
        with open_media(str(path)) as media:
            _, segments = media.plan(sample)
            return {p.pts: int(p.flags) >> LOST_SHIFT & LOST_MOST for s in segments for p in media.read(s, sample)}

    every, some = lost(EVERY), lost(Sample.parse("n=7"))
    assert any(every.values())
    assert any(some.values())
    assert {pts: bool(every[pts]) for pts in some} == {pts: bool(count) for pts, count in some.items()}


def test_losses_are_of_the_group_of_pictures_and_end_with_it() -> None:
    class Frame(NamedTuple):
        key_frame: bool
        is_corrupt: bool

    group = [(True, False), (False, True), (False, False), (False, True), (True, True), (False, False), (True, False)]
    losses = Losses()
    shares = [0.0, 0.25, 0.0, 0.5, None, 0.0, 0.0]
    flags = [losses.upto(cast("VideoFrame", Frame(*each)), share) for each, share in zip(group, shares, strict=True)]
    assert [each >> LOST_SHIFT & LOST_MOST for each in flags] == [0, 1, 1, 2, 1, 1, 0]
    assert [bool(each & FrameFlag.KEY_LOST) for each in flags] == [False, False, False, False, True, True, False]
    assert [each >> MADE_UP_SHIFT for each in flags] == [0, 16, 16, 48, MADE_UP_UNKNOWN, MADE_UP_UNKNOWN, 0]
    for _ in range(2 * LOST_MOST):
        most = losses.upto(cast("VideoFrame", Frame(False, True)), 1.0)
    assert most >> LOST_SHIFT & LOST_MOST == LOST_MOST
    assert most >> MADE_UP_SHIFT == MADE_UP_UNKNOWN - 1


def test_share_that_a_decoder_makes_up_is_that_of_the_slices_taken_out() -> None:
    # In MPEG-2 each row of blocks is a slice with a start code of its own, 00 00 01 and the number of the row.
    taken = {3: 2, 6: 5}
    shares = {}
    with av.open(str(clips.make_clip("mpeg2-ts"))) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        concealment = Concealment()
        for number, packet in enumerate(container.demux(stream)):
            if rows := taken.get(number):
                head, *slices = re.split(rb"(?=\x00\x00\x01[\x01-\xaf])", bytes(packet))
                short = av.Packet(b"".join([head, *slices[:4], *slices[4 + rows :]]))
                short.pts, short.dts, short.time_base = packet.pts, packet.dts, packet.time_base
                packet = short
                among = len(slices)
            for frame in decode_listening(stream.codec_context, packet, concealment):
                shares[frame.pts] = concealment.share(frame)
    assert among == 9 or among > 4 + max(taken.values())
    assert sorted(shares.values())[-3:] == pytest.approx([0, 2 / among, 5 / among])


@pytest.mark.parametrize("name", ["h264-open-ts", "mpeg2-ts"])
@pytest.mark.parametrize("text", ["every", "4/s"])
def test_damage_is_told_alike_by_any_number_of_decoder_threads(name: str, text: str, tmp_path: Path) -> None:
    data = bytearray(clips.make_clip(name).read_bytes())
    for at in range(len(data) // 5, len(data), len(data) // 4):
        data[at : at + 376] = bytes(376)
    path, sample = tmp_path / "hurt.ts", Sample.parse(text)
    path.write_bytes(data)

    def told(threads: int) -> list[tuple[int, int]]:
        with open_media(str(path)) as media:
            _, segments = media.plan(sample)
            return [(p.pts, int(p.flags)) for s in segments for p in media.read(s, sample, threads=threads)]

    alone = told(1)
    assert any(0 < flags >> MADE_UP_SHIFT < MADE_UP_UNKNOWN for _, flags in alone)
    assert told(2) == told(3) == alone


@pytest.mark.parametrize("name", ["h264", "h264-open-ts", "vfr-mkv", "mpeg4-avi"])
def test_no_mutation_of_a_container_does_more_than_lose_frames(name: str, tmp_path: Path) -> None:
    source = clips.make_clip(name)
    data = source.read_bytes()
    whole = len(frames_of(source))
    outcomes: list[int] = []
    refusals: set[str] = set()
    for seed in range(12):
        path = tmp_path / f"{seed}{source.suffix}"
        path.write_bytes(clips.flip_bits(data, seed, 1 + seed * 3))
        try:
            outcomes.append(len(frames_of(path, Sample.parse("4/s") if seed % 2 else EVERY)))
        except MediaError as error:
            refusals.add(error.kind)
            outcomes.append(0)
    assert max(outcomes) > whole // 2
    assert refusals <= {"not_media", "no_frames", "no_index", "no_video", "unreadable", "codec", "too_large"}


def test_stream_that_appears_on_the_way_costs_nothing(tmp_path: Path) -> None:
    # The stream goes on with sound, which its first tables did not announce, behind more than FFmpeg looks at first.
    first, second, joined = (tmp_path / f"{name}.ts" for name in ("first", "second", "joined"))
    picture = "testsrc2=size=320x180:rate=25:duration=6,noise=alls=100:allf=t"
    video = ["-c:v", "mpeg2video", "-q:v", "1", "-g", "25", "-bf", "0"]
    later = ["-output_ts_offset", "6", "-tables_version", "1"]
    clips.ffmpeg("-f", "lavfi", "-i", picture, *video, str(first))
    clips.ffmpeg("-f", "lavfi", "-i", picture, "-f", "lavfi", "-i", "sine=duration=6", *video, *later, str(second))
    joined.write_bytes(first.read_bytes() + second.read_bytes())
    assert first.stat().st_size > 5_000_000
    assert len(frames_of(joined)) == len(frames_of(first)) + len(frames_of(second)) == 300


def test_sources_of_one_kind_may_not_use_what_others_may() -> None:
    assert kind_of("/a/b.mp4") == "file"
    assert kind_of("HTTPS://host/x") == "http"
    assert "file" not in RULES["http"].protocols.split(",")
    assert set(RULES["file"].protocols.split(",")) == {"file", "fd"}
    for rule in RULES.values():
        assert not {"lavfi", "concat", "image2", "dash", "sdp"} & set(rule.demuxers.split(","))


@pytest.mark.parametrize(("url", "kind"), [("rtsp://h/x", "live"), ("srt://h:1", "live"), ("gopher://h/x", "scheme")])
def test_schemes_that_are_not_supported_say_so(url: str, kind: str) -> None:
    assert refusal(url).kind == kind


def _playlists(target: str) -> dict[str, str]:
    return {
        "list.m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\n{target}\n#EXT-X-ENDLIST\n",
        "list.ffconcat": f"ffconcat version 1.0\nfile '{target}'\n",
        "list.mpd": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period>'
        f"<BaseURL>{target}</BaseURL></Period></MPD>",
        "list.sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n",
    }


@pytest.mark.parametrize("name", ["list.m3u8", "list.ffconcat", "list.mpd", "list.sdp"])
@pytest.mark.parametrize("disguised", [False, True])
def test_playlist_file_opens_nothing_that_it_names(name: str, disguised: bool, tmp_path: Path) -> None:
    shutil.copy(clips.make_clip("h264-open-ts"), tmp_path / "secret.ts")
    for target in ("secret.ts", str(tmp_path / "secret.ts"), f"file://{tmp_path}/secret.ts"):
        path = tmp_path / (name + ".mp4" if disguised else name)
        path.write_text(_playlists(target)[name])
        assert refusal(path).kind in {"forbidden", "not_media", "unreadable"}


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[str, Path, list[str]]]:
    """A web server over a folder: its address, the folder, the paths asked for."""
    asked: list[str] = []
    folder = tmp_path / "www"
    folder.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            asked.append(self.path)

        def copyfile(self, source: object, outputfile: object) -> None:
            with contextlib.suppress(ConnectionError):  # the client had enough
                super().copyfile(source, outputfile)  # type: ignore[type-var]

    handler = functools.partial(Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", folder, asked
        server.shutdown()
        thread.join()


def test_film_over_http_gives_the_same_frames_as_the_file(served: tuple[str, Path, list[str]]) -> None:
    address, folder, _ = served
    shutil.copy(clips.make_clip("h264-open-ts"), folder / "film.ts")
    assert frames_of(f"{address}/film.ts") == frames_of(folder / "film.ts")
    for sample in map(Sample.parse, ("2/s", "keyframes")):
        assert frames_of(f"{address}/film.ts", sample) == frames_of(folder / "film.ts", sample)
    with open_media(f"{address}/film.ts") as media:
        info, segments = media.plan(EVERY)
        assert info.frames == -1
        assert info.key == content_key(f"{address}/film.ts")
        assert len(segments) == 1


def test_http_playlist_may_name_http_but_never_a_file(served: tuple[str, Path, list[str]]) -> None:
    address, folder, asked = served
    clip = clips.make_clip("h264-open-ts")
    shutil.copy(clip, folder / "part.ts")
    (folder / "good.m3u8").write_text(_playlists("part.ts")["list.m3u8"])
    assert len(frames_of(f"{address}/good.m3u8")) == 75
    assert "/part.ts" in asked
    (folder / "bad.m3u8").write_text(_playlists(f"file://{clip}")["list.m3u8"])
    refusal(f"{address}/bad.m3u8")


def test_http_error_names_the_reason(served: tuple[str, Path, list[str]]) -> None:
    address, _, _ = served
    assert refusal(f"{address}/nothing.mp4").kind == "http"


def test_film_with_a_cover_picture_gives_the_film() -> None:
    with open_media(str(clips.make_clip("cover-art"))) as media:
        info, _ = media.plan(EVERY)
    assert (info.width, info.height, info.frames) == (320, 180, 75)


def test_rotation_is_told_clockwise() -> None:
    with open_media(str(clips.make_clip("rotated"))) as media:
        info, _ = media.plan(EVERY)
    assert info.rotation == 270  # the file says: turn it 90 degrees counterclockwise


def test_info_survives_json() -> None:
    import json

    from vpipe.frame import StreamInfo

    with open_media(str(clips.make_clip("hevc-open-ts"))) as media:
        info, _ = media.plan(EVERY, stream=7)
    assert StreamInfo.from_dict(json.loads(json.dumps(info.to_dict()))) == info
    assert info.stream == 7
    assert info.codec == "hevc"
    assert info.start_pts > 0


def test_content_key_of_small_files_depends_on_every_byte(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"x" * 1000)
    first = content_key(str(path))
    other = tmp_path / "b.bin"
    other.write_bytes(b"x" * 1000)
    assert content_key(str(other)) == first
    other.write_bytes(b"x" * 999 + b"y")
    assert content_key(str(other)) != first


def test_content_key_of_large_files_reads_little_and_knows_their_time(tmp_path: Path) -> None:
    path = tmp_path / "large.bin"
    with open(path, "wb") as file:
        file.truncate(200 << 20)
        file.seek(-1, os.SEEK_END)
        file.write(b"z")
    os.utime(path, ns=(1, 1))
    first = content_key(str(path))
    os.utime(path, ns=(1, 2))
    assert content_key(str(path)) != first
    os.utime(path, ns=(1, 1))
    assert content_key(str(path)) == first


def test_nothing_is_printed_and_importing_is_cheap(capfd: pytest.CaptureFixture[str]) -> None:
    for name in ("flipped", "cut-50", "no-keyframe", "text"):
        with contextlib.suppress(MediaError):
            frames_of(clips.broken(name))
    assert capfd.readouterr() == ("", "")
    code = "import sys, vpipe.media, vpipe.view; print([m for m in ('av', 'cv2', 'openvino') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_media_may_be_closed_twice_and_gives_back_its_descriptor() -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        media = open_media(str(clips.make_clip("h264")))
        media.plan(EVERY)
        media.close()
        media.close()
    assert len(os.listdir("/proc/self/fd")) == before


READ_MANY = """
import ctypes, gc, sys
from vpipe.media import Sample, open_media

class Mallinfo(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in "arena ordblks smblks hblks hblkhd usmblks fsmblks".split()]
    _fields_ += [(name, ctypes.c_size_t) for name in "uordblks fordblks keepcost".split()]

mallinfo = ctypes.CDLL(None).mallinfo2
mallinfo.restype = Mallinfo

def read(times):
    for _ in range(times):
        with open_media(sys.argv[1]) as media:
            _, segments = media.plan(sample)
            for segment in segments:
                for picture in media.read(segment, sample):
                    pass
    now = mallinfo()
    return now.uordblks + now.hblkhd

gc.disable()
sample = Sample.parse("every")
read(20)
print(read(10), read(200))
"""


@pytest.mark.parametrize("name", ["short", "h264-cavlc"])  # the second is opened twice: see `_is_known`
def test_closed_source_leaves_nothing_behind_that_only_the_collector_would_find(name: str) -> None:
    # What FFmpeg holds is not counted by Python's collector, so that it comes late and memory is in pieces by then.
    line = [sys.executable, "-c", READ_MANY, str(short_clip("many") if name == "short" else clips.make_clip(name))]
    plain = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}  # it keeps lines
    done = subprocess.run(line, capture_output=True, text=True, check=True, env=plain)
    before, after = map(int, done.stdout.split())
    assert after - before < 200 * 64


def test_reading_can_be_left_early() -> None:
    with open_media(str(clips.make_clip("h264"))) as media:
        _, segments = media.plan(EVERY)
        first = next(media.read(segments[0], EVERY))
        again = [picture.pts for picture in media.read(segments[0], EVERY)]
    assert again[0] == first.pts
    assert len(again) == 75
    assert np.diff(again).min() > 0


def test_every_packet_that_is_read_beats() -> None:
    beats: list[None] = []
    with open_media(str(clips.make_clip("h264-pyramid-open"))) as media:
        _, segments = media.plan(EVERY, beat=lambda: beats.append(None))
        assert len(beats) >= 75
        beats.clear()
        assert sum(1 for _ in media.read(segments[0], EVERY, beat=lambda: beats.append(None))) == 75
        assert len(beats) >= 75


def test_frames_that_others_refer_to_are_smoothed_unless_none_is() -> None:
    def pictures(skip: str, threads: int = 1) -> list[int]:
        path = Path(__file__).parents[2] / "samples" / "person-medium.mkv"
        with contextlib.closing(open_media(str(path), skip_loop_filter=skip)) as media:
            _, segments = media.plan(EVERY)
            read = (picture for each in segments for picture in media.read(each, EVERY, threads=threads))
            return [zlib.crc32(bytes(picture.frame.planes[0])) for picture in read]

    whole, nonref, none = (pictures(skip) for skip in ("none", "nonref", "all"))
    same = [sum(map(int.__eq__, whole, other)) for other in (nonref, none)]
    assert len(whole) == len(nonref) == len(none)
    assert len(whole) > same[0] > same[1]
    assert pictures("nonref", threads=2) == nonref
