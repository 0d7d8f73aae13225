"""A manifest alone turns any segmentation network's output into one plane a frame."""

from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as ops

from tests import networks
from tests.models import write_manifest
from tests.unit.test_engine import noise, run
from vpipe.engine import Manifest, open_engine
from vpipe.errors import ModelError

ROWS, COLUMNS = 6, 10
AXES = {"NHWC": (0, 1, 2, 3), "NCHW": (0, 3, 1, 2), "NCWH": (0, 3, 2, 1)}


def write_logits(folder: Path, layout: str, channels: int, **mask: Any) -> Manifest:
    """A network whose `logits` are its input, u8 (n, 6, 10, channels), as (x - 128) / 32, in any layout."""
    folder.mkdir(parents=True, exist_ok=True)
    frames = ops.parameter([-1, ROWS, COLUMNS, channels], ov.Type.f32, name="frames")
    frames.output(0).get_tensor().set_names({"frames"})
    logits = ops.transpose(frames, ops.constant(np.array(AXES[layout])))
    logits.output(0).get_tensor().set_names({"logits"})
    # An output that no manifest asks for is cut off.
    other = ops.result(ops.relu(frames))
    ov.save_model(ov.Model([other, ops.result(logits)], [frames], "tiny"), folder / "tiny.xml", compress_to_fp16=False)
    inputs = [{"name": "frames", "layout": "NHWC", "shape": [-1, ROWS, COLUMNS, channels], "mean": [128.0]}]
    inputs[0]["scale"] = [32.0]
    table = {"name": "mask", "tensor": "logits", "layout": layout, "shape": [-1, ROWS, COLUMNS], **mask}
    return Manifest.load(write_manifest(folder, "tiny.xml", inputs=inputs, outputs=[table]))


def logits_of(frames: np.ndarray) -> np.ndarray:
    return (frames.astype(np.float32) - 128) / 32


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


HEADS = [
    ("none", 1, (), lambda x: x[..., 0]),
    ("none", 3, (1,), lambda x: x[..., 1]),
    ("sigmoid", 1, (), lambda x: sigmoid(x[..., 0])),
    ("sigmoid", 4, (2,), lambda x: sigmoid(x[..., 2])),
    ("sigmoid", 4, (2, 0), lambda x: np.minimum(sigmoid(x[..., 2]) + sigmoid(x[..., 0]), 1)),
    ("softmax", 2, (1,), lambda x: softmax(x)[..., 1]),
    ("softmax", 2, (0,), lambda x: softmax(x)[..., 0]),
    ("softmax", 21, (15,), lambda x: softmax(x)[..., 15]),
    ("softmax", 6, (1, 2, 5), lambda x: softmax(x)[..., [1, 2, 5]].sum(axis=-1)),
    ("argmax", 5, (3,), lambda x: (x[..., 3] == x.max(axis=-1)) * 1.0),
    ("argmax", 5, (3, 0), lambda x: (x[..., [3, 0]].max(axis=-1) == x.max(axis=-1)) * 1.0),
]


@pytest.mark.parametrize("layout", sorted(AXES))
@pytest.mark.parametrize(("head", "channels", "classes", "expected"), HEADS)
def test_head_gives_one_plane_of_any_layout(
    tmp_path: Path, layout: str, head: str, channels: int, classes: tuple[int, ...], expected: Any
) -> None:
    manifest = write_logits(tmp_path, layout, channels, head=head, classes=classes)
    frames = noise((3, ROWS, COLUMNS, channels))
    found = run(manifest, frames)["mask"]
    assert (found.dtype, found.shape) == (np.float32, (3, ROWS, COLUMNS))
    np.testing.assert_allclose(found, expected(logits_of(frames)), atol=2e-6)


@pytest.mark.parametrize(("head", "channels", "classes", "expected"), HEADS)
def test_plane_of_bytes_is_the_same_rounded(
    tmp_path: Path, head: str, channels: int, classes: tuple[int, ...], expected: Any
) -> None:
    manifest = write_logits(tmp_path, "NCHW", channels, head=head, classes=classes, dtype="u8")
    frames = noise((2, ROWS, COLUMNS, channels))
    found = run(manifest, frames)["mask"]
    assert found.dtype == np.uint8
    wanted = np.clip(expected(logits_of(frames)), 0, 1) * 255
    assert np.abs(found - wanted).max() <= 0.501


def test_half_floats_are_to_be_had(tmp_path: Path) -> None:
    manifest = write_logits(tmp_path, "NCHW", 1, head="sigmoid", dtype="f16")
    frames = noise((2, ROWS, COLUMNS, 1))
    found = run(manifest, frames)["mask"]
    assert found.dtype == np.float16
    np.testing.assert_allclose(found, sigmoid(logits_of(frames)[..., 0]), atol=1e-3)


@pytest.mark.parametrize("device", ["CPU", "HETERO:CPU", "AUTO:CPU", "MULTI:CPU"])
def test_device_after_device_has_the_head_in_spite_of_one_cache(tmp_path: Path, device: str) -> None:
    frames = noise((2, ROWS, COLUMNS, 2))
    manifest = write_logits(tmp_path, "NCHW", 2, head="softmax", classes=[1])
    found = run(manifest, frames, device=device, batch=4)["mask"]
    np.testing.assert_allclose(found, softmax(logits_of(frames))[..., 1], atol=1e-6)


def test_class_numbers_without_channels_are_compared(tmp_path: Path) -> None:
    frames = ops.parameter([-1, ROWS, COLUMNS], ov.Type.f32, name="frames")
    frames.output(0).get_tensor().set_names({"frames"})
    numbers = ops.convert(frames, "i64")
    numbers.output(0).get_tensor().set_names({"labels"})
    ov.save_model(ov.Model([ops.result(numbers)], [frames], "tiny"), tmp_path / "tiny.xml")
    inputs = [{"name": "frames", "shape": [-1, ROWS, COLUMNS]}]
    mask = {"name": "mask", "tensor": "labels", "layout": "NHW", "shape": [-1, ROWS, COLUMNS]}
    table = {**mask, "head": "argmax", "classes": [15, 7]}
    manifest = Manifest.load(write_manifest(tmp_path, "tiny.xml", inputs=inputs, outputs=[table]))
    labels = noise((2, ROWS, COLUMNS)) % 20
    np.testing.assert_array_equal(run(manifest, labels)["mask"], np.isin(labels, [15, 7]))
    table = {**mask, "head": "none", "classes": [1]}
    manifest = Manifest.load(write_manifest(tmp_path, "tiny.xml", inputs=inputs, outputs=[table]))
    with pytest.raises(ModelError, match="the head none does not fit: classes are given, but NHW has no channels"):
        open_engine(manifest)


def test_plane_without_channels_passes(tmp_path: Path) -> None:
    manifest = write_logits(tmp_path, "NCHW", 1, head="none")
    text = manifest.path.read_text()
    manifest.path.write_text(
        text.replace('"layout" = "NCHW", "shape" = [-1, 6, 10]', '"layout" = "NHW", "shape" = [-1, 6, 10]')
    )
    with pytest.raises(ModelError, match=r"the model's own shape is \[1,1,6,10\], which is not NHW"):
        open_engine(Manifest.load(manifest.path))


def test_plane_is_resized_where_the_model_has_other_rows_and_columns(tmp_path: Path) -> None:
    import cv2

    manifest = write_logits(tmp_path, "NCHW", 1, head="sigmoid")
    manifest.path.write_text(
        manifest.path.read_text().replace("[-1, 6, 10] ", "[-1, 12, 30] ").replace("[-1, 6, 10],", "[-1, 12, 30],")
    )
    frames = noise((1, ROWS, COLUMNS, 1))
    found = run(Manifest.load(manifest.path), frames)["mask"][0]
    expected = cv2.resize(sigmoid(logits_of(frames)[0, ..., 0]), (30, 12), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("channels", "mask", "message"),
    [
        (3, {"head": "sigmoid"}, r"it has 3 channels; tell the wanted ones"),
        (3, {"head": "softmax", "classes": [3]}, r"classes are \[3\], but it has 3 channels"),
    ],
)
def test_head_that_does_not_fit_the_model_is_refused(
    tmp_path: Path, channels: int, mask: dict[str, Any], message: str
) -> None:
    with pytest.raises(ModelError, match=f"output mask of tiny.xml: the head .* does not fit: {message}"):
        open_engine(write_logits(tmp_path, "NCHW", channels, **mask))


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        ({"head": "tanh"}, r"outputs\[0\].head: Input should be"),
        ({"layout": "NCHW"}, "head: is needed with layout or classes"),
        ({"head": "sigmoid", "layout": "NC"}, "layout: a head needs the model's own axes"),
        ({"head": "sigmoid", "layout": "NCDHW"}, "layout: a head needs the model's own axes"),
        ({"head": "sigmoid", "layout": "HW"}, "layout: 'HW' is not N"),
        ({"head": "sigmoid"}, "layout: a head needs the model's own axes.*this is None"),
        ({"head": "sigmoid", "layout": "NCHW", "shape": [-1, 1, 6, 10]}, r"a head gives \[-1, rows, columns\]"),
        ({"head": "sigmoid", "layout": "NCHW", "dtype": "i64"}, "dtype: a head gives f32, f16 or u8, not i64"),
        ({"head": "softmax", "layout": "NCHW"}, "classes: softmax needs the numbers"),
        ({"head": "argmax", "layout": "NHW"}, "classes: argmax needs the numbers"),
        ({"head": "softmax", "layout": "NHW", "classes": [1]}, "layout: softmax needs channels"),
        ({"head": "none", "layout": "NCHW", "classes": [1, 1]}, "classes: are numbers of channels"),
        ({"head": "none", "layout": "NCHW", "classes": [-1]}, "classes: are numbers of channels"),
    ],
)
def test_bad_head_is_told_with_its_path(tmp_path: Path, mask: dict[str, Any], message: str) -> None:
    write_logits(tmp_path, "NCHW", 1, head="none")
    outputs = [{"name": "mask", "shape": [-1, ROWS, COLUMNS], **mask}]
    path = write_manifest(tmp_path, "tiny.xml", inputs=[{"name": "frames", "shape": [-1, 1]}], outputs=outputs)
    with pytest.raises(ModelError, match=message) as caught:
        Manifest.load(path)
    assert "outputs[0]" in str(caught.value)


def test_deeplab_runs_by_its_manifest_alone(tmp_path: Path) -> None:
    """TensorFlow's layout, 21 classes, the published size: logits at 513x513, one class of them as a plane of bytes."""
    frames = noise((1, 513, 513, 3))
    soft = run(Manifest.load(networks.write_deeplab(tmp_path, width=0.25, head="softmax", classes=[15])), frames)
    path = networks.write_deeplab(tmp_path, width=0.25, head="argmax", classes=[15], dtype="u8")
    hard = run(Manifest.load(path), frames)["mask"]
    everything = {"name": "logits", "shape": [-1, 513, 513, 21]}
    inputs = [{"name": "image", "layout": "NHWC", "shape": [-1, 513, 513, 3], "mean": [127.5], "scale": [127.5]}]
    raw = Manifest.load(write_manifest(tmp_path, "deeplab.xml", inputs=inputs, outputs=[everything]))
    logits = run(raw, frames)["logits"]
    np.testing.assert_allclose(soft["mask"], softmax(logits)[..., 15], atol=1e-5)
    np.testing.assert_array_equal(hard, (logits[..., 15] == logits.max(axis=-1)) * np.uint8(255))
