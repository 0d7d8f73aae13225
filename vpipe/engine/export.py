"""A model as the engine would compile it, for programs that measure it or change it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vpipe.engine.manifest import Manifest
from vpipe.engine.openvino import open_core, ov, port_of
from vpipe.engine.prepare import prepare

COMPUTING = ("Convolution", "Deconvolution", "FullyConnected", "MatMul", "GroupConvolution")
"""Kinds of layers, in a compiled model, whose arithmetic is nearly all of a network's."""


def prepared(manifest: Manifest, chunk: int = 1) -> ov.Model:
    """Return a model with everything folded in and its one shape, for requests of `chunk` frames.

    Raises:
        ModelError: The files are damaged, or do not fit the manifest.
    """
    return prepare(open_core(), manifest, chunk)


def save_model(model: ov.Model, path: Path, *, half: bool = False) -> None:
    """Write IR, the .bin beside the .xml; with `half`, floating-point weights in half precision."""
    ov.save_model(model, path, compress_to_fp16=half)


@dataclasses.dataclass(frozen=True, slots=True)
class Layer:
    """A layer of a compiled model that computes."""

    name: str
    """Of all of the model's operations that are done in it, with commas."""
    precision: str
    ms: float
    """Milliseconds of a run, on average."""


class Runner:
    """A model compiled for one frame at a time, to look at what it gives."""

    def __init__(self, model: ov.Model, manifest: Manifest) -> None:
        settings = {"INFERENCE_PRECISION_HINT": "f32", "PERF_COUNT": True}
        self._compiled = compiled = open_core().compile_model(model, "CPU", settings)
        self._request = compiled.create_infer_request()
        self._fields = {f.name: (1, *f.shape) for f in manifest.output_fields}
        self._ports = {name: port_of(compiled.outputs, name, manifest) for name in self._fields}

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Return a frame's outputs by field, each (1, ...)."""
        self._request.infer(dict(inputs))
        found = {name: self._request.get_tensor(port).data for name, port in self._ports.items()}
        return {name: np.array(values).reshape(self._fields[name]) for name, values in found.items()}

    def layers(self) -> list[Layer]:
        """Return each layer that computes; their times are those of the runs so far."""
        found = []
        for node in self._compiled.get_runtime_model().get_ordered_ops():
            info = node.get_rt_info()
            if _text(info, "layerType") in COMPUTING:
                name = _text(info, "originalLayersNames") or node.get_friendly_name()
                time_us = _text(info, "execTimeMcs")  # words where it has never run
                found.append(
                    Layer(name, _text(info, "runtimePrecision"), int(time_us) / 1e3 if time_us.isdigit() else 0.0)
                )
        return found


def _text(info: Any, name: str) -> str:
    return str(info[name].value if hasattr(info[name], "value") else info[name]) if name in info else ""
