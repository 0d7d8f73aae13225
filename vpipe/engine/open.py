"""Choosing the engine for a model."""

from __future__ import annotations

from pathlib import Path

from vpipe.engine.base import Engine
from vpipe.engine.manifest import Manifest
from vpipe.engine.null import NullEngine


def open_engine(
    manifest: Manifest | None,
    *,
    device: str = "CPU",
    streams: int = 1,
    threads: int = 1,
    requests: int = 2,
    precision: str = "f32",
    batch: int = 1,
    cache_dir: Path | None = None,
) -> Engine:
    """Open a model, ready to be bound to the slots of its rings.

    Args:
        manifest: The model; None for the engine that computes nothing.
        device: Any OpenVINO device string.
        streams: Batches computed at the same time.
        threads: Inference threads of all streams together.
        requests: Batches in flight; more than `streams` keeps every stream fed.
        precision: `f32`, `bf16`, `f16`, or `auto` for the device's own choice.
        batch: Frames of a batch, the slots' capacity.
        cache_dir: Where compiled models are kept; None for the user's cache directory.

    Raises:
        ModelError: The model is damaged, or does not fit its manifest.
        ResourceError: There is no such device.
    """
    if manifest is None:
        return NullEngine(requests=requests)
    # Not at the top: OpenVINO takes tens of milliseconds and megabytes that planning and other stages do without.
    from vpipe.engine.runner import OpenVinoEngine

    return OpenVinoEngine(
        manifest,
        device=device,
        streams=streams,
        threads=threads,
        requests=requests,
        precision=precision,
        batch=batch,
        cache_dir=cache_dir,
    )
