"""One scoring run, as the command and the Python API share it."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import vpipe
from vpipe.errors import UsageError
from vpipe.task import Columns
from vpipe_score import PIPELINE
from vpipe_score.results import VideoScore

REPORT = "report.html"

_TOLD_VERSIONS = ("vpipe", "openvino", "av", "numpy")


class ScoreRun(vpipe.TypedRun[VideoScore]):
    """A run of the score pipeline."""

    def __init__(
        self,
        sources: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
        out: str | os.PathLike[str] | None,
        overrides: dict[str, Any],
        *,
        report: bool = False,
        **how: Any,
    ) -> None:
        """Start a run; see `vpipe_score.score` and `vpipe.TypedRun`."""
        if report and out is None:
            raise UsageError("a report needs an output directory: give out=")
        self.written: list[Path] = []
        """The files that the run left, once it has come to its end."""
        self._report = report
        super().__init__(VideoScore, vpipe.Pipeline.load(PIPELINE, overrides), sources, out, **how)

    def __iter__(self) -> Iterator[VideoScore]:
        if self._report:
            from vpipe_score.report import write_report  # 60 ms: while the workers work
        yield from super().__iter__()
        if self._report:
            videos = self.ordered()
            write_report(self.engine.out, videos, self.frames, run_facts(self.engine.summary(), videos))
        self.written = [self.engine.out / name for name in self._files()]

    def frames(self, video: VideoScore) -> Columns | None:
        """Return the per-frame columns of a result (`vpipe_score.results.PER_FRAME` and thumbnails); None if failed."""
        return self.engine.columns(video.path)

    def _files(self) -> list[str]:
        return [sink.path for sink in self.engine.plan.config.sinks] + ([REPORT] if self._report else [])


def run_facts(summary: Mapping[str, Any], videos: list[VideoScore]) -> dict[str, Any]:
    """Return what a report tells of the run, from the engine's summary: see `vpipe_score.report.write_report`."""
    seconds = float(summary["seconds"])
    workers: dict[str, list[Mapping[str, Any]]] = {}
    for name, counters in summary["stages"].items():
        workers.setdefault(re.split(r"[.\[]", name)[0], []).append(counters)
    return {
        "started": time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(summary["started"])),
        "seconds": seconds,
        "files": summary["files"] - summary["reused"],
        "frames_decoded": sum(video.frames.seen for video in videos),
        "frames_scored": sum(video.frames.scored for video in videos),
        "fps": summary["fps"],
        "host": summary["host"],
        "versions": _versions(),
        "stages": {
            stage: {
                "workers": len(each),
                "busy": _share(sum(counters["work_s"] for counters in each), seconds * len(each)),
                "wait": _share(sum(counters["wait_s"] for counters in each), seconds * len(each)),
            }
            for stage, each in workers.items()
        },
    }


def _share(part: float, whole: float) -> float:
    return round(min(part / whole, 1.0), 4) if whole > 0 else 0.0


def _versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in _TOLD_VERSIONS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # run from a source tree that is not installed
            continue
    return found
