"""A program that traces itself: one page, one process."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

from vpipe.trace.page import Recorder
from vpipe.trace.tracer import Tracer


@contextlib.contextmanager
def trace_alone(path: str | os.PathLike[str], name: str, facts: dict[str, Any] | None = None) -> Iterator[Recorder]:
    """Trace this process into a file, for example a baseline that is drawn beside vpipe.

    Args:
        path: The trace file, there when the block is left.
        name: What the process is called in it.
        facts: What is worth knowing of it.

    Raises:
        ResourceError: The file cannot be written.
    """
    tracer = Tracer(path, {"pipeline": name, **(facts or {})}, alone=True)
    try:
        with contextlib.closing(tracer.page(name).recorder()) as recorder:
            tracer.start()
            yield recorder
    finally:
        tracer.close()
