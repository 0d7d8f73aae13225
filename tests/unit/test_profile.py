from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tests.engine import write_pipeline
from vpipe.cli import cli
from vpipe.config import load_toml
from vpipe.errors import ConfigError
from vpipe.host import Host
from vpipe.pipeline import Pipeline
from vpipe.profile import Profile, find_profile, profile_path, read_profile, write_profile

FIGURES = {"goal": "throughput", "speedup": 1.25, "fps": 100.0, "source": 'a "clip".mp4'}
SETTINGS: dict[str, Any] = {"decode.workers": 3, "branches.0.batch.max_size": 8, "branches.0.infer.precision": "bf16"}


@pytest.fixture
def pipeline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return write_pipeline(tmp_path / "small.toml")


@pytest.fixture
def profile(pipeline: Path) -> Profile:
    host = Host.detect()
    profile = Profile(profile_path(load_toml(pipeline), pipeline.parent, host), SETTINGS, FIGURES)
    write_profile(profile, host)
    return profile


def test_profile_is_read_as_it_was_written(profile: Profile) -> None:
    assert read_profile(profile.path) == profile
    assert [entry.name for entry in profile.path.parent.iterdir()] == [profile.path.name]


def test_later_load_of_the_pipeline_uses_its_profile(pipeline: Path, profile: Profile) -> None:
    loaded = Pipeline.load(pipeline)
    assert loaded.profile == profile
    plan = loaded.plan()
    assert plan.decode_workers == 3
    assert plan.branches[0].batch_size == 8
    assert plan.branches[0].infer.precision == "bf16"


def test_live_run_keeps_the_pipelines_own_settings(pipeline: Path, profile: Profile) -> None:
    with Pipeline.load(pipeline).live(stay=True) as run:
        assert run.plan.branches[0].batch_size == 4
        run.stop()


def test_load_without_a_profile_takes_the_file_as_it_is(pipeline: Path, profile: Profile) -> None:
    loaded = Pipeline.load(pipeline, profile=False)
    assert loaded.profile is None
    assert loaded.plan().decode_workers == 2


def test_knob_that_is_set_by_hand_puts_the_profile_aside(pipeline: Path, profile: Profile) -> None:
    loaded = Pipeline.load(pipeline, {"decode.workers": 1})
    assert loaded.profile is None
    assert loaded.plan().decode_workers == 1
    assert loaded.plan().branches[0].batch_size == 4


@pytest.mark.parametrize("overrides", [{"source.sample": "2/s"}, {"branches.0.view.width": 48}])
def test_profile_is_not_for_other_work(pipeline: Path, profile: Profile, overrides: dict[str, Any]) -> None:
    assert Pipeline.load(pipeline, overrides).profile is None


def test_profile_is_not_for_a_changed_file_or_another_machine(pipeline: Path, profile: Profile) -> None:
    values = load_toml(pipeline)
    assert find_profile(values, pipeline.parent, {}) == profile
    other = Host(cores=Host.detect().cores + 1, cpu="other", memory_bytes=0)
    assert profile_path(values, pipeline.parent, other) != profile.path
    values["branches"][0]["view"]["width"] = 48
    assert find_profile(values, pipeline.parent, {}) is None


def test_profile_is_found_whatever_becomes_of_the_results(pipeline: Path, profile: Profile) -> None:
    assert Pipeline.load(pipeline, {"branches.0.postprocess.options": {"weight": 2}}).profile == profile
    assert Pipeline.load(pipeline, {"run.tries": 5}).profile == profile


def test_profile_is_found_however_the_model_is_named(pipeline: Path) -> None:
    values, host = load_toml(pipeline), Host.detect()
    branch = values["branches"][0]
    paths = []
    for model in ("models/one.toml", str(pipeline.parent / "models" / "one.toml"), "fetched:nowhere"):
        branch["infer"] = {"model": model}
        paths.append(profile_path(values, pipeline.parent, host))
    assert paths[0] == paths[1] != paths[2]


def test_cache_that_is_no_folder_means_no_profile(pipeline: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(pipeline))
    assert Pipeline.load(pipeline).profile is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[settings]\n[figures]\n",
        '[figures]\nspeedup = 1\ngoal = "throughput"\n[settings]\n"branches.0.postprocess.task" = "os:system"\n',
    ],
)
def test_damaged_profile_is_told(pipeline: Path, profile: Profile, text: str) -> None:
    profile.path.write_text(text)
    with pytest.raises(ConfigError, match="is not a profile of vpipe tune; delete it"):
        Pipeline.load(pipeline)


def test_check_shows_the_profile(pipeline: Path, profile: Profile) -> None:
    shown = CliRunner().invoke(cli, ["check", str(pipeline)]).output
    assert f"  profile   {profile.path}: 1.25 x as fast (throughput): decode.workers = 3, " in shown
    other = CliRunner().invoke(cli, ["check", str(pipeline), "--sample", "2/s"]).output
    assert "  sample    2/s\n" in other
    assert "  profile   none; vpipe tune makes one" in other
    profile.path.unlink()
    assert "  profile   none; vpipe tune makes one" in CliRunner().invoke(cli, ["check", str(pipeline)]).output
