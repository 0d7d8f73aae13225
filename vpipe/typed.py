"""A run whose results are a product's own objects instead of rows; what products build their Python API on."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from typing import Any, Generic, Protocol, Self, TypeVar

from vpipe.pipeline import Pipeline
from vpipe.run import Row


class RowLike(Protocol):
    """What a product makes of a row."""

    @classmethod
    def from_row(cls, row: Row) -> Self:
        """Read the engine's row of a file, a failed one too."""
        ...

    def to_dict(self) -> Row:
        """Return the row as the product words it, for sinks."""
        ...


Result = TypeVar("Result", bound=RowLike)


class TypedRun(Generic[Result]):
    """A run over files: an iterator of typed results, and a context manager that ends it."""

    def __init__(
        self,
        result: type[Result],
        pipeline: Pipeline,
        sources: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
        out: str | os.PathLike[str] | None,
        **how: Any,
    ) -> None:
        """Start a run.

        Args:
            result: What rows become, here and in the pipeline's sinks.
            pipeline: What to run.
            sources: Files, directories, globs or URLs.
            out: The output directory; None: nothing is kept.
            how: `fresh`, `progress`, `metrics`, `trace`; see `vpipe.Pipeline.run`.

        Raises:
            VpipeError: The run cannot start.
        """
        self._result = result
        self.results: list[Result] = []
        """What was yielded so far."""
        self._things = contextlib.ExitStack()
        run = pipeline.run(sources, out, convert=lambda row: result.from_row(row).to_dict(), **how)
        self.engine = self._things.enter_context(run)

    def __iter__(self) -> Iterator[Result]:
        for row in self.engine:
            found = self._result.from_row(row)
            self.results.append(found)
            yield found

    def ordered(self) -> list[Result]:
        """Return the results so far in the order of the inputs."""
        return [self._result.from_row(row) for row in self.engine.rows()]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._things.close()
