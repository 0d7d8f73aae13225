import json
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
from vpipe.models.calibration import Place, find_place, gather_views, load_manifest
from vpipe.models.commands.quantize import quantize as command
from vpipe.models.quantize import quantize
from vpipe.models.trial import try_model
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
def place(folder: Path) -> Place:
    return find_place(str(folder / "model.toml"), str(folder / "small.toml"))


@pytest.fixture(scope="module")
def clip() -> str:
    return str(short_clip("quantize", 2.0))


def test_views_are_those_that_the_model_would_get_spread_over_all_sources(place: Place, clip: str) -> None:
    views = gather_views(place, [clip, str(short_clip("quantize", 1.0, tone=3))], 10)
    assert len(views) == 10
    assert {(view.shape, view.dtype.name) for view in views} == {((1, 2, 224, 224), "uint8")}
    assert len({view.tobytes() for view in views}) == 10


def test_source_that_cannot_be_decoded_is_left_out(place: Place, clip: str, tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video at all")
    assert len(gather_views(place, [clip, str(broken)], 8)) == 4
    with pytest.raises(UsageError, match="--data: 1 sources give 0 frames; at least 2 are needed"):
        gather_views(place, [str(broken)], 8)


def test_model_in_8_bits_is_close_to_full_precision_and_runs_by_its_manifest(
    place: Place, clip: str, tmp_path: Path
) -> None:
    manifest = load_manifest(place)
    views = gather_views(place, [clip], 16)
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


def test_layers_that_hurt_stay_in_floating_point(place: Place, clip: str, tmp_path: Path) -> None:
    manifest = load_manifest(place)
    views = gather_views(place, [clip], 8)
    loose = quantize(manifest, Task, views, tmp_path / "loose", limit=1e3)
    tight = quantize(manifest, Task, views, tmp_path / "tight", limit=loose.mean / 4)
    assert tight.mean <= loose.mean / 4
    assert len(tight.kept) > len(loose.kept)


def test_folder_that_is_not_empty_is_not_written_to(place: Place, folder: Path) -> None:
    with pytest.raises(UsageError, match="is not empty; name a new folder"):
        quantize(load_manifest(place), Task, [], folder)


def test_absence_of_nncf_is_told_with_what_to_install(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "nncf", None)
    with pytest.raises(ResourceError, match=r"pip install 'vpipe\[quantize\]'"):
        quantize(load_manifest(place), Task, [np.zeros((1, 2, 224, 224), np.uint8)] * 2, tmp_path / "out")


def test_model_is_looked_for_in_the_installed_pipelines(folder: Path) -> None:
    plugins = Plugins({"small": Plugin(folder / "small.toml")}, {})
    by_path = find_place(str(folder / "model.toml"), plugins=plugins)
    assert by_path.manifest == folder / "model.toml"
    assert by_path.branch.name == "quality"
    with pytest.raises(UsageError, match=r"no installed pipeline uses the model other\.toml"):
        find_place("other.toml", plugins=plugins)


def test_name_of_a_pipeline_means_the_model_of_its_first_branch() -> None:
    place = find_place("score")
    assert place.branch.name == "quality"
    assert load_manifest(place).name == "score"


def test_another_model_may_take_the_place_of_the_one_that_a_pipeline_has(folder: Path, tmp_path: Path) -> None:
    other = write_convnet(tmp_path / "other", depth=2)
    assert find_place(str(other), str(folder / "small.toml")).manifest == other


def test_model_for_another_view_is_refused(folder: Path, tmp_path: Path) -> None:
    other = write_convnet(tmp_path / "other", depth=2)
    other.write_text(other.read_text() + "[view]\ngrid = 3\n")
    with pytest.raises(ModelError, match=r"view\.grid: is 7, but the model tiny"):
        load_manifest(find_place(str(other), str(folder / "small.toml")))


def test_command_tells_what_came_of_it(folder: Path, clip: str, tmp_path: Path) -> None:
    options = [str(folder / "model.toml"), "--pipeline", str(folder / "small.toml"), "--data", clip]
    options += ["--frames", "6", "--limit", "1000", "-o", str(tmp_path / "out")]
    told = CliRunner().invoke(command, options, standalone_mode=False)
    assert told.exception is None, told.output
    assert "layers in 8 bits" in told.output
    assert "largest difference on average" in told.output
    assert "x as fast as in full precision" in told.output
