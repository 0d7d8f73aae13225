"""The one door to OpenVINO: from a manifest to a model compiled for a device.

Preprocessing (type, layout, colour order, mean and scale) is folded into the model, so that it takes what the view
delivers; its shape is fixed; streams, threads and precision are the plan's.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from vpipe.engine.manifest import DTYPES, Input, Manifest
from vpipe.errors import ModelError, ResourceError
from vpipe.log import log


@contextlib.contextmanager
def _without_converter() -> Iterator[None]:
    """Keep `import openvino` from loading its model converter, which it treats as optional.

    It takes half of the import's time (100 ms of a start-up budget of one second) and brings the telemetry client in.
    """
    name = "openvino.tools.ovc"
    if name in sys.modules:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[name]


with _without_converter():
    import openvino as ov
    from openvino import preprocess

Tensor = ov.Tensor
InferRequest = ov.InferRequest

TYPES = {name: getattr(ov.Type, name) for name in DTYPES}


def compile_model(
    manifest: Manifest,
    *,
    chunk: int,
    device: str,
    streams: int,
    threads: int,
    precision: str,
    cache_dir: Path | None,
) -> ov.CompiledModel:
    """Read, check and compile a model for requests of `chunk` frames; the others as for `open_engine`.

    Raises:
        ModelError: The model is damaged, does not fit its manifest, or the device cannot run it.
        ResourceError: There is no such device, or it has no such precision.
    """
    manifest.verify()
    core = ov.Core()
    settings = _settings(core, device, streams, threads, precision)
    return _compile(core, _prepare(core, manifest, chunk), device, settings, manifest, cache_dir)


def _settings(core: ov.Core, device: str, streams: int, threads: int, precision: str) -> dict[str, Any]:
    """Return the properties for a device; never a performance hint, which would override streams and threads."""
    # Not pinned: decode workers share the cores, and a pinned thread waits for its own core while others are free.
    wanted = {"NUM_STREAMS": str(streams), "INFERENCE_NUM_THREADS": threads, "ENABLE_CPU_PINNING": False}
    if precision != "auto":
        wanted["INFERENCE_PRECISION_HINT"] = precision
    if device.partition(":")[0] in ("AUTO", "HETERO", "MULTI"):
        return {"DEVICE_PROPERTIES": {"CPU": wanted}}  # other members keep their own defaults
    try:
        known = core.get_property(device, "SUPPORTED_PROPERTIES")
        able = core.get_property(device, "OPTIMIZATION_CAPABILITIES")
    except RuntimeError as error:
        raise _no_device(core, device, error) from None
    if precision in ("bf16", "f16") and {"bf16": "BF16", "f16": "FP16"}[precision] not in able:
        name = core.get_property(device, "FULL_DEVICE_NAME")
        raise ResourceError(
            f"infer.precision: {precision} is not to be had on {device} ({name}), which computes "
            f"{', '.join(able)}; use auto or f32"
        )
    return {name: value for name, value in wanted.items() if name in known}


def _no_device(core: ov.Core, device: str, error: RuntimeError) -> ResourceError:
    there = ", ".join(core.available_devices) or "none"
    return ResourceError(f"infer.device: {device} is not to be had ({reason_of(error)}); available here: {there}")


def reason_of(error: BaseException) -> str:
    """Return the part of an OpenVINO message that says something: its last line that is not a place in its source."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [
        line for line in lines if not re.match(r"(Exception from|Check '.*' failed at|Check .* failed at) ", line)
    ]
    return (telling or lines or [type(error).__name__])[-1]


def port_of(ports: Sequence[Any], name: str, manifest: Manifest) -> Any:
    """Return the model's input or output of that name."""
    for port in ports:
        if name in port.get_names() or name == port.get_node().get_friendly_name():
            return port
    there = ", ".join("/".join(sorted(port.get_names())) or port.get_node().get_friendly_name() for port in ports)
    raise ModelError(f"{manifest.path}: {manifest.file} has no input or output {name}; it has {there}")


def _prepare(core: ov.Core, manifest: Manifest, chunk: int) -> ov.Model:
    """Read the model, fold its preprocessing in, and give it its one shape.

    Raises:
        ModelError: The file is damaged, or does not fit the manifest.
    """
    try:
        model = core.read_model(manifest.model_path)
    except RuntimeError as error:
        raise ModelError(f"{manifest.model_path}: cannot be read as a model: {reason_of(error)}") from None
    if len(model.inputs) != len(manifest.inputs):
        named = ", ".join(i.name for i in manifest.inputs)
        raise ModelError(f"{manifest.path}: inputs are {named}, but {manifest.file} has {len(model.inputs)}")
    steps = preprocess.PrePostProcessor(model)
    shapes = {}
    for wanted in manifest.inputs:
        port = port_of(model.inputs, wanted.name, manifest)
        index = model.inputs.index(port)
        shapes[index] = [chunk, *_fold(steps.input(index), wanted, port)]
    for output in manifest.outputs:
        index = model.outputs.index(port_of(model.outputs, output.name, manifest))
        steps.output(index).tensor().set_element_type(TYPES[output.dtype])
    try:
        model = steps.build()
        for wanted, index in zip(manifest.inputs, shapes, strict=True):
            _check_fixed(model.inputs[index].get_partial_shape(), shapes[index], wanted)
        model.reshape(shapes)
    except (RuntimeError, ValueError) as error:
        given = ", ".join(f"{i.name} {list(i.shape)}" for i in manifest.inputs)
        raise ModelError(f"{manifest.path}: inputs {given} do not fit {manifest.file}: {reason_of(error)}") from None
    for output in manifest.outputs:
        shape = port_of(model.outputs, output.name, manifest).get_partial_shape()
        expected = (chunk, *output.shape[1:])
        if shape.is_dynamic or _solid(shape.to_shape()) != _solid(expected):
            raise ModelError(
                f"{manifest.path}: output {output.name} of {manifest.file} has shape {shape} for {chunk} frames, "
                f"but the manifest says {list(output.shape)}; correct the manifest"
            )
    return model


def _solid(shape: Sequence[int]) -> list[int]:
    """Return a shape without its axes of one, which change no byte."""
    return [size for size in shape if size != 1]


def _check_fixed(own: Any, asked: Sequence[int], wanted: Input) -> None:
    """Refuse what a reshape would accept and the weights were not made for; rows and columns may be chosen.

    Raises:
        ValueError: A fixed size differs.
    """
    if own.rank.is_dynamic or len(own) != len(asked):
        return  # for the reshape to say
    axes = wanted.layout or "N"
    for i, (mine, size) in enumerate(zip(own, asked, strict=True)):
        free = i == 0 or axes[i : i + 1] in ("D", "H", "W")
        if not free and not mine.is_dynamic and mine.get_length() != size:
            raise ValueError(f"the model has {own}")


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


def _compile(
    core: ov.Core, model: ov.Model, device: str, settings: dict[str, Any], manifest: Manifest, cache_dir: Path | None
) -> ov.CompiledModel:
    """Compile for the device, with the cache if it can be used.

    Raises:
        ResourceError: There is no such device.
        ModelError: The device cannot run this model.
    """
    cache = _cache(cache_dir)
    for settings_now in ([settings | {"CACHE_DIR": str(cache)}] if cache else []) + [settings]:
        try:
            return core.compile_model(model, device, settings_now)
        except RuntimeError as error:
            failure = error
            log.debug("compiling %s for %s: %s", manifest.model_path, device, error)
    named = re.sub(r"\(\d+\)", "", device.partition(":")[2]).split(",") if ":" in device else [device]
    there = core.available_devices
    if any(name and name not in there and f"{name}.0" not in there for name in named):
        raise _no_device(core, device, failure)
    raise ModelError(f"{manifest.model_path}: cannot be compiled for {device}: {reason_of(failure)}") from None


def _cache(asked: Path | None) -> Path | None:
    """Return the directory for compiled models, or None where there can be none; a cache may only ever save time."""
    try:
        path = asked or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vpipe" / "models"
        path.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):
        return None
    return path if os.access(path, os.W_OK | os.X_OK) else None
