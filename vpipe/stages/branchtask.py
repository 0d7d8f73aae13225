"""A product's own code as the stages that run it see it."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vpipe.errors import TaskError, VpipeError
from vpipe.frame import StreamInfo
from vpipe.metrics import Counters
from vpipe.task import Batch, Columns, Task


class BranchTask:
    """A branch's task; what its code raises becomes an error that names it, and its CPU time is not vpipe's own."""

    def __init__(
        self, name: str, path: str, options: dict[str, Any], labels: dict[str, Any], counters: Counters
    ) -> None:
        self.name = name
        self._path = path
        self._counters = counters
        with self._named("__init__"):
            self._task = Task.load(path)(options, {output: tuple(values) for output, values in labels.items()})
        self.ordered = self._task.ordered
        self.in_sequence = self._task.in_sequence

    def on_batch(self, batch: Batch) -> Columns:
        """Run the task's own; every column must be as long as the batch."""
        with self._named("on_batch"):
            columns = self._task.on_batch(batch)
            for name, values in columns.items():
                if len(values) != len(batch):
                    raise ValueError(f"column '{name}' has {len(values)} values for a batch of {len(batch)} frames")
        return columns

    def on_segment(self, stream: StreamInfo, columns: Columns) -> Columns:
        """Run the task's own."""
        with self._named("on_segment"):
            return dict(self._task.on_segment(stream, columns))

    def on_stream(self, stream: StreamInfo, columns: Columns) -> dict[str, Any]:
        """Run the task's own."""
        with self._named("on_stream"):
            return self._task.on_stream(stream, columns)

    def on_live(self, stream: StreamInfo, batch: Batch) -> list[bytes]:
        """Run the task's own."""
        with self._named("on_live"):
            return self._task.on_live(stream, batch)

    def end_live(self, stream_id: int) -> None:
        """Run the task's own."""
        with self._named("end_live"):
            self._task.end_live(stream_id)

    @contextmanager
    def _named(self, method: str) -> Iterator[None]:
        try:
            with self._counters.part:
                yield
        except VpipeError:
            raise
        except Exception as error:
            at = traceback.extract_tb(error.__traceback__)[-1]
            raise TaskError(
                f"branch {self.name}: task {self._path} failed in {method}: {type(error).__name__}: {error} "
                f"({Path(at.filename).name}, line {at.lineno})"
            ) from error
