"""Post-training quantization: a model in 8-bit integers, as close to its full precision as the product asks for.

NNCF measures, on views of real videos, what range each layer's values have. Then the product's own measure
(`Task.differences`) compares the outcome with full precision on other views of the same videos; while the mean
difference is above the product's limit (`Task.near`), the layers that hurt most go back to higher precision.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vpipe.engine import Manifest
from vpipe.errors import ResourceError, RunError, UsageError
from vpipe.models.manifests import write_manifest
from vpipe.task import Task

Frame = tuple[int, NDArray[Any]]
"""A view and its number."""


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
    nncf = _nncf()
    from vpipe.engine.export import Runner, prepared, save_model

    (name,) = (field.name for field in manifest.input_fields)
    measured, judged = views[::2], views[1::2]
    full = Runner(prepared(manifest), manifest)
    expected = [full.run({name: view}) for view in judged]

    def differences(runner: Runner, frames: Iterable[Frame]) -> list[float]:
        return [float(task.differences(expected[at], runner.run({name: view}))[0]) for at, view in frames]

    def validate(compiled: Any, frames: Iterable[Frame]) -> tuple[float, list[float]]:
        # The higher the better, and 1 for full precision, since NNCF divides by it.
        found = [1.0 - each for each in differences(Runner.of(compiled, manifest), frames)]
        return float(np.mean(found)), found

    def dataset(chosen: Sequence[NDArray[Any]]) -> Any:
        return nncf.Dataset(list(enumerate(chosen)), lambda frame: {name: frame[1]})

    with contextlib.redirect_stdout(sys.stderr):  # what it shows of its progress is no output of ours
        model = nncf.quantize_with_accuracy_control(
            prepared(manifest),
            calibration_dataset=dataset(measured),
            validation_dataset=dataset(judged),
            validation_fn=validate,
            max_drop=limit,
            drop_type=nncf.DropType.ABSOLUTE,
            preset=nncf.QuantizationPreset.MIXED,
            target_device=nncf.TargetDevice.CPU,
            subset_size=len(measured),
            # Each layer is judged by every view: they are few, and a ranking by some would be chance.
            advanced_accuracy_restorer_parameters=nncf.AdvancedAccuracyRestorerParameters(
                ranking_subset_size=len(judged)
            ),
        )
    runner = Runner(model, manifest)
    apart = differences(runner, enumerate(judged))
    if np.mean(apart) > limit:
        raise RunError(
            f"{manifest.name}: in 8 bits it differs by {np.mean(apart):.4g} {task.unit} on average; "
            f"{limit:g} are allowed"
        )
    layers = list(runner.layers())
    out.mkdir(parents=True, exist_ok=True)
    file = f"{manifest.name}-int8.xml"
    save_model(model, out / file, half=True)
    result = Quantized(
        manifest=out / "model.toml",
        frames=len(judged),
        unit=task.unit,
        limit=limit,
        mean=float(np.mean(apart)),
        worst=float(np.max(apart)),
        layers=len(layers),
        kept=[layer for layer, precision in layers if precision.startswith(("f", "bf"))],
    )
    write_manifest(result.manifest, _text(manifest, file), [file, f"{file[:-4]}.bin"])
    report = {
        **dataclasses.asdict(result),
        "manifest": str(result.manifest),
        "of": f"{manifest.name} {manifest.version}",
    }
    (out / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    return result


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
