"""The one door to OpenVINO: reading a model's file and compiling a prepared model for a device.

Streams, threads and precision are the plan's; what is folded into a model beforehand is `vpipe.engine.prepare`'s.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vpipe.engine.base import Setup
from vpipe.engine.interface import DTYPES
from vpipe.engine.manifest import Manifest
from vpipe.engine.store import cache_folder
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
    from openvino import opset13 as ops
    from openvino import preprocess
    from openvino.frontend import ConversionExtension

__all__ = [
    "TYPES",
    "InferRequest",
    "Tensor",
    "compile_model",
    "open_core",
    "ops",
    "ov",
    "port_of",
    "preprocess",
    "read_model",
    "reason_of",
]

Tensor = ov.Tensor
InferRequest = ov.InferRequest

TYPES = {name: getattr(ov.Type, name) for name in DTYPES}


def open_core() -> ov.Core:
    """Return an OpenVINO core that also knows the layers that MediaPipe added to TFLite."""
    core = ov.Core()
    core.add_extension(ConversionExtension("Convolution2DTransposeBias", _transposed_convolution))
    return core


def _transposed_convolution(node: Any) -> Any:
    """Map MediaPipe's transposed convolution: (x NHWC, weights OHWI, bias), kernel and stride 2, no padding."""
    x, weights, bias = (node.get_input(number) for number in range(3))
    rows, columns = (size.get_length() for size in list(weights.get_partial_shape())[1:3])
    if (rows, columns) != (2, 2):
        raise ValueError(f"Convolution2DTransposeBias: its kernel is {rows}x{columns}; only 2x2 is known")
    x = ops.transpose(x, ops.constant(np.array([0, 3, 1, 2])))
    weights = ops.transpose(weights, ops.constant(np.array([3, 0, 1, 2])))
    y = ops.convolution_backprop_data(x, weights, [2, 2], None, [0, 0], [0, 0], [1, 1])
    return ops.add(ops.transpose(y, ops.constant(np.array([0, 2, 3, 1]))), bias).outputs()


def read_model(core: ov.Core, path: Path) -> ov.Model:
    """Read a model's file.

    Raises:
        ModelError: It is damaged, or holds something that OpenVINO does not know.
    """
    try:
        return core.read_model(path)
    except RuntimeError as error:
        raise ModelError(f"{path}: cannot be read as a model: {reason_of(error)}") from None


def compile_model(core: ov.Core, model: ov.Model, manifest: Manifest, setup: Setup) -> ov.CompiledModel:
    """Compile a prepared model.

    Raises:
        ModelError: The device cannot run it.
        ResourceError: There is no such device, or it has no such precision.
    """
    return _compile(core, model, setup.device, _settings(core, setup), manifest, setup.cache_dir)


def _settings(core: ov.Core, setup: Setup) -> dict[str, Any]:
    """Return the properties for a device; never a performance hint, which would override streams and threads."""
    # Not pinned: decode workers share the cores, and a pinned thread waits for its own core while others are free.
    device, precision = setup.device, setup.precision
    wanted = {"NUM_STREAMS": str(setup.streams), "INFERENCE_NUM_THREADS": setup.threads, "ENABLE_CPU_PINNING": False}
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


def _compile(
    core: ov.Core, model: ov.Model, device: str, settings: dict[str, Any], manifest: Manifest, cache_dir: Path | None
) -> ov.CompiledModel:
    """Compile for the device, with the cache if it can be used.

    Raises:
        ResourceError: There is no such device.
        ModelError: The device cannot run this model.
    """
    cache = _cache(cache_dir, device)
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


def _cache(asked: Path | None, device: str) -> Path | None:
    """Return the directory for compiled models, or None where there can be none; a cache may only ever save time."""
    try:
        path = asked or cache_folder() / "models"
        if not device.isalnum():
            # MULTI would take what HETERO compiled for its CPU, and not find the outputs' names in it (2026.4).
            path /= re.sub(r"\W+", "-", device)
        path.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):
        return None
    return path if os.access(path, os.W_OK | os.X_OK) else None
