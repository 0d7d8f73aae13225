"""One trial: a run of the pipeline with some settings, what it took, and whether its results are as they were."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from vpipe.errors import Interrupted, UsageError, VpipeError
from vpipe.pipeline import Pipeline
from vpipe.run import Run
from vpipe.task import Columns, Task
from vpipe.tune.knobs import Settings

LOOK_S = 0.05


@dataclasses.dataclass(frozen=True, slots=True)
class Trial:
    """What came of one run."""

    settings: Settings
    fps: float = 0.0
    """Frames a second, start-up not counted; 0 where the run came to nothing."""
    latency_ms: float = 0.0
    """99 of 100 batches were done so long after the view of their oldest frame was made."""
    seconds: float = 0.0
    """Wall time, start-up not counted."""
    cpu_ms: float = 0.0
    """CPU milliseconds a frame, all processes together."""
    refused: str | None = None
    """Why these settings will not do at all."""
    hopeless: bool = False
    """The run was broken off, because it took too long."""


Results = dict[str, Columns]
"""Columns by branch."""


class Bench:
    """Runs one pipeline over one source, again and again."""

    def __init__(self, pipeline: str, source: str, overrides: Settings) -> None:
        """Prepare; nothing runs yet.

        Args:
            pipeline: Its file or name.
            source: What each trial runs over.
            overrides: Values that replace those of the file in every trial.
        """
        self._pipeline = pipeline
        self._source = source
        self._overrides = overrides
        self._reference: Results | None = None
        self.runs = 0
        """How many runs there were so far."""

    def pipeline(self, settings: Settings) -> Pipeline:
        """Return the pipeline with some settings, and no profile."""
        return Pipeline.load(self._pipeline, {**self._overrides, **settings}, profile=False)

    def run(self, settings: Settings, limit_s: float | None = None) -> Trial:
        """Run once. The first run's results are those that all others are held against.

        Args:
            settings: What differs from the pipeline's own.
            limit_s: Break off after so long, start-up not counted.

        Raises:
            UsageError: The first run gives no frames: there is nothing to measure.
            Interrupted: The user asked for it.
        """
        self.runs += 1
        try:
            pipeline = self.pipeline(settings)
            with pipeline.run(self._source, together=True) as run, _limited(run, limit_s) as limited:
                rows = list(run)
                results = _results(run, rows)
                trial = _judge(run, settings)
        except Interrupted:
            if not limited.is_set():
                raise
            return Trial(settings, hopeless=True)
        except VpipeError as error:
            if self._reference is None:
                raise
            return Trial(settings, refused=str(error))
        if self._reference is None:
            if trial.fps == 0 or not results:
                raise UsageError(f"{self._source}: gives no frames to measure with this pipeline")
            self._reference = results
            return trial
        refused = _differs(pipeline, self._reference, results)
        return trial if refused is None else Trial(settings, refused=refused)


@contextlib.contextmanager
def _limited(run: Run, limit_s: float | None) -> Iterator[threading.Event]:
    """Stop a run that takes too long; the event is set then."""
    over, done = threading.Event(), threading.Event()

    def watch() -> None:
        while not done.wait(LOOK_S):
            began = run.supervisor.start.time_s
            if limit_s is not None and began and time.monotonic() - began > limit_s:
                over.set()
                run.stop(now=True)
                return

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield over
    finally:
        done.set()
        thread.join()


def _results(run: Run, rows: list[dict[str, Any]]) -> Results:
    found: Results = {}
    for row in rows:
        for branch in run.plan.branches:
            columns = run.columns(row, branch.name)
            if columns is not None and len(columns["pts"]):
                found[f"{row['path']} {branch.name}"] = columns
    return found


def _judge(run: Run, settings: Settings) -> Trial:
    start, finish = run.supervisor.start, run.supervisor.finish
    spent = {name: finish.counters[name] - before for name, before in start.counters.items()}
    frames = sum(found.frames for name, found in spent.items() if name.startswith("decode"))
    seconds = finish.time_s - start.time_s
    if not frames or seconds <= 0:
        return Trial(settings)
    cpu_ns = finish.cpu_ns - start.cpu_ns + sum(found.cpu_ns for found in spent.values())
    return Trial(
        settings,
        fps=frames / seconds,
        latency_ms=spent["postprocess"].quantile(0.99) * 1e3,
        seconds=seconds,
        cpu_ms=cpu_ns / frames * 1e-6,
    )


def _differs(pipeline: Pipeline, reference: Results, found: Results) -> str | None:
    """Say in what results are not those of the reference, as far as the product cares; None where they are."""
    if found.keys() != reference.keys():
        return "other files, or other branches of them, gave results"
    tasks = {branch.name: Task.load(branch.postprocess.task) for branch in pipeline.config.branches}
    for name, columns in found.items():
        task = tasks[name.rpartition(" ")[2]]
        if not np.array_equal(columns["pts"], reference[name]["pts"]):
            return "other frames were taken"
        worst = float(task.differences(reference[name], columns).max(initial=0.0))
        if worst > task.same:
            return f"a frame differs by {worst:.4g} {task.unit}; {task.same:g} are allowed"
    return None
