"""Running models: what a branch's model is (`manifest`), and the engines that run it.

`vpipe.engine.openvino` is the one door to OpenVINO and is imported only where a model is opened.
"""

from __future__ import annotations

from vpipe.engine.base import Completion, Engine, Setup
from vpipe.engine.cost import Cost, engine_cost
from vpipe.engine.manifest import Manifest
from vpipe.engine.null import NullEngine
from vpipe.engine.open import open_engine

__all__ = ["Completion", "Cost", "Engine", "Manifest", "NullEngine", "Setup", "engine_cost", "open_engine"]
