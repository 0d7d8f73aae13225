"""One run of `vpipe mask` over files, as the command and the Python API share it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import vpipe
from vpipe_mask import PIPELINE
from vpipe_mask.results import VideoMasks


class MaskRun:
    """A run of the mask pipeline: an iterator of typed results, and a context manager that ends it."""

    def __init__(
        self,
        sources: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
        out: str | os.PathLike[str],
        overrides: dict[str, Any],
        *,
        fresh: bool = False,
        progress: bool = False,
        metrics: str | None = None,
        trace: str | os.PathLike[str] | None = None,
    ) -> None:
        """Start a run; see `vpipe_mask.mask` for the arguments.

        Raises:
            VpipeError: The run cannot start.
        """
        pipeline = vpipe.Pipeline.load(PIPELINE, overrides)
        self.results: list[VideoMasks] = []
        """What was yielded so far."""
        self._things = contextlib.ExitStack()
        run = pipeline.run(sources, out, fresh=fresh, progress=progress, metrics=metrics, convert=_reword, trace=trace)
        self.engine = self._things.enter_context(run)

    def __iter__(self) -> Iterator[VideoMasks]:
        for row in self.engine:
            video = VideoMasks.from_row(row)
            self.results.append(video)
            yield video

    def ordered(self) -> list[VideoMasks]:
        """Return the results so far in the order of the inputs."""
        return [VideoMasks.from_row(row) for row in self.engine.rows()]

    def file(self, name: str) -> Path:
        """Return where a file of the output directory lies."""
        return self.engine.out / name

    def __enter__(self) -> MaskRun:
        return self

    def __exit__(self, *_: object) -> None:
        self._things.close()


def _reword(row: dict[str, Any]) -> dict[str, Any]:
    return VideoMasks.from_row(row).to_dict()
