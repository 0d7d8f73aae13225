"""From a manifest to a model that takes what the view delivers and gives what the task wants.

Type, layout, colour order, mean and scale of the inputs are folded into the model, so are constants and a segmentation
network's head; what the manifest does not name is cut off, and the shape is fixed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from vpipe.engine.head import fold_head
from vpipe.engine.interface import Input, Output, State
from vpipe.engine.manifest import Manifest
from vpipe.engine.openvino import TYPES, ops, ov, port_of, preprocess, read_model, reason_of
from vpipe.engine.simplify import simplify
from vpipe.errors import ModelError


def prepare(core: ov.Core, manifest: Manifest, chunk: int) -> ov.Model:
    """Read the model, fold everything in, and give it its one shape, for requests of `chunk` frames.

    Raises:
        ModelError: The files are damaged, or do not fit the manifest.
    """
    manifest.verify()
    model = read_model(core, manifest.model_path)
    named = [i.name for i in manifest.inputs] + [state.input for state in manifest.states] + list(manifest.constants)
    if len(model.inputs) != len(named):
        raise ModelError(
            f"{manifest.path}: inputs are {', '.join(named)}, but {manifest.file} has {len(model.inputs)}: "
            f"{', '.join(port.get_any_name() for port in model.inputs)}"
        )
    for name, values in manifest.constants.items():
        _fix(model, port_of(model.inputs, name, manifest), values)
    model = _fold_inputs(model, manifest, chunk)
    model = _fold_outputs(model, manifest, chunk)
    simplify(model)
    return model


def _fix(model: ov.Model, port: Any, values: Sequence[float]) -> None:
    """Replace an input by its one value."""
    shape = port.get_partial_shape()
    array = np.array(values, port.get_element_type().to_dtype())
    constant = ops.constant(array.reshape(shape.to_shape()) if shape.is_static else array)
    for target in port.get_node().output(0).get_target_inputs():
        target.replace_source_output(constant.output(0))
    model.remove_parameter(port.get_node())


def _fold_inputs(model: ov.Model, manifest: Manifest, chunk: int) -> ov.Model:
    steps = preprocess.PrePostProcessor(model)
    shapes: dict[int, list[int]] = {}
    for array in manifest.inputs:
        port = port_of(model.inputs, array.name, manifest)
        index = model.inputs.index(port)
        shapes[index] = [chunk, *_fold(steps.input(index), array, port)]
    for state in manifest.states:
        index = model.inputs.index(port_of(model.inputs, state.input, manifest))
        steps.input(index).tensor().set_element_type(ov.Type.f32)
        shapes[index] = [chunk, *state.shape[1:]]
    try:
        model = steps.build()
        arrays: list[Input | State] = [*manifest.inputs, *manifest.states]
        for wanted, index in zip(arrays, shapes, strict=True):
            _check_fixed(model.inputs[index].get_partial_shape(), shapes[index], wanted)
        model.reshape(shapes)
    except (RuntimeError, ValueError) as error:
        given = ", ".join(
            [f"{i.name} {list(i.shape)}" for i in manifest.inputs]
            + [f"{state.input} {list(state.shape)}" for state in manifest.states]
        )
        raise ModelError(f"{manifest.path}: inputs {given} do not fit {manifest.file}: {reason_of(error)}") from None
    return model


def _fold(step: Any, wanted: Input, port: Any) -> list[int]:
    """Describe an input as the view delivers it and what is still to be done to it; returns its shape without batch."""
    step.tensor().set_element_type(TYPES[wanted.dtype])
    shape, axes = list(wanted.shape[1:]), wanted.layout
    if axes is None:
        if port.get_partial_shape().rank.is_dynamic:
            return shape
        # Where the model has extra axes of one, its own shape is used; the bytes are the same.
        own = [0 if size.is_dynamic else size.get_length() for size in port.get_partial_shape()][1:]
        if 0 not in own and _solid(own) == _solid(shape):
            shape = own
    else:
        model_axes = wanted.model_layout or axes
        if "C" in model_axes and "C" not in axes:
            axes, shape = axes + "C", [*shape, 1]
        step.tensor().set_layout(ov.Layout(axes))
        step.model().set_layout(ov.Layout(model_axes))
    if wanted.mean or wanted.scale or wanted.model_color:
        step.preprocess().convert_element_type(ov.Type.f32)
    if wanted.model_color and wanted.model_color != wanted.color:
        step.preprocess().reverse_channels()
    for numbers, fold in ((wanted.mean, step.preprocess().mean), (wanted.scale, step.preprocess().scale)):
        if numbers:
            fold(numbers[0] if len(numbers) == 1 else list(numbers))
    return shape


def _check_fixed(own: Any, asked: Sequence[int], wanted: Input | State) -> None:
    """Refuse what a reshape would accept and the weights were not made for; rows and columns may be chosen.

    Raises:
        ValueError: A fixed size differs.
    """
    if own.rank.is_dynamic or len(own) != len(asked):
        return  # for the reshape to say
    axes = (wanted.layout if isinstance(wanted, Input) else None) or "N"
    for i, (mine, size) in enumerate(zip(own, asked, strict=True)):
        free = i == 0 or axes[i : i + 1] in ("D", "H", "W")
        if not free and not mine.is_dynamic and mine.get_length() != size:
            raise ValueError(f"the model has {own}")


def _fold_outputs(model: ov.Model, manifest: Manifest, chunk: int) -> ov.Model:
    """Return the model with the manifest's outputs and no others, in their types, and the states behind them."""
    results = []
    for output in manifest.outputs:
        own = port_of(model.outputs, output.own_name, manifest).get_node()
        results.append(_result(own, _fold_output(own.input_value(0), output, manifest, chunk), output.name))
    for state in manifest.states:
        own = port_of(model.outputs, state.output, manifest).get_node()
        source = own.input_value(0)
        if list(source.get_partial_shape()) != [chunk, *state.shape[1:]]:
            raise ModelError(
                f"{manifest.path}: the state that comes out as {state.output} has shape {source.get_partial_shape()}, "
                f"but the manifest says {list(state.shape)}; correct the manifest"
            )
        result = _result(own, _converted(source, ov.Type.f32), state.output)
        results.append(ops.result(source) if result in results else result)  # a mask may be a memory as well
    return ov.Model(results, model.get_parameters(), manifest.name)


def _fold_output(source: Any, output: Output, manifest: Manifest, chunk: int) -> Any:
    where = f"{manifest.path}: output {output.name} of {manifest.file}"
    if output.head is not None:
        try:
            return fold_head(source, output).output(0)
        except (RuntimeError, ValueError) as error:
            raise ModelError(f"{where}: the head {output.head} does not fit: {reason_of(error)}") from None
    shape = source.get_partial_shape()
    if shape.is_dynamic or _solid(shape.to_shape()) != _solid((chunk, *output.shape[1:])):
        raise ModelError(
            f"{where} has shape {shape} for {chunk} frames, "
            f"but the manifest says {list(output.shape)}; correct the manifest"
        )
    return _converted(source, TYPES[output.dtype])


def _converted(source: Any, type_: Any) -> Any:
    return source if source.get_element_type() == type_ else ops.convert(source, type_).output(0)


def _result(own: Any, value: Any, name: str) -> Any:
    """Return an output of the model that gives `value` under a name of ours, in place of its `own`."""
    source = own.input_value(0)
    if value != source:
        # Two tensors of one name would not do.
        source.get_tensor().set_names(source.get_names() - {name})
        own = ops.result(value)
    value.get_tensor().set_names(value.get_names() | {name})
    return own


def _solid(shape: Sequence[int]) -> list[int]:
    """Return a shape without its axes of one, which change no byte."""
    return [size for size in shape if size != 1]
