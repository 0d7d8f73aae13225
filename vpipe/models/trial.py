"""One run of a model: the proof that its files are whole and do what the manifest says."""

from __future__ import annotations

import contextlib
import dataclasses
import time

import numpy as np

from vpipe.engine import Manifest, Setup, open_engine
from vpipe.errors import ModelError


@dataclasses.dataclass(frozen=True, slots=True)
class Trial:
    """What came of it."""

    open_s: float
    """Seconds to read and compile."""
    run_ms: float
    """Milliseconds of the one frame."""
    outputs: dict[str, str]
    """Type and shape of a frame's result, by field."""

    def __str__(self) -> str:
        outputs = ", ".join(f"{name} {what}" for name, what in self.outputs.items())
        return f"{outputs}; compiled in {self.open_s:.2f} s, first frame {self.run_ms:.1f} ms"


def try_model(manifest: Manifest, *, device: str = "CPU", deadline_s: float = 120.0) -> Trial:
    """Check a model's hashes, compile it, and run it on one grey frame.

    Raises:
        ModelError: A file is damaged, the model does not fit its manifest, or a result is not a finite number.
        ResourceError: There is no such device.
    """
    began = time.monotonic()
    with contextlib.closing(open_engine(manifest, Setup(device=device, requests=1))) as engine:
        opened = time.monotonic()
        tensors = {f.name: np.full((1, *f.shape), 127, f.dtype) for f in manifest.input_fields}
        results = {f.name: np.zeros((1, *f.shape), f.dtype) for f in manifest.output_fields}
        engine.bind([tensors], [results])
        engine.submit(0, 0, 1, ["trial"])
        engine.wait(deadline_s * 1e3)
        found = engine.completed()
        if not found:
            raise ModelError(f"{manifest.path}: no result after {deadline_s:g} s")
        (completion,) = found
        ended = time.monotonic()
    if completion.error is not None:
        raise ModelError(f"{manifest.path}: the model fails: {completion.error}")
    for name, values in results.items():
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise ModelError(f"{manifest.path}: output {name} of a grey frame is not a finite number everywhere")
    outputs = {name: f"{values.dtype.name}{list(values.shape[1:])}" for name, values in results.items()}
    return Trial(opened - began, (ended - opened) * 1e3, outputs)
