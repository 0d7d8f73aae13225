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


def write_picky(folder: Path) -> Path:
    """Write an IR that fails while it runs on a frame, u8 (1, 8, 8), whose highest value does not divide 64; else 1."""
    folder.mkdir(parents=True, exist_ok=True)
    frames = ops.parameter([-1, 1, 8, 8], ov.Type.f32, name="frames")
    highest = ops.convert(ops.reduce_max(frames, np.array([0, 1, 2, 3]), keep_dims=False), "i64")
    rows = ops.concat([ops.reshape(highest, np.array([1]), False), ops.constant(np.array([-1]))], 0)
    ones = ops.reduce_max(ops.reshape(frames, rows, False), np.array([0, 1]), keep_dims=False)
    score = ops.reshape(ops.divide(ones, ops.convert(highest, "f32")), np.array([1]), False)
    _save(folder / "tiny.xml", frames, {"score": score})
    inputs = [{"name": "frames", "dtype": "u8", "shape": [-1, 1, 8, 8]}]
    return write_manifest(folder, "tiny.xml", inputs=inputs, outputs=[{"name": "score", "shape": [-1]}])


def write_onnx(folder: Path) -> Path:
    """Write an ONNX file whose output `score` (n,) is the mean of each item of its input `frames` f32 (n, 3, 8, 8).

    An ONNX file is a protobuf message; the few fields used are written by hand (numbers from onnx.proto3).
    """
    folder.mkdir(parents=True, exist_ok=True)
    axes = _message(1, b"axes") + b"".join(_message(8, n) for n in (1, 2, 3)) + _message(20, 7)
    keep = _message(1, b"keepdims") + _message(3, 0) + _message(20, 2)
    node = _message(1, b"frames") + _message(2, b"score") + _message(4, b"ReduceMean")
    node += _message(5, axes) + _message(5, keep)
    graph = _message(1, node) + _message(2, b"tiny")
    graph += _message(11, _value(b"frames", ["n", 3, 8, 8])) + _message(12, _value(b"score", ["n"]))
    model = _message(1, 8) + _message(7, graph) + _message(8, _message(1, b"") + _message(2, 13))
    (folder / "tiny.onnx").write_bytes(model)
    inputs = [{"name": "frames", "dtype": "u8", "shape": [-1, 3, 8, 8]}]
    return write_manifest(folder, "tiny.onnx", inputs=inputs, outputs=[{"name": "score", "shape": [-1]}])


def _value(name: bytes, shape: list[str | int]) -> bytes:
    """A ValueInfoProto of f32; a dimension by name is dynamic."""
    sizes = [_message(2, size.encode()) if isinstance(size, str) else _message(1, size) for size in shape]
    tensor = _message(1, 1) + _message(2, b"".join(_message(1, size) for size in sizes))
    return _message(1, name) + _message(2, _message(1, tensor))


def _message(number: int, value: int | bytes) -> bytes:
    """One protobuf field."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def _save(path: Path, parameter: ov.Node, outputs: dict[str, ov.Node]) -> None:
    results = []
    for name, node in outputs.items():
        node.output(0).get_tensor().set_names({name})
        results.append(ops.result(node))
    parameter.output(0).get_tensor().set_names({parameter.get_friendly_name()})
    ov.save_model(ov.Model(results, [parameter], "tiny"), path, compress_to_fp16=False)
