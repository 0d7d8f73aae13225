"""Networks of real architecture and random weights, built with OpenVINO's own operations: shapes and costs are real.

Each writer makes a folder with a model and its manifest, and returns the manifest's path; see `tests.models`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from tests.models import write_manifest


class _Builder:
    """Layers with weights from a seed; activations are NCHW."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)

    def conv(self, x: Any, cout: int, k: int = 1, stride: int = 1, dilation: int = 1, act: str | None = "relu") -> Any:
        cin = channels(x)
        weights = self._rng.normal(0, (2 / (cin * k * k)) ** 0.5, (cout, cin, k, k)).astype(np.float32)
        pad = [dilation * (k - 1) // 2] * 2
        return self._end(ops.convolution(x, ops.constant(weights), [stride] * 2, pad, pad, [dilation] * 2), cout, act)

    def depthwise(self, x: Any, k: int = 3, stride: int = 1, dilation: int = 1, act: str | None = "relu") -> Any:
        cin = channels(x)
        weights = self._rng.normal(0, (2 / (k * k)) ** 0.5, (cin, 1, 1, k, k)).astype(np.float32)
        pad = [dilation * (k - 1) // 2] * 2
        y = ops.group_convolution(x, ops.constant(weights), [stride] * 2, pad, pad, [dilation] * 2)
        return self._end(y, cin, act)

    def _end(self, y: Any, cout: int, act: str | None) -> Any:
        y = ops.add(y, ops.constant(self._rng.normal(0, 0.1, (1, cout, 1, 1)).astype(np.float32)))
        match act:
            case "relu":
                return ops.relu(y)
            case "relu6":
                return ops.clamp(y, 0.0, 6.0)
            case "hswish":
                return ops.hswish(y)
        return y

    def inverted_residual(self, x: Any, expand: int, cout: int, k: int, stride: int, dilation: int, act: str) -> Any:
        """The block of MobileNetV2 and V3."""
        y = self.conv(x, expand, act=act)
        y = self.depthwise(y, k, stride, dilation, act)
        y = self.conv(y, cout, act=None)
        return ops.add(x, y) if stride == 1 and channels(x) == cout else y


def channels(x: Any) -> int:
    """Channels of an NCHW tensor."""
    return int(x.get_output_partial_shape(0)[1].get_length())


def _parameter(name: str, shape: list[int], dtype: Any = ov.Type.f32) -> Any:
    made = ops.parameter(shape, dtype, name=name)
    made.output(0).get_tensor().set_names({name})
    return made


def _like(x: Any, other: Any) -> Any:
    """Resize to the rows and columns of another."""
    size = ops.gather(ops.shape_of(other), ops.constant(np.array([2, 3])), ops.constant(np.int64(0)))
    axes = ops.constant(np.array([2, 3]))
    return ops.interpolate(x, size, "linear_onnx", "sizes", coordinate_transformation_mode="half_pixel", axes=axes)


def _scaled(x: Any, scale: Any) -> Any:
    axes = ops.constant(np.array([2, 3]))
    return ops.interpolate(x, scale, "linear_onnx", "scales", coordinate_transformation_mode="half_pixel", axes=axes)


def _pooled(x: Any) -> Any:
    return ops.reduce_mean(x, np.array([2, 3]), keep_dims=True)


def _save(path: Path, parameters: list[Any], outputs: dict[str, Any]) -> None:
    results = []
    for name, node in outputs.items():
        node.output(0).get_tensor().set_names({name})
        results.append(ops.result(node))
    ov.save_model(ov.Model(results, parameters, path.stem), path, compress_to_fp16=False)


def write_deeplab(folder: Path, *, size: int = 513, width: float = 1.0, **mask: Any) -> Path:
    """Write a DeepLabV3+ with a MobileNetV2 at output stride 16, 21 classes, NHWC in and out, as TensorFlow has it.

    Args:
        folder: Where to.
        size: Rows and columns of the input; 513 is what it was published with.
        width: Of the MobileNetV2; small numbers make a small model.
        mask: The manifest's table for its output `logits` (n, size, size, 21), for example `head` and `classes`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    net = _Builder(seed=3)
    image = _parameter("image", [-1, size, size, 3])
    x = ops.transpose(image, ops.constant(np.array([0, 3, 1, 2])))
    x = net.conv(x, _wide(32, width), 3, 2, act="relu6")
    low = x
    blocks = [  # expansion, channels, repeats, stride, dilation: MobileNetV2 with the last stage dilated
        (1, 16, 1, 1, 1), (6, 24, 2, 2, 1), (6, 32, 3, 2, 1), (6, 64, 4, 2, 1), (6, 96, 3, 1, 1), (6, 160, 3, 1, 2),
        (6, 320, 1, 1, 2),
    ]  # fmt: skip
    for t, c, repeats, stride, dilation in blocks:
        for i in range(repeats):
            x = net.inverted_residual(
                x, t * channels(x), _wide(c, width), 3, stride if i == 0 else 1, dilation, "relu6"
            )
        if c == 24:
            low = x
    wide = _wide(256, width)
    branches = [net.conv(x, wide), _like(net.conv(_pooled(x), wide), x)]
    branches += [net.conv(net.depthwise(x, 3, 1, rate), wide) for rate in (6, 12, 18)]
    x = net.conv(ops.concat(branches, 1), wide)
    x = ops.concat([_like(x, low), net.conv(low, _wide(48, width))], 1)
    for _ in range(2):
        x = net.conv(net.depthwise(x), wide)
    x = _like(net.conv(x, 21, act=None), ops.transpose(image, ops.constant(np.array([0, 3, 1, 2]))))
    _save(folder / "deeplab.xml", [image], {"logits": ops.transpose(x, ops.constant(np.array([0, 2, 3, 1])))})
    inputs = [
        {"name": "image", "layout": "NHWC", "shape": [-1, size, size, 3], "mean": [127.5], "scale": [127.5]},
    ]
    outputs = [{"name": "mask", "tensor": "logits", "layout": "NHWC", "shape": [-1, size, size], **mask}]
    return write_manifest(folder, "deeplab.xml", name="deeplab", inputs=inputs, outputs=outputs)


def _wide(number: int, width: float) -> int:
    return max(8, int(number * width + 4) // 8 * 8)


MEMORY = (16, 20, 40, 64)
"""Channels that the matting network remembers at 1/2, 1/4, 1/8 and 1/16 of its size."""


def write_matting(folder: Path, *, height: int = 144, width: int = 256, **mask: Any) -> Path:
    """Write a network in the shape of Robust Video Matting, any rows and columns, NCHW in and out.

    A MobileNetV3 encoder, LR-ASPP, and a decoder with a convolutional GRU on half of the channels of each of its four
    scales. Inputs `src` and `downsample_ratio` and four memories, outputs `fgr`, `pha` and four memories.
    """
    folder.mkdir(parents=True, exist_ok=True)
    net = _Builder(seed=4)
    source = _parameter("src", [-1, 3, -1, -1])
    ratio = _parameter("downsample_ratio", [1])
    memories = [_parameter(f"r{i}i", [-1, c, -1, -1]) for i, c in enumerate(MEMORY, 1)]
    both = ops.concat([ratio, ratio], 0)
    small = _scaled(source, both)
    features = []
    x = net.conv(small, 16, 3, 2, act="hswish")
    x = net.inverted_residual(x, 16, 16, 3, 1, 1, "relu")
    features.append(x)
    stages = [
        [(64, 24, 3, 2, 1, "relu"), (72, 24, 3, 1, 1, "relu")],
        [(72, 40, 5, 2, 1, "relu"), (120, 40, 5, 1, 1, "relu")],
        [(240, 80, 3, 2, 1, "hswish"), (480, 112, 3, 1, 1, "hswish"), (672, 160, 5, 1, 2, "hswish")],
    ]
    for stage in stages:
        for expand, cout, k, stride, dilation, act in stage:
            x = net.inverted_residual(x, expand, cout, k, stride, dilation, act)
        features.append(x)
    x = ops.multiply(net.conv(x, 128), ops.sigmoid(net.conv(_pooled(x), 128, act=None)))
    outputs: dict[str, Any] = {}
    x = _remember(net, x, memories[3], outputs, "r4o")
    pictures = [ops.avg_pool(small, [n, n], [0, 0], [0, 0], [n, n], False) for n in (2, 4, 8)]
    for i, cout in ((2, 80), (1, 40), (0, 32)):
        x = ops.concat([_like(x, features[i]), features[i], pictures[i]], 1)
        x = _remember(net, net.conv(x, cout, 3), memories[i], outputs, f"r{i + 1}o")
    x = ops.concat([_like(x, small), small], 1)
    x = net.conv(net.conv(x, 16, 3), 16, 3)
    foreground = ops.clamp(ops.add(_like(net.conv(x, 3, act=None), source), source), 0.0, 1.0)
    alpha = ops.clamp(_like(net.conv(x, 1, act=None), source), 0.0, 1.0)
    _save(folder / "matting.xml", [source, *memories, ratio], {"fgr": foreground, "pha": alpha, **outputs})
    inputs = [
        {"name": "src", "layout": "NHWC", "model_layout": "NCHW", "shape": [-1, height, width, 3], "scale": [255.0]},
    ]
    table = {"name": "mask", "tensor": "pha", "layout": "NCHW", "shape": [-1, height, width], "head": "none", **mask}
    states = [
        {"input": f"r{i}i", "output": f"r{i}o", "shape": [-1, c, height >> i, width >> i]}
        for i, c in enumerate(MEMORY, 1)
    ]
    return write_manifest(
        folder,
        "matting.xml",
        name="matting",
        inputs=inputs,
        outputs=[table],
        states=states,
        constants={"downsample_ratio": [1.0]},
    )


def _remember(net: _Builder, x: Any, memory: Any, outputs: dict[str, Any], name: str) -> Any:
    """A convolutional GRU (Ballas et al., 2016) on the second half of the channels."""
    half = channels(memory)
    first, second = ops.split(x, ops.constant(np.int64(1)), 2).outputs()
    gates = ops.sigmoid(net.conv(ops.concat([second, memory], 1), 2 * half, 3, act=None))
    reset, update = ops.split(gates, ops.constant(np.int64(1)), 2).outputs()
    candidate = ops.tanh(net.conv(ops.concat([second, ops.multiply(reset, memory)], 1), half, 3, act=None))
    one = ops.constant(np.float32(1))
    new = ops.add(ops.multiply(ops.subtract(one, update), memory), ops.multiply(update, candidate))
    outputs[name] = new
    return ops.concat([first, new.output(0)], 1)
