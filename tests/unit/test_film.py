import itertools
import resource
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from tests.media import broken, ffmpeg, make_clip
from vpipe.errors import MediaError, ResourceError
from vpipe.film import Film, FilmWriter


def rewritten(source: Path, out: Path) -> Path:
    with Film(str(source)) as film, FilmWriter(out, film.size, film) as writer:
        for frame in film:
            writer.add(frame.pts, frame.picture)
    return out


def times_of(path: Path) -> list[Fraction]:
    with av.open(str(path)) as container:
        base = container.streams.video[0].time_base
        times = [frame.pts * base for frame in container.decode(video=0)]
    return [time - times[0] for time in times]


def sound_of(path: Path) -> tuple[str, list[bytes], np.ndarray]:
    """Codec, packets, and samples of the first channel."""
    with av.open(str(path)) as container:
        codec = container.streams.audio[0].codec_context.name
        packets = [bytes(packet) for packet in container.demux(audio=0) if packet.size]
    with av.open(str(path)) as container:
        samples = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
    return codec, packets, samples


@pytest.mark.parametrize("name", ["h264-pyramid", "vfr-mkv", "late-start", "negative-start", "mpeg2-ts", "edit-list"])
def test_film_rewritten_shows_every_frame_at_its_time(name: str, tmp_path: Path) -> None:
    out = rewritten(make_clip(name), tmp_path / "out.mkv")
    with Film(str(make_clip(name))) as film:
        wanted = [frame.pts_s for frame in film]
    assert np.allclose([float(time) for time in times_of(out)], wanted, atol=0.001)


@pytest.mark.parametrize("name", ["mpeg4-b-avi", "h264-b-avi", "no-pts", "repeated-pts", "raw-h264"])
def test_film_whose_times_are_not_told_is_rewritten_in_order(name: str, tmp_path: Path) -> None:
    times = times_of(rewritten(make_clip(name), tmp_path / "out.mp4"))
    assert len(times) == 75
    assert all(later > earlier for earlier, later in itertools.pairwise(times))


def test_disk_that_is_full_is_told(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)

    def written() -> None:
        with Film(str(make_clip("h264"))) as film, FilmWriter(tmp_path / "out.mkv", film.size, film) as writer:
            for frame in film:
                writer.add(frame.pts, rng.integers(0, 255, frame.picture.shape, np.uint8))

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(ResourceError, match=r"out\.mkv: cannot be written"):
            written()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


def test_pictures_are_upright_and_fit() -> None:
    with Film(str(make_clip("rotated")), fit=(100, 100)) as film:
        assert film.size == (56, 100)
        assert next(iter(film)).picture.shape == (100, 56, 3)
    with Film(str(make_clip("h264"))) as film:
        assert film.size == (320, 180)


def test_pictures_come_out_as_they_went_in(tmp_path: Path) -> None:
    source = make_clip("h264")
    with Film(str(source)) as film:
        before = [frame.picture for frame in film]
    with Film(str(rewritten(source, tmp_path / "out.mp4"))) as film:
        after = [frame.picture for frame in film]
    assert len(after) == len(before) == 75
    assert np.mean([np.abs(a.astype(int) - b).mean() for a, b in zip(after, before, strict=True)]) < 5


@pytest.mark.parametrize("ending", ["mp4", "mkv"])
def test_sound_is_kept_packet_for_packet(ending: str, tmp_path: Path) -> None:
    source = make_clip("with-audio")
    out = rewritten(source, tmp_path / f"out.{ending}")
    assert sound_of(out)[:2] == sound_of(source)[:2]


def test_sound_that_the_container_cannot_hold_is_coded_anew(tmp_path: Path) -> None:
    source = tmp_path / "pcm.avi"
    inputs = [
        "-i",
        str(make_clip("h264-cavlc")),
        "-f",
        "lavfi",
        "-i",
        "sine=frequency=440:duration=3:sample_rate=44100",
    ]
    options = "-map 0:v -map 1:a -c:v copy -c:a pcm_s16le -shortest"
    ffmpeg(*inputs, *options.split(), str(source))
    codec, _, samples = sound_of(rewritten(source, tmp_path / "out.mp4"))
    assert codec == "aac"
    assert len(samples) / 48000 == pytest.approx(3, abs=0.1)
    spectrum = np.abs(np.fft.rfft(samples[4800:124800]))
    assert np.argmax(spectrum) / 2.5 == pytest.approx(440, abs=1)


def test_sound_stays_in_time_where_the_picture_begins_late(tmp_path: Path) -> None:
    source = tmp_path / "late.mkv"
    clicks = "aevalsrc='if(lt(mod(t,1),0.01),0.9,0)':d=3"
    inputs = ["-itsoffset", "0.5", "-i", str(make_clip("h264-cavlc")), "-f", "lavfi", "-i", clicks]
    options = "-map 0:v -map 1:a -c:v copy -c:a flac"
    ffmpeg(*inputs, *options.split(), str(source))
    out = rewritten(source, tmp_path / "out.mkv")
    with av.open(str(out)) as container:
        video = container.streams.video[0]
        start_s = float(video.start_time * video.time_base)
        clicks_s = [
            frame.time - start_s + np.argmax(np.abs(frame.to_ndarray()[0])) / frame.sample_rate
            for frame in container.decode(audio=0)
            if np.abs(frame.to_ndarray().astype(float)).max() > 5000
        ]
    assert min(abs(time - 0.5) for time in clicks_s) < 0.02
    assert min(abs(time - 1.5) for time in clicks_s) < 0.02


def test_film_without_sound_stays_silent(tmp_path: Path) -> None:
    with av.open(str(rewritten(make_clip("h264"), tmp_path / "out.mp4"))) as container:
        assert not container.streams.audio


def test_film_that_is_not_finished_does_not_appear(tmp_path: Path) -> None:
    def given_up() -> None:
        with Film(str(make_clip("h264"))) as film, FilmWriter(tmp_path / "out.mp4", film.size, film) as writer:
            for frame in film:
                writer.add(frame.pts, frame.picture)
                raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError, match="on purpose"):
        given_up()
    assert list(tmp_path.iterdir()) == []


def test_film_of_another_ending_or_place_is_refused(tmp_path: Path) -> None:
    with Film(str(make_clip("h264"))) as film:
        with pytest.raises(MediaError, match=r"\.mp4 or \.mkv"):
            FilmWriter(tmp_path / "out.gif", film.size, film)
        with pytest.raises(ResourceError, match="cannot be written"):
            FilmWriter(tmp_path / "nowhere/out.mp4", film.size, film)
        with FilmWriter(tmp_path / "out.mp4", film.size, film) as writer:
            with pytest.raises(ValueError, match="shape"):
                writer.add(0, np.zeros((10, 10, 3), np.uint8))
            writer.add(0, np.zeros((180, 320, 3), np.uint8))


def test_what_is_no_film_is_refused() -> None:
    with pytest.raises(MediaError):
        Film(str(broken("text")))
    with pytest.raises(MediaError, match="nothing to look at"):
        Film("synthetic://320x180/5")
