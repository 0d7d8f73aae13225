"""One scoring run, as the command and the Python API share it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import vpipe
from vpipe.errors import UsageError
from vpipe.task import Columns
from vpipe_score import PIPELINE
from vpipe_score.results import VideoScore

REPORT = "report.html"


class ScoreRun:
    """A run of the score pipeline: an iterator of typed results, and a context manager that ends it."""

    def __init__(
        self,
        sources: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
        out: str | os.PathLike[str] | None,
        overrides: dict[str, Any],
        *,
        fresh: bool = False,
        report: bool = False,
        progress: bool = False,
        metrics: str | None = None,
    ) -> None:
        """Start a run; see `vpipe_score.score` for the arguments.

        Raises:
            VpipeError: The run cannot start.
        """
        if report and out is None:
            raise UsageError("a report needs an output directory: give out=")
        pipeline = vpipe.Pipeline.load(PIPELINE, overrides)
        self.results: list[VideoScore] = []
        """What was yielded so far."""
        self._report = report
        self._rows: dict[str, dict[str, Any]] = {}
        self.engine = pipeline.run(sources, out, fresh=fresh, progress=progress, metrics=metrics, convert=_reword)

    def __iter__(self) -> Iterator[VideoScore]:
        for row in self.engine:
            video = VideoScore.from_row(row)
            self._rows[video.path] = row
            self.results.append(video)
            yield video
        if self._report:
            from vpipe_score.report import write_report

            write_report(self.engine.out, self.ordered(), self.frames, self.engine.summary())

    def ordered(self) -> list[VideoScore]:
        """Return the results so far in the order of the inputs."""
        return [VideoScore.from_row(row) for row in self.engine.rows()]

    def frames(self, video: VideoScore) -> Columns | None:
        """Return the per-frame columns of a result (`vpipe_score.results.PER_FRAME` and thumbnails); None if failed."""
        return self.engine.columns(self._rows[video.path])

    @property
    def report_path(self) -> Path | None:
        """The report, where one was asked for."""
        return self.engine.out / REPORT if self._report else None

    def __enter__(self) -> ScoreRun:
        return self

    def __exit__(self, *_: object) -> None:
        self.engine.close()


def _reword(row: dict[str, Any]) -> dict[str, Any]:
    return VideoScore.from_row(row).to_dict()
