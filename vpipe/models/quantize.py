"""Post-training quantization: a model in 8-bit integers, as close to its full precision as the product asks for.

Only layers that take a good part of the time and gain are quantized: it is mostly the others that hurt (what is pooled,
squared or divided). NNCF measures, on views of real videos, what range each layer's values have. Then the product's own
measure (`Task.differences`) compares the outcome with full precision on other views of the same videos; while the mean
difference is above the product's limit (`Task.near`), one layer more stays in floating point: that which hurts most for
the time that it takes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vpipe.engine import Manifest
from vpipe.errors import ResourceError, RunError, UsageError
from vpipe.models.manifests import write_manifest
from vpipe.task import Task

if TYPE_CHECKING:
    from vpipe.engine.export import Runner

WORTH = 0.03
"""A layer that takes a smaller share of the time stays in floating point."""
GAIN = 0.9
"""So does one that takes more than this share of its time in 8 bits."""
SMOOTH = 0.85
"""How much of the unevenness of a layer's channels goes from its input, which has one range for all of them, into its
weights, which have a range each. On the score net: 0.18 points off on average, against 0.76 without."""


@dataclasses.dataclass(frozen=True, slots=True)
class Quantized:
    """What came of it."""

    manifest: Path
    """Of the new model."""
    frames: int
    """Views that it was judged by; as many others were measured."""
    unit: str
    """What the differences count."""
    limit: float
    mean: float
    """Mean difference from full precision."""
    worst: float
    layers: int
    """Layers that compute."""
    kept: list[str]
    """Those that stayed in floating point."""


def quantize(
    manifest: Manifest, task: type[Task], views: Sequence[NDArray[Any]], out: Path, *, limit: float | None = None
) -> Quantized:
    """Write an 8-bit model and its manifest.

    Args:
        manifest: The model, in full precision.
        task: The product's task, which knows what a difference is.
        views: Real views, each (1, ...) as the model gets it.
        out: The folder to write, new or empty.
        limit: The largest mean difference; the task's own where not given.

    Raises:
        UsageError: The model cannot be quantized, or `out` is in use.
        ResourceError: NNCF is not installed.
        RunError: The limit cannot be kept.
    """
    if manifest.states:
        raise UsageError(f"{manifest.path}: {manifest.name} is recurrent; such models are not quantized")
    if out.exists() and any(out.iterdir()):
        raise UsageError(f"{out}: is not empty; name a new folder, or empty this one")
    limit = task.near if limit is None else limit
    quantizer = _Quantizer(manifest, task, views)
    with contextlib.redirect_stdout(sys.stderr):  # what NNCF shows of its progress is no output of ours
        model, runner, apart = quantizer.within(limit)
    from vpipe.engine.export import save_model

    layers = runner.layers()
    out.mkdir(parents=True, exist_ok=True)
    file = f"{manifest.name}-int8.xml"
    save_model(model, out / file, half=True)
    result = Quantized(
        manifest=out / "model.toml",
        frames=len(apart),
        unit=task.unit,
        limit=limit,
        mean=float(np.mean(apart)),
        worst=float(np.max(apart)),
        layers=len(layers),
        kept=[layer.name for layer in layers if layer.precision.startswith(("f", "bf"))],
    )
    write_manifest(result.manifest, _text(manifest, file), [file, f"{file[:-4]}.bin"])
    report = {
        **dataclasses.asdict(result),
        "manifest": str(result.manifest),
        "of": f"{manifest.name} {manifest.version}",
    }
    (out / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    return result


class _Quantizer:
    """Makes one model anew with these or those layers in 8 bits, and judges it; arguments as for `quantize`."""

    def __init__(self, manifest: Manifest, task: type[Task], views: Sequence[NDArray[Any]]) -> None:
        from vpipe.engine.export import Runner, prepared

        self._nncf = _nncf()
        self._manifest = manifest
        self._task = task
        (self._input,) = (field.name for field in manifest.input_fields)
        self._measured, self._judged = views[::2], views[1::2]
        self._model = prepared(manifest)
        full = Runner(self._model, manifest)
        self._expected = [full.run({self._input: view}) for view in self._judged]
        products = self._names("Convolution|MatMul")
        times = self._times(full, products)
        self._times_ms = {name: ms for name, ms in times.items() if ms >= WORTH * sum(times.values())}
        """Of the products (convolutions, matrix products) that are worth it: what their layers take."""

    def _times(self, runner: Runner, products: Sequence[str]) -> dict[str, float]:
        """Return what the layer of each product takes, in milliseconds."""
        return {name: layer.ms for layer in runner.layers() for name in layer.name.split(",") if name in products}

    def _names(self, types: str) -> list[str]:
        return [node.get_friendly_name() for node in self._model.get_ops() if re.search(types, node.get_type_name())]

    def within(self, limit: float) -> tuple[Any, Runner, list[float]]:
        """Return a model within the limit, a runner of it, and its differences.

        Raises:
            RunError: There is none.
        """
        chosen = list(self._times_ms)
        model, runner, apart = self._attempt(chosen)
        times = self._times(runner, chosen)
        slower = [name for name in chosen if times.get(name, 0.0) > GAIN * self._times_ms[name]]
        if slower:
            chosen = [name for name in chosen if name not in slower]
            model, runner, apart = self._attempt(chosen)
        if np.mean(apart) > limit:
            hurt = {name: float(np.mean(self._attempt([name])[2])) / self._times_ms[name] for name in chosen}
            chosen.sort(key=lambda name: hurt[name])
        while np.mean(apart) > limit:
            least = float(np.mean(apart))
            chosen.pop()
            if not chosen:
                raise RunError(
                    f"{self._manifest.name}: in 8 bits it differs by {least:.4g} {self._task.unit} on average with a "
                    f"single layer; {limit:g} are allowed"
                )
            model, runner, apart = self._attempt(chosen)
        return model, runner, apart

    def _attempt(self, chosen: Sequence[str]) -> tuple[Any, Runner, list[float]]:
        from vpipe.engine.export import Runner

        nncf = self._nncf
        others = [name for name in self._names("^(?!Constant|Parameter|Result)") if name not in chosen]
        model = nncf.quantize(
            self._model,
            nncf.Dataset(self._measured, lambda view: {self._input: view}),
            preset=nncf.QuantizationPreset.MIXED,
            target_device=nncf.TargetDevice.CPU,
            subset_size=len(self._measured),
            fast_bias_correction=False,
            model_type=nncf.ModelType.TRANSFORMER,  # only of this type are channels evened out
            ignored_scope=nncf.IgnoredScope(names=others, validate=False),
            advanced_parameters=nncf.AdvancedQuantizationParameters(
                smooth_quant_alphas=nncf.AdvancedSmoothQuantParameters(convolution=SMOOTH, matmul=SMOOTH)
            ),
        )
        runner = Runner(model, self._manifest)
        apart = [
            float(self._task.differences(expected, runner.run({self._input: view}))[0])
            for expected, view in zip(self._expected, self._judged, strict=True)
        ]
        return model, runner, apart


def _nncf() -> Any:
    os.environ.setdefault("NNCF_CI", "1")  # else it tells its makers that it is being used
    try:
        import nncf
    except ImportError as error:
        raise ResourceError(f"quantizing needs NNCF ({error}); install it: pip install 'vpipe[quantize]'") from None
    nncf.set_log_level(logging.WARNING)
    return nncf


def _text(manifest: Manifest, file: str) -> str:
    """Return the new manifest: everything is folded in, so it tells only what goes in and out."""
    lines = [
        f"name = {_quoted(manifest.name)}",
        f"version = {_quoted(f'{manifest.version}+int8')}",
        f"file = {_quoted(file)}",
        f"licence = {_quoted(manifest.licence)}",
        f"source = {_quoted(f'{manifest.source}, quantized by vpipe models quantize')}",
    ]
    for array in manifest.inputs:
        lines += ["", "[[inputs]]", f"name = {_quoted(array.name)}", f'dtype = "{array.dtype}"']
        lines += [f"shape = {list(array.shape)}"] + ([f'layout = "{array.layout}"'] if array.layout else [])
    for output in manifest.outputs:
        lines += ["", "[[outputs]]", f"name = {_quoted(output.name)}", f'dtype = "{output.dtype}"']
        lines += [f"shape = {list(output.shape)}"] + ([f"range = {list(output.range)}"] if output.range else [])
        lines += [f"labels = [{', '.join(map(_quoted, output.labels))}]"] if output.labels else []
    if manifest.view:
        lines += ["", "[view]", *(f"{name} = {json.dumps(value)}" for name, value in manifest.view.items())]
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
