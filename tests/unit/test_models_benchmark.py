import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.models import write_convnet, write_mean
from vpipe.engine import Manifest, Setup
from vpipe.errors import ResourceError, RunError
from vpipe.models.benchmark import _app, _app_fps, benchmark
from vpipe.models.commands.benchmark import benchmark as command

ONE = Setup(batch=2, streams=1, threads=1, requests=2)


@pytest.fixture(scope="module")
def convnet(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return Manifest.load(write_convnet(tmp_path_factory.mktemp("convnet"), depth=2))


def test_model_is_measured_in_slices_with_benchmark_app(convnet: Manifest) -> None:
    figures = benchmark(convnet, ONE, seconds=1, rounds=2, against=True)
    assert figures.fps > 0
    assert figures.cpu_ms > 0
    assert 0 < figures.p50_ms <= figures.p99_ms
    assert figures.app_fps is not None
    assert figures.ratio is not None
    # No figure of speed is asserted, but a model that was not the same would be off by far more.
    assert 0.1 < figures.ratio < 10


def test_benchmark_app_gets_the_model_as_the_engine_compiles_it(convnet: Manifest, tmp_path: Path) -> None:
    from vpipe.engine.export import prepared, save_model

    model = prepared(convnet, 3)
    save_model(model, tmp_path / "model.xml")
    (port,) = model.inputs
    assert (list(port.shape), port.get_element_type().get_type_name()) == ([3, 2, 224, 224], "u8")
    chunked = Setup(batch=3, streams=1, threads=1, requests=1, device="CPU")
    assert (chunked.chunk, Setup(3, 1, 1, 1, device="GPU").chunk) == (1, 3)
    with _app(tmp_path / "model.xml", chunked, 1) as app:
        assert app.run(None)
        assert _app_fps(*app.result(), chunked) > 0


def test_benchmark_app_that_fails_is_told_with_its_last_line(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"benchmark_app failed with exit code \d+: "):
        _app(tmp_path / "none.xml", ONE, 1)


def test_benchmark_app_that_is_missing_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ResourceError, match="benchmark_app is not to be found"):
        _app(tmp_path / "none.xml", ONE, 1)


def test_command_tells_people_and_machines(tmp_path: Path) -> None:
    manifest = str(write_mean(tmp_path / "mean"))
    options = [manifest, "--seconds", "1", "--rounds", "1", "--alone", "--streams", "1", "--threads", "1"]
    told = CliRunner().invoke(command, options, standalone_mode=False)
    assert told.exception is None
    assert "tiny 1.0.0 on CPU: batch 16, 1 streams, 1 threads, 2 requests in flight, precision f32" in told.output
    assert "benchmark_app" not in told.output
    found = json.loads(CliRunner().invoke(command, [*options, "--json"], standalone_mode=False).output)
    assert (found["model"], found["batch"], found["app_fps"]) == ("tiny", 16, None)
    both = CliRunner().invoke(command, [*options[:5], "--streams", "1"], standalone_mode=False)
    assert "vpipe is at" in both.output
