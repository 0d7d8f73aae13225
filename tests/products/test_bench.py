"""`vpipe bench` measures: what it prints is complete and hangs together. How fast it is, is not for tests to say."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests.engine import short_clip, write_pipeline
from tests.live import PIPELINE as LIVE
from vpipe.bench.commands import bench
from vpipe.bench.measure import measure_script, proportional_bytes, written_bytes
from vpipe.errors import VpipeError
from vpipe.media import Sample, open_media
from vpipe_score import naive

FRAMES = 25
"""Of the clip."""


@pytest.fixture(scope="module")
def clip() -> Path:
    return short_clip("bench", 1, 10)


def vpipe_bench(*arguments: object) -> Result:
    return CliRunner().invoke(bench, [str(argument) for argument in arguments])


def last_line(text: str) -> dict[str, Any]:
    found = json.loads(text.splitlines()[-1])
    assert isinstance(found, dict)
    return found


def assert_measured(found: dict[str, Any], frames: int) -> None:
    assert found["frames"] == frames
    for name in ("fps", "cpu_ms_per_frame", "seconds", "wall_s", "peak_mib"):
        assert found[name] > 0, name
    assert found["wall_s"] >= found["seconds"]
    assert found["fps"] == pytest.approx(frames / found["seconds"], rel=0.01)


def test_null_prints_one_object_of_json_with_its_rate() -> None:
    result = vpipe_bench("null", "--frames", 2000, "--rounds", 1, "--json")
    assert result.exit_code == 0, result.output
    found = last_line(result.stdout)
    assert found["bench"] == "null"
    assert found["fps"] == found["vpipe"]["fps"]
    assert_measured(found["vpipe"], 2000)
    stages = found["vpipe"]["stage_cpu_ms_per_frame"]
    assert {"supervisor", "decode", "preprocess", "infer", "postprocess"} <= stages.keys()
    own = found["vpipe"]["own_cpu_ms_per_frame"]
    assert own.keys() == stages.keys()
    assert all(0 < own[name] <= stages[name] + 0.01 for name in own)


def test_null_prints_lines_for_people() -> None:
    result = vpipe_bench("null", "--frames", 1000, "--rounds", 1, "--size", "32x32")
    assert result.exit_code == 0, result.output
    words = [line.split()[0] for line in result.stdout.splitlines()]
    assert words[0] == "bench"
    assert {"vpipe:", "fps", "peak_mib", "cpu_ms_per_frame"} <= set(words)


def test_score_is_measured_against_its_ceiling_and_the_naive_loop(clip: Path) -> None:
    result = vpipe_bench("score", clip, "--sample", "every", "--against", "naive", "--rounds", 1, "--json")
    assert result.exit_code == 0, result.output
    found = last_line(result.stdout)
    assert (found["bench"], found["clip"], found["sample"], found["rounds"]) == ("score", str(clip), "every", 1)
    assert_measured(found["vpipe"], FRAMES)
    assert_measured(found["naive"], FRAMES)
    parts = found["parts_cpu_ms_per_frame"]
    assert parts.keys() == {"decode", "view", "infer"}
    assert all(value > 0 for value in parts.values())
    assert found["ceiling_fps"] == pytest.approx(found["cores"] * 1e3 / sum(parts.values()), rel=0.01)
    assert found["efficiency"] == pytest.approx(found["fps"] / found["ceiling_fps"], rel=0.01)
    in_run, whole = found["parts_in_run_cpu_ms_per_frame"], found["vpipe"]["cpu_ms_per_frame"]
    assert in_run.keys() == {"decode_and_view", "infer", "task"}
    assert all(value > 0 for value in in_run.values())
    own = sum(found["vpipe"]["own_cpu_ms_per_frame"].values())
    assert found["overhead"] == pytest.approx((own + in_run["task"]) / whole, rel=0.01)
    assert found["overhead_with_task"] == pytest.approx(own / whole, rel=0.01)
    assert own + sum(in_run.values()) == pytest.approx(whole, rel=0.01)
    # Against the baseline before the run and after it, of which the faster one is shown.
    assert found["speedup_over_naive"] >= 0.999 * found["fps"] / found["naive"]["fps"]
    assert "startup_s_over_naive" in found


def test_unknown_baseline_is_wrong_use_and_the_known_are_named(clip: Path) -> None:
    result = vpipe_bench("score", clip, "--against", "magic")
    assert result.exit_code == 2
    assert "no baseline 'magic' for score; known: naive" in result.output


def test_pipelines_that_are_installed_can_be_measured() -> None:
    listed = vpipe_bench("--help")
    assert listed.exit_code == 0
    assert "null" in listed.output
    assert "score" in listed.output
    assert vpipe_bench("no-such-pipeline").exit_code == 2


@pytest.mark.parametrize("rule", ["every", "n=4", "5/s"])
def test_naive_loop_takes_the_frames_that_the_sample_chooses(
    clip: Path, rule: str, capsys: pytest.CaptureFixture[str]
) -> None:
    sample = Sample.parse(rule)
    media = open_media(str(clip))
    _, segments = media.plan(sample)
    frames = sum(1 for segment in segments for _ in media.read(segment, sample))
    media.close()
    naive.main(str(clip), rule)
    found = last_line(capsys.readouterr().out)
    assert found.keys() == {"frames", "seconds", "cpu_s"}
    assert found["frames"] == frames
    assert found["seconds"] > 0


def test_script_that_fails_is_told_with_its_exit_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fails_at_once.py").write_text("raise SystemExit(5)\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(VpipeError, match="exit code 5"):
        measure_script("fails_at_once")


def test_memory_of_a_process_is_its_own_and_nothing_once_it_is_gone() -> None:
    assert proportional_bytes(os.getpid()) > 1 << 20
    assert proportional_bytes(1 << 30) == written_bytes(1 << 30) == 0
    assert 1 << 20 < written_bytes(os.getpid()) < proportional_bytes(os.getpid())


def test_live_tells_what_was_carried_and_what_it_took(tmp_path: Path) -> None:
    pipeline = write_pipeline(tmp_path / "live.toml", LIVE)
    options = ("--streams", 2, "--seconds", 2, "--size", "128x64", "--json")
    done = vpipe_bench("live", "--pipeline", pipeline, *options)
    assert done.exit_code == 0, done.output
    found = last_line(done.stdout)
    (run,) = found["runs"]
    assert run["streams"] == 2
    made = run["fps"] * run["seconds"] + sum(run["dropped"].values())
    assert made == pytest.approx(2 * 30 * run["seconds"], rel=0.2)
    assert 0 < run["p50_ms"] <= run["p99_ms"]
    assert found["carried"] == (2 if not run["dropped"] and run["p99_ms"] <= 100 else 0)


def test_live_refuses_a_size_that_cannot_be() -> None:
    done = vpipe_bench("live", "--size", "101x64")
    assert done.exit_code == 2
    assert "must be even" in done.output
