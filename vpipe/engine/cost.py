"""What a model costs by itself: the part of a run's cost that no engine around it can take away."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vpipe.engine.base import Setup
from vpipe.engine.manifest import Manifest
from vpipe.engine.open import open_engine
from vpipe.layout import ALIGN, Field


@dataclasses.dataclass(frozen=True, slots=True)
class Cost:
    """What a model took, kept busy with full batches and nothing else."""

    frames: int
    fps: float
    """Frames a second."""
    cpu_ms: float
    """CPU milliseconds a frame, all threads together."""
    p50_ms: float
    """Milliseconds from a batch's submission to its result, of half of the batches at most."""
    p99_ms: float
    """The same, of 99 of 100 batches."""


def engine_cost(
    manifest: Manifest,
    setup: Setup,
    *,
    seconds: float = 1.0,
    begins: Callable[[], None] = lambda: None,
    ends: Callable[[], bool] = lambda: False,
) -> Cost:
    """Keep a model busy with batches of noise.

    Args:
        manifest: The model.
        setup: How it is run; with as many threads as cores for the cost with all of them busy.
        seconds: How long to measure, after a warm-up; wall time.
        begins: Called when the warm-up is over.
        ends: Asked after every batch whether it has been long enough, however long it was.

    Raises:
        ModelError: The model is damaged, or does not fit its manifest.
        ResourceError: There is no such device.
    """
    batch, requests = setup.batch, setup.requests
    engine = open_engine(manifest, setup)
    rng = np.random.default_rng(0)
    engine.bind(
        [{f.name: _noise(f, batch, rng) for f in manifest.input_fields} for _ in range(requests)],
        [{f.name: _aligned(f, batch) for f in manifest.output_fields} for _ in range(requests)],
    )
    try:
        submitted = [time.monotonic()] * requests
        took: list[float] = []
        for slot in range(requests):
            engine.submit(slot, slot, batch)
        warm, done = requests, 0
        began, began_cpu = time.monotonic(), time.process_time()
        while True:
            engine.wait(1000)
            for completion in engine.completed():
                done += 1
                now = time.monotonic()
                if done == warm:
                    begins()
                    began, began_cpu = now, time.process_time()
                elif done > warm:
                    took.append(now - submitted[completion.tensor_slot])
                submitted[completion.tensor_slot] = now
                engine.submit(completion.tensor_slot, completion.result_slot, batch)
            wall = time.monotonic() - began
            if done > warm and (wall >= seconds or ends()):
                frames = (done - warm) * batch
                cpu_ms = (time.process_time() - began_cpu) / frames * 1e3
                p50, p99 = np.quantile(took, [0.5, 0.99]).tolist()
                return Cost(frames, frames / wall, cpu_ms, p50 * 1e3, p99 * 1e3)
    finally:
        engine.close()


def _noise(field: Field, batch: int, rng: np.random.Generator) -> NDArray[Any]:
    array = _aligned(field, batch)
    array[...] = rng.integers(0, 256 if array.dtype == np.uint8 else 128, array.shape)
    return array


def _aligned(field: Field, batch: int) -> NDArray[Any]:
    """Return zeros that begin where a ring's slot would; numpy's own begin at any 16 bytes."""
    size = np.dtype(field.dtype).itemsize * batch * math.prod(field.shape)
    memory = np.zeros(size + ALIGN, np.uint8)
    start = -memory.ctypes.data % ALIGN
    return memory[start : start + size].view(field.dtype).reshape((batch, *field.shape))
