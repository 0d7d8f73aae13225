"""Grey video: every picture comes back bit by bit under the source's own pts, in this reader and in FFmpeg's."""

import errno
import io
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import media as clips
from vpipe.errors import MediaError, ResourceError
from vpipe.media import Sample, open_media
from vpipe.media.matroska import Ticks
from vpipe.media.write import Grey, GreyEncoder, read_grey, write_grey
from vpipe.sinks import atomic_file

SIZE = (64, 36)


def picture(number: int, size: tuple[int, int] = SIZE) -> Grey:
    return np.random.default_rng(number).integers(0, 256, size[::-1]).astype(np.uint8)


def packets(times: list[int], size: tuple[int, int] = SIZE) -> Iterator[tuple[int, bytes]]:
    encoder = GreyEncoder(*size)
    return ((pts, encoder.encode(picture(number, size))) for number, pts in enumerate(times))


def save(path: Path, times: list[int], time_base: Fraction) -> Path:
    with open(path, "wb") as file:
        write_grey(file, SIZE, time_base, packets(times))
    return path


@pytest.mark.parametrize("name", ["h264", "h264-open-ts", "vfr-mkv", "negative-start", "late-start", "flv", "tiny"])
def test_pts_and_time_base_are_the_sources(name: str, tmp_path: Path) -> None:
    every = Sample.parse("every")
    with open_media(str(clips.make_clip(name))) as media:
        info, segments = media.plan(every)
        times = [found.pts for segment in segments for found in media.read(segment, every)]
    time_base = Fraction(*info.time_base)
    path = save(tmp_path / "a.mkv", times, time_base)
    got = list(read_grey(str(path)))
    assert [pts for pts, _, _ in got] == times
    assert {base for _, base, _ in got} == {time_base}
    for number, (_, _, found) in enumerate(got):
        assert np.array_equal(found, picture(number))
    with av.open(str(path)) as container:
        shown = [frame.pts * frame.time_base for frame in container.decode(video=0)]
    # To FFmpeg, which does not know of TIME_BASE, a time is right to half a tick.
    assert all(abs(time - pts * time_base) < time_base / 2 for time, pts in zip(shown, times, strict=True))


@pytest.mark.parametrize("time_base", [Fraction(1, 1000), Fraction(1, 12800), Fraction(1, 25)])
def test_time_base_of_whole_nanoseconds_is_the_files_own(time_base: Fraction, tmp_path: Path) -> None:
    with av.open(str(save(tmp_path / "a.mkv", [0, 1, 5], time_base))) as container:
        assert container.streams.video[0].time_base == time_base
        assert [frame.pts for frame in container.decode(video=0)] == [0, 1, 5]


@given(
    st.fractions(Fraction(1, 10**8), Fraction(1), max_denominator=10**8).filter(lambda base: base > 0),
    st.integers(-(2**40), 2**40),
)
def test_no_tick_loses_a_pts(time_base: Fraction, pts: int) -> None:
    ticks = Ticks.of(time_base)
    assert ticks.pts(ticks.tick(pts)) == pts
    assert ticks.tick(pts) < ticks.tick(pts + 1)


def test_other_tools_read_it(tmp_path: Path) -> None:
    path = save(tmp_path / "a.mkv", list(range(0, 300 * 3003, 3003)), Fraction(1, 90000))
    clips.ffmpeg("-i", str(path), "-f", "rawvideo", "-fps_mode", "passthrough", str(tmp_path / "a.raw"))
    raw = np.fromfile(tmp_path / "a.raw", np.uint8).reshape(-1, *SIZE[::-1])
    assert all(np.array_equal(found, picture(number)) for number, found in enumerate(raw))
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert len(raw) == 300
        assert container.duration == pytest.approx(300 * 3003 / 90000 * 1e6, abs=1000)
        assert float(stream.average_rate or 0) == pytest.approx(29.97, abs=0.01)
        assert stream.codec_context.name == "ffv1"
        # The index leads to the middle without a look at what is before.
        container.seek(5_000_000, backward=True)
        assert next(container.decode(video=0)).time == pytest.approx(5, abs=1.1)


def test_long_gaps_and_large_pictures_make_new_clusters(tmp_path: Path) -> None:
    times = [0, 1, 100_000, 100_001, 10**9]
    assert [pts for pts, _, _ in read_grey(str(save(tmp_path / "a.mkv", times, Fraction(1, 12800))))] == times
    size = (1920, 1080)
    with open(tmp_path / "b.mkv", "wb") as file:
        write_grey(file, size, Fraction(1, 1000), packets([0, 1, 2, 3], size))
    assert (tmp_path / "b.mkv").stat().st_size > 2 * 4 << 20
    assert len(list(read_grey(str(tmp_path / "b.mkv")))) == 4


def test_packet_depends_on_its_picture_alone() -> None:
    encoder = GreyEncoder(*SIZE)
    first = encoder.encode(picture(1))
    encoder.encode(picture(2))
    assert encoder.encode(picture(1)) == first == GreyEncoder(*SIZE).encode(picture(1))


def test_picture_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \(8, 8\) for an encoder of 64x36"):
        GreyEncoder(*SIZE).encode(np.zeros((8, 8), np.uint8))


def test_times_that_do_not_ascend_are_refused() -> None:
    with pytest.raises(MediaError, match="frame at pts 5 comes after one at 5"):
        write_grey(io.BytesIO(), SIZE, Fraction(1, 25), packets([3, 5, 5]))


def test_nothing_to_write_is_told() -> None:
    with pytest.raises(MediaError, match="not one frame"):
        write_grey(io.BytesIO(), SIZE, Fraction(1, 25), [])


def test_damaged_picture_ends_the_reading_with_its_number(tmp_path: Path) -> None:
    path = save(tmp_path / "a.mkv", [0, 1, 2, 3], Fraction(1, 25))
    data = bytearray(path.read_bytes())
    at = data.find(b"\x00\x02\x80", len(data) // 3)  # the third block's time and flags
    data[at + 600] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(MediaError, match=r"a\.mkv: frame 2 is damaged \(.*CRC mismatch.*\); make the file again"):
        list(read_grey(str(path)))


@pytest.mark.parametrize("share", [0.3, 0.6, 0.97])
def test_file_that_breaks_off_is_told(share: float, tmp_path: Path) -> None:
    path = save(tmp_path / "a.mkv", [3, 4, 5, 6, 7], Fraction(1, 25))
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(MediaError, match=r"breaks off after \d frames|frame \d is damaged") as caught:
        list(read_grey(str(path)))
    assert caught.value.kind in ("truncated", "damaged")


def test_other_peoples_grey_video_is_read_with_its_own_times() -> None:
    got = list(read_grey(str(clips.make_clip("gray"))))
    assert [round(pts * base * 1000) for pts, base, _ in got] == list(range(0, 3000, 40))


def test_full_disk_is_told(tmp_path: Path) -> None:
    class Full(io.BytesIO):
        def write(self, data: object) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(ResourceError, match="disk full"), atomic_file(tmp_path / "a.mkv"):
        write_grey(Full(), SIZE, Fraction(1, 25), packets([0]))
    assert not list(tmp_path.iterdir())
