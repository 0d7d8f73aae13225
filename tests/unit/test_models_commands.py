"""`vpipe models` on the command line."""

import hashlib
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import openvino as ov
import pytest
from click.testing import CliRunner, Result

from tests import models, networks
from tests.engine import environment
from tests.unit.test_engine import noise, run
from tests.unit.test_models_fetch import site  # noqa: F401
from vpipe.engine import Manifest
from vpipe.engine.convert import convert_model
from vpipe.errors import ModelError, ResourceError, VpipeError
from vpipe.models.commands import models as group
from vpipe.models.trial import try_model
from vpipe_score import PIPELINE

VERSION = tomllib.loads((PIPELINE.parent / "models/score/model.toml").read_text())["version"]


def call(*arguments: object) -> Result:
    return CliRunner().invoke(group, [str(argument) for argument in arguments])


def good(*arguments: object) -> str:
    done = call(*arguments)
    assert done.exit_code == 0, done.output
    return done.output


def refused(*arguments: object) -> str:
    done = call(*arguments)
    assert isinstance(done.exception, VpipeError), done
    return str(done.exception)


def test_help_lists_the_commands_without_importing_openvino() -> None:
    code = "import sys; from vpipe.cli import main; sys.argv = ['vpipe', 'models', '--help']\ntry: main()\n"
    code += "finally: print('openvino' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True)
    for name in ("convert", "fetch", "list", "show", "verify"):
        assert f"\n  {name} " in done.stdout
    assert done.stdout.splitlines()[-1] == "False"


def test_unknown_command_is_told() -> None:
    done = call("burn")
    assert done.exit_code == 2
    assert "No such command 'burn'" in done.output


# ---- list, fetch


@pytest.mark.usefixtures("site")
def test_list_tells_what_is_there_and_how_to_get_the_rest() -> None:
    def rows() -> dict[str, dict[str, object]]:
        return {row["path"]: row for row in map(json.loads, good("list", "--json").splitlines())}

    before = rows()
    score = next(row for row in before.values() if row["name"] == "score")
    assert (score["there"], score["version"], score["used_by"]) == (True, VERSION, ["score"])
    tiny = next(row for row in before.values() if row["name"] == "tiny")
    assert (tiny["there"], tiny["note"], tiny["used_by"]) == (False, "vpipe models fetch tiny", ["tiny-pipeline"])
    path = good("fetch", "tiny").splitlines()[-1]
    assert path == tiny["path"]
    after = rows()
    assert after[path]["there"]
    assert len(after) == len(before) + 1, "and its variant"
    Path(path).write_text("damage = ")
    assert "not a TOML file" in str(rows()[path]["note"])


def test_list_is_readable(site: Path) -> None:  # noqa: F811
    (site / "pipeline.toml").write_text("name = ")
    lines = good("list").splitlines()
    assert any(line.split() == ["score", VERSION, "Apache-2.0", "used", "by", "score"] for line in lines)
    assert any(line.split() == ["tiny", "not", "usable:", "vpipe", "models", "fetch", "tiny"] for line in lines)
    assert any("tiny-pipeline" in line and "not a TOML file" in line for line in lines), "a broken pipeline hides none"


def test_fetch_prints_the_path_only_and_again_means_again(site: Path) -> None:  # noqa: F811
    command = [sys.executable, "-m", "vpipe", "models", "fetch", "tiny"]
    for options, times in (([], 1), ([], 1), (["--again"], 2)):
        done = subprocess.run([*command, *options], env=environment(site), capture_output=True, text=True, check=True)
        assert Path(done.stdout.strip()).name == "model.toml"
        assert len((site / "fetched").read_text().splitlines()) == times
    done = subprocess.run([*command[:-1], "small"], env=environment(site), capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("vpipe: no model 'small' can be fetched; known:")


# ---- show, verify


def test_show_tells_what_goes_in_and_out(tmp_path: Path) -> None:
    path = networks.write_matting(tmp_path, height=48, width=64)
    text = good("show", path)
    for line in (
        "matting 1.0.0",
        "  licence   Apache-2.0",
        "  input     src: u8 [-1, 48, 64, 3] NHWC, scale 255, model_layout NCHW",
        "  output    mask: f32 [-1, 48, 64] NCHW, head none",
        "  memory    r1i <- r1o: f32 [-1, 16, 24, 32]",
        "  constant  downsample_ratio = 1",
    ):
        assert line in text.splitlines()
    (row,) = map(json.loads, good("show", path, "--json").splitlines())
    assert row["digest"] == Manifest.load(path).digest
    assert "view      kind = fragments, grid = 7" in good("show", "score")


def test_verify_runs_the_model(tmp_path: Path) -> None:
    path = networks.write_matting(tmp_path, height=48, width=64)
    assert good("verify", path).startswith("matting 1.0.0: good: mask float32[48, 64]; compiled in ")
    assert good("verify", "score").startswith(f"score {VERSION}: good: score float32[], faults float32[7],")


def test_verify_finds_damage_and_what_does_not_fit(tmp_path: Path) -> None:
    path = models.write_mean(tmp_path)
    path.write_text(path.read_text().replace('"shape" = [-1] ', '"shape" = [-1, 4] '))
    assert "output score of tiny.xml has shape [1] for 1 frames" in refused("verify", path)
    (tmp_path / "tiny.bin").write_bytes(b"x")
    assert "tiny.bin: sha256 is" in refused("verify", path)
    assert "infer.device: TPU is not to be had" in refused("verify", "score", "--device", "TPU")
    assert "no model is called 'nothing'" in refused("verify", "nothing")


def test_model_that_fails_or_gives_no_number_is_not_good(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="the model fails: "):
        try_model(Manifest.load(models.write_picky(tmp_path / "picky")))
    path = models.write_channels(tmp_path / "nan", layout="NCHW", mean=[127.0], scale=[1e-45])
    with pytest.raises(ModelError, match=r"output means of a grey frame is not a finite number"):
        try_model(Manifest.load(path))


# ---- convert


def test_converted_model_needs_no_more_than_its_drafted_manifest(tmp_path: Path) -> None:
    source = models.write_onnx(tmp_path / "onnx")
    out = tmp_path / "out"
    text = good("convert", source.with_name("tiny.onnx"), "-o", out)
    assert "input   frames: f32 [-1, 3, 8, 8]" in text
    assert f"then: vpipe models verify {out / 'model.toml'}" in text
    good("verify", out / "model.toml")
    frames = noise((2, 3, 8, 8)).astype(np.float32)
    found = run(Manifest.load(out / "model.toml"), frames)["score"]
    np.testing.assert_allclose(found, frames.mean(axis=(1, 2, 3)), rtol=1e-5)
    assert "is there already" in refused("convert", source.with_name("tiny.onnx"), "-o", out)


def test_model_is_cut_at_tensors(tmp_path: Path) -> None:
    """The logits of the network before its last resize, from its input: what runs is a part of the whole."""
    path = networks.write_deeplab(tmp_path / "whole", size=65, width=0.25, head="softmax", classes=[1])
    whole = ov.Core().read_model(path.with_name("deeplab.xml"))
    names = [node.get_friendly_name() for node in whole.get_ordered_ops() if node.get_type_name() == "Clamp"]
    early, late = names[0], names[5]
    upper, lower = tmp_path / "upper", tmp_path / "lower"
    good("convert", path.with_name("deeplab.xml"), "-o", upper, "--outputs", early, "--f32")
    text = good("convert", path.with_name("deeplab.xml"), "-o", lower, "--inputs", early, "--outputs", late, "--f32")
    assert f"input   {early}" in text
    pieces = [ov.Core().read_model(folder / "deeplab.xml") for folder in (upper, lower)]
    assert len(pieces[1].get_ordered_ops()) < len(pieces[0].get_ordered_ops()) + len(whole.get_ordered_ops())
    compiled = [ov.Core().compile_model(model, "CPU") for model in pieces]
    direct = tmp_path / "direct"
    convert_model(path.with_name("deeplab.xml"), direct.parent, "direct", outputs=[late], half=False)
    frames = noise((1, 65, 65, 3)).astype(np.float32)
    expected = ov.Core().compile_model(tmp_path / "direct.xml", "CPU")(frames)[0]
    np.testing.assert_allclose(compiled[1](compiled[0](frames)[0])[0], expected, rtol=1e-3, atol=1e-3)


def test_cut_that_leaves_a_needed_input_out_says_which(tmp_path: Path) -> None:
    path = networks.write_matting(tmp_path, height=48, width=64).with_name("matting.xml")
    message = refused("convert", path, "-o", tmp_path / "out", "--inputs", "src", "--outputs", "pha")
    assert "the outputs also need" in message
    assert "r1i" in message
    text = good("convert", path, "-o", tmp_path / "out", "--outputs", "r4o")
    assert [line.split()[1] for line in text.splitlines() if line.startswith("  input")] == [
        "src:",
        "r4i:",
        "downsample_ratio:",
    ]


def test_tensor_that_is_not_there_is_told_with_those_that_sound_alike(tmp_path: Path) -> None:
    path = networks.write_matting(tmp_path, height=48, width=64).with_name("matting.xml")
    message = refused("convert", path, "-o", tmp_path / "out", "--outputs", "r1u")
    assert "has no tensor r1u; among its" in message
    assert "r1o" in message


def test_sizes_that_are_open_are_left_to_the_user(tmp_path: Path) -> None:
    path = networks.write_matting(tmp_path, height=48, width=64).with_name("matting.xml")
    good("convert", path, "-o", tmp_path / "out")
    text = (tmp_path / "out" / "model.toml").read_text()
    assert "shape = [-1, 3, -1, -1]  # give the sizes" in text
    with pytest.raises(ModelError, match=r"inputs\[0\]: shape: .* a fixed number above 0"):
        Manifest.load(tmp_path / "out" / "model.toml")


def test_half_floats_halve_the_weights(tmp_path: Path) -> None:
    path = models.write_convnet(tmp_path).with_name("tiny.xml")
    good("convert", path, "-o", tmp_path / "half")
    good("convert", path, "-o", tmp_path / "whole", "--f32")
    half, whole = ((tmp_path / name / "tiny.bin").stat().st_size for name in ("half", "whole"))
    assert 0.45 < half / whole < 0.55


def test_strange_file_name_becomes_a_plain_word(tmp_path: Path) -> None:
    path = models.write_onnx(tmp_path).with_name("tiny.onnx")
    strange = path.rename(tmp_path / "_mein Netz (2).onnx")
    good("convert", strange, "-o", tmp_path / "out")
    manifest = Manifest.load(tmp_path / "out" / "model.toml")
    assert manifest.name == "mein-Netz-2-"
    manifest.verify()


def test_file_that_is_no_model_or_a_place_that_is_none_is_told(tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(b"this is text")
    assert "x.onnx: cannot be read as a model" in refused("convert", tmp_path / "x.onnx", "-o", tmp_path / "out")
    with pytest.raises(ResourceError, match="cannot be made: Not a directory"):
        raise call("convert", tmp_path / "x.onnx", "-o", tmp_path / "x.onnx" / "out").exception  # type: ignore[misc]


# ---- what the how-to says


def test_manifest_of_the_how_to_is_a_good_one(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs/how-to/your-own-mask-model.md").read_text("utf-8")
    whole, *more = re.findall(r"^```toml\n((?:.*\n)*?)```$", page, re.MULTILINE)
    (tmp_path / "human-seg.onnx").write_bytes(b"")
    text = whole.replace('"..."', f'"{hashlib.sha256(b"").hexdigest()}"')
    (tmp_path / "model.toml").write_text("\n".join([text, *more]))
    manifest = Manifest.load(tmp_path / "model.toml")
    manifest.verify()
    assert [field.name for field in manifest.output_fields] == ["mask"]
    assert manifest.recurrent
    assert manifest.constants == {"downsample_ratio": (1.0,)}
