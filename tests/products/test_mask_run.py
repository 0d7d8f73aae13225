"""`vpipe mask` over files, from end to end: a person who moves, the real net, real workers."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import vpipe_mask
import vpipe_score
from tests.media import ffmpeg
from vpipe import Pipeline
from vpipe.engine import Manifest
from vpipe.errors import ConfigError
from vpipe.media import Sample, open_media
from vpipe.models import ensure
from vpipe.view import make_view
from vpipe.viewconfig import ViewConfig
from vpipe_mask.files import records
from vpipe_mask.filter import FilterOptions, MaskFilter
from vpipe_mask.formats import FORMATS
from vpipe_mask.run import MaskRun

ROOT = Path(__file__).resolve().parents[2]

Masks = dict[int, NDArray[Any]]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A person in motion, 240 frames in groups of 20 with B frames: two segments, which workers share."""
    path = tmp_path_factory.mktemp("clip") / "person.mp4"
    source = str(ROOT / "samples" / "person-good.mp4")
    coder = ("-c:v", "libx264", "-preset", "fast", "-g", "20", "-sc_threshold", "0", "-crf", "20")
    ffmpeg("-stream_loop", "1", "-i", source, "-frames:v", "240", "-vf", "scale=640:360", *coder, str(path))
    return path


@pytest.fixture(scope="module")
def whole(clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output directory of an undisturbed run by one worker."""
    out = tmp_path_factory.mktemp("whole")
    (video,) = vpipe_mask.mask([clip], out, workers=1, formats=["webmask", "mobmask", "rle"])
    assert video.status == "masked"
    assert video.masks == 240
    assert video.applied == 1.0
    assert 0.2 < video.cover < 0.7
    return out


def masks_of(path: Path, name: str) -> Masks:
    return dict(FORMATS[name].read(path))


def same_bytes(out: Path, expected: Path) -> None:
    for name in ("person.webmask", "person.mobmask", "person.rle.jsonl"):
        assert (out / name).read_bytes() == (expected / name).read_bytes(), name


def test_masks_equal_those_of_a_plain_loop_that_begins_anew_at_each_segment(clip: Path, whole: Path) -> None:
    import openvino as ov

    manifest = Manifest.load(ensure("portrait"))
    request = ov.Core().compile_model(str(manifest.model_path), "CPU").create_infer_request()
    view = make_view(ViewConfig("resize", 256, 144))
    media = open_media(str(clip), max_pixels=1 << 24)
    info, segments = media.plan(Sample.parse("every"))
    assert len(segments) == 2
    expected: Masks = {}
    for segment in segments:
        memory = MaskFilter(FilterOptions(), 256, 144)
        for picture in media.read(segment, Sample.parse("every")):
            items = {"view": np.zeros((144, 256, 3), np.uint8)}
            view.render(picture, items)
            request.infer({0: (items["view"] / np.float32(255))[None]})
            raw = request.get_output_tensor(0).data.reshape(144, 256)
            alpha = memory.step(np.round(raw * 255).astype(np.uint8), items["view"]).alpha
            expected[round(info.seconds(picture.pts) * 1000)] = alpha > 127
    media.close()
    found = masks_of(whole / "person.rle.jsonl", "rle")
    assert list(found) == list(expected)
    for time_ms, mask in found.items():
        # Both round the net's output to a byte, in their own ways; nothing else may differ.
        assert np.mean((mask > 127) != expected[time_ms]) < 1e-3, time_ms


@pytest.mark.parametrize("workers", [2, 4])
def test_any_number_of_workers_leaves_the_same_files(clip: Path, whole: Path, tmp_path: Path, workers: int) -> None:
    (video,) = vpipe_mask.mask([clip], tmp_path, workers=workers, formats=["webmask", "mobmask", "rle"])
    assert video.files == ("person.webmask", "person.mobmask", "person.rle.jsonl")
    same_bytes(tmp_path, whole)


@pytest.mark.parametrize("stage", ["decode", "preprocess", "infer", "postprocess"])
def test_a_worker_killed_in_mid_run_changes_no_byte(clip: Path, whole: Path, tmp_path: Path, stage: str) -> None:
    options = vpipe_mask.options(workers=2, formats=["webmask", "mobmask", "rle"])
    with MaskRun([clip], tmp_path, options) as run:
        killed = threading.Event()

        def kill() -> None:
            while not killed.wait(0.005):
                counters = run.engine.counters()
                if counters and counters["postprocess"].frames > 20:
                    processes = run.engine.supervisor.processes()
                    os.kill(next(pid for name, pid in processes.items() if name.startswith(stage)), signal.SIGKILL)
                    killed.set()

        killer = threading.Thread(target=kill)
        killer.start()
        (video,) = list(run)
        killed.set()
        killer.join()
        restarts = {name: count for name, count in run.engine.supervisor.restarts().items() if count}
    assert list(restarts) in ([f"{stage}[0]"], [f"{stage}[1]"], [f"{stage}.portrait"], [stage])
    assert video.masks == 240
    same_bytes(tmp_path, whole)


def test_with_every_third_frame_inferred_all_frames_have_masks_that_move_along(
    clip: Path, whole: Path, tmp_path: Path
) -> None:
    (video,) = vpipe_mask.mask([clip], tmp_path, every=3, formats=["rle"])
    assert video.masks == 240
    found, full = (masks_of(folder / "person.rle.jsonl", "rle") for folder in (tmp_path, whole))
    assert list(found) == list(full)
    overlaps = []
    for mask, other in zip(found.values(), full.values(), strict=True):
        a, b = mask > 127, other > 127
        overlaps.append(np.count_nonzero(a & b) / max(np.count_nonzero(a | b), 1))
    assert np.mean(overlaps) > 0.95


def test_second_run_decodes_nothing_and_a_changed_knob_makes_all_anew(clip: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for knobs, decoded in (({}, 240), ({}, 0), ({"people": "main"}, 240)):
        with MaskRun([clip], out, vpipe_mask.options(knobs=knobs)) as run:
            list(run)
            assert run.engine.summary()["frames"] == decoded


def test_all_formats_hold_every_frame(clip: Path, tmp_path: Path) -> None:
    (video,) = vpipe_mask.mask([clip], tmp_path, formats=list(FORMATS))
    assert len(video.files) == len(FORMATS) == 5
    times = {name: list(masks_of(tmp_path / file, name)) for name, file in zip(FORMATS, video.files, strict=True)}
    assert len(times["webmask"]) == 240
    assert all(np.abs(np.subtract(each, times["webmask"])).max() <= 1 for each in times.values())


def test_one_decode_gives_what_two_runs_give(clip: Path, whole: Path, tmp_path: Path) -> None:
    ensure("portrait")
    with Pipeline.load(ROOT / "samples" / "score-and-mask.toml").run(clip, tmp_path / "both") as run:
        (row,) = list(run)
        scores = run.columns(row, "quality")
        masks = run.columns(row, "portrait")
    assert scores is not None
    assert masks is not None
    from vpipe_score.run import ScoreRun

    with ScoreRun([clip], tmp_path / "score", vpipe_score.options()) as other:
        (video,) = list(other)
        alone = other.frames(video)
    assert alone is not None
    assert row["quality"]["score"] == video.score
    assert set(scores) == set(alone)
    for name, values in alone.items():
        np.testing.assert_array_equal(scores[name], values, err_msg=name)
    for name in ("webmask", "mobmask"):
        assert (tmp_path / "both" / f"person.{name}").read_bytes() == (whole / f"person.{name}").read_bytes()
    assert [record.pts for record in records(masks, "webmask", row["time_base"])] == masks["pts"].tolist()


def command(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    line = [sys.executable, "-c", "from vpipe.cli import main; main()", "mask", *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, timeout=200)


def test_command_masks_what_is_good_and_says_what_is_not(clip: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.mp4"
    text.write_text("not a video")
    done = command(clip, text, "-o", tmp_path / "out")
    assert done.returncode == 3, done.stderr
    good, bad, total = done.stdout.splitlines()
    assert good.startswith(f"{clip}: 240 masks, applied in 100% of the frames: ")
    assert bad.startswith(f"{text}: failed: ")
    assert total.startswith("240 frames in ")
    rows = [json.loads(line) for line in (tmp_path / "out" / "masks.jsonl").read_text().splitlines()]
    assert [row["status"] for row in rows] == ["masked", "failed"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--formats", "webmask,gif"], "'gif' is not a mask format; known: webmask"),
        (["--set", "people=nobody"], "people is 'nobody'"),
        (["--set", "shine=1"], "shine: no such knob; the filter has"),
        (["--set", "steady"], "'steady' is not of the form NAME=VALUE"),
        (["--model", "portrait/round"], "portrait has no variant 'round'"),
        (["--model", "absent.toml"], "absent.toml: cannot be read"),
    ],
)
def test_wrong_use_is_one_line_and_exit_code_2(clip: Path, tmp_path: Path, arguments: list[str], message: str) -> None:
    done = command(clip, "-o", tmp_path / "out", *arguments)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_two_files_of_one_name_get_files_of_their_own(clip: Path, tmp_path: Path) -> None:
    folders = [tmp_path / "a", tmp_path / "b"]
    for seconds, folder in enumerate(folders, 1):
        folder.mkdir()
        ffmpeg("-i", str(clip), "-t", str(seconds), "-c", "copy", str(folder / "person.mp4"))
    videos = list(vpipe_mask.mask([*folders], tmp_path / "out"))
    assert {file for video in videos for file in video.files} == {
        "person.webmask",
        "person.mobmask",
        "person-2.webmask",
        "person-2.mobmask",
    }


def test_bad_options_of_the_pipeline_are_config_errors(tmp_path: Path) -> None:
    from vpipe_mask.files import MaskFiles
    from vpipe_mask.task import MaskTask

    for options in ({"format": []}, {"formats": ["gif"]}, {"filter": {"steady": 3}}, {"filter": []}):
        with pytest.raises(ConfigError, match=r"postprocess\.options"):
            MaskTask(options, {})
    with pytest.raises(ConfigError, match="branch"):
        MaskFiles({}, tmp_path)
