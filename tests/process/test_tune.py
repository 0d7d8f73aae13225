"""Trials are real runs; what a search decides from them is tested in tests/unit/test_tune_search.py."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.engine import ROOT, environment, short_clip, write_pipeline
from vpipe.errors import UsageError
from vpipe.host import Host
from vpipe.pipeline import Pipeline
from vpipe.tune.trial import Bench


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    path = write_pipeline(tmp_path_factory.mktemp("tune") / "small.toml")
    bench = Bench(str(path), str(short_clip("tune", 4.0)), {})
    first = bench.run({})
    assert first.fps > 0
    assert first.latency_ms > 0
    assert first.cpu_ms > 0
    assert first.seconds > 0
    return bench


def test_settings_that_change_no_result_pass(bench: Bench) -> None:
    settings = {"decode.workers": 1, "branches.0.batch.max_size": 2}
    trial = bench.run(settings)
    assert (trial.settings, trial.refused, trial.hopeless) == (settings, None, False)
    assert trial.fps > 0


def test_settings_that_take_other_frames_are_refused(bench: Bench) -> None:
    assert bench.run({"source.sample": "2/s"}).refused == "other frames were taken"


def test_settings_that_change_results_are_refused_with_the_measure(bench: Bench) -> None:
    refused = bench.run({"branches.0.view.width": 64, "branches.0.view.height": 64}).refused
    assert refused is not None
    assert "largest difference; 0.001 are allowed" in refused


def test_settings_that_do_not_work_are_refused_with_the_reason(bench: Bench) -> None:
    refused = bench.run({"decode.slots": 2, "branches.0.batch.max_size": 64}).refused
    assert refused is not None
    assert "cannot fill a batch of 64" in refused


def test_run_that_takes_too_long_is_broken_off(tmp_path: Path) -> None:
    path = write_pipeline(tmp_path / "small.toml")
    bench = Bench(str(path), "synthetic://64x64/200000", {})
    bench._reference = {}  # as after a first run
    trial = bench.run({}, limit_s=0.2)
    assert trial.hopeless
    assert trial.fps == 0


def test_source_that_gives_no_frames_cannot_be_tuned_on(tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    with pytest.raises(UsageError, match="gives no frames to measure"):
        Bench(str(write_pipeline(tmp_path / "small.toml")), str(broken), {}).run({})


def test_command_writes_a_profile_that_the_next_load_uses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = write_pipeline(tmp_path / "small.toml")
    clip = short_clip("tune", 4.0)
    line = [sys.executable, "-m", "vpipe", "tune", str(path), str(clip), "--minutes", "0.001"]

    def run(*options: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*line, *options], env=environment(), cwd=ROOT, capture_output=True, text=True, check=True
        )

    done = run("--json", "--cores", "0")
    found = json.loads(done.stdout.splitlines()[-1])
    assert (found["cores"], found["goal"]) == (1, "throughput")
    assert "own settings:" in done.stderr
    (profile,) = (tmp_path / "cache" / "vpipe" / "profiles").iterdir()
    assert str(profile) == found["profile"]
    # Each number of cores has a profile of its own.
    text = run("--dry").stdout
    assert "x the pipeline's own settings (throughput)" in text
    assert Pipeline.load(path).profile is None or Host.detect().cores == 1
    text = run().stdout
    loaded = Pipeline.load(path).profile
    assert loaded is not None
    assert f"{loaded.path}: later runs use it" in text
