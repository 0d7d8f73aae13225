import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests import models
from vpipe.engine import Manifest
from vpipe.errors import ModelError
from vpipe.layout import Field
from vpipe.viewconfig import PictureConfig, ViewConfig

GOOD = """
name = "score"
version = "1.0.0"
file = "score.onnx"
licence = "Apache-2.0"
source = "scripts/train_score"
[sha256]
"score.onnx" = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
[[inputs]]
name = "frames"
layout = "NHWC"
shape = [-1, 90, 160, 3]
[[outputs]]
name = "score"
shape = [-1]
range = [0, 100]
[[outputs]]
name = "faults"
shape = [-1, 2]
labels = ["blur", "noise"]
[view]
kind = "resize"
pixel = "rgb"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "score.onnx").write_bytes(b"")
    return tmp_path


def load(folder: Path, text: str = GOOD) -> Manifest:
    path = folder / "score.toml"
    path.write_text(text)
    return Manifest.load(path)


def test_manifest_gives_the_fields_of_slots_without_the_batch(folder: Path) -> None:
    manifest = load(folder)
    assert manifest.input_fields == (Field("frames", "|u1", (90, 160, 3)),)
    assert manifest.output_fields == (Field("score", "<f4", ()), Field("faults", "<f4", (2,)))
    assert manifest.outputs[1].labels == ("blur", "noise")
    assert manifest.model_path == folder / "score.onnx"


def test_loading_a_manifest_needs_no_inference_runtime(folder: Path) -> None:
    load(folder)
    code = (
        "import pathlib, sys; from vpipe.engine import Manifest;"
        f"Manifest.load(pathlib.Path({str(folder / 'score.toml')!r})); assert 'openvino' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_manifest_travels_to_a_worker_that_needs_no_pydantic(folder: Path) -> None:
    manifest = load(folder)
    text = json.dumps(manifest.to_dict())
    assert Manifest.from_dict(json.loads(text)) == manifest
    code = (
        "import json, sys; from vpipe.engine import Manifest;"
        "manifest = Manifest.from_dict(json.loads(sys.argv[1])); manifest.verify(); print(manifest.digest);"
        "assert 'pydantic' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code, text], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == manifest.digest


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('licence = "Apache-2.0"', "", "licence: Field required"),
        ('name = "score"', 'name = "score"\ncolour = 3', "colour: Unexpected keyword argument"),
        ('name = "score"', 'path = "x"\nname = "score"', "path: is not a setting"),
        ('file = "score.onnx"', 'file = "score.pt"', r"file: 'score.pt' is none of .xml, .onnx, .tflite"),
        ('file = "score.onnx"', 'file = "../score.onnx"', r"sha256: that of \.\./score\.onnx is missing"),
        ('file = "score.onnx"', 'file = "score.xml"', "sha256: that of score.xml, score.bin is missing"),
        ('"score.onnx" = "e3', '"x/score.onnx" = "e3', "sha256: that of score.onnx is missing"),
        ('"score.onnx" = "e3', '"score.onnx" = "zz', r"sha256\.score\.onnx: 'zz.*' is not 64 hexadecimal digits"),
        ("[-1, 90, 160, 3]", "[8, 90, 160, 3]", r"inputs\[0\]: shape: the first size is the batch, -1"),
        ("[-1, 90, 160, 3]", "[-1, -1, -1, 3]", r"inputs\[0\]: shape: .* a fixed number above 0"),
        ("[-1, 90, 160, 3]", "[-1, 90, 160]", "layout: NHWC has 4 axes, shape 3"),
        ("[-1, 90, 160, 3]", "[-1, 90, 160, 3]\nmean = [1, 2]", "mean: 2 numbers for 3 channels"),
        (
            "[-1, 90, 160, 3]",
            "[-1, 90, 160, 3]\nscale = [0]",
            r"inputs\[0\]: scale: divides, so it must not be 0",
        ),
        ("[-1, 90, 160, 3]", '[-1, 90, 160, 3]\nmodel_layout = "NCHWD"', "model_layout: NCHWD has other axes"),
        ("[-1, 90, 160, 3]", '[-1, 90, 160, 3]\nmodel_color = "bgr"', "model_color: needs color and three channels"),
        ("[-1, 90, 160, 3]", '[-1, 90, 160, 3]\ndtype = "u9"', r"inputs\[0\].dtype: Input should be"),
        ('layout = "NHWC"', "mean = [1, 2, 3]", "mean: 3 numbers for 1 channels"),
        ('layout = "NHWC"', 'model_layout = "NCHW"', "layout: is needed"),
        ('"blur", "noise"', '"blur"', r"outputs\[1\]: labels: 1 do not fit shape \[-1, 2\]"),
        ("range = [0, 100]", "range = [100, 0]", r"outputs\[0\]: range: is \[lowest, highest\]"),
        ('name = "faults"', 'name = "score"', "names must differ: score, score"),
        ('pixel = "rgb"', 'pixels = "rgb"', "view: no such setting of a view: pixels"),
        ('name = "score"', "name = ", "not a TOML file"),
    ],
)
def test_bad_value_is_named_with_its_path(folder: Path, old: str, new: str, message: str) -> None:
    assert old in GOOD
    with pytest.raises(ModelError, match=message) as caught:
        load(folder, GOOD.replace(old, new, 1))
    assert "score.toml" in str(caught.value)


def test_missing_manifest_is_a_model_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"none\.toml: cannot be read: No such file"):
        Manifest.load(tmp_path / "none.toml")


def test_missing_model_file_is_named(folder: Path) -> None:
    (folder / "score.onnx").unlink()
    with pytest.raises(ModelError, match=r"score\.onnx: no such file"):
        load(folder)


def test_verify_accepts_the_files_it_was_written_for(folder: Path) -> None:
    load(folder).verify()


def test_damaged_file_is_named_with_both_hashes_and_the_remedy(folder: Path) -> None:
    manifest = load(folder)
    manifest.model_path.write_bytes(b"x")
    with pytest.raises(ModelError, match=r"score\.onnx: sha256 is 2d71.* expects e3b0.*restore it"):
        manifest.verify()


def test_file_that_vanished_after_loading_is_a_model_error(folder: Path) -> None:
    manifest = load(folder)
    manifest.model_path.unlink()
    with pytest.raises(ModelError, match="cannot be read: No such file"):
        manifest.verify()


def test_digest_follows_what_can_change_a_result_and_nothing_else(folder: Path) -> None:
    digest = load(folder).digest
    assert load(folder, GOOD.replace("1.0.0", "1.0.1").replace("Apache-2.0", "MIT")).digest == digest
    for old, new in [("e3b0", "e3b1"), ("NHWC", "NWHC"), ("[0, 100]", "[0, 99]"), ('"rgb"', '"bgr"')]:
        assert load(folder, GOOD.replace(old, new)).digest != digest, new


def test_view_that_differs_from_the_trained_one_is_refused(folder: Path) -> None:
    manifest = load(folder)
    manifest.check_view(ViewConfig(kind="resize", width=160, height=90), "branches[0].view")
    with pytest.raises(ModelError, match=r"branches\[0\]\.view\.pixel: is 'bgr', but .* trained with 'rgb'"):
        manifest.check_view(ViewConfig(kind="resize", width=160, height=90, pixel="bgr"), "branches[0].view")


def test_nested_setting_of_a_view_is_compared_whole(folder: Path) -> None:
    manifest = load(folder, GOOD.replace('pixel = "rgb"', "picture = { width = 160, height = 90, every_s = 0.5 }"))
    with pytest.raises(ModelError, match=r"view\.picture: is None"):
        manifest.check_view(ViewConfig(kind="resize", width=160, height=90), "branches[0].view")
    picture = {"width": 160, "height": 90, "every_s": 0.5}
    manifest.check_view(ViewConfig(kind="resize", width=1, height=1, picture=PictureConfig(**picture)), "v")


def test_test_models_have_good_manifests(tmp_path: Path) -> None:
    for name, write in (("mean", models.write_mean), ("channels", models.write_channels)):
        Manifest.load(write(tmp_path / name)).verify()
