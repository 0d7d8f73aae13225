"""Choosing the engine for a model."""

from __future__ import annotations

from vpipe.engine.base import Engine, Setup
from vpipe.engine.manifest import Manifest
from vpipe.engine.null import NullEngine


def open_engine(manifest: Manifest | None, setup: Setup | None = None) -> Engine:
    """Open a model, ready to be bound to the slots of its rings.

    Args:
        manifest: The model; None for the engine that computes nothing.
        setup: How it is run; a frame at a time where not given.

    Raises:
        ModelError: The model is damaged, or does not fit its manifest.
        ResourceError: There is no such device.
    """
    setup = setup or Setup()
    if manifest is None:
        return NullEngine(requests=setup.requests)
    # Not at the top: OpenVINO takes tens of milliseconds and megabytes that planning and other stages do without.
    from vpipe.engine.runner import OpenVinoEngine

    return OpenVinoEngine(manifest, setup)
