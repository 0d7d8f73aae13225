"""vpipe runs neural networks over video on CPU servers, at the machine's own limit.

    import vpipe

    with vpipe.Pipeline.load("score").run(["clips/"], out="out") as run:
        for row in run:
            print(row["path"], row["status"])

Importing it configures nothing, logs nothing and starts nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vpipe.frame import FrameFlag, StreamInfo
    from vpipe.live import LiveRun
    from vpipe.pipeline import Pipeline
    from vpipe.plugin import Plugin
    from vpipe.run import Run
    from vpipe.task import Batch, Columns, Task
    from vpipe.typed import TypedRun

__version__ = "0.1.0"

_HOMES = {
    "Batch": "vpipe.task",
    "Columns": "vpipe.task",
    "FrameFlag": "vpipe.frame",
    "LiveRun": "vpipe.live",
    "Pipeline": "vpipe.pipeline",
    "Plugin": "vpipe.plugin",
    "Run": "vpipe.run",
    "StreamInfo": "vpipe.frame",
    "Task": "vpipe.task",
    "TypedRun": "vpipe.typed",
}

__all__ = [
    "Batch",
    "Columns",
    "FrameFlag",
    "LiveRun",
    "Pipeline",
    "Plugin",
    "Run",
    "StreamInfo",
    "Task",
    "TypedRun",
    "__version__",
]


def __getattr__(name: str) -> Any:
    # On first use: a worker that decodes must not pay for what a supervisor needs.
    if name not in _HOMES:
        raise AttributeError(f"module 'vpipe' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOMES[name]), name)
