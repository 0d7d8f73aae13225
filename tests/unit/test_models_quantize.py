import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from tests.engine import short_clip, write_pipeline
from tests.models import write_convnet
from vpipe.engine import Manifest
from vpipe.engine.export import Runner, prepared
from vpipe.errors import ModelError, ResourceError, UsageError
from vpipe.models.calibration import find_branch, gather_views
from vpipe.models.commands.quantize import quantize as command
from vpipe.models.quantize import quantize
from vpipe.models.trial import try_model
from vpipe.plan import BranchPlan
from vpipe.plugin import Plugin, Plugins
from vpipe.task import Task

PIPELINE = """
name = "small"
[[branches]]
name = "quality"
[branches.view]
kind = "fragments"
grid = 7
patch = 32
pair = true
[branches.infer]
model = "model.toml"
[run]
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline and its model, as a product would have them."""
    folder = tmp_path_factory.mktemp("product")
    write_convnet(folder, width=16, depth=3)
    write_pipeline(folder / "small.toml", PIPELINE)
    return folder


@pytest.fixture(scope="module")
def branch(folder: Path) -> BranchPlan:
    return find_branch(str(folder / "model.toml"), str(folder / "small.toml"))


@pytest.fixture(scope="module")
def clip() -> str:
    return str(short_clip("quantize", 2.0))


def manifest_of(branch: BranchPlan) -> Manifest:
    assert branch.manifest is not None
    return branch.manifest


def test_views_are_those_that_the_model_would_get_spread_over_all_sources(branch: BranchPlan, clip: str) -> None:
    views = gather_views(branch, [clip, str(short_clip("quantize", 1.0, tone=3))], 10)
    assert len(views) == 10
    assert {(view.shape, view.dtype.name) for view in views} == {((1, 2, 224, 224), "uint8")}
    assert len({view.tobytes() for view in views}) == 10


def test_source_that_cannot_be_decoded_is_left_out(branch: BranchPlan, clip: str, tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video at all")
    assert len(gather_views(branch, [clip, str(broken)], 8)) == 4
    with pytest.raises(UsageError, match="--data: 1 sources give 0 frames; at least 2 are needed"):
        gather_views(branch, [str(broken)], 8)


def test_model_in_8_bits_is_close_to_full_precision_and_runs_by_its_manifest(
    branch: BranchPlan, clip: str, tmp_path: Path
) -> None:
    manifest = manifest_of(branch)
    views = gather_views(branch, [clip], 16)
    found = quantize(manifest, Task, views, tmp_path / "out", limit=1e3)
    assert (found.frames, found.unit, found.limit) == (8, "largest difference", 1e3)
    assert found.layers >= 4
    assert len(found.kept) <= 1  # what is left of the last, tiny layer
    small = Manifest.load(found.manifest)
    assert (small.name, small.version) == (manifest.name, f"{manifest.version}+int8")
    assert (small.input_fields, small.output_fields) == (manifest.input_fields, manifest.output_fields)
    try_model(small)
    full, quick = Runner(prepared(manifest), manifest), Runner(prepared(small), small)
    apart = [
        abs(float(full.run({"frames": v})["score"][0] - quick.run({"frames": v})["score"][0])) for v in views[1::2]
    ]
    assert found.mean == pytest.approx(np.mean(apart), abs=1e-3)
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["of"] == "tiny 1.0.0"
    assert report["kept"] == found.kept


def test_layers_that_hurt_stay_in_floating_point(
    branch: BranchPlan, clip: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # All layers are tried, whatever they gain: what they take differs from one measurement to the next.
    monkeypatch.setattr("vpipe.models.quantize.WORTH", 0.0)
    monkeypatch.setattr("vpipe.models.quantize.GAIN", math.inf)
    manifest = manifest_of(branch)
    views = gather_views(branch, [clip], 8)
    loose = quantize(manifest, Task, views, tmp_path / "loose", limit=1e3)
    tight = quantize(manifest, Task, views, tmp_path / "tight", limit=0.9 * loose.mean)
    assert tight.mean <= 0.9 * loose.mean
    assert len(tight.kept) > len(loose.kept)


def test_folder_that_is_not_empty_is_not_written_to(branch: BranchPlan, folder: Path) -> None:
    with pytest.raises(UsageError, match="is not empty; name a new folder"):
        quantize(manifest_of(branch), Task, [], folder)


def test_absence_of_nncf_is_told_with_what_to_install(
    branch: BranchPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "nncf", None)
    with pytest.raises(ResourceError, match=r"pip install 'vpipe\[quantize\]'"):
        quantize(manifest_of(branch), Task, [np.zeros((1, 2, 224, 224), np.uint8)] * 2, tmp_path / "out")


def test_model_is_looked_for_in_the_installed_pipelines(folder: Path) -> None:
    plugins = Plugins({"small": Plugin(folder / "small.toml")}, {})
    found = find_branch(str(folder / "model.toml"), plugins=plugins)
    assert (found.name, manifest_of(found).path) == ("quality", folder / "model.toml")
    with pytest.raises(UsageError, match=r"no installed pipeline uses the model other\.toml"):
        find_branch("other.toml", plugins=plugins)


def test_name_of_a_pipeline_means_the_model_of_its_first_branch() -> None:
    found = find_branch("score")
    assert (found.name, manifest_of(found).name) == ("quality", "score")


def test_another_model_may_take_the_place_of_the_one_that_a_pipeline_has(folder: Path, tmp_path: Path) -> None:
    other = write_convnet(tmp_path / "other", depth=2)
    assert manifest_of(find_branch(str(other), str(folder / "small.toml"))).path == other


def test_model_for_another_view_is_refused(folder: Path, tmp_path: Path) -> None:
    other = write_convnet(tmp_path / "other", depth=2)
    other.write_text(other.read_text() + "[view]\ngrid = 3\n")
    with pytest.raises(ModelError, match=r"view\.grid: is 7, but the model tiny"):
        find_branch(str(other), str(folder / "small.toml"))


def test_branch_without_a_model_cannot_be_quantized(tmp_path: Path) -> None:
    path = write_pipeline(tmp_path / "null.toml")
    told = CliRunner().invoke(command, [str(path), "--pipeline", str(path), "--data", "x.mp4"], standalone_mode=False)
    assert "has no model" in str(told.exception)


def test_command_tells_what_came_of_it(folder: Path, clip: str, tmp_path: Path) -> None:
    options = [str(folder / "model.toml"), "--pipeline", str(folder / "small.toml"), "--data", clip]
    options += ["--frames", "6", "--limit", "1000", "-o", str(tmp_path / "out")]
    told = CliRunner().invoke(command, options, standalone_mode=False)
    assert told.exception is None, told.output
    assert "layers in 8 bits" in told.output
    assert "largest difference on average" in told.output
    assert "x as fast as in full precision" in told.output
