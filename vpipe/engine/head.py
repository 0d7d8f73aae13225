"""A segmentation network's head, folded into the model: whatever comes out, one plane a frame goes on.

What the values mean is in `vpipe.engine.interface.Output`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from vpipe.engine.interface import Output
from vpipe.engine.openvino import TYPES, ops, ov


def fold_head(source: Any, output: Output) -> Any:
    """Add the head of an output behind `source`, the model's own output, whose shape is known by now.

    Returns:
        The node whose output is (frames, rows, columns) of the manifest's type.

    Raises:
        ValueError: The model's own output has other axes or fewer channels than the manifest says.
    """
    axes = str(output.layout)
    shape = source.get_partial_shape()
    if shape.is_dynamic or len(shape) != len(axes):
        raise ValueError(f"the model's own shape is {shape}, which is not {axes}")
    if "C" in axes:
        plane = _plane(source, output, axes.index("C"), shape.to_shape()[axes.index("C")])
        axes = axes.replace("C", "")
    else:
        if output.classes and output.head != "argmax":
            raise ValueError(f"classes are given, but {axes} has no channels")
        plane = _one_of(source, output.classes) if output.head == "argmax" else _activated(_f32(source), output.head)
    if axes != "NHW":
        plane = ops.transpose(plane, _numbers([axes.index(axis) for axis in "NHW"]))
    return _typed(_resized(plane, output.shape[1:]), output)


def _plane(source: Any, output: Output, axis: int, channels: int) -> Any:
    """Return one plane out of channels."""
    classes = list(output.classes)
    if not classes and channels != 1:
        raise ValueError(f"it has {channels} channels; tell the wanted ones: classes = [...]")
    if any(number >= channels for number in classes):
        raise ValueError(f"classes are {classes}, but it has {channels} channels, from 0 on")
    values = _f32(source)
    channel = _numbers([axis])
    picked = ops.gather(values, _numbers(classes or [0]), ops.constant(np.int64(axis)))
    match output.head:
        case "argmax":  # a tie counts as won
            highest = ops.reduce_max(values, channel, keep_dims=False)
            return _f32(ops.greater_equal(ops.reduce_max(picked, channel, keep_dims=False), highest))
        case "softmax" if channels == 2 and len(classes) == 1:  # the same in fewer steps
            other = ops.gather(values, _numbers([1 - classes[0]]), ops.constant(np.int64(axis)))
            return ops.squeeze(ops.sigmoid(ops.subtract(picked, other)), channel)
        case "softmax":
            picked = ops.gather(ops.softmax(values, axis), _numbers(classes), ops.constant(np.int64(axis)))
        case _:
            picked = _activated(picked, output.head)
    if len(classes) < 2:
        return ops.squeeze(picked, channel)
    return ops.clamp(ops.reduce_sum(picked, channel, keep_dims=False), 0.0, 1.0)


def _activated(values: Any, head: str | None) -> Any:
    return ops.sigmoid(values) if head == "sigmoid" else values


def _one_of(numbers: Any, classes: tuple[int, ...]) -> Any:
    """Return 1 where a class's number is a wanted one."""
    whole = ops.unsqueeze(ops.convert(numbers, "i32"), _numbers([-1]))
    found = ops.equal(whole, ops.constant(np.array(classes, np.int32)))
    return _f32(ops.reduce_logical_or(found, _numbers([-1]), keep_dims=False))


def _resized(plane: Any, size: tuple[int, ...]) -> Any:
    if tuple(plane.output(0).get_shape()[1:]) == size:
        return plane
    four = ops.unsqueeze(plane, _numbers([1]))
    options = {"coordinate_transformation_mode": "half_pixel", "axes": _numbers([2, 3])}
    four = ops.interpolate(four, _numbers(size), "linear_onnx", "sizes", **options)
    return ops.squeeze(four, _numbers([1]))


def _typed(plane: Any, output: Output) -> Any:
    if output.dtype == "f32":
        return plane
    if output.dtype == "u8":
        plane = ops.round(ops.multiply(ops.clamp(plane, 0.0, 1.0), ops.constant(np.float32(255))), "half_to_even")
    return ops.convert(plane, TYPES[output.dtype])


def _f32(values: Any) -> Any:
    same = not isinstance(values, ov.Node) and values.get_element_type() == ov.Type.f32
    return values.get_node() if same and values.get_node().get_output_size() == 1 else ops.convert(values, "f32")


def _numbers(values: Any) -> Any:
    return ops.constant(np.array(values, np.int64))
