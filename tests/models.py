"""Tiny real models for tests, written by script: small enough to check by hand, real enough to run.

Each writer makes a folder with a model and its manifest, and returns the manifest's path.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
from openvino import opset13 as ops


def write_manifest(folder: Path, file: str, **tables: Any) -> Path:
    """Write the manifest of a model that lies in `folder`; `tables` are `inputs`, `outputs`, `view`, `name`, ..."""
    files = sorted(p.name for p in folder.iterdir() if p.suffix in (".xml", ".bin", ".onnx"))
    values = {
        "name": "tiny",
        "version": "1.0.0",
        "file": file,
        "licence": "Apache-2.0",
        "source": "tests/models.py",
        "sha256": {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in files},
        **tables,
    }
    path = folder / "model.toml"
    path.write_text("".join(f"{name} = {_toml(value)}\n" for name, value in values.items()))
    return path


def _toml(value: Any) -> str:
    """Return a value as TOML, tables inline."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(name)} = {_toml(item)}" for name, item in value.items()) + " }"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    return json.dumps(value)


def write_mean(folder: Path, shape: tuple[int, ...] = (2, 8, 8), **input_table: Any) -> Path:
    """Write an IR whose output `score` (n,) is the mean of each item of its input `frames` (n, *shape), f32."""
    folder.mkdir(parents=True, exist_ok=True)
    frames = ops.parameter([-1, *shape], ov.Type.f32, name="frames")
    score = ops.reduce_mean(frames, np.arange(1, len(shape) + 1, dtype=np.int64), keep_dims=False)
    _save(folder / "tiny.xml", frames, {"score": score})
    inputs = [{"name": "frames", "dtype": "u8", "shape": [-1, *shape], **input_table}]
    return write_manifest(folder, "tiny.xml", inputs=inputs, outputs=[{"name": "score", "shape": [-1]}])


def write_channels(folder: Path, size: int = 8, **input_table: Any) -> Path:
    """Write an IR whose output `means` (n, 3) is the mean of each channel of its input `frames` (n, 3, size, size).

    `input_table` says how the view delivers the frames: `layout`, `shape`, `color`, `mean`, `scale`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    frames = ops.parameter([-1, 3, size, size], ov.Type.f32, name="frames")
    _save(folder / "tiny.xml", frames, {"means": ops.reduce_mean(frames, np.array([2, 3]), keep_dims=False)})
    inputs = [{"name": "frames", "dtype": "u8", "shape": [-1, 3, size, size], **input_table}]
    outputs = [{"name": "means", "shape": [-1, 3], "labels": ["first", "second", "third"]}]
    return write_manifest(folder, "tiny.xml", inputs=inputs, outputs=outputs)


def write_convnet(folder: Path, width: int = 32, depth: int = 6, seed: int = 1) -> Path:
    """Write a convnet of random weights, u8 (n, 2, 224, 224) to `score` (n,): a small model's cost, not its worth."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)

    def conv(x: ov.Node, cout: int, k: int, stride: int) -> ov.Node:
        cin = x.get_output_partial_shape(0)[1].get_length()
        weights = rng.normal(0, (2 / (cin * k * k)) ** 0.5, (cout, cin, k, k)).astype(np.float32)
        pad = [(k - stride) // 2 if stride > 1 and k > 3 else k // 2] * 2
        y = ops.convolution(x, ops.constant(weights), [stride] * 2, pad, pad, [1, 1])
        return ops.relu(ops.add(y, ops.constant(rng.normal(0, 0.1, (1, cout, 1, 1)).astype(np.float32))))

    frames = ops.parameter([-1, 2, 224, 224], ov.Type.f32, name="frames")
    x = conv(frames, width, 8, 4)
    for i in range(depth):
        stride = 2 if i % 2 == 0 else 1
        x = conv(x, min(width * 2 ** (i // 2 + 1), 128), 3, stride)
    x = ops.reduce_mean(x, np.array([2, 3]), keep_dims=False)
    head = rng.normal(0, 0.1, (x.get_output_partial_shape(0)[1].get_length(), 1)).astype(np.float32)
    score = ops.squeeze(ops.matmul(x, ops.constant(head), False, False), np.array([1]))
    _save(folder / "tiny.xml", frames, {"score": score})
    inputs = [
        {
            "name": "frames",
            "dtype": "u8",
            "layout": "NCHW",
            "shape": [-1, 2, 224, 224],
            "mean": [127.5],
            "scale": [58.0],
        }
    ]
    return write_manifest(folder, "tiny.xml", inputs=inputs, outputs=[{"name": "score", "shape": [-1]}])


def _save(path: Path, parameter: ov.Node, outputs: dict[str, ov.Node]) -> None:
    results = []
    for name, node in outputs.items():
        node.output(0).get_tensor().set_names({name})
        results.append(ops.result(node))
    parameter.output(0).get_tensor().set_names({parameter.get_friendly_name()})
    ov.save_model(ov.Model(results, [parameter], "tiny"), path, compress_to_fp16=False)
