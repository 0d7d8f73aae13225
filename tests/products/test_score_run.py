"""`vpipe score` from end to end: real files, real workers, a tiny model, real exit codes."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import psutil
import pyarrow.parquet as pq
import pytest
from openvino import opset13 as ops

import vpipe_score
from tests.media import make_clip
from tests.models import write_manifest
from vpipe.errors import SourceError, UsageError
from vpipe_score import PIPELINE
from vpipe_score.results import PER_FRAME, VideoScore, fault_columns, thumbnails
from vpipe_score.run import ScoreRun, run_facts

COMMAND = "from vpipe.cli import cli, main; from vpipe_score.cli import score; cli.add_command(score); main()"
"""The command line, with the product on it whether or not this environment has it installed."""

VOLATILE = {"timings"}


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A quality model that can be checked by hand: the brighter the better; faults are the two planes' brightness."""
    folder = tmp_path_factory.mktemp("model")
    frames = ops.parameter([-1, 2, 224, 224], ov.Type.f32, name="frames")
    faults = ops.reduce_mean(frames, np.array([2, 3]), keep_dims=False)
    faults = ops.multiply(faults, ops.constant(np.float32(1 / 255)))
    score = ops.multiply(ops.reduce_mean(faults, np.array([1]), keep_dims=True), ops.constant(np.float32(100)))
    frames.output(0).get_tensor().set_names({"frames"})
    results = []
    for name, node in (("score", score), ("faults", faults)):
        node.output(0).get_tensor().set_names({name})
        results.append(ops.result(node))
    ov.save_model(ov.Model(results, [frames], "bright"), folder / "bright.xml", compress_to_fp16=False)
    return write_manifest(
        folder,
        "bright.xml",
        name="bright",
        version="0.1",
        inputs=[{"name": "frames", "dtype": "u8", "layout": "NCHW", "shape": [-1, 2, 224, 224]}],
        outputs=[
            {"name": "score", "shape": [-1, 1]},
            {"name": "faults", "shape": [-1, 2], "labels": ["dazzling", "glaring"]},
        ],
    )


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three videos, one of them with a name that nobody should have given it."""
    folder = tmp_path_factory.mktemp("clips")
    for name, clip in (("a.mp4", "h264"), ("b.mkv", "h264-pyramid-open")):
        (folder / name).write_bytes(Path(make_clip(clip)).read_bytes())
    odd = os.fsdecode(b"c 'quoted' \"twice\"\nand caf\xe9.mp4")
    (folder / odd).write_bytes(Path(make_clip("h264-cavlc")).read_bytes())
    return folder


def start(*arguments: object, **more: Any) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", COMMAND, "score", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **more)


def vpipe_score_command(*arguments: object, given: bytes | None = None) -> tuple[int, str, str]:
    run = start(*arguments, stdin=subprocess.PIPE)
    out, errors = run.communicate(given)
    return run.returncode, out.decode(), errors.decode()


def rows_of(out: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (out / "scores.jsonl").read_text("utf-8").splitlines()]
    return [{name: value for name, value in row.items() if name not in VOLATILE} for row in rows]


def test_command_scores_good_files_and_says_why_others_failed(clips: Path, model: Path, tmp_path: Path) -> None:
    bad = tmp_path / "text.mp4"
    bad.write_text("this is text")
    out = tmp_path / "out"
    code, said, errors = vpipe_score_command(clips, bad, "-o", out, "--model", model)
    assert code == 3, errors
    assert errors == ""
    videos = [VideoScore.from_dict(row) for row in rows_of(out)]
    assert [Path(video.path).name[:2] for video in videos] == ["a.", "b.", "c ", "te"]
    assert [video.status for video in videos] == ["scored"] * 3 + ["failed"]
    first, failed = videos[0], videos[-1]
    assert first.model is not None
    assert (first.model.name, first.model.version) == ("bright", "0.1")
    assert (first.width, first.height, first.codec, first.frames.scored) == (320, 180, "h264", 6)
    assert {fault.kind for fault in first.faults} == {"dazzling", "glaring", "underexposed", "overexposed", "frozen"}
    assert failed.error is not None
    assert f"{first.score:.1f}" in said
    assert "caf\\xe9" in said
    assert f"{failed.error.kind}: " in said
    assert "3 scored" in said
    assert "1 failed" in said
    for name in ("scores.jsonl", "frames.parquet", "report.html"):
        assert str(out / name) in said
    assert sorted(path.name for path in out.iterdir()) == [
        *("frames.parquet", "ledger.lock", "ledger.sqlite", "report.html", "scores.jsonl"),
    ]


def test_frames_of_the_table_give_the_rows_figures(clips: Path, model: Path, tmp_path: Path) -> None:
    code, _, errors = vpipe_score_command(
        clips / "a.mp4", "-o", tmp_path, "--model", model, "--no-report", "--sample", "every"
    )
    assert code == 0, errors
    (row,) = rows_of(tmp_path)
    table = pq.read_table(tmp_path / "frames.parquet").to_pydict()
    by_model = {"fault_<kind>", "score_low", "score_high", "score_pixels", "novelty"}  # this one gives none but faults
    told = PER_FRAME.keys() - by_model
    kinds = ("dazzling", "glaring", "underexposed", "overexposed")
    assert set(table) == {"path", "key"} | told | {f"fault_{kind}" for kind in kinds}
    assert len(table["pts"]) == row["frames"]["scored"] == 75
    assert table["pts_s"] == pytest.approx([n / 25 for n in range(75)])
    assert np.mean(table["score"]) == pytest.approx(row["mean"], abs=0.01)
    # The model says the mean of its two planes: so do the two faults, and one plane is the frame itself.
    halves = np.add(table["fault_dazzling"], table["fault_glaring"]) * 50
    assert table["score"] == pytest.approx(halves, abs=0.01)
    assert np.multiply(table["fault_dazzling"], 255) == pytest.approx(table["luma_mean"], abs=0.05)
    assert not (tmp_path / "report.html").exists()


def test_second_run_decodes_nothing_and_says_the_same(clips: Path, model: Path, tmp_path: Path) -> None:
    first_code, _, _ = vpipe_score_command(clips, "-o", tmp_path, "--model", model, "--no-report")
    first = (tmp_path / "scores.jsonl").read_bytes(), (tmp_path / "frames.parquet").read_bytes()
    second_code, said, _ = vpipe_score_command(clips, "-o", tmp_path, "--model", model, "--no-report")
    assert first_code == second_code == 0
    assert "3 reused" in said
    assert "(0 frames" in said
    assert ((tmp_path / "scores.jsonl").read_bytes(), (tmp_path / "frames.parquet").read_bytes()) == first
    _, fresh, _ = vpipe_score_command(clips, "-o", tmp_path, "--model", model, "--no-report", "--fresh")
    assert "reused" not in fresh


def test_other_pooling_needs_no_decoding_and_other_sampling_does(clips: Path, model: Path, tmp_path: Path) -> None:
    def run(**overrides: Any) -> tuple[list[VideoScore], int]:
        named = vpipe_score.options(model=model) | {name.replace("__", "."): value for name, value in overrides.items()}
        with ScoreRun([clips / "a.mp4"], tmp_path, named) as under_way:
            videos = list(under_way)
            return videos, under_way.engine.summary()["frames"]

    (base,), decoded = run()
    assert decoded == 6
    (pooled,), decoded = run(branches__0__postprocess__options={"worst_weight": 1.0})
    assert decoded == 0
    assert (pooled.mean, pooled.worst) == (base.mean, base.worst)
    assert pooled.score != base.score
    assert pooled.settings_key != base.settings_key
    (sampled,), decoded = run(source__sample="n=5")
    assert decoded == 5
    assert sampled.frames.scored == 5


def test_json_prints_a_line_a_file_and_standard_input_names_them(clips: Path, model: Path, tmp_path: Path) -> None:
    given = b"".join(os.fsencode(path) + b"\n" for path in clips.iterdir() if "\n" not in path.name)
    code, said, errors = vpipe_score_command(
        "-", "-o", tmp_path, "--model", model, "--json", "--no-report", given=given
    )
    assert code == 0, errors
    printed = [json.loads(line) for line in said.splitlines()]
    assert {row["path"] for row in printed} == {str(clips / "a.mp4"), str(clips / "b.mkv")}
    assert {row["path"]: row["score"] for row in printed} == {row["path"]: row["score"] for row in rows_of(tmp_path)}


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["a.mp4", "--sample", "often"], 2, "'often' is not a sampling"),
        (["a.mp4", "--workers", "0"], 2, "0 is not in the range"),
        (["a.mp4", "--model", "gone.toml"], 2, "gone.toml"),
        ([], 2, "Missing argument"),
        (["a.mp4", "-o", "/dev/null/out"], 1, "/dev/null/out: cannot make the output directory"),
    ],
)
def test_wrong_use_ends_with_its_exit_code_and_one_line(
    arguments: list[str], code: int, message: str, tmp_path: Path
) -> None:
    out = [] if "-o" in arguments else ["-o", tmp_path]
    ended, said, errors = vpipe_score_command(*arguments, *out)
    assert (ended, said) == (code, "")
    assert message in errors
    assert "Traceback" not in errors


def padded_copies(folder: Path, count: int) -> None:
    """Make files of equal pictures but different bytes: equal files would be scored once."""
    folder.mkdir()
    base = Path(make_clip("h264")).read_bytes()
    for number in range(count):
        box = b"free" + number.to_bytes(4)
        (folder / f"{number:02}.mp4").write_bytes(base + (4 + len(box)).to_bytes(4) + box)


def test_full_disk_in_mid_run_is_told_and_the_next_run_goes_on(model: Path, tmp_path: Path) -> None:
    mount, umount = shutil.which("mount"), shutil.which("umount")
    disk, clips = tmp_path / "disk", tmp_path / "clips"
    disk.mkdir()
    padded_copies(clips, 12)
    if mount is None or umount is None:
        pytest.skip("no mount here")
    made = subprocess.run([mount, "-t", "tmpfs", "-o", "size=144k", "vpipe-test", disk], capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"mounting a small disk is not permitted here: {made.stderr.strip()}")
    try:
        options = ("-o", disk, "--model", model, "--no-report")
        code, said, errors = vpipe_score_command(clips, *options)
        assert code == 1
        assert "disk full: " in errors
        assert "finished work is kept" in errors
        assert "Traceback" not in errors
        done = sum(".mp4 " in line for line in said.splitlines())
        assert done < 12
        assert not list(disk.glob("scores*"))
        subprocess.run([mount, "-o", "remount,size=64m", disk], check=True)
        code, said, errors = vpipe_score_command(clips, *options)
        assert code == 0, errors
        assert f"{done} reused" in said or not done
        assert len(rows_of(disk)) == 12
    finally:
        subprocess.run([umount, disk], check=True)


def test_interrupted_run_tells_what_is_done_and_the_next_goes_on(model: Path, tmp_path: Path) -> None:
    folder, out = tmp_path / "clips", tmp_path / "out"
    padded_copies(folder, 40)
    options = ("-o", out, "--model", model, "--sample", "every", "--workers", 1, "--no-report")
    run = start(folder, *options, "--json")
    assert run.stdout is not None
    first = json.loads(run.stdout.readline())
    run.send_signal(signal.SIGINT)
    rest, errors = run.communicate()
    assert run.returncode == 130, errors.decode()
    assert "run the same command again" in errors.decode()
    assert not (out / "scores.jsonl").exists(), "complete or absent"
    done = 1 + len(rest.splitlines())
    assert done < 40
    code, said, errors_again = vpipe_score_command(folder, *options)
    assert code == 0, errors_again
    assert f"{done} reused" in said
    rows = rows_of(out)
    assert len(rows) == 40
    assert {row["score"] for row in rows} == {first["score"]}


def test_python_api_yields_typed_results(clips: Path, model: Path, tmp_path: Path) -> None:
    videos = list(vpipe_score.score(clips / "a.mp4", out=tmp_path, model=model, workers=1))
    assert [video.status for video in videos] == ["scored"]
    assert VideoScore.from_dict(rows_of(tmp_path)[0]).score == videos[0].score


def test_leaving_the_loop_early_ends_every_process(clips: Path, model: Path) -> None:
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    results = vpipe_score.score(clips, model=model)
    next(results)
    assert {child.pid for child in psutil.Process().children(recursive=True)} > before
    results.close()  # type: ignore[attr-defined]
    assert {child.pid for child in psutil.Process().children(recursive=True)} == before


def test_nothing_to_score_is_wrong_use(tmp_path: Path) -> None:
    with pytest.raises(SourceError):
        next(vpipe_score.score([]))
    with pytest.raises(UsageError, match="a report needs an output directory"):
        next(vpipe_score.score(["a.mp4"], report=True))


def test_frames_of_a_result_are_at_hand_while_the_run_is_open(clips: Path, model: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.mp4"
    bad.touch()
    with ScoreRun([clips / "a.mp4", bad], None, vpipe_score.options(model=model)) as run:
        by_name = {Path(video.path).name: video for video in run}
        columns = run.frames(by_name["a.mp4"])
        assert columns is not None
        assert len(columns["score"]) == 6
        assert fault_columns(columns).keys() == {"dazzling", "glaring", "underexposed", "overexposed"}
        assert thumbnails(columns)[0].at_s == 0.0
        assert run.frames(by_name["bad.mp4"]) is None
        facts = run_facts(run.engine.summary(), run.ordered())
        out = run.engine.out
    assert not out.exists(), "a run without an output directory leaves nothing"
    assert facts["files"] == 2
    assert facts["frames_scored"] == 6
    assert set(facts["stages"]) == {"decode", "preprocess", "infer", "postprocess"}
    assert all(0 <= stage["busy"] <= 1 and 0 <= stage["wait"] <= 1 for stage in facts["stages"].values())


def test_package_has_what_the_plugin_names() -> None:
    assert vpipe_score.plugin.pipeline == PIPELINE
    assert vpipe_score.plugin.commands["score"].load().name == "score"
