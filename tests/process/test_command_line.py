"""The engine's own commands, as one calls them: most in this process, those that must be watched in their own."""

import contextlib
import json
import os
import pty
import socket
import subprocess
import termios
import threading
import urllib.request
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from tests.engine import PIPELINE, command, environment, rows_of, short_clip, started, until
from tests.engine import write_pipeline as write
from tests.faults import saboteurs
from vpipe import Pipeline
from vpipe.cli import cli, main
from vpipe.errors import ConfigError, MediaError
from vpipe.media import Sample, open_media
from vpipe.plan import Plan


@pytest.fixture
def pipeline(tmp_path: Path) -> Path:
    return write(tmp_path / "small.toml")


def vpipe(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def no_constant(word: str) -> None:
    raise AssertionError(f"{word} is not JSON")


# check, graph and help: nothing is started.


def test_check_prints_the_plan_that_a_run_would_have(pipeline: Path) -> None:
    result = vpipe("check", pipeline)
    assert result.exit_code == 0, result.output
    *lines, profile = result.output.splitlines()
    assert lines == list(Pipeline.load(pipeline).plan().lines())
    assert profile == "  profile   none; vpipe tune makes one"
    assert "2 workers" in result.output
    assert "parquet frames.parquet" in result.output


def test_check_of_a_pipeline_that_is_wrong_tells_the_place(tmp_path: Path) -> None:
    result = vpipe("check", write(tmp_path / "bad.toml", PIPELINE.replace("max_size = 4", "max_size = 0")))
    assert isinstance(result.exception, ConfigError)
    assert "branches" in str(result.exception)
    assert "max_size" in str(result.exception)


def assert_every_worker_and_ring(chart: str, plan: Plan) -> None:
    assert chart.startswith("flowchart LR\n")
    for i in range(plan.decode_workers):
        assert f'decode{i}["decode {i}"]' in chart
        assert f"source --> decode{i}" in chart
    assert f"decode{plan.decode_workers}" not in chart
    for branch in plan.branches:
        name = branch.name.replace("-", "_")
        for stage in ("pre", "infer"):
            assert f"    {stage}_{name}[" in chart
        slots = f"{branch.batch_slots} x {branch.tensor_layout.slot_bytes / 1024:.0f} KiB"
        assert f'pre_{name} -- "{slots}" --> infer_{name}' in chart
        slots = f"{branch.batch_slots} x {branch.result_layout.slot_bytes / 1024:.0f} KiB"
        assert f'infer_{name} -- "{slots}" --> postprocess' in chart
        slots = f"{branch.frame_slots} x {branch.frame_layout.slot_bytes / 1024:.0f} KiB"
        assert chart.count(f'-- "{slots}" --> pre_{name}') == plan.decode_workers
    for sink in plan.config.sinks:
        assert f'"{sink.path}"' in chart


def test_graph_of_a_file_has_every_worker_and_ring(pipeline: Path, tmp_path: Path) -> None:
    result = vpipe("graph", pipeline)
    assert result.exit_code == 0, result.output
    assert_every_worker_and_ring(result.output, Pipeline.load(pipeline).plan())
    assert "infer null" in result.output
    assert vpipe("graph", pipeline, "-o", tmp_path / "chart.mmd").output == ""
    assert (tmp_path / "chart.mmd").read_text() == result.output


def test_graph_of_a_product_names_its_model() -> None:
    result = vpipe("graph", "score")
    assert result.exit_code == 0, result.output
    plan = Pipeline.load("score").plan()
    assert_every_worker_and_ring(result.output, plan)
    manifest = plan.branches[0].manifest
    assert manifest is not None
    assert f"infer {manifest.name} {manifest.version}" in result.output


def test_help_lists_own_commands_and_those_of_products() -> None:
    result = vpipe("--help")
    assert result.exit_code == 0, result.output
    for name in ("bench", "check", "graph", "run", "score"):
        assert f"\n  {name} " in result.output
    assert {"bench", "check", "graph", "run", "score"} <= set(cli.list_commands(click.Context(cli)))
    assert vpipe("no-such-command").exit_code == 2
    assert vpipe("score", "--help").exit_code == 0
    assert "CLIP" in vpipe("bench", "score", "--help").output


def test_error_is_one_line_and_an_exit_code(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["vpipe", "check", "missing.toml"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == ConfigError.exit_code
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("vpipe: ")
    assert "missing.toml" in line


def test_wrong_use_is_told_and_exits_with_two(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["vpipe", "run", "small.toml"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert " run [OPTIONS] PIPELINE SOURCES..." in capfd.readouterr().err


# run


def test_run_prints_a_line_of_json_for_every_file(pipeline: Path, tmp_path: Path) -> None:
    clips = [short_clip("command", 1, 10, tone) for tone in (1, 2)]
    result = vpipe("run", pipeline, *clips, "-o", tmp_path / "out", "--sample", "n=5", "--workers", 1)
    assert result.exit_code == 0, result.output
    rows = rows_of(result.stdout_bytes)
    assert sorted(row["path"] for row in rows) == sorted(map(str, clips))
    assert [row["count"] for row in rows] == [5, 5]
    assert len((tmp_path / "out" / "rows.jsonl").read_text().splitlines()) == 2
    again = rows_of(vpipe("run", pipeline, *clips, "-o", tmp_path / "out", "--sample", "n=5").stdout_bytes)
    assert [row["reused"] for row in again] == [True, True]


def test_run_prints_only_what_json_knows(tmp_path: Path) -> None:
    pipeline = write(tmp_path / "nan.toml", PIPELINE.replace("tests.faults:Record", "tests.faults:Undefined"))
    result = vpipe("run", pipeline, short_clip("command", 1, 10, 1), "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    (row,) = (json.loads(line, parse_constant=no_constant) for line in result.stdout.splitlines())
    assert row["score"] is None


def test_empty_directory_is_a_row_that_says_so_and_exits_with_three(pipeline: Path, tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()
    clip = short_clip("command", 1, 10, 1)
    result = vpipe("run", pipeline, tmp_path / "nothing", clip, "-o", tmp_path / "out")
    assert result.exit_code == 3, result.output
    failed, done = sorted(rows_of(result.stdout_bytes), key=lambda row: row["status"] != "failed")
    assert "holds no video file" in json.dumps(failed)
    assert done["path"] == str(clip)
    assert done["count"] == 25


def test_progress_is_shown_on_a_terminal_and_nowhere_else(pipeline: Path, tmp_path: Path) -> None:
    line = command(pipeline, [short_clip("command", 1, 10, 1)], tmp_path / "out")
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 120))
    shown = bytearray()

    def read() -> None:
        with contextlib.suppress(OSError):  # how a terminal ends, once nobody has it open any more
            while data := os.read(ours, 1 << 12):
                shown.extend(data)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        done = subprocess.run(
            line, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=theirs, env=environment(), check=False
        )
    finally:
        os.close(theirs)
        reader.join()
        os.close(ours)
    assert done.returncode == 0, shown.decode()
    assert b"/1 files" in shown
    assert b"frame/s" in shown or b"s/frame" in shown
    quiet = subprocess.run([*line, "--fresh"], capture_output=True, env=environment(), check=False)
    assert quiet.returncode == 0
    assert b"files" not in quiet.stderr


def test_metrics_of_a_run_are_served_while_it_lasts(pipeline: Path, tmp_path: Path) -> None:
    clip = tmp_path / "gated.mp4"
    clip.write_bytes(short_clip("command", 1, 10, 1).read_bytes())
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def scrape() -> str:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
                return str(answer.read().decode())
        except OSError:
            return ""

    arguments = command(pipeline, [clip], tmp_path / "out", "--metrics", f"127.0.0.1:{port}", "--workers", "1")
    with started(arguments, saboteurs(tmp_path)) as run:
        until(lambda: run.poll() is not None or 'vpipe_frames_total{stage="decode",' in scrape(), "a scrape")
        text = until(lambda: (text := scrape()) and "vpipe_ring_fill{" in text and text, "the rings' fill")
        for family in ("vpipe_worker_state", "vpipe_cpu_seconds_total", "vpipe_unit_seconds", "vpipe_restarts_total"):
            assert f"{family}{{" in text
        for line in text.splitlines():
            if line.startswith("vpipe_ring_fill{"):
                assert 0 <= float(line.rpartition(" ")[2]) <= 1
        Path(f"{clip}.go").touch()
        output, errors = run.communicate()
    assert run.returncode == 0, errors.decode()
    assert [row["count"] for row in rows_of(output)] == [25]
    assert scrape() == ""


# The source that the engine is measured with.


@pytest.mark.parametrize("url", ["synthetic://", "synthetic://64x64", "synthetic://64/100", "synthetic://axb/100"])
def test_synthetic_source_that_is_badly_written_tells_the_form(url: str) -> None:
    with pytest.raises(MediaError, match="synthetic://WIDTHxHEIGHT/FRAMES") as error:
        open_media(url)
    assert error.value.kind == "not_media"


def test_synthetic_source_gives_every_frame_of_every_segment_once() -> None:
    media = open_media("synthetic://32x16/4500")
    info, segments = media.plan(Sample.parse("every"), pair=True)
    assert (info.width, info.height, info.frames, info.segments) == (32, 16, 4500, 3)
    pictures = [picture for segment in segments for picture in media.read(segment, Sample.parse("every"), pair=True)]
    assert [picture.pts for picture in pictures] == list(range(4500))
    assert all(picture.neighbour is not None for picture in pictures)
    media.close()
