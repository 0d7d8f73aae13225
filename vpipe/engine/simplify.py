"""The same model in fewer steps, where the runtime does not find them itself. Results differ by rounding alone.

* A transposed convolution whose kernel is as large as its stride is a 1x1 convolution whose channels are then spread
  over the pixels.
* Enlarging before a 1x1 convolution is enlarging after it: both are linear, and there are fewer pixels, and no more
  channels, to work on.
* The mean of a sum is the sum of the means: the sum itself need not be made.

Measured on the portrait net with one thread, alternating: 2.14 to 1.93, 1.89 and 1.82 CPU ms a frame.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from vpipe.engine.openvino import ops, ov


def simplify(model: ov.Model) -> None:
    """Rewrite a model in place; its shapes must be final."""
    for node in model.get_ordered_ops():
        rewrite = _REWRITES.get(node.get_type_name())
        if rewrite is None or any(output.get_partial_shape().is_dynamic for output in node.outputs()):
            continue
        found = rewrite(node)
        if found is None:
            continue
        old, new = found
        targets = list(old.output(0).get_target_inputs())
        if any(target.get_node().get_type_name() == "Result" for target in targets):
            continue  # its name is known outside
        for target in targets:
            target.replace_source_output(new.output(0))
    model.validate_nodes_and_infer_types()


def _spread(node: Any) -> tuple[Any, Any] | None:
    """Find a transposed convolution that touches every pixel once."""
    attributes = node.get_attributes()
    if node.get_input_size() != 2 or node.input_value(1).get_partial_shape().is_dynamic:
        return None
    entering, leaving, *kernel = node.input_value(1).get_shape()
    once = list(attributes["strides"]) == kernel and len(kernel) == 2 and kernel[0] == kernel[1]
    if not once or any((*attributes["pads_begin"], *attributes["pads_end"], *attributes["output_padding"])):
        return None
    weights = ops.transpose(node.input_value(1), _numbers(1, 2, 3, 0))
    weights = ops.reshape(weights, _numbers(leaving * kernel[0] ** 2, entering, 1, 1), False)
    return node, ops.depth_to_space(_convolved(node.input_value(0), weights), "depth_first", kernel[0])


def _convolved_first(node: Any) -> tuple[Any, Any] | None:
    """Find a 1x1 convolution behind an enlargement, with or without transpositions between them."""
    attributes = node.get_attributes()
    if attributes["mode"] != "linear_onnx" or any((*attributes["pads_begin"], *attributes["pads_end"])):
        return None
    source, follower = node.input_value(0), _only_follower(node)
    if follower is not None and follower.get_type_name() == "Transpose":
        before = source.get_node()
        if before.get_type_name() != "Transpose":
            return None
        source, follower = before.input_value(0), _only_follower(follower)
    if follower is None or follower.get_type_name() != "Convolution" or source.get_partial_shape().is_dynamic:
        return None
    small, large, weights = list(source.get_shape()), list(follower.output(0).get_shape()), follower.input_value(1)
    kept = large[2:] == list(follower.input_value(0).get_shape())[2:]
    if len(small) != 4 or list(weights.get_shape())[2:] != [1, 1] or not kept:
        return None
    if small[1] < large[1] or small[2] > large[2] or small[3] > large[3]:
        return None
    enlarged = ops.interpolate(
        _convolved(source, weights),
        _numbers(*large[2:]),
        "linear_onnx",
        "sizes",
        coordinate_transformation_mode=attributes["coordinate_transformation_mode"],
        axes=_numbers(2, 3),
    )
    return follower, enlarged


def _means(node: Any) -> tuple[Any, Any] | None:
    """Find the mean of a sum that nobody else needs."""
    total = node.input_value(0).get_node()
    if total.get_type_name() != "Add" or _only_follower(total) is None:
        return None
    parts = [total.input_value(number) for number in range(2)]
    if parts[0].get_partial_shape() != parts[1].get_partial_shape():
        return None
    axes, keep = node.input_value(1), node.get_attributes()["keep_dims"]
    return node, ops.add(*(ops.reduce_mean(part, axes, keep) for part in parts))


def _convolved(source: Any, weights: Any) -> Any:
    return ops.convolution(source, weights, [1, 1], [0, 0], [0, 0], [1, 1])


def _only_follower(node: Any) -> Any | None:
    targets = list(node.output(0).get_target_inputs())
    return targets[0].get_node() if len(targets) == 1 else None


def _numbers(*values: int) -> Any:
    return ops.constant(np.array(values, np.int64))


_REWRITES = {"ConvolutionBackpropData": _spread, "Interpolate": _convolved_first, "ReduceMean": _means}
