"""From a file that OpenVINO reads to its own format, cut to the wanted part.

A cut is named by tensors: what lies above a named input is left out, and so is what no named output needs.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vpipe.engine.openvino import TYPES, open_core, ops, ov, read_model, reason_of
from vpipe.errors import ModelError

NAMES = {type_: name for name, type_ in TYPES.items()}


@dataclasses.dataclass(frozen=True, slots=True)
class Port:
    """An input or an output of a converted model."""

    name: str
    dtype: str
    """As manifests call it; a type that they have no word for is told as OpenVINO does."""
    shape: tuple[int, ...] | None
    """-1 where any size goes; None where even the number of axes is open."""


@dataclasses.dataclass(frozen=True, slots=True)
class Converted:
    """What was written."""

    files: tuple[str, ...]
    """NAME.xml and NAME.bin."""
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]


def convert_model(
    source: Path,
    folder: Path,
    name: str,
    *,
    inputs: Sequence[str] = (),
    outputs: Sequence[str] = (),
    half: bool = True,
) -> Converted:
    """Read a model and write it as NAME.xml and NAME.bin.

    Args:
        source: ONNX, TFLite, TensorFlow, Paddle or IR.
        folder: Where to; it is there.
        name: Of the two files.
        inputs: Tensors to be the inputs; none: the model's own.
        outputs: Tensors to be the outputs; none: the model's own.
        half: Keep weights as 16-bit floats: half the size, computed as 32-bit all the same.

    Raises:
        ModelError: The file cannot be read, there is no such tensor, or the cut leaves an input out that is needed.
    """
    model = read_model(open_core(), source)
    if inputs or outputs:
        model = _cut(model, inputs, outputs, source)
    try:
        ov.save_model(model, folder / f"{name}.xml", compress_to_fp16=half)
    except RuntimeError as error:
        raise ModelError(f"{folder / name}.xml: cannot be written: {reason_of(error)}") from None
    ports = ([_port(port) for port in side] for side in (model.inputs, model.outputs))
    return Converted((f"{name}.xml", f"{name}.bin"), *map(tuple, ports))


def _cut(model: ov.Model, inputs: Sequence[str], outputs: Sequence[str], source: Path) -> ov.Model:
    results = [ops.result(_tensor(model, name, source)) for name in outputs] or model.get_results()
    parameters = []
    for name in inputs:
        tensor = _tensor(model, name, source)
        targets = tensor.get_target_inputs()
        parameter = ops.parameter(tensor.get_partial_shape(), tensor.get_element_type(), name=name)
        tensor.get_tensor().set_names(tensor.get_names() - {name})
        parameter.output(0).get_tensor().set_names({name})
        for target in targets:
            target.replace_source_output(parameter.output(0))
        parameters.append(parameter)
    needed = _reached(results)
    missing = [p.output(0).get_any_name() for p in model.get_parameters() if p.get_instance_id() in needed]
    if inputs and missing:
        raise ModelError(f"{source}: the outputs also need {', '.join(missing)}; add it to --inputs or cut below it")
    parameters = parameters or [p for p in model.get_parameters() if p.get_instance_id() in needed]
    return ov.Model(results, parameters, model.get_friendly_name())


def _tensor(model: ov.Model, name: str, source: Path) -> Any:
    """Return the place in the graph that has this tensor's, or its operation's, name."""
    nodes = model.get_ordered_ops()
    for node in nodes:
        for port in node.outputs():
            if name in port.get_names():
                return port
    for node in nodes:
        if name == node.get_friendly_name() and node.get_output_size() and node.get_type_name() != "Result":
            return node.output(0)
    known = sorted({name for node in nodes for port in node.outputs() for name in port.get_names()})
    close = difflib.get_close_matches(name, known, 8, cutoff=0.5) or known[:8]
    raise ModelError(f"{source}: has no tensor {name}; among its {len(known)} are {', '.join(close)}")


def _reached(results: Sequence[Any]) -> set[int]:
    """Return the nodes that the results depend on."""
    seen: set[int] = set()
    todo = list(results)
    while todo:
        node = todo.pop()
        if node.get_instance_id() not in seen:
            seen.add(node.get_instance_id())
            todo += [port.get_node() for port in node.input_values()]
    return seen


def _port(port: Any) -> Port:
    shape = port.get_partial_shape()
    sizes = None if shape.rank.is_dynamic else tuple(-1 if s.is_dynamic else s.get_length() for s in shape)
    type_ = port.get_element_type()
    names = port.get_names()
    return Port(min(names, key=len) if names else "", NAMES.get(type_, type_.get_type_name()), sizes)
