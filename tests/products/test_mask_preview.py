"""Previews as viewers see them: decoded again, and looked at pixel by pixel."""

import itertools
import wave
from collections.abc import Iterator
from pathlib import Path

import av
import cv2
import imageio_ffmpeg
import numpy as np
import pytest

from tests.media import ffmpeg
from tests.people import HEIGHT, WIDTH, Scene
from vpipe.errors import MediaError
from vpipe.film import Film
from vpipe_mask.comments import Comment
from vpipe_mask.filter import FilterOptions, MaskFilter
from vpipe_mask.preview import made_up, render_preview

FRAMES, RATE = 40, 20
BAR = "■" * 12
ABOVE = [Comment(0, "\n".join([BAR] * 6), mode="top", color=0x00FF00, size=1.6)]
"""Stands over all of the person's head, for four seconds."""


@pytest.fixture(scope="module")
def talk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A made-up person who walks before a wall, with sound."""
    folder = tmp_path_factory.mktemp("talk")
    scene = Scene(1, noise=0)
    silent, sound, path = folder / "silent.mkv", folder / "sound.wav", folder / "talk.mp4"
    writer = imageio_ffmpeg.write_frames(
        str(silent), (WIDTH, HEIGHT), fps=RATE, codec="libx264", output_params=["-crf", "12"], macro_block_size=2
    )
    writer.send(None)
    for number in range(FRAMES):
        writer.send(np.ascontiguousarray(scene.at(90 + 2 * number)[0]))
    writer.close()
    with wave.open(str(sound), "wb") as file:
        file.setparams((1, 2, 44100, 0, "NONE", ""))
        tone = 12000 * np.sin(np.arange(44100 * FRAMES // RATE) * 2 * np.pi * 440 / 44100)
        file.writeframes(tone.astype("<i2").tobytes())
    options = "-c:v copy -c:a aac"
    ffmpeg("-i", str(silent), "-i", str(sound), *options.split(), str(path))
    return path


def truths() -> Iterator[tuple[float, np.ndarray]]:
    scene = Scene(1, noise=0)
    for number in range(FRAMES):
        yield number / RATE, scene.at(90 + 2 * number)[1]


def pictures(path: Path) -> list[np.ndarray]:
    with Film(str(path)) as film:
        return [frame.picture.astype(np.int16) for frame in film]


def within(truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return what is surely person, and what surely is not."""
    margin = np.ones((9, 9))
    return cv2.erode(truth, margin) > 0.99, cv2.dilate(truth, margin) < 0.01


def is_green(picture: np.ndarray) -> np.ndarray:
    return (picture[..., 1] > 180) & (picture[..., 0] < 110) & (picture[..., 2] < 110)


def test_comment_is_seen_beside_a_moving_person_and_never_over_one(talk: Path, tmp_path: Path) -> None:
    out = tmp_path / "preview.mp4"
    assert render_preview(talk, truths(), out, ABOVE) == 0
    before, after = pictures(talk), pictures(out)
    assert len(after) == FRAMES
    for (_, truth), was, now in zip(truths(), before, after, strict=True):
        person, wall = within(truth)
        assert np.abs(now - was)[person].mean() < 8
        assert not is_green(now)[person].any()
        assert is_green(now)[wall].mean() > 0.08


def test_sound_of_the_film_is_kept(talk: Path, tmp_path: Path) -> None:
    out = tmp_path / "preview.mkv"
    render_preview(talk, truths(), out)
    packets = []
    for path in (talk, out):
        with av.open(str(path)) as container:
            packets.append([bytes(packet) for packet in container.demux(audio=0) if packet.size])
    assert packets[0] == packets[1]


def test_times_of_the_film_are_kept(talk: Path, tmp_path: Path) -> None:
    uneven, out = tmp_path / "uneven.mkv", tmp_path / "preview.mkv"
    ffmpeg("-i", str(talk), "-vf", "setpts='(N*N*0.4+N*20)/1000/TB'", "-fps_mode", "passthrough", str(uneven))
    render_preview(uneven, (), out, [])
    times = []
    for path in (uneven, out):
        with Film(str(path)) as film:
            times.append([frame.pts_s for frame in film])
    assert len(times[0]) == FRAMES
    assert np.allclose(times[0], times[1], atol=0.0011)


def test_without_a_mask_or_with_a_stale_one_comments_are_seen_everywhere(talk: Path, tmp_path: Path) -> None:
    first = [next(truths())]
    for name, masks in (("none.mp4", []), ("stale.mp4", first)):
        render_preview(talk, masks, tmp_path / name, ABOVE)
        last = pictures(tmp_path / name)[-1]
        person, _ = within(list(truths())[-1][1])
        assert is_green(last)[person].mean() > 0.03
    fresh = pictures(tmp_path / "stale.mp4")[5]
    assert not is_green(fresh)[within(first[0][1])[0]].any()


def test_masks_of_every_other_frame_in_bytes_and_half_size_will_do(talk: Path, tmp_path: Path) -> None:
    out = tmp_path / "preview.mp4"
    small = [
        (
            round(time, 3),
            (cv2.resize(mask, (WIDTH // 2, HEIGHT // 2), interpolation=cv2.INTER_AREA) * 255).astype(np.uint8),
        )
        for time, mask in itertools.islice(truths(), 0, None, 2)
    ]
    render_preview(talk, small, out, ABOVE)
    for (_, truth), now in zip(truths(), pictures(out), strict=True):
        assert not is_green(now)[within(truth)[0]].any()


def test_side_by_side_shows_the_net_s_mask_the_filtered_one_and_the_result(talk: Path, tmp_path: Path) -> None:
    scene, keeper = Scene(1, noise=0), MaskFilter(FilterOptions(), WIDTH, HEIGHT)
    raw = [(time, scene.drawn(truth, number)) for number, (time, truth) in enumerate(truths())]
    done = [(time, keeper.step(mask, scene.at(90 + 2 * n)[0]).alpha) for n, (time, mask) in enumerate(raw)]
    out = tmp_path / "preview.mp4"
    render_preview(talk, done, out, ABOVE, side_by_side=True, raw=raw)
    seen, whole = pictures(out)[-1], pictures(talk)[-1]
    assert seen.shape == (HEIGHT, 3 * WIDTH, 3)
    net, filtered, result = (seen[:, n * WIDTH : (n + 1) * WIDTH] for n in range(3))
    person, wall = within(list(truths())[-1][1])
    label = np.zeros_like(person)
    label[HEIGHT - 20 :, :80] = True
    for part in (net, filtered):
        assert np.abs(part - whole)[wall & ~label].mean() > 25
        assert np.abs(part - whole)[person & ~label].mean() < 15
    assert not is_green(net).any()
    assert is_green(result)[wall].any()
    assert np.abs(net - filtered)[~label].mean() > 0.3
    render_preview(talk, done, out, ABOVE, side_by_side=True)
    assert pictures(out)[0].shape == (HEIGHT, 2 * WIDTH, 3)


def test_comments_are_made_up_where_there_are_none(talk: Path, tmp_path: Path) -> None:
    render_preview(talk, truths(), tmp_path / "made-up.mp4")
    render_preview(talk, truths(), tmp_path / "none.mp4", [])
    made, none = pictures(tmp_path / "made-up.mp4"), pictures(tmp_path / "none.mp4")
    assert np.abs(made[0] - none[0]).mean() > 2
    again = itertools.islice(made_up(), 50)
    assert list(again) == list(itertools.islice(made_up(), 50))


def test_preview_that_fails_on_the_way_leaves_no_file(talk: Path, tmp_path: Path) -> None:
    def broken() -> Iterator[tuple[float, np.ndarray]]:
        yield next(truths())
        raise MediaError("damaged", "the mask file breaks off")

    with pytest.raises(MediaError, match="breaks off"):
        render_preview(talk, broken(), tmp_path / "preview.mp4")
    with pytest.raises(MediaError, match="does not exist"):
        render_preview(tmp_path / "missing.mp4", [], tmp_path / "preview.mp4")
    assert list(tmp_path.iterdir()) == []
